"""Products of two activations: of which neither side is constant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from accsim._check import IntArray
from accsim.errors import ModelFileError
from accsim.network import MatMul
from accsim.onnx.forms import Form
from accsim.onnx.graph import Node
from accsim.onnx.known import Known, at
from accsim.onnx.operands import Operand, operand
from accsim.onnx.places import Inputs, Places, Product, check_types, result_of
from accsim.onnx.quantizers import dimensions
from accsim.onnx.results import only
from accsim.spec import IntSpec

__all__ = ["matmul"]

Array = np.ndarray[Any, Any]


def matmul(node: Node, places: Places, known: Sequence[Known | None]) -> Product:
    """A product of two activations: zero points come off before it, computed ones too."""
    sides = [
        _side(node, known, place, zero)
        for place, zero in ((places.x, places.x_zero), (places.w, places.w_zero))
    ]
    check_types(node, places, known)
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
            if found.ndim == 0:
                raise ModelFileError("it multiplies a number that is no matrix")
            if found.ndim == 1:  # a row on the left, a column on the right
                found = found[:, None] if codes else found[None]
            codes.append(found.swapaxes(-1, -2) if turn else found)
        np.broadcast_shapes(codes[0].shape[:-2], codes[1].shape[:-2])  # or ValueError
        return codes[0], codes[1]

    result = result_of(node, places, Form(lambda w: w, lambda x, _: x), scale)
    taps = (
        _length(at(known, places.x), turned[0], -1),
        _length(at(known, places.w), turned[1], -2),
    )
    lengths = {length for length in taps if length is not None}
    said = lengths.pop() if len(lengths) == 1 else None

    def shaped(sums: IntArray, inputs: Inputs) -> Array:
        row, column = (dimensions(inputs[place]) == 1 for place in (places.x, places.w))
        sums = sums[..., 0] if column else sums
        return result(sums[..., 0] if row and column else sums[..., 0, :] if row else sums, inputs)

    return Product(MatMul(_reach(sides[0]), _reach(sides[1]), said), operands, shaped)


def _side(node: Node, known: Sequence[Known | None], place: int, zero: int | None) -> Operand:
    return operand(node.input(place), at(known, place), at(known, zero))


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
