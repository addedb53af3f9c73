"""Graphs of a few nodes, and what other tools compute of them: for tests of `accsim.onnx`."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from accsim import Accumulator
from accsim.onnx.graph import graph_of
from accsim.onnx.loading import network_of

WIDE = Accumulator(32)
MICROSOFT, QONNX = "com.microsoft", "qonnx.custom_op.general"
DOMAINS = {MICROSOFT: 1, QONNX: 2}


def node(op, inputs, output="y", *, name=None, domain="", **attributes):
    """A node of one output; several are given as a list."""
    outputs = [output] if isinstance(output, str) else output
    name = f"{op} of {outputs[0]}" if name is None else name
    return helper.make_node(op, inputs, outputs, name, domain=domain, **attributes)


def value(name, dtype, shape):
    """What a graph says of an input or output; a dtype of numpy, or one of the format's numbers."""
    element = dtype if isinstance(dtype, int) else helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, element, shape)


def model(nodes, inputs, constants=None, *, outputs=None, opset=21, domains=None):
    """A model: `inputs` are arrays by name, of whose sizes the first is left open, or (dtype, shape).

    `outputs` are names, or shapes by name; else that of the last node is the only one.
    """
    nodes = [nodes] if isinstance(nodes, onnx.NodeProto) else nodes
    held = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    ends = []
    for name, one in inputs.items():
        dtype, shape = one if isinstance(one, tuple) else (one.dtype, _open(one.shape))
        ends.append(value(name, dtype, shape))
    names = [nodes[-1].output[0]] if outputs is None else outputs
    made = [onnx.ValueInfoProto(name=name) for name in names]
    opsets = {"": opset, **DOMAINS, **(domains or {})}
    return helper.make_model(
        helper.make_graph(nodes, "graph", ends, made, held),
        opset_imports=[helper.make_opsetid(*pair) for pair in opsets.items()],
        ir_version=10,
    )


def _open(shape):
    return ["N", *shape[1:]] if shape else []


def network(made):
    """The network in a model."""
    return network_of(graph_of(made))


def ours(made, inputs, register=WIDE, **how):
    """The first output, as `Network.run` gives it."""
    return next(iter(network(made).run(inputs, register, **how).outputs.values()))


def theirs(made, inputs):
    """The first output, as onnxruntime gives it, nothing fused; it needs the types of outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, dict(inputs))[0]


def dequantized(name, codes, scale, zero=0, **attributes):
    """A node that makes constants `name` of codes, and the initializers that it reads."""
    constants = {
        f"{name}_codes": codes,
        f"{name}_scale": np.asarray(scale, np.float32),
        f"{name}_zero": np.asarray(zero, codes.dtype),
    }
    return node("DequantizeLinear", list(constants), name, **attributes), constants


def quantized(name, source, scale, zero, dtype=np.uint8, **attributes):
    """The two nodes that quantize a value, and their initializers."""
    constants = {
        f"{name}_scale": np.asarray(scale, np.float32),
        f"{name}_zero": np.asarray(zero, dtype),
    }
    first = node("QuantizeLinear", [source, *constants], f"{name}_codes", **attributes)
    second = node("DequantizeLinear", [f"{name}_codes", *constants], name, **attributes)
    return [first, second], constants


def tensor(array, name="", **changed):
    """A tensor with fields changed."""
    made = numpy_helper.from_array(np.asarray(array), name)
    for field, new in changed.items():
        if field == "dims":
            del made.dims[:]
            made.dims.extend(new)
        else:
            setattr(made, field, new)
    return made


def equal(ours, theirs):
    """Whether two arrays are the same to the last bit, in type and shape, too."""
    return (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape) and bool((ours == theirs).all())


def codes(random, shape, dtype=np.uint8):
    """Random codes of a whole type, its ends among them."""
    ends = np.iinfo(dtype)
    made = random.integers(ends.min, ends.max, shape, dtype, endpoint=True)
    made.reshape(-1)[:2] = ends.min, ends.max
    return made


def checked(made, inputs, products=1):
    """The network, whose outputs are onnxruntime's to the last bit, in 32 bits."""
    found = network(made)
    assert (len(found.layers) + len(found.matmuls), dict(found.untraced)) == (products, {})
    result = next(iter(found.run(inputs, WIDE).outputs.values()))
    assert equal(result, theirs(made, inputs))
    return found
