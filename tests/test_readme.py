"""The examples of the documents run, and say what comes out; public names are documented."""

import re
from pathlib import Path

import pytest

import a2qplus
import accsim
import verification

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md"]
DOCUMENTS += [
    ROOT / f"docs/{name}.md"
    for name in (
        *("bounds", "datapaths", "export", "methods", "models", "networks", "proofs"),
        *("reports", "rtl", "search", "silicon"),
    )
]
BLOCKS = {
    f"{path.name} {number}": block
    for path in DOCUMENTS
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.S), 1)
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_examples(block, tmp_path, monkeypatch, capsys):
    """Each block runs by itself in an empty folder and prints what its comments say, figures
    of speed ("e.g.") excepted.
    """
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "example", "exec"), {})
    expected = re.findall(r"^print\(.*\)  # (.*)$", block, flags=re.M)
    assert expected
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(expected)
    pairs = zip(printed, expected, strict=True)
    assert [p for p, e in pairs if p != e and not e.startswith("e.g. ")] == []


def test_the_three_uses_are_there():
    """Simulate, attack, measure: three blocks of at most five lines after the imports."""
    for number in (1, 2, 3):
        block = BLOCKS[f"README.md {number}"]
        lines = [
            line for line in block.splitlines() if line and not line.startswith(("from", "import"))
        ]
        assert len(lines) <= 5


@pytest.mark.parametrize("package", [accsim, a2qplus, verification], ids=lambda p: p.__name__)
def test_public_names(package):
    """Sorted, few, all there, each with a docstring."""
    assert sorted(package.__all__) == sorted(set(package.__all__))
    assert len(package.__all__) <= 25
    assert all(getattr(package, name).__doc__ for name in package.__all__)
