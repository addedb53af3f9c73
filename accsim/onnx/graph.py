"""A model's graph as plain values: nodes in an order in which they can run, inputs, constants."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from accsim.errors import ModelFileError
from accsim.network import NetworkInput
from accsim.onnx.reading import array_of, first_line, shown

__all__ = ["KEY", "QONNX", "Graph", "Node", "graph_of"]

Array = np.ndarray[Any, Any]
Shape = tuple[int | str | None, ...] | None

QONNX = "qonnx.custom_op.general"
KEY = "finn_datatype"  # of the annotation that names the type of a value
# One set of operators under the names that it has had, and two names of the standard.
_ALIASES = {"onnx.brevitas": QONNX, "finn.custom_op.general": QONNX, "ai.onnx": ""}
_INT, _INTS, _FLOAT, _TEXT = (
    onnx.AttributeProto.INT,
    onnx.AttributeProto.INTS,
    onnx.AttributeProto.FLOAT,
    onnx.AttributeProto.STRING,
)
# The types of the attributes that are read here, whatever operator has them.
_TYPES = {
    **dict.fromkeys(("perm", "pads", "strides", "dilations", "kernel_shape", "axes"), (_INTS,)),
    **dict.fromkeys(("output_padding", "output_shape", "value_ints"), (_INTS,)),
    **dict.fromkeys(("axis", "group", "to", "block_size", "output_dtype", "ceil_mode"), (_INT,)),
    **dict.fromkeys(("transA", "transB", "signed", "narrow", "keepdims", "opset"), (_INT,)),
    **dict.fromkeys(("training_mode", "channels_last", "count_include_pad", "value_int"), (_INT,)),
    **dict.fromkeys(("alpha", "beta", "epsilon", "min", "max", "value_float"), (_FLOAT,)),
    **dict.fromkeys(("auto_pad", "rounding_mode", "mode"), (_TEXT,)),
    "value_floats": (onnx.AttributeProto.FLOATS,),
    "value": (onnx.AttributeProto.TENSOR, _FLOAT),
}
_OLDEST = 7  # the first opset that broadcasts as numpy does


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One operation: `name` is unique in its graph, `version` that of its operator set."""

    name: str
    op: str
    domain: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    proto: onnx.NodeProto

    def input(self, place: int) -> str:
        """The name of an input; empty for an optional one that is left out."""
        return self.inputs[place] if place < len(self.inputs) else ""


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A whole network. `constants`: initializers by name, also those listed as inputs."""

    nodes: tuple[Node, ...]
    inputs: Mapping[str, NetworkInput]
    outputs: Mapping[str, NetworkInput]
    constants: Mapping[str, Array]
    opsets: Mapping[str, int]
    types: Mapping[str, str]  # by name of a value, the type that an annotation gives it
    shapes: Mapping[str, Shape]  # by name of a value, as it is declared


def graph_of(
    model: onnx.ModelProto, *, external_data: str | os.PathLike[str] | None = None
) -> Graph:
    """The graph in a model that `read_model` gave.

    Raises: ModelFileError naming node and field of what is missing, damaged, cyclic or unknown.
    """
    folder = None if external_data is None else Path(external_data)
    opsets = _opsets(model)
    constants = {}
    for tensor in model.graph.initializer:
        if tensor.name in constants:
            raise ModelFileError(f"initializer {shown(tensor.name)} must be there once")
        constants[tensor.name] = array_of(tensor, f"initializer {shown(tensor.name)}", folder)
    inputs = {i.name: _described(i) for i in model.graph.input if i.name not in constants}
    nodes = _nodes(model.graph, opsets, folder)
    order = _ordered(nodes, {*inputs, *constants})
    made = {*inputs, *constants, *(name for node in order for name in node.outputs)}
    outputs = {o.name: _described(o) for o in model.graph.output}
    for name in outputs:
        if name not in made:
            raise ModelFileError(f"output {shown(name)} of the graph is made by no node")
    if not outputs:
        raise ModelFileError("the graph must have an output")
    types = {
        entry.tensor_name: pair.value
        for entry in model.graph.quantization_annotation
        for pair in entry.quant_parameter_tensor_names
        if pair.key == KEY
    }
    described = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    shapes = {value.name: _described(value).shape for value in described}
    return Graph(order, inputs, outputs, constants, opsets, types, shapes)


def _opsets(model: onnx.ModelProto) -> dict[str, int]:
    """Versions by domain; those of the standard must be known here."""
    opsets = {_ALIASES.get(o.domain, o.domain): o.version for o in model.opset_import}
    newest = onnx.defs.onnx_opset_version()
    if not _OLDEST <= opsets.get("", newest) <= newest:
        raise ModelFileError(
            f"opset_import must be of a standard version from {_OLDEST} to {newest}, not"
            f" {opsets['']}"
        )
    return opsets


def _described(value: onnx.ValueInfoProto) -> NetworkInput:
    tensor = value.type.tensor_type
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    except (KeyError, TypeError, ValueError):
        dtype = None
    if not tensor.HasField("shape"):
        return NetworkInput(dtype, None)
    sizes = [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
        for dim in tensor.shape.dim
    ]
    return NetworkInput(dtype, tuple(sizes))


def _nodes(graph: onnx.GraphProto, opsets: Mapping[str, int], folder: Path | None) -> list[Node]:
    """The nodes in the order of the file."""
    nodes = []
    for name, proto in zip(_names(graph), graph.node, strict=True):
        domain = _ALIASES.get(proto.domain, proto.domain)
        if domain not in opsets:
            raise ModelFileError(
                f"node {shown(name)} ({proto.op_type}) is of the domain {shown(domain)}, which"
                " opset_import does not list"
            )
        _check_node(proto, name, domain, opsets[domain])
        attributes = {
            attribute.name: _attribute(attribute, name, folder) for attribute in proto.attribute
        }
        ends = tuple(proto.input), tuple(proto.output)
        nodes.append(Node(name, proto.op_type, domain, opsets[domain], *ends, attributes, proto))
    return nodes


def _check_node(proto: onnx.NodeProto, name: str, domain: str, version: int) -> None:
    """Raise ModelFileError unless inputs and attributes are those of the operator, if known."""
    op = proto.op_type
    if not any(proto.output):
        raise ModelFileError(f"node {shown(name)} must give a value")
    if not op.isprintable() or not 0 < len(op) <= 100:
        raise ModelFileError(f"node {shown(name)} must name an operator, not {shown(op)}")
    for attribute in proto.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR and not attribute.HasField("t"):
            raise ModelFileError(
                f"attribute {shown(attribute.name)} of node {shown(name)} holds no tensor"
            )
    if domain == "" and onnx.defs.has(op, domain):
        context = onnx.checker.C.CheckerContext()
        context.ir_version = onnx.IR_VERSION
        context.opset_imports = {"": version}
        try:
            onnx.checker.check_node(_light(proto), context)
        except onnx.checker.ValidationError as error:
            raise ModelFileError(
                f"node {shown(name)} ({op}) is not as it is defined: {first_line(error)}"
            ) from None


def _light(proto: onnx.NodeProto) -> onnx.NodeProto:
    """The node without the numbers of its tensors, which are checked where they are read."""
    if not proto.domain and not any(attribute.HasField("t") for attribute in proto.attribute):
        return proto
    light = onnx.NodeProto(op_type=proto.op_type, name=proto.name)
    light.input.extend(proto.input)
    light.output.extend(proto.output)
    for attribute in proto.attribute:
        if attribute.HasField("t"):
            tensor = onnx.TensorProto(dims=[0], data_type=onnx.TensorProto.FLOAT)
            light.attribute.add(name=attribute.name, type=attribute.type, t=tensor)
        else:
            light.attribute.append(attribute)
    return light


def _names(graph: onnx.GraphProto) -> list[str]:
    """A name for each node, all different: its own where it has one alone, else its output's."""
    given = Counter(node.name for node in graph.node)
    taken = {name for name, times in given.items() if times == 1 and name}
    names: list[str] = []
    for node in graph.node:
        name = node.name
        if name not in taken:
            name = next((output for output in node.output if output), node.op_type)
            if name in taken or given[name]:
                name = f"{name}#{len(names)}"  # its place in the file
            while name in taken or given[name]:
                name += "'"
            taken.add(name)
        names.append(name)
    return names


def _attribute(attribute: onnx.AttributeProto, name: str, folder: Path | None) -> Any:
    """An attribute as numbers, text, or an array."""
    where = f"attribute {shown(attribute.name)} of node {shown(name)}"
    if attribute.type not in _TYPES.get(attribute.name, (attribute.type,)):
        raise ModelFileError(f"{where} is of the wrong type")
    if attribute.type == onnx.AttributeProto.TENSOR:
        return array_of(attribute.t, where, folder)
    try:
        value = onnx.helper.get_attribute_value(attribute)
        if attribute.type == onnx.AttributeProto.STRING:
            return value.decode()
    except ValueError:
        value = None
    if not isinstance(value, int | float | list):
        raise ModelFileError(f"{where} is of no known type")
    return tuple(value) if isinstance(value, list) else value


def _ordered(nodes: Sequence[Node], given: set[str]) -> tuple[Node, ...]:
    """The nodes, each after those that make its inputs, else in the order of the file."""
    makers: dict[str, int] = {}
    for place, node in enumerate(nodes):
        for name in filter(None, node.outputs):
            if name in makers or name in given:
                raise ModelFileError(f"node {shown(node.name)} makes {shown(name)} once more")
            makers[name] = place
    waits = [{makers[i] for i in node.inputs if i in makers} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for place, node in enumerate(nodes):
        for name in filter(None, node.inputs):
            if name not in makers and name not in given:
                raise ModelFileError(
                    f"node {shown(node.name)} ({node.op}) reads {shown(name)}, which no node,"
                    " input or initializer gives"
                )
        for maker in waits[place]:
            readers[maker].append(place)
    missing = [len(makers) for makers in waits]
    ready = [place for place, count in enumerate(missing) if not count]
    heapify(ready)
    order = []
    while ready:
        place = heappop(ready)
        order.append(nodes[place])
        for reader in readers[place]:
            missing[reader] -= 1
            if not missing[reader]:
                heappush(ready, reader)
    if len(order) < len(nodes):
        stuck = next(node for node, count in zip(nodes, missing, strict=True) if count)
        raise ModelFileError(
            f"the graph must be without cycles: node {shown(stuck.name)} waits for itself"
        )
    return tuple(order)
