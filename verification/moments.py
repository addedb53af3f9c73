"""When the levels of a datapath apply their overflow, and the exact sums that stand there then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from accsim import bounds
from accsim._check import IntArray
from accsim.datapath import Datapath
from accsim.layer import IntLayer
from accsim.padding import padding_masks
from accsim.spec import Rail
from accsim.tree import placed, reach

__all__ = ["Moments", "Piece", "moments", "pieces"]

_BLOCK = 2**20  # products that are looked at at a time
_PLAIN = 2**62  # sums below it in size are taken in int64, others in Python integers


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Of one level: it applies its overflow to the sums of places starts..ends-1, in this order.

    Each with the layer's bias, or without it. `unit`: how many places one item of it covers.
    Shapes: (moments,) each.
    """

    unit: int
    starts: IntArray
    ends: IntArray
    biased: np.ndarray[Any, np.dtype[np.bool_]]

    @property
    def complete(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which of them are the ends of groups, at which the level hands over. Shape: (moments,)"""
        last = np.ones(len(self.starts), np.bool_)
        last[:-1] = self.starts[1:] != self.starts[:-1]
        return last

    def sums(self, products: IntArray, bias: IntArray) -> IntArray:
        """What stands there. Shapes: products (C, places), bias (C,) -> (C, moments)."""
        zero = np.zeros((len(products), 1), products.dtype)
        until = np.concatenate([zero, products], axis=1).cumsum(axis=1)
        own = bias[:, None] * self.biased.astype(bias.dtype)
        found: IntArray = until[:, self.ends] - until[:, self.starts] + own
        return found


def moments(datapath: Datapath, places: int) -> tuple[Moments, ...]:
    """Those of every level, inner to outer, for so many places.

    The end of a sum whose register has settled on its last item already is not told again.
    """
    found = []
    units = (1, *datapath.spans)
    for i, level in enumerate(datapath.levels):
        unit = units[min(i, datapath.summing)]
        steps = level.rail is Rail.STEP
        if i < datapath.summing:
            ends = _ends(places, unit if steps else units[i + 1])
            starts = (ends - 1) // units[i + 1] * units[i + 1]
            found.append(Moments(unit, starts, ends, np.zeros(len(ends), bool)))
            continue
        ends = _ends(places, unit if steps and i == datapath.summing else max(places, 1))
        first = datapath.bias == "first"
        biased = np.full(len(ends), first or i > datapath.summing or not steps)
        if not len(ends) or not biased[-1]:  # nothing came, or the bias comes last
            ends, biased = np.append(ends, places), np.append(biased, True)
        found.append(Moments(unit, np.zeros_like(ends), ends, biased))
    return tuple(found)


def _ends(places: int, step: int) -> IntArray:
    """The places after each `step` of them, and after the last."""
    return np.append(np.arange(step, places, step), places) if places else np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Some channels of a layer at the places of a datapath, for one set of taps inside the image.

    Shapes: mask (K,), low and high, the least and greatest product at each place, (C, places),
    bias (C,). `first` is the first channel.
    """

    first: int
    mask: np.ndarray[Any, np.dtype[np.bool_]]
    weights: IntArray
    low: IntArray
    high: IntArray
    bias: IntArray


def pieces(layer: IntLayer, datapath: Datapath) -> Iterator[Piece]:
    """All channels, a block at a time, for every set of taps that can be inside an image."""
    kind = np.int64 if reach(layer, datapath) < _PLAIN else object
    places = datapath.places(layer.taps)
    needed = layer.pads and not layer.input_spec.contains_zero
    masks = padding_masks(layer) if needed else np.ones((1, layer.taps), dtype=bool)
    bias = np.zeros(layer.channels, np.int64) if layer.bias is None else layer.bias
    step = max(1, _BLOCK // max(1, len(places)))
    for first in range(0, layer.channels, step):
        own = slice(first, first + step)
        for mask in masks:
            weights = placed(layer.rows[own] * mask, places, axis=1)
            low, high = bounds.tap_products(weights.astype(kind), layer.input_spec)
            yield Piece(first, mask, weights, low, high, bias[own].astype(kind))
