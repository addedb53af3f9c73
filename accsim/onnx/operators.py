"""Operators of our own: quantizers, whose results keep their integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx

from accsim.errors import ModelFileError
from accsim.onnx.floating import batch_normalization, convolution, relu
from accsim.onnx.graph import QONNX, Node
from accsim.onnx.known import at, integer_ends
from accsim.onnx.microsoft import MICROSOFT_OPERATORS
from accsim.onnx.pooling import average_codes, max_pool, pools_plainly
from accsim.onnx.quantizers import (
    Coded,
    Quantizer,
    Truncation,
    along,
    floats,
    onnx_quantizer,
    qonnx_quantizer,
    qonnx_truncation,
)

__all__ = ["MICROSOFT", "code_type", "dequantized", "operator", "quantizer_of"]

Array = np.ndarray[Any, Any]

MICROSOFT = "com.microsoft"
_PARAMETERS = {"QuantizeLinear": 1, "Quant": 3, "IntQuant": 3, "BipolarQuant": 1, "Trunc": 4}
_ZERO = np.zeros((), np.uint8)


def quantizer_of(node: Node, inputs: Sequence[Array], ndim: int) -> Quantizer | Truncation:
    """The rule of a node that quantizes; `inputs` are those after the first, of `ndim` dimensions.

    Raises: ModelFileError for what is not a quantizer of integers.
    """
    least = 5 if node.op == "Trunc" and node.version > 1 else _PARAMETERS[node.op]
    if len(inputs) < least or any(one is None for one in inputs[:least]):
        raise ModelFileError(f"{node.op} must have {least} inputs beside what it quantizes")
    if node.op == "QuantizeLinear":
        if node.attributes.get("block_size", 0):
            raise ModelFileError("a scale for each block of codes lies inside a sum")
        axis = int(node.attributes.get("axis", 1))
        dtype = code_type(node, inputs)
        zero = np.zeros((), dtype) if at(inputs, 1) is None else inputs[1]
        scale, zero = (along(np.asarray(a), axis, ndim) for a in (inputs[0], zero))
        return onnx_quantizer(scale, zero, *integer_ends(dtype))
    if node.op == "Trunc":
        return qonnx_truncation(node.version, node.attributes, *inputs[:least])
    if node.op == "BipolarQuant":
        one = np.ones((), np.float32)
        return qonnx_quantizer({"signed": 1}, inputs[0], np.zeros((), np.float32), one)
    return qonnx_quantizer(node.attributes, *inputs[:least])


def code_type(node: Node, inputs: Sequence[Array]) -> np.dtype[Any]:
    """The type of the codes that QuantizeLinear gives."""
    if at(inputs, 1) is not None:
        return np.asarray(inputs[1]).dtype
    element = int(node.attributes.get("output_dtype", 0)) or onnx.TensorProto.UINT8
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element))


def dequantized(node: Node, inputs: Sequence[Any]) -> Any:
    """The numbers that DequantizeLinear gives: codes less their zero point, times a scale.

    Of a scale that is not float32, floats of its type.
    """
    codes, scale = np.asarray(inputs[0]), np.asarray(inputs[1])
    integer_ends(codes.dtype)
    if node.attributes.get("block_size", 0):
        raise ModelFileError("a scale for each block of codes lies inside a sum")
    axis = int(node.attributes.get("axis", 1))
    zero = _ZERO if at(inputs, 2) is None else np.asarray(inputs[2])
    wide = np.int64 if codes.dtype.itemsize > 2 else np.int32
    if zero.any():
        less = codes.astype(wide) - along(zero, axis, codes.ndim).astype(wide)
    else:
        less = codes if codes.dtype == np.int8 else codes.astype(wide)
    made = Coded(less, along(scale, axis, codes.ndim).astype(np.float32))
    return made if scale.dtype == np.float32 else made.floats().astype(scale.dtype)


def _quantize(node: Node, inputs: Sequence[Any]) -> Coded:
    """Quant and its like: to floats that keep their integers."""
    x = floats(inputs[0])
    return quantizer_of(node, inputs[1:], x.ndim)(x)


def _quantize_linear(node: Node, inputs: Sequence[Any]) -> Array:
    """QuantizeLinear: to an array of codes."""
    x = floats(inputs[0])
    codes = quantizer_of(node, inputs[1:], x.ndim)(x).codes
    dtype = code_type(node, inputs[1:])
    zero = _ZERO if at(inputs, 2) is None else inputs[2]
    if np.any(zero):
        axis = int(node.attributes.get("axis", 1))
        codes = codes + along(np.asarray(zero), axis, x.ndim).astype(np.int32)
    return codes.astype(dtype)


_OPERATORS: dict[tuple[str, str], Callable[[Node, Sequence[Any]], Any]] = {
    **{(QONNX, op): _quantize for op in ("Quant", "IntQuant", "BipolarQuant", "Trunc")},
    **{(domain, "QuantizeLinear"): _quantize_linear for domain in ("", MICROSOFT)},
    **{(domain, "DequantizeLinear"): dequantized for domain in ("", MICROSOFT)},
    **{(MICROSOFT, op): run for op, run in MICROSOFT_OPERATORS.items()},
    (MICROSOFT, "QLinearAveragePool"): average_codes,
    ("", "BatchNormalization"): batch_normalization,
    ("", "Conv"): convolution,
    ("", "ConvTranspose"): convolution,
    ("", "Relu"): relu,
    ("", "MaxPool"): max_pool,
}


def operator(node: Node) -> Callable[[Node, Sequence[Any]], Any] | None:
    """What computes a node's one output, if it is one of ours."""
    if node.op == "MaxPool" and not pools_plainly(node):
        return None
    return _OPERATORS.get((node.domain, node.op))
