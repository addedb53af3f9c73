"""The compiled twin of `arith.fold`: plain loops over many outputs at once, in 32- or 64-bit lanes.

A *lane* is one output position; a *panel* (taps, lanes) holds the inputs that one tap after another
multiplies. The lanes are the innermost loop, so that it vectorises; the panel is a slice of the
im2col matrix that fits the cache, gathered anew for each block of work and never kept whole.

Preconditions, checked by `accsim.simulate`: no sum can leave the lane type (`check_host`), outputs
hold the starting values on entry, rails = (lowest, highest, 2^bits - 1) of the register in lanes.

`values` and `statistics` release the interpreter lock: several threads share the tasks of a call.

The functions are jitted by call, so that they also run as Python (NUMBA_DISABLE_JIT=1). Arithmetic
on np.int32 is promoted to int64 by numba: each result is cast back to the lane type at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = Any  # numba types its arguments itself

LANES = 128  # output positions in a panel
CHANNELS = 128  # output channels that share a gathered panel
TAPS = 256  # taps in a panel
BLOCK = 2**15  # 16-bit entries whose sum fits int32


def _locate(first: int, window: Array, geometry: Array, strides: Array, lanes: Array) -> None:
    """For each lane: its image, the input row and column under its first tap, and its output.

    lanes (4, count); an output is where channel 0 of this position lies in the flat results.
    """
    height, width = window
    area = height * width
    for r in range(lanes.shape[1]):
        position = first + r
        lanes[0, r] = position // area
        lanes[1, r] = position // width % height * geometry[0] - geometry[2]
        lanes[2, r] = position % width * geometry[1] - geometry[3]
        lanes[3, r] = position // area * strides[0] + position % area


def _gather(
    x: Array, base: int, kernel: Array, geometry: Array, lanes: Array, tap0: int, panel: Array
) -> None:
    """panel[k, r] = the input that tap tap0 + k of lane r reads; 0 on the padding."""
    lane = panel.dtype.type
    kh, kw = kernel
    image, top, left = lanes[0], lanes[1], lanes[2]
    for k in range(panel.shape[0]):
        tap = tap0 + k
        channel = base + tap // (kh * kw)
        down = tap // kw % kh * geometry[4]
        right = tap % kw * geometry[5]
        for r in range(panel.shape[1]):
            row, column = top[r] + down, left[r] + right
            if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                panel[k, r] = lane(x[image[r], channel, row, column])
            else:
                panel[k, r] = lane(0)


def _scalars(rows: Array, channel0: int, tap0: int, scalars: Array) -> None:
    """The weights of a block of channels and taps, widened to the lane type."""
    lane = scalars.dtype.type
    for c in range(scalars.shape[0]):
        for k in range(scalars.shape[1]):
            scalars[c, k] = lane(rows[channel0 + c, tap0 + k])


def _add(register: Array, scalars: Array, panel: Array) -> None:
    """Exact sums."""
    lane = register.dtype.type
    for c in range(scalars.shape[0]):
        row = register[c]
        for k in range(scalars.shape[1]):
            q, x = scalars[c, k], panel[k]
            for r in range(len(row)):
                row[r] = lane(row[r] + q * x[r])


def _saturate(register: Array, scalars: Array, panel: Array, rails: Array) -> None:
    """Saturation after every addition."""
    lane = register.dtype.type
    low, high = rails[0], rails[1]
    for c in range(scalars.shape[0]):
        row = register[c]
        for k in range(scalars.shape[1]):
            q, x = scalars[c, k], panel[k]
            for r in range(len(row)):
                total = lane(row[r] + q * x[r])
                row[r] = min(max(total, low), high)


def _wrap(register: Array, rails: Array) -> None:
    """Wrap once: equal to wrapping after every addition, since both keep the sum modulo 2^bits."""
    lane = register.dtype.type
    low, mask = rails[0], rails[2]
    for c in range(register.shape[0]):
        row = register[c]
        for r in range(len(row)):
            row[r] = lane(lane(lane(row[r] - low) & mask) + low)


def _step_all(state: Array, scalars: Array, panel: Array, rails: Array, saturates: bool) -> None:
    """Every field of `Run`. state = (register, count, steps before the first, exact, low, high)."""
    lane = state.dtype.type
    low, high, mask = rails
    one, zero = lane(1), lane(0)
    for c in range(scalars.shape[0]):
        register, count, before = state[0, c], state[1, c], state[2, c]
        exact, peak_low, peak_high = state[3, c], state[4, c], state[5, c]
        for k in range(scalars.shape[1]):
            q, x = scalars[c, k], panel[k]
            for r in range(len(register)):
                product = lane(q * x[r])
                total = lane(register[r] + product)
                if saturates:
                    kept = min(max(total, low), high)
                else:
                    kept = lane(lane(lane(total - low) & mask) + low)
                register[r] = kept
                count[r] = lane(count[r] + lane(total != kept))
                before[r] = lane(before[r] + (one if count[r] == zero else zero))
                running = lane(exact[r] + product)
                exact[r] = running
                peak_low[r] = min(peak_low[r], running)
                peak_high[r] = max(peak_high[r], running)


_locate = njit(cache=True)(_locate)
_gather = njit(cache=True)(_gather)
_scalars = njit(cache=True)(_scalars)
_add = njit(cache=True)(_add)
_saturate = njit(cache=True)(_saturate)
_wrap = njit(cache=True)(_wrap)
_step_all = njit(cache=True)(_step_all)


def tasks(positions: int, channels: int, groups: int) -> int:
    """How many tasks there are for so many output positions of so many channels."""
    return -(-positions // LANES) * -(-channels // groups // CHANNELS) * groups


def _block(
    task: int, positions: int, per_group: int, groups: int
) -> tuple[int, int, int, int, int]:
    """The work of one task: (group, first channel, channels, first position, lanes)."""
    tiles = (per_group + CHANNELS - 1) // CHANNELS
    group = task % groups
    tile = task // groups % tiles
    first = task // (groups * tiles) * LANES
    inside = tile * CHANNELS
    return (
        group,
        group * per_group + inside,
        min(CHANNELS, per_group - inside),
        first,
        min(LANES, positions - first),
    )


_block = njit(cache=True)(_block)


def values(
    begin: int,
    end: int,
    x: Array,
    rows: Array,
    kernel: Array,
    geometry: Array,
    groups: int,
    window: Array,
    rails: Array,
    saturates: bool,
    out: Array,
    strides: Array,
) -> None:
    """The register after the last step, for every output of the tasks from `begin` to `end`.

    x (N, I·groups, H, W) and rows (C, K) of any integer dtype; kernel (kh, kw); geometry (stride,
    padding, dilation), vertical before horizontal; window (oh, ow); rails in the lane dtype; out
    flat, entry n·strides[0] + c·strides[1] + position in the window.
    """
    positions = x.shape[0] * window[0] * window[1]
    per_group, taps = rows.shape[0] // groups, rows.shape[1]
    for task in range(begin, end):
        group, channel0, channels, first, count = _block(task, positions, per_group, groups)
        lanes = np.empty((4, count), np.int64)
        _locate(first, window, geometry, strides, lanes)
        register = np.empty((channels, count), rails.dtype)
        for c in range(channels):
            for r in range(count):
                register[c, r] = out[lanes[3, r] + (channel0 + c) * strides[1]]
        for tap0 in range(0, taps, TAPS):
            size = min(TAPS, taps - tap0)
            panel = np.empty((size, count), rails.dtype)
            _gather(x, group * (x.shape[1] // groups), kernel, geometry, lanes, tap0, panel)
            scalars = np.empty((channels, size), rails.dtype)
            _scalars(rows, channel0, tap0, scalars)
            if saturates:
                _saturate(register, scalars, panel, rails)
            else:
                _add(register, scalars, panel)
        if not saturates:
            _wrap(register, rails)
        for c in range(channels):
            for r in range(count):
                out[lanes[3, r] + (channel0 + c) * strides[1]] = register[c, r]


def statistics(
    begin: int,
    end: int,
    x: Array,
    rows: Array,
    kernel: Array,
    geometry: Array,
    groups: int,
    window: Array,
    rails: Array,
    saturates: bool,
    out: Array,
    strides: Array,
    overflow_count: Array,
    first_overflow: Array,
    peak_low: Array,
    peak_high: Array,
) -> None:
    """As `values`, with every field of `Run`, each array laid out as `out`; peaks may be empty."""
    positions = x.shape[0] * window[0] * window[1]
    per_group, taps = rows.shape[0] // groups, rows.shape[1]
    for task in range(begin, end):
        group, channel0, channels, first, count = _block(task, positions, per_group, groups)
        lanes = np.empty((4, count), np.int64)
        _locate(first, window, geometry, strides, lanes)
        state = np.empty((6, channels, count), rails.dtype)
        for c in range(channels):
            for r in range(count):
                start = out[lanes[3, r] + (channel0 + c) * strides[1]]
                state[0, c, r] = state[3, c, r] = state[4, c, r] = state[5, c, r] = start
                state[1, c, r] = state[2, c, r] = 0
        for tap0 in range(0, taps, TAPS):
            size = min(TAPS, taps - tap0)
            panel = np.empty((size, count), rails.dtype)
            _gather(x, group * (x.shape[1] // groups), kernel, geometry, lanes, tap0, panel)
            scalars = np.empty((channels, size), rails.dtype)
            _scalars(rows, channel0, tap0, scalars)
            _step_all(state, scalars, panel, rails, saturates)
        for c in range(channels):
            for r in range(count):
                at = lanes[3, r] + (channel0 + c) * strides[1]
                out[at] = state[0, c, r]
                overflow_count[at] = state[1, c, r]
                first_overflow[at] = state[2, c, r] if state[1, c, r] else -1
                if len(peak_low):
                    peak_low[at] = state[4, c, r]
                    peak_high[at] = state[5, c, r]


def _signs(row: Array) -> tuple[Any, Any]:
    """Sums of the positive and of the negative entries, both without sign."""
    positive, negative = np.int64(0), np.int64(0)
    block = BLOCK if row.itemsize <= 2 else 1
    for k in range(0, len(row), block):
        if row.itemsize <= 2:  # int32 holds the sums of a block, and makes vector code
            up, down = np.int32(0), np.int32(0)
            for weight in row[k : k + block]:
                up = np.int32(up + max(np.int32(weight), np.int32(0)))
                down = np.int32(down - min(np.int32(weight), np.int32(0)))
            positive += np.int64(up)
            negative += np.int64(down)
        else:
            positive += max(np.int64(row[k]), np.int64(0))
            negative -= min(np.int64(row[k]), np.int64(0))
    return positive, negative


_signs = njit(cache=True)(_signs)


def byte_sums(rows: Array) -> Array:
    """Sum of each row, of any type, of numbers that int8 holds."""
    out = np.zeros(len(rows), np.int64)
    for r in range(len(rows)):
        for k in range(0, rows.shape[1], BLOCK):
            total = np.int32(0)
            for entry in rows[r, k : k + BLOCK]:
                total = np.int32(total + np.int32(entry))
            out[r] += total
    return out


byte_sums = njit(cache=True)(byte_sums)


def certified(
    rows: Array, starts: Array, least: int, greatest: int, low: int, high: int, step: int
) -> Array:
    """Of each row (C, K), whether no running sum can leave [low, high].

    Inputs are in [least, greatest], which holds 0; starts are by row, or empty. If of every
    `step`-th row not one can be certified, none is.
    """
    out = np.zeros(len(rows), np.bool_)
    for every in (step, 1):
        found = False
        for c in range(0, len(rows), every):
            positive, negative = _signs(rows[c])
            start = starts[c] if len(starts) else np.int64(0)
            lowest = start + positive * least - negative * greatest
            highest = start + positive * greatest - negative * least
            out[c] = low <= lowest and highest <= high
            found |= out[c]
        if not found:
            break
    return out


certified = njit(cache=True)(certified)
values = njit(cache=True, nogil=True)(values)
statistics = njit(cache=True, nogil=True)(statistics)
