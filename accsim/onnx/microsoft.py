"""What onnxruntime's quantizer adds to the standard: operators that take codes and give codes.

Each is computed in float32 and rounded to even, in the order in which onnxruntime computes it on
x86 with fused multiply-adds; of a softmax, whose sums it takes in another order, codes may differ
by 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from accsim.errors import ModelFileError
from accsim.onnx.graph import Node
from accsim.onnx.known import at, integer_ends

__all__ = ["MICROSOFT_OPERATORS", "zero_point"]

Array = Any  # numpy arrays; their arithmetic is typed as anything
One = np.float32


def _real(inputs: Sequence[Any], place: int) -> Array:
    """A value whose scale and zero point come after it, as float32."""
    return _less_zero(inputs, place).astype(np.float32) * np.asarray(inputs[place + 1])


def _less_zero(inputs: Sequence[Any], place: int) -> Array:
    """Codes less their zero point, which comes two places after them."""
    return np.asarray(inputs[place]).astype(np.int64) - zero_point(inputs, place + 2).astype(
        np.int64
    )


def zero_point(inputs: Sequence[Any], place: int) -> Array:
    """A zero point; one that is left out is a 0 of the type of the codes that come in."""
    given = at(inputs, place)
    if given is not None:
        return np.asarray(given)
    codes = next(one for one in inputs if one is not None and np.asarray(one).dtype.kind in "iu")
    return np.zeros((), np.asarray(codes).dtype)


def _codes(y: Array, inputs: Sequence[Any], place: int) -> Array:
    """Real numbers as codes: `place` is that of their scale, whose zero point follows."""
    scale, zero = np.asarray(inputs[place]), zero_point(inputs, place + 1)
    return _rounded(np.rint(y / scale) + zero.astype(np.float32), zero.dtype)


def _add(_: Node, inputs: Sequence[Any]) -> Array:
    """Codes times scales by the result's, zero points first: four roundings, as with fused adds."""
    one, other = (np.asarray(inputs[place]).astype(np.float32) for place in (0, 3))
    zeros = [zero_point(inputs, place).astype(np.float32) for place in (2, 5, 7)]
    ratios = [np.asarray(inputs[place]) / inputs[6] for place in (1, 4)]
    offset = zeros[2].astype(np.float64) - _fused(ratios[0], zeros[0], ratios[1] * zeros[1])
    y = _fused(one, ratios[0], _fused(other, ratios[1], offset.astype(np.float32)))
    return _rounded(y, zero_point(inputs, 7).dtype)


def _fused(x: Array, y: Array, z: Array) -> Array:
    """x·y + z in float32, rounded once: in float64 the product is exact."""
    x, y, z = (np.asarray(one).astype(np.float64) for one in (x, y, z))
    return (x * y + z).astype(np.float32)


def _rounded(y: Array, dtype: Any) -> Array:
    """The nearest codes of a type, halves to even."""
    return np.clip(np.rint(y), *integer_ends(dtype)).astype(dtype)


def _mul(_: Node, inputs: Sequence[Any]) -> Array:
    """Products of integers are exact; the zero point is added before the one rounding."""
    one, other = (_less_zero(inputs, place).astype(np.float32) for place in (0, 3))
    factor = np.asarray(inputs[1]) * inputs[4] / inputs[6]
    zero = zero_point(inputs, 7)
    return _rounded(one * other * factor + zero.astype(np.float32), zero.dtype)


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
    codes = _less_zero(inputs, 0)
    sums = codes.sum(axis=tuple(range(2, codes.ndim)), keepdims=True)
    area = One(np.prod(codes.shape[2:]))
    factor = One(inputs[1]) / (One(inputs[3]) * area)
    return _codes(sums.astype(np.float32) * factor, [One(1), zero_point(inputs, 4)], 0)


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
