"""Rules of tracing: what each operator does to what is known of its inputs.

A rule holds for every input and in registers of any width: what comes out of an integer product is
therefore unknown until a quantizer says its range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import frexp, inf, prod

import numpy as np

from accsim.errors import ModelFileError
from accsim.onnx.graph import QONNX, Node
from accsim.onnx.known import Grid, Known, first, outward, unknown
from accsim.onnx.operators import MICROSOFT
from accsim.onnx.reading import shown
from accsim.onnx.rules_codes import (
    cast,
    codes_at,
    dequantize_linear,
    dynamic,
    quantize,
    quantize_linear,
    sums_of_integers,
)
from accsim.onnx.rules_moving import (
    clip,
    concat,
    dropout,
    greatest,
    keeps,
    least,
    max_pool,
    pad,
    relu,
    transpose,
    where,
)

__all__ = ["RULES"]

Rule = Callable[[Node, Sequence[Known | None]], Known]

_AVERAGED = 1e-4  # by so much, relative, averages of many floats may leave what they average
MANY = 2**16  # of which such sums are rounded by no more
_SMALLEST = np.finfo(np.float32).tiny  # below it floats have fewer digits


def _two(known: Sequence[Known | None]) -> list[Known]:
    facts = [fact for fact in known if fact is not None]
    if len(facts) != 2:
        raise ModelFileError("it must have two inputs")
    return facts


def _scaled(node: Node, known: Sequence[Known | None]) -> Known:
    """Times or divided by a positive constant."""
    _no_integers(node, known)
    facts = _two(known)
    by = facts[1] if facts[1].constant is not None else facts[0] if node.op == "Mul" else facts[1]
    fact = facts[0] if by is facts[1] else facts[1]
    if by.constant is None or by.constant.size != 1 or by.constant.dtype.kind != "f":
        return unknown(f"{node.op} {shown(node.name)} does not keep whole codes")
    factor = float(by.constant.reshape(-1)[0])
    if not 0 < factor < inf:
        return unknown(f"{node.op} {shown(node.name)} is by {factor}")
    factor = factor if node.op == "Mul" else 1 / factor
    ends = outward(fact.low * factor, fact.high * factor)
    grid = fact.grid
    if grid is None:
        return unknown(fact.why, *ends)
    with np.errstate(over="ignore"):
        scale = (grid.scale * factor).astype(np.float32)
    if not bool(np.isfinite(scale).all() and (scale >= _SMALLEST).all()):
        return unknown(f"{node.op} {shown(node.name)} leaves the range of float32", *ends)
    if grid.axis is not None and by.constant.ndim > 1:
        return unknown(f"{node.op} {shown(node.name)} may add dimensions", *ends)
    if bool((scale == 1).any()) and frexp(factor)[0] != 0.5:
        # nearly whole numbers, which a Cast would make others of
        return unknown(f"{node.op} {shown(node.name)} makes fractions whole by rounding", *ends)
    rounded = grid.rounded + 1
    return Known(*ends, replace(grid, scale=scale, codes=None, rounded=rounded))


def _add(node: Node, known: Sequence[Known | None]) -> Known:
    """Codes of one scale add up to codes of that scale."""
    _no_integers(node, known)
    one, other = facts = _two(known)
    sign = 1 if node.op == "Add" else -1
    ends = other.low, other.high
    low, high = ends if sign > 0 else (-ends[1], -ends[0])
    sums = outward(one.low + low, one.high + high)
    for fact in facts:
        if fact.grid is None:
            return unknown(fact.why, *sums)
    a, b = one.grid, other.grid
    assert a is not None, "looked at above"
    assert b is not None, "looked at above"
    if max(a.scale.size, b.scale.size) > 1 or a.scale.reshape(-1)[0] != b.scale.reshape(-1)[0]:
        return unknown(f"{node.op} {shown(node.name)} adds values of different scales", *sums)
    codes = (b.low, b.high) if sign > 0 else (-b.high, -b.low)
    grid = Grid(a.low + codes[0], a.high + codes[1], a.scale.reshape(()))
    return Known(*sums, replace(grid, rounded=1 + max(a.rounded, b.rounded)))


def _no_integers(node: Node, known: Sequence[Known | None]) -> None:
    """Raise ModelFileError for arithmetic in an integer type, which wraps."""
    if any(fact is not None and fact.whole for fact in known):
        raise ModelFileError(f"{node.op} {shown(node.name)} is arithmetic in an integer type")


def _averages(node: Node, known: Sequence[Known | None]) -> Known:
    """Averages lie where the numbers do, if they are not too many; padding may count as 0."""
    fact = first(known)
    _no_integers(node, known[:1])
    reason = f"{node.op} {shown(node.name)} averages codes"
    window = node.attributes.get("kernel_shape") or (fact.shape or (None,) * 2)[1:]
    if not all(isinstance(size, int) for size in window) or prod(window) > MANY:
        return unknown(reason)
    low, high = min(0.0, fact.low), max(0.0, fact.high)
    return unknown(reason, *outward(low, high, _AVERAGED))


def _between(low: float, high: float) -> Rule:
    def rule(node: Node, known: Sequence[Known | None]) -> Known:
        _no_integers(node, known)
        return unknown(f"{node.op} {shown(node.name)} gives fractions", *outward(low, high))

    return rule


_KEEPING = (
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Slice", "Gather",
    "GatherElements", "GatherND", "Split", "DepthToSpace", "SpaceToDepth", "GlobalMaxPool",
    "ReduceMax", "ReduceMin", "Compress", "ReverseSequence",
)  # fmt: skip

RULES: dict[tuple[str, str], Rule] = {
    **{("", op): keeps for op in _KEEPING},
    ("", "MaxPool"): max_pool,
    ("", "Concat"): concat,
    ("", "Max"): greatest,
    ("", "Min"): least,
    **{("", op): _averages for op in ("AveragePool", "GlobalAveragePool", "ReduceMean")},
    **{("", op): _scaled for op in ("Mul", "Div")},
    **{("", op): _add for op in ("Add", "Sub")},
    **{("", op): _between(0, 1) for op in ("Sigmoid", "HardSigmoid", "Softmax")},
    **{("", op): _between(-1, 1) for op in ("Tanh", "Erf", "Softsign")},
    **{
        ("", op): _between(0, inf)
        for op in ("Abs", "Exp", "Softplus", "Sqrt", "ReduceL1", "ReduceL2")
    },
    ("", "Dropout"): dropout,
    ("", "Transpose"): transpose,
    ("", "Relu"): relu,
    ("", "Clip"): clip,
    ("", "Where"): where,
    ("", "Pad"): pad,
    ("", "Cast"): cast,
    ("", "DynamicQuantizeLinear"): dynamic,
    **{("", op): sums_of_integers for op in ("ConvInteger", "MatMulInteger")},
    **{(QONNX, op): quantize for op in ("Quant", "IntQuant", "BipolarQuant", "Trunc")},
    **{(domain, "QuantizeLinear"): quantize_linear for domain in ("", MICROSOFT)},
    **{(domain, "DequantizeLinear"): dequantize_linear for domain in ("", MICROSOFT)},
    **{("", op): codes_at(7) for op in ("QLinearConv", "QLinearMatMul")},
    **{(MICROSOFT, op): codes_at(7) for op in ("QLinearAdd", "QLinearMul", "QLinearMatMul")},
    **{
        (MICROSOFT, op): codes_at(4)
        for op in (
            "QLinearSigmoid",
            "QLinearLeakyRelu",
            "QLinearGlobalAveragePool",
            "QLinearAveragePool",
            "QLinearSoftmax",
            "QLinearReduceMean",
        )
    },
    (MICROSOFT, "QLinearConcat"): codes_at(1),
    (MICROSOFT, "QGemm"): codes_at(8),
    (MICROSOFT, "QLinearWhere"): codes_at(8),
}
