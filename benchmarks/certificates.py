"""What each certificate saves: the same calls with and without it, on data where it pays or not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from contenders import Call, Contender, values
from products import safe_layer
from workload import BYTE, SATURATE, Workload, shrink

from accsim import Accumulator, between, linear
from accsim.kernels import vector
from verification.bench import draw

PLAN = sys.modules["accsim.plan"]  # the package's `plan` is the function of that name


@contextmanager
def stepping(**changes: object) -> Iterator[None]:
    """Calls inside do without segments or without forgetting."""
    run = vector.run

    def changed(begin: int, end: int, shape: object, work: vector.Work, *rest: object) -> None:
        run(begin, end, shape, work._replace(**changes), *rest)

    vector.run = changed
    try:
        yield
    finally:
        vector.run = run


@contextmanager
def uncertified() -> Iterator[None]:
    """Calls inside do without the certificate of whole channels."""
    by_weights = PLAN._by_weights
    PLAN._by_weights = lambda layer, call: ((), None, "")
    try:
        yield
    finally:
        PLAN._by_weights = by_weights


def both(name: str, x: np.ndarray, w: np.ndarray, bits: int, without: object) -> dict:
    """One call as it is, and inside `without`."""
    register = Accumulator(bits, SATURATE)
    right, macs = linear(x, w, register), len(x) * w.size
    call: Call = values(x, w, register)

    def less() -> object:
        with without():  # type: ignore[operator]
            return call()

    return {
        f"{name}, P={bits}": Contender(call, macs, right),
        f"{name}, P={bits}, without": Contender(less, macs, right),
    }


def certificates(quick: bool) -> Workload:
    """Channels of a trained layer; segments and forgetting, on uniform data and on small inputs."""
    rng = np.random.default_rng(0)

    m, n, k = shrink((1024, 512, 512), quick)
    layer = safe_layer(quick)
    inputs = draw(rng, layer.input_spec, m, layer.taps)
    uniform = draw(rng, BYTE, m, k), draw(rng, BYTE, n, k)
    deep = draw(rng, BYTE, 256, 1024), draw(rng, BYTE, 256, 1024)
    small = draw(rng, between(-8, 8), m, k), uniform[1]

    def cut() -> object:
        return stepping(segments=0)

    def keep() -> object:
        return stepping(forgets=False)

    return Workload(
        both("channels, trained layer", inputs, layer.weight, 16, uncertified)
        | both("segments, uniform bytes", *uniform, 20, cut)
        | both("segments, uniform bytes, K=1024", *deep, 20, cut)
        | both("segments, small inputs", *small, 18, cut)
        | both("forgetting, uniform bytes", *uniform, 12, keep)
    )
