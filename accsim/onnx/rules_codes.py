"""Rules of tracing for what makes codes of numbers, and numbers of codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from accsim.errors import ModelFileError
from accsim.onnx.graph import Node
from accsim.onnx.known import (
    WIDEST,
    Grid,
    Known,
    at,
    first,
    integer_ends,
    integers,
    outward,
    unknown,
)
from accsim.onnx.operators import code_type, quantizer_of
from accsim.onnx.quantizers import Quantizer, Truncation
from accsim.onnx.reading import shown

__all__ = [
    "cast",
    "codes_at",
    "constants_of",
    "dequantize_linear",
    "dynamic",
    "quantize",
    "quantize_linear",
    "sums_of_integers",
]

Array = np.ndarray[Any, Any]
Rule = Callable[[Node, Sequence[Known | None]], Known]


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


def quantize(node: Node, known: Sequence[Known | None]) -> Known:
    """Quant and its like: a grid, as narrow as what comes in makes it."""
    fact = first(known)
    inputs = constants_of(node, known, 1)
    if inputs and inputs[0] is not None and inputs[0].dtype != np.float32:
        kind = inputs[0].dtype.name
        raise ModelFileError(f"{node.op} {shown(node.name)} has a scale of {kind}, not float32")
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
    return Known(*outward(float(low), float(high)), grid)


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


def quantize_linear(node: Node, known: Sequence[Known | None]) -> Known:
    """Codes of an integer type, as narrow as what comes in makes them."""
    fact = first(known)
    inputs = constants_of(node, known, 1)
    quantizer = quantizer_of(node, inputs, _dimensions(node, fact))
    low, high = _ends(quantizer, fact)
    if fact.whole or inputs[0].dtype != np.float32:  # other numbers are rounded otherwise
        low, high = quantizer.spec.min, quantizer.spec.max
    zero, ends = at(inputs, 1), integer_ends(code_type(node, inputs))
    zero = np.zeros(1, np.int64) if zero is None else zero.astype(np.int64)
    return integers(max(low + int(zero.min()), ends[0]), min(high + int(zero.max()), ends[1]))


def dequantize_linear(node: Node, known: Sequence[Known | None]) -> Known:
    """The grid of codes that are known as integers, moved by the zero point."""
    fact = first(known)
    scale, *zeros = constants_of(node, known, 1)
    if node.attributes.get("block_size", 0):
        raise ModelFileError(
            f"DequantizeLinear {shown(node.name)} has a scale for each block of codes"
        )
    if fact.grid is None:
        return unknown(fact.why)
    if not fact.whole:
        raise ModelFileError(f"DequantizeLinear {shown(node.name)} is given no integer type")
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


def cast(node: Node, known: Sequence[Known | None]) -> Known:
    """Whole numbers stay what they are in another type that has room for them."""
    fact = first(known)
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(node.attributes.get("to", 0)))
    except (KeyError, TypeError, ValueError):
        raise ModelFileError(f"Cast {shown(node.name)} makes it no type that is known") from None
    grid = fact.grid
    whole = dtype.kind in "iu"
    if grid is None or grid.scale.size > 1 or float(grid.scale.reshape(-1)[0]) != 1:
        return unknown(f"Cast {shown(node.name)} makes it {dtype.name}", whole=whole)
    floating = dtype.kind == "f" and dtype.itemsize >= 4
    low, high = (-WIDEST, WIDEST) if floating else integer_ends(dtype)
    if not low <= grid.low <= grid.high <= high:
        reason = f"Cast {shown(node.name)} makes it {dtype.name}, which has less room"
        return unknown(reason, whole=whole)
    return replace(fact, whole=not floating)


def codes_at(place: int) -> Rule:
    """Of an operator that quantizes its result: the type of its zero point tells the range."""

    def rule(node: Node, known: Sequence[Known | None]) -> Known:
        zero = at(known, place)
        if zero is None or zero.constant is None:
            return unknown(
                f"{node.op} {shown(node.name)} has no constant zero point for its result"
            )
        return integers(*integer_ends(zero.constant.dtype))

    return rule


def sums_of_integers(node: Node, known: Sequence[Known | None]) -> Known:
    """What a register held, in 32 bits, whose arithmetic wraps: nothing is concluded from it."""
    return unknown(f"it comes from {node.op} {shown(node.name)}", whole=True)


def dynamic(node: Node, known: Sequence[Known | None]) -> Known:
    """DynamicQuantizeLinear: uint8."""
    return integers(0, 255)
