"""What tracing claims holds for every value of random graphs, and is as narrow as it can be."""

import numpy as np
import onnx
import pytest
from onnx_graphs import (
    QONNX,
    WIDE,
    model,
    network,
    node,
    quantized,
)

from accsim import IntSpec, between, signed, unsigned
from accsim.onnx.graph import graph_of
from accsim.onnx.trace import trace

F = np.float32


SHAPE = (2, 3, 4, 4)


class Chain:
    """A random graph: every value has the shape of the input."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.held, self.values = [], {}, ["x"]

    def constant(self, array, dtype=F):
        """The name of an initializer."""
        name = f"c{len(self.held)}"
        self.held[name] = np.asarray(array, dtype)
        return name

    def add(self, op, *inputs, **how):
        """A node, and the name of its output."""
        name = f"v{len(self.nodes)}"
        domain = QONNX if op in ("Quant", "BipolarQuant") else ""
        self.nodes.append(node(op, inputs, name, domain=domain, **how))
        return name

    def number(self):
        """A scale, or what is clipped to: often a code of another value."""
        return float(self.random.choice([0.25, 0.1, 0.5, 1, 2, 3, 0.3, 7]))

    def step(self):
        """One more value that is made of one or two of those before."""
        pick = lambda: str(self.random.choice(self.values[-4:]))  # noqa: E731
        x, y, number = pick(), pick(), self.number()
        size, order = self.constant(SHAPE, np.int64), [0, 1, 3, 2]
        window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        choices = {
            "quant": lambda: self.add(
                "Quant",
                x,
                *(
                    self.constant(v)
                    for v in (number, self.random.integers(-1, 3), self.random.integers(1, 6))
                ),
                signed=int(self.random.integers(2)),
                narrow=int(self.random.integers(2)),
            ),
            "channels": lambda: self.add(
                "Quant",
                x,
                *(self.constant(v) for v in (np.array([0.5, 0.1, 2]).reshape(3, 1, 1), 0, 4)),
            ),
            "bipolar": lambda: self.add("BipolarQuant", x, self.constant(number)),
            "codes": lambda: self.add(
                "DequantizeLinear",
                self.add(
                    "QuantizeLinear",
                    x,
                    *(
                        at := (
                            self.constant(number),
                            self.constant(self.random.integers(0, 99), np.uint8),
                        )
                    ),
                ),
                *at,
            ),
            "clip": lambda: self.add("Clip", x, self.constant(-number), self.constant(2 * number)),
            "upper": lambda: self.add("Clip", x, "", self.constant(number)),
            "joined": lambda: self.add(
                "Slice",
                self.add("Concat", x, y, axis=1),
                *(self.constant(v, np.int64) for v in ([2], [5], [1])),
            ),
            "pad": lambda: self.add(
                "Slice",
                self.add(
                    "Pad",
                    x,
                    self.constant([0, 0, 1, 1, 0, 0, 0, 0], np.int64),
                    self.constant(self.random.choice([0, number])),
                ),
                *(self.constant(v, np.int64) for v in ([0, 0], [4, 4], [2, 3])),
            ),
            "chosen": lambda: self.add(
                "Where", self.constant(self.random.integers(0, 2, SHAPE), bool), x, y
            ),
            "reshape": lambda: self.add("Reshape", self.add("Flatten", x), size),
            "scaled": lambda: self.add(
                str(self.random.choice(["Mul", "Div"])), x, self.constant(number)
            ),
            "vector": lambda: self.add(
                "Mul", x, self.constant(np.array([1, 2, 3]).reshape(3, 1, 1))
            ),
            "turned": lambda: self.add(
                "Transpose", self.add("Transpose", x, perm=[1, 0, 2, 3]), perm=[1, 0, 2, 3]
            ),
            "swapped": lambda: self.add("Transpose", x, perm=order),
            "average": lambda: self.add("AveragePool", x, **window),
            "largest": lambda: self.add("MaxPool", x, **window),
        } | {op: (lambda op=op: self.add(op, x, y)) for op in ("Add", "Sub", "Max", "Min", "Mul")}
        choices |= {
            op: (lambda op=op: self.add(op, x))
            for op in (
                "Relu",
                "Sigmoid",
                "Tanh",
                "Abs",
                "Neg",
                "Softmax",
                "Identity",
                "HardSigmoid",
                "Dropout",
            )
        }
        self.values.append(
            choices[
                str(
                    self.random.choice(
                        [*choices, "quant", "Relu", "codes", "Max", "Min", "clip", "Add"]
                    )
                )
            ]()
        )


def check(known, values):
    """The number of values that are on a grid, each of which is looked at."""
    grids = 0
    for name, found in values.items():
        fact = known[name]
        assert fact.low <= np.min(found)
        assert np.max(found) <= fact.high
        if fact.grid is None:
            assert fact.why
            continue
        grids += 1
        scale = fact.grid.scale.astype(float)
        if fact.grid.axis is not None:
            scale = np.expand_dims(
                scale, [a for a in range(found.ndim) if a != fact.grid.axis % found.ndim]
            )
        codes = found / scale
        assert np.abs(codes - np.rint(codes)).max() < 1e-3 * max(1, np.abs(codes).max() / 1000)
        assert fact.grid.low <= np.rint(codes).min()
        assert np.rint(codes).max() <= fact.grid.high
    return grids


@pytest.mark.parametrize("start", range(0, 480, 80))
def test_random_graphs(start):
    """Every value lies where it is said to, on the grid where there is one."""
    grids = 0
    for seed in range(start, start + 80):
        chain = Chain(seed)
        for _ in range(10):
            chain.step()
        outputs = [one.output[0] for one in chain.nodes]
        made = model(chain.nodes, {"x": np.empty(SHAPE, F)}, chain.held, outputs=outputs)
        x = chain.random.normal(0, 4, SHAPE).astype(F)
        x.reshape(-1)[:4] = -1e4, 1e4, 0, -0.0
        known = trace(graph_of(made))
        grids += check(known, network(made).run(x, WIDE).outputs)
    assert grids > 180


def spec(nodes, held, value="y", dtype=F):
    """The range of the codes of a value, or why it has none; x is a network's input."""
    made = model(nodes, {"x": np.empty(SHAPE, dtype)}, held, outputs=[value])
    fact = trace(graph_of(made))[value]
    return fact.why if fact.grid is None else IntSpec(fact.grid.low, fact.grid.high)


A, HELD = quantized("a", "x", 0.5, 0, np.int8)  # codes from -128 to 127, by 0.5


@pytest.mark.parametrize(
    ("op", "inputs", "held", "how", "wanted"),
    [
        ("Relu", [], {}, {}, unsigned(7)),
        ("Clip", ["l", "h"], {"l": F(-2), "h": F(3)}, {}, between(-4, 6)),
        ("Clip", ["", "h"], {"h": F(3)}, {}, between(-128, 6)),
        ("Clip", ["l"], {"l": F(0)}, {}, unsigned(7)),
        ("Clip", ["l", "h"], {"l": F(-100.3), "h": F(99.9)}, {}, signed(8)),  # clips nothing
        ("Clip", ["l", "h"], {"l": F(-np.inf), "h": F(np.inf)}, {}, signed(8)),
        ("Clip", ["l", "h"], {"l": F(5), "h": F(3)}, {}, between(6, 6)),
        ("Clip", ["l", "h"], {"l": F(70), "h": F(80)}, {}, between(140, 140)),
        ("Max", ["l"], {"l": F(0)}, {}, unsigned(7)),
        ("Min", ["l"], {"l": F(0)}, {}, between(-128, 0)),
        ("Pad", ["p", "v"], {"p": np.ones(8, np.int64), "v": F(-70)}, {}, between(-140, 127)),
        ("Pad", ["p", "v"], {"p": np.ones(8, np.int64), "v": F(70)}, {}, between(-128, 140)),
        ("Pad", ["p"], {"p": np.ones(8, np.int64)}, {"mode": "edge"}, signed(8)),
        ("MaxPool", [], {}, {"kernel_shape": [2, 2]}, signed(8)),
        ("Transpose", [], {}, {"perm": [3, 2, 1, 0]}, signed(8)),
        ("Flatten", [], {}, {}, signed(8)),
        ("Add", ["a"], {}, {}, between(-256, 254)),
        ("Sub", ["a"], {}, {}, between(-255, 255)),
        ("Concat", ["a"], {}, {"axis": 1}, signed(8)),
        ("Mul", ["l"], {"l": F(0.3)}, {}, signed(8)),
        ("Div", ["l"], {"l": F(3)}, {}, signed(8)),
        ("Cast", [], {}, {"to": 1}, "Cast 'Cast of y' makes it float32"),
        ("Clip", ["l"], {"l": F(-2.2)}, {}, "it is clipped where it has no code"),
        ("Clip", ["x"], {}, {}, "it is clipped to what the graph computes"),
        ("Max", ["l"], {"l": F(0.5)}, {}, "it is a constant of fractions"),
        ("Pad", ["p", "v"], {"p": np.ones(8, np.int64), "v": F(0.2)}, {}, "Pad 'Pad of y' pads with 0.20000000298023224, which is no code"),
        ("Mul", ["l"], {"l": F([1, 2, 3, 4])}, {}, "Mul 'Mul of y' does not keep whole codes"),
        ("Mul", ["l"], {"l": F(-1)}, {}, "Mul 'Mul of y' is by -1.0"),
        ("Mul", ["l"], {"l": F(0)}, {}, "Mul 'Mul of y' is by 0.0"),
        ("Mul", ["x"], {}, {}, "Mul 'Mul of y' does not keep whole codes"),
        ("Mul", ["l"], {"l": F(3e38)}, {}, None),
        ("Mul", ["l"], {"l": F(1e-44)}, {}, "Mul 'Mul of y' leaves the range of float32"),
        ("Add", ["l"], {"l": F(1)}, {}, "Add 'Add of y' adds values of different scales"),
        ("Add", ["x"], {}, {}, "it comes from the network's input 'x'"),
        ("Neg", [], {}, {}, "it comes from Neg 'Neg of y'"),
        ("Sigmoid", [], {}, {}, "Sigmoid 'Sigmoid of y' gives fractions"),
        ("AveragePool", [], {}, {"kernel_shape": [2, 2]}, "AveragePool 'AveragePool of y' averages codes"),
        ("Resize", ["", "l"], {"l": F([1, 1, 2, 2])}, {}, "it comes from Resize 'Resize of y'"),
    ],
)  # fmt: skip
def test_one_operator(op, inputs, held, how, wanted):
    """Codes of one scale: what is still a code is known, exactly; and what is none is said."""
    found = spec([*A, node(op, ["a", *inputs], **how)], {**HELD, **held})
    assert found == (signed(8) if wanted is None else wanted)


CHANNELS, SCALES = quantized("a", "x", [0.5, 0.1, 0.2], [0, 0, 0], np.int8)


MOVED = "moves channels of different scales"


@pytest.mark.parametrize(
    ("op", "inputs", "held", "how", "wanted"),
    [
        ("Relu", [], {}, {}, unsigned(7)),
        ("MaxPool", [], {}, {"kernel_shape": [2, 2]}, signed(8)),
        ("Transpose", [], {}, {"perm": [3, 2, 1, 0]}, signed(8)),
        ("Identity", [], {}, {}, signed(8)),
        ("Mul", ["l"], {"l": F(0.3)}, {}, signed(8)),
        ("Clip", ["l"], {"l": F(0)}, {}, unsigned(7)),
        ("Clip", ["l"], {"l": F(2)}, {}, "it is clipped where it has no code"),
        ("Mul", ["l"], {"l": F([[[[[0.3]]]]])}, {}, "Mul 'Mul of y' may add dimensions"),
        ("Transpose", [], {}, {}, f"Transpose 'Transpose of y' {MOVED}"),
        ("Flatten", [], {}, {}, f"Flatten 'Flatten of y' {MOVED}"),
        ("Reshape", ["s"], {"s": np.array([2, 3, 16])}, {}, f"Reshape 'Reshape of y' {MOVED}"),
        ("Pad", ["p"], {"p": np.ones(8, np.int64)}, {}, f"Pad 'Pad of y' {MOVED}"),
        ("Pad", ["p"], {"p": np.ones(8, np.int64)}, {"mode": "wrap"}, f"Pad 'Pad of y' {MOVED}"),
        ("Add", ["a"], {}, {}, "Add 'Add of y' adds values of different scales"),
        ("Concat", ["a"], {}, {"axis": 1}, "Concat 'Concat of y' joins values of different scales"),
        ("Max", ["a"], {}, {}, "Max 'Max of y' joins values of different scales"),
    ],
)  # fmt: skip
def test_one_operator_of_channels(op, inputs, held, how, wanted):
    """A scale for each channel is kept by what leaves channels where they are."""
    assert spec([*CHANNELS, node(op, ["a", *inputs], **how)], {**SCALES, **held}) == wanted


def test_the_axis_of_a_transposed_scale():
    """It moves with its channels, from the front and from the back."""
    for scale, axis in (([0.5, 0.1, 0.2], 1), ([0.5, 0.1, 0.2, 0.3], -1)):
        nodes, held = quantized("a", "x", scale, [0] * len(scale), np.int8, axis=axis)
        made = model(
            [*nodes, node("Transpose", ["a"], perm=[3, 0, 1, 2])], {"x": np.empty(SHAPE, F)}, held
        )
        assert trace(graph_of(made))["y"].grid.axis % 4 == {1: 2, -1: 0}[axis]


def test_quantizers_narrow():
    """What comes in bounds the codes that come out."""

    def quant(name, source, scale, bits, **how):
        held = {f"{name}s": F(scale), f"{name}z": F(0), f"{name}b": F(bits)}
        return node("Quant", [source, *held], name, domain=QONNX, **how), held

    first, held = quant("q", "x", 0.5, 4)
    for between_them, wanted in (
        ("Relu", between(0, 14)),
        ("Sigmoid", between(0, 4)),
        ("Tanh", between(-4, 4)),
        ("Abs", between(0, 127)),
    ):
        last, more = quant("y", "r", 0.25, 8)
        assert spec([first, node(between_them, ["q"], "r"), last], {**held, **more}) == wanted
    last, more = quant("y", "q", 0.5, 3, signed=0)
    assert spec([first, last], {**held, **more}) == unsigned(3)
    bipolar = node("BipolarQuant", ["x", "s"], domain=QONNX)
    assert spec([bipolar], {"s": F(2)}) == between(-1, 1)
    made = [node("Relu", ["x"], "r"), node("BipolarQuant", ["r", "s"], domain=QONNX)]
    assert spec(made, {"s": F(2)}) == between(1, 1)


def test_truncations():
    """Of version 1 only what is bounded before."""
    held = {"s": F(0.5), "z": F(0), "b": F(8), "i": F(8), "o": F(4), "t": F(8)}
    quant = node("Quant", ["x", "s", "z", "b"], "q", domain=QONNX)
    for source, wanted in (
        ("q", signed(4)),
        ("x", "it truncates numbers whose range is not known"),
    ):
        last = node("Trunc", [source, "s", "z", "i", "o"], domain=QONNX)
        made = model([quant, last], {"x": np.empty(SHAPE, F)}, held, domains={QONNX: 1})
        fact = trace(graph_of(made))["y"]
        assert (IntSpec(fact.grid.low, fact.grid.high) if fact.grid else fact.why) == wanted
    last = node("Trunc", ["x", "s", "z", "i", "t", "o"], domain=QONNX)
    assert spec([last], held) == signed(4)
    held |= {"z": F(32), "o": F(6)}  # 32 in steps of 16
    assert spec([last], held) == between(-34, 29)
    nodes = [node("Relu", ["x"], "r"), node("Trunc", ["r", *"szito"], domain=QONNX)]
    assert spec(nodes, held) == between(0, 29)


INTEGERS = [
    ("Add", ["x"], "Add 'Add of y' is arithmetic in an integer type"),
    ("Mul", ["x"], "Mul 'Mul of y' is arithmetic in an integer type"),
    ("Abs", [], "Abs 'Abs of y' is arithmetic in an integer type"),
    ("ReduceMean", [], "ReduceMean 'ReduceMean of y' is arithmetic in an integer type"),
]


@pytest.mark.parametrize(("op", "inputs", "why"), INTEGERS)
@pytest.mark.parametrize("joined", [False, True])
def test_integer_types_wrap(op, inputs, why, joined):
    """So their sums are not believed, also behind what only moves them."""
    nodes = [node("Concat", ["x", "x"], "c", axis=1)] if joined else []
    inputs = ["c" if joined else "x", *(["c"] if joined and inputs else inputs)]
    assert spec([*nodes, node(op, inputs)], {}, dtype=np.int32) == why


@pytest.mark.parametrize(
    ("source", "to", "wanted"),
    [
        (np.uint8, "FLOAT", unsigned(8)),
        (np.uint8, "INT32", unsigned(8)),
        (np.uint8, "INT8", "Cast 'Cast of y' makes it int8, which has less room"),
        (np.uint8, "FLOAT16", "codes must be integers, not float16"),
        (np.uint8, "BOOL", "codes must be integers, not bool"),
        (np.int32, "FLOAT", "Cast 'Cast of y' makes it float32, which has less room"),
        (F, "INT32", "Cast 'Cast of y' makes it int32"),
    ],
)
def test_cast(source, to, wanted):
    """To a type that holds all codes."""
    to = getattr(onnx.TensorProto, to)
    assert spec([node("Cast", ["x"], to=to)], {}, dtype=source) == wanted


def test_whole_numbers_by_rounding_are_not_cast():
    """0.1 times 10 is 1 in float32, and 3 times 0.1 times 10 may be 2.9999998, which a Cast cuts."""
    nodes, held = quantized("a", "x", 0.1, 0)
    mul = node("Mul", ["a", "ten"], "m")
    cast = node("Cast", ["m"], to=onnx.TensorProto.INT32)
    held["ten"] = F(10)
    why = "Mul 'Mul of m' makes fractions whole by rounding"
    assert spec([*nodes, mul, cast], held) == "Cast 'Cast of y' makes it int32"
    assert spec([*nodes, mul], held, "m") == why
    nodes, held = quantized("a", "x", 0.25, 0)
    held["ten"] = F(4)
    assert spec([*nodes, mul, cast], held) == unsigned(8)
