"""Who may import whom (docs/semantics.md is the contract of meaning, this one of structure)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STDLIB = sys.stdlib_module_names
PACKAGES = {"accsim", "a2qplus", "verification", "tests", "benchmarks"}
CORE = {"numpy", "numba", "llvmlite", "accsim", "tomllib", "tomli"}  # one or other of the TOMLs
ALLOWED = {
    "accsim": CORE,
    "a2qplus": {"numpy", "torch", "accsim", "a2qplus"},
    "verification": {"numpy", "accsim", "hypothesis", "verification", "rich", "typer"},
    "accsim/onnx": {"numpy", "accsim", "onnx", "google"},  # of an extra: nobody imports it unasked
}
# Modules that need an extra, and import it only inside the functions that do.
WHEN_USED = {
    "a2qplus/brevitas_layers.py": {"brevitas"},
    "a2qplus/data.py": {"sklearn"},
    "a2qplus/export.py": {"onnx"},
    "a2qplus/onnx_nodes.py": {"onnx"},
    "verification/bench.py": {"numba"},
    "verification/demo.py": {"torch", "a2qplus"},
    "verification/network.py": {"a2qplus"},
    "verification/page.py": {"jinja2"},
    "verification/datapath_plot.py": {"matplotlib"},
    "verification/plot.py": {"matplotlib"},
    "verification/compare.py": {"a2qplus"},
    "verification/reading.py": {"jsonschema"},
    "verification/reach.py": {"torch", "a2qplus"},
    "verification/safety.py": {"a2qplus"},
    "verification/training.py": {"torch", "a2qplus"},
}


def imports(source):
    """(module, whether it runs on import) for each import, except those for type checkers."""
    found = []

    def visit(node, at_import):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                for other in child.orelse:
                    visit(ast.Module([other], []), at_import)
                continue
            if isinstance(child, ast.Import):
                found.extend((alias.name, at_import) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                found.append((child.module or "relative imports are not used", at_import))
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            visit(child, at_import and not function)

    visit(ast.parse(source), True)
    return [(name.partition(".")[0], early) for name, early in found]


def violations(path, source):
    """What a file imports against the rules."""
    if path == "verification/oracle.py":
        return sorted({name for name, _ in imports(source)} - STDLIB)
    allowed = ALLOWED["accsim/onnx" if path.startswith("accsim/onnx/") else path.partition("/")[0]]
    late = allowed | WHEN_USED.get(path, set())
    return sorted(
        {name for name, early in imports(source) if name not in (allowed if early else late)}
        - STDLIB
    )


FILES = sorted(
    {str(file.relative_to(ROOT)) for package in ALLOWED for file in (ROOT / package).rglob("*.py")}
)


def test_every_file_keeps_the_rules():
    """No file imports upwards, nor an optional package before it is used."""
    assert len(FILES) > 20
    assert {f: bad for f in FILES if (bad := violations(f, (ROOT / f).read_text()))} == {}


@pytest.mark.parametrize(
    ("path", "planted"),
    [
        ("accsim/bounds.py", "import torch"),
        ("accsim/bounds.py", "def f():\n    from verification import decide"),
        ("accsim/bounds.py", "import hypothesis.strategies as st"),
        ("a2qplus/train.py", "from verification.decide import decide"),
        ("verification/oracle.py", "import numpy"),
        ("verification/decide.py", "def f():\n    import torch"),
        ("verification/demo.py", "import torch"),
        ("accsim/bounds.py", "if not TYPE_CHECKING:\n    import torch"),
        ("accsim/bounds.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import torch"),
        ("accsim/bounds.py", "from . import spec"),
        ("verification/plot.py", "import matplotlib"),
        ("a2qplus/export.py", "import onnx"),
        ("a2qplus/onnx_nodes.py", "def f():\n    import onnxscript"),
        ("verification/laws/law.py", "def f():\n    import z3"),
        ("accsim/network.py", "def f():\n    import onnx"),
        ("verification/rtl_model.py", "def f():\n    import cocotb"),
        ("accsim/onnx/graph.py", "import onnxruntime"),
    ],
)
def test_a_planted_violation_is_found(path, planted):
    """The rule above can fail: one forbidden line is enough."""
    assert violations(path, (ROOT / path).read_text() + "\n" + planted) != []


def loaded_after(statement):
    """Top-level modules in a fresh interpreter after one statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        (
            "import accsim, accsim.network",
            {"onnx", "torch", "hypothesis", "a2qplus", "verification", "numba", "typer"},
        ),
        ("import verification.cli", {"onnx", "torch", "a2qplus", "sklearn", "matplotlib"}),
        (
            "import a2qplus",
            {"verification", "hypothesis", "sklearn", "brevitas", "onnx", "onnxscript"},
        ),
        ("import verification.oracle", {"torch", "a2qplus"}),
        ("import verification.laws", {"torch", "a2qplus", "z3"}),
    ],
)
def test_a_fresh_interpreter_loads_no_more(statement, absent):
    """Importing a package loads nothing that its users may lack."""
    assert loaded_after(statement) & absent == set()


def test_the_fresh_interpreter_sees_a_violation():
    """The test above can fail: a torch import shows."""
    assert "torch" in loaded_after("import accsim, torch")
