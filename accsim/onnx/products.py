"""Integer products of a graph: each as a layer, with the way into its registers and out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from accsim._check import IntArray
from accsim.errors import ModelFileError
from accsim.layer import IntLayer
from accsim.onnx.forms import Form, conv, dense, dense_left
from accsim.onnx.graph import Node
from accsim.onnx.known import Known, at
from accsim.onnx.matmuls import matmul
from accsim.onnx.operands import Operand, Weights, operand, weights
from accsim.onnx.places import (
    OTHERS,
    PLACES,
    Inputs,
    Places,
    Product,
    check_types,
    result_of,
)
from accsim.onnx.results import less_zero_point, only
from accsim.spec import IntSpec

__all__ = ["product"]

Array = np.ndarray[Any, Any]

MASKED = 2**27  # weights, counted for each set of taps that can fall on padding


def product(node: Node, known: Sequence[Known | None]) -> Product:
    """The integer product that a node is, by what is known of its inputs.

    Raises: ModelFileError saying why it is none; others for integers that no layer holds.
    """
    kind = (node.domain, node.op)
    places = PLACES.get(kind)
    if places is None:
        raise ModelFileError(
            OTHERS.get(kind, f"{node.op} of the domain {node.domain!r} is not known")
        )
    x, w = (at(known, place) for place in (places.x, places.w))
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
        return matmul(node, places, known)
    return _layer(node, places, known)


def _layer(node: Node, places: Places, known: Sequence[Known | None]) -> Product:
    """A product with constant weights."""
    w, w_zero = at(known, places.w), at(known, places.w_zero)
    by_column = places.form is dense and not node.attributes.get("transB", 0)
    axis = -1 if by_column else 0
    constant = weights(node.input(places.w), w, w_zero, axis)
    came = operand(node.input(places.x), at(known, places.x), at(known, places.x_zero))
    check_types(node, places, known)
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
    result = result_of(
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
    bias = at(known, places.bias)
    if bias is None or bias.grid is None or bias.grid.codes is None:
        return None
    codes = np.asarray(bias.grid.codes)
    if codes.size != channels or codes.shape[-1:] != (channels,) or len(places.scales) == 2:
        return None
    if any(node.attributes.get(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return None
    if scale is not None:
        unit = np.broadcast_to(scale, (channels,))
        # both are products of two scales, one rounded to float32 by whoever wrote the file
        if not np.allclose(
            np.broadcast_to(bias.grid.scale.reshape(-1), (channels,)), unit, rtol=1e-6, atol=0
        ):
            return None
    return codes.reshape(-1).astype(np.int64) if codes.any() else None
