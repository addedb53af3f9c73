"""A trained quantized network as an ONNX file, its weights the frozen integers times their scales.

torch's exporter writes the float operations, and each call of a quantized layer as one node that
stands for it; that node is then spelled out (`a2qplus.onnx_nodes`), so that what is in the file
about integers comes from `to_layers` alone.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ShapesCollection

from a2qplus.integer import check_calibrated, to_layers
from a2qplus.layers import QuantConv2d, QuantLayer, QuantMatMul
from a2qplus.modules import copied, replace_modules
from a2qplus.observe import Batch, Taken, inputs_of, taken_by
from a2qplus.onnx_nodes import FORMATS, Call, Format, Nodes, add_layer, add_matmul, within
from accsim.errors import DtypeError, ModelError, SpecError
from accsim.extras import require
from accsim.files import atomically
from accsim.layer import IntLayer

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

__all__ = ["export_onnx"]

_DOMAIN = "accsim"  # of the nodes that stand for layers
_BATCH = 2  # of the example that is traced: torch.export takes no size for any, but for 0 and 1


@torch.no_grad()
def export_onnx(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    example: Batch | None = None,
    format: str = "qonnx",
) -> None:
    """Write a quantized model, in eval mode and float32, as an ONNX file.

    "qonnx" writes quantizers as nodes `Quant` (FINN, hls4ml, qonnx), "qdq" as QuantizeLinear and
    DequantizeLinear (onnxruntime). Products (Conv, Gemm, MatMul) are named as in `to_layers`, the
    second call of a module "name.2"; their quantizers "name.input_quant" and the like. The integers
    are those of `to_layers`, decided again. The first axis of inputs is free, and called "batch".

    `example`, one batch of inputs, tells their shapes; without it they are as in the model's last
    call, that of `quantize_model` on calibration data too. The file is written whole or not at all.

    Raises: as `to_layers`; ModelError for a layer that has not seen any input, for shapes that are
    not known, a model that torch.export cannot trace, or numbers that the format has no type for;
    SpecError for an unknown format; MissingExtraError without onnx and onnxscript.
    Source: QONNX (arXiv 2206.07527); ONNX operators 21.
    """
    if format not in FORMATS:
        raise SpecError(f"format must be one of {', '.join(FORMATS)}, not {format!r}")
    for package in ("onnx", "onnxscript"):
        require(package, extra="onnx", purpose="export_onnx")
    layers = to_layers(model)
    inputs = _inputs(model, example)
    modules = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, QuantLayer | QuantMatMul)
    }
    for name, module in modules.items():
        check_calibrated(name, module)
    proto = _traced(copied(model).eval().cpu().float(), inputs, FORMATS[format])
    _forget_source(proto)
    _spell_out(proto, FORMATS[format], modules, layers)
    with atomically(path) as file:
        file.write(proto.SerializeToString())


def _inputs(model: nn.Module, example: Batch | None) -> Taken:
    """Shapes and types of the model's inputs."""
    if example is None:
        taken = taken_by(model)
        if taken is None:
            raise ModelError(
                "the model must have been called with tensors, so that the shapes of its inputs are"
                " known, or an example of them be given"
            )
        return taken
    inputs = inputs_of(example)
    for x in inputs:
        if not isinstance(x, Tensor):
            raise DtypeError(
                f"example must be a tensor or a tuple of tensors, not of {type(x).__name__}"
            )
    return tuple((tuple(x.shape), x.dtype) for x in inputs)


class _Stand(nn.Module):
    """Stands for a layer while the model is traced: one node, of the shape of its product."""

    def __init__(self, name: str, source: QuantLayer | QuantMatMul) -> None:
        super().__init__()
        self.name, self.source = name, source

    def forward(self, *inputs: Tensor) -> Tensor:
        x, source = inputs[0], self.source
        if isinstance(source, QuantConv2d) and x.ndim == 3:  # Conv takes no single image
            return cast(Tensor, self(x[None])[0])
        product = (
            torch.matmul(*inputs)
            if isinstance(source, QuantMatMul)
            else source.sum_products(x, source.weight)
        )
        told: dict[str, Any] = {"name": self.name, "rank": x.ndim}
        return torch.onnx.ops.symbolic(
            f"{_DOMAIN}::Layer", inputs, told, dtype=x.dtype, shape=product.shape, version=1
        )


def _traced(network: nn.Module, inputs: Taken, form: Format) -> ModelProto:
    """The network's graph, with one node for each call of a quantized layer."""

    def stand(name: str, module: nn.Module) -> nn.Module | None:
        return _Stand(name, module) if isinstance(module, QuantLayer | QuantMatMul) else None

    network = replace_modules(network, stand).eval()
    shapes = [shape for shape, _ in inputs]
    free = [shape[:1] == shapes[0][:1] != () for shape in shapes]
    example = tuple(
        torch.zeros(
            (_BATCH, *shape[1:]) if batched else shape,
            dtype=torch.float32 if dtype.is_floating_point else dtype,
        )
        for (shape, dtype), batched in zip(inputs, free, strict=True)
    )
    axes: Any = ShapesCollection()  # type: ignore[no-untyped-call]
    for x, batched in zip(example, free, strict=True):
        if batched:
            axes[x] = {0: Dim("batch")}
    with _quiet():
        try:
            traced = torch.export.export(network, example, dynamic_shapes=axes, strict=False)
        except Exception as error:  # the model's own code, which may fail in any way
            cause = str(error).strip().partition("\n")[0]
            raise ModelError(
                f"the model must be one that torch.export can trace for any batch: {cause}"
            ) from error
        program = torch.onnx.export(
            traced,
            dynamo=True,
            dynamic_shapes=axes.dynamic_shapes(network, example),
            opset_version=form.versions[""],
            verbose=False,
        )
    assert program is not None, "None only of the exporter of old"
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says as it exports: its own deprecated calls, absent packages, graphs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _spell_out(
    proto: ModelProto,
    form: Format,
    modules: Mapping[str, QuantLayer | QuantMatMul],
    layers: Mapping[str, IntLayer],
) -> None:
    """Replace each node that stands for a layer, and name what it gives after the layer."""
    from onnx import helper

    graph, nodes, calls, names = proto.graph, Nodes(), Counter[str](), dict[str, str]()
    for node in graph.node:
        if node.domain != _DOMAIN:
            nodes.nodes.append(node)
            continue
        call = _call(node, calls)
        names[node.output[0]] = call.output
        module = modules[call.module]
        if isinstance(module, QuantMatMul):
            add_matmul(nodes, form, call, module)
        else:
            add_layer(nodes, form, call, module, layers[call.module])
    kept = [item for item in proto.opset_import if item.domain != _DOMAIN]
    added = [item for item in form.versions.items() if item[0]]
    del graph.node[:], proto.opset_import[:]
    graph.node.extend(nodes.nodes)
    _rename(graph, names)
    graph.initializer.extend(nodes.constants.values())
    proto.opset_import.extend([*kept, *(helper.make_opsetid(*item) for item in added)])


def _call(node: NodeProto, calls: Counter[str]) -> Call:
    """What a node stands for; `calls` counts those of each module."""
    module, rank = node.attribute[0].s.decode(), node.attribute[1].i
    calls[module] += 1
    name = within(module, str(calls[module])) if calls[module] > 1 else module
    return Call(module, name, tuple(node.input), within(name, "output"), rank)


def _rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Give values new names, also where the branches of a condition take them."""
    for value in (*graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(x, x) for x in node.input]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, names)


def _forget_source(proto: ModelProto) -> None:
    """Drop the exporter's notes, which tell lines and folders of the code that was traced."""
    graph = proto.graph
    parts = (graph.node, graph.input, graph.output, graph.value_info, graph.initializer)
    for part in (proto, graph, *(item for items in parts for item in items)):
        part.ClearField("metadata_props")
