"""How kernels are run on a geometry: computed once for all calls that are alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from accsim import pack
from accsim._check import read_only
from accsim.kernels import tiles, vector
from accsim.kernels.forms import FORMS, Kernel, host
from accsim.pack import Geometry, Layout
from accsim.plan import output_dtype
from accsim.setting import KEPT, Setting
from accsim.spec import Accumulator

__all__ = ["Launch", "launch_of"]

BLOCK_BYTES = 2**17  # of the planes of a block, so that they stay in the cache
TASK_ROWS = 64  # a task has at least so many rows, or all
TASKS = 16  # at least so many for each thread, where there are rows enough
LONGEST = 2**14  # the most taps of a call that is remembered: all of their offsets are 16 MiB

Array = np.ndarray[Any, np.dtype[Any]]


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
    geometry: Geometry, setting: Setting, accumulator: Accumulator, threads: int
) -> Launch:
    """How to run a kernel on a problem of this geometry, by several threads."""
    find = _remembered if prod(geometry.rows[1:]) <= LONGEST else _computed
    return find(geometry, setting.kernel, accumulator, setting.forgets, setting.span, threads)


def _computed(
    geometry: Geometry,
    kernel: Kernel,
    accumulator: Accumulator,
    forgets: bool,
    span: int,
    threads: int,
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
    if span:  # of single pixels: whole groups, all of them in one call of the tile
        groups = -(-lay.units // span)
        work = work._replace(blocks=groups, stretch=groups, block_scalars=span)
    units = max(lay.units, work.segments * lay.segment, work.blocks * span)
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
