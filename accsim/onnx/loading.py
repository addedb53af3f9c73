"""From a model file to a network: every integer product a layer, what is none with its reason."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from accsim.errors import AccsimError, ModelFileError
from accsim.layer import IntLayer
from accsim.network import MatMul, Multiply, Network
from accsim.onnx.batches import rows_apart
from accsim.onnx.evaluate import operation
from accsim.onnx.graph import Graph, Node, graph_of
from accsim.onnx.known import Known
from accsim.onnx.places import Product, multiplies
from accsim.onnx.products import product
from accsim.onnx.quantizers import floats
from accsim.onnx.reading import first_line, read_model, shown
from accsim.onnx.trace import trace
from accsim.spec import MAX_BITS, Accumulator

__all__ = ["load", "network_of"]

Array = np.ndarray[Any, Any]

_REGISTER = re.compile(r"(U?)INT([1-9][0-9]?)")


def load(
    path: str | os.PathLike[str], *, external_data: str | os.PathLike[str] | None = None
) -> Network:
    """The network in an ONNX or QONNX file; any file may be given, none is trusted.

    Weights that the file keeps in others are read from the folder `external_data`, if it is named.

    Raises: ModelFileError naming node and field of what is damaged, too large or not understood.
    """
    return network_of(graph_of(read_model(path), external_data=external_data))


def network_of(graph: Graph) -> Network:
    """The network that a graph is."""
    known = trace(graph)
    products, untraced = {}, {}
    for node in graph.nodes:
        if not multiplies(node):
            continue
        if not node.outputs[0]:
            untraced[node.name] = "what it gives has no name"
            continue
        try:
            products[node.name] = product(node, [known[n] if n else None for n in node.inputs])
        except AccsimError as error:
            untraced[node.name] = str(error)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            untraced[node.name] = f"it is not as {node.op} is defined: {first_line(error)}"
    layers = {n: p.what for n, p in products.items() if isinstance(p.what, IntLayer)}
    matmuls = {n: p.what for n, p in products.items() if isinstance(p.what, MatMul)}
    return Network(
        layers,
        matmuls,
        untraced,
        _registers(graph, products),
        graph.inputs,
        graph.outputs,
        _evaluator(graph, known, products),
        rows_apart(graph, known),
    )


def _registers(graph: Graph, products: Mapping[str, Product]) -> dict[str, Accumulator]:
    """Those that the file names: the annotated types of the products' outputs."""
    found = {}
    for node in graph.nodes:
        word = _REGISTER.fullmatch(graph.types.get(node.outputs[0], "")) if node.outputs else None
        if node.name in products and word and 2 <= int(word[2]) <= MAX_BITS:
            found[node.name] = Accumulator(int(word[2]), signed=not word[1])
    return found


def _evaluator(graph: Graph, known: Mapping[str, Known], products: Mapping[str, Product]) -> Any:
    """What runs the graph: node by node, each value forgotten after its last use.

    Weights are not kept beside the layers that hold their integers.
    """
    made = {name for name, fact in known.items() if fact.constant is not None}
    nodes = [node for node in graph.nodes if not all(o in made for o in node.outputs if o)]
    operations = {node.name: operation(node) for node in nodes if node.name not in products}
    reads = {node.name: _reads(node, products.get(node.name)) for node in nodes}
    last = {name: place for place, node in enumerate(nodes) for name in reads[node.name]}
    outputs = tuple(graph.outputs)
    last |= dict.fromkeys(outputs, len(nodes))
    constants = {name: known[name].constant for name in made & last.keys()}

    def evaluate(inputs: Mapping[str, Array], multiply: Multiply) -> dict[str, Array]:
        values: dict[str, Any] = {**constants, **inputs}
        for place, node in enumerate(nodes):
            given = [values[name] if name else None for name in reads[node.name]]
            if node.name in products:
                made = [_product(node, products[node.name], given, multiply)]
            else:
                made = list(operations[node.name](given))
            if any(node.outputs[len(made) :]):
                raise ModelFileError(f"node {shown(node.name)} ({node.op}) gives fewer values")
            values.update((n, v) for n, v in zip(node.outputs, made, strict=False) if n)
            for name in {*node.inputs, *node.outputs}:
                if last.get(name, -1) <= place and name not in constants:
                    values.pop(name, None)
        return {name: _array(name, values[name]) for name in outputs}

    return evaluate


def _array(name: str, value: Any) -> Array:
    """An output of the network."""
    try:
        return floats(value)
    except (TypeError, ValueError):
        raise ModelFileError(f"output {shown(name)} is no array") from None


def _reads(node: Node, found: Product | None) -> tuple[str, ...]:
    """The values that a node is given when it runs; empty for the weights of a layer."""
    if found is None or found.weights is None:
        return node.inputs
    return tuple("" if place == found.weights else n for place, n in enumerate(node.inputs))


def _product(node: Node, found: Product, given: list[Any], multiply: Multiply) -> Array:
    try:
        operands = found.operands(given)
    except (ValueError, TypeError, IndexError, MemoryError) as error:
        kind = type(error) if isinstance(error, AccsimError) else ModelFileError
        raise kind(f"node {node.name!r} ({node.op}): {error}") from None
    sums = multiply(node.name, operands)
    others = [None if v is None else v if i == 0 else floats(v) for i, v in enumerate(given)]
    try:
        with np.errstate(all="ignore"):
            return found.result(sums, others)
    except (ValueError, TypeError, IndexError, MemoryError) as error:
        raise ModelFileError(
            f"node {node.name!r} ({node.op}) cannot be computed: {error}"
        ) from None
