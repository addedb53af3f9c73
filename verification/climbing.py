"""How far the totals of a level go, once those below may have overflowed: extremes, level by level.

Products are independent of each other, since each tap is read once, and so are the items that a
level is handed, which come from other products each. A register that saturates grows with each of
its items, so that all its totals are greatest, and least, where all items are. One that wraps does
so until it overflows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from accsim._check import IntArray
from accsim.datapath import Datapath
from accsim.spec import Accumulator, Overflow, Rail

__all__ = ["FALSE", "TRUE", "UNKNOWN", "climbed"]

FALSE, UNKNOWN, TRUE = 0, 1, 2  # whether some total passes a rail: joined by their maximum

Codes = np.ndarray[Any, np.dtype[np.int8]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True, eq=False)
class _Items:
    """The least and the greatest of each item that a level is handed: (C, items).

    `attained` (C,): some input has each of them; else they are bounds.
    """

    low: IntArray
    high: IntArray
    attained: Flags


def climbed(low: IntArray, high: IntArray, bias: IntArray, datapath: Datapath) -> list[Codes]:
    """Whether totals pass the lowest and the highest value of each level, as extremes tell.

    Shapes: low and high (C, places), the least and greatest products; bias (C,) -> for each level,
    inner to outer, (C, 2): FALSE, TRUE or UNKNOWN.
    """
    items = _Items(low, high, np.ones(len(low), bool))
    found = []
    for i, level in enumerate(datapath.levels):
        start = np.zeros_like(bias)
        if i == datapath.summing and datapath.bias == "first":
            start = bias
        elif i == datapath.summing:
            low, high = (
                np.concatenate([each, bias[:, None]], axis=1) for each in (items.low, items.high)
            )
            items = _Items(low, high, items.attained)
        rails, items = _level(level, items, start)
        found.append(rails)
    return found


def _level(level: Accumulator, items: _Items, start: IntArray) -> tuple[Codes, _Items]:
    """Which rails its totals pass, and what the level hands over."""
    low, high = (_grouped(each, level.terms) for each in (items.low, items.high))
    begin = start[:, None]
    if level.rail is Rail.SUM or level.overflow is Overflow.WRAP:
        # the sums of an unbounded register: what it holds, until it overflows
        lows, highs = (begin[..., None] + each.cumsum(axis=2) for each in (low, high))
        if level.rail is Rail.SUM:
            lows, highs = lows[..., -1:], highs[..., -1:]
        below, above = (lows < level.min).any((1, 2)), (highs > level.max).any((1, 2))
        out_low, out_high = lows[..., -1], highs[..., -1]
    else:
        (below, _), out_low = _saturated(level, low, begin)
        (_, above), out_high = _saturated(level, high, begin)
    rails = np.where(np.stack([below, above], axis=1), TRUE, FALSE).astype(np.int8)
    if level.overflow is Overflow.WRAP:
        turned: Flags = (rails == TRUE).any(axis=1)
        if level.rail is Rail.STEP:  # once over one rail it may come back over the other
            moving = [(items.low < 0).any(axis=1), (items.high > 0).any(axis=1)]
            for side, moves in enumerate(moving):
                rails[(rails[:, side] == FALSE) & turned & moves, side] = UNKNOWN
        full = turned[:, None]
        out_low, out_high = np.where(full, level.min, out_low), np.where(full, level.max, out_high)
        attained = items.attained & ~turned
    else:
        out_low, out_high = (np.clip(each, level.min, level.max) for each in (out_low, out_high))
        attained = items.attained
    rails[(rails == TRUE) & ~items.attained[:, None]] = UNKNOWN
    return rails, _Items(out_low, out_high, attained)


def _grouped(items: IntArray, terms: int | None) -> IntArray:
    """Items as (C, groups, terms); items of 0, which change nothing, fill up the last group."""
    channels, count = items.shape
    size = max(1, count if terms is None else min(terms, count))
    groups = -(-count // size) if terms is not None else 1
    missing = np.zeros((channels, groups * size - count), items.dtype)
    return np.concatenate([items, missing], axis=1).reshape(channels, groups, size)


def _saturated(
    level: Accumulator, items: IntArray, begin: IntArray
) -> tuple[tuple[Flags, Flags], IntArray]:
    """Whether totals go below and above the register, by channel, and what it holds at last."""
    held = np.broadcast_to(begin, items.shape[:2])
    below = np.zeros(len(items), bool)
    above = below.copy()
    for k in range(items.shape[2]):
        total = held + items[..., k]
        below |= (total < level.min).any(axis=1)
        above |= (total > level.max).any(axis=1)
        held = np.clip(total, level.min, level.max)
    return (below, above), held
