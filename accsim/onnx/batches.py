"""Whether the inputs of a network may be run in parts: what each node does to the first axis.

Only what is known to keep rows apart does. Of axes that are counted from the back the rank must be
declared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from accsim.onnx.graph import QONNX, Graph, Node
from accsim.onnx.known import Known, at
from accsim.onnx.operators import MICROSOFT

__all__ = ["rows_apart"]

# Of one value, beside constants.
_APART = {
    "Abs", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Celu", "Clip", "Conv",
    "ConvInteger", "ConvTranspose", "DepthToSpace", "DequantizeLinear", "Dropout", "Elu", "Erf",
    "Exp", "Floor", "Gelu", "GlobalAveragePool", "GlobalMaxPool", "GroupNormalization",
    "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LRN", "LeakyRelu", "Log",
    "MaxPool", "Mish", "Neg", "Not", "QLinearConv", "QuantizeLinear", "Reciprocal", "Relu",
    "Round", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "SpaceToDepth", "Sqrt", "Tanh",
    "ThresholdedRelu",
}  # fmt: skip
_APART_MICROSOFT = {
    "DequantizeLinear", "QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearLeakyRelu",
    "QLinearSigmoid", "QuantizeLinear",
}  # fmt: skip
# Of several values, which are broadcast: at which inputs they are; None: at all.
_BROADCAST: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Sum", "Where"), None),
    **dict.fromkeys(("Equal", "Greater", "Less", "PRelu"), None),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), (0, 3)),
    "QLinearWhere": (0, 1, 4),
}
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
        one = node.op != "MaxPool" or not any(node.outputs[1:])  # places count over all rows
        return one and all(fact is None or fact.constant is not None for fact in known[1:])
    if node.op in _BROADCAST:
        return _broadcast_apart(known, _BROADCAST[node.op])
    if node.op in _PRODUCTS:
        return _product_keeps_rows(node, known)
    if node.op in _ALONG:
        default = 1 if node.op.endswith("Softmax") and node.version < 13 else _ALONG[node.op]
        axis = node.attributes.get("axis", default)
        place = 2 if node.op == "QLinearConcat" else 0
        return axis is not None and _behind([axis], _rank(known, place))
    return _moves_apart(node, known)


def _broadcast_apart(known: Sequence[Known | None], places: Sequence[int] | None) -> bool:
    """Whether all values have their rows on the same axis, and constants none of their own."""
    facts = [known[p] for p in places if p < len(known)] if places is not None else list(known)
    values = [fact for fact in facts if fact is not None and fact.constant is None]
    constants = [fact.constant for fact in facts if fact is not None and fact.constant is not None]
    ranks = {None if fact.shape is None else len(fact.shape) for fact in values}
    if len(values) == 1 and all(array.ndim == 0 for array in constants):
        return True
    rank = ranks.pop() if len(ranks) == 1 else None
    return rank is not None and all(
        array.ndim < rank or (array.ndim == rank and array.shape[0] == 1) for array in constants
    )


def _moves_apart(node: Node, known: Sequence[Known | None]) -> bool:
    """The same of operators that say their axes, or a shape."""
    if node.op == "Flatten":
        return _behind([node.attributes.get("axis", 1)], _rank(known, 0))
    if node.op == "Transpose":
        return tuple(node.attributes.get("perm", ()))[:1] == (0,)
    if node.op == "Reshape":
        return _reshape_apart(known)
    if node.op.startswith("Reduce") or node.op in ("Squeeze", "Unsqueeze", "QLinearReduceMean"):
        axes = node.attributes.get("axes")
        if axes is None and len(known) > 1 and known[1] is not None:
            axes = known[1].constant
        rank = _rank(known, 0)
        if axes is None or np.asarray(axes).dtype.kind not in "iu":
            return False
        axes = np.ravel(axes).tolist()
        grown = len(axes) if node.op == "Unsqueeze" else 0
        return bool(axes) and _behind(axes, None if rank is None else rank + grown)
    return False


def _reshape_apart(known: Sequence[Known | None]) -> bool:
    """Whether the first axis is kept, or cut where each row ends, by the declared sizes."""
    fact, to = known[0], known[1].constant if len(known) > 1 and known[1] is not None else None
    if fact is None or to is None or to.dtype.kind not in "iu" or to.size == 0:
        return False
    first, *rest = to.reshape(-1).tolist()
    if first == 0:
        return True
    row = [size for size in (fact.shape or ())[1:] if isinstance(size, int)]
    if first != -1 or not row or len(row) < len(fact.shape or ()) - 1:
        return False
    return min(rest, default=1) > 0 and prod(row) % prod(rest) == 0


def _product_keeps_rows(node: Node, known: Sequence[Known | None]) -> bool:
    """A product by constants on the right; or of activations with a batch each."""
    if node.attributes.get("transA", 0):
        return False
    right = 3 if node.op in ("QLinearMatMul", "QGemm") else 1
    constant = [_is_constant(known, place) for place in (0, right)]
    left_rank, right_rank = (_rank(known, place) for place in (0, right))
    if node.op in ("Gemm", "QGemm"):  # of matrices
        return constant[1]
    if left_rank is None or right_rank is None:
        return False
    if constant[1]:
        return 2 <= left_rank >= right_rank
    return right_rank > 2 and (left_rank < right_rank if constant[0] else left_rank == right_rank)


def _is_constant(known: Sequence[Known | None], place: int) -> bool:
    fact = at(known, place)
    return fact is not None and fact.constant is not None


def _rank(known: Sequence[Known | None], place: int) -> int | None:
    """How many dimensions an input has, if that is declared."""
    fact = at(known, place)
    return None if fact is None or fact.sizes is None else len(fact.sizes)


def _behind(axes: Sequence[int], rank: int | None) -> bool:
    """Whether all axes are known to lie behind the first."""
    return all(axis > 0 if axis >= 0 else rank is not None and axis + rank > 0 for axis in axes)
