"""Integer products of a graph: each as a layer, with the way into its registers and out of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import onnx

from accsim._check import IntArray
from accsim.errors import ModelFileError
from accsim.layer import IntLayer
from accsim.network import MatMul
from accsim.onnx.forms import Form, conv, conv_transposed, dense, dense_left
from accsim.onnx.graph import QONNX, Node
from accsim.onnx.known import Known
from accsim.onnx.microsoft import MICROSOFT_OPERATORS
from accsim.onnx.operands import Operand, Weights, operand, weights
from accsim.onnx.operators import MICROSOFT
from accsim.onnx.quantizers import dimensions
from accsim.onnx.results import (
    Result,
    dequantized,
    integers_out,
    less_zero_point,
    only,
    requantized,
    scaled,
)
from accsim.spec import IntSpec

__all__ = ["Product", "multiplies", "product"]

Array = np.ndarray[Any, Any]
Inputs = Sequence[Any]  # the values that a node is given, None for those left out

MASKED = 2**27  # weights, counted for each set of taps that can fall on padding


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


_PLACES = {
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
_OTHERS = {
    ("", op): f"{op} is no product of one matrix of constant integers"
    for op in ("Einsum", "RNN", "GRU", "LSTM", "DeformConv", "Attention", "Det", "STFT", "DFT")
}
_OTHERS |= {
    (domain, op): f"{op} is no product of one matrix of constant integers"
    for domain, ops in (
        (QONNX, ["XnorPopcountMatMul"]),
        ("ai.onnx.ml", ["LinearClassifier", "LinearRegressor", "SVMClassifier", "SVMRegressor"]),
    )
    for op in ops
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
    return kind in _PLACES or kind in _OTHERS or not known


def product(node: Node, known: Sequence[Known | None]) -> Product:
    """The integer product that a node is, by what is known of its inputs.

    Raises: ModelFileError saying why it is none; others for integers that no layer holds.
    """
    kind = (node.domain, node.op)
    places = _PLACES.get(kind)
    if places is None:
        raise ModelFileError(
            _OTHERS.get(kind, f"{node.op} of the domain {node.domain!r} is not known")
        )
    x, w = (_at(known, place) for place in (places.x, places.w))
    if x is None or w is None:
        raise ModelFileError(f"{node.op} must have both sides of its product")
    dense_node = places.form is dense
    if x.constant is not None and w.constant is None and dense_node:
        places = replace(
            places,
            x=places.w,
            w=places.x,
            x_zero=places.w_zero,
            w_zero=places.x_zero,
            scales=(*places.scales[1::-1], *places.scales[2:]),
            form=dense_left,
        )
    elif w.constant is None and x.constant is None and dense_node:
        return _matmul(node, places, known)
    return _layer(node, places, known)


def _at(known: Sequence[Any], place: int | None) -> Any:
    return None if place is None or place >= len(known) else known[place]


def _layer(node: Node, places: Places, known: Sequence[Known | None]) -> Product:
    """A product with constant weights."""
    w, w_zero = _at(known, places.w), _at(known, places.w_zero)
    by_column = places.form is dense and not node.attributes.get("transB", 0)
    axis = -1 if by_column else 0
    constant = weights(node.input(places.w), w, w_zero, axis)
    came = operand(node.input(places.x), _at(known, places.x), _at(known, places.x_zero))
    _check_types(node, places, known)
    form = places.form(node, constant.codes.shape)
    if places.form is conv and (came.zero or _many_masks(came, constant, form)):
        form = conv(node, constant.codes.shape, mixed=True)
    arranged = form.weight(constant.codes)
    scale = _scale(came, constant, form, len(arranged)) if not places.scales else None
    start = _start(node, places, known, scale, len(arranged))
    layer = IntLayer(
        arranged,
        weight_spec=constant.spec,
        input_spec=_with_padding(came, form),
        bias=start,
        **form.geometry,
    )
    result = _result(
        node, replace(places, bias=places.bias if start is None else None), form, scale
    )
    if came.zero:
        assert places.x_zero is not None, "a zero point that is computed is an input"
        sums = layer.rows.sum(axis=1, dtype=np.int64)
        result = less_zero_point(result, sums, places.x_zero, form.axis)

    def operands(inputs: Inputs) -> tuple[IntArray, ...]:
        code = int(only(inputs[places.x_zero], "zero point")) if came.zero else 0  # type: ignore[index]
        return (form.inputs(came.codes(inputs[places.x]), code),)

    return Product(layer, operands, lambda sums, inputs: result(form.sums(sums), inputs), places.w)


def _check_types(node: Node, places: Places, known: Sequence[Known | None]) -> None:
    """Raise ModelFileError for sides that are not both of integer types, or both of floats."""
    integers = [_at(known, place).whole for place in (places.x, places.w)]
    if integers != [places.x_zero is not None or any(integers)] * 2:
        raise ModelFileError("its sides are of other types than it multiplies")
    factors = [node.attributes.get(name, 1.0) for name in ("alpha", "beta")]
    if integers[0] and places.x_zero is None and factors != [1.0, 1.0]:
        raise ModelFileError("it multiplies sums of an integer type by fractions")


def _with_padding(came: Operand, form: Form) -> IntSpec:
    """The range of codes, with what pads them, if padding is among them: 0, or any zero point."""
    if not form.mixes:
        return came.spec
    padding = came.zero or IntSpec(0, 0)
    return IntSpec(min(came.spec.min, padding.min), max(came.spec.max, padding.max))


def _many_masks(came: Operand, constant: Weights, form: Form) -> bool:
    """Whether too many sets of taps can fall on padding, beside inputs without 0, to decide each.

    Then padding is put among the inputs, as any other code.
    """
    if came.spec.contains_zero or not any(form.geometry.get("padding", ())):
        return False
    sets = prod(size * (size + 1) // 2 for size in form.weight(constant.codes).shape[2:])
    return bool(sets * constant.codes.size > MASKED)


def _scale(came: Operand, constant: Weights, form: Form, channels: int) -> Array:
    """What one unit of the sums is worth, float64: one number, or one for each output channel."""
    own = constant.by_channel(form.weight).astype(np.float64)
    if came.axis is None:
        return own * float(came.scale.reshape(-1)[0])
    groups = form.geometry.get("groups", 0)
    channel_axes = (1, form.axis) if groups else ()
    each = (
        came.scale.reshape(groups or 1, -1)
        if len(came.scale) % (groups or 1) == 0
        else came.scale[None]
    )
    if came.axis not in channel_axes or not bool((each == each[:, :1]).all()):
        raise ModelFileError("its input has different scales within one sum")
    return own * np.repeat(each[:, 0].astype(np.float64), channels // len(each))


def _start(
    node: Node, places: Places, known: Sequence[Known | None], scale: Array | None, channels: int
) -> IntArray | None:
    """Where registers start: at a constant bias of integers in the unit of the sums, if any.

    Integer operators take it as such; beside floats it is one whose scale is that of the sums.
    """
    bias = _at(known, places.bias)
    if bias is None or bias.grid is None or bias.grid.codes is None:
        return None
    codes = np.asarray(bias.grid.codes)
    if codes.size != channels or codes.shape[-1:] != (channels,) or len(places.scales) == 2:
        return None
    if any(node.attributes.get(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return None
    if scale is not None:
        unit = np.broadcast_to(scale, (channels,))
        if not np.allclose(
            np.broadcast_to(bias.grid.scale.reshape(-1), (channels,)), unit, rtol=1e-6, atol=0
        ):
            return None
    return codes.reshape(-1).astype(np.int64) if codes.any() else None


def _result(node: Node, places: Places, form: Form, scale: Array | None) -> Result:
    alpha, beta = (float(node.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    if scale is not None and places.x_zero is None:
        return dequantized(scale * alpha, form.axis, places.bias, beta)
    if not places.scales:
        return integers_out
    if len(places.scales) == 2:
        return scaled((places.scales[0], places.scales[1]), form.axis, places.bias)
    x_scale, w_scale, y_scale, y_zero = places.scales
    return requantized(x_scale, w_scale, y_scale, y_zero, form.axis, places.bias, alpha)


def _matmul(node: Node, places: Places, known: Sequence[Known | None]) -> Product:
    """A product of two activations: zero points come off before it, computed ones too."""
    sides = [
        _side(node, known, place, zero)
        for place, zero in ((places.x, places.x_zero), (places.w, places.w_zero))
    ]
    _check_types(node, places, known)
    if any(side.axis is not None for side in sides):
        raise ModelFileError("its inputs have different scales within one sum")
    scale = None
    if not places.scales:
        scale = np.prod([side.scale.astype(np.float64).reshape(()) for side in sides], axis=0)
    turned = [bool(node.attributes.get(name, 0)) for name in ("transA", "transB")]

    def operands(inputs: Inputs) -> tuple[IntArray, ...]:
        codes: list[IntArray] = []
        for side, place, zero, turn in zip(
            sides, (places.x, places.w), (places.x_zero, places.w_zero), turned, strict=True
        ):
            found = side.codes(inputs[place])
            if side.zero:
                offset = only(inputs[zero], "zero point")  # type: ignore[index]
                found = found.astype(np.int64) - np.int64(offset)
            if found.ndim == 1:  # a row on the left, a column on the right
                found = found[:, None] if codes else found[None]
            codes.append(found.swapaxes(-1, -2) if turn else found)
        return codes[0], codes[1]

    result = _result(node, places, Form(lambda w: w, lambda x, _: x), scale)
    taps = (
        _length(_at(known, places.x), turned[0], -1),
        _length(_at(known, places.w), turned[1], -2),
    )
    lengths = {length for length in taps if length is not None}
    said = lengths.pop() if len(lengths) == 1 else None

    def shaped(sums: IntArray, inputs: Inputs) -> Array:
        row, column = (dimensions(inputs[place]) == 1 for place in (places.x, places.w))
        sums = sums[..., 0] if column else sums
        return result(sums[..., 0] if row and column else sums[..., 0, :] if row else sums, inputs)

    return Product(MatMul(_reach(sides[0]), _reach(sides[1]), said), operands, shaped)


def _side(node: Node, known: Sequence[Known | None], place: int, zero: int | None) -> Operand:
    return operand(node.input(place), _at(known, place), _at(known, zero))


def _length(fact: Known, turned: bool, axis: int) -> int | None:
    """How many products a sum has, by the declared shape of one side."""
    axis = -3 - axis if turned else axis
    shape = fact.shape or ()
    size = shape[axis] if len(shape) >= 2 else None
    return size if isinstance(size, int) and 0 < size < 2**31 else None


def _reach(side: Operand) -> IntSpec:
    """The range of a side less its zero point, which may be any code if it is computed."""
    zero = side.zero or IntSpec(0, 0)
    return IntSpec(side.spec.min - zero.max, side.spec.max - zero.min)
