"""Pooling by windows of two dimensions, also of codes: the sums and maxima of shifted images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from accsim.errors import ModelFileError
from accsim.onnx.forms import window_pads
from accsim.onnx.graph import Node
from accsim.onnx.known import integer_ends
from accsim.onnx.microsoft import zero_point
from accsim.onnx.quantizers import Coded

__all__ = ["average_codes", "max_pool", "pools_plainly"]

Array = np.ndarray[Any, Any]


def pools_plainly(node: Node) -> bool:
    """Whether it is computed here: two dimensions, and nothing but a window."""
    attributes = node.attributes
    return (
        len(attributes.get("kernel_shape", ())) == 2
        and len([name for name in node.outputs if name]) == 1
        and not attributes.get("ceil_mode", 0)
        and not attributes.get("channels_last", 0)
    )


def max_pool(node: Node, inputs: Sequence[Any]) -> Any:
    """Also of codes: the greatest number has the greatest code, as scales are positive."""
    if isinstance(inputs[0], Coded):
        return Coded(_largest(node, inputs[0].codes), inputs[0].scale)
    return _largest(node, inputs[0])


def average_codes(node: Node, inputs: Sequence[Any]) -> Array:
    """QLinearAveragePool: averages of float32, in the order of onnxruntime, made codes again."""
    if not pools_plainly(node):
        raise ModelFileError("it must be of two dimensions, without ceil_mode")
    codes, scale, y_scale = (np.asarray(inputs[place]) for place in (0, 1, 3))
    zero, y_zero = zero_point(inputs, 2), zero_point(inputs, 4)
    real = (codes.astype(np.float32) - zero.astype(np.float32)) * scale
    padding = np.float32(bool(node.attributes.get("count_include_pad", 0)))
    total = sum(_shifted(node, real, np.float32(0)))
    ones = np.ones((1, 1, *codes.shape[2:]), np.float32)
    area = sum(_shifted(node, ones, padding))
    low, high = integer_ends(y_zero.dtype)
    y: Array = np.rint(total / area / y_scale + y_zero.astype(np.float32))
    return y.clip(low, high).astype(y_zero.dtype)


def _largest(node: Node, x: Array) -> Array:
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    parts = _shifted(node, x, lowest)
    y = next(parts).copy()
    for part in parts:
        np.maximum(y, part, out=y)
    return y


def _shifted(node: Node, x: Array, padding: Any) -> Iterator[Array]:
    """For each place in the window, row by row, what it sees over all outputs."""
    kernel = node.attributes["kernel_shape"]
    strides, dilations = (node.attributes.get(name) or (1, 1) for name in ("strides", "dilations"))
    spread = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    top, left, bottom, right = window_pads(node, x.shape[2:], strides, spread)
    around = ((0, 0), (0, 0), (top, bottom), (left, right))
    x = np.pad(x, around, constant_values=padding) if any((top, left, bottom, right)) else x
    sizes = [(x.shape[2 + i] - spread[i] - 1) // strides[i] + 1 for i in (0, 1)]
    if min(*sizes, *kernel) < 1:
        raise ModelFileError("its window must fit into its input")
    for taps in product(range(kernel[0]), range(kernel[1])):
        down, across = (tap * step for tap, step in zip(taps, dilations, strict=True))
        yield x[
            :,
            :,
            down : down + (sizes[0] - 1) * strides[0] + 1 : strides[0],
            across : across + (sizes[1] - 1) * strides[1] + 1 : strides[1],
        ]
