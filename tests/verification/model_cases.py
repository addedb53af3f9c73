"""Small model files for tests: of the shared data, and made here."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MODELS = Path(__file__).parents[1] / "data" / "models"
WRONG = MODELS / "mlp_a2qp_p12_w4a4.as_exported.qonnx.onnx"
MLP = MODELS / "mlp_a2qp_p12_w4a4.qonnx.onnx"
CNN = MODELS / "cnn_base_w4a4.qonnx.onnx"
MLP_DATA, CNN_DATA = MODELS / "mlp_a2qp_p12_w4a4.npz", MODELS / "cnn_base_w4a4.npz"

WEIGHT = np.array([[7, -3], [5, 4], [-8, 1], [2, 6]], np.int8)
SCALE = np.float32(0.25)


def few(source: Path, path: Path, count: int) -> Path:
    """The first inputs and labels of a shared file, deflated."""
    with np.load(source) as arrays:
        np.savez_compressed(path, x=arrays["x"][:count], y=arrays["y"][:count])
    return path


def saved(path: Path, nodes, inputs, outputs, constants) -> Path:
    """A model file of these nodes; inputs and outputs are floats of the given shapes."""
    ends = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in end.items()]
        for end in (inputs, outputs)
    ]
    initializers = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    graph = helper.make_graph(nodes, "g", *ends, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def quantized(name: str, codes: str) -> list:
    """Nodes from floats to 8-bit codes, and from these to floats."""
    return [
        helper.make_node("QuantizeLinear", [name, "s", "z"], [codes], name=f"{codes} in"),
        helper.make_node("DequantizeLinear", [codes, "s", "z"], [f"{codes}d"], name=f"{codes} out"),
    ]


def biased(path: Path, bias=(1000, -3), name="fc") -> Path:
    """One layer of 4 taps and 2 channels whose registers start at integer biases."""
    nodes = [
        *quantized("x", "q"),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"], name="weights"),
        helper.make_node("DequantizeLinear", ["b", "ss", "z32"], ["bd"], name="biases"),
        helper.make_node("Gemm", ["qd", "wd", "bd"], ["out"], name=name),
    ]
    constants = {"s": SCALE, "z": np.int8(0), "w": WEIGHT, "b": np.array(bias, np.int32)}
    constants |= {"ss": SCALE * SCALE, "z32": np.int32(0)}
    return saved(path, nodes, {"x": ["n", 4]}, {"out": ["n", 2]}, constants)


def mixed(path: Path, *, layer=True) -> Path:
    """An integer layer, a product of two activations, and a product of floats."""
    nodes = quantized("x", "q")
    nodes.append(helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"], name="weights"))
    if layer:
        nodes.append(helper.make_node("MatMul", ["qd", "wd"], ["a"], name="layer"))
        nodes.append(helper.make_node("MatMul", ["qd", "qd"], ["both"], name="attention"))
    nodes.append(helper.make_node("MatMul", ["both" if layer else "x", "f"], ["c"], name="float"))
    nodes.append(helper.make_node("MatMul", ["c", "a" if layer else "f"], ["y"], name="late"))
    constants = {"s": SCALE, "z": np.int8(0), "w": np.eye(4, dtype=np.int8)}
    constants["f"] = np.full((4, 4), 0.3, np.float32)
    return saved(path, nodes, {"x": ["n", "k"]}, {"y": ["n", "m"]}, constants)


def named(path: Path, name: str) -> Path:
    """The layer of `biased` without large biases, under a name of one's choice."""
    return biased(path, (0, 0), name)


def two_inputs(path: Path) -> Path:
    """A layer of the sum of two inputs."""
    nodes = [
        helper.make_node("Add", ["one", "two"], ["x"], name="add"),
        *quantized("x", "q"),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"], name="weights"),
        helper.make_node("MatMul", ["qd", "wd"], ["out"], name="fc"),
    ]
    constants = {"s": SCALE, "z": np.int8(0), "w": WEIGHT}
    return saved(path, nodes, {"one": ["n", 4], "two": ["n", 4]}, {"out": ["n", 2]}, constants)


def narrowed(path: Path, out: Path) -> Path:
    """The model with one bit less in each annotated register."""
    model = onnx.load(path)
    for entry in model.graph.quantization_annotation:
        for pair in entry.quant_parameter_tensor_names:
            pair.value = f"INT{int(pair.value.removeprefix('INT')) - 1}"
    onnx.save(model, out)
    return out


def attention(path: Path) -> Path:
    """An integer layer and a product of two activations of 4 taps, each to an output of its own."""
    nodes = quantized("x", "q")
    nodes.append(helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"], name="weights"))
    nodes.append(helper.make_node("MatMul", ["qd", "wd"], ["a"], name="layer"))
    nodes.append(helper.make_node("MatMul", ["qd", "qd"], ["b"], name="attention"))
    constants = {"s": SCALE, "z": np.int8(0), "w": WEIGHT}
    return saved(path, nodes, {"x": [4, 4]}, {"a": [4, 2], "b": [4, 4]}, constants)
