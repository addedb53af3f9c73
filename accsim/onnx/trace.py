"""Tracing: from the constants and types in a file to what is known of every value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from accsim.errors import AccsimError
from accsim.network import NetworkInput
from accsim.onnx.evaluate import MOVING, operation
from accsim.onnx.graph import Graph, Node
from accsim.onnx.known import Grid, Known, constant, integer_ends, integers, unknown
from accsim.onnx.quantizers import Coded, floats
from accsim.onnx.reading import first_line, shown
from accsim.onnx.rules import RULES
from accsim.onnx.shapes import shape_of

__all__ = ["trace"]

Array = np.ndarray[Any, Any]

# How many constant numbers tracing computes: so many, and so many times those in the file.
LEAST, TIMES = 2**22, 16
_COMPUTED = MOVING | {
    "Add", "Sub", "Mul", "Div", "Neg", "Abs", "Sqrt", "Reciprocal", "Max", "Min", "Clip", "Cast",
    "Relu", "Round", "Floor", "Ceil", "Concat", "Shape", "Quant", "IntQuant", "BipolarQuant",
    "Trunc", "QuantizeLinear", "DequantizeLinear", "Where", "Equal",
}  # fmt: skip
_CONSTANTS = {"value": None, "value_float": np.float32, "value_int": np.int64,
              "value_floats": np.float32, "value_ints": np.int64}  # fmt: skip


def trace(graph: Graph) -> dict[str, Known]:
    """What is known of each value, by name."""
    known = {name: constant(array) for name, array in graph.constants.items()}
    for name, described in graph.inputs.items():
        known[name] = replace(_input(name, described), shape=described.shape)
    room = LEAST + TIMES * sum(array.size for array in graph.constants.values())
    for node in graph.nodes:
        given = [known[name] if name else None for name in node.inputs]
        if (node.domain, node.op) == ("", "Constant"):
            facts = [_constant_of(node)]
            room += TIMES * _numbers(facts)
        else:
            facts = _outputs(node, given, room)
            room -= _numbers(facts)
        known.update((n, f) for n, f in zip(node.outputs, facts, strict=False) if n)
        for name in filter(None, node.outputs):
            fact = known.setdefault(name, unknown(f"it comes from {node.op} {shown(node.name)}"))
            known[name] = replace(fact, shape=shape_of(node, given, graph.shapes.get(name)))
    return known


def _input(name: str, described: NetworkInput) -> Known:
    dtype = described.dtype
    if dtype is not None and dtype.kind in "iu" and dtype.itemsize < 8:
        return integers(*integer_ends(dtype))
    whole = dtype is not None and dtype.kind in "iu"
    return unknown(f"it comes from the network's input {shown(name)}", whole=whole)


def _constant_of(node: Node) -> Known:
    for key, dtype in _CONSTANTS.items():
        if key in node.attributes:
            return constant(np.asarray(node.attributes[key], dtype))
    return unknown(f"it comes from Constant {shown(node.name)}, which holds no numbers")


def _numbers(facts: Sequence[Known]) -> int:
    return sum(fact.constant.size for fact in facts if fact.constant is not None)


def _outputs(node: Node, known: Sequence[Known | None], room: int) -> list[Known]:
    """What is known of a node's outputs: by its rule, and by computing what is constant.

    Of at most `room` numbers.
    """
    rule = RULES.get((node.domain, node.op))
    whole = any(fact is not None and fact.whole for fact in known)
    fact = unknown(f"it comes from {node.op} {shown(node.name)}", whole=whole)
    try:
        if rule is not None:
            fact = replace(rule(node, known), constant=None)
        if _computable(node, known, room):
            return _computed(node, known, fact)
        if fact.grid is not None:
            fact = _of_values(node, fact, fact.grid)
    except AccsimError as error:
        fact = unknown(str(error))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        what = f"{node.op} {shown(node.name)}"
        fact = unknown(f"{what} is not as {node.op} is defined: {first_line(error)}")
    if node.op == "DynamicQuantizeLinear":  # codes, their scale, their zero point
        return [fact, unknown(f"it is a scale of {shown(node.name)}"), fact]
    return [fact] * (len(node.outputs) if node.op == "Split" else 1)


def _of_values(node: Node, fact: Known, grid: Grid) -> Known:
    """What a rule says of values that are not constant: of those, a scale has one axis at most."""
    if grid.scale.size > 1 and grid.axis is None:
        reason = f"{node.op} {shown(node.name)} moves constants of different scales"
        return unknown(reason, fact.low, fact.high)
    return replace(fact, grid=replace(grid, codes=None))


def _computable(node: Node, known: Sequence[Known | None], room: int) -> bool:
    """Whether the result is constant, and of a size, known beforehand, that there is room for."""
    if node.op not in _COMPUTED or any(fact and fact.constant is None for fact in known):
        return False
    arrays = [fact.constant for fact in known if fact and fact.constant is not None]
    size = max((array.size for array in arrays), default=0)
    if node.op == "Concat":
        size = sum(array.size for array in arrays)
    elif node.op not in MOVING:
        try:
            shape = np.broadcast_shapes(*(array.shape for array in arrays))
            size = int(np.prod(shape, dtype=object))
        except ValueError:
            pass  # scales along an axis; or wrong shapes, which the operation tells
    return size <= room


def _computed(node: Node, known: Sequence[Known | None], fact: Known) -> list[Known]:
    """Constants, with the integers behind them where there are some."""
    run = operation(node)
    found = run([None if k is None else k.constant for k in known])
    first = known[0]
    made = []
    for place, value in enumerate(found):
        grid = None
        if isinstance(value, Coded):
            grid = fact.grid and replace(fact.grid, scale=value.scale, axis=None, codes=value.codes)
        elif node.op in MOVING and first and first.grid and first.grid.codes is not None:
            grid = _moved(node, known, first.grid, place)
        elif fact.whole and fact.grid:
            grid = replace(fact.grid, codes=value.astype(np.int64))
        if grid is None:
            made.append(constant(floats(value)))
            continue
        made.append(replace(fact, grid=grid, constant=floats(value), why=""))
    return made


def _moved(node: Node, known: Sequence[Known | None], grid: Grid, place: int) -> Grid:
    """The integers behind a constant, and their scales, moved as the constant is."""
    run, before = operation(node), np.asarray(grid.codes)
    others = [None if k is None else k.constant for k in known[1:]]
    codes = run([before, *others])[place]
    scale = grid.scale
    if scale.size > 1:
        scale = run([np.broadcast_to(scale, before.shape), *others])[place]
    return replace(grid, codes=codes, scale=scale)
