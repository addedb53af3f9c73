"""Brevitas modules as integer layers, against Brevitas' own forward; broken twins are caught."""

from types import SimpleNamespace

import brevitas.nn as qnn
import brevitas.quant as bq
import numpy as np
import onnx
import pytest
import torch
from brevitas.quant.shifted_scaled_int import (
    ShiftedUint8ActPerTensorFloat,
    ShiftedUint8WeightPerChannelFloat,
    ShiftedUint8WeightPerTensorFloat,
)
from torch import nn

from a2qplus import from_brevitas
from accsim import Accumulator, IntLayer, between, signed, simulate, unsigned
from verification import Verdict, decide

pytestmark = pytest.mark.filterwarnings(  # Brevitas, of the output of a layer with a zero point
    "ignore:Computing zero point of output accumulator not supported yet:UserWarning"
)

INT8, UINT8 = bq.Int8ActPerTensorFloat, bq.Uint8ActPerTensorFloat
UINT4 = UINT8.let(bit_width=4)
A2Q = bq.Int8AccumulatorAwareWeightQuant.let(bit_width=4, accumulator_bit_width=12)
A2Q_PLUS = bq.Int8AccumulatorAwareZeroCenterWeightQuant.let(bit_width=4, accumulator_bit_width=12)
# Weight quantizers, and the range of what they make; None where it follows from the zero points.
WEIGHTS = {
    "tensor": (bq.Int8WeightPerTensorFloat, between(-127, 127)),
    "channel": (bq.Int8WeightPerChannelFloat, between(-127, 127)),
    "not narrow": (bq.Int8WeightPerTensorFloat.let(narrow_range=False), signed(8)),
    "mse": (bq.Int8WeightPerChannelFloatMSE, between(-127, 127)),
    "four bits": (bq.Int8WeightPerChannelFloat.let(bit_width=4), between(-7, 7)),
    "sixteen bits": (bq.Int8WeightPerTensorFloat.let(bit_width=16), signed(16, narrow=True)),
    "fixed point": (bq.Int8WeightPerTensorFixedPoint, between(-127, 127)),
    "decoupled": (bq.Int4WeightPerTensorFloatDecoupled, between(-7, 7)),
    "decoupled channel": (bq.Int8WeightPerChannelFloatDecoupled, between(-127, 127)),
    "norm": (bq.Int8WeightNormL2PerChannelFixedPoint, between(-127, 127)),
    "binary": (bq.SignedBinaryWeightPerTensorConst, between(-1, 1)),
    "ternary": (bq.SignedTernaryWeightPerTensorConst, between(-1, 1)),
    "a2q": (A2Q, between(-7, 7)),
    "a2q+": (A2Q_PLUS, between(-7, 7)),
    "shifted": (ShiftedUint8WeightPerTensorFloat, None),
    "shifted channel": (ShiftedUint8WeightPerChannelFloat, None),
}
SHAPES = {"linear": (3, 12), "conv2d": (2, 4, 7, 8), "conv1d": (2, 4, 9)}
CONV = {"stride": (2, 1), "padding": (2, 1), "dilation": (1, 2), "groups": 2}


def made(kind, weight_quant, input_quant=UINT8):
    """A layer that has seen data, in double, and inputs: sums are whole numbers nearly exactly."""
    torch.manual_seed(0)
    quantizers = {"weight_quant": weight_quant, "input_quant": input_quant}
    if kind == "linear":
        module = qnn.QuantLinear(12, 5, **quantizers)
    elif kind == "conv2d":
        module = qnn.QuantConv2d(4, 6, 3, **CONV, **quantizers)
    else:
        module = qnn.QuantConv1d(4, 6, 3, stride=2, padding=3, dilation=2, groups=2, **quantizers)
    with (
        torch.no_grad()
    ):  # positive and negative weights differ in size: zero points off the middle
        module.weight.copy_(torch.where(module.weight > 0, 2, 1) * module.weight)
    x = torch.randn(SHAPES[kind]) - 0.7
    module(x)
    return module.double().eval(), x.double()


@torch.no_grad()
def forward(module, x):
    """What the registers must hold, from Brevitas' own forward: outputs in units of both scales."""
    codes = module.input_quant(x)
    shape = (-1, *[1] * (module.weight.ndim - 2))
    scale = codes.scale * module.quant_weight(codes).scale.reshape(shape)
    sums = (module(x) - module.bias.reshape(shape)) / scale
    assert (sums - sums.round()).abs().max() < 1e-6
    return codes.int().long() - codes.zero_point.long(), sums.round().long().numpy()


def agrees(layer, module, x):
    """Whether a layer computes what Brevitas does."""
    codes, sums = forward(module, x)
    flat = codes.ndim == 3
    output = simulate(layer, codes[:, :, None] if flat else codes, Accumulator(48)).output
    return np.array_equal(output[:, :, 0] if flat else output, sums)


def changed(layer, weight):
    """The layer with other weights."""
    names = ("input_spec", "stride", "padding", "dilation", "groups")
    rest = {name: getattr(layer, name) for name in names}
    return IntLayer(weight.reshape(layer.weight.shape), weight_spec=signed(20), **rest)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("label", WEIGHTS)
def test_integers_are_those_of_the_forward(label, kind):
    """Every weight quantizer, geometry and padding, inputs with a zero point too."""
    quantizer, spec = WEIGHTS[label]
    for input_quant in (UINT8, INT8, ShiftedUint8ActPerTensorFloat):
        module, x = made(kind, quantizer, input_quant)
        layer = from_brevitas(module)[""]
        assert agrees(layer, module, x)
        assert layer.weight.any()
        assert layer.bias is None
        zeros = module.quant_weight(module.input_quant(x)).zero_point
        low, high = int(zeros.min()), int(zeros.max())
        assert layer.weight_spec == (spec or between(-high, 255 - low))
        assert (low == 0) == (spec is not None)


def test_twins_are_caught():
    """Rounded float weights, weights with their zero point: the forward tells them apart."""
    rounded, raw = set(), set()
    for label, (quantizer, _) in WEIGHTS.items():
        module, x = made("linear", quantizer)
        layer, codes = from_brevitas(module)[""], module.input_quant(x)
        quantized = module.quant_weight(codes)
        limit = layer.weight_spec
        nearest = (module.weight / quantized.scale).round().clamp(limit.min, limit.max).long()
        if not agrees(changed(layer, nearest), module, x):
            rounded.add(label)
        zeros = quantized.zero_point.long().expand(5, 12)
        if not agrees(changed(layer, layer.weight + zeros.numpy()), module, x):
            raw.add(label)
    assert rounded == {"a2q", "a2q+", "norm", "binary"}
    assert raw == {"shifted", "shifted channel"}


@pytest.mark.parametrize(
    ("quantizer", "spec"),
    [
        (UINT8, unsigned(8)),
        (INT8, signed(8)),
        (INT8.let(narrow_range=True), between(-127, 127)),
        (UINT8.let(narrow_range=True), between(0, 254)),
        (UINT4, unsigned(4)),
        (bq.Int8ActPerTensorFixedPoint.let(bit_width=3), signed(3)),
        (bq.SignedBinaryActPerTensorConst, between(-1, 1)),
        (bq.SignedTernaryActPerTensorConst, between(-1, 1)),
        (ShiftedUint8ActPerTensorFloat, None),
    ],
)
def test_ranges_of_inputs(quantizer, spec):
    """The range is what inputs of any size reach, from the layer's quantizer or a QuantTensor."""
    module, x = made("linear", bq.Int8WeightPerTensorFloat, quantizer)
    layer = from_brevitas(module)[""]
    codes, _ = forward(module, x * torch.tensor([1e6, -1e6, 1.0])[:, None])
    assert layer.input_spec == between(int(codes.min()), int(codes.max()))
    assert spec is None or layer.input_spec == spec
    assert spec is not None or layer.input_spec.min < -128  # asymmetric, and not by one
    identity = qnn.QuantIdentity(act_quant=quantizer, return_quant_tensor=True)
    chain = nn.Sequential(identity, qnn.QuantLinear(12, 5)).double()
    chain(x)
    reached = from_brevitas(chain, x)["1"].input_spec
    if quantizer.narrow_range and spec.bits > 2:  # a QuantTensor does not tell that it is narrow
        assert (reached.min, reached.max) in {(-128, 127), (0, 255)}
    elif spec == between(-1, 1) and quantizer is bq.SignedTernaryActPerTensorConst:
        assert reached == signed(2)
    else:
        assert reached == layer.input_spec


def network(weight_quant=A2Q_PLUS):
    """A small network of three layers for 9-bit registers, and an input."""
    torch.manual_seed(0)
    weight_quant = weight_quant.let(accumulator_bit_width=9)
    model = nn.Sequential(
        qnn.QuantIdentity(act_quant=UINT4, return_quant_tensor=True),
        qnn.QuantConv2d(3, 8, 3, padding=1, weight_quant=weight_quant),
        qnn.QuantReLU(act_quant=UINT4, return_quant_tensor=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        qnn.QuantLinear(72, 16, weight_quant=weight_quant),
        qnn.QuantReLU(act_quant=UINT4, return_quant_tensor=True),
        qnn.QuantLinear(16, 4, weight_quant=weight_quant),
    )
    x = torch.rand(8, 3, 6, 6)
    model(x)
    return model, x


def test_a_network_from_an_example():
    """Layers by name, ranges as they arrive; nothing of the model changes, and no hook stays."""
    model, x = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    layers = from_brevitas(model, (x,))
    assert list(layers) == ["1", "5", "7"]
    assert {str(layer.input_spec) for layer in layers.values()} == {"UINT4"}
    assert model.training
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    quantized = model[0].eval()(x)
    again = from_brevitas(model[1], quantized)[""]  # a QuantTensor itself is one argument
    assert np.array_equal(again.weight, layers["1"].weight)


def test_a_quantizer_that_is_off_has_no_say():
    """What arrives decides, not the narrow range of a quantizer that was disabled."""
    model, x = made("linear", bq.Int8WeightPerTensorFloat, INT8.let(narrow_range=True))
    model.input_quant.disable_quant = True
    codes = qnn.QuantIdentity(act_quant=INT8, return_quant_tensor=True).double().eval()(x)
    assert from_brevitas(model, codes)[""].input_spec == signed(8)


def test_hooks_go_when_the_model_raises():
    """The model is as it was after an example that it does not take."""
    model, x = network()
    with pytest.raises(RuntimeError):
        from_brevitas(model, x[:, :2])
    assert not any(module._forward_hooks for module in model.modules())
    assert model.training


def test_a2q_depends_on_what_arrives():
    """The integers are those for the width of the inputs, which set the budget."""
    four, eight = (
        from_brevitas(made("linear", A2Q_PLUS, UINT8.let(bit_width=bits))[0])[""] for bits in (4, 8)
    )
    assert np.abs(four.weight).sum() > 2 * np.abs(eight.weight).sum() > 0
    assert {decide(layer, Accumulator(12)).verdict for layer in (four, eight)} == {Verdict.PROVED}


def test_depthwise_channels_have_their_scales():
    """A register that reads one channel may have inputs of its own scale."""
    torch.manual_seed(0)
    by_channel = INT8.let(
        scaling_per_output_channel=True,
        per_channel_broadcastable_shape=(1, 4, 1, 1),
        scaling_stats_permute_dims=(1, 0, 2, 3),
    )
    module = qnn.QuantConv2d(4, 4, 3, groups=4, input_quant=by_channel)
    x = torch.randn(2, 4, 5, 5) * torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None]
    module(x)
    module, x = module.double().eval(), x.double()
    assert agrees(from_brevitas(module)[""], module, x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_floats(dtype):
    """The same quantizer in 16-bit floats: still integers times the scale."""
    for quantizer in (bq.Int8WeightPerTensorFloat, bq.Int8WeightPerChannelFloat, A2Q_PLUS):
        module = made("linear", quantizer)[0].to(dtype)
        layer = from_brevitas(module)[""]
        weight = module.quant_weight(module.input_quant(torch.zeros(1, 12, dtype=dtype)))
        value = torch.tensor(layer.weight, dtype=dtype) * weight.scale
        assert torch.equal(value, weight.value)


@pytest.mark.filterwarnings("ignore:brevitas.fx is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:fast_hadamard_transform package not found:UserWarning")
@pytest.mark.parametrize("weight_quant", [A2Q, A2Q_PLUS], ids=["a2q", "a2q+"])
def test_an_export_has_other_integers(weight_quant, tmp_path, monkeypatch):
    """In memory the network is proved at its own width; what Brevitas exports is refuted.

    Its export writes the weights as they are before normalization, and says to round them.
    """
    from brevitas.export import export_qonnx
    from brevitas.export.onnx import manager

    # without onnxoptimizer Brevitas exports nothing; its passes do not touch weights
    monkeypatch.setattr(manager, "onnx", onnx)
    optimizer = SimpleNamespace(optimize=lambda model, passes: model)
    monkeypatch.setattr(manager, "opt", optimizer)
    model, x = network(weight_quant)
    layers = from_brevitas(model, x)
    export_qonnx(model, x, str(tmp_path / "model.onnx"))
    graph = onnx.load(tmp_path / "model.onnx").graph
    held = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    exported = [
        [held[name] for name in node.input]
        for node in graph.node
        if node.op_type == "Quant" and node.input[0] in held
    ]
    for layer, (weight, scale, zero_point, bits) in zip(layers.values(), exported, strict=True):
        assert (zero_point, bits) == (0, 4)
        integers = np.clip(np.rint(weight / scale), -7, 7).astype(np.int64)
        assert not np.array_equal(integers, layer.weight)
        assert decide(layer, Accumulator(9)).verdict is Verdict.PROVED
        assert decide(changed(layer, integers), Accumulator(9)).verdict is Verdict.REFUTED
