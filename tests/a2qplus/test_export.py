"""Exported files: read back, the same integers; run elsewhere, the same network."""

import importlib
import logging
import os
import warnings
from collections import Counter, OrderedDict

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn.functional import relu

from a2qplus import (
    MatMul,
    QuantConv2d,
    Quantization,
    QuantLinear,
    QuantMatMul,
    export_onnx,
    fit,
    quantize_model,
    to_layers,
)
from a2qplus.data import split_digits
from a2qplus.methods import ZERO_POINTS
from a2qplus.networks import mlp
from accsim import between, signed, unsigned
from accsim.errors import DtypeError, MissingExtraError, ModelError, SpecError, UnsafeLayerError

FORMATS = ("qonnx", "qdq")
HOW = {"weight_bits": 4, "act_bits": 4, "acc_bits": 12}


class Separable(nn.Module):
    """A convolution, one that is depthwise, one that is pointwise, a head."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, 2, 1, groups=8)
        self.pointwise, self.head = nn.Conv2d(8, 16, 1), nn.Linear(256, 10)

    def forward(self, x):
        """(B, 1, 8, 8) -> (B, 10)."""
        x = relu(self.norm(self.conv(x)))
        return self.head(relu(self.pointwise(self.depthwise(x))).flatten(1))


class Residual(nn.Module):
    """A stem, a block beside its shortcut, average pooling, a head."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv1, self.norm1 = nn.Conv2d(8, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12)
        self.conv2, self.norm2 = nn.Conv2d(12, 12, 3, padding="same"), nn.BatchNorm2d(12)
        self.short = nn.Sequential(nn.Conv2d(8, 12, 1, 2, bias=False), nn.BatchNorm2d(12))
        self.pool, self.head = nn.AdaptiveAvgPool2d(2), nn.Linear(48, 10)

    def forward(self, x):
        """(B, 1, 8, 8) -> (B, 10)."""
        x = relu(self.norm(self.stem(x)))
        y = self.norm2(self.conv2(relu(self.norm1(self.conv1(x)))))
        return self.head(self.pool(relu(y + self.short(x))).flatten(1))


class Transformer(nn.Module):
    """Rows of an image as tokens: projection, torch's encoder layer, mean, head."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(8, 16), nn.Linear(16, 10)
        layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)

    def forward(self, x):
        """(B, 1, 8, 8) -> (B, 10)."""
        return self.head(self.encoder(self.embed(x[:, 0])).mean(dim=1))


NETWORKS = {
    "mlp": lambda: mlp((1, 8, 8), 10, (24, 16)),
    "separable": Separable,
    "residual": Residual,
    "transformer": Transformer,
}


@pytest.fixture(scope="module")
def digits():
    """The digits; all test images."""
    return split_digits(0)


@pytest.fixture(scope="module")
def exported(digits, tmp_path_factory):
    """By name: the quantized network, its file in each format. Exporting says and warns nothing."""
    folder, found = tmp_path_factory.mktemp("exported"), {}
    for name, make in NETWORKS.items():
        torch.manual_seed(0)
        model = make()
        fit(model, digits.train_x, digits.train_y, epochs=6, learning_rate=3e-3, seed=0)
        model = quantize_model(model, calibration=digits.train_x, **HOW)
        paths = {form: folder / f"{name}.{form}.onnx" for form in FORMATS}
        for form, path in paths.items():
            export_onnx(model, path, format=form)
        found[name] = model.eval(), paths
    return found


def run(path, *inputs, level="DISABLE_ALL"):
    """The outputs that onnxruntime computes, operator by operator as in the file or optimized."""
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = getattr(levels, f"ORT_{level}")
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    names = [item.name for item in session.get_inputs()]
    return session.run(None, {n: x.numpy() for n, x in zip(names, inputs, strict=True)})


def run_qonnx(path, *inputs):
    """The outputs that qonnx computes, of inputs of this batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.core.onnx_exec import execute_onnx
        from qonnx.transformation.infer_shapes import InferShapes

        model = ModelWrapper(str(path))
        names = [item.name for item in model.graph.input]
        for name, x in zip(names, inputs, strict=True):
            model.set_tensor_shape(name, list(x.shape))
        model = model.transform(InferShapes())
        values = {n: x.numpy() for n, x in zip(names, inputs, strict=True)}
        found = execute_onnx(model, values)
    return [found[item.name] for item in model.graph.output]


RUN = {"qonnx": run_qonnx, "qdq": run}


@torch.no_grad()
def outputs(model, *inputs):
    """The outputs of torch, as a list of arrays."""
    found = model(*inputs)
    return [one.numpy() for one in (found if isinstance(found, tuple) else (found,))]


def assert_same(model, path, form, *inputs, within=1e-5):
    """The file's outputs are the model's, but for the rounding of float sums."""
    for found, wanted in zip(RUN[form](path, *inputs), outputs(model, *inputs), strict=True):
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() <= within


class File:
    """A file as a reader finds it: nodes by name, constants, which node gives a value."""

    def __init__(self, path):
        self.model = onnx.load(path)
        graph = self.model.graph
        self.nodes = {node.name: node for node in graph.node}
        self.givers = {value: node for node in graph.node for value in node.output}
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.names = [node.name for node in graph.node]

    def products(self):
        """Names of the nodes that multiply, in order."""
        return [n.name for n in self.model.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]

    def quantizer(self, name):
        """Of a node: its attributes and its inputs behind the first, as arrays."""
        node = self.nodes[name]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        return attributes, [self.constants[value] for value in node.input[1:]]

    def weight(self, product):
        """The integers that the weights of a product are, by the node that gives them."""
        node = self.givers[self.nodes[product].input[1]]
        node = self.givers[node.input[0]] if node.op_type == "Transpose" else node
        if node.op_type == "DequantizeLinear":
            assert (node.name, node.attribute[0].i) == (f"{product}.weight_dequant", 0)
            clip = self.givers.get(node.input[0])
            if clip is None:  # all integers of the type may be weights
                return self.constants[node.input[0]]
            assert (clip.name, clip.op_type) == (f"{product}.weight_clip", "Clip")
            codes, low, high = (self.constants[value] for value in clip.input)
            assert low == -high <= codes.min() <= codes.max() <= high
            return codes
        values = [self.constants[value] for value in node.input]
        assert (node.name, node.op_type) == (f"{product}.weight_quant", "Quant")
        return np.rint(values[0] / values[1]).astype(np.int64)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", NETWORKS)
def test_all_test_images(name, form, exported, digits):
    """Every digit of the test set is classified as in torch, at any size of batch."""
    model, paths = exported[name]
    x = digits.test_x
    (wanted,), found = outputs(model, x), RUN[form](paths[form], x)
    assert len(set(wanted.argmax(axis=1))) >= 8  # not one answer for all
    if form == "qdq":  # by default, onnxruntime makes other operators of these
        found += run(paths[form], x, level="ENABLE_ALL")
    for one in found:
        assert int((one.argmax(axis=1) == wanted.argmax(axis=1)).sum()) == len(x) == 360
        assert np.abs(one - wanted).max() <= 1e-5
    assert_same(model, paths[form], form, x[:1])


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_integers_in_the_file(name, form, exported):
    """They are those of `to_layers`, under the same names: not the weights before constraining."""
    model, paths = exported[name]
    file, layers = File(paths[form]), to_layers(model)
    onnx.checker.check_model(file.model, full_check=True)
    constrained = 0
    for key, layer in layers.items():
        found = file.weight(key)
        assert np.array_equal(found, layer.weight)
        module = model.get_submodule(key)
        scale = module.weight_quantizer.scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
        plain = (module.weight.double() / scale).round()
        constrained += not np.array_equal(plain.detach().numpy(), found)
    assert constrained > 0  # so that a file of unconstrained weights would be noticed
    products = [n for n, m in model.named_modules() if isinstance(m, QuantMatMul)]
    assert sorted(file.products()) == sorted([*layers, *products])
    assert len(set(file.names)) == len(file.names)


def test_names_and_words(exported):
    """Quantizers are named after their layers and operands, and say ranges and rounding."""
    model, paths = exported["transformer"]
    one = "encoder.layers.0.self_attn"
    qonnx, qdq = (File(paths[form]) for form in FORMATS)
    kind = {"rounding_mode": b"ROUND"}
    for name, words in {
        f"{one}.q_proj.weight_quant": {"signed": 1, "narrow": 1},
        f"{one}.q_proj.input_quant": {"signed": 1, "narrow": 0},
        f"{one}.scores.right_quant": {"signed": 1, "narrow": 0},
        f"{one}.mix.left_quant": {"signed": 0, "narrow": 0},
    }.items():
        assert qonnx.nodes[name].domain == "qonnx.custom_op.general"
        attributes, (scale, zero, bits) = qonnx.quantizer(name)
        assert attributes == words | kind
        assert (zero, bits) == (0, 4)
        assert scale.shape == ((16, 1) if "weight" in name else ())
    assert {item.domain: item.version for item in qonnx.model.opset_import} == {
        "": 20,
        "qonnx.custom_op.general": 2,
    }
    assert {item.domain: item.version for item in qdq.model.opset_import} == {"": 21}
    scale, zero = qdq.quantizer(f"{one}.mix.left_quant")[1]
    assert scale == np.float32(model.get_submodule(f"{one}.mix").left_quantizer.scale.item())
    assert (zero.dtype, int(zero)) == (np.uint8, 0)
    assert [int(end) for end in qdq.quantizer(f"{one}.mix.left_clip")[1]] == [0, 15]
    for file in (qonnx, qdq):
        (batch,) = {
            value.type.tensor_type.shape.dim[0].dim_param for value in file.model.graph.input
        }
        assert batch == "batch"
        assert [value.name for value in file.model.graph.output] == ["head.output"]
        assert b"test_export" not in file.model.SerializeToString()  # nor where it was made


class Beside(nn.Module):
    """Layers that all take the same input."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        """The output of each."""
        return tuple(layer(x) for layer in self.layers)


@pytest.mark.parametrize("form", FORMATS)
def test_zero_points(form, tmp_path):
    """The three lowerings are one network: unsigned codes with a zero point, padded by it."""
    torch.manual_seed(0)
    geometry = {"stride": (2, 1), "padding": (2, 1), "dilation": (1, 2), "groups": 2}
    rules = [
        Quantization("budget", 4, between(-3, 12), 9, "fit", lowering) for lowering in ZERO_POINTS
    ]
    model = Beside(QuantConv2d(4, 6, 3, quantization=rule, **geometry) for rule in rules)
    x = torch.randn(3, 4, 7, 8) + 1
    model(x)
    path = tmp_path / "z.onnx"
    export_onnx(model, path, example=x, format=form)
    file = File(path)
    for name, layer in to_layers(model).items():
        assert np.array_equal(file.weight(name), layer.weight)
        attributes, constants = file.quantizer(f"{name}.input_quant")
        if form == "qonnx":
            assert attributes == {"signed": 0, "narrow": 0, "rounding_mode": b"ROUND"}
            assert [float(value) for value in constants[1:]] == [3, 4]
        else:
            assert (constants[1].dtype, int(constants[1])) == (np.uint8, 3)
            assert [int(end) for end in file.quantizer(f"{name}.input_clip")[1]] == [0, 15]
    assert_same(model, path, form, x)


RANGES = [  # of inputs, bits of weights, type and zero point with QDQ, and whether it is clipped
    (unsigned(1), 2, "uint8 0", True),
    (signed(8), 8, "int8 0", False),
    (unsigned(8), 3, "uint8 0", False),
    (between(-100, 155), 9, "uint8 100", False),
    (signed(10), 4, "int16 0", True),
    (between(-100, 923), 16, "uint16 100", True),
    (unsigned(16), 4, "uint16 0", False),
    (signed(6, narrow=True), 4, "int8 0", True),
    (between(-3, 5), 4, "uint8 3", True),
]


@pytest.mark.parametrize("form", FORMATS)
def test_every_range(form, tmp_path):
    """Codes of 1 to 16 bits in the narrowest type that holds them, clipped to their range."""
    torch.manual_seed(0)
    ranges = RANGES if form == "qdq" else RANGES[:-1]  # QONNX has no word for the last
    rules = [Quantization("base", weight_bits, spec) for spec, weight_bits, *_ in ranges]
    model, x = Beside(QuantLinear(5, 3, quantization=rule) for rule in rules), torch.randn(64, 5)
    for layer in model.layers:
        layer.input_quantizer.calibrate(-1.0, 1.0)  # so that some inputs are beyond
    path = tmp_path / "r.onnx"
    export_onnx(model, path, example=x, format=form)
    file = File(path)
    for (name, layer), (_, weight_bits, code, clipped) in zip(
        to_layers(model).items(), ranges, strict=True
    ):
        assert np.array_equal(file.weight(name), layer.weight)
        if form == "qdq":
            zero = file.quantizer(f"{name}.input_quant")[1][1]
            assert (f"{zero.dtype} {zero}", f"{name}.input_clip" in file.nodes) == (code, clipped)
            kind = np.int8 if weight_bits <= 8 else np.int16
            assert file.constants[f"{name}.weight"].dtype == kind
    assert_same(model, path, form, x)


class Twice(nn.Module):
    """Layers that are called twice, with and without bias, of one to four axes; and a product."""

    def __init__(self):
        super().__init__()
        self.conv, self.plain = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(4, 4, bias=False)
        self.linear, self.product = nn.Linear(4, 4), MatMul()

    def forward(self, x, y):
        """(B, 2, 4, 4), (B, 4) -> three outputs."""
        x = self.conv(relu(self.conv(x)))
        alone = self.conv(x[0])  # a single image
        x = self.linear(self.plain(x))
        y = self.plain(self.linear(y))
        return self.product(x, x.mT), self.product(y, y.mT), alone


@pytest.mark.parametrize("form", FORMATS)
def test_modules_that_are_called_twice(form, tmp_path):
    """Each call is a product of its own, with a number; its weights and scales are there once."""
    torch.manual_seed(0)
    inputs = torch.randn(6, 2, 4, 4), torch.randn(6, 4)
    model = quantize_model(Twice(), calibration=[inputs], **HOW)
    export_onnx(model, tmp_path / "t.onnx", format=form)
    file = File(tmp_path / "t.onnx")
    calls = ["conv", "conv.2", "conv.3", "plain", "linear", "linear.2", "plain.2", "product"]
    assert Counter(file.products()) == Counter([*calls, "product.2"])
    assert "conv.2.input_quant" in file.nodes
    assert np.array_equal(file.weight("conv"), to_layers(model)["conv"].weight)
    assert file.nodes["conv.2"].input[1] == file.nodes["conv"].input[1]
    assert len(file.constants) == len(set(file.constants))
    assert [value.name for value in file.model.graph.output] == [
        "product.output",
        "product.2.output",
        file.model.graph.output[2].name,
    ]
    assert_same(model, tmp_path / "t.onnx", form, *inputs)


@pytest.mark.parametrize("form", FORMATS)
def test_a_model_that_is_a_layer(form, tmp_path):
    """Its product has the empty name, as in `to_layers`; its parts theirs."""
    torch.manual_seed(0)
    x = torch.randn(6, 3, 4)
    model = quantize_model(nn.Linear(4, 3), calibration=x, **HOW)
    export_onnx(model, tmp_path / "l.onnx", format=form)
    file = File(tmp_path / "l.onnx")
    assert file.products() == list(to_layers(model)) == [""]
    assert "input_quant" in file.nodes
    assert_same(model, tmp_path / "l.onnx", form, x)


class Mixed(nn.Module):
    """Tokens, what stays in float (attention, a recurrent layer), and a condition on data."""

    def __init__(self):
        super().__init__()
        self.embed, self.inner, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.recurrent = nn.LSTM(4, 4, batch_first=True)

    def forward(self, tokens, factors):
        """(B, L), (4,) -> (B, 2)."""
        x = self.inner(self.embed(tokens))
        x = torch.cond(factors.sum() > 0, lambda x: x * 2, lambda x: x - 1, (x,)) * factors
        x = self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.recurrent(x)[1][0][0])


def test_float_layers_and_several_inputs(tmp_path):
    """They stay in float; an input whose first axis is of another length keeps it."""
    torch.manual_seed(0)
    inputs = torch.randint(9, (5, 3)), torch.tensor([1.0, -1.0, 0.5, 2.0])
    left = {"attention": None, "recurrent": None}
    model = quantize_model(Mixed(), calibration=[inputs], overrides=left, **HOW).eval()
    export_onnx(model, tmp_path / "m.onnx", format="qdq")
    file = File(tmp_path / "m.onnx")
    shapes = [value.type.tensor_type.shape.dim for value in file.model.graph.input]
    assert [(shape[0].dim_param, shape[0].dim_value) for shape in shapes] == [("batch", 0), ("", 4)]
    assert set(to_layers(model)) == {"inner", "head"} <= set(file.products())
    assert_same(model, tmp_path / "m.onnx", "qdq", *inputs)
    assert_same(model, tmp_path / "m.onnx", "qdq", inputs[0][:1], -inputs[1])


class Norms(nn.Module):
    """Batch norm and dropout, that differ in training."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        """(B, 4) -> (B, 2)."""
        return self.head(self.drop(self.norm(self.first(x))))


def test_the_model_stays_as_it_was(tmp_path, capfd, caplog):
    """In training mode, with its state and its memory; what is written is eval mode, twice."""
    torch.manual_seed(0)
    x = torch.randn(40, 4)
    model = quantize_model(Norms(), calibration=x, **HOW).train()
    model(x)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    (tmp_path / "a").write_text("of before")
    os.link(tmp_path / "a", tmp_path / "kept")
    for name in ("a", "b"):
        export_onnx(model, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "kept").read_text() == "of before"  # replaced at once, not written over
    assert all(module.training for module in model.modules())
    assert len(model._forward_pre_hooks) == 1
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert_same(model.eval(), tmp_path / "a", "qonnx", x)
    assert capfd.readouterr() == ("", "")
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_floats(dtype, tmp_path):
    """The file computes in float32, with the integers and the scales of the model."""
    torch.manual_seed(0)
    x = torch.randn(40, 4)
    model = quantize_model(Norms().to(dtype), calibration=x.to(dtype), **HOW)
    export_onnx(model, tmp_path / "f.onnx")
    file = File(tmp_path / "f.onnx")
    for name, layer in to_layers(model).items():
        assert np.array_equal(file.weight(name), layer.weight)
        scale = file.quantizer(f"{name}.input_quant")[1][0]
        assert scale == model.get_submodule(name).input_quantizer.scale.float().numpy(force=True)
    (found,) = run_qonnx(tmp_path / "f.onnx", x)
    wanted = outputs(model.float().eval(), x)[0]
    assert np.abs(found - wanted).max() < 0.2  # scales of bfloat16 are rounded, too


def test_shapes_that_are_remembered(tmp_path):
    """Of the last call with tensors alone, in copies and on disk, but not in the state."""
    torch.manual_seed(0)
    path = tmp_path / "s.onnx"

    def length(model, **how):
        export_onnx(model, path, **how)
        return onnx.load(path).graph.input[0].type.tensor_type.shape.dim[1].dim_value

    model = quantize_model(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), **HOW)
    keys = list(model.state_dict())
    with pytest.raises(ModelError, match=r"^the model must have been called with tensors, so"):
        export_onnx(model, path)
    model(input=torch.randn(3, 6, 4))  # by keyword: not told which is which
    with pytest.raises(ModelError, match=r"^the model must have been called with tensors, so"):
        export_onnx(model, path)
    model(torch.randn(3, 5, 4))
    model(torch.randn(1, 7, 4))
    torch.save(model, tmp_path / "whole")
    assert length(torch.load(tmp_path / "whole", weights_only=False)) == 7
    assert list(model.state_dict()) == keys
    assert length(model, example=torch.randn(2, 9, 4)) == 9


def layer(spec=signed(4), name="0"):
    """A model of a linear layer that has an input scale."""
    made = QuantLinear(4, 4, quantization=Quantization("base", 4, spec))
    made.input_quantizer.calibrate(-1.0, 1.0)
    return nn.Sequential(OrderedDict({name: made}))


def tiny():
    """A model whose scales float32 does not hold."""
    model = layer()
    with torch.no_grad():
        model[0].weight_quantizer.log2_scale.fill_(-160)
        model[0].weight.fill_(2.0**-140)
    return model


class Fussy(nn.Module):
    """What takes one size of batch."""

    def forward(self, x):
        """As x."""
        if len(x) != 3:
            raise ValueError("there must be three rows\nand no more")
        return x


def write(path, model=None, example=torch.ones(3, 4), **how):
    """A small model exported, one thing changed."""
    export_onnx(layer() if model is None else model, path, example=example, **how)


CASES = [
    (
        "format",
        {"format": "onnx"},
        SpecError,
        "format must be one of qonnx, qdq, not 'onnx'",
    ),
    (
        "no layers",
        {"model": nn.Linear(4, 4)},
        ModelError,
        "the model must hold quantized layers; quantize_model makes them",
    ),
    (
        "no shapes",
        {"example": None},
        ModelError,
        "the model must have been called with tensors, so that the shapes of its inputs are known,"
        " or an example of them be given",
    ),
    (
        "example with a number",
        {"example": (torch.ones(3, 4), 3)},
        DtypeError,
        "example must be a tensor or a tuple of tensors, not of int",
    ),
    (
        "not calibrated",
        {"model": nn.Sequential(quantize_model(nn.Linear(4, 2), **HOW))},
        ModelError,
        "layer '0' has no input scale yet: run the model on data that reach it, or quantize it with"
        " such calibration data",
    ),
    (
        "one batch only",
        {"model": nn.Sequential(layer(), Fussy())},
        ModelError,
        "the model must be one that torch.export can trace for any batch: there must be three rows",
    ),
    (
        "scales too small",
        {"model": tiny()},
        ModelError,
        "layer '0' must have scales at which float32 tells its integers apart",
    ),
    (
        "range without a type",
        {"model": layer(between(-3, 5), "a")},
        ModelError,
        "layer 'a' must have inputs of all codes of some bits, for QONNX, not of [-3, 5]",
    ),
    (
        "17 bits",
        {"model": layer(signed(17)), "format": "qdq"},
        ModelError,
        "layer '0' must have inputs of at most 16 bits, for QDQ, not of INT17 [-65536, 65535]",
    ),
]


@pytest.mark.parametrize(
    ("how", "error", "text"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_what_is_refused(how, error, text, tmp_path, capfd):
    """One error, this very text, nothing printed, and nothing written: what was there stays."""
    path = tmp_path / "e.onnx"
    path.write_text("of before")
    with pytest.raises(error) as caught:
        write(path, **how)
    assert str(caught.value) == text
    assert path.read_text() == "of before"
    assert list(tmp_path.iterdir()) == [path]
    assert capfd.readouterr() == ("", "")


class Undecided(nn.Module):
    """What depends on the data in a way that no graph does."""

    def forward(self, x):
        """x or -x."""
        return x if x.sum() > 0 else -x


def test_what_torch_prints_on_failure_is_not_seen(tmp_path, capfd):
    """Its reason is in the error; the graphs that it shows beside it are dropped."""
    text = r"^the model must be one that torch\.export can trace for any batch: \S.*$"
    with pytest.raises(ModelError, match=text):
        write(tmp_path / "p.onnx", nn.Sequential(layer(), Undecided()))
    assert capfd.readouterr() == ("", "")


def test_layers_are_decided_again(tmp_path, monkeypatch):
    """Integers that can overflow their register are not written."""
    model = quantize_model(
        nn.Sequential(nn.Linear(64, 2)), calibration=torch.rand(9, 64), **HOW | {"acc_bits": 8}
    )
    full = torch.full((2, 64), 7.0, dtype=torch.float64)
    monkeypatch.setattr(type(model[0].weight_quantizer), "forward", lambda *_: full)
    with pytest.raises(UnsafeLayerError, match=r"^layer '0' must fit the 8-bit register"):
        export_onnx(model, tmp_path / "u.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_without_the_extra(package, tmp_path, monkeypatch):
    """The pip command, before anything is done."""
    real = importlib.import_module

    def absent(name):
        if name == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingExtraError) as caught:
        write(tmp_path / "m.onnx")
    assert str(caught.value) == f"export_onnx needs {package}: pip install 'accsim[onnx]'"
    assert list(tmp_path.iterdir()) == []
