"""Datapaths on the command line: the list, the tree, the picture, and layers run through one."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from accsim import Accumulator, Datapath, IntLayer, between, datapaths, signed, simulate, unsigned
from accsim.datapaths.description import FOLDER
from accsim.errors import RangeError
from verification import decide
from verification.datapath_words import levels_short, operands_short
from verification.products import product_json
from verification.witness_file import load_witness
from verification.words import product_line

MODEL = Path(__file__).parents[1] / "data" / "models" / "mlp_a2qp_p12_w4a4"
RNG = np.random.default_rng(6)
LAYER = IntLayer(RNG.integers(-128, 128, (3, 40)), weight_spec=signed(8), input_spec=unsigned(8))
X = RNG.integers(0, 256, (5, 40))
MINE = r"""
name = "mine"
title = 'Mine: $\frac{$ a lane'
source = "my notes"
order = [1, 0]
bias = "last"
[[levels]]
what = "lane of $5"
bits = 16
overflow = "wrap"
signed = false
terms = 1
[[levels]]
bits = 20
overflow = "saturate"
rail = "sum"
[[levels]]
bits = 12
overflow = "wrap"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A layer, its inputs, and a datapath of one's own, in the working folder."""
    LAYER.save(tmp_path / "l.npz")
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "mine.toml").write_text(MINE)
    (tmp_path / "many.toml").write_text(MINE + '[[levels]]\nbits = 12\noverflow = "wrap"\n' * 14)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_list(command):
    """A row for each named datapath: its levels in short, its operands, how it was checked."""
    code, out, _ = command("datapaths")
    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    for name in datapaths.names():
        one = datapaths.describe(name)
        row = next(line for line in lines if line[:1] == [name])
        assert row[-1] == one.check
        assert " ".join(row).startswith(f"{name} {levels_short(one.datapath)} ")
    told = json.loads(command("datapaths", "--json")[1])
    assert list(told["datapaths"]) == datapaths.names()
    assert told["datapaths"]["x86-avx2-u8s8"]["levels"][0] == {
        "bits": 16,
        "overflow": "saturate",
        "signed": True,
        "terms": 2,
        "rail": "sum",
        "what": "vpmaddubsw: a pair",
        "safe_products": 1,
    }


def test_the_tree(command, folder):
    """From the output down to the products; what is said of it; as JSON; a file of one's own."""
    code, out, _ = command("datapaths", "show", "fbgemm-acc16")
    assert code == 0
    assert out.splitlines()[:6] == [
        "fbgemm-acc16: FBGEMM acc16: saturating 16-bit lanes, spilled every 256 products",
        "output",
        "└── 32-bit wrap register, at each of all sums that are left, the bias last (vpmovsxwd,"
        " vpaddd: every KCB = 256); 16,777,216 products are safe",
        "    └── 16-bit saturate register, at each of 128 sums (vpaddsw); 2 products are safe",
        "        └── 16-bit saturate register, once for 2 products (vpmaddubsw: a pair); 1 product"
        " is safe",
        "            └── products of UINT8 x INT8, in index order",
    ]
    assert "\nchecked: ran, the instructions of the kernel's loop on an x86-64" in out
    assert "\nsource: pytorch/FBGEMM" in out
    _, out, _ = command("datapaths", "show", "mine.toml")
    assert out.splitlines() == [
        "mine: Mine: $\\frac{$ a lane",
        "output",
        "└── 12-bit wrap register, on reading",
        "    └── 20-bit saturate register, once for all sums that are left, the bias last",
        "        └── unsigned 16-bit wrap register, at each of 1 product (lane of $5)",
        "            └── products of any x any, of each 2 in the order 1, 0",
        "",
        "source: my notes",
        "checked: none",
    ]
    told = json.loads(command("datapaths", "show", "mine.toml", "--json")[1])
    assert (told["schema"], told["order"], told["inputs"]) == ("accsim.datapath/1", [1, 0], None)
    assert [level["terms"] for level in told["levels"]] == [1, None, None]


def test_data_go_no_farther_than_is_proved(command, folder):
    """In a datapath's own order, which matters where 0 is no input: -25 comes before 25."""
    layer = IntLayer([[5, -5]], weight_spec=signed(4), input_spec=between(4, 5))
    layer.save(folder / "ends.npz")
    (folder / "mine.toml").write_text(MINE.replace('rail = "sum"', "").replace('"last"', '"first"'))
    np.save(folder / "inputs.npy", np.array([[4, 5], [5, 5]]))
    _, out, _ = command(
        *("verify", "ends.npz", "--datapath", "mine.toml", "--inputs", "inputs.npy", "--json")
    )
    reached = json.loads(out)["reached"]["ends"]
    assert [(reached[kind]["low"], reached[kind]["high"]) for kind in ("data", "proved")] == [
        (-25, 0), (-25, 5),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["ggml-i2s-avx2", "mine.toml", "nvdla-int8"])
def test_the_picture(name, command, folder):
    """A picture, whatever letters are in it."""
    assert command("datapaths", "show", name, "--plot", "tree.png")[0] == 0
    assert (folder / "tree.png").read_bytes().startswith(b"\x89PNG")


def test_what_a_picture_says():
    """Widths, rules, group sizes, where the bias enters, the order."""
    from verification.datapath_plot import _drawn

    texts = {text.get_text() for text in _drawn(datapaths.describe("ggml-i2s-avx2")).axes[0].texts}
    assert {"16 bits", "32 bits", "saturate", "wrap", "2", "128", "all", "bias first"} < texts
    assert "products of each 4096 in the order 0, 1, 32, 33, 64, 65, 96, 97, ..." in texts
    assert "products of\nINT8\nx [0, 2]" in texts


@pytest.mark.parametrize("name", ["x86-avx2-u8s8", "fbgemm-acc16", FOLDER / "x86-vnni-u8s8.toml"])
def test_run(command, folder, name):
    """Outputs and counts of each level are the simulator's."""
    run = simulate(LAYER, X, datapaths.load(name))
    code, out, _ = command("run", "l.npz", "x.npy", "--datapath", name, "--out", "y.npz", "--json")
    told = json.loads(out)
    assert (code, "accumulator" in told) == (0, False)
    assert told["datapath"]["name"] == datapaths.load(name).name
    steps = [int(level.overflow_count.sum()) for level in run.levels]
    assert told["layers"]["l"]["level_steps"] == steps
    assert told["layers"]["l"]["overflow_steps"] == sum(steps)
    assert np.load("y.npz")["l"].tolist() == run.output.tolist()
    for level, bits in zip(run.levels, told["layers"]["l"]["level_bits"], strict=True):
        low, high = level.peak_low.min(), level.peak_high.max()
        assert -(2 ** (bits - 1)) <= low
        assert high < 2 ** (bits - 1)
        assert low < -(2 ** (bits - 2)) or high >= 2 ** (bits - 2)
    _, out, _ = command("run", "l.npz", "x.npy", "--datapath", name)
    row = next(line for line in out.splitlines() if line.split()[:1] == ["l"])
    assert ", ".join(map(str, steps)) in row
    assert "by level: steps" in out


EIGHT = """
name = "eight"
title = "Pairs of eight bits"
source = "made for this test"
[[levels]]
bits = 8
overflow = "saturate"
terms = 2
rail = "sum"
[[levels]]
bits = 11
overflow = "wrap"
"""


def test_run_of_a_model(command, folder):
    """Every product through the datapath; the levels of each are counted."""
    pytest.importorskip("onnx", reason="model files need onnx: pip install 'accsim[onnx]'")
    (folder / "eight.toml").write_text(EIGHT)
    words = ("run", f"{MODEL}.qcdq.onnx", f"{MODEL}.npz", "--datapath", "eight.toml")
    told = json.loads(command(*words, "--json")[1])
    from accsim.onnx import load

    x = np.load(f"{MODEL}.npz")["x"]
    run = load(f"{MODEL}.qcdq.onnx").run(x, datapaths.load("eight.toml"))
    assert {
        name: tuple(found["level_steps"]) for name, found in told["layers"].items()
    } == run.levels
    assert min(steps[0] for steps in run.levels.values()) > 0
    assert told["registers"] == {}
    assert told["datapath"]["levels"][1]["bits"] == 11
    _, out, _ = command(*words)
    assert out.startswith("mlp_a2qp_p12_w4a4.qcdq.onnx, eight\n")
    row = next(line for line in out.splitlines() if line.strip().startswith("/fcs.0/Gemm"))
    assert row.rstrip().endswith(", ".join(map(str, run.levels["/fcs.0/Gemm"])))


def test_run_of_a_register_is_as_it_was(command, folder):
    """No word of levels."""
    told = json.loads(command("run", "l.npz", "x.npy", "--bits", 16, "--json")[1])
    assert "datapath" not in told
    assert "level_steps" not in told["layers"]["l"]
    assert "level" not in command("run", "l.npz", "x.npy", "--bits", 16)[1]


def test_verify(command, folder):
    """The levels and the witness of `decide`; the witness is a file that explains itself."""
    datapath = datapaths.load("x86-avx2-u8s8")
    found = decide(LAYER, datapath)
    words = ("verify", "l.npz", "--datapath", "x86-avx2-u8s8", "--inputs", "x.npy")
    code, out, _ = command(*words, "--witnesses", "seen", "--html", "page.html", "--json")
    told = json.loads(out)
    assert (code, told["verdict"], told["datapath"]["name"]) == (1, "refuted", "x86-avx2-u8s8")
    levels = told["layers"]["l"]["levels"]
    assert [level["least_bits"] for level in levels] == [one.least_bits for one in found.levels]
    assert [level["verdict"] for level in levels] == ["refuted", "proved", "proved"]
    run = simulate(LAYER, X, datapath)
    over = told["reached"]["l"]["data"]["overflowed_outputs"]
    assert over == np.count_nonzero(run.overflow_count) > 0
    assert load_witness(folder / "seen" / "l.json").replay().output[0] == found.witness.simulated
    assert "x86-avx2-u8s8" in (folder / "page.html").read_text()
    (folder / "report.json").write_text(out)
    assert command("report", "report.json")[0] == 1
    assert command("verify", "l.npz", "--datapath", "x86-vnni-u8s8")[0] == 0


def test_compare(command, folder):
    """A datapath on either side, beside a register or another datapath."""

    def differing(*words):
        told = json.loads(command("compare", "l.npz", "x.npy", *words, "--json")[1])
        return told["layers"]["l"]["differing"], told["registers"]

    pairs, four, wide = (
        simulate(LAYER, X, one).output
        for one in (*map(datapaths.load, ("x86-avx2-u8s8", "x86-vnni-u8s8")), Accumulator(32))
    )
    assert (four == wide).all()
    wrong = int((pairs != wide).sum())
    assert wrong > 0
    first = ("--datapath", "x86-avx2-u8s8")
    count, registers = differing(*first, "--other-datapath", "x86-vnni-u8s8")
    assert (count, registers[1]["name"]) == (wrong, "x86-vnni-u8s8")
    count, registers = differing(*first, "--other-bits", 32)
    assert (count, registers[1]["bits"]) == (wrong, 32)
    count, registers = differing("--bits", 32, "--other-datapath", "x86-avx2-u8s8")
    assert (count, registers[0]["bits"]) == (wrong, 32)
    code, out, _ = command(
        "compare", "l.npz", "x.npy", "--bits", 32, *("--other-datapath", "mine.toml")
    )
    assert (code, out.splitlines()[0]) == (0, "l.npz: 32-bit wrap register, and mine")


def test_search(command, folder):
    """A witness of the level that overflows; nothing where nothing can."""
    code, out, _ = command("search", "l.npz", "--datapath", "x86-avx2-u8s8", "--json")
    told = json.loads(out)
    assert (code, told["datapath"]["name"]) == (1, "x86-avx2-u8s8")
    assert told["layers"]["l"]["witness"]["level"] == 0
    words = ("--datapath", "x86-vnni-u8s8", "--examples", 40)
    assert command("search", "l.npz", *words)[0] == 0


def test_verify_and_compare_of_a_model(command, folder):
    """Each layer through the datapath, and what data reach."""
    pytest.importorskip("onnx", reason="model files need onnx: pip install 'accsim[onnx]'")
    (folder / "eight.toml").write_text(EIGHT)
    words = (f"{MODEL}.qcdq.onnx", "--datapath", "eight.toml")
    code, out, _ = command("verify", *words, "--inputs", f"{MODEL}.npz", "--json")
    told = json.loads(out)
    from accsim.onnx import load

    network, eight = load(f"{MODEL}.qcdq.onnx"), datapaths.load("eight.toml")
    assert code == 1
    over = {}

    def watch(name, layer, x, _):
        counts = simulate(layer, x, eight).overflow_count
        over[name] = over.get(name, 0) + int(np.count_nonzero(counts))

    network.run(np.load(f"{MODEL}.npz")["x"], Accumulator(32), watch=watch)
    for name, layer in network.layers.items():
        found = told["layers"][name]
        assert found["verdict"] == str(decide(layer, eight).verdict)
        assert told["reached"][name]["data"]["overflowed_outputs"] == over[name] > 0
    words = ("compare", *words[:1], f"{MODEL}.npz", *words[1:], "--other-bits", 32, "--json")
    told = json.loads(command(*words)[1])
    assert min(found["differing"] for found in told["layers"].values()) > 0


@pytest.mark.parametrize(
    ("taps", "verdict"), [(2, "proved"), (3, "undecided"), (None, "undecided")]
)
def test_products_of_activations_by_their_types(taps, verdict):
    """Proved where every level takes so many products; the datapath is told of."""
    two = Datapath([Accumulator(9, terms=2), Accumulator(9)], name="two")
    told = product_json("p", (unsigned(4), unsigned(3)), taps, two)
    assert (told["verdict"], told["accumulator"]["bits"]) == (verdict, 9)
    assert told["datapath"]["name"] == "two"
    narrow = Datapath([Accumulator(32)], inputs=unsigned(3), name="narrow")
    with pytest.raises(RangeError) as caught:
        product_json("p", (unsigned(4), unsigned(3)), 2, narrow)
    assert str(caught.value) == "narrow takes inputs of UINT3 [0, 7], not UINT4 [0, 15]"


def test_products_in_words():
    """By the datapath's name."""
    told = product_json("p", (unsigned(4), unsigned(3)), 2, datapaths.load("hls-ap-int-16"))
    assert product_line(told) == (
        "p: a product of activations, UINT4 and UINT3, in hls-ap-int-16, by their types: proved"
    )


WRONG = {
    "no other": (
        ["compare", "l.npz", "x.npy", "--bits", 8],
        "Missing option '--other-bits' or '--other-datapath'.",
    ),
    "both others": (
        [
            "compare",
            "l.npz",
            "x.npy",
            "--bits",
            8,
            "--other-bits",
            9,
            "--other-datapath",
            "arm-sdot",
        ],
        "Invalid value: --other-datapath takes the place of --other-bits: not both",
    ),
    "other overflow": (
        [
            "compare",
            "l.npz",
            "x.npy",
            "--bits",
            8,
            "--other-overflow",
            "saturate",
            "--other-datapath",
            "m",
        ],
        "Invalid value: --other-overflow is of --other-bits: levels of a datapath have their own",
    ),
    "annotations": (
        ["verify", "m.onnx", "--bits-from", "annotations", "--datapath", "arm-sdot"],
        "Invalid value: --datapath takes the place of --bits-from: not both",
    ),
    "preload": (
        ["verify", "l.npz", "--preload", "--datapath", "x86-avx2-u8s8"],
        "Invalid value: --preload is for registers of both signs, and their proof alone: not with"
        " --unsigned, --datapath, --inputs or --html",
    ),
    "nothing to search": (
        ["search", "l.npz", "--datapath", "arm-sdot"],
        "l: arm-sdot takes inputs of INT8 [-128, 127], not UINT8 [0, 255]",
    ),
    "unknown name": (
        ["datapaths", "show", "x86"],
        "'x86' is no named datapath (accsim datapaths lists them) and no .toml file",
    ),
    "no file": (
        ["datapaths", "show", "none.toml"],
        "none.toml cannot be read: No such file or directory",
    ),
    "no picture": (
        ["datapaths", "show", "mine.toml", "--plot", "tree.pdf"],
        "Invalid value: --plot must be a .png file, not tree.pdf",
    ),
    "too many levels": (
        ["datapaths", "show", "many.toml", "--plot", "tree.png"],
        "Invalid value: --plot draws at most 16 levels",
    ),
    "both": (
        ["run", "l.npz", "x.npy", "--bits", 8, "--datapath", "arm-sdot"],
        "Invalid value: --datapath takes the place of --bits: not both",
    ),
    "unsigned": (
        ["run", "l.npz", "x.npy", "--unsigned", "--datapath", "arm-sdot"],
        "Invalid value: --unsigned is of --bits: levels of a datapath have their own",
    ),
    "overflow": (
        ["run", "l.npz", "x.npy", "--overflow", "saturate", "--datapath", "arm-sdot"],
        "Invalid value: --overflow is of --bits: levels of a datapath have their own",
    ),
    "plan": (
        ["run", "l.npz", "x.npy", "--plan", "--datapath", "x86-avx2-u8s8"],
        "Invalid value: --plan is of --bits: not of a datapath",
    ),
    "neither": (["run", "l.npz", "x.npy"], "Missing option '--bits' or '--datapath'."),
    "operands": (
        ["run", "l.npz", "x.npy", "--datapath", "arm-sdot"],
        "l: arm-sdot takes inputs of INT8 [-128, 127], not UINT8 [0, 255]",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_use_is_one_line(kind, command, folder):
    """Exit code 2, one line on standard error, nothing on standard output."""
    words, text = WRONG[kind]
    assert command(*words) == (2, "", f"accsim: {text}\n")


def test_the_page_has_them_all():
    """docs/datapaths.md: a row for each, as it is; and how many of each kind."""
    page = (MODEL.parents[3] / "docs" / "datapaths.md").read_text()
    kinds = Counter()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for name, row in zip(datapaths.names(), rows, strict=True):
        one = datapaths.describe(name)
        kinds[one.check] += 1
        path, counts = one.datapath, []
        if path.inputs is not None and path.weights is not None:
            counts = ["any" if n is None else f"{n:,}" for n in datapaths.safe_products(path)]
        cells = [
            f"`{name}`",
            levels_short(path),
            operands_short(path),
            ", ".join(counts),
            one.check,
        ]
        assert [cell.strip() for cell in row.strip("|").split("|")] == cells
    text = " ".join(page.split())
    assert f"{len(rows)}, each with its source: {kinds['ran']} ran" in text
    assert f"{kinds['source']} source (read" in text
    assert f"{kinds['documented']} documented (as" in text
