"""Blocks of registers through vector tiles: lay out the lanes, choose steps, store results.

One side of the problem is the *rows*, packed beforehand; the other, the *lanes*, is copied into
planes in which the vector of each tap is contiguous, at a fixed offset: no im2col matrix exists.
For a convolution the lanes are output positions of a band of rows; a linear layer is one whose
images have a single pixel. Only `accsim.execute` calls these functions, after every check.

They release the interpreter lock and do the tasks from `begin` to `end`: several threads share a
call. Their cache on disk sees only edits of this file: what is compiled together stays together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

Array = Any  # numba types its arguments itself

ARGUMENTS = (  # of a tile, int64 each
    "state",  # its first field, (rows, lanes) of the form's wide type: true values
    "second",  # its other fields, likewise
    "third",
    "state_stride",  # bytes from row to row of each
    "row_starts",  # of the wide type: what registers start at, by row; 0: go on from the state
    "lane_starts",  # likewise by lane, to be added
    "rows",  # first scalar of the first row
    "row_stride",  # bytes from row to row
    "lanes",  # first lane of the tile
    "offsets",  # int64: bytes from `lanes` to the vector of each scalar
    "blocks",  # how often to repeat; segments for "cruise"
    "register",  # int64: see `REGISTER`
    "span",  # scalars of a row in a block or segment
    "limits",  # int32: lowest and highest register from which a segment cannot pass a rail
    "limit_stride",  # bytes from row to row of `limits`
    "done",  # steps taken before
)
STATE, STATE_STRIDE = ARGUMENTS.index("state"), ARGUMENTS.index("state_stride")
ROW_STARTS, LANE_STARTS = ARGUMENTS.index("row_starts"), ARGUMENTS.index("lane_starts")
ROWS, ROW_STRIDE = ARGUMENTS.index("rows"), ARGUMENTS.index("row_stride")
LANES, OFFSETS = ARGUMENTS.index("lanes"), ARGUMENTS.index("offsets")
BLOCKS, SPAN = ARGUMENTS.index("blocks"), ARGUMENTS.index("span")
LIMITS, LIMIT_STRIDE = ARGUMENTS.index("limits"), ARGUMENTS.index("limit_stride")
REGISTER_AT, DONE = ARGUMENTS.index("register"), ARGUMENTS.index("done")

# Constants are passed on as np.int64(...): numba would compile a function anew for each literal.
at = np.uintp  # an index that cannot be negative: loops over it become vector code

SUM, COUNT, PEAKS = range(3)  # what a task stores: the register; also its overflows; its peaks
WORKS = {"exact": SUM, "saturate": SUM, "spill": SUM, "count": COUNT, "peaks": PEAKS}
FIRST_WINDOW = 32  # steps within which forgetting is tried first
REST = 32  # tiles that are stepped after forgetting has failed in one; twice as many each time
LONGEST_REST = 1024


class Shape(NamedTuple):
    """Sizes of one call, in elements. A block is some images, a band of rows, and a group."""

    blocks: int
    images: int
    channels: int  # per group
    height: int
    width: int
    groups: int
    stride_y: int
    stride_x: int
    pad_y: int
    pad_x: int
    out_height: int
    out_width: int
    unit: int  # channels side by side in a lane
    block_images: int
    band: int  # output rows in a block
    tall: int  # buffer rows of an image: the band and what its taps reach below
    pitch: int  # buffer columns
    block_bytes: int  # of the planes of a block
    unit_bytes: int  # of a lane
    rows: int  # rows per group
    padded_rows: int  # rows per group in memory: whole tiles
    task_rows: int  # rows in a task: whole tiles
    image_step: int  # from image to image in the results
    row_step: int  # from row to row in the results


class Work(NamedTuple):
    """What every tile does, and the machine code for it (addresses; 0: none)."""

    stores: int  # SUM, COUNT or PEAKS
    main: int
    cruise: int
    tile_rows: int
    tile_lanes: int
    blocks: int  # of steps: of a tap, or of the taps of two channels
    block_steps: int
    stretch: int  # blocks at a time: as many steps as a lane can count
    block_scalars: int  # of a row
    scalar_bytes: int
    segments: int
    segment_blocks: int
    lane_limits: bool
    forgets: bool
    in_place: bool  # whole tiles hold their state in the results: their types and order fit
    low: int  # the register's rails
    high: int


def _call(context: Any, address: Any, arguments: Any) -> Any:
    """Call the machine code at `address` with the address of its arguments."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pointer = ir.IntType(64).as_pointer()
        kind = ir.FunctionType(ir.IntType(64), [pointer]).as_pointer()
        function = builder.inttoptr(values[0], kind)
        return builder.call(function, [builder.inttoptr(values[1], pointer)])

    return types.int64(types.int64, types.int64), generate


def _memory(context: Any, target: Any, source: Any, size: Any) -> Any:
    """Copy `size` bytes from address to address: of short rows LLVM makes no vector code."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        to, source, size = values
        begin = size.type(0)
        for width in (64, 16, 4, 1):
            kind = ir.VectorType(ir.IntType(8), width).as_pointer()
            end = builder.and_(size, size.type(-width))
            with cgutils.for_range_slice(builder, begin, end, size.type(width)) as (at, _):
                chunk = builder.load(builder.inttoptr(builder.add(source, at), kind))
                chunk.align = 1
                builder.store(chunk, builder.inttoptr(builder.add(to, at), kind)).align = 1
            begin = end
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


_invoke: Any = intrinsic(_call)
_move: Any = intrinsic(_memory)


def lay_pixels(
    begin: int, end: int, shape: Shape, units: Array, transpose: int, side: int, out: Array
) -> None:
    """Single-pixel images (images, units) as blocks (blocks, units, block_images).

    `transpose` is the machine code that does squares of `side` images and units.
    """
    across = shape.block_images
    size = len(units) // shape.images
    whole = size // side * side
    arguments = np.zeros(6, np.int64)  # of `emit.transpose`, from 1 on
    arguments[2], arguments[4] = size * units.itemsize, across * units.itemsize
    arguments[5] = size // side
    for block in range(begin, end):
        first, base = block * across, block * size * across
        images = min(across, shape.images - first)
        for n in range(0, images // side * side, side):
            arguments[1] = units.ctypes.data + (first + n) * size * units.itemsize
            arguments[3] = out.ctypes.data + (base + n) * units.itemsize
            _invoke(transpose, arguments.ctypes.data)
        for n in range(images):
            for u in range(whole if n < images // side * side else 0, size):
                out[base + u * across + n] = units[(first + n) * size + u]


def excursions(weights: Array, span: int) -> Array:
    """Sums of sizes of weights (rows, taps) over segments of `span` taps."""
    taps = weights.shape[1]
    out = np.zeros((len(weights), -(-taps // span)), np.int64)
    for r in range(len(weights)):
        for s in range(out.shape[1]):
            total = np.int64(0)
            for k in range(s * span, min((s + 1) * span, taps)):
                total += abs(np.int64(weights[at(r), at(k)]))  # abs(int8(-128)) is -128
            out[r, s] = total
    return out


def _copy(source: Array, first: int, count: int, out: Array, to: int) -> None:
    """Entries side by side; most rows are too short for vector code made from a loop."""
    if source.itemsize == out.itemsize:
        size = out.itemsize
        _move(out.ctypes.data + to * size, source.ctypes.data + first * size, count * size)
    else:
        for i in range(count):
            out[at(to + i)] = source[at(first + i)]


def lay(
    begin: int, end: int, shape: Shape, source: Array, below: Array, beside: Array, out: Array
) -> None:
    """Input channels of each block, by stride phase, so that taps are plain offsets.

    source (images, groups * channels, height, width), flat; `below` and `beside` are the stride
    phases that taps fall on; what lies on padding is left as it is in `out`.
    """
    size, step = shape.unit, shape.stride_x
    plane = shape.block_images * shape.tall * shape.pitch * size
    bands = -(-shape.out_height // shape.band)
    for block in range(begin, end):
        group, band = block % shape.groups, block // shape.groups % bands
        first = block // (shape.groups * bands) * shape.block_images
        images = min(shape.block_images, shape.images - first)
        for c in range(shape.channels):
            for py in range(len(below)):
                for px in range(len(beside)):
                    base = ((c // size * len(below) + py) * len(beside) + px) * plane + c % size
                    base += block * (len(out) // shape.blocks)
                    # columns x with 0 <= x * stride_x + shift < width
                    shift = beside[px] - shape.pad_x
                    left = max(0, -(shift // step))
                    right = min(shape.pitch, (shape.width - 1 - shift) // step + 1)
                    for n in range(images):
                        image = (first + n) * shape.groups * shape.channels
                        image = (image + group * shape.channels + c) * shape.height
                        for y in range(shape.tall):
                            row = (band * shape.band + y) * shape.stride_y + below[py] - shape.pad_y
                            if 0 <= row < shape.height:
                                to = base + (n * shape.tall + y) * shape.pitch * size
                                here = (image + row) * shape.width + shift
                                if size == 1 and step == 1:
                                    _copy(source, here + left, right - left, out, to + left)
                                else:
                                    for x in range(left, right):
                                        out[at(to + x * size)] = source[at(here + x * step)]


def _steps(arguments: Array, work: Work, first: int, count: int) -> None:
    """Run `count` blocks of steps of a tile from block `first`."""
    rows, offsets = arguments[ROWS], arguments[OFFSETS]
    arguments[ROWS] = rows + first * work.block_scalars * work.scalar_bytes
    arguments[OFFSETS] = offsets + first * work.block_scalars * 8
    arguments[BLOCKS] = count
    arguments[SPAN] = work.block_scalars
    arguments[DONE] = first * work.block_steps
    _invoke(work.main, arguments.ctypes.data)
    arguments[ROW_STARTS] = 0
    arguments[ROWS], arguments[OFFSETS] = rows, offsets


def _cruise(arguments: Array, work: Work, done: int, limit_bytes: int) -> int:
    """How many segments from `done` on cannot pass a rail; they are added as exact products."""
    rows, offsets, limits = arguments[ROWS], arguments[OFFSETS], arguments[LIMITS]
    scalars = work.segment_blocks * work.block_scalars
    arguments[ROWS] = rows + done * scalars * work.scalar_bytes
    arguments[OFFSETS] = offsets + done * scalars * 8
    arguments[BLOCKS] = work.segments - done
    arguments[SPAN] = scalars
    arguments[LIMITS] = limits + done * limit_bytes
    count: int = _invoke(work.cruise, arguments.ctypes.data)
    arguments[ROW_STARTS] = 0
    arguments[ROWS], arguments[OFFSETS], arguments[LIMITS] = rows, offsets, limits
    return count


def _remembers(
    fields: tuple[Array, Array, Array],
    arguments: Array,
    work: Work,
    window: int,
    rows: int,
    live: int,
) -> bool:
    """Whether the last `window` blocks leave a trace of the register before them.

    Every step is monotone: if registers that start on both rails meet, so has every other. Looks at
    the first `live` lanes of the first `rows` rows; fields (rows, lanes), flat.
    """
    state, other, _ = fields
    arguments[ROW_STARTS] = 0
    for i in range(len(state)):
        state[at(i)] = work.low
    _steps(arguments, work, work.blocks - window, window)
    for i in range(len(state)):
        other[at(i)] = state[at(i)]
        state[at(i)] = work.high
    _steps(arguments, work, work.blocks - window, window)
    for r in range(rows):
        apart = 0
        for i in range(r * work.tile_lanes, r * work.tile_lanes + live):
            apart |= state[at(i)] ^ other[at(i)]
        if apart:
            return True
    return False


def _fold(arguments: Array, work: Work, limit_bytes: int) -> None:
    """All steps of a tile; segments that cannot pass a rail as exact products."""
    done: Array = np.int64(0)
    leap: Array = np.int64(1)
    first: Array = np.int64(0)
    if work.stores == COUNT and work.segments:
        _steps(arguments, work, 0, 0)  # the tile of segments knows of sums alone
    while first < work.blocks:
        last = work.blocks
        if work.segments:
            cruised = _cruise(arguments, work, done, limit_bytes)
            # where registers stay near a rail, look ever more seldom
            leap = 1 if cruised else min(2 * leap, 8)
            done += cruised
            first = done * work.segment_blocks
            done += leap
            last = min(done * work.segment_blocks, last)
        for block in range(first, last, work.stretch):
            _steps(arguments, work, block, min(work.stretch, last - block))
        first = last


def _spread(state: Array, first: int, count: int, out: Array, to: int, step: int) -> None:
    """Some of the state to every `step`-th entry of `out`."""
    if step == 1:
        _copy(state, first, count, out, to)
        return
    for i in range(count):
        out[at(to + i * step)] = state[at(first + i)]


def _store(
    field: Array, shape: Shape, work: Work, where: tuple[int, int, int, int, int], out: Array
) -> None:
    """A field of the tile, (rows, lanes), to `out`.

    where = (first lane, images and band rows of the block, rows of the tile, the entry of `out`
    for the tile's first row and the block's first image and pixel).
    """
    lane0, images, band, rows, start = where
    width = work.tile_lanes
    if shape.tall * shape.pitch == 1:  # single pixels: a lane is an image
        count = min(width, images - lane0)
        to = start + lane0 * shape.image_step
        for r in range(rows):
            _spread(field, r * width, count, out, to + r * shape.row_step, shape.image_step)
        return
    line, column = lane0 // shape.pitch, lane0 % shape.pitch
    image, y = line // shape.tall, line % shape.tall
    lane: Array = np.int64(0)
    while lane < width and image < images:
        count = min(shape.out_width - column, width - lane)
        if y < band and count > 0:
            to = start + image * shape.image_step + y * shape.out_width + column
            for r in range(rows):
                _copy(field, r * width + lane, count, out, to + r * shape.row_step)
        lane += shape.pitch - column
        column, y = 0, y + 1
        if y == shape.tall:
            y, image = 0, image + 1


def run(
    begin: int,
    end: int,
    shape: Shape,
    work: Work,
    lanes: Array,
    scalars: Array,
    offsets: Array,
    limits: Array,
    row_starts: Array,
    lane_starts: Array,
    register: Array,
    wide: Array,
    out: Array,
    overflows: Array,
    begins: Array,
    low: Array,
    high: Array,
) -> None:
    """Some tasks of a call: a block of lanes and some rows each.

    lanes (blocks, block_bytes) and scalars (groups * padded_rows, bytes) are uint8; offsets, limits
    and register as in `emit`; starts are by row, and by image or those of any tile; `wide` is an
    array of the state's type, which is theirs. Results are flat; those that the work does not store
    are empty.
    """
    bands = -(-shape.out_height // shape.band)
    tile = work.tile_rows * work.tile_lanes
    scratch = np.zeros(tile, wide.dtype), np.zeros(tile, wide.dtype), np.zeros(tile, wide.dtype)
    own, results = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for f in range(3):
        own[f] = scratch[f].ctypes.data
    if work.stores == PEAKS:  # their sum comes first, and is no result
        results[1], results[2] = low.ctypes.data, high.ctypes.data
    else:
        results[0], results[1] = out.ctypes.data, overflows.ctypes.data
        results[2] = begins.ctypes.data
    arguments = np.zeros(len(ARGUMENTS), np.int64)
    arguments[ROW_STRIDE] = scalars.shape[1]
    arguments[OFFSETS] = offsets.ctypes.data
    arguments[REGISTER_AT] = register.ctypes.data
    shortest = max(1, FIRST_WINDOW // work.block_steps)
    window, rest, pause = shortest, 0, REST
    for task in range(begin, end):
        part, block = task // shape.blocks, task % shape.blocks
        group, band = block % shape.groups, block // shape.groups % bands
        first = block // (shape.groups * bands) * shape.block_images
        images = min(shape.block_images, shape.images - first)
        top = band * shape.band
        tall = min(shape.band, shape.out_height - top)
        count = ((images - 1) * shape.tall + tall - 1) * shape.pitch + shape.out_width
        last = min(shape.padded_rows, (part + 1) * shape.task_rows)
        for lane0 in range(0, count, work.tile_lanes):
            live = min(work.tile_lanes, count - lane0)
            arguments[LANES] = lanes.ctypes.data + block * shape.block_bytes
            arguments[LANES] += lane0 * shape.unit_bytes
            for row0 in range(part * shape.task_rows, last, work.tile_rows):
                row = group * shape.padded_rows + row0
                rows = min(work.tile_rows, shape.rows - row0)
                arguments[ROWS] = scalars.ctypes.data + row * scalars.shape[1]
                if work.lane_limits:  # (blocks, segments, 2, lanes)
                    limit_bytes = arguments[LIMIT_STRIDE] = 8 * work.tile_lanes
                    arguments[LIMITS] = limits.ctypes.data + block * work.segments * limit_bytes
                else:  # (rows, segments, 2)
                    limit_bytes, arguments[LIMIT_STRIDE] = 8, 8 * work.segments
                    arguments[LIMITS] = limits.ctypes.data + row * arguments[LIMIT_STRIDE]
                to = first * shape.image_step + top * shape.out_width
                to += (group * shape.rows + row0) * shape.row_step
                whole = work.in_place and live == work.tile_lanes and rows == work.tile_rows
                places = results if whole else own
                skip, stride = (to + lane0, shape.row_step) if whole else (0, work.tile_lanes)
                for f in range(3):
                    arguments[STATE + f] = places[f] + skip * wide.itemsize
                arguments[STATE_STRIDE] = stride * wide.itemsize
                forgotten = False
                if work.forgets and rest == 0:
                    while not forgotten and 8 * window <= work.blocks:
                        forgotten = not _remembers(scratch, arguments, work, window, rows, live)
                        window = window if forgotten else 2 * window
                    # where nothing is forgotten, try ever more seldom
                    rest, pause = (0, REST) if forgotten else (pause, min(2 * pause, LONGEST_REST))
                    window = window if forgotten else shortest
                elif rest:
                    rest -= 1
                if not forgotten:
                    arguments[ROW_STARTS] = row_starts.ctypes.data + row * wide.itemsize
                    arguments[LANE_STARTS] = lane_starts.ctypes.data
                    if len(lane_starts) > work.tile_lanes:
                        arguments[LANE_STARTS] += (first + lane0) * wide.itemsize
                    _fold(arguments, work, limit_bytes)
                if not whole:
                    where = (lane0, images, tall, rows, to)
                    if work.stores == PEAKS:
                        _store(scratch[1], shape, work, where, low)
                        _store(scratch[2], shape, work, where, high)
                    else:
                        _store(scratch[0], shape, work, where, out)
                    if work.stores == COUNT:
                        _store(scratch[1], shape, work, where, overflows)
                        _store(scratch[2], shape, work, where, begins)


_compiled = njit(cache=True, nogil=True)
lay_pixels = _compiled(lay_pixels)
excursions = _compiled(excursions)
_copy = njit(cache=True, nogil=True, inline="always")(_copy)  # a call costs more than a short row
lay = _compiled(lay)
_steps = _compiled(_steps)
_cruise = _compiled(_cruise)
_remembers = _compiled(_remembers)
_fold = _compiled(_fold)
_spread = _compiled(_spread)
_store = _compiled(_store)
run = _compiled(run)
