"""What kernels are told beside their operands: computed once for all calls that are alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from accsim import pack
from accsim._check import read_only
from accsim.kernels import tiles, vector
from accsim.kernels.forms import CODES, FORMS, SCALARS, Kernel, host
from accsim.pack import Geometry, Layout
from accsim.plan import byte_shift, exact_shift, output_dtype
from accsim.spec import Accumulator, IntSpec, Overflow

__all__ = ["Launch", "Setting", "launch_of", "setting_of"]

BLOCK_BYTES = 2**17  # of the planes of a block, so that they stay in the cache
TASK_ROWS = 64  # a task has at least so many rows, or all
TASKS = 16  # at least so many for each thread, where there are rows enough
KEPT = 128  # kinds of calls that are remembered, and
LONGEST = 2**14  # the most taps of such a call: all of their offsets are 16 MiB at most

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """A kernel, and what it and its operands are told; the same for all calls of such ranges."""

    kernel: Kernel
    register: Array  # as `REGISTER`
    table: Array | None  # what it refers to
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
    wide = low >= -(2**31) or form == "float64"
    floor, mask = (low, span - 1) if wide else (-(2**31), -1)
    lanes_unsigned, take = (
        _bytes(inputs, weights, lanes_are_inputs=lanes_are_inputs)
        if form == "int8x4"
        else (False, 0)
    )
    sides = (weights, inputs) if lanes_are_inputs else (inputs, weights)
    looks_up = form == "int16" and _looks_up(*sides)
    table = (
        _products(_least(sides[0], SCALARS), _least(sides[1], CODES), shift) if looks_up else None
    )
    address = 0 if table is None else table.ctypes.data
    register = [low + offset, high + offset, lane_span, shift, offset, floor, mask, address]
    return Setting(
        Kernel(
            work,
            form,
            wraps=work == "count" and accumulator.overflow is Overflow.WRAP,
            clamps=clamps,
            lanes_unsigned=lanes_unsigned,
            pixels=pixels and form == "int16x2" and work != "exact",
            eases=(work, form) == ("saturate", "int16")
            and not looks_up
            and inputs.magnitude * weights.magnitude < span,
            looks_up=looks_up,
        ),
        read_only(np.array(register, np.int64)),
        table,
        shift=0 if looks_up else shift,
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


def _looks_up(rows: IntSpec, lanes: IntSpec) -> bool:
    """Whether products of int16 are taken from tables: sooner than a multiplication, if small."""
    if rows.max - rows.min >= SCALARS or lanes.max - lanes.min >= CODES:
        return False
    return host().permutes


@lru_cache(maxsize=KEPT)
def _products(rows: int, lanes: int, shift: int) -> Array:
    """Products times 2^shift, int16 (SCALARS, CODES), of codes from these least ones on.

    Each code is where its lowest bits say; each row of the table is one line of the cache.
    """
    sides = [
        least + (np.arange(count) - least) % count
        for least, count in ((rows, SCALARS), (lanes, CODES))
    ]
    size, line = SCALARS * CODES * 2, 64
    space = np.empty(size + line, np.uint8)
    skip = -space.ctypes.data % line
    table = space[skip : skip + size].view(np.int16).reshape(SCALARS, CODES)
    table[...] = (np.multiply.outer(*sides) << shift).astype(np.int16)
    return read_only(table)


def _least(spec: IntSpec, count: int) -> int:
    """Where a table of so many codes begins that holds this range; few different places."""
    if -count // 2 <= spec.min and spec.max < count // 2:
        return -count // 2
    return 0 if spec.min >= 0 and spec.max < count else spec.min


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


def launch_of(
    geometry: Geometry, kernel: Kernel, accumulator: Accumulator, forgets: bool, threads: int
) -> Launch:
    """How to run a kernel on a problem of this geometry, by several threads."""
    find = _remembered if prod(geometry.rows[1:]) <= LONGEST else _computed
    return find(geometry, kernel, accumulator, forgets, threads)


def _computed(
    geometry: Geometry, kernel: Kernel, accumulator: Accumulator, forgets: bool, threads: int
) -> Launch:
    """What `launch_of` returns."""
    target = host()
    lay = pack.layout(geometry, FORMS[kernel.form])
    lanes = count = geometry.lanes[0]
    if not geometry.single:  # images one below the other
        lanes = (count * (geometry.window[0] + lay.below) - lay.below) * lay.pitch
    size = tiles.shape(kernel, target, geometry.rows_of_group, lanes)
    tile = tiles.compile_tile(kernel, target, *size)
    shape = _shape(geometry, lay, tile, threads)
    work = _work(geometry, kernel, lay, tile, accumulator, forgets)
    units = max(lay.units, work.segments * lay.segment)
    offsets = np.zeros((units, lay.taps), np.int64)
    offsets[: lay.units] = lay.offsets(shape.block_images * shape.tall * lay.pitch)
    tasks = shape.blocks * -(-shape.padded_rows // shape.task_rows)
    return Launch(lay, shape, work, tasks, units, read_only(offsets.reshape(-1)))


def _returned(kernel: Kernel, accumulator: Accumulator) -> bool:
    """Whether all results of a kernel are of the type of its state."""
    if kernel.work == "peaks":
        return True
    counts = kernel.work != "count" or kernel.wide == "int32"
    return counts and output_dtype(accumulator) == kernel.wide


_remembered = lru_cache(maxsize=KEPT)(_computed)


def _work(
    geometry: Geometry,
    kernel: Kernel,
    lay: Layout,
    tile: tiles.Tile,
    accumulator: Accumulator,
    forgets: bool,
) -> vector.Work:
    """What every tile does."""
    # sums take whole units; steps through pairs take the taps of two channels at a time
    paired = kernel.form == "int16x2" and kernel.work != "exact"
    block_steps = 2 * lay.taps if paired else 1
    side_by_side = geometry.single and geometry.image_step == 1
    work = vector.Work(
        stores=vector.WORKS[kernel.work],
        main=tile.address,
        cruise=0,
        tile_rows=tile.rows,
        tile_lanes=tile.lanes,
        blocks=lay.units if paired else lay.units * lay.taps,
        block_steps=block_steps,
        stretch=max(1, lay.form.countable // block_steps),
        block_scalars=lay.taps if paired else 1,
        scalar_bytes=lay.unit_bytes,
        segments=0,
        segment_blocks=lay.segment,
        lane_limits=not geometry.lanes_are_inputs,
        forgets=forgets,
        in_place=side_by_side and not forgets and _returned(kernel, accumulator),
        low=accumulator.min,
        high=accumulator.max,
    )
    if not paired or kernel.work == "peaks":
        return work
    limited = Kernel("cruise", kernel.form, lane_limits=work.lane_limits)
    cruise = tiles.compile_tile(limited, host(), tile.rows, tile.vectors)
    return work._replace(cruise=cruise.address, segments=-(-lay.units // lay.segment))


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
