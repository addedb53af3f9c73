"""Carry out a plan, a piece at a time in bounded memory: pack, lay out, run."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import numpy as np
from numba import config

from accsim import pack
from accsim._check import IntArray, read_only
from accsim.kernels import portable, tiles, vector
from accsim.kernels.forms import FORMS
from accsim.launch import Launch, launch_of
from accsim.layer import IntLayer
from accsim.pack import Problem
from accsim.plan import Part, Plan, check_host
from accsim.setting import Setting, setting_of
from accsim.spec import Accumulator, Overflow

__all__ = ["execute", "run_kernel", "share"]

SMALL = 2**25  # fewer products than that are done by one thread
APART_BYTES = 2**23  # of results of some channels that are kept apart at a time
BIG = 2**22  # so many bytes are laid out by several threads

Array = np.ndarray[Any, np.dtype[Any]]
Results = dict[str, Array]  # flat, by the names of the fields of `Run`


FILLS = {
    "exact": ("output",),
    "saturate": ("output",),
    "count": ("output", "overflow_count", "first_overflow"),
    "peaks": ("peak_low", "peak_high"),
    "all": ("output", "overflow_count", "first_overflow", "peak_low", "peak_high"),
}
KINDS = {
    "output": np.int32,
    "overflow_count": np.int32,
    "first_overflow": np.int32,
    "peak_low": np.int64,
    "peak_high": np.int64,
}
# what stands for arrays that a kernel neither reads nor writes; only their dtypes are looked at
NO_RESULTS = {name: np.empty(0, kind) for name, kind in KINDS.items()}
NO_STATE = {wide: np.empty(0, wide) for wide in ("int32", "int64")}
NO_LIMITS = np.empty(0, np.int32)


def share(threads: int, function: Callable[..., None], tasks: int, *arguments: object) -> None:
    """function(begin, end, *arguments) over all tasks, by several threads."""
    if threads == 1 or tasks == 1:
        function(0, tasks, *arguments)
        return
    ranges, begin = [], 0
    while begin < tasks:  # ever smaller ones, so that all threads end together
        end = begin + max(1, (tasks - begin) // (2 * threads))
        ranges.append((begin, end))
        begin = end
    rest = iter(ranges)  # one step of it is atomic

    def work() -> None:
        for begin, end in rest:
            function(begin, end, *arguments)

    others: list[Future[None]] = []
    try:
        while len(others) < threads - 1:
            others.append(_helpers(os.getpid()).submit(work))
        work()
    finally:
        for _ in rest:  # what is left if this thread was interrupted: nobody begins it
            pass
        # one that has not begun has nothing to do; nobody writes to results after the call
        failed = [other.exception() for other in others if not other.cancel()]
    for error in filter(None, failed):
        raise error


@cache
def _helpers(process: int) -> ThreadPoolExecutor:
    """Threads that wait for work between calls; a forked process makes its own."""
    return ThreadPoolExecutor(config.NUMBA_NUM_THREADS, f"accsim-{process}")


def execute(
    plan: Plan,
    layer: IntLayer,
    x: IntArray,
    accumulator: Accumulator,
    threads: int,
    results: Results,
) -> None:
    """Fill results by every part of the plan; arguments are checked, and nothing is empty.

    Counts are 0 and first steps -1 wherever no part finds them.
    """
    if results["output"].size * layer.taps < SMALL:
        threads = 1
    if "overflow_count" in results and not any(
        part.channels is None and "overflow_count" in FILLS[part.work] for part in plan.parts
    ):
        results["overflow_count"][...] = 0
        results["first_overflow"][...] = -1
    for part in plan.parts:
        compute = partial(_compute, part, plan, layer, accumulator, threads)
        own = {name: results[name] for name in FILLS[part.work] if name in results}
        if part.channels is None:
            compute(x, {name: array.reshape(-1) for name, array in own.items()})
        else:
            _apart(compute, list(part.channels), layer, x, own)


def _apart(
    compute: Callable[[IntArray, Results], None],
    channels: list[int],
    layer: IntLayer,
    x: IntArray,
    results: Results,
) -> None:
    """Some channels: into arrays of their own, for so many inputs at a time as bound their size."""
    inputs = x if layer.is_conv else x.reshape(-1, layer.taps)
    whole = {
        name: array.reshape(len(inputs), layer.channels, -1) for name, array in results.items()
    }
    each = len(channels) * sum(array[0, 0].nbytes for array in whole.values())
    step = max(1, APART_BYTES // each)
    for n in range(0, len(inputs), step):
        parts = {name: array[n : n + step] for name, array in whole.items()}
        own = {name: np.ascontiguousarray(array[:, channels]) for name, array in parts.items()}
        compute(inputs[n : n + step], {name: array.reshape(-1) for name, array in own.items()})
        for name, array in parts.items():
            array[:, channels] = own[name]


def _compute(
    part: Part,
    plan: Plan,
    layer: IntLayer,
    accumulator: Accumulator,
    threads: int,
    x: IntArray,
    results: Results,
) -> None:
    """One part of the plan; results are those of its channels, flat."""
    some = slice(None) if part.channels is None else list(part.channels)
    problem = pack.problem_of(layer, x, some)
    if part.form == "portable":
        _portable(problem, layer, accumulator, threads, results)
    else:
        _vectors(part, plan, problem, accumulator, threads, results)


def _portable(
    problem: Problem,
    layer: IntLayer,
    accumulator: Accumulator,
    threads: int,
    flat: Results,
) -> None:
    """Every field that is asked for, by plain loops, in one pass."""
    bias = np.zeros(layer.channels, np.int64) if layer.bias is None else layer.bias
    geometry = problem.geometry
    area = geometry.window[0] * geometry.window[1]
    flat["output"].reshape(-1, layer.channels, area)[...] = bias[:, None]
    rails = [accumulator.min, accumulator.max, 2**accumulator.bits - 1]
    rows = problem.rows
    arguments = (
        read_only(problem.lanes),
        read_only(rows.reshape(len(rows), -1)),
        rows.shape[2:],
        (*geometry.stride, *geometry.padding, *geometry.dilation),
        geometry.groups,
        geometry.window,
        np.array(rails, check_host(layer, accumulator)),
        accumulator.overflow is Overflow.SATURATE,
        flat["output"],
        (geometry.image_step, geometry.row_step),
    )
    tasks = portable.tasks(len(problem.lanes) * area, len(rows), geometry.groups)
    if len(flat) == 1:
        share(threads, portable.values, tasks, *arguments)
        return
    peaks = [flat.get(name, NO_RESULTS[name]) for name in ("peak_low", "peak_high")]
    counts = flat["overflow_count"], flat["first_overflow"]
    share(threads, portable.statistics, tasks, *arguments, *counts, *peaks)


def _vectors(
    part: Part,
    plan: Plan,
    problem: Problem,
    accumulator: Accumulator,
    threads: int,
    results: Results,
) -> None:
    """One part of the plan by vector kernels, a piece at a time."""
    geometry = problem.geometry
    setting = setting_of(
        part.work,
        part.form,
        plan.inputs,
        plan.weights,
        accumulator,
        lanes_are_inputs=geometry.lanes_are_inputs,
        pixels=geometry.rows[2:] == (1, 1),
    )
    run_kernel(problem, setting, accumulator, threads, results)


def run_kernel(
    problem: Problem, setting: Setting, accumulator: Accumulator, threads: int, results: Results
) -> None:
    """A vector kernel on a problem, a piece at a time; results are flat, of the register's type."""
    for piece, first in pack.pieces(problem, FORMS[setting.kernel.form]):
        flat = {name: array[first:] for name, array in results.items()} if first else results
        _launch(piece, setting, accumulator, threads, flat)


def _launch(
    problem: Problem,
    setting: Setting,
    accumulator: Accumulator,
    threads: int,
    results: Results,
) -> None:
    """Pack one piece and run the kernel on it, by several threads."""
    kernel = setting.kernel
    launch = launch_of(problem.geometry, setting, accumulator, threads)
    lay, shape, work = launch.lay, launch.shape, launch.work
    rows = shape.padded_rows
    safe = NO_LIMITS
    if work.segments:
        safe = pack.limits(
            problem, lay, work.low, work.high, setting.largest, rows, work.tile_lanes
        ).reshape(-1)
    scalars = pack.scalars(problem, lay.form, rows, launch.units, setting.take_rows, setting.shift)
    row_starts = pack.padded(problem.row_starts, problem.geometry.groups, rows)
    lane_starts = problem.lane_starts
    # what is taken from one side is missing from the sums, as often as the other side says
    if setting.take_lanes:
        row_starts = row_starts + setting.take_lanes * portable.byte_sums(scalars.view(np.int8))
    if setting.take_rows:
        given = setting.take_rows * portable.byte_sums(problem.weights)
        lane_starts = given + lane_starts if lane_starts.size else given
    share(
        threads,
        vector.run,
        launch.tasks,
        shape,
        work,
        _lanes(problem, launch, setting.take_lanes, work.tile_lanes, threads),
        scalars,
        launch.offsets,
        safe,
        read_only(row_starts.astype(kernel.wide)),
        read_only(_lane_starts(lane_starts, shape, work.tile_lanes, kernel.wide)),
        setting.register,
        NO_STATE[kernel.wide],
        *(results.get(name, empty) for name, empty in NO_RESULTS.items()),
    )


def _lane_starts(starts: Array, shape: vector.Shape, across: int, kind: str) -> Array:
    """By image and as far as tiles reach; without any, the zeros of one tile."""
    out = np.zeros(shape.images + across if starts.size else across, kind)
    out[: len(starts)] = starts
    return out


def _lanes(problem: Problem, launch: Launch, take: int, slack: int, threads: int) -> Array:
    """The lanes' operands in planes: uint8 (blocks, bytes), and a tile's reach beyond.

    `take` is taken from all bytes, modulo 2^8; what is not an operand is 0 before.
    """
    lay, shape = launch.lay, launch.shape
    size = shape.blocks * shape.block_bytes
    total = size + slack * lay.unit_bytes
    threads = threads if size >= BIG else 1
    if problem.geometry.single:
        buffer = np.empty(total, np.uint8)
        buffer[size - shape.block_bytes :] = 0
        units = pack.pixels(problem, lay.form)
        code = tiles.compile_transpose(8 * units.itemsize)
        out = buffer[:size].view(units.dtype)
        share(threads, vector.lay_pixels, shape.blocks, shape, units, *code, out)
    else:
        buffer = np.zeros(total, np.uint8)
        source = read_only(pack.elements(problem.lanes, lay.form).reshape(-1))
        out = buffer[:size].view(source.dtype)
        share(threads, vector.lay, shape.blocks, shape, source, *lay.phases, out)
    if take:
        buffer -= np.uint8(take & 255)
    return buffer
