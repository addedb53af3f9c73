"""Throughput of the simulator beside numpy and torch: correctness first, one interleaved run.

python benchmarks/throughput.py [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import torch

from accsim import Accumulator, IntLayer, arith, linear, signed, simulate

M, N, K, BITS = 256, 256, 1024, 16
ROUNDS = 7
RNG = np.random.default_rng(0)


def check(x: np.ndarray, w: np.ndarray) -> None:
    """Refuse to report on a simulator that is wrong: 64 outputs of each mode by the definition."""
    for mode in ("wrap", "saturate"):
        accumulator = Accumulator(BITS, mode)
        fast = linear(x, w, accumulator)
        for row, channel in zip(RNG.integers(0, M, 64), RNG.integers(0, N, 64), strict=True):
            slow = arith.fold(w[channel].tolist(), x[row].tolist(), accumulator)
            if fast[row, channel] != slow.output:
                raise SystemExit(f"wrong result at [{row}, {channel}], {mode}: nothing is reported")


def contenders(x: np.ndarray, w: np.ndarray) -> dict[str, Callable[[int], object]]:
    """What is timed, by name; each takes the number of threads."""
    layer = IntLayer(w, weight_spec=signed(8), input_spec=signed(8))
    x64, w64 = x.astype(np.int64), w.astype(np.int64)
    x32, w32 = torch.from_numpy(x).float(), torch.from_numpy(w).float()

    def ours(mode: str, all_fields: bool) -> Callable[[int], object]:
        accumulator = Accumulator(BITS, mode)

        def call(threads: int) -> object:
            numba.set_num_threads(threads)
            if all_fields:
                return simulate(layer, x, accumulator)
            return linear(x, w, accumulator)

        return call

    def torch_matmul(threads: int) -> object:
        torch.set_num_threads(threads)
        return x32 @ w32.T

    return {
        **{f"accsim {mode}": ours(mode, False) for mode in ("wrap", "saturate")},
        **{f"accsim {mode}, all of Run": ours(mode, True) for mode in ("wrap", "saturate")},
        "numpy int64 matmul (always one thread)": lambda threads: x64 @ w64.T,
        "torch float32 matmul": torch_matmul,
    }


def main() -> None:
    """Time every contender with one and two threads in turn, print medians and spreads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    x, w = (RNG.integers(-128, 128, shape).astype(np.int8) for shape in ((M, K), (N, K)))
    check(x, w)
    calls = contenders(x, w)
    threads = [t for t in (1, 2) if t <= numba.config.NUMBA_NUM_THREADS]
    times: dict[tuple[str, int], list[float]] = {(name, t): [] for name in calls for t in threads}
    for name, count in times:
        calls[name](count)  # compile and warm up
    for _ in range(ROUNDS):
        for (name, count), seen in times.items():
            start = time.perf_counter()
            calls[name](count)
            seen.append(time.perf_counter() - start)
    speed = {
        key: [M * N * K / t / 1e9 for t in sorted(seen, reverse=True)]
        for key, seen in times.items()
    }
    machine = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "processor": numba.config.CPU_NAME
        or numba.core.registry.cpu_target.target_context.codegen().magic_tuple()[1],
        "numpy": np.__version__,
        "numba": numba.__version__,
        "torch": torch.__version__,
    }
    print(f"int8 x int8, M={M} N={N} K={K}, P={BITS}; GMAC/s, median of {ROUNDS} (lowest-highest)")
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    for (name, count), seen in speed.items():
        low, middle, high = seen[0], statistics.median(seen), seen[-1]
        print(f"  {name:40} {count} threads  {middle:7.2f} ({low:.2f}-{high:.2f})")
    if arguments.json:
        figures = {f"{name}, {count} threads": seen for (name, count), seen in speed.items()}
        arguments.json.write_text(json.dumps({"machine": machine, "gmac_per_s": figures}, indent=1))


if __name__ == "__main__":
    main()
