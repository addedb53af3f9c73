"""Carry out a plan, a piece at a time in bounded memory: sizes of tiles, blocks and tasks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from accsim import pack
from accsim._check import IntArray
from accsim.kernels import portable, tiles, vector
from accsim.kernels.forms import FORMS, REGISTER, Kernel, host
from accsim.layer import IntLayer
from accsim.pack import Layout, Problem
from accsim.plan import Part, Plan, byte_shift, check_host
from accsim.spec import Accumulator, Overflow

__all__ = ["execute"]

SMALL = 2**21  # fewer products than that are done by one thread
BIG = 2**22  # so many bytes are laid out by several threads

BLOCK_BYTES = 2**17  # of the planes of a block, so that they stay in the cache
TASK_ROWS = 64  # a task has at least so many rows, or all
TASKS = 4  # at least so many for each thread, where there are rows enough

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


def share(threads: int, function: Callable[..., None], tasks: int, *arguments: object) -> None:
    """function(begin, end, *arguments) over all tasks, by several threads."""
    step = max(1, tasks // (4 * threads))
    starts = iter(range(0, tasks, step))  # one step of it is atomic

    def work() -> None:
        for begin in starts:
            function(begin, min(begin + step, tasks), *arguments)

    if threads == 1 or tasks == 1:
        function(0, tasks, *arguments)
        return
    with ThreadPoolExecutor(threads - 1) as pool:
        others = [pool.submit(work) for _ in range(threads - 1)]
        work()
        for other in others:
            other.result()


def execute(
    plan: Plan,
    layer: IntLayer,
    x: IntArray,
    accumulator: Accumulator,
    threads: int,
    results: Results,
) -> None:
    """Fill results by every part of the plan; arguments are checked, and nothing is empty.

    Counts must hold 0 and first steps -1 before: parts that cannot overflow leave them alone.
    """
    if results["output"].size * layer.taps < SMALL:
        threads = 1
    for part in plan.parts:
        some = slice(None) if part.channels is None else list(part.channels)
        where = (slice(None), some) if layer.is_conv else (..., some)
        problem = pack.problem_of(layer, x, some)
        own = {name: results[name] for name in FILLS[part.work] if name in results}
        if part.channels is not None:
            own = {name: np.ascontiguousarray(array[where]) for name, array in own.items()}
        flat = {name: array.reshape(-1) for name, array in own.items()}
        if part.form == "portable":
            _portable(problem, layer, accumulator, threads, own["output"], flat)
        else:
            _vectors(part, plan, problem, accumulator, threads, flat)
        if part.channels is not None:
            for name, array in own.items():
                results[name][where] = array


def _portable(
    problem: Problem,
    layer: IntLayer,
    accumulator: Accumulator,
    threads: int,
    output: IntArray,
    flat: Results,
) -> None:
    """Every field that is asked for, by plain loops, in one pass."""
    bias = np.zeros(layer.channels, np.int64) if layer.bias is None else layer.bias
    output[...] = bias[:, None, None] if layer.is_conv else bias
    stride, padding, dilation, groups = problem.geometry
    rails = [accumulator.min, accumulator.max, 2**accumulator.bits - 1]
    rows = problem.rows
    arguments = (
        _read_only(problem.lanes),
        _read_only(rows.reshape(len(rows), -1)),
        rows.shape[2:],
        (*stride, *padding, *dilation),
        groups,
        problem.window,
        np.array(rails, check_host(layer, accumulator)),
        accumulator.overflow is Overflow.SATURATE,
        flat["output"],
        (problem.image_step, problem.row_step),
    )
    positions = len(problem.lanes) * problem.window[0] * problem.window[1]
    tasks = portable.tasks(positions, len(rows), groups)
    if len(flat) == 1:
        share(threads, portable.values, tasks, *arguments)
        return
    peaks = [flat.get(n, np.empty(output.size, np.int64)) for n in ("peak_low", "peak_high")]
    counts = flat["overflow_count"], flat["first_overflow"]
    share(threads, portable.statistics, tasks, *arguments, *counts, *peaks)


def _read_only(array: IntArray) -> IntArray:
    """A view that cannot be written, so that numba compiles for one kind of array."""
    view = array.view()
    view.flags.writeable = False
    return view


def _vectors(
    part: Part,
    plan: Plan,
    problem: Problem,
    accumulator: Accumulator,
    threads: int,
    results: Results,
) -> None:
    """One part of the plan by vector kernels, a piece at a time."""
    form = FORMS[part.form]
    shift, offset, clamps = _register(part, plan, accumulator)
    kernel = Kernel(
        part.work,
        part.form,
        wraps=part.work == "count" and accumulator.overflow is Overflow.WRAP,
        clamps=clamps,
        lanes_unsigned=part.form == "int8x4" and problem.lanes_are_inputs,
        eases=part.form == "int16" and part.work == "saturate" and _eases(plan, accumulator),
    )
    low, high, span = accumulator.min, accumulator.max, 2**accumulator.bits
    lane_span = span if part.form == "float64" else span - 1
    # sums beyond 32 bits are asked for in int32 only where they fit: nothing is cut from those
    floor, mask = (low, span - 1) if low >= -(2**31) or kernel.wide == "int64" else (-(2**31), -1)
    register = np.array(
        [low + offset, high + offset, lane_span, shift, offset, floor, mask], np.int64
    )
    for piece, first in pack.pieces(problem, form):
        flat = {name: array[first:] for name, array in results.items()}
        _launch(piece, plan, kernel, register, accumulator, threads, flat)


def _register(part: Part, plan: Plan, accumulator: Accumulator) -> tuple[int, int, bool]:
    """Shift and offset with which lanes hold the register, and whether its lowest rail is theirs.

    In int16 the register's highest value is the lane's, because that is where the lane saturates.
    """
    if part.form != "int16":
        return 0, 0, False
    shift = 16 - accumulator.bits
    factors = [bound for spec in (plan.weights, plan.inputs) for bound in (spec.min, spec.max)]
    corners = [q * x for q in factors[:2] for x in factors[2:]]
    if shift and not all(-(2**15) <= value << shift < 2**15 for value in factors + corners):
        return 0, 2**15 - 1 - accumulator.max, True
    # scaled up, it has both rails of the lane; what the bits below its lowest hold never matters
    return shift, -(2**15 >> shift) - accumulator.min, False


def _eases(plan: Plan, accumulator: Accumulator) -> bool:
    """Whether no product is larger than the register's span."""
    return bool(plan.inputs.magnitude * plan.weights.magnitude < 2**accumulator.bits)


def _launch(
    problem: Problem,
    plan: Plan,
    kernel: Kernel,
    register: Array,
    accumulator: Accumulator,
    threads: int,
    results: Results,
) -> None:
    """Pack one piece and run the kernel on it, by several threads."""
    form, target = FORMS[kernel.form], host()
    lay = pack.layout(problem, form)
    rows = len(problem.rows) // problem.groups
    kernel = replace(kernel, pixels=lay.taps == 1)
    lanes = len(problem.lanes) if problem.single else problem.window[0] * lay.pitch
    tile = tiles.compile_tile(kernel, target, *tiles.shape(kernel, target, rows, lanes))
    shape = _shape(problem, lay, rows, tile, threads)
    work, safe = _work(problem, plan, kernel, lay, shape, tile, accumulator)
    direct = _direct(problem, work, kernel, results)
    take = byte_shift(plan.inputs, plan.weights) if form.name == "int8x4" else 0
    assert take is not None, "the plan chose bytes"
    from_rows, from_lanes = (0, take) if problem.lanes_are_inputs else (take, 0)
    row_starts, lane_starts = _starts(problem, take)
    units = max(lay.units, work.segments * lay.segment)
    offsets = np.zeros((units, lay.taps), np.int64)
    offsets[: lay.units] = lay.offsets(shape.block_images * shape.tall * lay.pitch)
    shift = int(register[REGISTER.index("shift")])
    scalars = pack.scalars(problem, form, shape.padded_rows, units, from_rows, shift)
    share(
        threads,
        vector.run,
        shape.blocks * -(-shape.padded_rows // shape.task_rows),
        shape,
        work,
        _lanes(problem, lay, shape, from_lanes, tile.lanes, threads),
        scalars.view(np.uint8),
        offsets.reshape(-1),
        safe.reshape(-1),
        pack.padded(row_starts, problem.groups, shape.padded_rows).astype(kernel.wide),
        _lane_starts(lane_starts, shape, tile, kernel.wide),
        register,
        direct,
        np.empty(0, kernel.wide),
        *(results.get(name, np.empty(0, kind)) for name, kind in KINDS.items()),
    )


def _direct(problem: Problem, work: vector.Work, kernel: Kernel, results: Results) -> Array:
    """Addresses of results where a tile's lanes lie side by side, in the type of its state."""
    names = FILLS[kernel.work]
    fit = problem.single and problem.image_step == 1 and not work.forgets
    fit &= all(results[name].dtype == kernel.wide for name in names)
    places = [results[name].ctypes.data if fit else 0 for name in names]
    return np.array([0] * (kernel.work == "peaks") + places + [0] * 3)  # peaks follow their sum


def _work(
    problem: Problem,
    plan: Plan,
    kernel: Kernel,
    lay: Layout,
    shape: vector.Shape,
    tile: tiles.Tile,
    accumulator: Accumulator,
) -> tuple[vector.Work, Array]:
    """What every tile does, and from where its registers cannot reach a rail within a segment."""
    low, high = accumulator.min, accumulator.max
    largest, heaviest = plan.inputs.magnitude, plan.weights.magnitude
    # sums take whole units; steps through pairs take the taps of two channels at a time
    paired = kernel.form == "int16x2" and kernel.work != "exact"
    work = vector.Work(
        stores=vector.WORKS[kernel.work],
        main=tile.address,
        cruise=0,
        tile_rows=tile.rows,
        tile_lanes=tile.lanes,
        blocks=lay.units if paired else lay.units * lay.taps,
        block_steps=2 * lay.taps if paired else 1,
        block_scalars=lay.taps if paired else 1,
        scalar_bytes=lay.unit_bytes,
        segments=0,
        segment_blocks=lay.segment,
        lane_limits=not problem.lanes_are_inputs,
        forgets=kernel.work == "saturate" and 2**accumulator.bits <= 2 * largest * heaviest,
        low=low,
        high=high,
    )
    if not paired or kernel.work == "peaks":
        return work, np.empty(0, np.int32)
    limited = Kernel("cruise", kernel.form, lane_limits=work.lane_limits)
    cruise = tiles.compile_tile(limited, host(), tile.rows, tile.vectors)
    work = work._replace(cruise=cruise.address, segments=-(-lay.units // lay.segment))
    return work, pack.limits(problem, lay, low, high, largest, shape.padded_rows, tile.lanes)


def _lanes(
    problem: Problem, lay: Layout, shape: vector.Shape, take: int, slack: int, threads: int
) -> Array:
    """The lanes' operands in planes: uint8 (blocks, bytes), and a tile's reach beyond."""
    form = lay.form
    size = shape.blocks * shape.block_bytes
    blank = -take & 255
    threads = threads if size >= BIG else 1
    if problem.single:
        buffer = np.empty(size + slack * lay.unit_bytes, np.uint8)
        buffer[size - shape.block_bytes :] = blank
        units = pack.pixels(problem, form, take)
        code = tiles.compile_transpose(8 * units.itemsize)
        out = buffer[:size].view(units.dtype)
        share(threads, vector.lay_pixels, shape.blocks, shape, units, *code, out)
    else:
        buffer = np.full(size + slack * lay.unit_bytes, blank, np.uint8)
        source = pack.convert(problem.lanes, form, take).reshape(-1)
        out = buffer[:size].view(source.dtype)
        share(threads, vector.lay, shape.blocks, shape, source, *lay.phases, out)
    return buffer


def _starts(problem: Problem, take: int) -> tuple[Array, Array]:
    """What registers start at by row and by image, with what `take` takes from the sums."""
    if take == 0:
        return problem.row_starts, problem.lane_starts
    positive, negative = portable.sign_sums(problem.weights)
    given = take * (positive - negative)
    if problem.lanes_are_inputs:
        return problem.row_starts + given, problem.lane_starts
    return problem.row_starts, given + (problem.lane_starts if problem.lane_starts.size else 0)


def _lane_starts(starts: Array, shape: vector.Shape, tile: tiles.Tile, kind: str) -> Array:
    """By image and as far as tiles reach; without any, the zeros of one tile."""
    count = shape.images + tile.lanes if starts.size else tile.lanes
    out = np.zeros(count, kind)
    out[: len(starts)] = starts
    return out


def _shape(
    problem: Problem, lay: Layout, rows: int, tile: tiles.Tile, threads: int
) -> vector.Shape:
    """Blocks whose planes fit the cache; tasks enough for the threads."""
    stride, padding, _, groups = problem.geometry
    height, width = problem.window
    count = len(problem.lanes)
    band, images = height, 1
    image_bytes = lay.line_bytes * (height + lay.below) + 1
    if problem.single:
        images = tile.lanes
    elif image_bytes <= 2 * BLOCK_BYTES:
        fit = max(1, BLOCK_BYTES // image_bytes)
        images = min(fit, max(1, count * groups // (TASKS * threads)), count)
    else:
        band = max(1, min(height, 2 * BLOCK_BYTES // lay.line_bytes - lay.below))
    padded = -(-rows // tile.rows) * tile.rows
    blocks = -(-count // images) * -(-height // band) * groups
    row_bytes = lay.units * lay.taps * lay.unit_bytes
    parts = max(TASKS * threads // blocks, padded * row_bytes // BLOCK_BYTES, 1)
    parts = min(parts, max(1, padded // TASK_ROWS))
    plane = images * (band + lay.below) * lay.pitch
    return vector.Shape(
        blocks=blocks,
        images=count,
        channels=problem.rows.shape[1],
        height=problem.lanes.shape[2],
        width=problem.lanes.shape[3],
        groups=groups,
        stride_y=stride[0],
        stride_x=stride[1],
        pad_y=padding[0],
        pad_x=padding[1],
        out_height=height,
        out_width=width,
        unit=lay.form.group,
        block_images=images,
        band=band,
        tall=band + lay.below,
        pitch=lay.pitch,
        block_bytes=lay.planes * plane * lay.unit_bytes,
        unit_bytes=lay.unit_bytes,
        rows=rows,
        padded_rows=padded,
        task_rows=-(-padded // (parts * tile.rows)) * tile.rows,
        image_step=problem.image_step,
        row_step=problem.row_step,
    )
