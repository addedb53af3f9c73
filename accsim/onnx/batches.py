"""Whether the inputs of a network may be run in parts: what each node does to the first axis.

Only what is known to keep rows apart does. Of axes that are counted from the back the rank must be
declared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from accsim.onnx.graph import QONNX, Graph, Node
from accsim.onnx.known import Known
from accsim.onnx.operators import MICROSOFT

__all__ = ["rows_apart"]

_APART = {
    "Abs", "Add", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Celu", "Clip", "Conv",
    "ConvInteger", "ConvTranspose", "DepthToSpace", "DequantizeLinear", "Div", "Dropout", "Elu",
    "Equal", "Erf", "Exp", "Floor", "Gelu", "GlobalAveragePool", "GlobalMaxPool", "Greater",
    "GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LRN",
    "LeakyRelu", "Less", "Log", "Max", "MaxPool", "Min", "Mish", "Mul", "Neg", "Not", "PRelu",
    "Pow", "QLinearConv", "QuantizeLinear", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid",
    "Sign", "Softplus", "Softsign", "SpaceToDepth", "Sqrt", "Sub", "Sum", "Tanh",
    "ThresholdedRelu", "Where",
}  # fmt: skip
_APART_MICROSOFT = {
    "DequantizeLinear", "QLinearAdd", "QLinearAveragePool", "QLinearGlobalAveragePool",
    "QLinearLeakyRelu", "QLinearMul", "QLinearSigmoid", "QLinearWhere", "QuantizeLinear",
}  # fmt: skip
# Operators along one axis, and which it is if they do not say.
_ALONG = {
    "Softmax": -1, "LogSoftmax": -1, "Hardmax": -1, "LayerNormalization": -1, "Concat": None,
    "Split": 0, "QLinearSoftmax": -1, "QLinearConcat": None,
}  # fmt: skip
_PRODUCTS = {"Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat"}


def rows_apart(graph: Graph, known: Mapping[str, Known]) -> bool:
    """Whether inputs and outputs share a batch of open size whose rows never meet."""
    ends = [*graph.inputs.values(), *graph.outputs.values()]
    first = {end.shape[0] if end.shape else None for end in ends}
    if len(first) != 1 or not all(isinstance(size, str) for size in first):
        return False
    return all(
        _keeps_rows(node, [known[name] if name else None for name in node.inputs])
        for node in graph.nodes
        if any(known[name].constant is None for name in node.outputs if name)
    )


def _keeps_rows(node: Node, known: Sequence[Known | None]) -> bool:
    """Whether each row of what a node gives comes from one row of what it is given."""
    if node.domain == QONNX:
        return node.op in ("Quant", "IntQuant", "BipolarQuant", "Trunc")
    if node.domain not in ("", MICROSOFT):
        return False
    if node.op in (_APART_MICROSOFT if node.domain == MICROSOFT else _APART):
        return True
    if node.op in _PRODUCTS:
        return _product_keeps_rows(node, known)
    if node.op in _ALONG:
        default = 1 if node.op.endswith("Softmax") and node.version < 13 else _ALONG[node.op]
        axis = node.attributes.get("axis", default)
        place = 2 if node.op == "QLinearConcat" else 0
        return axis is not None and _behind([axis], _rank(known, place))
    return _moves_apart(node, known)


def _moves_apart(node: Node, known: Sequence[Known | None]) -> bool:
    """The same of operators that say their axes, or a shape."""
    if node.op == "Flatten":
        return _behind([node.attributes.get("axis", 1)], _rank(known, 0))
    if node.op == "Transpose":
        return tuple(node.attributes.get("perm", ()))[:1] == (0,)
    if node.op == "Reshape":
        shape = known[1].constant if len(known) > 1 and known[1] is not None else None
        return shape is not None and shape.size > 0 and int(shape.reshape(-1)[0]) in (0, -1)
    if node.op.startswith("Reduce") or node.op in ("Squeeze", "Unsqueeze", "QLinearReduceMean"):
        axes = node.attributes.get("axes")
        if axes is None and len(known) > 1 and known[1] is not None:
            axes = known[1].constant
        grown = len(np.ravel(axes)) if axes is not None and node.op == "Unsqueeze" else 0
        rank = _rank(known, 0)
        axes = [] if axes is None else np.ravel(axes).tolist()
        return bool(axes) and _behind(axes, None if rank is None else rank + grown)
    return False


def _product_keeps_rows(node: Node, known: Sequence[Known | None]) -> bool:
    """A product by constants on the right; or of activations with a batch each."""
    if node.attributes.get("transA", 0):
        return False
    right = 3 if node.op in ("QLinearMatMul", "QGemm") else 1
    constant = [_is_constant(known, place) for place in (0, right)]
    ranks = [_rank(known, place) for place in (0, right)]
    batched = [rank is not None and rank > 2 for rank in ranks]
    return constant[1] or (batched[1] and (constant[0] or batched[0]))


def _is_constant(known: Sequence[Known | None], place: int) -> bool:
    fact = known[place] if place < len(known) else None
    return fact is not None and fact.constant is not None


def _rank(known: Sequence[Known | None], place: int) -> int | None:
    """How many dimensions an input has, if that is declared."""
    fact = known[place] if place < len(known) else None
    if fact is None:
        return None
    if fact.constant is not None:
        return fact.constant.ndim
    return None if fact.shape is None else len(fact.shape)


def _behind(axes: Sequence[int], rank: int | None) -> bool:
    """Whether all axes are known to lie behind the first."""
    return all(axis > 0 if axis >= 0 else rank is not None and axis + rank > 0 for axis in axes)
