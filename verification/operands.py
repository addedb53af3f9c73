"""Operands that bring out what a simulator of narrow registers does wrong, and simpler ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import hypothesis.strategies as st
import numpy as np

from accsim._check import IntArray
from accsim.bounds import fits
from accsim.spec import MAX_BITS, Accumulator, IntSpec, Overflow, between, signed, unsigned
from verification.hunting import Edit, below

__all__ = ["Operands", "code_range", "codes", "edits", "operands", "pick"]

Shape = tuple[int, int]
Pattern = Callable[[np.random.Generator, IntSpec, Shape], IntArray]

# Around the lengths of vectors, tiles and blocks, where remainders are forgotten.
TAPS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 257)
BITS = (8, 4, 2, 3, 1, 5, 7, 16)  # of codes
WIDE = (24, 25)  # for short sums: products that floats and 32-bit integers do not hold
SHORT = 33
NEAR_NEED = 2  # how far most registers are from the least that holds these sums
WIDTHS = (32, 16, 8, 31, 33, 53, 54, MAX_BITS)


@dataclass(frozen=True, slots=True, eq=False)
class Operands:
    """What a simulator is given. Shapes: x (B, K), weight (C, K), int64."""

    x: IntArray
    weight: IntArray
    accumulator: Accumulator


@st.composite
def operands(draw: st.DrawFn) -> Operands:
    """Some rows and channels, of codes at the ends of their ranges more than elsewhere.

    Lengths 0, 1 and around those of tiles; inputs and registers with and without a sign; most
    registers within 2 bits of what the sums need. Hypothesis chooses kinds and lengths, and the
    seed of the rest: codes drawn one by one would take a hundred times as long.
    """
    rng = np.random.default_rng(draw(below(2**12)))
    taps = 0 if draw(below(16)) == 15 else pick(draw, TAPS)
    widths = (*BITS, *WIDE) if taps <= SHORT else BITS
    weight_spec, input_spec = (code_range(draw, rng, pick(draw, widths)) for _ in range(2))
    rows, channels = rng.integers(1, 4, 2).tolist()
    weight = codes(draw, rng, weight_spec, (channels, taps))
    if draw(st.booleans()):
        x = codes(draw, rng, input_spec, (rows, taps))
    else:
        x = _turning(rng, weight[0], input_spec, (rows, taps))
    return Operands(x, weight, _register(draw, rng, x, weight))


def pick(draw: st.DrawFn, options: tuple[Any, ...]) -> Any:
    """One of the options."""
    return options[draw(below(len(options)))]


def code_range(draw: st.DrawFn, rng: np.random.Generator, bits: int) -> IntSpec:
    """A range of so many bits: signed, unsigned, narrow, lopsided about 0 or without it."""
    kind = draw(below(4))
    if kind < 2:
        return unsigned(bits) if kind else signed(bits)
    span = 2**bits - 1
    low = int(rng.integers(-span, 2 * span)) if kind == 3 else 1 - 2 ** (bits - 1)
    return between(low, low + span) if kind == 3 else between(low, max(0, -low))


def codes(draw: st.DrawFn, rng: np.random.Generator, spec: IntSpec, shape: Shape) -> IntArray:
    """Codes of a range, of a drawn pattern."""
    pattern: Pattern = pick(draw, PATTERNS)
    return pattern(rng, spec, shape)


def _ends(rng: np.random.Generator, spec: IntSpec, shape: Shape) -> IntArray:
    return rng.choice([spec.min, spec.max], shape)


def _near_ends(rng: np.random.Generator, spec: IntSpec, shape: Shape) -> IntArray:
    inward = rng.integers(0, 3, shape)
    codes = np.where(rng.random(shape) < 0.5, spec.min + inward, spec.max - inward)
    return codes.clip(spec.min, spec.max)


def _any(rng: np.random.Generator, spec: IntSpec, shape: Shape) -> IntArray:
    return rng.integers(spec.min, spec.max, shape, endpoint=True)


def _small(rng: np.random.Generator, spec: IntSpec, shape: Shape) -> IntArray:
    return rng.integers(-1, 2, shape).clip(spec.min, spec.max)


def _sparse(rng: np.random.Generator, spec: IntSpec, shape: Shape) -> IntArray:
    return np.where(rng.random(shape) < 0.2, _ends(rng, spec, shape), 0).clip(spec.min, spec.max)


def _equal(rng: np.random.Generator, spec: IntSpec, shape: Shape) -> IntArray:
    return np.tile(_ends(rng, spec, (shape[0], 1)), (1, shape[1]))


def _last(rng: np.random.Generator, spec: IntSpec, shape: Shape) -> IntArray:
    """Nothing but the last entry: what drops a remainder sees nothing at all."""
    codes = np.zeros(shape, np.int64)
    codes[:, -1:] = _ends(rng, spec, (shape[0], min(1, shape[1])))
    return codes.clip(spec.min, spec.max)


PATTERNS: tuple[Pattern, ...] = (_any, _ends, _near_ends, _small, _sparse, _equal, _last)


def _turning(rng: np.random.Generator, row: IntArray, spec: IntSpec, shape: Shape) -> IntArray:
    """Inputs that push the sum of one row out and, from some step on, back."""
    out = np.where((row > 0) == (rng.random() < 0.5), spec.max, spec.min)
    turns = rng.integers(0, shape[1] + 1, shape[0])
    return np.where(np.arange(shape[1]) < turns[:, None], out, spec.min + spec.max - out)


def _register(
    draw: st.DrawFn, rng: np.random.Generator, x: IntArray, weight: IntArray
) -> Accumulator:
    """Near the least that holds the sums of one output, or 2 bits, or of a usual width."""
    overflow, is_signed = list(Overflow)[draw(below(2))], draw(below(4)) != 3
    kind = draw(below(8))
    if kind == 7:
        return Accumulator(2, overflow, signed=is_signed)
    if kind == 6:
        return Accumulator(pick(draw, WIDTHS), overflow, signed=is_signed)
    sums = (rng.choice(x) * rng.choice(weight)).cumsum()
    low, high = int(sums.min(initial=0)), int(sums.max(initial=0))
    widths = range(2, MAX_BITS + 1)
    need = next(
        (bits for bits in widths if fits(low, high, Accumulator(bits, signed=is_signed))),
        high.bit_length(),  # no unsigned register holds negative sums
    )
    bits = need + draw(below(2 * NEAR_NEED + 1)) - NEAR_NEED
    return Accumulator(min(max(bits, 2), MAX_BITS), overflow, signed=is_signed)


def edits(case: Operands) -> Iterator[Edit[Operands]]:
    """Ways to simplify: fewer taps, rows and channels, codes nearer to 0, a plainer register."""
    taps = case.x.shape[1]
    size = taps
    while size:
        yield from (partial(_without_taps, first, size) for first in range(taps - size, -1, -size))
        size //= 2
    yield from (partial(_without_line, "x", i) for i in reversed(range(len(case.x))))
    yield from (partial(_without_line, "weight", i) for i in reversed(range(len(case.weight))))
    for name in ("x", "weight"):
        most = int(np.abs(getattr(case, name)).max(initial=0))
        steps = [most, *(2**i for i in reversed(range(most.bit_length())))]
        for place in np.ndindex(getattr(case, name).shape):
            yield from (partial(_nearer, name, place, step) for step in steps)
    yield partial(_registered, signed=True)
    yield partial(_registered, overflow=Overflow.WRAP)
    yield from (partial(_registered, bits=bits) for bits in range(2, case.accumulator.bits))


def _without_taps(first: int, size: int, case: Operands) -> Operands | None:
    if first >= case.x.shape[1]:
        return None
    kept = np.r_[:first, first + size : case.x.shape[1]]
    return replace(case, x=case.x[:, kept], weight=case.weight[:, kept])


def _without_line(name: str, index: int, case: Operands) -> Operands | None:
    array = getattr(case, name)
    if len(array) == 1 or index >= len(array):
        return None
    return replace(case, **{name: np.delete(array, index, axis=0)})


def _nearer(name: str, place: tuple[int, ...], step: int, case: Operands) -> Operands | None:
    """One code moved by `step` towards 0, at most to 0."""
    array = getattr(case, name)
    if any(i >= n for i, n in zip(place, array.shape, strict=True)) or array[place] == 0:
        return None
    array = array.copy()
    array[place] -= np.sign(array[place]) * min(step, abs(int(array[place])))
    return replace(case, **{name: array})


def _registered(case: Operands, **change: Any) -> Operands | None:
    """Another register, if it is plainer: narrower where `bits` change."""
    register = replace(case.accumulator, **change)
    if register.bits > case.accumulator.bits or register == case.accumulator:
        return None
    return replace(case, accumulator=register)
