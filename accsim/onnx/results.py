"""From the sums in registers to what a node gives: floats, integers, or codes again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from accsim._check import IntArray
from accsim.errors import ModelFileError
from accsim.onnx.known import at, integer_ends
from accsim.onnx.quantizers import Coded, along

__all__ = [
    "Result",
    "dequantized",
    "integers_out",
    "less_zero_point",
    "only",
    "requantized",
    "scaled",
]

Array = np.ndarray[Any, Any]
Result = Callable[[IntArray, Sequence[Any]], Array]  # sums and a node's inputs to its output


def dequantized(scale: Array, axis: int, bias: int | None, beta: float = 1.0) -> Result:
    """Sums times a scale, plus beta times the input at `bias`; channels are on `axis`.

    Of the type of its inputs, which may be an integer one, where the scale is 1.
    """

    def result(sums: IntArray, inputs: Sequence[Any]) -> Array:
        first = next(side for side in inputs[:2] if side is not None)  # weights are not given
        dtype = np.float32 if isinstance(first, Coded) else np.asarray(first).dtype
        y = sums.astype(dtype)
        y *= _at(scale.astype(dtype), axis, y.ndim)
        added = at(inputs, bias)
        if added is None:
            return y
        added = added if beta == 1 else np.float32(beta) * added
        return y + (added if axis == -1 else along(added, axis, y.ndim))

    return result


def integers_out(sums: IntArray, _: Sequence[Any]) -> Array:
    """Sums as they are, in 32 bits."""
    return sums.astype(np.int32)


def scaled(scales: tuple[int, int], axis: int, bias: int | None) -> Result:
    """Sums times two scales, the node's inputs at these places, plus a float bias."""

    def result(sums: IntArray, inputs: Sequence[Any]) -> Array:
        one, other = only(inputs[scales[0]], "scale of its input"), np.asarray(inputs[scales[1]])
        y = sums.astype(np.float32) * _at(one * other, axis, sums.ndim)
        added = at(inputs, bias)
        return y if added is None else y + added

    return result


def requantized(
    x_scale: int, w_scale: int, y_scale: int, y_zero: int, axis: int, bias: int | None, alpha: float
) -> Result:
    """Sums times x's scale times w's by y's, rounded to even and clipped to the zero point's type.

    The arguments are places of the node's inputs; `bias`, of integers, if it is not in the sums.

    Source: ONNX's QLinearConv and QLinearMatMul, in float32 and in this order as onnxruntime does.
    """

    def result(sums: IntArray, inputs: Sequence[Any]) -> Array:
        added = at(inputs, bias)
        if added is not None:
            sums = sums + (added if axis == -1 else _at(added, axis, sums.ndim))
        factor = np.float32(alpha) * only(inputs[x_scale], "scale of its input") * inputs[w_scale]
        if at(inputs, y_scale) is None:  # QGemm may leave floats
            return sums.astype(np.float32) * _at(factor, axis, sums.ndim)
        factor = (factor / only(inputs[y_scale], "scale")).astype(np.float32)
        zero = np.asarray(inputs[y_zero]) if at(inputs, y_zero) is not None else _ZERO
        low, high = integer_ends(zero.dtype)
        offset = np.float32(only(zero, "zero point"))
        y = sums.astype(np.float32) * _at(factor, axis, sums.ndim)
        return (np.rint(np.clip(y, low - offset, high - offset)) + offset).astype(zero.dtype)

    return result


def less_zero_point(result: Result, row_sums: IntArray, zero: int, axis: int) -> Result:
    """The same of sums over raw codes, whose zero point is the node's input at `zero`."""

    def late(sums: IntArray, inputs: Sequence[Any]) -> Array:
        offset = np.asarray(inputs[zero]).astype(np.int64)
        offset = only(offset, "zero point")
        return result(sums - _at(row_sums * offset, axis, sums.ndim), inputs)

    return late


_ZERO = np.zeros((), np.uint8)


def _at(array: Array, axis: int, ndim: int) -> Array:
    """One number for each channel; of a vector, the channels are its one axis."""
    return along(array, max(axis, -max(ndim, 1)), ndim)


def only(array: Any, name: str) -> Any:
    """A scale or zero point where there must be one for all. Raises: ModelFileError."""
    if np.size(array) != 1:
        raise ModelFileError(f"it must have one {name}, not {np.size(array)}")
    return np.asarray(array).reshape(-1)[0]
