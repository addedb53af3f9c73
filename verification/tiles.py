"""Sums in tiles, as AXE has them: the least inner and outer registers, beside what AXE asks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accsim._check import integer
from accsim.datapath import Datapath
from accsim.layer import IntLayer
from accsim.spec import MAX_BITS, MAX_TERMS, Accumulator
from verification.levels import level_reports

__all__ = ["TileWidths", "tile_widths"]


@dataclass(frozen=True, slots=True)
class TileWidths:
    """Two's complement widths for tiles of `tile` products, and a register that sums the tiles.

    `inner` and `outer` are the least that no input overflows at any step, exact, the layer's bias
    being where the outer one starts. `axe_inner` is what AXE's bound asks of the weights of each
    tile, None for inputs without 0; `axe_outer` what its formula asks for tiles of `inner` bits.
    """

    tile: int
    inner: int
    outer: int
    axe_inner: int | None
    axe_outer: int


def tile_widths(layer: IntLayer, tile: int) -> TileWidths:
    """The widths for a layer whose products are summed in tiles, in index order.

    Raises: SpecError for a tile of less than 1.
    Source: AXE (arXiv 2409.17092): in each tile the positive and the negative weights each sum to
    at most (2^(P-1) - 1) / (2^N - 1) in size, here with max - min of the inputs for 2^N - 1;
    P_O = ceil(P_I + log2 K - log2 T), here with whole tiles: P_I + ceil(log2 ceil(K / T)).

    >>> from accsim import signed, unsigned
    >>> layer = IntLayer([[1] * 272], weight_spec=signed(4), input_spec=unsigned(4))
    >>> tile_widths(layer, 16)
    TileWidths(tile=16, inner=9, outer=13, axe_inner=9, axe_outer=14)
    """
    tile = integer(tile, "tile", 1, MAX_TERMS)
    wide = Datapath([Accumulator(MAX_BITS, terms=tile), Accumulator(MAX_BITS)])
    inner, outer = (max(2, level.least_bits) for level in level_reports(layer, wide).reports)
    tiles = max(1, -(-layer.taps // tile))
    return TileWidths(tile, inner, outer, _axe_inner(layer, tile), inner + (tiles - 1).bit_length())


def _axe_inner(layer: IntLayer, tile: int) -> int | None:
    spec = layer.input_spec
    if not spec.contains_zero:
        return None
    rows = layer.rows.astype(object)
    sums = [
        int(part[:, k : k + tile].sum(axis=1).max())
        for part in (np.maximum(rows, 0), np.maximum(-rows, 0))
        for k in range(0, layer.taps, tile)
    ]
    return max(2, 1 + (max(sums, default=0) * (spec.max - spec.min)).bit_length())
