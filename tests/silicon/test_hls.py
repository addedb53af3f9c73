"""Types of FPGA compilers, in the C simulation that comes with hls4ml: what accsim computes, bit for bit.

The headers are Xilinx's own ap_int and ap_fixed as hls4ml carries them; nothing is synthesized.
"""

import ctypes
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import silicon

from accsim import Accumulator, Datapath

ROWS = CHANNELS = 1024
INSTALL = "apt-get install g++; pip install -c constraints.txt '.[hls]'"
WRAP, SATURATE = Accumulator(10), Accumulator(10, "saturate")
CAST = Datapath((Accumulator(10, "saturate", terms=1), SATURATE))


def headers(record, oracle):
    """The folder of ap_int.h, or a skip."""
    found = importlib.util.find_spec("hls4ml")
    silicon.needs(record, oracle, found and silicon.which("g++"), INSTALL)
    return Path(found.origin).parent / "templates/vivado/ap_types"


def operands(rows, channels, taps, *, bits=6, acc_bits=10):
    """Unsigned inputs and signed weights of so many bits, starting values of the accumulator's."""
    rng = np.random.default_rng(taps)
    half, rail = 2 ** (bits - 1), 2 ** (acc_bits - 1)
    inputs = rng.integers(0, 2 * half, (rows, taps)).astype(np.uint8)
    weight = rng.integers(-half, half, (channels, taps)).astype(np.int8)
    inputs[::2] //= 8
    return inputs, weight, rng.integers(-rail, rail, channels)


@pytest.mark.parametrize(
    ("name", "datapath", "sizes"),
    [
        ("ap_int_16", "hls-ap-int-16", {"bits": 8, "acc_bits": 16}),
        ("ap_fixed_16_sat", "hls-ap-fixed-sat-16", {"bits": 8, "acc_bits": 16}),
        ("ap_fixed_10_sat", SATURATE, {}),
        ("ap_fixed_10_sat_cast", CAST, {}),
    ],
    ids=["wrap", "saturate", "narrow", "cast"],
)
def test_types(record_property, tmp_path, name, datapath, sizes):
    """ap_int wraps and ap_fixed<..., AP_TRN, AP_SAT> saturates at every step; a product cast first is another function."""
    oracle = f"hls {name}"
    folder = headers(record_property, oracle)
    made = tmp_path / "hls.so"
    command = ["g++", "-O2", "-std=c++14", "-shared", "-fPIC", "-w", f"-I{folder}"]
    subprocess.run([*command, silicon.FOLDER / "hls.cpp", "-o", made], check=True)
    inputs, weight, bias = operands(ROWS, CHANNELS, 13, **sizes)
    real = silicon.call(getattr(ctypes.CDLL(made), name), inputs, weight, bias, CHANNELS)
    silicon.agree(record_property, oracle, datapath, real, weight, inputs, bias=bias)


@pytest.mark.parametrize(
    ("overflow", "datapath"), [("AP_WRAP", WRAP), ("AP_SAT", CAST)], ids=["wrap", "saturate"]
)
def test_model(record_property, tmp_path, overflow, datapath):
    """A dense layer of hls4ml casts each product to the accumulator's type before it adds it."""
    oracle = f"hls4ml dense {overflow}"
    headers(record_property, oracle)
    inputs, weight, bias = operands(4096, 16, 20)
    file = tmp_path / "layer.npz"
    accum = f"ap_fixed<10,10,AP_TRN,{overflow}>"
    np.savez(file, inputs=inputs, weight=weight, bias=bias, accum=accum)
    command = [sys.executable, silicon.FOLDER / "hls_model.py", file, tmp_path / "project"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    real = np.load(file)["outputs"]
    silicon.agree(record_property, oracle, datapath, real, weight, inputs, bias=bias)
