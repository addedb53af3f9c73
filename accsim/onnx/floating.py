"""Operators of the standard that the onnx package computes slowly, or not as they are defined."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from accsim.errors import ModelFileError
from accsim.onnx.graph import Node
from accsim.onnx.quantizers import Coded, floats

__all__ = ["batch_normalization", "max_pool", "pools_plainly", "relu"]

Array = np.ndarray[Any, Any]


def batch_normalization(node: Node, inputs: Sequence[Any]) -> Array:
    """As at inference. The package takes version 9 for training if it has a momentum."""
    if node.attributes.get("training_mode", 0):
        raise ModelFileError("training_mode must be 0: a network is run as it is deployed")
    x = floats(inputs[0])
    scale, bias, mean, variance = (
        np.asarray(one).reshape(-1, *[1] * (x.ndim - 2)) for one in inputs[1:5]
    )
    factor = scale / np.sqrt(variance + np.float32(node.attributes.get("epsilon", 1e-5)))
    y = x * factor
    y += bias - mean * factor
    return y


def relu(_: Node, inputs: Sequence[Any]) -> Any:
    """Also of codes, which keep their scale."""
    if isinstance(inputs[0], Coded):
        return Coded(np.maximum(inputs[0].codes, 0), inputs[0].scale)
    return np.maximum(inputs[0], 0)


def pools_plainly(node: Node) -> bool:
    """Whether `max_pool` computes this node: two dimensions, and nothing but a window."""
    attributes = node.attributes
    return (
        len(attributes.get("kernel_shape", ())) == 2
        and len([name for name in node.outputs if name]) == 1
        and attributes.get("auto_pad", "NOTSET") in ("NOTSET", "VALID")
        and not attributes.get("ceil_mode", 0)
        and all(step == 1 for step in attributes.get("dilations", ()))
    )


def max_pool(node: Node, inputs: Sequence[Any]) -> Any:
    """Also of codes: the greatest number has the greatest code, as scales are positive."""
    if isinstance(inputs[0], Coded):
        return Coded(_largest(node, inputs[0].codes), inputs[0].scale)
    return _largest(node, inputs[0])


def _largest(node: Node, x: Array) -> Array:
    kernel = node.attributes["kernel_shape"]
    strides = node.attributes.get("strides") or (1, 1)
    top, left, bottom, right = node.attributes.get("pads") or (0, 0, 0, 0)
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    around = ((0, 0), (0, 0), (top, bottom), (left, right))
    x = np.pad(x, around, constant_values=lowest) if any((top, left, bottom, right)) else x
    sizes = [(x.shape[2 + i] - kernel[i]) // strides[i] + 1 for i in (0, 1)]
    y = None
    for down, across in product(range(kernel[0]), range(kernel[1])):
        part = x[
            :,
            :,
            down : down + (sizes[0] - 1) * strides[0] + 1 : strides[0],
            across : across + (sizes[1] - 1) * strides[1] + 1 : strides[1],
        ]
        y = part.copy() if y is None else np.maximum(y, part, out=y)
    if y is None or min(sizes) < 1:
        raise ModelFileError("its window must fit into its input")
    return y
