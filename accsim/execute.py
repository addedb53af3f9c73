"""Carry out a plan, a piece at a time in bounded memory: sizes of tiles, blocks and tasks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from accsim import pack
from accsim._check import IntArray, read_only
from accsim.kernels import portable, tiles, vector
from accsim.kernels.forms import FORMS, Kernel, host
from accsim.layer import IntLayer
from accsim.pack import Geometry, Layout, Problem
from accsim.plan import Part, Plan, byte_shift, check_host, exact_shift
from accsim.spec import Accumulator, IntSpec, Overflow

__all__ = ["execute"]

SMALL = 2**21  # fewer products than that are done by one thread
BIG = 2**22  # so many bytes are laid out by several threads

BLOCK_BYTES = 2**17  # of the planes of a block, so that they stay in the cache
TASK_ROWS = 64  # a task has at least so many rows, or all
TASKS = 4  # at least so many for each thread, where there are rows enough
KEPT = 256  # shapes of calls whose launches are remembered

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
    step = max(1, tasks // (4 * threads))
    starts = iter(range(0, tasks, step))  # one step of it is atomic

    def work() -> None:
        for begin in starts:
            function(begin, min(begin + step, tasks), *arguments)

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
    geometry = problem.geometry
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
    positions = len(problem.lanes) * geometry.window[0] * geometry.window[1]
    tasks = portable.tasks(positions, len(rows), geometry.groups)
    if len(flat) == 1:
        share(threads, portable.values, tasks, *arguments)
        return
    peaks = [flat.get(n, np.empty(output.size, np.int64)) for n in ("peak_low", "peak_high")]
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
    for piece, first in pack.pieces(problem, FORMS[part.form]):
        flat = {name: array[first:] for name, array in results.items()} if first else results
        _launch(piece, setting, accumulator, threads, flat)


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """A kernel, and what it and its operands are told; the same for all calls of such ranges."""

    kernel: Kernel
    register: Array  # as `REGISTER`
    shift: int  # rows are times 2^shift
    take_rows: int  # what is taken from operands
    take_lanes: int
    forgets: bool
    largest: int  # of the inputs, in size


@lru_cache(maxsize=KEPT)
def setting_of(
    work: str,
    form: str,
    inputs: IntSpec,
    weights: IntSpec,
    accumulator: Accumulator,
    *,
    lanes_are_inputs: bool,
    pixels: bool,
) -> Setting:
    """How to do this work in this form on operands of these ranges."""
    shift, offset, clamps = (
        _scaled(inputs, weights, accumulator) if form == "int16" else (0, 0, False)
    )
    low, high, span = accumulator.min, accumulator.max, 2**accumulator.bits
    lane_span = span if form == "float64" else span - 1
    # sums beyond 32 bits are asked for in int32 only where they fit: nothing is cut from those
    wide = low >= -(2**31) or FORMS[form].wide == "int64"
    floor, mask = (low, span - 1) if wide else (-(2**31), -1)
    lanes_unsigned, take = (
        _bytes(inputs, weights, lanes_are_inputs=lanes_are_inputs)
        if form == "int8x4"
        else (False, 0)
    )
    register = [low + offset, high + offset, lane_span, shift, offset, floor, mask]
    return Setting(
        Kernel(
            work,
            form,
            wraps=work == "count" and accumulator.overflow is Overflow.WRAP,
            clamps=clamps,
            lanes_unsigned=lanes_unsigned,
            pixels=pixels,
        ),
        read_only(np.array(register, np.int64)),
        shift=shift,
        take_rows=0 if lanes_unsigned else take,
        take_lanes=take if lanes_unsigned else 0,
        forgets=work == "saturate" and span <= 2 * inputs.magnitude * weights.magnitude,
        largest=inputs.magnitude,
    )


def _bytes(inputs: IntSpec, weights: IntSpec, *, lanes_are_inputs: bool) -> tuple[bool, int]:
    """Whether the lanes are the side that is uint8, or the rows, and what is taken from it."""
    take = byte_shift(inputs, weights)
    assert take is not None, "the plan chose bytes"
    if lanes_are_inputs:
        return True, take
    if take:  # rather from the lanes: they are copied anyway
        other = exact_shift(weights, inputs)
        if other is not None:
            return True, other
    return False, take


def _scaled(inputs: IntSpec, weights: IntSpec, accumulator: Accumulator) -> tuple[int, int, bool]:
    """Shift and offset with which int16 holds the register, and whether its lowest rail is another.

    The register's highest value is the lane's, because that is where the lane saturates.
    """
    shift = 16 - accumulator.bits
    factors = [bound for spec in (weights, inputs) for bound in (spec.min, spec.max)]
    corners = [q * x for q in factors[:2] for x in factors[2:]]
    if shift and not all(-(2**15) <= value << shift < 2**15 for value in factors + corners):
        return 0, 2**15 - 1 - accumulator.max, True
    # scaled up, it has both rails of the lane; what the bits below its lowest hold never matters
    return shift, -(2**15 >> shift) - accumulator.min, False


@dataclass(frozen=True, slots=True, eq=False)
class Launch:
    """A call of `vector.run`, but for its arrays; the same for all calls of one geometry."""

    lay: Layout
    shape: vector.Shape
    work: vector.Work
    tasks: int
    units: int  # of channels in a row of scalars
    offsets: Array


@lru_cache(maxsize=KEPT)
def launch_of(
    geometry: Geometry, kernel: Kernel, accumulator: Accumulator, forgets: bool, threads: int
) -> Launch:
    """How to run a kernel on a problem of this geometry, by several threads."""
    target = host()
    lay = pack.layout(geometry, FORMS[kernel.form])
    lanes = geometry.lanes[0] if geometry.single else geometry.window[0] * lay.pitch
    size = tiles.shape(kernel, target, geometry.rows_of_group, lanes)
    tile = tiles.compile_tile(kernel, target, *size)
    shape = _shape(geometry, lay, tile, threads)
    work = _work(geometry, kernel, lay, tile, accumulator)._replace(forgets=forgets)
    units = max(lay.units, work.segments * lay.segment)
    offsets = np.zeros((units, lay.taps), np.int64)
    offsets[: lay.units] = lay.offsets(shape.block_images * shape.tall * lay.pitch)
    tasks = shape.blocks * -(-shape.padded_rows // shape.task_rows)
    return Launch(lay, shape, work, tasks, units, read_only(offsets.reshape(-1)))


def _launch(
    problem: Problem,
    setting: Setting,
    accumulator: Accumulator,
    threads: int,
    results: Results,
) -> None:
    """Pack one piece and run the kernel on it, by several threads."""
    launch = launch_of(problem.geometry, setting.kernel, accumulator, setting.forgets, threads)
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
        positive, negative = portable.sign_sums(problem.weights)
        given = setting.take_rows * (positive - negative)
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
        read_only(row_starts),
        read_only(lane_starts),
        setting.register,
        NO_STATE[lay.form.wide],
        *(results.get(name, empty) for name, empty in NO_RESULTS.items()),
    )


def _work(
    geometry: Geometry, kernel: Kernel, lay: Layout, tile: tiles.Tile, accumulator: Accumulator
) -> vector.Work:
    """What every tile does."""
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
        lane_limits=not geometry.lanes_are_inputs,
        forgets=False,
        low=accumulator.min,
        high=accumulator.max,
    )
    if not paired or kernel.work == "peaks":
        return work
    limited = Kernel("cruise", kernel.form, lane_limits=work.lane_limits)
    cruise = tiles.compile_tile(limited, host(), tile.rows, tile.vectors)
    return work._replace(cruise=cruise.address, segments=-(-lay.units // lay.segment))


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


def _shape(geometry: Geometry, lay: Layout, tile: tiles.Tile, threads: int) -> vector.Shape:
    """Blocks whose planes fit the cache; tasks enough for the threads."""
    height, width = geometry.window
    count, _, image_height, image_width = geometry.lanes
    rows, groups = geometry.rows_of_group, geometry.groups
    band, images = height, 1
    image_bytes = lay.line_bytes * (height + lay.below) + 1
    if geometry.single:
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
        channels=geometry.rows[1],
        height=image_height,
        width=image_width,
        groups=groups,
        stride_y=geometry.stride[0],
        stride_x=geometry.stride[1],
        pad_y=geometry.padding[0],
        pad_x=geometry.padding[1],
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
        image_step=geometry.image_step,
        row_step=geometry.row_step,
    )
