"""Rules of tracing for what moves numbers to other places, joins, chooses or clips them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from accsim.errors import ModelFileError
from accsim.onnx.graph import Node
from accsim.onnx.known import Grid, Known, at, first, unknown
from accsim.onnx.reading import shown

__all__ = [
    "clip",
    "concat",
    "dropout",
    "greatest",
    "keeps",
    "least",
    "max_pool",
    "pad",
    "relu",
    "transpose",
    "where",
]

_ALIKE = 3e-7  # relative: five roundings of float32


def keeps(node: Node, known: Sequence[Known | None]) -> Known:
    """The same numbers in other places: a scale of its own for each channel would lose them."""
    fact = first(known)
    if (
        fact.grid
        and fact.grid.axis is not None
        and node.op not in ("Identity", "MaxPool", "Dropout")
    ):
        return unknown(
            f"{node.op} {shown(node.name)} moves channels of different scales", fact.low, fact.high
        )
    return fact


def dropout(node: Node, known: Sequence[Known | None]) -> Known:
    """Nothing is dropped but in training."""
    training = known[2] if len(known) > 2 else None
    if training is not None and (training.constant is None or training.constant.any()):
        raise ModelFileError(f"Dropout {shown(node.name)} may be that of training")
    return keeps(node, known)


def max_pool(node: Node, known: Sequence[Known | None]) -> Known:
    """The greatest of numbers; of nothing but padding, where a spread window can miss them all."""
    pads = node.attributes.get("pads", ())
    padded = any(pads) or node.attributes.get("auto_pad", "NOTSET").startswith("SAME")
    if padded and any(step > 1 for step in node.attributes.get("dilations", ())):
        return unknown(f"MaxPool {shown(node.name)} may see nothing but padding")
    return keeps(node, known)


def transpose(node: Node, known: Sequence[Known | None]) -> Known:
    """The axis of the scales moves with its channels."""
    fact = first(known)
    if fact.grid is None or fact.grid.axis is None or "perm" not in node.attributes:
        return keeps(node, known)
    order = list(node.attributes["perm"])
    if sorted(order) != list(range(len(order))):
        raise ModelFileError(f"Transpose {shown(node.name)} must have a permutation as perm")
    axis = order.index(fact.grid.axis % len(order))
    return replace(fact, grid=replace(fact.grid, axis=axis))


def relu(node: Node, known: Sequence[Known | None]) -> Known:
    """No number below 0 stays."""
    return _clipped(first(known), 0.0, inf)


def clip(node: Node, known: Sequence[Known | None]) -> Known:
    """Limits are inputs, or attributes in old versions."""
    low = _limit(known, 1, float(node.attributes.get("min", -inf)))
    high = _limit(known, 2, float(node.attributes.get("max", inf)))
    # its limits are of the type of what it clips
    whole = any(fact is not None and fact.whole for fact in known)
    return replace(_clipped(first(known), low, high), whole=whole)


def _limit(known: Sequence[Known | None], place: int, default: float) -> float:
    """The constant at an input of Clip; no limit at all if the graph computes it."""
    fact = at(known, place)
    if fact is None:
        return default
    if fact.constant is None:
        raise ModelFileError("it is clipped to what the graph computes")
    if fact.constant.size > 1:
        raise ModelFileError("it is clipped to several limits")
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
    whole = any(fact.whole for fact in facts)
    for fact in facts:
        if fact.grid is None:
            return unknown(fact.why, low, high, whole=whole)
    grids = [fact.grid for fact in facts if fact.grid]
    scales = {grid.scale.reshape(-1)[0].item() for grid in grids if grid.low or grid.high}
    if any(grid.axis is not None or grid.scale.size > 1 for grid in grids) or len(scales) > 1:
        reason = f"{node.op} {shown(node.name)} joins values of different scales"
        return unknown(reason, low, high, whole=whole)
    one = next((grid for grid in grids if grid.low or grid.high), grids[0])
    ends = lower(grid.low for grid in grids), upper(grid.high for grid in grids)
    rounded = max(grid.rounded for grid in grids)
    return Known(low, high, Grid(*ends, one.scale, rounded=rounded), whole=whole)


def concat(node: Node, known: Sequence[Known | None]) -> Known:
    """Numbers side by side."""
    return _joined(node, [fact for fact in known if fact is not None], min, max)


def greatest(node: Node, known: Sequence[Known | None]) -> Known:
    """The greatest is at least as great as the greatest of the low ends."""
    return _joined(node, [fact for fact in known if fact is not None], max, max)


def least(node: Node, known: Sequence[Known | None]) -> Known:
    """The least is at most as great as the least of the high ends."""
    return _joined(node, [fact for fact in known if fact is not None], min, min)


def where(node: Node, known: Sequence[Known | None]) -> Known:
    """The numbers of one or the other."""
    return concat(node, known[1:])


def pad(node: Node, known: Sequence[Known | None]) -> Known:
    """Padding is a constant, 0 if not said, or a copy of what is there."""
    fact = first(known)
    if node.attributes.get("mode", "constant") != "constant":
        return keeps(node, known)
    value = float(node.attributes.get("value", 0.0))
    if len(known) > 2 and known[2] is not None:
        if known[2].constant is None:
            return unknown(f"{node.op} {shown(node.name)} pads with what is not constant")
        if known[2].constant.size > 1:
            raise ModelFileError(f"Pad {shown(node.name)} pads with several values")
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
