"""Registers in a model file: the annotation of a product's output names the register that sums it.

QONNX's tools read it as the type of that tensor, and viewers show it there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import onnx

from accsim.errors import ModelFileError
from accsim.files import atomically
from accsim.network import least_registers
from accsim.onnx.graph import KEY, graph_of
from accsim.onnx.loading import network_of
from accsim.onnx.reading import MAX_BYTES, read_model
from accsim.spec import Accumulator

__all__ = ["annotate"]

EXTERNAL = onnx.TensorProto.EXTERNAL


def annotate(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    external_data: str | os.PathLike[str] | None = None,
) -> dict[str, Accumulator]:
    """Write the model in `path` to `out`, the least safe register of each product with it.

    The registers, by node name, are returned, too. Those of products of activations are told by
    their types alone, if the file says how many products they sum, and else left out. Nothing else
    of the model changes; data that it keeps in other files stay there, and so `out` must lie beside
    the model if there are such.

    Raises: as `load`; OSError if `out` cannot be written.
    """
    model = read_model(path)
    _check_place(model.graph, Path(path), Path(out))
    graph = graph_of(model, external_data=external_data)
    registers = least_registers(network_of(graph))
    outputs = {node.name: node.outputs[0] for node in graph.nodes if node.name in registers}
    _write(model.graph, {outputs[name]: str_of(register) for name, register in registers.items()})
    data = model.SerializeToString()
    if len(data) > MAX_BYTES:
        raise ModelFileError(f"the annotated model has more than {MAX_BYTES} bytes")
    with atomically(out) as file:
        file.write(data)
    return registers


def _check_place(graph: onnx.GraphProto, path: Path, out: Path) -> None:
    """Raise ModelFileError if data in other files would not be found from `out`."""
    outside = any(tensor.data_location == EXTERNAL for tensor in graph.initializer)
    if outside and out.resolve().parent != path.resolve().parent:
        raise ModelFileError(
            f"{out.name} must be written beside {path.name}, whose data are kept in other files"
        )


def str_of(register: Accumulator) -> str:
    """A register as QONNX names its type: INT12."""
    return f"{'' if register.signed else 'U'}INT{register.bits}"


def _write(graph: onnx.GraphProto, words: Mapping[str, str]) -> None:
    """Annotate values by name; what else is annotated of them stays."""
    there = {}
    for entry in graph.quantization_annotation:
        if entry.tensor_name in words:  # what it says by now, maybe twice
            kept = [pair for pair in entry.quant_parameter_tensor_names if pair.key != KEY]
            del entry.quant_parameter_tensor_names[:]
            entry.quant_parameter_tensor_names.extend(kept)
            there[entry.tensor_name] = entry
    for name, word in words.items():
        entry = there.get(name)
        if entry is None:
            entry = graph.quantization_annotation.add(tensor_name=name)
        entry.quant_parameter_tensor_names.add(key=KEY, value=word)
