"""A whole ResNet-18 in 14-bit saturating registers beside onnxruntime's floats, and its proof.

    python benchmarks/model_speed.py [--batch 64] [--json FILE]

Random weights of 4 bits, activations of 4 bits, images of 32 by 32. Results at 32 bits are compared
with onnxruntime's first. Both use two threads and take turns.
"""

import argparse
import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from accsim import Accumulator
from accsim.onnx import load
from verification import decide
from verification.bench import machine

STAGES = (64, 128, 256, 512)
ROUNDS = 7


class Builder:
    """A graph in the making: each call adds nodes and gives the name of their output."""

    def __init__(self, quantized):
        self.quantized, self.nodes, self.held = quantized, [], []
        self.random = np.random.default_rng(0)

    def constant(self, values, dtype=np.float32):
        """An initializer."""
        self.held.append(numpy_helper.from_array(np.asarray(values, dtype), f"c{len(self.held)}"))
        return self.held[-1].name

    def add(self, kind, *inputs, name=None, **attributes):
        """A node with one output."""
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name or output, **attributes))
        return output

    def codes(self, x, scale, low, high):
        """Values as codes from low to high, and back; as they are in the float network."""
        if not self.quantized:
            return x
        kind = np.int8 if low < 0 else np.uint8
        rule = [self.constant(scale), self.constant(0, kind)]
        q = self.add("QuantizeLinear", x, *rule)
        q = self.add("Clip", q, self.constant(low, kind), self.constant(high, kind))
        return self.add("DequantizeLinear", q, *rule)

    def weight(self, *shape):
        """Integers from -7 to 7 times a scale."""
        q = self.random.integers(-7, 8, shape)
        scale = np.float32(1 / (7 * np.sqrt(np.prod(shape[1:]))))
        if not self.quantized:
            return self.constant(q * scale)
        zero = self.constant(0, np.int8)
        ends = self.constant(-7, np.int8), self.constant(7, np.int8)
        clipped = self.add("Clip", self.constant(q, np.int8), *ends)
        return self.add("DequantizeLinear", clipped, self.constant(scale), zero)

    def conv(self, x, inputs, outputs, size, stride):
        """Convolution and batch norm."""
        w = self.weight(outputs, inputs, size, size)
        y = self.add(
            "Conv", x, w, strides=[stride] * 2, pads=[size // 2] * 4, kernel_shape=[size] * 2
        )
        norm = [np.ones(outputs), np.zeros(outputs), np.zeros(outputs), np.full(outputs, 0.5)]
        return self.add("BatchNormalization", y, *(self.constant(one) for one in norm))

    def relu(self, x):
        """ReLU, and codes of 4 bits."""
        return self.codes(self.add("Relu", x), 0.25, 0, 15)

    def block(self, x, inputs, outputs, stride):
        """Two convolutions beside a shortcut."""
        y = self.relu(self.conv(x, inputs, outputs, 3, stride))
        y = self.conv(y, outputs, outputs, 3, 1)
        short = x if inputs == outputs else self.conv(x, inputs, outputs, 1, stride)
        return self.relu(self.add("Add", y, short))


def resnet18(quantized):
    """The model, with codes or without."""
    b = Builder(quantized)
    x = b.relu(b.conv(b.codes("x", 2 / 7, -8, 7), 3, 64, 3, 1))
    inputs = 64
    for outputs in STAGES:
        x = b.block(x, inputs, outputs, 1 if outputs == 64 else 2)
        x = b.block(x, outputs, outputs, 1)
        inputs = outputs
    x = b.codes(b.add("Flatten", b.add("GlobalAveragePool", x)), 0.125, 0, 15)
    b.add("Gemm", x, b.weight(10, 512), b.constant(np.zeros(10)), transB=1)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["N", 3, 32, 32]), (b.nodes[-1].output[0], ["N", 10]))
    ]
    graph = helper.make_graph(b.nodes, "resnet18", ends[:1], ends[1:], b.held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def session(model, *, plain):
    """An onnxruntime session of two threads; `plain`: nothing is made integers or fused."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    if plain:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def timed(work):
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main():
    """Check, then time in turns, then prove."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    x = np.random.default_rng(1).normal(0, 1, (args.batch, 3, 32, 32)).astype(np.float32)
    quantized, plain = resnet18(True), resnet18(False)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "resnet18.onnx"
        onnx.save(quantized, path)
        start = time.perf_counter()
        network = load(path)
        loading = time.perf_counter() - start
    ((expected,),) = [session(quantized, plain=True).run(None, {"x": x})]
    found = next(iter(network.run(x, Accumulator(32)).outputs.values()))
    agree = float((found.argmax(1) == expected.argmax(1)).mean())
    print(f"32 bits against onnxruntime: largest difference {np.abs(found - expected).max():.3g}")
    print(f"argmax equal: {agree:.4f}")
    register = Accumulator(14, "saturate")
    same, floats = (session(model, plain=False) for model in (quantized, plain))
    works = {
        "accsim, 14 bits saturating": lambda: network.run(x, register, batch=args.batch),
        "onnxruntime, the same graph in float32": lambda: same.run(None, {"x": x}),
        "onnxruntime, without quantizers": lambda: floats.run(None, {"x": x}),
    }
    for work in works.values():
        work()
    times = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            times[name].append(timed(work))
    run = network.run(x, register)
    result = {"machine": machine(), "argmax_equal": agree, "load_s": loading}
    print(result["machine"])
    print(
        f"sums that overflow at 14 bits: {sum(run.overflowed.values())} of {sum(run.sums.values())}"
    )
    ours = float(np.median(times["accsim, 14 bits saturating"]))
    for name, seconds in times.items():
        median = float(np.median(seconds))
        result[name] = {"median_s": median, "ratio": ours / median}
        spread = f"({min(seconds):.3f}-{max(seconds):.3f})"
        print(f"{name:42} {median:.3f} s {spread}, accsim x {ours / median:.2f}")
    start = time.perf_counter()
    reports = [decide(layer, register) for layer in network.layers.values()]
    result["prove_s"] = time.perf_counter() - start
    print(f"loaded in {loading:.2f} s; {len(reports)} layers decided in {result['prove_s']:.2f} s")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + os.linesep)


if __name__ == "__main__":
    main()
