"""Shapes of values, as far as the file declares them, and what follows for the next ones.

A size is a number, the name of an open one, or None where it is not known.
"""

from __future__ import annotations

from collections.abc import Sequence

from accsim.onnx.graph import Node, Shape
from accsim.onnx.known import Known

__all__ = ["shape_of"]

_SAME = {
    "Abs", "BatchNormalization", "BipolarQuant", "Cast", "Ceil", "Clip", "DequantizeLinear",
    "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "IntQuant", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "Neg", "Quant",
    "QuantizeLinear", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Softmax", "Softplus",
    "Sqrt", "Tanh", "Trunc", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax",
}  # fmt: skip
_BROADCAST = {"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Where"}
_WINDOWS = {
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "MaxPool",
    "AveragePool",
    "QLinearConv",
    "GlobalAveragePool",
    "GlobalMaxPool",
}


def shape_of(node: Node, known: Sequence[Known | None], declared: Shape) -> Shape:
    """The shape of a node's output: declared, or as its inputs make it; None if neither tells."""
    if declared is not None or not known or known[0] is None:
        return declared
    shapes = [None if fact is None else fact.sizes for fact in known]
    if node.op in _SAME:
        return shapes[0]
    if node.op in _BROADCAST:
        return _broadcast(shapes)
    if node.op in _WINDOWS and shapes[0] is not None:
        return (*shapes[0][:1], *[None] * (len(shapes[0]) - 1))
    if node.op.startswith("Reduce") and node.attributes.get("keepdims", 1) and shapes[0]:
        return (None,) * len(shapes[0])
    if node.op in ("MatMul", "MatMulInteger", "Gemm"):
        return _product(node, shapes)
    return None


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    """As numpy does; a size that is known to be 1 gives way."""
    found = [shape for shape in shapes if shape is not None]
    if len(found) < len(shapes):
        return None
    rank = max(map(len, found))
    sizes = [[shape[i - rank] for shape in found if len(shape) >= rank - i] for i in range(rank)]
    made = [{size for size in place if size != 1} or {1} for place in sizes]
    return tuple(place.pop() if len(place) == 1 else None for place in made)


def _product(node: Node, shapes: Sequence[Shape]) -> Shape:
    """Of a left side of two dimensions or more, and a matrix on the right."""
    left, right = shapes[0], shapes[1] if len(shapes) > 1 else None
    if left is None or right is None or len(left) < 2 or len(right) != 2:
        return None
    if node.attributes.get("transA", 0):
        return None
    return (*left[:-1], right[0] if node.attributes.get("transB", 0) else right[1])
