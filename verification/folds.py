"""How many items a level may sum before it hands over: exact for weights, and by types alone."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from accsim._check import IntArray
from accsim.datapath import Datapath
from accsim.spec import Accumulator, IntSpec, Rail

__all__ = ["longest", "safe_folds", "type_folds"]

Flags = np.ndarray[Any, np.dtype[np.bool_]]


def safe_folds(low: IntArray, high: IntArray, datapath: Datapath) -> list[Flags]:
    """Of each level up to the summing one: which numbers of items it may sum, 1 and on.

    So many that no group of it overflows, where groups begin, empty, at multiples of so many items,
    the last as it comes, and no level below has overflowed. That more are safe does not make fewer
    safe: they are other groups. Shapes: low and high, extreme products, (C, places) -> (items,).
    """
    found = []
    until_low, until_high = _until(low), _until(high)
    places = low.shape[1]
    for unit, level in zip((1, *datapath.spans), datapath.levels, strict=False):
        at = np.append(np.arange(0, places, unit), places)
        check = _by_steps if level.rail is Rail.STEP else _by_sums
        found.append(check(until_low[:, at], until_high[:, at], level))
    return found


def longest(safe: Flags) -> int | None:
    """The most items of those that are safe; None if all together are; 0 if none are."""
    if not len(safe) or safe[-1]:
        return None
    return int(np.flatnonzero(safe)[-1]) + 1 if safe.any() else 0


def _until(products: IntArray) -> IntArray:
    """What comes before each place, and after the last."""
    zero = np.zeros((len(products), 1), products.dtype)
    sums: IntArray = np.concatenate([zero, products], axis=1).cumsum(axis=1)
    return sums


def _by_sums(low: IntArray, high: IntArray, level: Accumulator) -> Flags:
    """Where only whole sums count; low and high (C, items + 1) are what comes before each item."""
    items = low.shape[1] - 1
    safe = np.ones(items, bool)
    for n in range(1, items + 1):
        edges = np.append(np.arange(0, items, n), items)
        lows, highs = np.diff(low[:, edges]), np.diff(high[:, edges])
        safe[n - 1] = (lows >= level.min).all() and (highs <= level.max).all()
    return safe


def _by_steps(low: IntArray, high: IntArray, level: Accumulator) -> Flags:
    """Where every addition counts."""
    items = low.shape[1] - 1
    room = np.full(items, items + 1)
    for lows, highs in zip(low, high, strict=True):
        room = np.minimum(room, _room(highs, level.max))
        room = np.minimum(room, _room(-lows, -level.min))
    # from each item on: so many, or all that are left
    enough = np.where(room >= items - np.arange(items), items + 1, room)
    return np.array([bool((enough[::n] >= n).all()) for n in range(1, items + 1)], bool)


def _room(sums: IntArray, most: int) -> IntArray:
    """From each item on, how many can be added before what is added exceeds `most`.

    By ever smaller jumps over stretches whose largest sum is known: m log m for m items.
    """
    items = len(sums) - 1
    if (sums[1:] >= sums[:-1]).all():  # as they are where 0 is an input
        return np.searchsorted(sums, sums[:-1] + most, side="right") - 1 - np.arange(items)
    tops = [sums]
    while 2 ** len(tops) <= items:
        half = 2 ** (len(tops) - 1)
        tops.append(np.maximum(tops[-1][:-half], tops[-1][half:]))
    at = np.arange(items)
    limit = sums[:-1] + most
    for k in reversed(range(len(tops))):
        jump = at + 2**k <= items
        highest = tops[k][np.where(jump, at + 1, 0)]
        at = np.where(jump & (highest <= limit), at + 2**k, at)
    return at - np.arange(items)


def type_folds(
    datapath: Datapath, weight_spec: IntSpec, input_spec: IntSpec
) -> tuple[int | None, ...]:
    """The same of each level up to the summing one, for every weight and input of these ranges.

    Two codes of 0 to 2 times INT8 are at most 508, and at least -512, so that int16 takes 64:

    >>> from accsim import between, signed
    >>> lane = Accumulator(16, terms=128)
    >>> pairs = Datapath([Accumulator(16, "saturate", terms=2, rail="sum"), lane, Accumulator(32)])
    >>> type_folds(pairs, between(0, 2), signed(8))
    (128, 64, 32768)
    """
    corners = [
        q * x for q in (weight_spec.min, weight_spec.max) for x in (input_spec.min, input_spec.max)
    ]
    sizes = [level.terms or 1 for level in datapath.levels[: datapath.summing]]
    found = []
    for i, level in enumerate(datapath.levels[: datapath.summing + 1]):
        unit = prod(sizes[:i])
        rooms = [level.max // (unit * max(corners))] if max(corners) > 0 else []
        rooms += [level.min // (unit * min(corners))] if min(corners) < 0 else []
        found.append(min(rooms, default=None))
    return tuple(found)
