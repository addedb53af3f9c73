"""What onnxruntime's quantizer writes for each network and kind: it runs, and is what we think."""

import logging

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_models import KINDS, MODELS, OPTIONS, inputs, operations, quantized, session

FLOATS = {
    "mlp": {"Gemm": 3, "Relu": 2},
    "cnn": {
        "Add": 1, "Conv": 3, "Flatten": 1, "Gemm": 1, "GlobalAveragePool": 1, "MaxPool": 1,
        "Relu": 3,
    },
    "attention": {
        "Add": 8, "LayerNormalization": 2, "MatMul": 8, "Mul": 1, "Relu": 1, "Reshape": 4,
        "Softmax": 1, "Transpose": 4,
    },
    "transposed": {"ConvTranspose": 2, "Relu": 1},
}  # fmt: skip
# Asymmetric: a Relu is the clamp of its quantized output. "-" marks the types that go.
ASYMMETRIC = {
    ("mlp", "qdq"): {"-": ["Relu"], "QuantizeLinear": 4, "DequantizeLinear": 9},
    ("mlp", "qoperator"): {
        "-": ["Gemm", "Relu"], "QuantizeLinear": 1, "DequantizeLinear": 1,
        "com.microsoft.QGemm": 3,
    },
    ("mlp", "dynamic"): {
        "-": ["Gemm"], "DynamicQuantizeLinear": 3, "MatMulInteger": 3, "Cast": 3, "Mul": 6,
        "Add": 2,
    },
    ("cnn", "qdq"): {"-": ["Relu"], "QuantizeLinear": 9, "DequantizeLinear": 16},
    ("cnn", "qoperator"): {
        "-": ["Add", "Conv", "Gemm", "GlobalAveragePool", "Relu"], "QuantizeLinear": 1,
        "DequantizeLinear": 1, "QLinearConv": 3, "com.microsoft.QGemm": 1,
        "com.microsoft.QLinearAdd": 1, "com.microsoft.QLinearGlobalAveragePool": 1,
    },
    ("cnn", "dynamic"): {
        "-": ["Conv", "Gemm"], "DynamicQuantizeLinear": 4, "ConvInteger": 3, "MatMulInteger": 1,
        "Cast": 4, "Mul": 8, "Add": 4, "Reshape": 2,
    },
    ("attention", "qdq"): {"-": ["Relu"], "QuantizeLinear": 29, "DequantizeLinear": 46},
    ("attention", "qoperator"): {
        "-": ["Add", "MatMul", "Mul", "Relu", "Softmax"], "QuantizeLinear": 2,
        "DequantizeLinear": 2, "QLinearMatMul": 8, "com.microsoft.QLinearAdd": 8,
        "com.microsoft.QLinearMul": 1, "com.microsoft.QLinearSoftmax": 1,
    },
    ("attention", "dynamic"): {
        "DynamicQuantizeLinear": 4, "MatMulInteger": 6, "MatMul": 2, "Cast": 6, "Mul": 13,
    },
    ("transposed", "qdq"): {"-": ["Relu"], "QuantizeLinear": 3, "DequantizeLinear": 6},
    ("transposed", "qoperator"): {},
    ("transposed", "dynamic"): {},
}  # fmt: skip
# Symmetric activations have codes below 0: each Relu stays, in QOperator files between floats.
SYMMETRIC = {
    ("mlp", "qdq"): {"Relu": 2, "QuantizeLinear": 6, "DequantizeLinear": 11},
    ("mlp", "qoperator"): {"Relu": 2, "QuantizeLinear": 3, "DequantizeLinear": 3},
    ("cnn", "qdq"): {"Relu": 3, "QuantizeLinear": 12, "DequantizeLinear": 19},
    ("cnn", "qoperator"): {
        "Relu": 3, "QuantizeLinear": 4, "DequantizeLinear": 4, "GlobalAveragePool": 1,
        "com.microsoft.QLinearGlobalAveragePool": 0,
    },
    ("attention", "qdq"): {"Relu": 1, "QuantizeLinear": 30, "DequantizeLinear": 47},
    ("attention", "qoperator"): {"Relu": 1, "QuantizeLinear": 3, "DequantizeLinear": 3},
    ("transposed", "qdq"): {"Relu": 1, "QuantizeLinear": 4, "DequantizeLinear": 7},
}  # fmt: skip
FILES = [(name, kind, *options) for name in MODELS for kind in KINDS for options in OPTIONS]


def expected(name, kind, symmetric):
    """The operations of one file, and how often."""
    change = ASYMMETRIC[name, kind] | (SYMMETRIC.get((name, kind), {}) if symmetric else {})
    counts = {op: FLOATS[name][op] for op in FLOATS[name] if op not in change.get("-", ())}
    counts |= {op: count for op, count in change.items() if op != "-"}
    return {op: count for op, count in counts.items() if count}


def held(model):
    """The initializers by name."""
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


@pytest.mark.parametrize("name", MODELS)
def test_float_models(name):
    """They run, for any batch, and are the same each time."""
    model = MODELS[name]()
    assert operations(model) == FLOATS[name]
    assert model.SerializeToString() == MODELS[name]().SerializeToString()
    x = inputs(model)
    (both,), (first,) = (session(model).run(None, {"x": part}) for part in (x, x[:1]))
    assert np.isfinite(both).all()
    np.testing.assert_allclose(both[:1], first, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "kind", "per_channel", "symmetric"), FILES)
def test_quantized_files(name, kind, per_channel, symmetric, tmp_path, caplog, capfd):
    """Each is made in silence, holds what the tables above say, and computes nearly the same."""
    model = MODELS[name]()
    before, handlers = model.SerializeToString(), logging.getLogger().handlers[:]
    path = quantized(model, tmp_path, kind, per_channel=per_channel, symmetric=symmetric)
    assert (model.SerializeToString(), logging.getLogger().handlers) == (before, handlers)
    assert list(tmp_path.iterdir()) == [path]
    file, x = onnx.load(path), inputs(model)
    assert operations(file) == expected(name, kind, symmetric)
    y, wanted = (session(one).run(None, {"x": x})[0] for one in (path, model))
    error = np.abs(y - wanted).max() / np.abs(wanted).max()
    assert error < 0.1
    assert (error == 0) == (name == "transposed" and kind != "qdq")  # which stay in float
    assert (caplog.records, tuple(capfd.readouterr())) == ([], ("", ""))


@pytest.mark.parametrize(("kind", "per_channel", "symmetric"), [f[1:] for f in FILES[:12]])
def test_weights_and_activations(kind, per_channel, symmetric, tmp_path):
    """Types, zero points and scales of the first layer, in the places where a reader finds them."""
    model = MODELS["mlp"]()
    how = {"per_channel": per_channel, "symmetric": symmetric}
    file = onnx.load(quantized(model, tmp_path, kind, **how))
    values, nodes = held(file), {node.output[0]: node for node in file.graph.node}
    if kind == "dynamic":
        node = next(node for node in file.graph.node if node.op_type == "MatMulInteger")
        weight, zero = values[node.input[1]], values[node.input[3]]
        assert weight.shape == (12, 16)  # transposed by the quantizer
        assert weight.dtype == zero.dtype == (np.int8 if symmetric else np.uint8)
        assert (zero == 0).all() == symmetric
        assert zero.size == (16 if per_channel else 1)
        return
    if kind == "qdq":
        node = next(node for node in file.graph.node if node.op_type == "Gemm")
        x, w, b = (nodes[name].input for name in node.input)
        operands = [*x, *w]
        bias, scale = values[b[0]], values[b[1]]
        product = values[x[1]] * values[w[1]]
        np.testing.assert_allclose(scale, np.broadcast_to(product, scale.shape), rtol=1e-6)
    else:
        node = next(node for node in file.graph.node if node.op_type == "QGemm")
        operands, bias = node.input[:6], values[node.input[6]]
    x_zero, weight, w_scale, w_zero = (values[operands[place]] for place in (2, 3, 4, 5))
    assert x_zero.dtype == (np.int8 if symmetric else np.uint8)
    assert (x_zero == 0) == symmetric
    assert (weight.shape, weight.dtype) == ((16, 12), np.int8)
    assert w_scale.size == w_zero.size == (16 if per_channel else 1)
    assert not w_zero.any()
    assert (bias.shape, bias.dtype) == ((16,), np.int32)
    assert bias.any()


def test_the_axis_of_channels(tmp_path):
    """Per channel, the axis is that of the outputs: 0 or 1, as the weight lies."""
    axes = {}
    for name in MODELS:
        file = onnx.load(quantized(MODELS[name](), tmp_path, "qdq", per_channel=True))
        values, nodes = held(file), {node.output[0]: node for node in file.graph.node}
        for node in file.graph.node:
            if node.op_type in {"Gemm", "Conv", "MatMul", "ConvTranspose"}:
                weight = nodes[node.input[1]]
                flipped = any(one.name == "transB" and one.i for one in node.attribute)
                if weight.input[0] in values:
                    kind = f"{node.op_type} transB" if flipped else node.op_type
                    axes.setdefault(kind, set()).add(weight.attribute[0].i)
    assert axes == {
        "Gemm transB": {0},
        "Gemm": {1},
        "Conv": {0},
        "MatMul": {1},
        "ConvTranspose": {1},
    }


def test_data_set_the_scales(tmp_path):
    """Calibration data of one's own are used."""
    model = MODELS["mlp"]()
    x = inputs(model)
    outputs = []
    for data in (x, 10 * x):
        path = quantized(model, tmp_path, "qdq", data=data)
        file = onnx.load(path)
        node = next(node for node in file.graph.node if node.op_type == "QuantizeLinear")
        outputs.append(held(file)[node.input[1]])
    assert outputs[1] == pytest.approx(10 * outputs[0], rel=1e-4)
