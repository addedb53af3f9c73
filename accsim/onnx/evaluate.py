"""Running single nodes: our own operators where there are some, else those of the onnx package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from accsim.errors import AccsimError, ModelFileError
from accsim.onnx.graph import Node
from accsim.onnx.operators import operator
from accsim.onnx.quantizers import Coded, floats
from accsim.onnx.reading import first_line, shown

__all__ = ["MOVING", "Operation", "operation"]

# What puts numbers in other places and changes none.
MOVING = {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split"}

Operation = Callable[[Sequence[Any]], Sequence[Any]]  # inputs (None: left out) to outputs


def operation(node: Node) -> Operation:
    """What computes a node's outputs from its inputs.

    Raises: ModelFileError naming the node, when called, for whatever goes wrong.
    """
    own, reference = operator(node), _reference(node)

    def named(inputs: Sequence[Any]) -> Sequence[Any]:
        try:
            with np.errstate(all="ignore"):  # infinities and NaN are as the formats define them
                return reference(inputs) if own is None else [own(node, inputs)]
        except (AccsimError, MemoryError) as error:
            kind = ModelFileError if isinstance(error, MemoryError) else type(error)
            raise kind(f"node {shown(node.name)} ({node.op}): {error}") from None
        except Exception as error:  # an evaluator raises whatever the data make it raise
            raise ModelFileError(
                f"node {shown(node.name)} ({node.op}) cannot be computed: {first_line(error)}"
            ) from None

    return named


def _reference(node: Node) -> Operation:
    """The onnx package's own definition, made when the types of the inputs are seen."""
    made: dict[tuple[Any, ...], ReferenceEvaluator] = {}

    def run(inputs: Sequence[Any]) -> Sequence[Any]:
        first = inputs[0] if inputs else None
        if node.op in MOVING and isinstance(first, Coded) and first.scale.size == 1:
            moved = run([first.codes, *inputs[1:]])
            return [None if codes is None else Coded(codes, first.scale) for codes in moved]
        arrays = [None if value is None else floats(value) for value in inputs]
        feed = {
            name: array
            for name, array in zip(node.inputs, arrays, strict=True)
            if array is not None
        }
        kinds = tuple((name, array.dtype, array.ndim) for name, array in feed.items())
        if kinds not in made:
            made[kinds] = _evaluator(node, feed)
        names = [name for name in node.outputs if name]
        found = dict(zip(names, made[kinds].run(names, feed), strict=True))
        return [found.get(name) for name in node.outputs]

    return run


def _evaluator(node: Node, feed: dict[str, np.ndarray[Any, Any]]) -> ReferenceEvaluator:
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    proto.domain = node.domain
    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim
        )
        for name, array in feed.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.outputs if name]
    graph = onnx.helper.make_graph([proto], "node", inputs, outputs)
    return ReferenceEvaluator(graph, opsets={node.domain: node.version})
