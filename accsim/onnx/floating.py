"""Operators of the standard that the onnx package computes slowly, or not as they are defined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from accsim.errors import ModelFileError
from accsim.onnx.forms import conv, conv_transposed
from accsim.onnx.graph import Node
from accsim.onnx.quantizers import Coded, along, floats

__all__ = ["batch_normalization", "convolution", "relu"]

Array = np.ndarray[Any, Any]


def batch_normalization(node: Node, inputs: Sequence[Any]) -> Array:
    """As at inference. The package takes version 9 for training if it has a momentum."""
    if node.attributes.get("training_mode", 0):
        raise ModelFileError("training_mode must be 0: a network is run as it is deployed")
    if not node.attributes.get("spatial", 1):
        raise ModelFileError("spatial must be 1: a channel has one mean")
    x = floats(inputs[0])
    scale, bias, mean, variance = (
        np.asarray(one).reshape(-1, *[1] * (x.ndim - 2)) for one in inputs[1:5]
    )
    factor = scale / np.sqrt(variance + np.float32(node.attributes.get("epsilon", 1e-5)))
    y = x * factor
    y += bias - mean * factor
    return y


def convolution(node: Node, inputs: Sequence[Any]) -> Array:
    """Conv and ConvTranspose of floats, as a product of matrices for each group."""
    x, w = (floats(one) for one in inputs[:2])
    form = (conv if node.op == "Conv" else conv_transposed)(node, w.shape)
    weight, x = form.weight(w), form.inputs(x, 0)
    stride, dilation = (form.geometry.get(name, (1, 1)) for name in ("stride", "dilation"))
    down, across = form.geometry.get("padding", (0, 0))
    x = np.pad(x, ((0, 0), (0, 0), (down, down), (across, across)))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    windows = sliding_window_view(x, reach, axis=(2, 3))
    windows = windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    groups = form.geometry["groups"]
    taps = np.split(windows, groups, axis=1), np.split(weight, groups)
    parts = [
        np.tensordot(some, own, axes=((1, 4, 5), (1, 2, 3)))
        for some, own in zip(*taps, strict=True)
    ]
    y = form.sums(np.moveaxis(np.concatenate(parts, axis=-1), -1, 1))
    bias = inputs[2] if len(inputs) > 2 else None
    return y if bias is None else y + along(bias, 1, y.ndim)


def relu(_: Node, inputs: Sequence[Any]) -> Any:
    """Also of codes, which keep their scale."""
    if isinstance(inputs[0], Coded):
        return Coded(np.maximum(inputs[0].codes, 0), inputs[0].scale)
    return np.maximum(inputs[0], 0)
