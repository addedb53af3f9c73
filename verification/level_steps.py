"""Datapaths in numpy: all outputs at once, one pass per place and level; slow, and no kernel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accsim._check import IntArray
from accsim.datapath import Datapath
from accsim.spec import Accumulator, Overflow, Rail
from verification.properties import FIELDS

__all__ = ["level_fields", "reduce_all"]


@dataclass(slots=True)
class _Level:
    """What a level's registers hold, and would hold were they unbounded: (M, C) each."""

    register: Accumulator
    held: IntArray
    exact: IntArray
    low: IntArray
    high: IntArray

    def add(self, item: IntArray, exact: IntArray) -> None:
        self.held += item
        self.exact += exact

    def settle(self) -> IntArray:
        """Apply the level's overflow; where it did."""
        before = self.held.copy()
        reduce_all(self.held, self.register)
        np.minimum(self.low, self.exact, out=self.low)
        np.maximum(self.high, self.exact, out=self.high)
        missed: IntArray = before != self.held
        return missed


def level_fields(x: IntArray, w: IntArray, datapath: Datapath) -> dict[str, IntArray]:
    """Every field of `Run`, in int64, without a bias; those of single levels are left out.

    Shapes: x (M, K), w (C, K) -> (M, C).
    """
    places = datapath.places(x.shape[1])
    columns, taps = (
        np.where(places >= 0, side[:, places], 0).T.astype(np.int64) for side in (x, w)
    )
    shape = (len(x), len(w))
    levels = [_Level(one, *np.zeros((4, *shape), np.int64)) for one in datapath.levels]
    inner, summing = levels[: datapath.summing], levels[datapath.summing]
    count, first = np.zeros(shape, np.int64), np.full(shape, -1, np.int64)

    def settle(level: _Level, place: int) -> None:
        missed = level.settle()
        first[missed & (count == 0)] = place
        count[...] += missed

    for place in range(len(places)):
        item = exact = columns[place][:, None] * taps[place]
        for level, span in zip(inner, datapath.spans, strict=True):
            level.add(item, exact)
            complete = (place + 1) % span == 0 or place + 1 == len(places)
            if complete or level.register.rail is Rail.STEP:
                settle(level, place)
            if not complete:
                break
            item, exact = level.held, level.exact
            level.held, level.exact = np.zeros_like(item), np.zeros_like(exact)
        else:
            summing.add(item, exact)
            if summing.register.rail is Rail.STEP:
                settle(summing, place)
    end = max(len(places) - 1, 0)
    settle(summing, end)
    for below, level in zip(levels[len(inner) :], levels[len(inner) + 1 :], strict=False):
        level.add(below.held, below.exact)
        settle(level, end)
    found = (levels[-1].held, count, first, summing.low, summing.high)
    return dict(zip(FIELDS, found, strict=True))


def reduce_all(registers: IntArray, accumulator: Accumulator) -> None:
    """What they keep, by the register's own rule, in place."""
    if accumulator.overflow is Overflow.SATURATE:
        np.clip(registers, accumulator.min, accumulator.max, out=registers)
        return
    registers -= accumulator.min
    registers &= 2**accumulator.bits - 1
    registers += accumulator.min
