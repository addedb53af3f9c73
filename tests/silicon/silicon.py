"""What the checks against real things share: tools that may be missing, packed operands, one verdict.

Each check is an oracle: it names itself, and either says how many outputs it compared and how many of them differ from exact
arithmetic, or what would have to be installed. `oracles.py` lists them all when the run ends.
"""

import ctypes
import functools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from accsim import datapaths, linear

FOLDER = Path(__file__).parent
LEAST_SHARE = 0.1  # of outputs that are not exact: where nothing overflows, nothing is checked


def needs(record, oracle, there, install):
    """Skip, and say what to install, unless it is `there`."""
    if not there:
        record("oracle", {"name": oracle, "install": install})
        pytest.skip(f"{oracle}: {install}")


def agree(record, oracle, datapath, real, weight, inputs, *, bias=None):
    """What the real thing computed, `real` (rows, channels), is what accsim computes for the datapath, or the one of this name.

    And at least a tenth of the outputs are not those of exact arithmetic: there, something overflowed.
    """
    datapath = datapaths.load(datapath) if isinstance(datapath, str) else datapath
    computed = linear(inputs, weight, datapath, bias=bias)
    exact = exact_sums(weight, inputs, bias)
    differ = int((computed != exact).sum())
    wrong = int((computed != real).sum())
    record("oracle", {"name": oracle, "cases": real.size, "differ": differ, "wrong": wrong})
    assert real.shape == computed.shape
    assert wrong == 0, f"{oracle}: {wrong:,} of {real.size:,} outputs are not what accsim computes"
    assert differ >= LEAST_SHARE * real.size, f"{oracle}: {differ:,} of {real.size:,} are not exact"


def exact_sums(weight, inputs, bias=None):
    """Sums without any register; by float64, in which all of these are integers."""
    sums = inputs.astype(np.float64) @ weight.T.astype(np.float64)
    assert abs(sums).max() < 2**52
    return sums.astype(np.int64) + (0 if bias is None else np.asarray(bias))


def has(*flags):
    """Whether this processor has the x86 features, as /proc/cpuinfo calls them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    words = next((line.split() for line in lines if line.startswith("flags")), [])
    return set(flags) <= set(words)


@functools.cache
def assembly(compiler, source, *flags):
    """What the compiler makes of a source of this folder, as text."""
    command = [compiler, *flags, "-S", FOLDER / source, "-o", "-"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def instructions(text, function):
    """The instructions of one function of an assembly."""
    body = text.split(f"\n{function}:\n")[1].split(f".size\t{function},")[0]
    return {line.split()[0] for line in body.splitlines() if line.startswith("\t") and line.strip()}


def pack(weight, columns, depth):
    """Weights (C, K) as kernels want them, (C / columns, K / depth, columns, depth), and K padded to `depth`."""
    channels, taps = weight.shape
    assert channels % columns == 0
    padded = np.zeros((channels, -(-taps // depth) * depth), weight.dtype)
    padded[:, :taps] = weight
    tiles = padded.reshape(channels // columns, columns, -1, depth).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(tiles)


def padded(array, multiple):
    """Zeros after the last axis, up to a multiple."""
    missing = -array.shape[-1] % multiple
    return np.ascontiguousarray(np.pad(array, ((0, 0), (0, missing))))


def call(function, inputs, weight, start, channels, *more):
    """What a compiled sequence writes: int32 (rows, channels)."""
    rows, taps = inputs.shape
    out = np.empty((rows, channels), np.int32)
    arrays = (inputs, weight, np.ascontiguousarray(start, np.int32), out)
    assert all(array.flags.c_contiguous for array in arrays)
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in arrays]
    function(*pointers, *map(ctypes.c_long, (rows, channels, taps, *more)))
    return out


def which(tool):
    """Whether the tool is on the path."""
    return shutil.which(tool) is not None
