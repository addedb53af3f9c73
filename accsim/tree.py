"""Layers through a datapath: place the products, climb the levels, report each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from accsim._check import IntArray, read_only
from accsim.bounds import magnitude
from accsim.datapath import Datapath
from accsim.errors import HostWidthError, RangeError
from accsim.layer import IntLayer, check_held, check_start
from accsim.plan import largest_sum
from accsim.spec import Accumulator, Overflow, Rail

__all__ = [
    "check_takes",
    "check_tree",
    "climb",
    "lane_type",
    "placed",
    "store",
    "windows",
]

ENTRIES = 2**21  # inputs under taps that are laid out at a time
FEW = 64  # output positions that fill no vectors
SMALL = 2**22  # fewer products than that are done by one thread

Array = np.ndarray[Any, np.dtype[Any]]


def check_takes(layer: IntLayer, accumulator: Accumulator | Datapath) -> None:
    """Raise unless the register or datapath can compute the layer.

    Raises: as `layer.check_start` and `check_tree`.
    """
    if isinstance(accumulator, Datapath):
        check_tree(layer, accumulator)
    else:
        check_start(layer, accumulator)


def check_tree(layer: IntLayer, datapath: Datapath) -> None:
    """Raise unless the layer's operands and biases are what the datapath takes.

    Raises: RangeError for ranges that the hardware has no operands for, or a bias outside the
    summing register.
    """
    check_held(layer, datapath.register)
    sides = (
        ("inputs", layer.input_spec, datapath.inputs),
        ("weights", layer.weight_spec, datapath.weights),
    )
    for name, has, takes in sides:
        if takes is not None and not (takes.min <= has.min and has.max <= takes.max):
            raise RangeError(f"{datapath} takes {name} of {takes.describe()}, not {has.describe()}")


def reach(layer: IntLayer, datapath: Datapath) -> int:
    """Every intermediate of this simulation is smaller in size, whatever the data.

    Than its span 2^bits and the largest sum of items that it is handed, of each level, those of the
    level below being in that one's range; and than one more than the largest exact sum.
    """
    item = layer.weight_spec.magnitude * layer.input_spec.magnitude
    bias = 0 if layer.bias is None else magnitude(layer.bias)
    places = len(datapath.places(layer.taps))
    most = largest_sum(layer) + 1
    spans = (1, *datapath.spans)
    for i, level in enumerate(datapath.levels):
        if i < datapath.summing:
            items = min(level.terms or 1, max(places, 1))
        else:
            items = max(-(-places // spans[-1]), 1) if i == datapath.summing else 1
        total = items * item + (bias if i == datapath.summing else 0)
        most = max(most, 2**level.bits + total)
        # a small negative sum is a large one in a register that wraps and has no sign
        turns = level.overflow is Overflow.WRAP and not level.signed
        item = 2**level.bits if turns else min(total, 2**level.bits)
    return most


def lane_type(layer: IntLayer, datapath: Datapath) -> type[np.int32] | type[np.int64]:
    """The lane type in which no intermediate of this simulation can overflow, whatever the data.

    Raises: HostWidthError if it would take more than 64 bits.
    """
    most = reach(layer, datapath)
    if most > 2**63:
        raise HostWidthError(
            f"{most}, the largest register's span plus the largest sum it is handed, or 1 plus the"
            " largest exact sum, must not exceed 2^63"
        )
    return np.int32 if most <= 2**31 else np.int64


def climb(
    layer: IntLayer,
    x: IntArray,
    datapath: Datapath,
    threads: int,
    output: Array,
    fields: Sequence[Array] = (),
) -> None:
    """Fill what is asked for, by plain loops; arguments are checked, and no output is missing.

    Shapes: output as the layer's; fields (levels, *outputs), those of `LevelRun`, or its first two,
    or none.
    """
    from accsim.execute import share  # numba loads when first used
    from accsim.kernels import levels as kernels

    places = datapath.places(layer.taps)
    rows = read_only(placed(layer.rows, places, axis=1))
    table = _table(datapath, len(places), lane_type(layer, datapath))
    bias = np.zeros(layer.channels, np.int64) if layer.bias is None else layer.bias
    none = [np.empty((0, 0, 0), np.int64)] * (4 - len(fields) if fields else 0)
    for at, window in windows(layer, x, ENTRIES):
        own = at.channels(layer)
        sides = placed(_columns(window), places, axis=0), rows[own]
        starts = bias[own], np.zeros(sides[0].shape[1], np.int64)
        swapped = sides[0].shape[1] < min(FEW, len(sides[1]))  # lanes are what there is more of
        if swapped:
            sides, starts = (sides[1].T, sides[0].T), starts[::-1]
        columns, scalars = (read_only(np.ascontiguousarray(side)) for side in sides)
        shape = len(scalars), columns.shape[1]
        out = np.empty(shape, output.dtype)
        parts = [np.empty((len(a), *shape), a.dtype) for a in fields]
        share(
            threads if prod(shape) * len(places) >= SMALL else 1,
            kernels.statistics if fields else kernels.values,
            kernels.tasks(shape[1], shape[0]),
            columns,
            scalars,
            table,
            datapath.summing,
            *(read_only(start) for start in starts),
            datapath.bias == "last",
            out,
            *parts,
            *none,
        )
        for whole, part in zip([output[None], *fields], [out[None], *parts], strict=True):
            found = part.swapaxes(1, 2) if swapped else part
            store(layer, x, at, found, window.shape, whole)


@dataclass(frozen=True, slots=True)
class At:
    """Which outputs some windows belong to: images, group of channels, lines of each image."""

    images: slice
    group: int
    lines: slice

    def channels(self, layer: IntLayer) -> slice:
        """Those of the group."""
        each = layer.channels // layer.groups
        return slice(self.group * each, (self.group + 1) * each)


def store(
    layer: IntLayer,
    x: IntArray,
    at: At,
    part: Array,
    window: tuple[int, ...],
    whole: Array,
) -> None:
    """Put results (fields, channels, positions) of windows of this shape where they belong."""
    target = whole.reshape(len(whole), *_four(layer, x))
    found = part.reshape(*part.shape[:2], window[0], *window[2:4])
    target[:, at.images, at.channels(layer), at.lines] = np.moveaxis(found, 1, 2)


def windows(layer: IntLayer, x: IntArray, most: int) -> Iterator[tuple[At, IntArray]]:
    """What the taps of each output read, for about `most` inputs under taps at a time.

    Views (images, I, lines, columns, kh, kw); a linear layer has images of one pixel.
    """
    stride, padding, dilation, groups = layer.geometry
    images, _, height, width = _four(layer, x)
    weight = layer.weight if layer.is_conv else layer.weight[:, :, None, None]
    inputs, *kernel = weight.shape[1:]
    if not layer.is_conv:
        x = x.reshape(images, layer.taps, 1, 1)
    spans = tuple(dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1))
    border = ((0, 0), (0, 0), *((p, p) for p in padding))
    line = layer.taps * width + 1
    lines = min(height, max(1, most // line))
    step = max(1, most // (line * height)) if lines == height else 1
    for first in range(0, images, step):
        some = slice(first, first + step)
        part = np.pad(x[some], border) if any(padding) else x[some]
        if layer.taps == 0:  # numpy has no windows into nothing
            found = np.zeros((len(part), 0, 1, 1, 1, 1), x.dtype)
        else:
            found = np.lib.stride_tricks.sliding_window_view(part, spans, axis=(2, 3))
            found = found[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
        for group in range(groups):
            own = slice(group * inputs, (group + 1) * inputs)
            for top in range(0, height, lines):
                yield At(some, group, slice(top, top + lines)), found[:, own, top : top + lines]


def placed(array: IntArray, places: IntArray, axis: int) -> IntArray:
    """Entries of each place along an axis, 0 where a product of 0 stands in."""
    taps = array.shape[axis]
    if not taps or (taps == len(places) and (places == np.arange(taps)).all()):
        return np.ascontiguousarray(array)
    out = np.take(array, places, axis=axis)
    missing = [slice(None)] * array.ndim
    missing[axis] = places < 0  # type: ignore[call-overload]
    out[tuple(missing)] = 0
    return np.ascontiguousarray(out)


def _columns(window: IntArray) -> IntArray:
    """Windows as (taps, positions)."""
    taps = prod(window.shape[i] for i in (1, 4, 5))
    return window.transpose(1, 4, 5, 0, 2, 3).reshape(taps, -1 if taps else len(window))


def _four(layer: IntLayer, x: IntArray) -> tuple[int, int, int, int]:
    """The shape of the outputs as images, a linear layer's of one pixel."""
    shape = layer.output_shape(x.shape)
    if layer.is_conv:
        return shape[0], shape[1], shape[2], shape[3]
    return prod(shape[:-1]), shape[-1], 1, 1


def _table(datapath: Datapath, places: int, lane: type[np.int32] | type[np.int64]) -> Array:
    """The levels as `kernels.levels` takes them."""
    spans = [*datapath.spans, *[0] * (len(datapath.levels) - datapath.summing)]
    return read_only(
        np.array(
            [
                (
                    level.min,
                    level.max,
                    2**level.bits - 1,
                    level.overflow is Overflow.SATURATE,
                    level.rail is Rail.STEP,
                    min(span, max(places, 1)),
                )
                for level, span in zip(datapath.levels, spans, strict=True)
            ],
            lane,
        )
    )
