"""What multiplies: which operators, where each has its operands, and what comes of the sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from accsim._check import IntArray
from accsim.errors import ModelFileError
from accsim.layer import IntLayer
from accsim.network import MatMul
from accsim.onnx.forms import Form, conv, conv_transposed, dense
from accsim.onnx.graph import QONNX, Node
from accsim.onnx.known import Known, at
from accsim.onnx.microsoft import MICROSOFT_OPERATORS
from accsim.onnx.operators import MICROSOFT
from accsim.onnx.results import Result, dequantized, integers_out, requantized, scaled

__all__ = [
    "OTHERS",
    "PLACES",
    "Inputs",
    "Places",
    "Product",
    "check_types",
    "multiplies",
    "result_of",
]

Array = np.ndarray[Any, Any]
Inputs = Sequence[Any]  # the values that a node is given, None for those left out


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """One node that multiplies integers.

    `operands`: the node's inputs to the integers that the layer takes, of a matmul to both sides.
    `result`: the layer's sums and the node's inputs to the node's output. `weights`: at which input
    the node has what the layer holds.
    """

    what: IntLayer | MatMul
    operands: Callable[[Inputs], tuple[IntArray, ...]]
    result: Result
    weights: int | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """At which of its inputs a node has what; None: it takes no such input.

    `scales` are those of x, w and y, with the zero point of y last, as far as it takes them.
    """

    form: Callable[[Node, Sequence[int]], Form]
    x: int = 0
    w: int = 1
    x_zero: int | None = None
    w_zero: int | None = None
    bias: int | None = None
    scales: tuple[int, ...] = ()


PLACES = {
    ("", "Conv"): Places(conv, bias=2),
    ("", "ConvTranspose"): Places(conv_transposed, bias=2),
    ("", "Gemm"): Places(dense, bias=2),
    ("", "MatMul"): Places(dense),
    ("", "ConvInteger"): Places(conv, x_zero=2, w_zero=3),
    ("", "MatMulInteger"): Places(dense, x_zero=2, w_zero=3),
    ("", "QLinearConv"): Places(conv, 0, 3, 2, 5, 8, (1, 4, 6, 7)),
    ("", "QLinearMatMul"): Places(dense, 0, 3, 2, 5, None, (1, 4, 6, 7)),
    (MICROSOFT, "QGemm"): Places(dense, 0, 3, 2, 5, 6, (1, 4, 7, 8)),
    (MICROSOFT, "MatMulIntegerToFloat"): Places(dense, 0, 1, 4, 5, 6, (2, 3)),
}
# What multiplies matrices, too, and is no integer product that we know.
OTHERS = {
    (domain, op): f"{op} is no product of one matrix of constant integers"
    for domain, ops in {
        "": "Einsum RNN GRU LSTM DeformConv Attention Det STFT DFT AffineGrid",
        QONNX: "XnorPopcountMatMul",
        "ai.onnx.ml": "LinearClassifier LinearRegressor SVMClassifier SVMRegressor",
    }.items()
    for op in ops.split()
}
# What does not, of domains whose operators are not all known.
_NO_PRODUCTS = {
    QONNX: {
        "Quant", "IntQuant", "BipolarQuant", "FloatQuant", "Trunc", "Im2Col", "MultiThreshold",
        "MaxPoolNHWC", "QuantAvgPool2d", "DebugMarker",
    },
    MICROSOFT: {
        "QuantizeLinear", "DequantizeLinear", "QLinearAveragePool", *MICROSOFT_OPERATORS,
    },
}  # fmt: skip


def multiplies(node: Node) -> bool:
    """Whether a node multiplies matrices, or may: of foreign operators nothing is known."""
    kind = (node.domain, node.op)
    if node.domain in ("", "ai.onnx.ml"):
        known = onnx.defs.has(node.op, node.domain)
    else:
        known = node.op in _NO_PRODUCTS.get(node.domain, ())
    return kind in PLACES or kind in OTHERS or not known


def check_types(node: Node, places: Places, known: Sequence[Known | None]) -> None:
    """Raise ModelFileError for sides that are not both of integer types, or both of floats."""
    integers = [at(known, place).whole for place in (places.x, places.w)]
    if integers != [places.x_zero is not None or any(integers)] * 2:
        raise ModelFileError("its sides are of other types than it multiplies")
    factors = [node.attributes.get(name, 1.0) for name in ("alpha", "beta")]
    if integers[0] and places.x_zero is None and factors != [1.0, 1.0]:
        raise ModelFileError("it multiplies sums of an integer type by fractions")


def result_of(node: Node, places: Places, form: Form, scale: Array | None) -> Result:
    """What comes of the sums: times a `scale` that is known, or else as the operator defines it."""
    alpha, beta = (float(node.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    if scale is not None and places.x_zero is None:
        return dequantized(scale * alpha, form.axis, places.bias, beta)
    if not places.scales:
        return integers_out
    if len(places.scales) == 2:
        return scaled((places.scales[0], places.scales[1]), form.axis, places.bias)
    x_scale, w_scale, y_scale, y_zero = places.scales
    return requantized(x_scale, w_scale, y_scale, y_zero, form.axis, places.bias, alpha)
