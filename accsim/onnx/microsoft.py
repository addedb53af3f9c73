"""What onnxruntime's quantizer adds to the standard: operators that take codes and give codes.

Each is computed in float32 and rounded to even, in the order in which onnxruntime computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from accsim.errors import ModelFileError
from accsim.onnx.graph import Node
from accsim.onnx.known import integer_ends

__all__ = ["MICROSOFT_OPERATORS"]

Array = Any  # numpy arrays; their arithmetic is typed as anything
One = np.float32


def _real(inputs: Sequence[Any], place: int) -> Array:
    """A value whose scale and zero point come after it, as float32."""
    codes, scale = (np.asarray(one) for one in inputs[place : place + 2])
    return (codes.astype(np.float32) - _zero(inputs, place + 2).astype(np.float32)) * scale


def _zero(inputs: Sequence[Any], place: int) -> Array:
    """A zero point; one that is left out is a 0 of the type of the codes that come in."""
    given = inputs[place] if place < len(inputs) else None
    if given is not None:
        return np.asarray(given)
    codes = next(one for one in inputs if one is not None and np.asarray(one).dtype.kind in "iu")
    return np.zeros((), np.asarray(codes).dtype)


def _codes(y: Array, inputs: Sequence[Any], place: int) -> Array:
    """Real numbers as codes: `place` is that of their scale, whose zero point follows."""
    scale, zero = np.asarray(inputs[place]), _zero(inputs, place + 1)
    low, high = integer_ends(zero.dtype)
    return np.clip(np.rint(y / scale) + zero.astype(np.float32), low, high).astype(zero.dtype)


def _add(_: Node, inputs: Sequence[Any]) -> Array:
    return _codes(_real(inputs, 0) + _real(inputs, 3), inputs, 6)


def _mul(_: Node, inputs: Sequence[Any]) -> Array:
    return _codes(_real(inputs, 0) * _real(inputs, 3), inputs, 6)


def _sigmoid(_: Node, inputs: Sequence[Any]) -> Array:
    return _codes(1 / (1 + np.exp(-_real(inputs, 0))), inputs, 3)


def _leaky_relu(node: Node, inputs: Sequence[Any]) -> Array:
    x = _real(inputs, 0)
    slope = One(node.attributes.get("alpha", 0.01))
    return _codes(np.where(x >= 0, x, slope * x), inputs, 3)


def _softmax(node: Node, inputs: Sequence[Any]) -> Array:
    x = _real(inputs, 0)
    axis = int(node.attributes.get("axis", -1))
    if int(node.attributes.get("opset", 13)) < 13:  # over all axes from this one on
        shape = x.shape
        x = x.reshape(int(np.prod(shape[:axis])), -1)
        return _codes(_softmaxed(x, -1).reshape(shape), inputs, 3)
    return _codes(_softmaxed(x, axis), inputs, 3)


def _softmaxed(x: Array, axis: int) -> Array:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _global_average(node: Node, inputs: Sequence[Any]) -> Array:
    """Sums of codes are exact; what is left is one factor and one rounding."""
    if node.attributes.get("channels_last", 0):
        raise ModelFileError("channels_last must be 0")
    codes, zero = np.asarray(inputs[0]), _zero(inputs, 2).astype(np.int64)
    sums = (codes.astype(np.int64) - zero).sum(axis=tuple(range(2, codes.ndim)), keepdims=True)
    area = One(np.prod(codes.shape[2:]))
    factor = One(inputs[1]) / (One(inputs[3]) * area)
    return _codes(sums.astype(np.float32) * factor, [One(1), _zero(inputs, 4)], 0)


def _reduce_mean(node: Node, inputs: Sequence[Any]) -> Array:
    axes = node.attributes.get("axes")
    keep = bool(node.attributes.get("keepdims", 1))
    mean = _real(inputs, 0).mean(axis=None if axes is None else tuple(axes), keepdims=keep)
    return _codes(mean, inputs, 3)


def _concat(node: Node, inputs: Sequence[Any]) -> Array:
    parts = [_real(inputs, place) for place in range(2, len(inputs), 3)]
    return _codes(np.concatenate(parts, int(node.attributes["axis"])), inputs, 0)


def _where(_: Node, inputs: Sequence[Any]) -> Array:
    return _codes(np.where(inputs[0], _real(inputs, 1), _real(inputs, 4)), inputs, 7)


MICROSOFT_OPERATORS: dict[str, Callable[[Node, Sequence[Any]], Array]] = {
    "QLinearAdd": _add,
    "QLinearMul": _mul,
    "QLinearSigmoid": _sigmoid,
    "QLinearLeakyRelu": _leaky_relu,
    "QLinearSoftmax": _softmax,
    "QLinearGlobalAveragePool": _global_average,
    "QLinearReduceMean": _reduce_mean,
    "QLinearConcat": _concat,
    "QLinearWhere": _where,
}
