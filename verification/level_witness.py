"""Inputs that drive a level of a datapath to its extremes, and the least that overflow one."""

from __future__ import annotations

import numpy as np

from accsim._check import IntArray, integer
from accsim.datapath import Datapath
from accsim.layer import IntLayer
from accsim.spec import IntSpec
from accsim.tree import check_tree
from verification.least import least_overflow
from verification.moments import Piece, moments, pieces
from verification.witness import Witness, witness_of
from verification.worst import idle_input

__all__ = ["find_level_witness", "worst_group_inputs"]


def worst_group_inputs(
    layer: IntLayer, datapath: Datapath, channel: int, *, level: int, group: int | None = None
) -> tuple[IntArray, IntArray]:
    """The inputs that drive a level's exact sum lowest and highest in one of its groups.

    As the level applies its overflow, and under the datapath's lane map; all other taps are as near
    0 as they may be. `group` counts those of the level; None: the one that goes farthest. Of a
    convolution all taps are inside the image.

    Shapes: two arrays (K,), int64, in the index order of the channel's taps.
    Raises: SpecError for a channel, level or group that is not there; as `simulate`.
    """
    check_tree(layer, datapath)
    channel = integer(channel, "channel", 0, layer.channels - 1)
    level = integer(level, "level", 0, len(datapath.levels) - 1)
    places = datapath.places(layer.taps)
    one = _channel(layer, channel)
    piece = next(pieces(one, datapath))
    at = moments(datapath, len(places))[level]
    starts = datapath.starts(level, len(places))
    own = np.arange(len(at.starts))
    if group is not None:
        group = integer(group, "group", 0, len(starts) - 1)
        own = np.flatnonzero(at.starts == starts[group])
    found = []
    for side, products in ((-1, piece.low), (1, piece.high)):
        sums = at.sums(products, piece.bias)[0][own] * side
        k = int(own[sums.argmax()]) if len(own) else 0
        inside = range(int(at.starts[k]), int(at.ends[k])) if len(own) else range(0)
        found.append(_driven(layer.rows[channel], layer.input_spec, places[inside], side))
    return found[0], found[1]


def _channel(layer: IntLayer, channel: int) -> IntLayer:
    """One channel as a linear layer, all taps inside the image."""
    return IntLayer(
        layer.rows[channel : channel + 1],
        weight_spec=layer.weight_spec,
        input_spec=layer.input_spec,
        bias=None if layer.bias is None else layer.bias[channel : channel + 1],
    )


def _driven(row: IntArray, spec: IntSpec, taps: IntArray, side: int) -> IntArray:
    """The input of the highest (side 1) or lowest (-1) products of some taps, the rest idle."""
    x = np.full(len(row), idle_input(spec), dtype=np.int64)
    taps = taps[taps >= 0]
    up = row[taps].astype(np.int64) * side
    x[taps] = np.select([up > 0, up < 0], [spec.max, spec.min], x[taps])
    return x


def find_level_witness(layer: IntLayer, datapath: Datapath) -> Witness | None:
    """A witness, sought from the innermost level that can overflow; None if none can.

    Of the channel whose sums go farthest beyond its rails the sum of the fewest places that does,
    every entry as near 0 as it may be: none can move toward 0 and anything still overflow. What
    overflows in the end may be a level above, which takes less.
    """
    at = moments(datapath, len(datapath.places(layer.taps)))
    worst: tuple[tuple[int, int], int, Piece] | None = None
    for piece in pieces(layer, datapath):
        for i, (level, one) in enumerate(zip(datapath.levels, at, strict=True)):
            over = np.maximum(
                level.min - one.sums(piece.low, piece.bias).min(axis=1, initial=0),
                one.sums(piece.high, piece.bias).max(axis=1, initial=0) - level.max,
            )
            channel = int(over.argmax())
            rank = (-i, int(over[channel]))
            if rank[1] > 0 and (worst is None or rank > worst[0]):
                worst = rank, channel, piece
    if worst is None:
        return None
    (level_below, _), channel, piece = worst
    x = least_overflow(layer, datapath, piece, channel, at, level=-level_below)
    return witness_of(layer, piece.first + channel, x, datapath, mask=piece.mask)
