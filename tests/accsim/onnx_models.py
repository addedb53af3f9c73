"""Small ONNX networks, and what onnxruntime's quantizer makes of them: for tests of readers."""

import logging
from collections import Counter
from contextlib import contextmanager

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR = 21, 10  # those of onnxruntime 1.18 and later
KINDS = ("qdq", "qoperator", "dynamic")
OPTIONS = [(channel, symmetric) for channel in (False, True) for symmetric in (False, True)]


class Graph:
    """A graph in the making: each call adds a node and gives the name of its output."""

    def __init__(self, name, shape, seed=0):
        self.name, self.shape, self.nodes, self.held = name, shape, [], []
        self.random = np.random.default_rng(seed)

    def weight(self, *shape):
        """Random weights, whose ranges differ between output channels and are not symmetric."""
        values = self.random.normal(0.05, 1 / np.sqrt(max(1, np.prod(shape[1:]))), shape)
        channels = np.linspace(0.5, 2, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
        return self.constant(values * channels)

    def constant(self, values, dtype=np.float32):
        """An initializer."""
        name = f"held{len(self.held)}"
        self.held.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def add(self, kind, *inputs, **attributes):
        """A node with one output."""
        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def model(self, output, shape):
        """The checked model; the batch is symbolic in inputs and outputs."""
        values = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *sizes])
            for name, sizes in (("x", self.shape), (output, shape))
        ]
        graph = helper.make_graph(self.nodes, self.name, values[:1], values[1:], self.held)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR)
        onnx.checker.check_model(model, full_check=True)
        return model


def mlp():
    """Gemm with its weight as (C, K), as (K, C), and without a bias; x is (N, 12)."""
    g = Graph("mlp", [12])
    h = g.add("Relu", g.add("Gemm", "x", g.weight(16, 12), g.weight(16), transB=1))
    h = g.add("Relu", g.add("Gemm", h, g.weight(16, 10), g.weight(10)))
    return g.model(g.add("Gemm", h, g.weight(5, 10), transB=1), [5])


def cnn():
    """Strided with uneven padding, depthwise, pointwise beside a residual; x is (N, 3, 9, 8)."""
    g = Graph("cnn", [3, 9, 8])
    how = {"kernel_shape": [3, 3], "pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 1]}
    h = g.add("Relu", g.add("Conv", "x", g.weight(8, 3, 3, 3), g.weight(8), **how))
    depthwise = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "group": 8}
    d = g.add("Relu", g.add("Conv", h, g.weight(8, 1, 3, 3), g.weight(8), **depthwise))
    p = g.add("Conv", d, g.weight(8, 8, 1, 1), kernel_shape=[1, 1])
    h = g.add("Relu", g.add("Add", p, h))
    h = g.add("GlobalAveragePool", g.add("MaxPool", h, kernel_shape=[2, 2], strides=[2, 2]))
    return g.model(g.add("Gemm", g.add("Flatten", h), g.weight(4, 8), g.weight(4), transB=1), [4])


def attention():
    """A transformer's block: two heads, layer norms, a feed-forward pair; x is (N, 5, 8)."""
    g = Graph("attention", [5, 8])

    def linear(h, inputs, outputs):
        return g.add("Add", g.add("MatMul", h, g.weight(inputs, outputs)), g.weight(outputs))

    def norm(h):
        return g.add("LayerNormalization", h, g.constant(np.ones(8)), g.constant(np.zeros(8)))

    def heads(h, order):
        shape = g.constant([0, 5, 2, 4], np.int64)
        return g.add("Transpose", g.add("Reshape", h, shape), perm=order)

    q, v = (heads(linear("x", 8, 8), [0, 2, 1, 3]) for _ in "qv")
    scores = g.add("MatMul", q, heads(linear("x", 8, 8), [0, 2, 3, 1]))
    weights = g.add("Softmax", g.add("Mul", scores, g.constant(0.5)), axis=-1)
    mixed = g.add("Transpose", g.add("MatMul", weights, v), perm=[0, 2, 1, 3])
    joined = g.add("Reshape", mixed, g.constant([0, 5, 8], np.int64))
    h = norm(g.add("Add", linear(joined, 8, 8), "x"))
    fed = linear(g.add("Relu", linear(h, 8, 16)), 16, 8)
    return g.model(norm(g.add("Add", fed, h)), [5, 8])


def transposed():
    """Transposed convolutions, plain and grouped; x is (N, 4, 5, 5)."""
    g = Graph("transposed", [4, 5, 5])
    how = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    how["output_padding"] = [1, 1]
    h = g.add("Relu", g.add("ConvTranspose", "x", g.weight(4, 6, 3, 3), g.weight(6), **how))
    # without a bias: per channel, onnxruntime's quantizer takes no bias where there are groups
    last = {"kernel_shape": [2, 2], "group": 2}
    return g.model(g.add("ConvTranspose", h, g.weight(6, 2, 2, 2), **last), [4, 11, 11])


MODELS = {function.__name__: function for function in (mlp, cnn, attention, transposed)}


def inputs(model, count=16, seed=1):
    """Random inputs of a model, float32 (count, ...), more of them positive than negative."""
    shape = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    return np.random.default_rng(seed).normal(0.5, 1, (count, *shape)).astype(np.float32)


def quantized(model, folder, kind, *, per_channel=False, symmetric=False, data=None):
    """The file that onnxruntime's quantizer makes of a float model.

    `kind` is "qdq" or "qoperator" (static), with uint8 activations or, `symmetric`, int8 ones of
    zero point 0, and int8 weights; or "dynamic": uint8 activations always, uint8 weights or,
    `symmetric`, int8 ones of zero point 0.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

    path = folder / f"{model.graph.name}-{kind}-{int(per_channel)}{int(symmetric)}.onnx"
    signs = {False: QuantType.QUInt8, True: QuantType.QInt8}
    with quiet():
        if kind == "dynamic":
            quantize_dynamic(model, path, per_channel=per_channel, weight_type=signs[symmetric])
            return path
        formats = {"qdq": QuantFormat.QDQ, "qoperator": QuantFormat.QOperator}
        quantize_static(
            model,
            path,
            Reader(inputs(model) if data is None else data),
            quant_format=formats[kind],
            per_channel=per_channel,
            activation_type=signs[symmetric],
            weight_type=QuantType.QInt8,
            extra_options={"ActivationSymmetric": symmetric},
        )
    return path


class Reader:
    """Calibration data, all at once."""

    def __init__(self, data):
        self.left = [{"x": data}]

    def get_next(self):
        """The next inputs by name, None at the end."""
        return self.left.pop() if self.left else None


def operations(model):
    """How often each operation occurs in a model; those of other domains with the domain."""
    return Counter(f"{n.domain}.{n.op_type}".removeprefix(".") for n in model.graph.node)


def session(path):
    """An onnxruntime session that computes a file, or a model, as it is: nothing is fused."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    model = path.SerializeToString() if isinstance(path, onnx.ModelProto) else str(path)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@contextmanager
def quiet():
    """Silence for the root logger, which onnxruntime's quantizer uses, and would configure."""
    root, nowhere, before = logging.getLogger(), logging.NullHandler(), logging.root.manager.disable
    root.addHandler(nowhere)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        root.removeHandler(nowhere)
