"""Operands as the vector kernels read them: packed rows, lanes, offsets of taps, safe limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from accsim._check import IntArray, plain, read_only
from accsim.kernels.forms import Form
from accsim.kernels.vector import excursions
from accsim.layer import IntLayer

__all__ = [
    "Geometry",
    "Layout",
    "Problem",
    "elements",
    "layout",
    "limits",
    "padded",
    "pieces",
    "pixels",
    "problem_of",
    "scalars",
]

FEW_LANES = 32  # a linear layer with fewer channels has its inputs in the lanes
ROW_BYTES = 2**23  # of the rows packed at a time
LANE_BYTES = 2**23  # of the lanes' operands laid out at a time
SEGMENT = 16  # steps of a segment, as nearly as whole groups of channels allow

Array = np.ndarray[Any, np.dtype[Any]]


class Geometry(NamedTuple):  # tuples are made and hashed fast: every call does
    """Shapes and steps of a problem: what layout, tiles and tasks follow from, whatever its data.

    Output pixel p of row r in image n is entry n * image_step + r * row_step + p of a flat result.
    """

    rows: tuple[int, ...]  # (groups * R, I, kh, kw)
    lanes: tuple[int, ...]  # (N, groups * I, H, W)
    window: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    image_step: int
    row_step: int
    lanes_are_inputs: bool

    @property
    def rows_of_group(self) -> int:
        """R: rows in each group."""
        return self.rows[0] // self.groups

    @property
    def single(self) -> bool:
        """Whether images and kernels are one pixel, in one group: a matrix product."""
        shapes = self.lanes[2:], self.rows[2:], self.window
        return shapes == ((1, 1),) * 3 and self.padding == (0, 0) and self.groups == 1


class Problem(NamedTuple):
    """Two sides: `rows` slide over `lanes`; either may be the weights.

    Starts are what the registers hold first, by row and, unless empty, by image.
    """

    rows: IntArray
    lanes: IntArray
    row_starts: IntArray
    lane_starts: IntArray
    geometry: Geometry

    @property
    def weights(self) -> IntArray:
        """The side that is the weights, as (channels, taps)."""
        side = self.rows if self.geometry.lanes_are_inputs else self.lanes
        return side.reshape(len(side), -1)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where taps lie in planes of lanes.

    A plane holds one unit (a group of channels side by side) and one stride phase of every image in
    a task, `pitch` columns wide; rows and columns of a tap in it are `rows`, `columns`.
    """

    form: Form
    units: int
    phases: tuple[Array, Array]  # strides' phases that taps fall on, vertical and horizontal
    phase_of: tuple[Array, Array]  # by kernel row, by kernel column: index of its phase
    step_of: tuple[Array, Array]  # likewise: rows below, columns beside the output's own
    pitch: int

    @property
    def below(self) -> int:
        """Rows that the last tap reaches below its output's own."""
        return int(self.step_of[0][-1])

    @property
    def unit_bytes(self) -> int:
        """Bytes of one lane of one tap."""
        return self.form.group * np.dtype(self.form.element).itemsize

    @property
    def line_bytes(self) -> int:
        """Bytes of one buffer row of all planes of an image."""
        return self.planes * self.pitch * self.unit_bytes

    @property
    def planes(self) -> int:
        """Planes of a block."""
        return self.units * len(self.phases[0]) * len(self.phases[1])

    @property
    def segment(self) -> int:
        """Units of channels in a segment."""
        return max(1, round(SEGMENT / (self.taps * self.form.group)))

    @property
    def taps(self) -> int:
        """Kernel height times width."""
        return len(self.phase_of[0]) * len(self.phase_of[1])

    def offsets(self, plane: int) -> Array:
        """Bytes (units, taps) from a lane to each tap, for planes of `plane` lanes."""
        vertical, horizontal = self.phase_of
        unit = np.arange(self.units)[:, None, None] * len(self.phases[0])
        phase = (unit + vertical[:, None]) * len(self.phases[1]) + horizontal
        below, beside = self.step_of
        found = phase * plane + below[:, None] * self.pitch + beside
        return np.asarray(found.reshape(self.units, -1) * self.unit_bytes)


def problem_of(layer: IntLayer, x: IntArray, channels: Sequence[int] | slice) -> Problem:
    """Some channels of a layer (all, if it has groups) on its inputs."""
    weights = layer.weight[channels]
    count = len(weights)
    bias = None if layer.bias is None else layer.bias[channels]
    height, width = layer.output_shape(x.shape)[2:] if layer.is_conv else (1, 1)
    if not layer.is_conv:
        x = x.reshape(prod(x.shape[:-1]), layer.taps, 1, 1)
        weights = weights[:, :, None, None]
    lanes_are_inputs = layer.is_conv or (count < FEW_LANES and count < len(x))
    area = height * width
    rows, lanes, image_step, row_step = (
        (weights, x, count * area, area) if lanes_are_inputs else (x, weights, 1, count)
    )
    geometry = Geometry(
        rows.shape,
        lanes.shape,
        (height, width),
        *layer.geometry,
        image_step=image_step,
        row_step=row_step,
        lanes_are_inputs=lanes_are_inputs,
    )
    none = np.empty(0, np.int64)
    if lanes_are_inputs and bias is not None:
        return Problem(rows, lanes, bias, none, geometry)
    zeros = np.zeros(len(rows), np.int64)
    return Problem(rows, lanes, zeros, none if bias is None else bias, geometry)


def pieces(problem: Problem, form: Form) -> Iterator[tuple[Problem, int]]:
    """The problem in pieces whose packed sides are of bounded size, and where their results go."""
    geometry = problem.geometry
    item = np.dtype(form.element).itemsize
    rows = count = len(problem.rows)
    if geometry.groups == 1:
        rows = _whole(ROW_BYTES // (prod(geometry.rows[1:]) * max(2, item) + 1), 8)
    image_bytes = prod(geometry.lanes[1:]) * item + 1
    images = max(1, LANE_BYTES // image_bytes)
    if geometry.single:
        images = _whole(images, 256)
    height, width = geometry.window
    band = height if geometry.single else max(1, LANE_BYTES * height // image_bytes)
    if rows >= count and images >= len(problem.lanes) and band >= height:
        yield problem, 0
        return
    for r in range(0, count, rows):
        for n in range(0, len(problem.lanes), images):
            some, others = problem.rows[r : r + rows], problem.lanes[n : n + images]
            piece = Problem(
                some,
                others,
                problem.row_starts[r : r + rows],
                problem.lane_starts[n : n + images],
                geometry._replace(rows=some.shape, lanes=others.shape),
            )
            first = r * geometry.row_step + n * geometry.image_step
            for top in range(0, height, band):
                yield _band(piece, top, min(band, height - top)), first + top * width


def _whole(most: int, least: int) -> int:
    """As many as that, but in whole tiles where they are many."""
    return max(least, most - most % 64 if most > 64 else most)


def _band(problem: Problem, top: int, height: int) -> Problem:
    """Some rows of the output, from those rows of the images that they read."""
    geometry = problem.geometry
    if height == geometry.window[0]:
        return problem
    first = top * geometry.stride[0] - geometry.padding[0]
    reach = (height - 1) * geometry.stride[0] + (geometry.rows[2] - 1) * geometry.dilation[0] + 1
    begin = max(0, first)
    lanes = problem.lanes[:, :, begin : max(begin, first + reach)]
    return problem._replace(
        lanes=lanes,
        geometry=geometry._replace(
            lanes=lanes.shape,
            padding=(begin - first, geometry.padding[1]),
            window=(height, geometry.window[1]),
        ),
    )


def layout(geometry: Geometry, form: Form) -> Layout:
    """The planes that a problem needs."""
    stride, dilation = geometry.stride, geometry.dilation
    channels, *kernel = geometry.rows[1:]
    reach = [np.arange(kernel[i]) * dilation[i] for i in (0, 1)]
    found = [_phases(reach[i] % stride[i]) for i in (0, 1)]
    steps = reach[0] // stride[0], reach[1] // stride[1]
    return Layout(
        form=form,
        units=-(-channels // form.group),
        phases=(found[0][0], found[1][0]),
        phase_of=(found[0][1], found[1][1]),
        step_of=steps,
        pitch=geometry.window[1] + int(steps[1][-1]),
    )


def _phases(residues: Array) -> tuple[Array, Array]:
    """The different residues, and which of them each is."""
    if len(residues) == 1:
        return residues, np.zeros(1, np.int64)
    kinds, which = np.unique(residues, return_inverse=True)
    return kinds, which


def padded(values: Array, groups: int, rows: int) -> Array:
    """Each group's entries along axis 0, followed by zeros up to `rows`; as given if so many."""
    if len(values) == groups * rows:
        return values
    out = np.zeros((groups, rows, *values.shape[1:]), values.dtype)
    out[:, : len(values) // groups] = values.reshape(groups, -1, *values.shape[1:])
    return out.reshape(groups * rows, *values.shape[1:])


def elements(array: IntArray, form: Form) -> Array:
    """Operands as the form's elements, modulo their size, contiguous; a copy only if need be."""
    element = np.dtype(form.element)
    if element.kind != "f" and array.itemsize == element.itemsize:
        return plain(array, array.dtype).view(element)
    return plain(array, element)


def scalars(problem: Problem, form: Form, rows: int, units: int, take: int, shift: int) -> Array:
    """The rows' operands, less `take` and times 2^shift, one scalar for each unit of channels.

    Shapes: uint8 (groups * rows, bytes of units * kernel), what does not exist being zeros. Reads
    nothing else, so that operands which lie like that already are not copied.
    """
    groups = problem.geometry.groups
    count, channels, *kernel = problem.geometry.rows
    taps = kernel[0] * kernel[1]
    whole = count == groups * rows and channels == units * form.group
    if whole and not take and not shift and (taps == 1 or form.group == 1):
        return read_only(elements(problem.rows, form).reshape(count, -1).view(np.uint8))
    element = np.dtype(form.element)
    each = count // groups
    out = np.empty((groups, rows, units, taps, form.group), element)
    out[:, each:] = 0
    given = problem.rows.reshape(groups, each, channels, taps)
    if taps == 1:
        flat = out.reshape(groups, rows, -1)
        flat[:, :each, :channels] = given[..., 0]
        flat[:, :each, channels:] = 0
    else:
        out[:, :each, channels // form.group :] = 0
        for i in range(form.group):
            out[:, :each, : len(range(i, channels, form.group)), :, i] = given[
                :, :, i :: form.group
            ]
    if take:
        out -= np.array(take).astype(element)  # modulo 2^8, where the difference is in range
    if shift:
        out <<= shift
    return read_only(out.reshape(groups * rows, -1).view(np.uint8))


def pixels(problem: Problem, form: Form) -> Array:
    """The lanes' operands as flat units, where images are single pixels."""
    lanes = problem.lanes
    rest = -lanes.shape[1] % form.group
    if rest:
        lanes = np.concatenate([lanes, np.zeros_like(lanes, shape=(len(lanes), rest, 1, 1))], 1)
    flat = elements(lanes, form).reshape(-1)
    return read_only(flat if form.group == 1 else flat.view(f"i{form.group * flat.itemsize}"))


def limits(
    problem: Problem, plan: Layout, low: int, high: int, largest: int, rows: int, across: int
) -> Array:
    """From where the register cannot pass a rail within a segment, as int32.

    By row, (groups * rows, segments, 2), if the rows are the weights; else by lane of each tile,
    (tiles, segments, 2, across). `largest` is the largest input, in size.
    """
    excursion = excursions(problem.weights, plan.segment * plan.form.group * plan.taps) * largest
    safe = np.stack([low + excursion, high - excursion], axis=-1)
    safe = safe.clip(-(2**31), 2**31 - 1).astype(np.int32)
    if problem.geometry.lanes_are_inputs:
        return padded(safe, problem.geometry.groups, rows)
    whole = -(-len(safe) // across)
    tiles = padded(safe, 1, whole * across).reshape(whole, across, -1, 2)
    return np.ascontiguousarray(tiles.transpose(0, 2, 3, 1))
