"""The command: what it prints, what it returns, and how it refuses."""

import json
import sys
import zipfile

import numpy as np
import pytest

import accsim
from accsim import Accumulator, IntLayer, between, linear, signed, unsigned
from accsim.errors import MissingExtraError
from accsim.extras import require
from accsim.files import read_arrays
from verification import oracle, verify_command

SAFE = IntLayer([[1, -1], [2, 0]], weight_spec=signed(4), input_spec=unsigned(4))
UNSAFE = IntLayer([[7, 7], [0, -7]], weight_spec=signed(4), input_spec=unsigned(4))
MIXED = IntLayer([[[[1, -2]]]], weight_spec=signed(4), input_spec=between(2, 5), padding=1)


@pytest.fixture
def folder(tmp_path):
    """Two layers in a folder."""
    (tmp_path / "net").mkdir()
    SAFE.save(tmp_path / "net" / "a.npz")
    UNSAFE.save(tmp_path / "net" / "b.npz")
    return tmp_path


@pytest.mark.parametrize(
    ("layers", "bits", "code", "verdict"),
    [([SAFE], 6, 0, "proved"), ([SAFE, UNSAFE], 6, 1, "refuted"), ([MIXED], 4, 1, "refuted"),
     ([SAFE, MIXED], 4, 1, "refuted"), ([SAFE, UNSAFE], 9, 0, "proved")],
)  # fmt: skip
def test_verify_answers_by_exit_code(command, tmp_path, layers, bits, code, verdict):
    """0 proved, 1 refuted; the worst layer decides."""
    for i, layer in enumerate(layers):
        layer.save(tmp_path / f"{i}.npz")
    assert command("verify", tmp_path, "--bits", bits)[0] == code
    found, out, _ = command("verify", tmp_path, "--bits", bits, "--json")
    told = json.loads(out)
    assert (found, told["schema"], told["verdict"]) == (code, "accsim.report/1", verdict)


def test_verify_shows_the_witness(command, folder):
    """The table names each layer; the witness in the JSON replays through the oracle."""
    _, out, _ = command("verify", folder / "net", "--bits", 7, "--overflow", "saturate")
    assert "b: channel 0, step 0: 0 + 70 = 70, outside [-64, 63]" in out
    _, out, _ = command("verify", folder / "net" / "b.npz", "--bits", 7, "--json")
    witness = json.loads(out)["layers"]["b"]["witness"]
    answer = oracle.dot(witness["weight"], witness["x"], 7, "wrap")
    assert (answer.output, answer.first_overflow) == (witness["simulated"], witness["step"])


def test_witnesses_are_files_that_explain_themselves(command, folder):
    """One for each refuted layer; explain replays it, as a table, as JSON and as a picture."""
    out = folder / "seen"
    words = ("verify", folder / "net", "--bits", 7, "--witnesses", out)
    assert command(*words)[0] == 1
    assert [file.name for file in out.iterdir()] == ["b.json"]
    code, text, _ = command("explain", out / "b.json", "--plot", folder / "b.png")
    assert code == 0
    assert "(not 70)" in text
    assert "channel 0, step 0: 0 + 70 = 70, outside [-64, 63]" in text
    assert (folder / "b.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads(command("explain", out / "b.json", "--json")[1])
    assert (told["exact_sums"][:2], told["registers"][:2]) == ([0, 70], [0, -58])
    (out / "b.json").write_text("{}")
    code, text, err = command("explain", out / "b.json")
    assert (code, text) == (2, "")
    assert (
        err == "accsim: b.json must be of schema accsim.witness/1 or accsim.witness/2, not None\n"
    )


def test_search_finds_or_says_what_it_sampled(command, folder):
    """Exit code 1 and a witness for each layer that overflows; else 0, and no word of proof."""
    words = ("search", folder / "net", "--bits", 7, "--overflow", "saturate")
    code, out, _ = command(*words)
    rows = [line.split() for line in out.splitlines()]
    assert (code, ["a", "2", "2", "2000", "nothing"] in rows) == (1, True)
    assert [row[-1] for row in rows if row[:3] == ["b", "2", "2"]] == ["overflow"]
    assert "b: channel 0, step 1: 0 + 70 = 70, outside [-64, 63]" in out
    assert "nothing found" not in out
    code, out, err = command("search", folder / "net", "--bits", 9, "--examples", 30, "--seed", 3)
    last = out.splitlines()[-1]
    assert (code, err) == (0, "")
    assert last == "sampled 60 examples, nothing found; accsim verify proves or refutes"
    assert "proved" not in out


def test_search_in_json(command, folder):
    """The witness replays through the oracle; the number of examples is told for each layer."""
    words = ("search", folder / "net", "--bits", 7, "--unsigned", "--seed", 2, "--json")
    code, out, err = command(*words)
    told = json.loads(out)
    assert (code, err, told["schema"], told["found"], told["seed"]) == (
        1,
        "",
        "accsim.search/1",
        True,
        2,
    )
    assert (told["layers"]["a"]["taps"], told["layers"]["a"]["channels"]) == (2, 2)
    witness = told["layers"]["b"]["witness"]
    answer = oracle.dot(witness["weight"], witness["x"], 7, "wrap", signed=False)
    assert (answer.output, answer.first_overflow) == (witness["simulated"], witness["step"])
    code, out, _ = command(
        "search", folder / "net" / "a.npz", "--bits", 9, "--examples", 40, "--json"
    )
    told = json.loads(out)
    assert (code, told["found"]) == (0, False)
    assert told["layers"]["a"] == {"taps": 2, "channels": 2, "examples": 40, "witness": None}


def test_run_shows_its_plan(command, folder):
    """Which kernels, for which channels, and why; nothing is run."""
    np.savez(folder / "x.npz", a=np.array([[15, 0]]), b=np.array([[15, 15]]))
    words = ("run", folder / "net", folder / "x.npz", "--bits", 6)
    code, out, _ = command(*words, "--plan")
    assert code == 0
    assert out.splitlines()[0] == "a: inputs UINT4 [0, 15], weights [-1, 2]"
    assert "count in int16, all channels: some input could pass a rail" in out
    code, out, _ = command(*words, "--plan", "--json")
    told = json.loads(out)
    assert (code, told["schema"]) == (0, "accsim.plan/1")
    assert [part["work"] for part in told["layers"]["b"]["parts"]] == ["count", "peaks"]
    assert told["layers"]["b"]["inputs"] == [0, 15]


def test_bench_is_checked_and_timed(command):
    """The table and the JSON of one small shape."""
    words = ("bench", "--m", 5, "--n", 7, "--k", 33, "--bits", 10)
    code, out, _ = command(*words, "--json")
    told = json.loads(out)
    assert (code, told["schema"]) == (0, "accsim.bench/1")
    code, out, _ = command(*words)
    assert code == 0
    assert "numpy" in out


def test_run_simulates(command, folder):
    """Counts in the table and the JSON, and outputs in a file, as the library gives them."""
    x = np.array([[15, 15], [0, 1]])
    np.save(folder / "x.npy", x)
    path = folder / "net" / "b.npz"
    code, out, _ = command(
        "run", path, folder / "x.npy", "--bits", 7, "--out", folder / "out.npz", "--json"
    )
    assert (code, json.loads(out)["layers"]) == (
        0,
        {
            "b": {
                "outputs": 4,
                "overflowed_outputs": 2,
                "overflow_steps": 3,
                "peak_low": -105,
                "peak_high": 210,
                "data_bits": 9,
            }
        },
    )
    with np.load(folder / "out.npz") as outputs:
        expected = linear(x, UNSAFE.weight, Accumulator(7))
        np.testing.assert_array_equal(outputs["b"], expected)
    np.savez(folder / "x.npz", a=x, b=x)
    code, out, _ = command("run", folder / "net", folder / "x.npz", "--bits", 7, "--unsigned")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if "  4  " in line] == ["a", "b"]


def test_help_fits_one_screen(command):
    """--help for the command and each subcommand; the version."""
    for words in ([], ["verify"], ["search"], ["run"], ["bench"], ["demo"], ["train"]):
        code, out, _ = command(*words, "--help")
        assert code == 0
        assert "Usage" in out
        assert len(out.splitlines()) <= 40
    code, out, err = command()
    assert "Usage" in out + err
    assert "accsim: " not in err.splitlines()
    assert command("--version")[:2] == (0, accsim.__version__ + "\n")


WRONG = {
    "no file": (["verify", "none.npz", "--bits", 8], "none.npz cannot be read: No such file or directory"),
    "empty folder": (["verify", "empty", "--bits", 8], "empty must hold layer files (*.npz)"),
    "not a layer": (["verify", "x.npy", "--bits", 8], "x.npy must be a layer file, which ends in .npz, or a model, which ends in .onnx"),
    "bits of 63": (["verify", "net", "--bits", 63], "Accumulator bits must be an integer from 2 to 62, not 63"),
    "no examples": (["search", "net", "--bits", 8, "--examples", 0], "a: examples must be an integer from 1 to 1000000000, not 0"),
    "bits a word": (["verify", "net", "--bits", "eight"], "Invalid value for '--bits': Input should be a valid integer"),
    "no bits": (["verify", "net"], "Missing option '--bits' or '--datapath'."),
    "overflow word": (
        ["verify", "net", "--bits", 8, "--overflow", "clip"],
        "Invalid value for '--overflow': 'clip' is not one of 'wrap', 'saturate'.",
    ),
    "unknown option": (["verify", "net", "--bits", 8, "--fast"], "No such option: --fast"),
    "unknown command": (["prove"], "No such command 'prove'."),
    "one array for two layers": (
        ["run", "net", "x.npy", "--bits", 8],
        "x.npy holds one array; 2 layers need an .npz with one for each",
    ),
    "array missing": (["run", "net", "a.npz", "--bits", 8], "a.npz lacks inputs for b"),
    "input outside": (["run", "net/a.npz", "x.npy", "--bits", 8], "a: x[0, 0] is 16, outside UINT4 [0, 15]"),
    "float inputs": (["run", "net/a.npz", "f.npy", "--bits", 8], "f.npy must hold integers, not float64"),
    "inputs of another kind": (
        ["run", "net", "x.csv", "--bits", 8],
        "Invalid value: INPUTS must be a .npy or .npz file, not x.csv",
    ),
    "out of another kind": (
        ["run", "net", "good.npz", "--bits", 8, "--out", "new.npy"],
        "Invalid value: --out must be an .npz file, not new.npy",
    ),
    "operands beyond 64 bits": (
        ["bench", "--weight-bits", 40, "--input-bits", 40],
        "2^16 + 309485009821345068724781056, the register's span plus the largest sum of 1024"
        " products of INT40 and INT40, must not exceed 2^63",
    ),
    "out in no folder": (
        ["run", "net", "good.npz", "--bits", 8, "--out", "no/where.npz"],
        "No such folder: no",
    ),
    "out a folder": (
        ["run", "net", "good.npz", "--bits", 8, "--out", "empty.npz"],
        "A folder, not a file: empty.npz",
    ),
    "out over the inputs": (
        ["run", "net", "good.npz", "--bits", 8, "--out", "./good.npz"],
        "Invalid value: --out must be another file than those that are read, not good.npz",
    ),
    "out over a layer": (
        ["run", "net", "good.npz", "--bits", 8, "--out", "net/a.npz"],
        "Invalid value: --out must be another file than those that are read, not a.npz",
    ),
    "out of a plan": (
        ["run", "net", "good.npz", "--bits", 8, "--plan", "--out", "new.npz"],
        "Invalid value: --plan runs nothing: there is nothing to write to --out",
    ),
    "vast padding": (["run", "vast.npz", "image.npy", "--bits", 8], "not enough memory: "),
    "demo seed": (["demo", "--seed", 2**70], "demo seed must be an integer from 0 to 92"),
    "demo bits": (["demo", "--bits", 5], "demo bits must be from 6 to 20, not 5"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_use_is_one_line(kind, command, folder, monkeypatch):
    """Exit code 2, one line on standard error, nothing on standard output, no traceback."""
    monkeypatch.chdir(folder)
    for name in ("empty", "empty.npz"):
        (folder / name).mkdir()
    np.save("x.npy", np.array([[16, 0]]))
    np.save("f.npy", np.array([[0.5, 0]]))
    np.savez("a.npz", a=np.array([[1, 0]]))
    np.savez("good.npz", a=np.array([[1, 0]]), b=np.array([[1, 0]]))
    vast = IntLayer([[[[1]]]], weight_spec=signed(4), input_spec=unsigned(4), padding=2**20)
    vast.save("vast.npz")
    np.save("image.npy", np.ones((1, 1, 1, 1), np.int8))
    words, text = WRONG[kind]
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith(f"accsim: {text}")


def test_any_layer_name_works(command, tmp_path):
    """Names that mean something to numpy or to the table are names like any other."""
    (tmp_path / "net").mkdir()
    names = ["file", "allow_pickle", "conv[bold]"]
    for name in names:
        SAFE.save(tmp_path / "net" / f"{name}.npz")
    x = {name: np.array([[1, 2]]) for name in names}
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for name, array in x.items():
            with archive.open(f"{name}.npy", "w") as stream:
                np.lib.format.write_array(stream, array)
    out = tmp_path / "out.npz"
    code, text, _ = command("run", tmp_path / "net", tmp_path / "x.npz", "--bits", 8, "--out", out)
    assert code == 0
    assert all(name in text for name in names)
    found = read_arrays(out)
    assert sorted(found) == sorted(names)
    assert all(array.tolist() == [[-1, 2]] for array in found.values())


def test_a_defect_is_no_verdict(command, folder, monkeypatch):
    """An unexpected error shows its traceback and an exit code that means nothing else."""
    monkeypatch.setattr(verify_command, "decide", lambda *_: 1 / 0)
    code, _, err = command("verify", folder / "net", "--bits", 8)
    assert code == 70
    assert "ZeroDivisionError" in err


def test_ctrl_c_is_quiet(command, folder, monkeypatch):
    """Ctrl-C ends with 130 and no traceback."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(verify_command, "decide", interrupted)
    assert command("verify", folder / "net", "--bits", 8)[::2] == (130, "")


@pytest.mark.parametrize("package", ["torch", "sklearn", "matplotlib"])
def test_a_missing_extra_is_one_line(package, command, monkeypatch, tmp_path):
    """What needs it and the pip command."""
    monkeypatch.setitem(sys.modules, package, None)
    extra = "plot" if package == "matplotlib" else "train"
    code, _, err = command("demo", "--out", tmp_path)
    assert (code, err) == (
        2,
        f"accsim: accsim demo needs {package}: pip install 'accsim[{extra}]'\n",
    )


def test_a_broken_package_is_not_a_missing_one(tmp_path, monkeypatch):
    """An installed package that fails to import something else says so itself."""
    (tmp_path / "half_there.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        require("half_there", extra="all", purpose="a test")
    with pytest.raises(MissingExtraError):
        require("not_there_at_all", extra="all", purpose="a test")
