"""Random blocks of one-channel layers: integer weights of every kind, some at a bound's edge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor

import numpy as np

from accsim import IntSpec, between, bounds, signed, unsigned
from accsim.spec import MAX_BITS

MOST_TAPS = 4096
WEIGHTS_AT_A_TIME, LAYERS_AT_A_TIME = 2**17, 1024
PARTS = 16  # of a budget, as which real norms are drawn
CENTRED = "zero-centred, rounded toward zero"

Array = np.ndarray
Kind = Callable[[np.random.Generator, IntSpec, int, int], Array]


@dataclass(frozen=True, slots=True)
class Block:
    """Layers of one output channel each, of the same types and length.

    `claimed` are the bits for which the real weights, before they were rounded, satisfy A2Q+;
    None for weights that were not made so. Shapes: rows (layers, K), claimed (layers,).
    """

    kind: str
    rows: Array
    weight_spec: IntSpec
    input_spec: IntSpec
    claimed: Array | None = None


def draw(seed: int, number: int) -> Block:
    """Block I of seed S is always the same one; layers of zeros alone are left out."""
    block = drawn(seed, number)
    some = block.rows.any(axis=1)
    claimed = None if block.claimed is None else block.claimed[some]
    return replace(block, rows=block.rows[some], claimed=claimed)


def drawn(seed: int, number: int) -> Block:
    """The block with the layers that are zeros."""
    rng = np.random.default_rng([seed, number])
    taps = int(MOST_TAPS ** rng.random())
    count = int(min(LAYERS_AT_A_TIME, max(1, WEIGHTS_AT_A_TIME // taps)))
    weight_spec = signed(int(rng.integers(2, 9)), narrow=bool(rng.random() < 0.5))
    input_spec = input_range(rng)
    kinds = [*KINDS, "edge", CENTRED, CENTRED]
    kind = kinds[rng.integers(len(kinds))]
    if kind == CENTRED and input_spec.contains_zero:
        rows, claimed = centred(rng, weight_spec, input_spec, count, taps)
        return Block(kind, rows, weight_spec, input_spec, claimed)
    name = list(KINDS)[rng.integers(len(KINDS))] if kind in ("edge", CENTRED) else kind
    rows = KINDS[name](rng, weight_spec, count, taps).astype(np.int64)
    if kind == "edge":
        return Block("at an edge", at_an_edge(rng, rows, input_spec), weight_spec, input_spec)
    return Block(name, rows, weight_spec, input_spec)


def input_range(rng: np.random.Generator) -> IntSpec:
    """Codes of a type, less a zero point, or without 0; never 0 alone."""
    kind, bits = rng.random(), int(rng.integers(1, 9))
    if kind < 0.7:
        return unsigned(bits) if kind < 0.35 else signed(bits)
    span = int(rng.integers(1, 2**bits))
    if kind < 0.9:
        zero = int(rng.integers(0, span + 1))
        return between(-zero, span - zero)
    low = int(rng.integers(1, 2**bits))
    return between(low, low + span - 1) if kind < 0.95 else between(1 - low - span, -low)


def uniform(rng: np.random.Generator, spec: IntSpec, count: int, taps: int) -> Array:
    """Any codes."""
    return rng.integers(spec.min, spec.max, (count, taps), np.int16, endpoint=True)


def gaussian(rng: np.random.Generator, spec: IntSpec, count: int, taps: int) -> Array:
    """Of a width and a mean of their own, rounded to nearest."""
    deviation = spec.max * rng.uniform(0.05, 1)
    mean = rng.choice([0, 0, rng.uniform(-1, 1) * deviation])
    values = rng.standard_normal((count, taps), np.float32) * deviation + mean
    return np.rint(values).clip(spec.min, spec.max)


def sparse(rng: np.random.Generator, spec: IntSpec, count: int, taps: int) -> Array:
    """Mostly zeros."""
    kept = rng.random((count, taps), np.float32) < rng.uniform(0.01, 0.3)
    return uniform(rng, spec, count, taps) * kept


def equal(rng: np.random.Generator, spec: IntSpec, count: int, taps: int) -> Array:
    """One code per layer."""
    return np.repeat(uniform(rng, spec, count, 1), taps, axis=1)


def one_signed(rng: np.random.Generator, spec: IntSpec, count: int, taps: int) -> Array:
    """No weight of the other sign."""
    sizes = np.abs(uniform(rng, spec, count, taps)) * rng.choice([-1, 1], (count, 1))
    return sizes.clip(spec.min, spec.max)


def extreme(rng: np.random.Generator, spec: IntSpec, count: int, taps: int) -> Array:
    """The two ends of the type, in some layers mostly or only one of them."""
    share = rng.choice([0, 0.01, 0.5, 1], (count, 1))
    return np.where(rng.random((count, taps), np.float32) < share, spec.max, spec.min)


KINDS: dict[str, Kind] = {
    "uniform": uniform,
    "gaussian": gaussian,
    "sparse": sparse,
    "equal": equal,
    "one-signed": one_signed,
    "extreme": extreme,
}


def at_an_edge(rng: np.random.Generator, rows: Array, spec: IntSpec) -> Array:
    """Weights left out from some tap on, so that a budget is met, or missed by one unit.

    The budget of A2Q or A2Q+ for the norm, or of each sign for its sum.
    """
    bits = int(np.median(bounds.least_bits(rows, spec))) - int(rng.integers(0, 3))
    bits = max(2, bits)
    way = rng.integers(3) if spec.contains_zero else 0
    sizes = np.abs(rows)
    if way < 2:
        budget = (bounds.l1_budget, bounds.zero_centered_budget)[way](bits, spec)
        return np.sign(rows) * cut(rng, sizes, floor(budget))
    budgets, reach = bounds.sign_budgets(bits, spec), spec.magnitude
    up = cut(rng, sizes * (rows > 0), budgets.high // (budgets.up or reach))
    down = cut(rng, sizes * (rows < 0), budgets.low // (budgets.up or reach))
    return up - down


def cut(rng: np.random.Generator, sizes: Array, most: int) -> Array:
    """Sizes whose sum is at most so much, or one unit less or more, the first ones kept."""
    room = most + rng.integers(-1, 2, (len(sizes), 1))
    before = sizes.cumsum(axis=1) - sizes
    return np.minimum(sizes, (room - before).clip(min=0))


def centred(
    rng: np.random.Generator, weight_spec: IntSpec, input_spec: IntSpec, count: int, taps: int
) -> tuple[Array, Array]:
    """Integers as A2Q+ makes them, in exact arithmetic, and the bits that it claims for each.

    Real weights that sum to 0, scaled to a part of the norm that a register of some width allows,
    rounded toward zero and clipped to the type.
    """
    values = rng.integers(-(2**10), 2**10, (count, taps), endpoint=True)
    if rng.random() < 0.5:  # a few large ones
        values[rng.random((count, taps)) < 0.9] //= 2 ** int(rng.integers(1, 9))
    values = zero_sums(values)
    norm = np.abs(values).sum(axis=1)
    span = input_spec.max - input_spec.min
    bits = int(rng.integers(2, bounds.data_type_bits(taps, weight_spec, input_spec) + 1))
    parts = np.where(rng.random(count) < 0.5, PARTS, rng.integers(1, PARTS + 1, count))
    # sizes of the real weights |values| / norm * (2^bits - 2) / span * parts / PARTS
    above, below = parts * (2**bits - 2), np.maximum(norm, 1) * (PARTS * span)
    sizes = rounded(np.abs(values) * above[:, None], below[:, None])
    rows = (np.sign(values) * sizes).clip(weight_spec.min, weight_spec.max)
    real = [Fraction((2**bits - 2) * part, PARTS * span) for part in range(PARTS + 1)]
    claims = np.array([a2q_plus_bits(norm_of_reals, input_spec) for norm_of_reals in real])
    return rows, claims[np.where(norm == 0, 0, parts)]


def zero_sums(values: Array) -> Array:
    """K times the values less their mean: integers that sum to 0."""
    return values.shape[1] * values - values.sum(axis=1, keepdims=True)


def rounded(above: Array, below: Array) -> Array:
    """Sizes rounded toward zero."""
    return above // below


def a2q_plus_bits(norm: Fraction, input_spec: IntSpec) -> int:
    """The least register for which real weights that sum to 0 may have this norm."""
    widths = range(2, MAX_BITS + 1)
    return next(p for p in widths if norm <= bounds.zero_centered_budget(p, input_spec))
