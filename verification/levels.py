"""What is decided of each level of a datapath: if it overflows, at which rail, and its widths."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from accsim import bounds
from accsim._check import IntArray
from accsim.datapath import Datapath
from accsim.layer import IntLayer
from verification.climbing import FALSE, TRUE, UNKNOWN, Codes, climbed
from verification.folds import longest, safe_folds
from verification.moments import Moments, Piece, moments, pieces
from verification.reachable import Budget, passed
from verification.verdict import Verdict

__all__ = ["LevelReport", "Levels", "level_ends", "level_reports", "levels_json"]

_WORK = 2**35  # bits of sets that are moved, for all channels of a layer: seconds

_FAR = 2**200  # no sum goes as far
_SAID = {FALSE: False, UNKNOWN: None, TRUE: True}

Flags = np.ndarray[Any, np.dtype[np.bool_]]
Bits = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True, eq=False)
class LevelReport:
    """What `decide` found of one level, whatever those below it have done to what they hand over.

    `rails`: whether a total can pass the lowest and the highest value of the register, before the
    overflow is applied; None where that is not known, which can only be of a register that wraps,
    or above one. PROVED: neither can be passed. `unsafe_channels` can overflow here, of
    `undecided_channels` it is not known. `least_bits`, and `channel_bits` (C,): of a two's
    complement register that holds every sum, if no level below overflows, and the bias if it
    starts at it. `longest_fold`: the most items that it may sum in groups of so many, each of which
    starts empty, without overflow for any input, if none below overflows; None if all may be summed
    at once, 0 if a single one is too much. `low`, `high` (C,): the ends of its exact sums.
    """

    verdict: Verdict
    rails: tuple[bool | None, bool | None]
    least_bits: int
    channel_bits: Bits
    longest_fold: int | None
    unsafe_channels: tuple[int, ...]
    undecided_channels: tuple[int, ...]
    low: IntArray
    high: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """Of all levels: their reports, which channels can overflow anywhere (C,), and `wrap_exact`."""

    reports: tuple[LevelReport, ...]
    unsafe: Flags
    wrap_exact: bool


def level_reports(layer: IntLayer, datapath: Datapath) -> Levels:
    """Decide every level, in exact integers.

    Until anything overflows each level holds exact sums of its own group. So something overflows
    for some input if and only if, at some level, an exact sum can be outside its register when that
    applies its overflow; and extremes of a sum are sums of extreme products. What the levels above
    do then: `climbing`, and `reachable`.
    """
    at = moments(datapath, len(datapath.places(layer.taps)))
    levels, budget = len(at), Budget(_WORK)
    low = np.full((levels, layer.channels), _FAR, object)
    high = -low
    rails = np.zeros((levels, layer.channels, 2), np.int8)
    folds: list[Flags] = []
    exact = True
    for piece in pieces(layer, datapath):
        own = slice(piece.first, piece.first + len(piece.low))
        ends = [_ends(piece, one, _starts(piece, datapath, i)) for i, one in enumerate(at)]
        low[:, own] = np.minimum(low[:, own], np.array([each[0] for each in ends], object))
        high[:, own] = np.maximum(high[:, own], np.array([each[1] for each in ends], object))
        here = safe_folds(piece.low, piece.high, datapath)
        folds = [a & b for a, b in zip(folds, here, strict=True)] if folds else here
        exact = exact and _wrap_exact(piece, at, datapath)
        rails[:, own] = np.maximum(
            rails[:, own], _rails(layer, datapath, piece, ends, rails, budget)
        )
    over = [~bounds.fits(low[i], high[i], level) for i, level in enumerate(datapath.levels)]
    longests = [*map(longest, folds), *[None] * (levels - len(folds))]
    return Levels(
        tuple(_report(*found) for found in zip(rails, low, high, longests, strict=True)),
        np.logical_or.reduce([each.astype(bool) for each in over]),
        exact,
    )


def level_ends(layer: IntLayer, datapath: Datapath, level: int) -> tuple[IntArray, IntArray]:
    """The lowest and the highest exact sum of one level over all inputs: (C,) each."""
    at = moments(datapath, len(datapath.places(layer.taps)))[level]
    low = np.full(layer.channels, _FAR, object)
    high = -low
    for piece in pieces(layer, datapath):
        own = slice(piece.first, piece.first + len(piece.low))
        lows, highs = _ends(piece, at, _starts(piece, datapath, level))
        low[own] = np.minimum(low[own], lows)
        high[own] = np.maximum(high[own], highs)
    return low, high


def _ends(piece: Piece, at: Moments, starts: list[IntArray]) -> tuple[IntArray, IntArray]:
    """The lowest and the highest exact sum of a level, by channel, what it starts at included."""
    first = np.stack(starts, axis=1)
    lows, highs = at.sums(piece.low, piece.bias), at.sums(piece.high, piece.bias)
    return (
        np.concatenate([first, lows], axis=1).min(axis=1),
        np.concatenate([first, highs], axis=1).max(axis=1),
    )


def _starts(piece: Piece, datapath: Datapath, level: int) -> list[IntArray]:
    """What a level starts at, and a bias that comes last: both must be in the register."""
    none = np.zeros_like(piece.bias)
    if level != datapath.summing:
        return [none]
    return [piece.bias] if datapath.bias == "first" else [none, piece.bias]


def _wrap_exact(piece: Piece, at: tuple[Moments, ...], datapath: Datapath) -> bool:
    """Whether registers that wrap surely end at the exact sum, whatever overflows on the way.

    Each hands over its sum modulo 2^bits. The last one must hold the final sum; one that is
    narrower than all after it must hold what it hands over, and others need not.
    """
    held = datapath.last.bits + 1
    for level, one in reversed(list(zip(datapath.levels, at, strict=True))):
        if level.bits < held:
            held = level.bits
            lows = one.sums(piece.low, piece.bias)[:, one.complete]
            highs = one.sums(piece.high, piece.bias)[:, one.complete]
            if not bounds.fits(lows, highs, level).all():
                return False
    return True


def _rails(
    layer: IntLayer,
    datapath: Datapath,
    piece: Piece,
    ends: list[tuple[IntArray, IntArray]],
    before: Codes,
    budget: Budget,
) -> Codes:
    """Which rails totals pass, for the channels of a piece: codes (levels, channels, 2).

    `before`: what is known of the layer. Sets of all that registers can hold are made for channels
    of which extremes do not tell whether a level overflows, or alone might tell of a rail.
    """
    safe = [bounds.fits(*each, level) for each, level in zip(ends, datapath.levels, strict=True)]
    bad = np.flatnonzero(~np.logical_and.reduce([each.astype(bool) for each in safe]))
    codes = np.full((len(ends), len(piece.low), 2), FALSE, np.int8)
    if not len(bad):
        return codes
    codes[:, bad] = climbed(piece.low[bad], piece.high[bad], piece.bias[bad], datapath)
    for channel in bad.tolist():
        seen = (before == TRUE).any(axis=1) | (codes == TRUE).any(axis=1)
        own = codes[:, channel]
        unknown = own == UNKNOWN
        wanted = unknown & ((own != TRUE).all(axis=1, keepdims=True) | ~seen)
        if wanted.any():
            found = passed(
                piece.weights[channel].tolist(),
                layer.input_spec,
                int(piece.bias[channel]),
                datapath,
                budget,
                levels=int(np.flatnonzero(wanted.any(axis=1))[-1]) + 1,
            )
            own[: len(found)] = np.where(np.reshape(found, (-1, 2)), TRUE, FALSE)
    return codes


def _report(rails: Codes, low: IntArray, high: IntArray, fold: int | None) -> LevelReport:
    """Of one level, from the codes of its channels (C, 2) and their extremes."""
    worst = rails.max(axis=1)
    bits = bounds.bits_per_channel(low, high)
    unsafe, unknown = ((worst == code) for code in (TRUE, UNKNOWN))
    verdict = Verdict.UNDECIDED if unknown.any() else Verdict.PROVED
    low_rail, high_rail = (_SAID[int(code)] for code in rails.max(axis=0))
    return LevelReport(
        Verdict.REFUTED if unsafe.any() else verdict,
        (low_rail, high_rail),
        int(bits.max()),
        bits,
        fold,
        tuple(np.flatnonzero(unsafe).tolist()),
        tuple(np.flatnonzero(unknown).tolist()),
        low,
        high,
    )


def levels_json(reports: Iterable[LevelReport]) -> list[dict[str, Any]]:
    """What is decided of each level, as plain values."""
    return [
        {
            "verdict": str(level.verdict),
            "rails": list(level.rails),
            "least_bits": level.least_bits,
            "channel_bits": level.channel_bits.tolist(),
            "longest_fold": level.longest_fold,
            "unsafe_channels": list(level.unsafe_channels),
            "undecided_channels": list(level.undecided_channels),
        }
        for level in reports
    ]
