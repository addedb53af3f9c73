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

from accsim import Accumulator, Datapath, signed, unsigned

ROWS = CHANNELS = 1024
INSTALL = "apt-get install g++; pip install -c constraints.txt '.[hls]'"
WRAP, SATURATE = Accumulator(10), Accumulator(10, "saturate")
OPERANDS = {"inputs": unsigned(6), "weights": signed(6)}
PLAIN = Datapath((SATURATE,), **OPERANDS)
CAST = Datapath((Accumulator(10, "saturate", terms=1), SATURATE), **OPERANDS)
WRAPPING = Datapath((WRAP,), **OPERANDS)


def headers(record, oracle):
    """The folder of ap_int.h, or a skip."""
    found = importlib.util.find_spec("hls4ml")
    silicon.needs(record, oracle, found and silicon.which("g++"), INSTALL)
    return Path(found.origin).parent / "templates/vivado/ap_types"


def operands(rows, channels, taps):
    """Unsigned inputs and signed weights of 6 bits, starting values of 10."""
    rng = np.random.default_rng(taps)
    inputs, weight = rng.integers(0, 64, (rows, taps)), rng.integers(-32, 32, (channels, taps))
    inputs[::2] //= 8
    return inputs.astype(np.uint8), weight.astype(np.int8), rng.integers(-512, 512, channels)


@pytest.mark.parametrize(
    ("name", "datapath"),
    [("ap_int_10", WRAPPING), ("ap_fixed_10_sat", PLAIN), ("ap_fixed_10_sat_cast", CAST)],
)
def test_types(record_property, tmp_path, name, datapath):
    """ap_int<10> wraps and ap_fixed<10,10,AP_TRN,AP_SAT> saturates at every step; a cast product is another function."""
    oracle = f"hls {name}"
    folder = headers(record_property, oracle)
    made = tmp_path / "hls.so"
    command = ["g++", "-O2", "-std=c++14", "-shared", "-fPIC", "-w", f"-I{folder}"]
    subprocess.run([*command, silicon.FOLDER / "hls.cpp", "-o", made], check=True)
    inputs, weight, bias = operands(ROWS, CHANNELS, 13)
    real = silicon.call(getattr(ctypes.CDLL(made), name), inputs, weight, bias, CHANNELS)
    silicon.agree(record_property, oracle, datapath, real, weight, inputs, bias=bias)


@pytest.mark.parametrize(
    ("overflow", "datapath"), [("AP_WRAP", WRAPPING), ("AP_SAT", CAST)], ids=["wrap", "saturate"]
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
