"""What only a fresh process shows: start-up, memory, and a processor limited to AVX2."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": (
        "+64bit,+cmov,+cx8,+cx16,+fxsr,+mmx,+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+xsave"
        ",+sahf,+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe"
    ),
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}

FIRST = """
import numpy as np
from accsim import Accumulator, linear
x = np.ones((256, 1024), np.int8)
linear(x, x, Accumulator(16, "saturate"))
"""

EVERYTHING = """
import numpy as np
from accsim import Accumulator, IntLayer, conv2d, simulate, signed
random = np.random.default_rng(0)
for bits in (4, 8, 16, 20):
    spec = signed(bits)
    x = random.integers(spec.min, spec.max + 1, (64, 96))
    w = random.integers(spec.min, spec.max + 1, (48, 96))
    layer = IntLayer(w, weight_spec=spec, input_spec=spec)
    for width in (8, 12, 16, 20, 31, 40, 62):
        for rule in ("wrap", "saturate"):
            for peaks in (False, True):
                simulate(layer, x, Accumulator(width, rule), peaks=peaks)
x = random.integers(-128, 128, (2, 32, 12, 12))
w = random.integers(-128, 128, (32, 32, 3, 3))
for width in (16, 20, 40):
    for groups in (1, 32):
        conv2d(x, w[:, : 32 // groups], Accumulator(width, "saturate"), padding=1, groups=groups)
"""

MEMORY = """
import json, sys
import numpy as np
from accsim import Accumulator, IntLayer, linear, signed, simulate

def status(name):
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(name))

def run(x, w):
    register = Accumulator(int(sys.argv[2]), sys.argv[1])
    if sys.argv[3] == "values":
        return [linear(x, w, register)]
    layer = IntLayer(w, weight_spec=signed(8), input_spec=signed(8))
    found = simulate(layer, x, register, peaks=sys.argv[3] == "all")
    arrays = (getattr(found, name) for name in type(found).__slots__)
    return [array for array in arrays if array is not None]

random = np.random.default_rng(0)
def draw(*shape):
    return random.integers(-128, 128, shape, np.int8)

run(draw(256, 512), draw(256, 512))  # code is compiled and loaded before memory is looked at
x, w = draw(2048, 4096), draw(4096, 4096)
before = status("VmRSS")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts from here
out = run(x, w)
print(json.dumps(status("VmHWM") - before - sum(array.nbytes for array in out)))
"""

Row = dict[str, object]


def seconds(code: str, **environment: str) -> float:
    """How long a fresh interpreter takes for some code, from start to end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **environment})
    return time.perf_counter() - start


def startup(rounds: int) -> list[Row]:
    """Import, first result with a warm cache, everything with an empty one."""
    seconds(FIRST)  # fills the cache
    codes = {"nothing": "pass", "import": "import accsim", "first": FIRST}
    times: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(rounds):
        for name, code in codes.items():
            times[name].append(seconds(code))
    middle = {name: statistics.median(seen) for name, seen in times.items()}
    with tempfile.TemporaryDirectory() as folder:
        cold = seconds(EVERYTHING, NUMBA_CACHE_DIR=folder)
    return [
        row(
            "import accsim, beyond the interpreter", middle["import"] - middle["nothing"], "s", 0.2
        ),
        row("first result in a new process, cache warm", middle["first"], "s", 1.0),
        row("every kernel in a new process, cache empty", cold, "s", 30.0),
    ]


def memory() -> list[Row]:
    """Peak beyond inputs and outputs for 2,048 inputs of a 4096×4096 layer."""
    rows = []
    for rule, bits, asked in [
        ("saturate", "16", "values"),
        ("saturate", "20", "values"),
        ("wrap", "16", "values"),
        ("saturate", "16", "counts"),
        ("saturate", "16", "all"),
    ]:
        command = [sys.executable, "-c", MEMORY, rule, bits, asked]
        done = subprocess.run(command, capture_output=True, text=True)
        case = f"memory, 2048 × 4096 × 4096, P={bits} {rule}, {asked}"
        if done.returncode:
            rows.append({"case": case, "failed": done.stderr.strip().splitlines()[-1:]})
        else:
            rows.append(row(case, json.loads(done.stdout) / 2**20, "MiB", 64.0))
    return rows


def row(case: str, value: float, unit: str, most: float) -> Row:
    """A figure beside its limit."""
    return {"case": case, "value": value, "unit": unit, "most": most, "met": value <= most}


def avx2(script: Path, rounds: int) -> dict[str, object]:
    """The workload `limited` in a process that knows of no more than AVX2."""
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "limited.json"
        command = [sys.executable, script, "--only", "limited", "--json", to]
        subprocess.run(
            [*command, "--rounds", str(rounds)],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **AVX2, "NUMBA_CACHE_DIR": folder},
        )
        return json.loads(to.read_text())
