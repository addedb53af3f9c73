"""Throughput of the simulator beside numpy, for `accsim bench`: right first, then timed."""

from __future__ import annotations

import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from accsim._check import IntArray, integer
from accsim.arith import fold
from accsim.datapath import Datapath
from accsim.layer import IntLayer
from accsim.plan import check_host, plan
from accsim.simulate import linear, most_threads, simulate
from accsim.spec import Accumulator, IntSpec, signed
from accsim.tree import check_tree, lane_type
from verification.level_steps import level_fields, reduce_all
from verification.properties import FIELDS
from verification.report import Json
from verification.tables import table

__all__ = ["Setup", "bench", "bench_table"]

LEAST_ROUNDS = 7
SLOW = 1.0  # seconds; a slower call is timed less often
SLOW_ROUNDS = 3
SAMPLE = 32  # outputs folded on Python ints
BYTE = signed(8)

_DTYPES = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64)

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Setup:
    """What is timed: x (m, k) of `inputs` times weights (n, k) of `weights`, `repeats` times."""

    m: int
    n: int
    k: int
    accumulator: Accumulator | Datapath
    weights: IntSpec = BYTE
    inputs: IntSpec = BYTE
    threads: int = 1
    repeats: int = LEAST_ROUNDS

    def __post_init__(self) -> None:
        for name in ("m", "n", "k"):
            integer(getattr(self, name), name, 1, 2**20)
        integer(self.threads, "threads", 1, most_threads())
        integer(self.repeats, "repeats", LEAST_ROUNDS, 10**6)

    @property
    def macs(self) -> int:
        """Multiply-accumulates in one call."""
        return self.m * self.n * self.k


def bench(setup: Setup, *, seed: int = 0) -> Json:
    """Check the simulator on random operands, then time it beside numpy: plain JSON.

    Every figure is in GMAC/s, over the whole call from numpy arrays to its result: the median of
    rounds in which every contender runs once. One slower than a second runs in the first three.

    Raises: SpecError for sizes; HostWidthError as `simulate`; RuntimeError for a wrong result, and
    then nothing is reported.
    """
    rng = np.random.default_rng(seed)
    x, w = draw(rng, setup.inputs, setup.m, setup.k), draw(rng, setup.weights, setup.n, setup.k)
    layer = IntLayer(w, weight_spec=setup.weights, input_spec=setup.inputs)
    if isinstance(setup.accumulator, Datapath):
        check_tree(layer, setup.accumulator)
        lane_type(layer, setup.accumulator)
    else:
        check_host(layer, setup.accumulator)  # before numpy, which would overflow
    check(setup, layer, x, rng)
    times = measure(_contenders(setup, layer, x, w), setup.repeats)
    return {
        "schema": "accsim.bench/1",
        "machine": machine(),
        "shape": {"m": setup.m, "n": setup.n, "k": setup.k},
        "accumulator": str(setup.accumulator),
        "weights": str(setup.weights),
        "inputs": str(setup.inputs),
        "threads": setup.threads,
        "checked": {"numpy_steps": setup.m * setup.n, "folded": min(SAMPLE, setup.m * setup.n)},
        "plans": _plans(setup, layer),
        "gmac_per_s": {name: figure(setup.macs, seconds) for name, seconds in times.items()},
    }


def _plans(setup: Setup, layer: IntLayer) -> Json:
    """How each kind of call is computed."""
    accumulator, inputs = setup.accumulator, setup.inputs
    if isinstance(accumulator, Datapath):
        from accsim.route import route  # numba loads when first used

        return {"values": str(route(layer, inputs, accumulator, outputs=setup.m * setup.n))}
    return {
        "values": str(plan(layer, inputs, accumulator, counts=False, peaks=False)),
        "counts": str(plan(layer, inputs, accumulator, peaks=False)),
        "all": str(plan(layer, inputs, accumulator)),
    }


def bench_table(content: Json) -> Table:
    """The figures of `bench` for people."""
    shape, seen = content["shape"], content["gmac_per_s"]
    title = (
        f"{content['inputs']} inputs, {content['weights']} weights, {content['accumulator']},"
        f" M={shape['m']} N={shape['n']} K={shape['k']}, {content['threads']} thread(s); GMAC/s"
    )
    made = table(title, "", "median", "lowest", "highest", "rounds", "beside numpy steps")
    steps = seen["numpy int64 step loop"]["median"]
    for name, found in seen.items():
        speeds = (f"{found[key]:.2f}" for key in ("median", "lowest", "highest"))
        made.add_row(name, *speeds, str(found["rounds"]), f"{found['median'] / steps:.1f} ×")
    return made


def machine() -> Json:
    """What the figures hold for."""
    import numba
    from numba.core.registry import cpu_target

    import accsim

    return {
        "platform": platform.platform(),
        "processor": str(cpu_target.target_context.codegen().magic_tuple()[1]),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "accsim": accsim.__version__,
        "numpy": np.__version__,
        "numba": str(numba.__version__),
    }


def draw(rng: np.random.Generator, spec: IntSpec, *shape: int) -> IntArray:
    """Uniform integers of a range, in the narrowest type that holds them."""
    dtype = next(
        kind
        for kind in _DTYPES
        if np.iinfo(kind).min <= spec.min and spec.max <= np.iinfo(kind).max
    )
    return rng.integers(spec.min, spec.max, shape, endpoint=True).astype(dtype)


def measure(
    calls: Mapping[str, Call],
    rounds: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each call in each round; all run once per round, in an order of its own.

    A first call of each, which may compile, is not counted. What runs before a call leaves its
    mark on caches and clock, so the order is drawn anew (and is the same in every run). Calls that
    take longer than `SLOW` take part in the first `SLOW_ROUNDS` only.
    """
    shuffled = random.Random(0)
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name in shuffled.sample(list(calls), len(calls)):
            if turn < SLOW_ROUNDS or times[name][0] <= SLOW:
                start = clock()
                calls[name]()
                times[name].append(clock() - start)
    return times


def figure(macs: int, seconds: Sequence[float]) -> Json:
    """Median and spread in GMAC/s of a call of `macs` products."""
    return {
        "median": macs / statistics.median(seconds) / 1e9,
        "lowest": macs / max(seconds) / 1e9,
        "highest": macs / min(seconds) / 1e9,
        "rounds": len(seconds),
        "seconds": list(seconds),
    }


def check(setup: Setup, layer: IntLayer, x: IntArray, rng: np.random.Generator) -> None:
    """Raise RuntimeError unless every result is right.

    The numpy step loop is compared with the definition on a sample of outputs, and the simulator
    with the numpy step loop on all of them and all fields.
    """
    accumulator, threads = setup.accumulator, setup.threads
    right = step_fields(x, layer.weight, accumulator)
    for _ in range(min(SAMPLE, setup.m * setup.n)):
        row, channel = int(rng.integers(setup.m)), int(rng.integers(setup.n))
        slow = fold(layer.weight[channel].tolist(), x[row].tolist(), accumulator)
        for name in FIELDS:
            if right[name][row, channel] != getattr(slow, name):
                raise RuntimeError(_wrong(f"the numpy step loop, {name}"))
    values = linear(x, layer.weight, accumulator, threads=threads)
    if not np.array_equal(values, right["output"]):
        raise RuntimeError(_wrong("linear"))
    for peaks in (False, True):
        found = simulate(layer, x, accumulator, peaks=peaks, threads=threads)
        for name in FIELDS if peaks else FIELDS[:3]:
            if not np.array_equal(getattr(found, name), right[name]):
                raise RuntimeError(_wrong(f"simulate, {name}"))


def step_loop(x: IntArray, w: IntArray, accumulator: Accumulator | Datapath) -> IntArray:
    """Outputs in int64: all registers at once, one numpy pass per step."""
    if isinstance(accumulator, Datapath):
        return level_fields(x, w, accumulator)["output"]
    columns = np.ascontiguousarray(x.T, np.int64)
    taps = np.ascontiguousarray(w.T, np.int64)
    register = np.zeros((x.shape[0], w.shape[0]), np.int64)
    for k in range(len(taps)):
        register += columns[k][:, None] * taps[k]
        reduce_all(register, accumulator)
    return register


def step_fields(
    x: IntArray, w: IntArray, accumulator: Accumulator | Datapath
) -> dict[str, IntArray]:
    """Every field of `Run` in int64, in the same way."""
    if isinstance(accumulator, Datapath):
        return level_fields(x, w, accumulator)
    columns = np.ascontiguousarray(x.T, np.int64)
    taps = np.ascontiguousarray(w.T, np.int64)
    register, exact, count, low, high = np.zeros((5, x.shape[0], w.shape[0]), np.int64)
    first = np.full_like(register, -1)
    for k in range(len(taps)):
        product = columns[k][:, None] * taps[k]
        register += product
        before = register.copy()
        reduce_all(register, accumulator)
        missed = before != register
        first[missed & (count == 0)] = k
        count += missed
        exact += product
        np.minimum(low, exact, out=low)
        np.maximum(high, exact, out=high)
    return dict(zip(FIELDS, (register, count, first, low, high), strict=True))


def _contenders(setup: Setup, layer: IntLayer, x: IntArray, w: IntArray) -> dict[str, Call]:
    """What is timed, by name."""
    accumulator, threads = setup.accumulator, setup.threads
    wide_x, wide_w = x.astype(np.int64), w.astype(np.int64)
    return {
        "accsim, values": lambda: linear(x, w, accumulator, threads=threads),
        "accsim, counts and first": lambda: simulate(
            layer, x, accumulator, peaks=False, threads=threads
        ),
        "accsim, all of Run": lambda: simulate(layer, x, accumulator, threads=threads),
        "numpy int64 matmul": lambda: wide_x @ wide_w.T,
        "numpy int64 step loop": lambda: step_loop(x, w, accumulator),
    }


def _wrong(what: str) -> str:
    return f"wrong result of {what}: nothing is reported"
