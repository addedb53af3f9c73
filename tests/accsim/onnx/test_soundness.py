"""What must not be believed of a file: each was once proved, or once took too long."""

import numpy as np
import onnx
import pytest
from onnx_graphs import QONNX, dequantized, model, network, node, ours, quantized

from accsim import Accumulator, bounds, unsigned
from accsim.errors import ModelFileError, RangeError
from accsim.network import MatMul, least_registers
from accsim.onnx.graph import graph_of
from accsim.onnx.trace import trace
from accsim.spec import IntSpec

F, U8 = np.float32, np.uint8


def late(product, weights=None, shape=("N", 4), **how):
    """A product of codes from 0 to 15 whose zero point, any byte, is an input."""
    ends = {"low": U8(0), "high": U8(15)}
    nodes = [node("Clip", ["x", "low", "high"], "a")]
    w = [] if weights is None else ["w"]
    nodes.append(node(product, ["a", *(w or ["b"]), "z", *([] if w else ["z"])], **how))
    inputs = {"x": (U8, list(shape)), "z": (U8, [])}
    if not w:
        inputs["b"] = (U8, ["N", 4, 3])
    return model(nodes, inputs, ends if weights is None else ends | {"w": weights})


def test_a_computed_zero_point_is_any_of_its_type():
    """Not one of the codes that it is taken from: on both sides, and where it pads."""
    (matmul,) = network(late("MatMulInteger", shape=("N", 2, 4))).matmuls.values()
    assert (matmul.left, matmul.right) == (IntSpec(-255, 15), IntSpec(-255, 255))
    plain = network(late("MatMulInteger", np.ones((4, 2), np.int8)))
    assert [layer.input_spec for layer in plain.layers.values()] == [unsigned(4)]  # raw codes
    image = late("ConvInteger", np.ones((1, 1, 3, 3), np.int8), ("N", 1, 4, 4), pads=[1, 1, 1, 1])
    (layer,) = network(image).layers.values()
    assert layer.input_spec == unsigned(8)
    x = {"x": np.full((1, 1, 4, 4), 9, U8), "z": np.array(200, U8)}
    assert ours(image, x)[0, 0, 0].tolist() == [4 * (9 - 200), *[6 * (9 - 200)] * 2, 4 * (9 - 200)]


@pytest.mark.parametrize(
    ("op", "domain"),
    [
        ("FusedMatMul", ""),
        ("QuantMatMul", QONNX),
        ("GenericPartition", QONNX),
        ("Any", "ai.onnx.ml"),
    ],
)
def test_operators_that_nobody_knows_are_listed(op, domain):
    """In domains whose other operators are known, too."""
    made = model(node(op, ["x"], domain=domain), {"x": (F, ["N", 4])}, domains={"ai.onnx.ml": 3})
    assert list(network(made).untraced) == [f"{op} of y"]


def test_sums_of_integers_wrap():
    """What a 32-bit type holds may wrap where numbers would not, so that no range follows."""
    nodes = [
        node("MatMulInteger", ["x", "w"], "s"),
        node("Clip", ["s", "low", "high"], "c"),
        node("Add", ["c", "c"], "d"),
    ]
    held = {"w": np.ones((4, 2), np.int8), "low": np.int32(2**30), "high": np.int32(2**31 - 1)}
    fact = trace(graph_of(model(nodes, {"x": (U8, ["N", 4])}, held)))["d"]
    assert (fact.low, fact.high, fact.grid) == (-np.inf, np.inf, None)


@pytest.mark.parametrize(
    ("op", "more"), [("Clip", ["many", "one"]), ("Clip", ["one", "many"]), ("Pad", ["to", "many"])]
)
def test_limits_of_several_numbers(op, more):
    """The first is none for the others."""
    nodes, held = quantized("a", "x", 1, 0)
    held |= {"many": np.array([0, 9], F), "one": F(3), "to": np.zeros(4, np.int64)}
    nodes.append(node(op, ["a", *more]))
    fact = trace(graph_of(model(nodes, {"x": (F, ["N", 2])}, held)))["y"]
    assert (fact.grid, "several" in fact.why) == (None, True)


@pytest.mark.parametrize(
    ("left", "right", "taps"),
    [
        (4, 4, 4),
        (4, None, 4),
        (0, None, None),
        (-1, None, None),
        (2**60, None, None),
        (2, 64, None),
    ],
)
def test_lengths_that_a_file_declares(left, right, taps):
    """Those that contradict each other, or cannot be, are not known."""
    made = model(node("MatMulInteger", ["x", "b"]), {"x": (U8, ["N", left]), "b": (U8, [right, 3])})
    assert network(made).matmuls == {"MatMulInteger of y": MatMul(unsigned(8), unsigned(8), taps)}


def test_scales_multiplied_often():
    """Each time floats are rounded; soon the codes of a wide grid are not told apart."""
    limits = []
    for times in (0, 1, 15, 16):
        nodes = [node("Quant", ["x", "s", "z", "b"], "v0", domain=QONNX, signed=1, narrow=0)]
        nodes += [node("Mul", [f"v{i}", "f"], f"v{i + 1}") for i in range(times)]
        w, held = dequantized("w", np.ones((4, 2), np.int8), 0.5)
        nodes += [w, node("MatMul", [f"v{times}", "w"])]
        held |= {"s": F(0.37), "z": F(0), "b": F(17), "f": F(1.01)}
        limits.append(not network(model(nodes, {"x": (F, ["N", 4])}, held)).untraced)
    assert limits == [True, True, True, False]


def test_padding_beside_inputs_without_zero():
    """Too many sets of taps on padding would take minutes to decide: there it is an input."""
    found = {}
    for size in (3, 40):
        nodes, held = quantized("a", "x", 1, 0)
        w, more = dequantized("w", np.ones((8, 1, size, size), np.int8), 1)
        nodes = [nodes[0], node("Clip", ["a_codes", "one", "three"], "c")]
        nodes.append(node("DequantizeLinear", ["c", "a_scale", "a_zero"], "a"))
        pads = [size - 1] * 4
        nodes += [w, node("Conv", ["a", "w"], pads=pads)]
        held |= more | {"one": U8(1), "three": U8(3)}
        made = network(model(nodes, {"x": (F, ["N", 1, 40, 40])}, held))
        (register,) = least_registers(made).values()
        (layer,) = made.layers.values()
        found[size] = (layer.input_spec, layer.pads, register.bits)
    widest = bounds.data_type_bits(1600, IntSpec(1, 1), IntSpec(1, 3))
    assert found == {3: (IntSpec(1, 3), True, 6), 40: (IntSpec(0, 3), False, widest)}


def test_many_nodes_of_one_name():
    """Names are made unique in no more than a look at each: else this would take minutes."""
    nodes = [node("Identity", ["x"], f"v{i}", name="") for i in range(10_000)]
    nodes += [node("Identity", ["x"], f"w{i}", name=f"v{i}") for i in range(10_000)]
    made = graph_of(model(nodes, {"x": (F, ["N"])}, outputs=["v0"]))
    assert len({one.name for one in made.nodes}) == 20_000
    assert (made.nodes[7].name, made.nodes[10_007].name) == ("v7#7", "v7")


def test_a_node_that_gives_nothing():
    """It has no output that a register could be told of."""
    made = model(
        [node("Relu", ["x"]), node("Relu", ["x"], [""], name="n")], {"x": (F, ["N"])}, outputs=["y"]
    )
    with pytest.raises(ModelFileError) as refused:
        graph_of(made)
    assert str(refused.value) == "node 'n' must give a value"


def test_sums_wider_than_any_register():
    """Named, where the least register is asked for."""
    held = {"w": np.full((4, 1), 2**31 - 1, np.int32), "b": np.int32(0)}
    made = model(
        node("MatMul", ["x", "w"], name="wide"), {"x": (np.int32, ["N", 4])}, held, outputs=["y"]
    )
    with pytest.raises(RangeError) as refused:
        least_registers(network(made))
    assert str(refused.value) == "wide: its sums need 65 bits; at most 62 are simulated"


def test_weights_are_not_kept_beside_their_layers():
    """A network holds the integers of a layer once, and nothing of its file."""
    w, held = dequantized("w", np.ones((64, 64), np.int8), 0.5)
    nodes, more = quantized("a", "x", 0.1, 0)
    found = network(
        model([*nodes, w, node("MatMul", ["a", "w"])], {"x": (F, ["N", 64])}, held | more)
    )
    cells = [cell.cell_contents for cell in found.evaluate.__closure__]
    constants = next(c for c in cells if isinstance(c, dict) and "a_scale" in c)
    assert {name: array.size for name, array in constants.items() if array.size > 1} == {}
    assert not any(isinstance(cell, onnx.ModelProto) for cell in cells)
    assert found.run(np.ones((1, 64), F), Accumulator(20)).outputs["y"].shape == (1, 64)


def test_a_constant_left_side_of_gemm_is_no_layer():
    """Its bias runs along the other axis, and its sides may be turned."""
    held = {"a": np.array([[127, 127], [0, 0]], U8), "c": np.array([0, 1000000], np.int32)}
    held |= {"s": F(1), "z": U8(0), "ys": F(8192)}
    places = ["a", "s", "z", "x", "s", "z", "c", "ys", "z"]
    made = model(node("QGemm", places, domain="com.microsoft"), {"x": (U8, ["N", 2])}, held)
    assert list(network(made).untraced) == ["QGemm of y"]


def test_joining_forgets_no_rounding():
    """A Concat of one value between scalings does not make its codes certain again."""
    nodes = [node("Quant", ["x", "s", "z", "b"], "v0", domain=QONNX, signed=0, narrow=0)]
    for i in range(40):
        nodes.append(node("Mul", [f"v{i}", "f"], f"u{i}"))
        nodes.append(node("Concat", [f"u{i}"], f"v{i + 1}", axis=1))
    w, held = dequantized("w", np.ones((4, 2), np.int8), 0.5)
    nodes += [w, node("MatMul", ["v40", "w"])]
    held |= {"s": F(1), "z": F(0), "b": F(19), "f": F(1.0000001)}
    (reason,) = network(model(nodes, {"x": (F, ["N", 4])}, held)).untraced.values()
    assert "more than float32 tells apart" in reason


def test_half_precision_narrows_nothing():
    """Its numbers are rounded a thousand times as much."""
    half = np.float16
    nodes = [
        node("Clip", ["x", "low", "high"], "c"),
        node("Mul", ["c", "f"], "m"),
        node("QuantizeLinear", ["m", "s", "z"], "q"),
    ]
    held = {"low": half(0), "high": half(0.9766), "f": half(0.86), "s": half(2**-7), "z": U8(0)}
    fact = trace(graph_of(model(nodes, {"x": (half, ["N"])}, held)))["q"]
    assert (fact.grid.low, fact.grid.high) == (0, 255)


@pytest.mark.parametrize(
    ("how", "known"),
    [({"pads": [1] * 4}, True), ({"dilations": [2, 2]}, True), ({}, True),
     ({"pads": [1] * 4, "dilations": [2, 2]}, False),
     ({"auto_pad": "SAME_UPPER", "dilations": [1, 2]}, False)],
)  # fmt: skip
def test_windows_that_miss_every_input(how, known):
    """Padding is the least number there is, and no code."""
    nodes, held = quantized("a", "x", 1, 0)
    nodes.append(node("MaxPool", ["a"], kernel_shape=[2, 2], **how))
    fact = trace(graph_of(model(nodes, {"x": (F, ["N", 1, 4, 4])}, held)))["y"]
    assert (fact.grid is not None) == known


@pytest.mark.parametrize(("size", "high"), [(1000, 0.1), (100_000, np.inf), ("M", np.inf)])
def test_averages_of_many(size, high):
    """Sums of very many floats leave the range of the numbers; so may those of unknown length."""
    nodes = [node("Clip", ["x", "low", "high"], "c"), node("ReduceMean", ["c", "axes"])]
    held = {"low": F(0), "high": F(0.1), "axes": np.array([1])}
    fact = trace(graph_of(model(nodes, {"x": (F, ["N", size])}, held)))["y"]
    assert fact.high == pytest.approx(high, rel=1e-3)


@pytest.mark.parametrize(
    ("inputs", "shapes"),
    [
        ({"x": np.ones((2, 2, 4), U8), "b": np.ones((3, 4, 3), U8)}, "batches 2 and 3"),
        ({"x": np.ones((), U8), "b": np.ones((4, 3), U8)}, "no matrix"),
    ],
)
def test_matmuls_that_do_not_fit(inputs, shapes):
    """Shapes that only a run shows."""
    ends = {name: (U8, [None] * array.ndim) for name, array in inputs.items()}
    found = network(model(node("MatMulInteger", ["x", "b"]), ends))
    with pytest.raises(ModelFileError):
        found.run(inputs, Accumulator(32))


def test_a_matmul_of_no_products():
    """Sums of nothing are 0."""
    found = network(
        model(node("MatMulInteger", ["x", "b"]), {"x": (U8, [None] * 2), "b": (U8, [None] * 2)})
    )
    inputs = {"x": np.ones((2, 0), U8), "b": np.ones((0, 3), U8)}
    assert found.run(inputs, Accumulator(8)).outputs["y"].tolist() == [[0] * 3] * 2


def test_fewer_values_than_names():
    """An operator that gives one value, with two names for it."""
    made = model(
        node("Quant", ["x", "s", "z", "b"], ["y", "more"], domain=QONNX, signed=1, narrow=0),
        {"x": (F, ["N"])},
        {"s": F(1), "z": F(0), "b": F(4)},
        outputs=["more"],
    )
    with pytest.raises(ModelFileError) as refused:
        network(made).run(np.ones(2, F), Accumulator(8))
    assert str(refused.value) == "node 'Quant of y' (Quant) gives fewer values"


@pytest.mark.parametrize(
    ("element", "ends"), [("INT8", (-128, 127)), ("UINT8", (0, 255)), ("INT4", (-8, 7))]
)
def test_codes_of_a_type_that_only_an_attribute_names(element, ends):
    """Without a zero point QuantizeLinear gives codes of its output_dtype."""
    kind = getattr(onnx.TensorProto, element)
    made = model(
        node("QuantizeLinear", ["x", "s"], output_dtype=kind), {"x": (F, ["N"])}, {"s": F(1)}
    )
    grid = trace(graph_of(made))["y"].grid
    assert (grid.low, grid.high) == ends
    x = np.array([-300, 300], F)
    assert ours(made, {"x": x}).astype(int).tolist() == list(ends)
