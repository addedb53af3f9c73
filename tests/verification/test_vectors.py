"""Vectors: every step by the definition, inputs that overflow, files that say the same thing."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from accsim import Accumulator, IntLayer, arith, between, signed, simulate, unsigned
from accsim.errors import DtypeError, RangeError, ShapeError, SpecError
from accsim.files import read_arrays
from verification import vector_files, vectors_command, worst_inputs
from verification.vector_files import parameters, write_vectors
from verification.vectors import chosen_stimulus, given_stimulus, make_vectors

NAMES = ("weight", "x", "bias", "start", "register", "overflow", "sticky")
REGISTERS = [
    Accumulator(bits, rule, signed=is_signed)
    for bits in (4, 7, 9)
    for rule in ("wrap", "saturate")
    for is_signed in (True, False)
]


def layer(rng, weight_spec=signed(4), input_spec=unsigned(4), shape=(5, 13), bias=7, **how):
    """Random weights, and biases from 0 to `bias`."""
    return IntLayer(
        rng.integers(weight_spec.min, weight_spec.max, shape, endpoint=True),
        weight_spec=weight_spec,
        input_spec=input_spec,
        bias=rng.integers(0, bias, shape[0], endpoint=True),
        **how,
    )


def stepped(made):
    """The same by `arith.reduce`, step by step on Python ints."""
    rows = []
    register, sticky = 0, False
    for start, bias, weight, x in zip(
        *(getattr(made, name).tolist() for name in ("start", "bias", "weight", "x")), strict=True
    ):
        if start:
            register, sticky = bias, False
        total = register + weight * x
        register = arith.reduce(total, made.accumulator)
        sticky = sticky or register != total
        rows.append((register, register != total, sticky))
    return rows


def shown(made):
    """What vectors expect of each step."""
    arrays = (getattr(made, name).tolist() for name in ("register", "overflow", "sticky"))
    return list(zip(*arrays, strict=True))


@pytest.mark.parametrize("accumulator", REGISTERS, ids=str)
def test_every_step_is_the_definition(accumulator):
    """Register and flags after every step; and the last one is what the simulator says."""
    made_of = layer(np.random.default_rng(accumulator.bits))
    stimulus = chosen_stimulus(made_of, accumulator)
    made = make_vectors(made_of, accumulator, stimulus)
    assert shown(made) == stepped(made)
    assert 0.02 < made.overflow.mean() < 0.98
    run = simulate(made_of, stimulus.x, accumulator)
    of_sums = (np.arange(made.sums), stimulus.channels)
    ends = made.register.reshape(made.sums, -1)[:, -1]
    np.testing.assert_array_equal(ends, run.output[of_sums])
    counts = made.overflow.reshape(made.sums, -1).sum(axis=1)
    np.testing.assert_array_equal(counts, run.overflow_count[of_sums])


@pytest.mark.parametrize("rule", ["wrap", "saturate"])
@pytest.mark.parametrize(("weight_bits", "input_bits"), [(30, 30), (31, 32), (62, 62), (2, 60)])
def test_products_wider_than_the_host(rule, weight_bits, input_bits):
    """Totals beyond 64 bits are exact: of operands that no kernel of the simulator takes."""
    rng = np.random.default_rng(weight_bits)
    made_of = layer(rng, signed(weight_bits), unsigned(input_bits), shape=(3, 9))
    for bits in (4, 61, 62):
        accumulator = Accumulator(bits, rule)
        made = make_vectors(made_of, accumulator, chosen_stimulus(made_of, accumulator, sums=12))
        assert shown(made) == stepped(made)
        assert made.overflow.any() or bits > 60


def test_worst_inputs_come_first():
    """Those of the channels that pass a rail by most, highest sum and lowest, then others."""
    weights = [[1, 1, 1, 1], [7, 7, 7, 7], [-7, -7, 7, -7]]
    made_of = IntLayer(weights, weight_spec=signed(4), input_spec=unsigned(4))
    stimulus = chosen_stimulus(made_of, Accumulator(6), sums=30)
    assert stimulus.channels[:6].tolist() == [1, 1, 2, 2, 0, 0]
    for i, channel in enumerate([1, 1, 2, 2, 0, 0]):
        expected = worst_inputs(made_of, channel)[1 - i % 2]
        np.testing.assert_array_equal(stimulus.x[i], expected)
    assert set(stimulus.channels[6:].tolist()) == {0, 1, 2}
    assert len({tuple(x) for x in stimulus.x[6:].tolist()}) > 10
    assert chosen_stimulus(made_of, Accumulator(6), sums=3).channels.tolist() == [1, 1, 2]


@pytest.mark.parametrize("spec", [unsigned(4), signed(4), between(-3, 9), between(2, 5)], ids=str)
def test_inputs_are_legal_and_reproducible(spec):
    """Inside the range, both ends in use, the same for a seed and others for another."""
    made_of = layer(np.random.default_rng(0), input_spec=spec)
    first, again, other = (
        chosen_stimulus(made_of, Accumulator(8), seed=seed).x for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert (first.min(), first.max()) == (spec.min, spec.max)


def test_the_usual_number():
    """Both worst inputs of every channel and 64 others, within 2^18 steps, at least one sum."""
    rng = np.random.default_rng(0)
    usual = [
        len(chosen_stimulus(layer(rng, shape=shape), Accumulator(8)).x)
        for shape in [(5, 13), (600, 512), (1, 2**19)]
    ]
    assert usual == [74, 512, 1]


CONVOLUTIONS = {
    "padded": {"shape": (4, 2, 3, 3), "padding": (1, 2)},
    "grouped": {"shape": (6, 2, 2, 3), "groups": 2, "stride": (2, 1)},
    "dilated": {"shape": (3, 1, 3, 2), "dilation": (2, 3), "groups": 3, "padding": 1},
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_given_images(kind):
    """The sums of a convolution, place by place, end as the simulator's outputs do."""
    rng = np.random.default_rng(0)
    made_of = layer(rng, **CONVOLUTIONS[kind])
    x = rng.integers(0, 16, (2, made_of.weight.shape[1] * made_of.groups, 7, 8))
    for rule in ("wrap", "saturate"):
        accumulator = Accumulator(8, rule)
        made = make_vectors(made_of, accumulator, given_stimulus(made_of, x))
        run = simulate(made_of, x, accumulator)
        ends = made.register.reshape(-1, made.taps)[:, -1]
        np.testing.assert_array_equal(ends, run.output.transpose(0, 2, 3, 1).reshape(-1))
        counts = made.overflow.reshape(-1, made.taps).sum(axis=1)
        np.testing.assert_array_equal(counts, run.overflow_count.transpose(0, 2, 3, 1).reshape(-1))


def test_given_rows():
    """Row by row, all channels of each."""
    made_of = layer(np.random.default_rng(0))
    x = np.random.default_rng(1).integers(0, 16, (2, 3, 13), dtype=np.uint8)
    stimulus = given_stimulus(made_of, x)
    assert stimulus.channels.tolist() == list(range(5)) * 6
    np.testing.assert_array_equal(stimulus.x, x.reshape(6, 13).repeat(5, axis=0))


WRONG = {
    "floats": (lambda of: given_stimulus(of, [[0.5] * 13]), DtypeError, "x must be an array of integers, not of float64"),
    "a row too short": (lambda of: given_stimulus(of, [[1, 2]]), ShapeError, "x must be (..., 13), not of shape (1, 2)"),
    "no rows": (lambda of: given_stimulus(of, np.empty((0, 13), int)), ShapeError, "x must give a product at least, not of shape (0, 13)"),
    "an input outside": (lambda of: given_stimulus(of, [[16] * 13]), RangeError, "x[0, 0] is 16, outside UINT4 [0, 15]"),
    "too many rows": (
        lambda of: given_stimulus(of, np.zeros((2**18, 13), int)),
        ShapeError,
        "x must make at most 16777216 steps, not 17039360",
    ),
    "no sums": (lambda of: chosen_stimulus(of, Accumulator(8), sums=0), SpecError, "count must be an integer from 1 to 1290555, not 0"),
    "too many sums": (
        lambda of: chosen_stimulus(of, Accumulator(8), sums=1290556),
        SpecError,
        "count must be an integer from 1 to 1290555, not 1290556",
    ),
    "a bias outside": (
        lambda of: chosen_stimulus(of, Accumulator(2)),
        RangeError,
        "bias[1] is 4, outside the 2-bit wrap register [-2, 1]",
    ),
    "seed": (lambda of: chosen_stimulus(of, Accumulator(8), seed=-1), SpecError, f"seed must be an integer from 0 to {2**63 - 1}, not -1"),
    "no register": (lambda of: chosen_stimulus(of, 8), SpecError, "accumulator must be an Accumulator or a Datapath, not 8"),
    "a level": (
        lambda of: chosen_stimulus(of, Accumulator(8, rail="sum")),
        SpecError,
        "accumulator with terms or rail is a level: give Datapath([...]) of all levels",
    ),
    "no taps": (
        lambda _: chosen_stimulus(layer(np.random.default_rng(0), shape=(2, 0)), Accumulator(8)),
        ShapeError,
        "a layer must have a tap for vectors to be made of it, not none",
    ),
    "a vast sum": (
        lambda _: chosen_stimulus(layer(np.random.default_rng(0), shape=(1, 2**24 + 1)), Accumulator(8)),
        ShapeError,
        "a sum must be of at most 16777216 steps, not 16777217",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_stimulus(kind):
    """One typed error, its whole text."""
    work, error, text = WRONG[kind]
    with pytest.raises(error) as raised:
        work(layer(np.random.default_rng(0)))
    assert str(raised.value) == text


def some_vectors(accumulator=Accumulator(7, "saturate"), **how):
    """Vectors of a small layer."""
    made_of = layer(np.random.default_rng(3), **how)
    return make_vectors(made_of, accumulator, chosen_stimulus(made_of, accumulator, sums=20))


@pytest.mark.parametrize(
    "accumulator", [Accumulator(7), Accumulator(62), Accumulator(5, signed=False)], ids=str
)
def test_hex_files(tmp_path, accumulator):
    """A word for each step, of as many digits as its bits need; two's complement if negative."""
    made = some_vectors(accumulator, weight_spec=signed(6), input_spec=signed(3))
    write_vectors(tmp_path / "v", made, ("hex",))
    bits = {"weight": 6, "x": 3, "bias": accumulator.bits, "register": accumulator.bits}
    negative = {
        "weight": True,
        "x": True,
        "bias": accumulator.signed,
        "register": accumulator.signed,
    }
    for name in NAMES:
        words = (tmp_path / "v" / f"{name}.hex").read_text().split()
        width = bits.get(name, 1)
        assert {len(word) for word in words} == {-(-width // 4)}
        values = [int(word, 16) for word in words]
        assert all(value < 1 << width for value in values)
        if negative.get(name, False):
            values = [value - (value >> (width - 1) << width) for value in values]
        assert values == getattr(made, name).tolist()


def test_npz_file(tmp_path):
    """The same arrays, integers."""
    made = some_vectors()
    assert write_vectors(tmp_path / "v", made, ("npz",)) == ["vectors.npz"]
    arrays = read_arrays(tmp_path / "v" / "vectors.npz")
    assert list(arrays) == list(NAMES)
    for name in NAMES:
        np.testing.assert_array_equal(arrays[name], getattr(made, name))


C = """
#include <stdio.h>
#include "vectors.h"
int main(void) {
  int64_t low = ACCSIM_ACC_SIGNED ? -((int64_t)1 << (ACCSIM_P - 1)) : 0;
  int64_t high = low + (int64_t)(((uint64_t)1 << ACCSIM_P) - 1), acc = 0;
  long right = 0, over = 0;
  for (long k = 0; k < ACCSIM_STEPS; k++) {
    int64_t total = (accsim_start[k] ? accsim_bias[k] : acc) + (int64_t)accsim_weight[k] * accsim_x[k];
    acc = total > high ? high : total < low ? low : total;
    right += acc == accsim_register[k] && (acc != total) == accsim_overflow[k];
    over += acc != total;
  }
  printf("%ld %ld %d %zu\\n", right, over, ACCSIM_SATURATE, sizeof accsim_register[0]);
  return 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs cc: apt-get install gcc")
@pytest.mark.parametrize(("bits", "size"), [(7, 1), (8, 1), (12, 2), (40, 8)])
def test_c_header(tmp_path, bits, size):
    """A saturating loop in C finds the same register, in arrays as narrow as they may be."""
    operands = {8: {"input_spec": between(0, 128)}}
    operands |= {40: {"weight_spec": signed(20), "input_spec": unsigned(20)}}
    made = some_vectors(Accumulator(bits, "saturate"), bias=60, **operands.get(bits, {}))
    assert write_vectors(tmp_path / "v", made, ("c",)) == ["vectors.h"]
    (tmp_path / "v" / "check.c").write_text(C)
    build = ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "check.c", "-o", "check"]
    subprocess.run(build, cwd=tmp_path / "v", check=True)
    done = subprocess.run(
        ["./check"], cwd=tmp_path / "v", capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{made.steps} {made.overflow.sum()} 1 {size}\n"
    assert bits == 12 or made.overflow.any()


def test_a_folder_appears_when_complete(tmp_path, monkeypatch):
    """After an error nothing is left; an empty folder is filled, one with a file is not."""
    made = some_vectors()

    def broken(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(vector_files, "write_arrays", broken)
        with pytest.raises(OSError, match="disk full"):
            write_vectors(tmp_path / "v", made)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "v").mkdir()
    names = write_vectors(tmp_path / "v", made)
    assert names == sorted(
        [f"{name}.hex" for name in NAMES]
        + ["README.txt", "bench.sv", "mac.sv", "vectors.h", "vectors.npz"]
    )
    before = {file: file.read_bytes() for file in (tmp_path / "v").iterdir()}
    with pytest.raises(FileExistsError):
        write_vectors(tmp_path / "v", made, ("npz",))
    assert {file: file.read_bytes() for file in (tmp_path / "v").iterdir()} == before
    assert (tmp_path / "v").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(("formats", "told"), [(("hex", "vhd"), "'vhd'"), ((), "none")])
def test_unknown_formats(tmp_path, formats, told):
    """One that is none, and none."""
    with pytest.raises(SpecError) as raised:
        write_vectors(tmp_path / "v", some_vectors(), formats)
    assert str(raised.value) == f"formats must be some of hex, npz, c, not {told}"
    assert list(tmp_path.iterdir()) == []


def test_parameters():
    """Those of the bench: widths and signs of ranges that are no plain types, too."""
    made = some_vectors(
        Accumulator(9, signed=False), weight_spec=between(-3, 9), input_spec=between(2, 5)
    )
    assert parameters(made) == {
        "P": 9, "SATURATE": 0, "ACC_SIGNED": 0, "W_BITS": 5, "W_SIGNED": 1, "X_BITS": 3,
        "X_SIGNED": 0, "TAPS": 13, "STEPS": 260,
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two layers in a folder, one beside it, and inputs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net").mkdir()
    (tmp_path / "empty").mkdir()
    rng = np.random.default_rng(0)
    for path in ("net/a.npz", "net/b.npz", "one.npz"):
        layer(rng).save(path)
    np.save("x.npy", rng.integers(0, 16, (3, 13)))
    np.save("outside.npy", np.full((1, 13), 16))
    np.save("short.npy", np.ones((1, 12), int))
    return tmp_path


def test_command(command, folder):
    """It says how many steps overflowed, and is done with 0; in JSON the same."""
    words = ("vectors", "one.npz", "--bits", 7, "--overflow", "saturate")
    code, out, err = command(*words, "--out", "v")
    made_of, accumulator = IntLayer.load("one.npz"), Accumulator(7, "saturate")
    made = make_vectors(made_of, accumulator, chosen_stimulus(made_of, accumulator))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "one, 7-bit saturate register: 74 sums of 13 steps, 5 of 5 channels",
        f"{made.overflow.sum()} of 962 steps overflow",
        "Written: v/ (README.txt, bench.sv, bias.hex, mac.sv, overflow.hex, register.hex,"
        " start.hex, sticky.hex, vectors.h, vectors.npz, weight.hex, x.hex)",
    ]
    code, out, _ = command(*words, "--out", "w", "--json", "--formats", "npz", "--count", 2)
    assert (code, json.loads(out)) == (
        0,
        {
            "schema": "accsim.vectors/1",
            "layer": "one",
            "accumulator": {"bits": 7, "overflow": "saturate", "signed": True},
            "parameters": {**parameters(made), "STEPS": 26},
            "sums": 2,
            "steps": 26,
            "overflow_steps": int(read_arrays("w/vectors.npz")["overflow"].sum()),
            "channels": 1,
            "of_channels": 5,
            "files": ["vectors.npz"],
        },
    )


def test_command_with_inputs_of_ones_own(command, folder):
    """Every channel of every row; of several layers the one that is named."""
    words = ("vectors", "net", "--layer", "b", "--bits", 7, "--inputs", "x.npy", "--unsigned")
    assert command(*words, "--out", "v", "--formats", "npz,hex")[0] == 0
    arrays = read_arrays("v/vectors.npz")
    run = simulate(IntLayer.load("net/b.npz"), np.load("x.npy"), Accumulator(7, signed=False))
    np.testing.assert_array_equal(arrays["register"][12::13], run.output.reshape(-1))
    assert not (folder / "v" / "vectors.h").exists()


def test_without_overflow_it_says_so(command, folder):
    """A register that holds every sum tests nothing of overflow."""
    code, out, _ = command("vectors", "one.npz", "--bits", 20, "--out", "v")
    assert code == 0
    assert "no step of 962 overflows: what a device does then is not tested\n" in out


def test_help_fits_one_screen(command):
    """At most 40 lines."""
    code, out, _ = command("vectors", "--help")
    assert code == 0
    assert len(out.splitlines()) <= 40


REFUSED = {
    "no layer": (["none.npz"], "none.npz cannot be read: No such file or directory"),
    "no out": (["one.npz"], "Missing option '--out'."),
    "out a file": (["one.npz", "--out", "x.npy"], "A file, not a folder: x.npy"),
    "out with files": (["one.npz", "--out", "net"], "Not a new or empty folder: net"),
    "out in no folder": (["one.npz", "--out", "no/where"], "No such folder: no"),
    "unknown format": (["one.npz", "--formats", "hex,vhd"], "formats must be some of hex, npz, c, not 'vhd'"),
    "rule": (["one.npz", "--overflow", "clip"], "Invalid value for '--overflow': 'clip' is not one of 'wrap', 'saturate'."),
    "several layers": (["net"], "net has 2 layers: --layer must name one: a, b"),
    "another layer": (["net", "--layer", "c"], "net has 2 layers: --layer must name one, not 'c': a, b"),
    "another name": (["one.npz", "--layer", "c"], "one.npz has 1 layer: --layer must name it, not 'c': one"),
    "no layers": (["empty"], "empty must hold layer files (*.npz)"),
    "both": (["one.npz", "--inputs", "x.npy", "--count", 3], "Invalid value: --inputs takes the place of --count: not both"),
    "an input outside": (["one.npz", "--inputs", "outside.npy"], "one: x[0, 0] is 16, outside UINT4 [0, 15]"),
    "short inputs": (["one.npz", "--inputs", "short.npy"], "one: x must be (..., 13), not of shape (1, 12)"),
    "no inputs": (["one.npz", "--inputs", "none.npy"], "one: none.npy cannot be read: No such file or directory"),
    "no sums": (["one.npz", "--count", 0], "one: count must be an integer from 1 to 1290555, not 0"),
    "bits": (["one.npz", "--bits", 63], "Accumulator bits must be an integer from 2 to 62, not 63"),
    "external data": (["one.npz", "--external-data", "net"], "Invalid value: --external-data is of a model: LAYERS must be an .onnx file"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_wrong_use_is_one_line(kind, command, folder):
    """Exit code 2, the whole line, nothing written."""
    words, text = REFUSED[kind]
    before = sorted(folder.rglob("*"))
    given = [] if "--bits" in words else ["--bits", 7]
    given += [] if "--out" in words or kind == "no out" else ["--out", "v"]
    assert command("vectors", *words, *given) == (2, "", f"accsim: {text}\n")
    assert sorted(folder.rglob("*")) == before


def test_model_without_layers(command, tmp_path, monkeypatch):
    """A model file none of whose products is a layer."""

    class Empty:
        layers = {}  # noqa: RUF012

    monkeypatch.setattr(vectors_command, "load_model", lambda *_: Empty)
    _, _, err = command("vectors", "some.onnx", "--bits", 8, "--out", tmp_path / "v")
    assert err == "accsim: some.onnx has no layer to make vectors of\n"
