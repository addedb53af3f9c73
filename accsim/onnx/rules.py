"""Rules of tracing: what each operator does to what is known of its inputs.

A rule holds for every input and in registers of any width: what comes out of an integer product is
therefore unknown until a quantizer says its range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import frexp, inf
from typing import Any

import numpy as np
import onnx

from accsim.errors import ModelFileError
from accsim.onnx.graph import QONNX, Node
from accsim.onnx.known import WIDEST, Grid, Known, integer_ends, integers, unknown
from accsim.onnx.operators import MICROSOFT, quantizer_of
from accsim.onnx.quantizers import Quantizer, Truncation
from accsim.onnx.reading import shown

__all__ = ["RULES", "constants_of"]

Array = np.ndarray[Any, Any]
Rule = Callable[[Node, Sequence[Known | None]], Known]

_ROUNDED = 1e-6  # by so much, relative, floats may leave an interval that real numbers keep
_AVERAGED = 1e-4  # and sums of many of them
_SMALLEST = np.finfo(np.float32).tiny  # below it floats have fewer digits
_ALIKE = 3e-7  # relative: five roundings of float32


def constants_of(node: Node, known: Sequence[Known | None], start: int) -> list[Array]:
    """The constants that a node has as inputs from `start` on; None for those left out.

    Raises: ModelFileError naming the first that the graph computes.
    """
    for place, fact in enumerate(known[start:], start):
        if fact is not None and fact.constant is None:
            raise ModelFileError(
                f"{node.op} {shown(node.name)} has {shown(node.input(place))}, which is not"
                " constant"
            )
    return [fact.constant if fact else None for fact in known[start:]]  # type: ignore[misc]


def _first(known: Sequence[Known | None]) -> Known:
    if not known or known[0] is None:
        raise ModelFileError("it has no input")
    return known[0]


def _two(known: Sequence[Known | None]) -> list[Known]:
    facts = [fact for fact in known if fact is not None]
    if len(facts) != 2:
        raise ModelFileError("it must have two inputs")
    return facts


def _keeps(node: Node, known: Sequence[Known | None]) -> Known:
    """The same numbers in other places: a scale of its own for each channel would lose them."""
    fact = _first(known)
    if (
        fact.grid
        and fact.grid.axis is not None
        and node.op not in ("Identity", "MaxPool", "Dropout")
    ):
        return unknown(
            f"{node.op} {shown(node.name)} moves channels of different scales", fact.low, fact.high
        )
    return fact


def _transpose(node: Node, known: Sequence[Known | None]) -> Known:
    fact = _first(known)
    if fact.grid is None or fact.grid.axis is None or "perm" not in node.attributes:
        return _keeps(node, known)
    order = list(node.attributes["perm"])
    if sorted(order) != list(range(len(order))):
        raise ModelFileError(f"Transpose {shown(node.name)} must have a permutation as perm")
    axis = order.index(fact.grid.axis % len(order))
    return replace(fact, grid=replace(fact.grid, axis=axis))


def _dropout(node: Node, known: Sequence[Known | None]) -> Known:
    """Nothing is dropped but in training."""
    training = known[2] if len(known) > 2 else None
    if training is not None and (training.constant is None or training.constant.any()):
        raise ModelFileError(f"Dropout {shown(node.name)} may be that of training")
    return _keeps(node, known)


def _relu(node: Node, known: Sequence[Known | None]) -> Known:
    return _clipped(_first(known), 0.0, inf)


def _clip(node: Node, known: Sequence[Known | None]) -> Known:
    low = _limit(known, 1, float(node.attributes.get("min", -inf)))
    high = _limit(known, 2, float(node.attributes.get("max", inf)))
    return _clipped(_first(known), low, high)


def _limit(known: Sequence[Known | None], place: int, default: float) -> float:
    """The constant at an input of Clip; no limit at all if the graph computes it."""
    fact = known[place] if place < len(known) else None
    if fact is None:
        return default
    if fact.constant is None:
        raise ModelFileError("it is clipped to what the graph computes")
    return float(fact.constant.reshape(-1)[0]) if fact.constant.size else default


def _clipped(fact: Known, low: float, high: float) -> Known:
    """Numbers moved into [low, high]; the grid is kept where that moves codes to codes."""
    ends = [min(max(end, low), high) for end in (fact.low, fact.high)]
    clipped = replace(fact, low=ends[0], high=ends[1])
    grid = fact.grid
    if grid is None:
        return clipped
    # a limit beyond all numbers clips none
    reached = (-inf if low <= fact.low else low, inf if high >= fact.high else high)
    codes = [_code_of(limit, grid) for limit in reached]
    if codes[0] is None or codes[1] is None:
        return replace(clipped, grid=None, why="it is clipped where it has no code")
    moved = [int(min(max(end, codes[0]), codes[1])) for end in (grid.low, grid.high)]
    return replace(clipped, grid=replace(grid, low=moved[0], high=moved[1]))


def _code_of(number: float, grid: Grid) -> float | None:
    """The code that stands for a number, or None if none does."""
    if number == 0 or abs(number) == inf:
        return number
    if grid.scale.size > 1:
        return None
    scale = float(grid.scale.reshape(-1)[0])
    code = number / scale
    whole = round(code)
    if scale == 1:
        return whole if code == whole else None
    return whole if abs(code - whole) <= _ALIKE * max(1, abs(whole)) else None


def _joined(
    node: Node, facts: Sequence[Known], lower: Callable[..., Any], upper: Callable[..., Any]
) -> Known:
    """Numbers of several values: one grid if their scale is one; ends are the lower, the upper."""
    if not facts:
        raise ModelFileError("it has no input")
    low, high = lower(fact.low for fact in facts), upper(fact.high for fact in facts)
    for fact in facts:
        if fact.grid is None:
            return unknown(fact.why, low, high)
    grids = [fact.grid for fact in facts if fact.grid]
    scales = {grid.scale.reshape(-1)[0].item() for grid in grids if grid.low or grid.high}
    if any(grid.axis is not None or grid.scale.size > 1 for grid in grids) or len(scales) > 1:
        return unknown(f"{node.op} {shown(node.name)} joins values of different scales", low, high)
    one = next((grid for grid in grids if grid.low or grid.high), grids[0])
    ends = lower(grid.low for grid in grids), upper(grid.high for grid in grids)
    return Known(low, high, Grid(*ends, one.scale), whole=all(fact.whole for fact in facts))


def _concat(node: Node, known: Sequence[Known | None]) -> Known:
    return _joined(node, [fact for fact in known if fact is not None], min, max)


def _greatest(node: Node, known: Sequence[Known | None]) -> Known:
    """The greatest is at least as great as the greatest of the low ends."""
    return _joined(node, [fact for fact in known if fact is not None], max, max)


def _least(node: Node, known: Sequence[Known | None]) -> Known:
    return _joined(node, [fact for fact in known if fact is not None], min, min)


def _where(node: Node, known: Sequence[Known | None]) -> Known:
    return _concat(node, known[1:])


def _pad(node: Node, known: Sequence[Known | None]) -> Known:
    """Padding is a constant, 0 if not said, or a copy of what is there."""
    fact = _first(known)
    if node.attributes.get("mode", "constant") != "constant":
        return _keeps(node, known)
    value = float(node.attributes.get("value", 0.0))
    if len(known) > 2 and known[2] is not None:
        if known[2].constant is None:
            return unknown(f"{node.op} {shown(node.name)} pads with what is not constant")
        value = float(known[2].constant.reshape(-1)[0]) if known[2].constant.size else 0.0
    grid = fact.grid
    low, high = min(fact.low, value), max(fact.high, value)
    if grid is None:
        return unknown(fact.why, low, high)
    if grid.axis is not None:
        return unknown(f"Pad {shown(node.name)} moves channels of different scales", low, high)
    code = _code_of(value, grid)
    if code is None or abs(code) == inf:
        return unknown(f"Pad {shown(node.name)} pads with {value}, which is no code", low, high)
    ends = min(grid.low, int(code)), max(grid.high, int(code))
    return replace(fact, low=low, high=high, grid=replace(grid, low=ends[0], high=ends[1]))


def _quantize(node: Node, known: Sequence[Known | None]) -> Known:
    """Quant and its like: a grid, as narrow as what comes in makes it."""
    fact = _first(known)
    inputs = constants_of(node, known, 1)
    quantizer = quantizer_of(node, inputs, _dimensions(node, fact))
    scale, axis = _one_axis(np.asarray(quantizer.scale), fact.constant)
    return _on_grid(Grid(*_ends(quantizer, fact), scale, axis))


def _ends(quantizer: Quantizer | Truncation, fact: Known) -> tuple[int, int]:
    """The range of codes of what comes in; of constants all that their type has."""
    if fact.constant is None:
        return quantizer.ends(fact.low, fact.high)
    return quantizer.spec.min, quantizer.spec.max


def _on_grid(grid: Grid) -> Known:
    scales = grid.scale.astype(np.float64)
    low, high = (grid.low * scales).min(), (grid.high * scales).max()
    return Known(*_outward(float(low), float(high)), grid)


def _dimensions(node: Node, fact: Known) -> int:
    """As many dimensions as the axis of the scale needs, where nothing tells how many there are."""
    if fact.constant is not None:
        return fact.constant.ndim
    axis = int(node.attributes.get("axis", 1))
    return axis + 1 if axis >= 0 else -axis


def _one_axis(scale: Array, value: Array | None) -> tuple[Array, int | None]:
    """A scale of a value that is not constant, and the axis along which it has several."""
    if scale.size == 1:
        return scale.reshape(()), None
    if value is not None:
        return scale, None
    axes = [axis for axis, size in enumerate(scale.shape) if size > 1]
    if len(axes) > 1:
        raise ModelFileError("a scale must have one axis along which it changes")
    return scale.reshape(-1), axes[0] - scale.ndim


def _quantize_linear(node: Node, known: Sequence[Known | None]) -> Known:
    fact = _first(known)
    inputs = constants_of(node, known, 1)
    low, high = _ends(quantizer_of(node, inputs, _dimensions(node, fact)), fact)
    zero = inputs[1] if len(inputs) > 1 and inputs[1] is not None else np.zeros(1, np.uint8)
    ends = integer_ends(zero.dtype)
    zero = zero.astype(np.int64)
    return integers(max(low + int(zero.min()), ends[0]), min(high + int(zero.max()), ends[1]))


def _dequantize_linear(node: Node, known: Sequence[Known | None]) -> Known:
    """The grid of codes that are known as integers, moved by the zero point."""
    fact = _first(known)
    scale, *zeros = constants_of(node, known, 1)
    if node.attributes.get("block_size", 0):
        raise ModelFileError(
            f"DequantizeLinear {shown(node.name)} has a scale for each block of codes"
        )
    if fact.grid is None:
        return unknown(fact.why)
    zero = np.zeros(1, np.int64) if not zeros or zeros[0] is None else zeros[0].astype(np.int64)
    if not bool((scale > 0).all() and np.isfinite(scale).all()):
        raise ModelFileError(
            f"DequantizeLinear {shown(node.name)} has a scale that is not a positive number"
        )
    if scale.dtype != np.float32:
        raise ModelFileError(
            f"DequantizeLinear {shown(node.name)} has a scale of {scale.dtype.name}, not float32"
        )
    axis = None if scale.size == 1 else int(node.attributes.get("axis", 1))
    ends = fact.grid.low - int(zero.max()), fact.grid.high - int(zero.min())
    return _on_grid(Grid(*ends, scale.reshape(() if axis is None else -1), axis))


def _cast(node: Node, known: Sequence[Known | None]) -> Known:
    """Whole numbers stay what they are in another type that has room for them."""
    fact = _first(known)
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(node.attributes.get("to", 0)))
    except (KeyError, TypeError, ValueError):
        raise ModelFileError(f"Cast {shown(node.name)} makes it no type that is known") from None
    grid = fact.grid
    if grid is None or grid.scale.size > 1 or float(grid.scale.reshape(-1)[0]) != 1:
        return unknown(f"Cast {shown(node.name)} makes it {dtype.name}")
    floating = dtype.kind == "f" and dtype.itemsize >= 4
    low, high = (-WIDEST, WIDEST) if floating else integer_ends(dtype)
    if not low <= grid.low <= grid.high <= high:
        return unknown(f"Cast {shown(node.name)} makes it {dtype.name}, which has less room")
    return replace(fact, whole=not floating)


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
    ends = _outward(fact.low * factor, fact.high * factor)
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
    return Known(*ends, replace(grid, scale=scale, codes=None))


def _add(node: Node, known: Sequence[Known | None]) -> Known:
    """Codes of one scale add up to codes of that scale."""
    _no_integers(node, known)
    one, other = facts = _two(known)
    sign = 1 if node.op == "Add" else -1
    ends = other.low, other.high
    low, high = ends if sign > 0 else (-ends[1], -ends[0])
    sums = _outward(one.low + low, one.high + high)
    for fact in facts:
        if fact.grid is None:
            return unknown(fact.why, *sums)
    a, b = one.grid, other.grid
    assert a is not None, "looked at above"
    assert b is not None, "looked at above"
    if max(a.scale.size, b.scale.size) > 1 or a.scale.reshape(-1)[0] != b.scale.reshape(-1)[0]:
        return unknown(f"{node.op} {shown(node.name)} adds values of different scales", *sums)
    codes = (b.low, b.high) if sign > 0 else (-b.high, -b.low)
    return Known(*sums, Grid(a.low + codes[0], a.high + codes[1], a.scale.reshape(())))


def _no_integers(node: Node, known: Sequence[Known | None]) -> None:
    """Raise ModelFileError for arithmetic in an integer type, which wraps."""
    if any(fact is not None and fact.whole for fact in known):
        raise ModelFileError(f"{node.op} {shown(node.name)} is arithmetic in an integer type")


def _averages(node: Node, known: Sequence[Known | None]) -> Known:
    """Averages lie where the numbers do; padding may count as 0."""
    fact = _first(known)
    low, high = min(0.0, fact.low), max(0.0, fact.high)
    _no_integers(node, known)
    return unknown(f"{node.op} {shown(node.name)} averages codes", *_outward(low, high, _AVERAGED))


def _outward(low: float, high: float, by: float = _ROUNDED) -> tuple[float, float]:
    """A little wider: rounding may carry a float past the end of what it stands for."""
    below, above = (abs(end) * by if abs(end) < inf else 0.0 for end in (low, high))
    return low - below, high + above


def _between(low: float, high: float) -> Rule:
    def rule(node: Node, known: Sequence[Known | None]) -> Known:
        _no_integers(node, known)
        return unknown(f"{node.op} {shown(node.name)} gives fractions", *_outward(low, high))

    return rule


def _codes_at(place: int) -> Rule:
    """Of an operator that quantizes its result: the type of its zero point tells the range."""

    def rule(node: Node, known: Sequence[Known | None]) -> Known:
        zero = known[place] if place < len(known) else None
        if zero is None or zero.constant is None:
            return unknown(
                f"{node.op} {shown(node.name)} has no constant zero point for its result"
            )
        return integers(*integer_ends(zero.constant.dtype))

    return rule


def _dynamic(node: Node, known: Sequence[Known | None]) -> Known:
    return integers(0, 255)


_KEEPING = (
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Slice", "Gather",
    "GatherElements", "GatherND", "Split", "DepthToSpace", "SpaceToDepth", "MaxPool",
    "GlobalMaxPool", "ReduceMax", "ReduceMin", "Compress", "ReverseSequence",
)  # fmt: skip

RULES: dict[tuple[str, str], Rule] = {
    **{("", op): _keeps for op in _KEEPING},
    ("", "Concat"): _concat,
    ("", "Max"): _greatest,
    ("", "Min"): _least,
    **{("", op): _averages for op in ("AveragePool", "GlobalAveragePool", "ReduceMean")},
    **{("", op): _scaled for op in ("Mul", "Div")},
    **{("", op): _add for op in ("Add", "Sub")},
    **{("", op): _between(0, 1) for op in ("Sigmoid", "HardSigmoid", "Softmax")},
    **{("", op): _between(-1, 1) for op in ("Tanh", "Erf", "Softsign")},
    **{
        ("", op): _between(0, inf)
        for op in ("Abs", "Exp", "Softplus", "Sqrt", "ReduceL1", "ReduceL2")
    },
    ("", "Dropout"): _dropout,
    ("", "Transpose"): _transpose,
    ("", "Relu"): _relu,
    ("", "Clip"): _clip,
    ("", "Where"): _where,
    ("", "Pad"): _pad,
    ("", "Cast"): _cast,
    ("", "DynamicQuantizeLinear"): _dynamic,
    **{(QONNX, op): _quantize for op in ("Quant", "IntQuant", "BipolarQuant", "Trunc")},
    **{(domain, "QuantizeLinear"): _quantize_linear for domain in ("", MICROSOFT)},
    **{(domain, "DequantizeLinear"): _dequantize_linear for domain in ("", MICROSOFT)},
    **{("", op): _codes_at(7) for op in ("QLinearConv", "QLinearMatMul")},
    **{(MICROSOFT, op): _codes_at(7) for op in ("QLinearAdd", "QLinearMul", "QLinearMatMul")},
    **{
        (MICROSOFT, op): _codes_at(4)
        for op in (
            "QLinearSigmoid",
            "QLinearLeakyRelu",
            "QLinearGlobalAveragePool",
            "QLinearAveragePool",
            "QLinearSoftmax",
            "QLinearReduceMean",
        )
    },
    (MICROSOFT, "QLinearConcat"): _codes_at(1),
    (MICROSOFT, "QGemm"): _codes_at(8),
    (MICROSOFT, "QLinearWhere"): _codes_at(8),
}
