"""An input that overflows some level of a datapath, every entry as near 0 as it may be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accsim._check import IntArray
from accsim.datapath import Datapath
from accsim.layer import IntLayer
from verification.moments import Moments, Piece
from verification.worst import idle_input

__all__ = ["least_overflow"]


@dataclass(frozen=True, slots=True, eq=False)
class _Channel:
    """Of one channel: weights at each place, the bias, and when what is looked at."""

    weights: IntArray
    bias: IntArray
    idle: int
    datapath: Datapath
    at: tuple[Moments, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Excess:
    """How far the sums that hold each place are beyond a rail: the most of them, by place.

    `above` its register or `below` it, and whether one is that does not hold the place.
    """

    above: IntArray
    below: IntArray
    elsewhere: IntArray


def least_overflow(
    layer: IntLayer,
    datapath: Datapath,
    piece: Piece,
    channel: int,
    at: tuple[Moments, ...],
    *,
    level: int,
) -> list[int]:
    """The entries (K,) of a channel of the piece for which `level` can overflow.

    An input overflows something if and only if an exact sum is outside its register: the first
    overflow finds exact sums. So one entry, the others staying, overflows nothing on an interval.
    """
    one = _Channel(
        piece.weights[channel].astype(piece.low.dtype),
        piece.bias[channel : channel + 1],
        idle_input(layer.input_spec),
        datapath,
        at,
    )
    values = _shortest(one, piece, channel, level, layer.input_spec.min, layer.input_spec.max)
    while (nearer := _one_nearer(one, values)) is not None:
        values = nearer
    places = datapath.places(layer.taps)
    x = np.full(layer.taps, one.idle, dtype=object)
    x[places[places >= 0]] = values[places >= 0]
    found: list[int] = x.tolist()
    return found


def _shortest(
    one: _Channel, piece: Piece, channel: int, level: int, least: int, most: int
) -> IntArray:
    """Values at each place that take the sum of the fewest places that can just beyond its rail."""
    own = slice(channel, channel + 1)
    register, at = one.datapath.levels[level], one.at[level]
    over = [
        at.sums(piece.high[own], one.bias)[0] - register.max,
        register.min - at.sums(piece.low[own], one.bias)[0],
    ]
    beyond = np.maximum(*over) > 0
    k = int(np.where(beyond, at.ends - at.starts, len(one.weights) + 1).argmin())
    side = 1 if over[0][k] > 0 else -1
    inside = range(int(at.starts[k]), int(at.ends[k]))
    values = np.full(len(one.weights), one.idle, piece.low.dtype)
    room = int(over[side < 0][k]) - 1  # what may be given up
    pulls = []
    for j in inside:
        up = side * int(one.weights[j])
        worst = most if up > 0 else least if up < 0 else one.idle
        pull = up * (worst - one.idle)
        values[j] = worst if pull > 0 else one.idle
        room -= min(pull, 0)
        pulls.append(max(pull, 0))
    for j, pull in zip(inside, pulls, strict=True):
        if pull:
            size, distance = abs(int(one.weights[j])), abs(int(values[j]) - one.idle)
            moves = min(distance, room // size)
            room -= moves * size
            values[j] += moves if values[j] < one.idle else -moves
    return values


def _one_nearer(one: _Channel, values: IntArray) -> IntArray | None:
    """The values with one of them as near to 0 as something still overflows; None if none can."""
    excess = _excess(one, values)
    for j in np.flatnonzero(values != one.idle).tolist():
        value, weight = int(values[j]), int(one.weights[j])
        distance, toward = abs(value - one.idle), 1 if value < one.idle else -1
        step = weight * toward  # what a sum gains by a move
        above, below = int(excess.above[j]), int(excess.below[j])
        if excess.elsewhere[j] or above + distance * step > 0 or below - distance * step > 0:
            moves = distance
        else:  # those beyond a rail come back to it
            leaving = above if step < 0 else below
            moves = max(leaving - 1, 0) // abs(step) if step else 0
        if moves:
            nearer = values.copy()
            nearer[j] = value + moves * toward
            return nearer
    return None


def _excess(one: _Channel, values: IntArray) -> _Excess:
    places = np.arange(len(values))
    products = (one.weights * values)[None]
    found, failing, holding = [], 0, np.zeros(len(values), np.int64)
    for level, at in zip(one.datapath.levels, one.at, strict=True):
        sums = at.sums(products, one.bias)[0]
        both = [sums - level.max, level.min - sums]
        beyond = (np.maximum(*both) > 0).astype(np.int64)
        first = np.searchsorted(at.ends, places, side="right")  # of those that hold a place
        size = int((at.starts == 0).sum())  # moments of a full group; the last may have fewer
        most = [_to_the_end(each, size, np.maximum)[first] for each in both]
        found.append(most)
        failing += int(beyond.sum())
        holding += _to_the_end(beyond, size, np.add)[first]
    above, below = (np.maximum.reduce([each[side] for each in found]) for side in (0, 1))
    return _Excess(above, below, failing > holding)


def _to_the_end(values: IntArray, size: int, join: np.ufunc) -> IntArray:
    """Of each moment the join of those from it to the end of its group, of `size` moments."""
    if not size:
        return values
    filler = 0 if join is np.add else values.min()
    missing = np.full(-len(values) % size, filler, values.dtype)
    table = np.concatenate([values, missing]).reshape(-1, size)
    joined: IntArray = join.accumulate(table[:, ::-1], axis=1)[:, ::-1].reshape(-1)[: len(values)]
    return joined
