"""The kernels as plain Python, and what they hold in memory."""

import os
import subprocess
import sys

SMALL = """
import numpy as np
from accsim import Accumulator, IntLayer, Overflow, signed, simulate, unsigned
from accsim.kernels import portable
from verification.properties import assert_exact
print(type(portable.statistics).__name__)
rng = np.random.default_rng(1)
for rule in Overflow:
    for bits in (6, 40):
        conv = IntLayer(rng.integers(-8, 8, (4, 1, 2, 2)), weight_spec=signed(4),
                        input_spec=unsigned(4), stride=2, padding=1, groups=2)
        x = rng.integers(0, 16, (2, 2, 3, 4))
        assert_exact(conv, x, Accumulator(bits, rule))
        flat = IntLayer(rng.integers(-8, 8, (3, 5)), weight_spec=signed(4), input_spec=unsigned(4))
        assert_exact(flat, rng.integers(0, 16, (2, 5)), Accumulator(bits, rule))
print("ok")
"""

# One image's im2col matrix would be 9 * 64 * 128 * 128 * 4 bytes = 36 MiB, the batch's 604 MiB.
BATCH = """
from pathlib import Path
import numpy as np
from accsim import Accumulator, conv2d, linear
def memory(word):  # MiB; Linux keeps the peak, and forgets it when told
    status = Path("/proc/self/status").read_text()
    return int(status.split(word + ":")[1].split()[0]) / 1024
def start():
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")
w = np.ones((4, 64, 3, 3), np.int8)
a = Accumulator(16, "saturate")
conv2d(np.ones((1, 64, 8, 8), np.int8), w, a, padding=1)  # compile first
linear(np.ones((300, 7), np.int8), np.ones((4, 7), np.int8), a)
x = np.ones((16, 64, 128, 128), np.int8)
before = start()
out = conv2d(x, w, a, padding=1)
print("conv", memory("VmHWM") - before - out.nbytes / 2**20)
x = np.ones((2**15, 1024), np.int8)
w = np.ones((8, 1024), np.int8)
before = start()
out = linear(x, w, a)
print("linear", memory("VmHWM") - before - out.nbytes / 2**20)
"""


def output(code, **environment):
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")


def test_kernels_run_as_python():
    """With the compiler off, the same functions give the oracle's answers."""
    assert output(SMALL, NUMBA_DISABLE_JIT="1") == ["function", "ok", ""]


def test_kernels_keep_inside_their_arrays():
    """With bounds checks on, no kernel reads or writes outside."""
    assert output(SMALL, NUMBA_BOUNDSCHECK="1")[-2] == "ok"


def test_no_im2col_matrix_is_kept():
    """Beyond inputs and outputs a big batch needs less than 64 MiB."""
    for line in output(BATCH)[:2]:
        name, extra = line.split()
        assert float(extra) < 64, name


def test_the_measure_sees_a_whole_matrix():
    """The test above can fail: a copy of all patches shows."""
    code = BATCH.replace("out = conv2d(", "y = np.ones((9, *x.shape), np.int8)\nout = conv2d(")
    assert float(output(code)[0].split()[1]) > 64
