"""How cost follows threads, sizes, and what the processor may use."""

from __future__ import annotations

import numpy as np
from contenders import Contender, fields, float32, values
from workload import BYTE, DEEP, SATURATE, WIDE, WRAP, Goal, Workload, exact, named, shrink

from accsim import Accumulator, IntLayer
from accsim.simulate import most_threads
from verification.bench import draw, step_fields, step_loop

GROWTH = (128, 256, 512, 1024, 2048, 4096)
GROWTH_LEAST = 50_000_000  # products, below which growth is not judged


def two_threads(quick: bool) -> Workload:
    """Two threads beside one, on problems above 0.2 GMAC."""
    if most_threads() < 2:
        return Workload({})
    random = np.random.default_rng(7)
    found: dict[str, Contender] = {}
    goals = []
    for m, n, k in (shrink(WIDE, quick), shrink((2048, 512, 1024), quick)):
        x, w = draw(random, BYTE, m, k), draw(random, BYTE, n, k)
        layer = IntLayer(w, weight_spec=BYTE, input_spec=BYTE)
        sample = random.integers(0, m, 64)
        for bits, rule in ((16, SATURATE), (20, SATURATE), (16, WRAP)):
            register = Accumulator(bits, rule)
            right = step_fields(x[sample], w, register)
            name = f"P={bits} {rule}, {named((m, n, k))}"
            for threads in (1, 2):
                found[f"{name}, {threads} threads"] = Contender(
                    values(x, w, register, threads), m * n * k, right["output"], sample
                )
                found[f"{name}, all of Run, {threads} threads"] = Contender(
                    fields(layer, x, register, peaks=True, threads=threads),
                    m * n * k,
                    right,
                    sample,
                )
            for one in (name, f"{name}, all of Run"):
                case = f"two threads, {one}"
                goals.append(Goal(case, f"{one}, 2 threads", f"{one}, 1 threads", 1.8))
    return Workload(found, tuple(goals))


def growth(quick: bool) -> Workload:
    """Each of M, N, K doubled from 128 to 4096, the others 512."""
    random = np.random.default_rng(8)
    found, goals = {}, []
    sizes, rest = (GROWTH[:3], 128) if quick else (GROWTH, 512)
    for rule in (SATURATE, WRAP):
        register = Accumulator(16, rule)
        for axis, side in enumerate("MNK"):
            for size in sizes:
                m, n, k = (size if i == axis else rest for i in range(3))
                x, w = draw(random, BYTE, m, k), draw(random, BYTE, n, k)
                sample = random.integers(0, m, 16)
                right = step_loop(x[sample], w, register)
                call = values(x, w, register)
                found[f"{rule} {side}={size}"] = Contender(call, m * n * k, right, sample)
                if size > sizes[0] and m * n * k // 2 > GROWTH_LEAST:
                    ours, other = f"{rule} {side}={size}", f"{rule} {side}={size // 2}"
                    case = f"cost growth, {rule}, {side} {size // 2} to {size}"
                    goals.append(Goal(case, ours, other, 1.8, 2.2))
    return Workload(found, tuple(goals))


def limited(quick: bool) -> Workload:
    """Few contenders, for a process whose processor is limited from outside."""
    found, goals = {}, []
    for full in (WIDE, DEEP):
        m, n, k = shrink(full, quick)
        random = np.random.default_rng(9)
        x, w = draw(random, BYTE, m, k), draw(random, BYTE, n, k)
        register = Accumulator(16, SATURATE)
        at = named((m, n, k))
        right = step_loop(x, w, register)
        ours, other = f"accsim P=16 saturate, {at}", f"torch float32, {at}"
        found[ours] = Contender(values(x, w, register), m * n * k, right)
        found[other] = Contender(float32(x, w), m * n * k, exact(x, w))
        goals.append(Goal(f"AVX2 only, saturate, 8-bit, P=16, {at}", ours, other, 0.6))
    return Workload(found, tuple(goals))
