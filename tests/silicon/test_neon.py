"""Sequences of AArch64 vector instructions under qemu-user, an emulator, not silicon: what accsim computes, bit for bit.

The sequences are those of libraries' kernels (neon.c), compiled without a C library and run as a program of its own.
"""

import functools
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import silicon

ROWS = CHANNELS = 1024
FLAGS = ("-O2", "-march=armv8.2-a+dotprod+i8mm", "-ffreestanding", "-nostdlib", "-static")
WHICH = ("mull_mlal", "mlal_chain", "sdot", "udot", "smmla", "qadd_chain")
ARITHMETIC = ("smull", "smlal", "sadal", "saddw", "sdot", "udot", "smmla", "sqadd")


@pytest.fixture
def sequence(record_property):
    """A function that finds a sequence of neon.c, or skips; it is made of exactly these instructions.

    What it finds is a function of inputs (rows, taps), weights and starting values.
    """

    def find(name, oracle, *expected):
        names = (f"aarch64-linux-gnu-gcc{version}" for version in ("", "-12", "-13", "-14"))
        compiler = next(filter(silicon.which, names), None)
        emulators = ("qemu-aarch64-static", "qemu-aarch64")
        emulator = next(filter(silicon.which, emulators), None)
        install = "apt-get install qemu-user-static gcc-aarch64-linux-gnu"
        silicon.needs(record_property, oracle, compiler and emulator, install)
        used = silicon.instructions(silicon.assembly(compiler, "neon.c", *FLAGS), name)
        assert {word for word in used if word.startswith(ARITHMETIC)} == set(expected)
        return functools.partial(run, compiler, emulator, WHICH.index(name))

    return find


@functools.cache
def program(compiler):
    """neon.c, compiled once; the folder goes when the process does."""
    folder = tempfile.TemporaryDirectory()
    made = Path(folder.name) / "neon"
    subprocess.run([compiler, *FLAGS, silicon.FOLDER / "neon.c", "-o", made], check=True)
    return made, folder


def run(compiler, emulator, which, inputs, weight, start, *, fold=0):
    """int32 (rows, channels), as the emulated program writes them."""
    rows, taps = inputs.shape
    head = np.array([which, rows, len(start), taps, fold], np.int64)
    sent = b"".join(a.tobytes() for a in (head, inputs, weight, np.asarray(start).astype(np.int32)))
    command = [emulator, "-cpu", "max", program(compiler)[0]]
    got = subprocess.run(command, check=True, input=sent, capture_output=True).stdout
    return np.frombuffer(got, np.int32).reshape(rows, len(start))


def operands(taps, *, seed, kind=np.int8):
    """Inputs and weights of all bits: half of them uniform, half of them near the ends."""
    rng = np.random.default_rng(seed)
    info = np.iinfo(kind)
    ends = np.array([info.min, info.min, info.min + 1, info.max // 2, info.max], kind)
    made = rng.integers(info.min, info.max + 1, (2, ROWS, taps), kind)
    made[:, ::2] = rng.choice(ends, (2, ROWS // 2, taps))
    return made


def near_rails(scale, *, seed, kind):
    """Starting values about `scale` inside of either end of 32 bits."""
    rng = np.random.default_rng(seed)
    inside, info = rng.integers(0, scale, CHANNELS), np.iinfo(kind)
    return np.where(rng.random(CHANNELS) < 0.5, info.max - inside, info.min + inside)


def test_two_products_wrap(sequence, record_property):
    """smull and smlal2 in 16 bits, sadalp: only twice -128 * -128 overflows, and wraps."""
    oracle = "neon-mull-mlal"
    function = sequence("mull_mlal", f"{oracle} (qemu)", "smull", "smlal2", "sadalp")
    inputs, weight = operands(2 * 16 + 7, seed=1)
    inputs[::2, :] = np.where(
        np.random.default_rng(1).random(inputs[::2].shape) < 0.5, -128, inputs[::2]
    )
    bias = np.random.default_rng(1).integers(-(2**20), 2**20, CHANNELS)
    real = function(*(silicon.padded(array, 16) for array in (inputs, weight)), bias)
    how = {"bias": bias}
    silicon.agree(record_property, f"{oracle} (qemu)", oracle, real, weight, inputs, **how)


def test_lanes_wrap(sequence, record_property):
    """smlal and smlal2 in 16 bits for 2048 taps, then 32 bits: BitNet's codes of 0 to 2 without dot products."""
    oracle = "ggml-i2s-neon"
    used = ("smlal", "smlal2", "saddw", "saddw2")
    function = sequence("mlal_chain", f"{oracle} (qemu)", *used)
    rng = np.random.default_rng(2)
    weight = rng.integers(0, 3, (CHANNELS, 2048 + 64), np.int8)
    inputs = rng.integers(-128, 128, (ROWS, 2048 + 64), np.int8)
    inputs[::2] = rng.integers(80, 128, inputs[::2].shape)
    inputs[::4, 4::8] //= 8  # lanes differ
    weight[::2] = rng.choice(np.array([1, 2, 2], np.int8), weight[::2].shape)
    real = function(inputs, weight, np.zeros(CHANNELS), fold=2048)
    silicon.agree(record_property, f"{oracle} (qemu)", oracle, real, weight, inputs)


def test_steps_saturate(sequence, record_property):
    """smull and sqadd in 16 bits, step by step."""
    oracle = "neon-sqadd16"
    function = sequence("qadd_chain", f"{oracle} (qemu)", "smull", "sqadd")
    inputs, weight = operands(37, seed=3)
    bias = np.random.default_rng(3).integers(-(2**15), 2**15, CHANNELS)
    real = function(inputs, silicon.pack(weight, 8, 1), bias)
    how = {"bias": bias}
    silicon.agree(record_property, f"{oracle} (qemu)", oracle, real, weight, inputs, **how)


@pytest.mark.parametrize(
    ("name", "datapath", "kind", "scale"),
    [
        ("sdot", "arm-sdot", np.int8, 60_000),
        ("udot", "arm-udot", np.uint8, 1_000_000),
        ("smmla", "arm-smmla", np.int8, 60_000),
    ],
)
def test_dot_products(sequence, record_property, name, datapath, kind, scale):
    """sdot, udot, smmla: four or eight products exactly, 32 bits that wrap; starting values near the rails."""
    oracle = f"{datapath} (qemu)"
    function = sequence(name, oracle, name)
    inputs, weight = operands(2 * 16 + 9, seed=4, kind=kind)
    register = np.uint32 if kind == np.uint8 else np.int32
    bias = near_rails(scale, seed=4, kind=register)
    arrays = (silicon.padded(array, 16) for array in (inputs, weight))
    real = function(*arrays, bias).view(register)
    silicon.agree(record_property, oracle, datapath, real, weight, inputs, bias=bias)
