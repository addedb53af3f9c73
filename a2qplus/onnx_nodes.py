"""How a quantized layer is written in ONNX: its quantizers, its integer weights, its product.

In QONNX a quantizer is one node `Quant`, and weights are floats that it rounds to their integers.
With QDQ weights are integers, and activations pass QuantizeLinear, Clip where its type has more
codes than they may take, and DequantizeLinear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from a2qplus.layers import QuantConv2d, QuantLayer, QuantMatMul
from a2qplus.quantizers import ActivationQuantizer
from accsim.errors import ModelError
from accsim.layer import IntLayer
from accsim.spec import IntSpec, between, signed, unsigned

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

__all__ = ["FORMATS", "Call", "Format", "Nodes", "add_layer", "add_matmul", "within"]

_QUANT_DOMAIN = "qonnx.custom_op.general"
# What QuantizeLinear gives, the narrowest first.
_TYPES: dict[type[np.integer[Any]], IntSpec] = {
    np.int8: signed(8), np.uint8: unsigned(8), np.int16: signed(16), np.uint16: unsigned(16),
}  # fmt: skip


class Nodes:
    """Nodes and constants of a graph, in the order in which they are added.

    What is added under a name that is there already, as the weights of a layer that is called
    twice, is there once.
    """

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self._names: set[str] = set()

    def add(
        self, operation: str, inputs: Sequence[str], name: str, *, output: str = "", **how: Any
    ) -> str:
        """Add a node; its output, which has its name unless another is given, is returned."""
        from onnx import helper

        output = output or name
        if name not in self._names:
            self._names.add(name)
            self.nodes.append(helper.make_node(operation, inputs, [output], name, **how))
        return output

    def constant(self, name: str, value: Any) -> str:
        """Add a numpy array or scalar; its name is returned."""
        from onnx import numpy_helper

        self.constants.setdefault(name, numpy_helper.from_array(np.asarray(value), name))
        return name


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a module: the name of its product, what goes in and what comes out.

    `module` is the module's name, and so that of constants, which all its calls share.
    """

    module: str
    name: str
    inputs: tuple[str, ...]
    output: str
    rank: int  # of the first input


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write quantizers, and the versions of the operators that it takes, by domain.

    activation: the operand `part` of a call through its quantizer. weight: the integers of the
    layer of this name, with a scale for each channel. Both give the name of the float values.
    """

    activation: Callable[[Nodes, Call, str, str, ActivationQuantizer], str]
    weight: Callable[[Nodes, str, IntLayer, Any], str]
    versions: Mapping[str, int]


def add_layer(nodes: Nodes, form: Format, call: Call, layer: QuantLayer, frozen: IntLayer) -> None:
    """Add a layer as Conv, as Gemm of inputs (B, K), or as MatMul, and its bias as Add.

    What is in a product is what its register sums; onnxruntime would round a bias in it, too.
    """
    scale = _array(layer.weight_quantizer.scale)
    x = form.activation(nodes, call, "input", call.inputs[0], layer.input_quantizer)
    weight = form.weight(nodes, call.module, frozen, scale)
    output = call.output if layer.bias is None else within(call.name, "product")
    if isinstance(layer, QuantConv2d):
        nodes.add("Conv", [x, weight], call.name, output=output, **_geometry(layer))
    elif call.rank == 2:
        nodes.add("Gemm", [x, weight], call.name, output=output, transB=1)
    else:
        columns = nodes.add("Transpose", [weight], within(call.module, "weight_transpose"))
        nodes.add("MatMul", [x, columns], call.name, output=output)
    if layer.bias is not None:
        value = _array(layer.bias).reshape(-1, *[1] * (layer.weight.ndim - 2))
        bias = nodes.constant(within(call.module, "bias"), value)
        nodes.add("Add", [output, bias], within(call.name, "add_bias"), output=call.output)


def add_matmul(nodes: Nodes, form: Format, call: Call, module: QuantMatMul) -> None:
    """Add a product of two activations."""
    parts = zip(("left", "right"), call.inputs, module.quantizers, strict=True)
    operands = [form.activation(nodes, call, part, x, quantizer) for part, x, quantizer in parts]
    nodes.add("MatMul", operands, call.name, output=call.output)


def _geometry(layer: QuantConv2d) -> dict[str, Any]:
    """Attributes of Conv. It pads what has been dequantized: real zeros, whatever their code."""
    return {
        "kernel_shape": layer.kernel_size,
        "strides": layer.stride,
        "pads": [*layer.padding, *layer.padding],
        "dilations": layer.dilation,
        "group": layer.groups,
    }


def _array(tensor: Tensor) -> Any:
    return tensor.detach().float().cpu().numpy()


def within(name: str, part: str) -> str:
    """The name of a part of a module; a model that is itself a layer has the empty name."""
    return f"{name}.{part}" if name else part


def _of_a_type(codes: IntSpec) -> bool:
    """Whether these are all codes of so many bits, or all but the lowest of signed ones."""
    top = 2 ** (codes.bits - codes.signed) - 1
    return codes.max == top and codes.min in ((-top - 1, -top) if codes.signed else (0,))


def _codes(spec: IntSpec) -> tuple[IntSpec, int]:
    """The codes that are written for inputs of this range, and which of them is 0."""
    zero = 0 if _of_a_type(spec) else max(0, -spec.min)
    return between(spec.min + zero, spec.max + zero), zero


def _refuse(call: Call, what: str, spec: IntSpec) -> ModelError:
    text = f"layer {call.module!r} must have inputs of {what}, not of {spec.describe()}"
    return ModelError(text)


def _quant(
    nodes: Nodes, name: str, shared: str, x: str, codes: IntSpec, scale: Any, zero: int = 0
) -> str:
    """One node Quant; `shared` is where the names of its constants begin."""
    values = {"scale": scale, "zeropt": np.float32(zero), "bitwidth": np.float32(codes.bits)}
    constants = [nodes.constant(f"{shared}.{key}", value) for key, value in values.items()]
    return nodes.add(
        "Quant",
        [x, *constants],
        name,
        domain=_QUANT_DOMAIN,
        signed=int(codes.signed),
        narrow=int(codes.min == -codes.max),
        rounding_mode="ROUND",
    )


def _quant_activation(
    nodes: Nodes, call: Call, part: str, x: str, quantizer: ActivationQuantizer
) -> str:
    codes, zero = _codes(quantizer.spec)
    if not _of_a_type(codes):
        raise _refuse(call, "all codes of some bits, for QONNX", quantizer.spec)
    name, shared = (within(owner, f"{part}_quant") for owner in (call.name, call.module))
    return _quant(nodes, name, shared, x, codes, _array(quantizer.scale), zero)


def _quant_weight(nodes: Nodes, module: str, frozen: IntLayer, scale: Any) -> str:
    column = scale.reshape(-1, *[1] * (frozen.weight.ndim - 1))
    with np.errstate(all="ignore"):
        weight = frozen.weight.astype(np.float32) * column
        if not np.array_equal(np.rint(weight / column), frozen.weight):
            raise ModelError(
                f"layer {module!r} must have scales at which float32 tells its integers apart"
            )
    name = within(module, "weight_quant")
    x = nodes.constant(within(module, "weight"), weight)
    return _quant(nodes, name, name, x, frozen.weight_spec, column)


def _qdq_activation(
    nodes: Nodes, call: Call, part: str, x: str, quantizer: ActivationQuantizer
) -> str:
    codes, zero = _codes(quantizer.spec)
    fitting = [
        kind
        for kind, whole in _TYPES.items()
        if whole.signed == codes.signed and codes.bits <= whole.bits
    ]
    if not fitting:
        raise _refuse(call, "at most 16 bits, for QDQ", quantizer.spec)
    kind, shared = fitting[0], within(call.module, f"{part}_quant")
    constants = [
        nodes.constant(f"{shared}.scale", _array(quantizer.scale)),
        nodes.constant(f"{shared}.zero_point", kind(zero)),
    ]
    x = nodes.add("QuantizeLinear", [x, *constants], within(call.name, f"{part}_quant"))
    if codes != _TYPES[kind]:
        x = _clip(nodes, call, part, x, codes, kind)
    return nodes.add("DequantizeLinear", [x, *constants], within(call.name, f"{part}_dequant"))


def _clip(
    nodes: Nodes, call: Call, part: str, x: str, codes: IntSpec, kind: type[np.integer[Any]]
) -> str:
    """Codes kept in their range; of 16 bits as int32, since onnxruntime clips no others."""
    from onnx import helper

    name, shared = (within(owner, f"{part}_clip") for owner in (call.name, call.module))
    wide = np.int32 if np.dtype(kind).itemsize > 1 else kind
    ends = [("min", codes.min), ("max", codes.max)]
    limits = [nodes.constant(f"{shared}.{key}", wide(end)) for key, end in ends]
    if wide is kind:
        return nodes.add("Clip", [x, *limits], name)
    to_wide, back = (helper.np_dtype_to_tensor_dtype(np.dtype(dtype)) for dtype in (wide, kind))
    x = nodes.add("Cast", [x], f"{name}_in", to=to_wide)
    x = nodes.add("Clip", [x, *limits], name)
    return nodes.add("Cast", [x], f"{name}_out", to=back)


def _qdq_weight(nodes: Nodes, module: str, frozen: IntLayer, scale: Any) -> str:
    """Integers, kept in their range by a Clip that changes none: it tells readers their type.

    Without one for 16 bits, of which onnxruntime clips no constants.
    """
    kind = np.int8 if frozen.weight_spec.bits <= 8 else np.int16
    name, clip = within(module, "weight_dequant"), within(module, "weight_clip")
    weight = nodes.constant(within(module, "weight"), frozen.weight.astype(kind))
    if kind is np.int8 and frozen.weight_spec != _TYPES[np.int8]:
        ends = [("min", frozen.weight_spec.min), ("max", frozen.weight_spec.max)]
        limits = [nodes.constant(f"{clip}.{key}", kind(end)) for key, end in ends]
        weight = nodes.add("Clip", [weight, *limits], clip)
    return nodes.add(
        "DequantizeLinear", [weight, nodes.constant(f"{name}.scale", scale)], name, axis=0
    )


FORMATS = {
    "qonnx": Format(_quant_activation, _quant_weight, {"": 20, _QUANT_DOMAIN: 2}),
    "qdq": Format(_qdq_activation, _qdq_weight, {"": 21}),  # from 21 on there are 16 bits
}
