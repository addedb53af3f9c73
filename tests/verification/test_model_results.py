"""What the commands tell of a model beside figures: what is left out, from where it is proved."""

import io
import json
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from model_cases import (
    CNN,
    CNN_DATA,
    SCALE,
    attention,
    biased,
    few,
    mixed,
    named,
    quantized,
    saved,
)
from onnx import helper
from rich.console import Console

from accsim import Accumulator
from accsim.network import Network
from accsim.onnx import load
from verification import console, plot, tables

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
FLOAT = "has no integer product: float: its weight"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Models with products of every kind, and inputs for all of them."""
    mixed(tmp_path / "mixed.onnx")
    mixed(tmp_path / "float.onnx", layer=False)
    named(tmp_path / "fc.onnx", "fc")
    biased(tmp_path / "biased.onnx")
    attention(tmp_path / "attention.onnx")
    np.save(tmp_path / "x.npy", np.eye(4))
    np.save(tmp_path / "none.npy", np.ones((0, 4)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(text):
    """The lines of a table, blanks of any number as one."""
    return [" ".join(line.split()) for line in text.splitlines()]


@pytest.mark.parametrize(
    "words",
    [
        ("run", "float.onnx", "x.npy", "--bits", 8),
        ("sweep", "float.onnx", "x.npy", "--bits", "8"),
        ("compare", "float.onnx", "x.npy", "--bits", 8, "--other-bits", 9),
        ("minimize", "float.onnx", "-o", "new.onnx"),
        ("search", "float.onnx", "--bits", 8),
    ],
)
def test_a_model_of_floats_has_nothing_to_tell(words, command, folder):
    """One node is named with its reason; verify lists all, without an empty table."""
    code, out, err = command(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"accsim: float.onnx {FLOAT}")
    assert not (folder / "new.onnx").exists()
    code, out, _ = command("verify", "float.onnx", "--bits", 8)
    assert (code, "taps" in out, "least:" in out) == (3, False, False)
    assert out.count("not traced") == 2


@pytest.mark.parametrize(
    "words",
    [
        ("run", "fc.onnx", "none.npy", "--bits", 8),
        ("sweep", "fc.onnx", "none.npy", "--bits", "8"),
        ("compare", "fc.onnx", "none.npy", "--bits", 8, "--other-bits", 9),
        ("verify", "fc.onnx", "--bits", 20, "--inputs", "none.npy"),
    ],
)
def test_no_input_is_no_data(words, command, folder):
    """It would be 0 % of nothing."""
    text = "accsim: none.npy holds no input: 'x' is of shape (0, 4)\n"
    assert command(*words) == (2, "", text)


@pytest.mark.parametrize("label", [-1, 2])
@pytest.mark.parametrize("word", ["run", "sweep"])
def test_labels_are_classes(word, label, command, folder):
    """As many as the first output has numbers for each input; the ends are classes, too."""
    words = (word, "fc.onnx", "y.npz", "--bits", 14)
    np.savez("y.npz", x=np.eye(4), y=[0, 1, 1, 0])
    assert command(*words)[0] == 0
    np.savez("y.npz", x=np.eye(4), y=[0, label, 1, 0])
    text = "labels must be from 0 to 1, as the first output has 2 numbers for each input, but"
    code, out, err = command(*words, *(("--out", "o.npz") if word == "run" else ()))
    assert (code, out, err) == (2, "", f"accsim: {text} label 1 is {label}\n")
    assert not (folder / "o.npz").exists()


def test_registers_of_their_own_are_told(command, folder):
    """Where a layer's differs from that of a product of activations alone; by their types there."""
    code, out, _ = command("minimize", "attention.onnx", "-o", "least.onnx")
    bits = {name: own.bits for name, own in load("least.onnx").registers.items()}
    assert (code, bits["attention"]) == (0, 18)  # 4 * 128^2 = 2^16 is the first beyond 17 bits
    assert f"attention 4 {bits['attention']} by types" in rows_of(out)
    assert f"layer 4 {bits['layer']}" in rows_of(out)
    told = json.loads(command("minimize", "attention.onnx", "-o", "least.onnx", "--json")[1])
    assert [one["by_types"] for one in told["registers"].values()] == [False, True]
    assert told["products"][0]["least_bits"] == 18
    code, out, _ = command("verify", "least.onnx", "--bits-from", "annotations")
    header = next(line for line in rows_of(out) if line.startswith("layer taps"))
    assert (code, header.split()[-3:]) == (0, ["register", "run", "verdict"])
    row = next(line for line in rows_of(out) if line.startswith("layer 4"))
    assert row.split()[-3] == str(bits["layer"])
    _, out, _ = command("verify", "least.onnx", "--bits", 18)
    assert "preload" in out


def test_run_takes_the_registers_of_the_file(command, folder):
    """Each its own, told by name; and no other than the file names."""
    command("minimize", "attention.onnx", "-o", "least.onnx")
    words = ("run", "least.onnx", "x.npy", "--bits-from", "annotations", "--overflow", "saturate")
    code, out, _ = command(*words, "--out", "o.npz")
    told = json.loads(command(*words, "--json")[1])
    own = {
        name: Accumulator(one.bits, "saturate")
        for name, one in load("least.onnx").registers.items()
    }
    assert (code, told["accumulator"], told["name"]) == (0, None, "least.onnx")
    assert {name: Accumulator(**one) for name, one in told["registers"].items()} == own
    assert "attention 18-bit saturate register 16 0 0" in rows_of(out)
    expected = load("least.onnx").run(np.eye(4), own).outputs
    for name, array in np.load("o.npz").items():
        np.testing.assert_array_equal(array, expected[name])
    for more, text in (
        ((), "Missing option '--bits' or '--datapath'. Or '--bits-from annotations'."),
        (("--bits", 8, "--bits-from", "annotations"), "Invalid value: --bits-from takes the place of --bits: not both"),
        (("--bits-from", "annotations"), "node 'layer' has no annotation of its register: accsim minimize writes them"),
        (("--bits-from", "foo"), "Invalid value for '--bits-from': 'foo' is not one of 'annotations'."),
    ):  # fmt: skip
        code, out, err = command("run", "attention.onnx", "x.npy", *more)
        assert (code, out) == (2, "")
        assert err.startswith(f"accsim: {text.split(' is not one')[0]}")
        assert "Value error" not in err
    command("minimize", "mixed.onnx", "-o", "less.onnx")
    text = "no register is known to hold a product of activations of unknown length"
    code, _, err = command("run", "less.onnx", "x.npy", "--bits-from", "annotations")
    assert (code, err) == (
        2,
        f"accsim: node 'attention' has no annotation of its register: {text}\n",
    )


def test_run_tells_the_accuracy(command, tmp_path):
    """With labels, by the name that they have; of layer files there are none."""
    data = few(CNN_DATA, tmp_path / "x.npz", 12)
    words = ("run", CNN, data, "--bits", 10)
    told = json.loads(command(*words, "--json")[1])
    with np.load(data) as arrays:
        x, y = arrays["x"], arrays["y"]
    right = (load(CNN).run(x, Accumulator(10)).outputs["53"].argmax(1) == y).mean()
    assert (told["accuracy"], told["labels"], told["samples"]) == (right, "y", 12)
    assert 0 < right < 1
    assert f"accuracy {100 * right:.1f} % of 12 inputs\n" in command(*words)[1]
    np.savez(data, x=x, right=y)
    assert json.loads(command(*words, "--json")[1])["accuracy"] is None
    told = json.loads(command(*words, "--labels", "right", "--json")[1])
    assert (told["accuracy"], told["labels"]) == (right, "right")
    code, _, err = command("run", tmp_path / "l.npz", data, "--bits", 8, "--labels", "y")
    assert (code, err.startswith("accsim: Invalid value: --labels is of a model")) == (2, True)


def test_a_sweep_says_from_where_it_is_proved(command, folder):
    """The least width of all products, those of activations by their types; else what is not."""
    for model, least, line in (
        (CNN, 14, "proved for all inputs from 14 bits: no sum overflows there"),
        ("attention.onnx", 18, "proved for all inputs from 18 bits: no sum overflows there"),
        ("mixed.onnx", None, "proved from no width: float is not traced"),
    ):
        data = few(CNN_DATA, folder / "x.npz", 1) if model is CNN else "x.npy"
        words = ("sweep", model, data, "--bits", "12", "--overflow", "wrap")
        assert json.loads(command(*words, "--json")[1])["proved_from"] == least
        out = command(*words)[1]
        assert f"{line}\n" in out
        assert "48 (wide): a register that no layer overflows" in out
        if least:
            assert command("verify", model, "--bits", least)[0] == 0
            assert command("verify", model, "--bits", least - 1)[0] != 0


def test_compare_says_what_it_compares(command, folder):
    """Not products of activations by themselves, nor what is in no register."""
    words = ("compare", "mixed.onnx", "x.npy", "--bits", 8, "--other-bits", 9)
    out = command(*words)[1]
    assert "attention: a product of activations, run in both registers, but not compared" in out
    assert "float: not traced, and so in no register" in out
    told = json.loads(command(*words, "--json")[1])
    assert (told["name"], list(told["untraced"])) == ("mixed.onnx", ["float", "late"])
    assert [one["name"] for one in told["products"]] == ["attention"]


def test_lines_are_whole_in_a_pipe(command, folder):
    """However many widths there are, and however long a name is: one line each."""
    name = "a/very/long/name/of/a/node/" * 8
    named(folder / "long.onnx", name)
    code, out, _ = command("sweep", "long.onnx", "x.npy", "--bits", "2:62", "--overflow", "wrap")
    assert (code, "…" in out) == (0, False)
    assert len(next(line for line in out.splitlines() if line.startswith(f" {name}")).split()) == 62
    code, out, _ = command("verify", "long.onnx", "--bits", 20)
    assert any(name in line and "proved" in line for line in out.splitlines())


@pytest.mark.parametrize("width", [20, 40, 80])
def test_figures_are_whole_on_a_narrow_terminal(width):
    """Names are folded, figures never; the title is a line of its own."""
    made = tables.table(
        "a title that is longer than its table", "layer", "sums that overflow", "verdict"
    )
    made.add_row("/layers/that/have/long/names/Gemm", "123456789 of 987654321", "undecided")
    made.caption = "what these figures mean"
    shown = Console(file=io.StringIO(), width=width)
    console.show(shown, made)
    lines = shown.file.getvalue().splitlines()
    assert lines[0] == "a title that is longer than its table"
    assert lines[-1] == "what these figures mean"
    assert "123456789 of 987654321  undecided" in shown.file.getvalue()
    names = "".join(line.split()[0] for line in lines[4:-2] if line.split())
    assert names == "/layers/that/have/long/names/Gemm"
    assert shown.width == width
    console.show(shown, tables.table("nothing", "layer"))
    assert shown.file.getvalue().endswith("\nnothing\n")


def test_nothing_to_draw(command, folder, monkeypatch):
    """No picture and no warning, but a line: no width holds the bias, or Ctrl-C in the first."""
    line = "accsim: no width was run: nothing to draw in p.png\n"
    words = ("sweep", "biased.onnx", "x.npy", "--bits", "8:9", "--plot", "p.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code, out, err = command(*words)
        assert (code, err) == (0, line)
        assert "sums that overflow, wrap" not in out
        whole = Network.run

        def interrupted(self, inputs, accumulator, **how):
            if accumulator.bits < 48:
                raise KeyboardInterrupt
            return whole(self, inputs, accumulator, **how)

        monkeypatch.setattr(Network, "run", interrupted)
        code, out, err = command("sweep", "fc.onnx", *words[2:])
        assert (code, err, "interrupted" in out) == (130, line, True)
    assert not (folder / "p.png").exists()


def test_the_picture_of_a_sweep(command, folder, monkeypatch):
    """Every width has a tick; both rules, the wide result, what is proved and what was not run."""
    drawn = []
    monkeypatch.setattr(plot, "_save", lambda figure, _: drawn.append(figure.axes[0]))
    command("sweep", "biased.onnx", "x.npy", "--bits", "9:14", "--plot", "p.png")
    axes = drawn.pop()
    lines = {line.get_label(): line for line in axes.lines}
    unheld, proved = "not run: a bias does not fit", "proved from 13 bits"
    assert list(lines) == ["wrap", "saturate", unheld, "wide (48 bits)", proved]
    assert axes.get_xticks().tolist() == [9, 10, 11, 12, 13, 14]
    assert list(lines["wrap"].get_xdata()) == [11, 12, 13, 14]
    assert list(lines[unheld].get_xdata()) == [9, 10]
    assert list(lines[proved].get_xdata()) == [13, 13]
    assert list(lines["wide (48 bits)"].get_ydata()) == [100, 100]
    for style in ("get_color", "get_linestyle", "get_marker"):
        assert getattr(lines["wrap"], style)() != getattr(lines["saturate"], style)()
    assert axes.get_ylabel() == "same class as the wide result, %"
    assert "interrupted" not in axes.get_title()
    whole = Network.run

    def interrupted(self, inputs, accumulator, **how):
        if accumulator == Accumulator(12):
            raise KeyboardInterrupt
        return whole(self, inputs, accumulator, **how)

    monkeypatch.setattr(Network, "run", interrupted)
    np.savez("y.npz", x=np.eye(4), y=[0, 1, 1, 0])
    command("sweep", "biased.onnx", "y.npz", "--bits", "11:14", "--plot", "p.png")
    axes = drawn.pop()
    assert axes.get_title() == "biased.onnx, 4 inputs, interrupted"
    assert axes.get_ylabel() == "accuracy, %"
    assert axes.get_xticks().tolist() == [11]


def test_files_of_another_kind_are_named(command, folder):
    """A model is known by its ending, and a layer file by its own."""
    (folder / "net.model").write_text("a text")
    text = "net.model must be a layer file, which ends in .npz, or a model, which ends in .onnx"
    assert command("verify", "net.model", "--bits", 8) == (2, "", f"accsim: {text}\n")


SHOWN = re.findall(r"^    \$ accsim (.*)\n((?:(?:    .*)?\n)*)", PAGE.read_text(), re.M)


@pytest.mark.parametrize(("words", "expected"), SHOWN, ids=[words[:20] for words, _ in SHOWN])
def test_the_page_shows_what_is_printed(words, expected, command, monkeypatch):
    """From the root of the repository; whole, or up to the line that says that it is shortened."""
    monkeypatch.chdir(PAGE.parents[1])
    _, out, _ = command(*words.split())
    lines = [line.strip() for line in expected.splitlines()]
    while not lines[-1]:
        lines.pop()
    printed = [line.strip() for line in out.splitlines()]
    if lines[-1] == "...":
        lines.pop()
        assert len(printed) > len(lines)
        printed = printed[: len(lines)]
    assert [line for line in printed if line] == [line for line in lines if line]


def test_a_picture_that_cannot_be_drawn_is_refused_first(command, folder, monkeypatch):
    """Before anything is run: without its folder, without matplotlib."""

    def run(*_, **__):
        raise AssertionError("nothing is to be run")

    monkeypatch.setattr(Network, "run", run)
    words = ("sweep", CNN, CNN_DATA, "--bits", "9", "--plot")
    code, out, err = command(*words, folder / "absent" / "s.png")
    assert (code, out, err) == (2, "", f"accsim: No such folder: {folder / 'absent'}\n")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = command(*words, folder / "s.png")
    text = "accsim: a plot needs matplotlib: pip install 'accsim[plot]'\n"
    assert (code, out, err) == (2, "", text)


def test_one_number_is_no_class(command, folder):
    """Of a single output nothing is the largest: it stays the same, or it does not."""
    nodes = [
        *quantized("x", "q"),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"], name="weights"),
        helper.make_node("MatMul", ["qd", "wd"], ["out"], name="fc"),
    ]
    held = {"s": SCALE, "z": np.int8(0), "w": np.array([[9], [8], [7], [6]], np.int8)}
    model = saved(folder / "one.onnx", nodes, {"x": ["n", 4]}, {"out": ["n", 1]}, held)
    x = np.linspace(-1, 1, 40, dtype=np.float32).reshape(10, 4)
    np.savez(folder / "d.npz", x=x, y=np.zeros(10, np.int64))
    text = "accsim: labels need the first output to have a number for each class, not one\n"
    assert command("sweep", model, folder / "d.npz", "--bits", "5")[2] == text
    np.save(folder / "d.npy", x * 40)
    rows = json.loads(command("sweep", model, folder / "d.npy", "--bits", "5,20", "--json")[1])[
        "rows"
    ]
    assert [row["same"] == 1 for row in rows] == [True, False, False, True, True]
