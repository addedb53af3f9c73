"""Sequences of x86 instructions on this processor: what accsim computes, bit for bit.

The sequences are those of libraries' kernels (x86.c). Every check has a million outputs or more, of random operands and of
operands at the ends of their ranges; taps are no multiples of any group, so that the last ones are short.
"""

import ctypes
import functools
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import silicon

ROWS = CHANNELS = 1024
FLAGS = ("-O2", "-fPIC", "-mavx2")
VNNI = ("-mavx512vnni", "-mavx512vl")


@functools.cache
def library(*flags):
    """x86.c, compiled once."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "x86.so"
        command = ["gcc", *flags, "-shared", silicon.FOLDER / "x86.c", "-o", made]
        subprocess.run(command, check=True)
        return ctypes.CDLL(made)


@pytest.fixture
def sequence(record_property):
    """A function that finds a sequence of x86.c, or skips; it is made of exactly these instructions."""

    def find(name, oracle, *expected, vnni=False):
        features = ("avx2", "avx512_vnni", "avx512vl") if vnni else ("avx2",)
        missing = "needs a processor with " + ", ".join(features)
        silicon.needs(record_property, oracle, silicon.has(*features), missing)
        silicon.needs(record_property, oracle, silicon.which("gcc"), "apt-get install gcc")
        flags = FLAGS + VNNI * vnni
        arithmetic = ("vpmadd", "vpadd", "vpdp", "vpmul", "vphadd")
        used = silicon.instructions(silicon.assembly("gcc", "x86.c", *flags), name)
        assert {word for word in used if word.startswith(arithmetic)} == set(expected)
        return getattr(library(*flags), name)

    return find


def operands(taps, *, seed):
    """Inputs of 0 to 255 and weights of -128 to 127: half of the rows at the ends, a quarter uniform, a quarter small."""
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, 256, (ROWS, taps), np.uint8)
    weight = rng.integers(-128, 128, (CHANNELS, taps), np.int8)
    inputs[::2] = rng.choice(np.array([0, 1, 127, 128, 254, 255], np.uint8), (ROWS // 2, taps))
    inputs[1::4] //= 8
    weight[::2] = rng.choice(
        np.array([-128, -127, -1, 0, 126, 127], np.int8), (CHANNELS // 2, taps)
    )
    return inputs, weight


def near_rails(scale, *, seed):
    """Starting values about `scale` inside of either end of int32."""
    rng = np.random.default_rng(seed)
    inside = rng.integers(0, scale, CHANNELS)
    return np.where(rng.random(CHANNELS) < 0.5, 2**31 - 1 - inside, inside - 2**31)


@pytest.mark.parametrize("taps", [4, 78])
def test_pairs_saturate(sequence, record_property, taps):
    """vpmaddubsw, vpmaddwd with ones, vpaddd: oneDNN, FBGEMM and onnxruntime before VNNI."""
    oracle = f"x86-avx2-u8s8, K = {taps}"
    function = sequence("maddubs_madd", oracle, "vpmaddubsw", "vpmaddwd", "vpaddd")
    inputs, weight = operands(taps, seed=taps)
    bias = near_rails(60_000 * taps, seed=taps)
    bias[::3] //= 1000
    real = silicon.call(
        function, silicon.padded(inputs, 4), silicon.pack(weight, 8, 4), bias, CHANNELS
    )
    silicon.agree(record_property, oracle, "x86-avx2-u8s8", real, weight, inputs, bias=bias)


def test_lanes_saturate(sequence, record_property):
    """vpmaddubsw, vpaddsw in 16 bits, 32 bits every 256 taps: FBGEMM's acc16."""
    oracle = "fbgemm-acc16"
    function = sequence("maddubs_adds", oracle, "vpmaddubsw", "vpaddsw", "vpaddd")
    inputs, weight = operands(2 * 256 + 77, seed=1)
    bias = np.random.default_rng(1).integers(-(2**20), 2**20, CHANNELS)
    arrays = silicon.padded(inputs, 2), silicon.pack(weight, 16, 2)
    real = silicon.call(function, *arrays, bias, CHANNELS, 256)
    silicon.agree(record_property, oracle, "fbgemm-acc16", real, weight, inputs, bias=bias)


def test_lanes_wrap(sequence, record_property):
    """vpmaddubsw, vpaddw in 16 bits, vpmaddwd with ones every 4096 taps: BitNet's codes of 0 to 2.

    Two rows in three have the activations of one sign that microsoft/BitNet#629 tells of.
    """
    oracle = "ggml-i2s-avx2"
    function = sequence("maddubs_add", oracle, "vpmaddubsw", "vpaddw", "vpmaddwd", "vpaddd")
    rng = np.random.default_rng(2)
    taps = 4096 + 3 * 128
    weight = rng.integers(0, 3, (CHANNELS, taps), np.uint8)
    weight[::2] = rng.choice(np.array([1, 2, 2], np.uint8), (CHANNELS // 2, taps))
    inputs = rng.integers(-128, 128, (ROWS, taps), np.int8)
    inputs[1::3] = rng.integers(90, 128, inputs[1::3].shape)
    inputs[2::3] = rng.integers(-128, -90, inputs[2::3].shape)
    real = silicon.call(function, inputs, weight, np.zeros(CHANNELS), CHANNELS, 4096)
    silicon.agree(record_property, oracle, "ggml-i2s-avx2", real, weight, inputs)


def test_pairs_wrap(sequence, record_property):
    """vpmaddwd of bytes widened to 16 bits, vpaddd: XNNPACK's signed kernels; starting values near the rails."""
    oracle = "x86-avx2-s16"
    function = sequence("madd", oracle, "vpmaddwd", "vpaddd")
    inputs, weight = operands(51, seed=4)
    inputs = inputs.view(np.int8)
    bias = near_rails(60_000, seed=4)
    arrays = silicon.padded(inputs, 2), silicon.pack(weight, 8, 2)
    real = silicon.call(function, *arrays, bias, CHANNELS)
    silicon.agree(record_property, oracle, oracle, real, weight, inputs, bias=bias)


@pytest.mark.parametrize(
    ("name", "datapath"), [("dpbusd", "x86-vnni-u8s8"), ("dpbusds", "x86-vnni-u8s8-sat")]
)
def test_quads(sequence, record_property, name, datapath):
    """vpdpbusd wraps and vpdpbusds saturates its 32 bits after four products; starting values near the rails."""
    function = sequence(name, datapath, f"vp{name}", vnni=True)
    inputs, weight = operands(50, seed=3)
    bias = near_rails(120_000, seed=3)
    arrays = silicon.padded(inputs, 4), silicon.pack(weight, 8, 4)
    real = silicon.call(function, *arrays, bias, CHANNELS)
    silicon.agree(record_property, datapath, datapath, real, weight, inputs, bias=bias)
