"""Inputs that drive a register to its extremes, and the image that one output reads them from."""

from __future__ import annotations

import numpy as np

from accsim._check import IntArray, integer
from accsim.layer import IntLayer
from accsim.spec import IntSpec

__all__ = ["idle_input", "image_with", "worst_inputs", "worst_of"]


def worst_inputs(layer: IntLayer, channel: int) -> tuple[IntArray, IntArray]:
    """The inputs that give one channel its lowest and its highest exact sum.

    Shapes: two arrays (K,), int64, in the index order of the channel's taps.
    Raises: SpecError for a channel that the layer does not have.
    """
    row = layer.rows[integer(channel, "channel", 0, layer.channels - 1)]
    return worst_of(row, layer.input_spec)


def worst_of(row: IntArray, spec: IntSpec) -> tuple[IntArray, IntArray]:
    """Inputs of the lowest and the highest sum of a row; `idle` where the weight is 0."""
    idle = idle_input(spec)
    x_low = np.select([row > 0, row < 0], [spec.min, spec.max], idle)
    x_high = np.select([row > 0, row < 0], [spec.max, spec.min], idle)
    return x_low.astype(np.int64), x_high.astype(np.int64)


def idle_input(spec: IntSpec) -> int:
    """The input nearest to 0."""
    return min(max(0, spec.min), spec.max)


def image_with(layer: IntLayer, x: IntArray, channel: int) -> tuple[IntArray, tuple[int, int]]:
    """The smallest image in which one output of `channel` reads the taps `x`, and that output.

    Every other entry is as near 0 as the input range allows. The output's place is (row, column).

    Shapes: x (K,) -> image (1, I·groups, H, W), int64.
    """
    _, inputs, kh, kw = layer.weight.shape
    stride, padding, dilation, groups = layer.geometry
    at = [-(-padding[axis] // stride[axis]) for axis in (0, 1)]  # first output clear of padding
    corner = [at[axis] * stride[axis] - padding[axis] for axis in (0, 1)]
    size = [
        corner[axis] + dilation[axis] * (extent - 1) + 1 for axis, extent in enumerate((kh, kw))
    ]
    image = np.full((1, inputs * groups, *size), idle_input(layer.input_spec), dtype=np.int64)
    first = channel // (layer.channels // groups) * inputs
    image[
        0,
        first : first + inputs,
        corner[0] :: dilation[0],
        corner[1] :: dilation[1],
    ] = np.reshape(x, (inputs, kh, kw))
    return image, (at[0], at[1])
