"""Datapaths of several levels beside torch's float32 product, one thread each."""

from __future__ import annotations

import numpy as np
from contenders import Contender, float32, values
from workload import BYTE, SATURATE, WIDE, WRAP, Goal, Workload, exact, named, shrink

from accsim import Accumulator, Datapath, unsigned
from verification.bench import draw, step_loop

PAIR = Accumulator(16, SATURATE, terms=2, rail="sum")
VECTOR = {
    "pairs saturate in 16, as AVX2": Datapath([PAIR, Accumulator(32)]),
    "pairs, 16 saturate, spilled to 32 after 128": Datapath(
        [PAIR, Accumulator(16, SATURATE, terms=128), Accumulator(32)]
    ),
    "pairs, 16 wrap, spilled to 32 after 32": Datapath(
        [PAIR, Accumulator(16, WRAP, terms=32), Accumulator(32)]
    ),
    "tiles of 64: P_I=16 saturate, P_O=24 saturate": Datapath(
        [Accumulator(16, SATURATE, terms=64), Accumulator(24, SATURATE)]
    ),
    "tiles of 64: P_I=12 saturate, P_O=32 wrap": Datapath(
        [Accumulator(12, SATURATE, terms=64), Accumulator(32, WRAP)]
    ),
}
PORTABLE = {
    "each product cast to 12 first": Datapath(
        [Accumulator(12, SATURATE, terms=1), Accumulator(12, SATURATE)]
    ),
    "16 products to 18 once, 20 saturate": Datapath(
        [Accumulator(18, SATURATE, terms=16, rail="sum"), Accumulator(20, SATURATE)]
    ),
    "16 saturate of 8, 18 wrap of 8, 34 saturate, read out in 17": Datapath(
        [
            Accumulator(16, SATURATE, terms=8),
            Accumulator(18, WRAP, terms=8),
            Accumulator(34, SATURATE),
            Accumulator(17, SATURATE),
        ]
    ),
}


def multilevel(quick: bool) -> Workload:
    """M=1024 N=512 K=512, inputs of 8 bits without a sign, weights of 8 with one."""
    m, n, k = shrink(WIDE, quick)
    random = np.random.default_rng(6)
    x, w = draw(random, unsigned(8), m, k), draw(random, BYTE, n, k)
    found, goals, at = {}, [], named((m, n, k))
    for name, datapath in (VECTOR | PORTABLE).items():
        right = step_loop(x, w, datapath)
        if not (right != exact(x, w)).any():
            raise SystemExit(f"nothing overflows in {name}: nothing is reported")
        found[f"accsim {name}"] = Contender(values(x, w, datapath), m * n * k, right)
        vector = name in VECTOR
        other = "torch float32" if vector else ""
        goals.append(Goal(f"{name}, {at}", f"accsim {name}", other, 0.7 if vector else 1.0))
    found["torch float32"] = Contender(float32(x, w), m * n * k, exact(x, w))
    return Workload(found, tuple(goals))
