"""The compiled twin of `arith.fold` for datapaths: plain loops over many outputs at once.

As in `portable`, a *lane* is one output position and the innermost loop; a *panel* (places, lanes)
holds the inputs that one place after another multiplies, already in the datapath's order. A *level*
is a row of a table: lowest, highest, 2^bits - 1, whether it saturates, whether it settles after
every addition, and how many places a full group covers (0: all).

Preconditions, checked by `accsim.tree`: no sum can leave the lane type.

The functions are jitted by call, so that they also run as Python (NUMBA_DISABLE_JIT=1). Arithmetic
on np.int32 is promoted to int64 by numba: each result is cast back to the lane type at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = Any  # numba types its arguments itself

LANES = 128  # output positions in a panel
CHANNELS = 64  # output channels that share a panel
PLACES = 256  # places in a panel

LOW, HIGH, MASK, SATURATES, STEPS, SPAN = range(6)  # columns of a table of levels
HELD, EXACT, COUNT, FIRST, PEAK_LOW, PEAK_HIGH = range(6)  # what is known of a level


def _settle(row: Array, level: Array) -> None:
    """Apply the level's overflow to what it holds."""
    lane = row.dtype.type
    low, high, mask = level[LOW], level[HIGH], level[MASK]
    if level[SATURATES]:
        for r in range(len(row)):
            row[r] = min(max(row[r], low), high)
    else:
        for r in range(len(row)):
            row[r] = lane(lane(lane(row[r] - low) & mask) + low)


def _add(row: Array, q: Any, x: Array) -> None:
    """Another product in each lane."""
    lane = row.dtype.type
    for r in range(len(row)):
        row[r] = lane(row[r] + q * x[r])


def _add_saturating(row: Array, q: Any, x: Array, low: Any, high: Any) -> None:
    """Likewise, in a register that saturates after every addition."""
    lane = row.dtype.type
    for r in range(len(row)):
        row[r] = min(max(lane(row[r] + q * x[r]), low), high)


def _hand_on(held: Array, levels: Array, summing: int, done: int, places: int) -> None:
    """Hand complete groups up the levels, after `done` of all places.

    One that wraps after every addition does so once, here: both keep the sum modulo 2^bits.
    """
    lane = held.dtype.type
    for i in range(summing):
        if done % levels[i, SPAN] != 0 and done != places:
            return
        below, above = held[i], held[i + 1]
        _settle(below, levels[i])
        for r in range(len(below)):
            above[r] = lane(above[r] + below[r])
            below[r] = lane(0)
        if levels[i + 1, STEPS]:
            _settle(above, levels[i + 1])


def _climb(
    held: Array, scalars: Array, panel: Array, levels: Array, summing: int, at: Array
) -> None:
    """The products of a panel, at[0] of at[1] places being done before; held (levels, lanes)."""
    bottom = levels[0]
    fused = bottom[SATURATES] and bottom[STEPS]
    span = levels[0, SPAN] if summing else at[1]
    k = 0
    while k < len(scalars):
        end = min(len(scalars), k + span - (at[0] + k) % span)
        for j in range(k, end):
            if fused:
                _add_saturating(held[0], scalars[j], panel[j], bottom[LOW], bottom[HIGH])
            else:
                _add(held[0], scalars[j], panel[j])
        k = end
        _hand_on(held, levels, summing, at[0] + k, at[1])


def _start(row: Array, one: Any, many: Array) -> None:
    """Add what the registers start at, or get last, in two parts: of the row, and by lane."""
    lane = row.dtype.type
    for r in range(len(row)):
        row[r] = lane(row[r] + lane(one + many[r]))


def _finish(held: Array, levels: Array, summing: int) -> None:
    """The summing level's overflow, and the read-outs."""
    _settle(held[summing], levels[summing])
    for i in range(summing + 1, len(held)):
        held[i] = held[i - 1]
        _settle(held[i], levels[i])


_settle = njit(cache=True)(_settle)
_add = njit(cache=True)(_add)
_add_saturating = njit(cache=True)(_add_saturating)
_hand_on = njit(cache=True)(_hand_on)
_climb = njit(cache=True)(_climb)
_start = njit(cache=True)(_start)
_finish = njit(cache=True)(_finish)


def tasks(positions: int, channels: int) -> int:
    """How many tasks there are for so many output positions of so many channels."""
    return -(-positions // LANES) * -(-channels // CHANNELS)


def _block(task: int, positions: int, channels: int) -> tuple[int, int, int, int]:
    """The work of one task: (first channel, channels, first position, lanes)."""
    tiles = (channels + CHANNELS - 1) // CHANNELS
    inside, first = task % tiles * CHANNELS, task // tiles * LANES
    return inside, min(CHANNELS, channels - inside), first, min(LANES, positions - first)


def _panels(
    columns: Array, rows: Array, block: Array, place0: int, panel: Array, scalars: Array
) -> None:
    """Inputs and weights of some places, widened to the lane type."""
    lane = panel.dtype.type
    channel0, _, first, _ = block
    for k in range(panel.shape[0]):
        for r in range(panel.shape[1]):
            panel[k, r] = lane(columns[place0 + k, first + r])
        for c in range(scalars.shape[0]):
            scalars[c, k] = lane(rows[channel0 + c, place0 + k])


_block = njit(cache=True)(_block)
_panels = njit(cache=True)(_panels)


def values(
    begin: int,
    end: int,
    columns: Array,
    rows: Array,
    levels: Array,
    summing: int,
    starts: Array,
    lane_starts: Array,
    bias_last: bool,
    out: Array,
) -> None:
    """What the last level ends with, for the tasks from `begin` to `end`.

    columns (places, M) and rows (C, places) of any integer dtype, levels (levels, 6) in the lane
    dtype, out (C, M). Either side may be the weights: registers start at the sum of starts (C,) and
    lane_starts (M,).
    """
    places, positions = columns.shape
    for task in range(begin, end):
        block = _block(task, positions, len(rows))
        channel0, channels, first, count = block
        held = np.zeros((channels, len(levels), count), levels.dtype)
        own = lane_starts[first : first + count]
        if not bias_last:
            for c in range(channels):
                _start(held[c, summing], starts[channel0 + c], own)
        for place0 in range(0, places, PLACES):
            size = min(PLACES, places - place0)
            panel = np.empty((size, count), levels.dtype)
            scalars = np.empty((channels, size), levels.dtype)
            _panels(columns, rows, block, place0, panel, scalars)
            for c in range(channels):
                _climb(held[c], scalars[c], panel, levels, summing, (place0, places))
        for c in range(channels):
            if bias_last:
                _start(held[c, summing], starts[channel0 + c], own)
            _finish(held[c], levels, summing)
            for r in range(count):
                out[channel0 + c, first + r] = held[c, len(levels) - 1, r]


def _settle_all(level: Array, rule: Array, place: int) -> None:
    """As `_settle`, and everything else that is known of a level (6, lanes)."""
    lane = level.dtype.type
    low, high, mask = rule[LOW], rule[HIGH], rule[MASK]
    saturates, here = rule[SATURATES], lane(place)
    for r in range(level.shape[1]):
        total = level[HELD, r]
        if saturates:
            kept = min(max(total, low), high)
        else:
            kept = lane(lane(lane(total - low) & mask) + low)
        level[HELD, r] = kept
        level[COUNT, r] = lane(level[COUNT, r] + lane(total != kept))
        if total != kept and level[FIRST, r] < 0:
            level[FIRST, r] = here
        level[PEAK_LOW, r] = min(level[PEAK_LOW, r], level[EXACT, r])
        level[PEAK_HIGH, r] = max(level[PEAK_HIGH, r], level[EXACT, r])


def _give(below: Array, above: Array) -> None:
    """Add what a level holds, and would hold were it unbounded, to the next."""
    lane = below.dtype.type
    for f in (HELD, EXACT):
        for r in range(below.shape[1]):
            above[f, r] = lane(above[f, r] + below[f, r])


_settle_all = njit(cache=True)(_settle_all)
_give = njit(cache=True)(_give)


def _climb_all(
    state: Array, scalars: Array, panel: Array, levels: Array, summing: int, at: Array
) -> None:
    """As `_climb`, step by step; state (levels, 6, lanes)."""
    lane = state.dtype.type
    for k in range(len(scalars)):
        done = at[0] + k + 1
        for r in range(state.shape[2]):
            product = lane(scalars[k] * panel[k, r])
            state[0, HELD, r] = lane(state[0, HELD, r] + product)
            state[0, EXACT, r] = lane(state[0, EXACT, r] + product)
        for i in range(summing + 1):
            complete = i < summing and (done % levels[i, SPAN] == 0 or done == at[1])
            if complete or levels[i, STEPS]:
                _settle_all(state[i], levels[i], done - 1)
            if not complete:
                break
            _give(state[i], state[i + 1])
            state[i, HELD] = lane(0)
            state[i, EXACT] = lane(0)


def _finish_all(state: Array, levels: Array, summing: int, place: int) -> None:
    """As `_finish`."""
    _settle_all(state[summing], levels[summing], place)
    for i in range(summing + 1, len(levels)):
        _give(state[i - 1], state[i])
        _settle_all(state[i], levels[i], place)


_climb_all = njit(cache=True)(_climb_all)
_finish_all = njit(cache=True)(_finish_all)


def statistics(
    begin: int,
    end: int,
    columns: Array,
    rows: Array,
    levels: Array,
    summing: int,
    starts: Array,
    lane_starts: Array,
    bias_last: bool,
    out: Array,
    counts: Array,
    firsts: Array,
    lows: Array,
    highs: Array,
) -> None:
    """As `values`, with every field of each level: (levels, C, M) each; peaks may be empty."""
    places, positions = columns.shape
    lane = levels.dtype.type
    for task in range(begin, end):
        block = _block(task, positions, len(rows))
        channel0, channels, first, count = block
        state = np.zeros((channels, len(levels), 6, count), levels.dtype)
        own = lane_starts[first : first + count]
        for c in range(channels):
            for i in range(len(levels)):
                state[c, i, FIRST] = lane(-1)
            if not bias_last:
                for f in (HELD, EXACT, PEAK_LOW, PEAK_HIGH):
                    _start(state[c, summing, f], starts[channel0 + c], own)
        for place0 in range(0, places, PLACES):
            size = min(PLACES, places - place0)
            panel = np.empty((size, count), levels.dtype)
            scalars = np.empty((channels, size), levels.dtype)
            _panels(columns, rows, block, place0, panel, scalars)
            for c in range(channels):
                _climb_all(state[c], scalars[c], panel, levels, summing, (place0, places))
        for c in range(channels):
            if bias_last:
                for f in (HELD, EXACT):
                    _start(state[c, summing, f], starts[channel0 + c], own)
            _finish_all(state[c], levels, summing, max(places - 1, 0))
            for i in range(len(levels)):
                for r in range(count):
                    at = (i, channel0 + c, first + r)
                    counts[at] = state[c, i, COUNT, r]
                    firsts[at] = state[c, i, FIRST, r]
                    if len(lows):
                        lows[at] = state[c, i, PEAK_LOW, r]
                        highs[at] = state[c, i, PEAK_HIGH, r]
            for r in range(count):
                out[channel0 + c, first + r] = state[c, len(levels) - 1, HELD, r]


values = njit(cache=True, nogil=True)(values)
statistics = njit(cache=True, nogil=True)(statistics)


def group_sums(rows: Array, span: int, least: int, greatest: int) -> tuple[Any, Any]:
    """Between what the sums of groups of `span` places lie, for inputs in [least, greatest].

    rows (C, places) of any integer dtype; 0 lies in that range, and counts as a sum.
    """
    lowest, highest = np.int64(0), np.int64(0)
    for c in range(len(rows)):
        for first in range(0, rows.shape[1], span):
            up, down = np.int64(0), np.int64(0)
            for k in range(first, min(first + span, rows.shape[1])):
                up += max(np.int64(rows[c, k]), np.int64(0))
                down += min(np.int64(rows[c, k]), np.int64(0))
            lowest = min(lowest, up * least + down * greatest)
            highest = max(highest, up * greatest + down * least)
    return lowest, highest


group_sums = njit(cache=True)(group_sums)
