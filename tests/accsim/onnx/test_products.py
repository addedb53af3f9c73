"""Integer products of every kind and arrangement, against onnxruntime's and the definition."""

import numpy as np
import onnx
import pytest
from onnx_graphs import (
    MICROSOFT,
    WIDE,
    dequantized,
    equal,
    model,
    network,
    node,
    ours,
    quantized,
    theirs,
)

from accsim import Accumulator, IntSpec, arith, signed, unsigned
from accsim.errors import ModelFileError
from accsim.network import MatMul
from accsim.onnx.graph import graph_of
from accsim.onnx.trace import trace

U8, I8 = np.uint8, np.int8


@pytest.fixture
def random():
    """The same numbers in each test."""
    return np.random.default_rng(7)


def codes(random, shape, dtype=U8):
    """Codes of a whole type, its ends among them."""
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


CONVS = {
    "plain": ((3, 2, 3, 3), {}),
    "strided": ((3, 2, 3, 2), {"strides": [2, 3]}),
    "dilated": ((3, 2, 2, 3), {"dilations": [3, 2], "strides": [1, 2]}),
    "even pads": ((3, 2, 3, 3), {"pads": [2, 1, 2, 1]}),
    "uneven pads": ((3, 2, 3, 3), {"pads": [0, 2, 1, 1]}),
    "groups": ((4, 1, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "depthwise": ((6, 1, 3, 3), {"group": 2, "pads": [0, 1, 2, 1]}),
    "same upper": ((3, 2, 3, 2), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": ((3, 2, 4, 2), {"auto_pad": "SAME_LOWER", "strides": [1, 2]}),
    "same, no stride": ((3, 2, 3, 5), {"auto_pad": "SAME_LOWER"}),
    "same, even kernel": ((3, 2, 2, 2), {"auto_pad": "SAME_UPPER"}),
    "valid": ((3, 2, 3, 3), {"auto_pad": "VALID"}),
    "one dimension": ((3, 2, 3), {"pads": [2, 0], "strides": [2]}),
    "one dimension, even": ((3, 2, 3), {"pads": [1, 1], "dilations": [2]}),
}
ZEROS = [(0, 0), (131, 0), (0, 17), (3, [1, 2, 3, 4, 5, 6])]


@pytest.mark.parametrize("late", [False, True], ids=["zero point", "computed zero point"])
@pytest.mark.parametrize("case", CONVS)
def test_conv_integer(case, late, random):
    """Padding counts as 0, whatever the zero point, and also if it is computed as the graph runs."""
    shape, how = CONVS[case]
    x = codes(random, (2, 2, 7, 9)[: len(shape)])
    w = codes(random, shape, I8)
    inputs = {"x": x, "zero": np.array(200, U8)} if late else {"x": x}
    made = model(
        node("ConvInteger", ["x", "w", "zero"], **how), inputs,
        {"w": w} if late else {"w": w, "zero": np.array(200, U8)},
    )  # fmt: skip
    found = checked(made, inputs)
    (layer,) = found.layers.values()
    assert layer.input_spec == (unsigned(8) if late else IntSpec(-200, 55))
    assert (layer.weight_spec, layer.taps) == (signed(8), np.prod(shape[1:]))


@pytest.mark.parametrize(("x_zero", "w_zero"), ZEROS)
def test_zero_points_of_conv_integer(x_zero, w_zero, random):
    """One of the inputs, and one or one for each channel of the weights."""
    x, w = codes(random, (2, 2, 5, 5)), codes(random, (6, 2, 3, 3))
    held = {"w": w, "x_zero": np.array(x_zero, U8), "w_zero": np.array(w_zero, U8)}
    found = network(model(node("ConvInteger", ["x", *held], pads=[1, 1, 1, 1]), {"x": x}, held))
    (layer,) = found.layers.values()
    zeros = np.broadcast_to(w_zero, 6).reshape(6, 1, 1, 1)
    assert (layer.weight == w.astype(int) - zeros).all()
    assert layer.input_spec == IntSpec(-x_zero, 255 - x_zero)
    wide = np.pad(x.astype(int) - x_zero, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), axis=(2, 3))
    wanted = np.einsum("nihwab,oiab->nohw", windows, w.astype(int) - zeros)
    result = ours(
        model(node("ConvInteger", ["x", *held], pads=[1, 1, 1, 1]), {"x": x}, held), {"x": x}
    )
    assert equal(result, wanted.astype(np.int32))


@pytest.mark.parametrize("bias", [None, "zeros", "some"])
@pytest.mark.parametrize("dtype", [U8, I8])
@pytest.mark.parametrize(
    "case", ["plain", "even pads", "uneven pads", "depthwise", "same upper", "one dimension"]
)
def test_qlinear_conv(case, dtype, bias, random):
    """Codes to codes, a scale for each channel, with the bias in the register or none."""
    shape, how = CONVS[case]
    x, w = codes(random, (2, 2, 7, 9)[: len(shape)], dtype), codes(random, shape, I8)
    held = {
        "s": np.float32(0.02), "z": np.array(7, dtype), "w": w,
        "ws": np.linspace(0.01, 0.05, len(w)).astype(np.float32), "wz": np.zeros(len(w), I8),
        "ys": np.float32(0.9), "yz": np.array(20, dtype),
    }  # fmt: skip
    if bias is not None:
        held["b"] = random.integers(-5000, 5000, len(w), np.int32) * np.int32(bias == "some")
    made = model(node("QLinearConv", ["x", *held], **how), {"x": x}, held)
    (layer,) = checked(made, {"x": x}).layers.values()
    assert (layer.bias is not None) == (bias == "some")


@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 5), (5, 4)),
        ((2, 3, 5), (5, 4)),
        ((5,), (5, 4)),
        ((3, 5), (1, 5, 4)),
        ((2, 1, 3, 5), (1, 1, 5, 4)),
    ],
    ids=str,
)
@pytest.mark.parametrize("op", ["MatMulInteger", "QLinearMatMul"])
def test_constant_matrix_on_the_right(op, shapes, random):
    """However many dimensions there are on the left."""
    x, w = codes(random, shapes[0]), codes(random, shapes[1], I8)
    if op == "MatMulInteger":
        held = {"w": w, "xz": np.array(9, U8), "wz": np.array(-3, I8)}
    else:
        held = {
            "s": np.float32(0.1),
            "z": U8(5),
            "w": w,
            "ws": np.float32(0.1),
            "wz": I8(0),
            "ys": np.float32(3),
            "yz": U8(128),
        }
    checked(model(node(op, ["x", *held]), {"x": x}, held), {"x": x})


def test_several_zero_points_of_columns(random):
    """MatMulInteger may have one for each column of its right side."""
    x, w = codes(random, (3, 5)), codes(random, (5, 4))
    held = {"w": w, "xz": np.array(9, U8), "wz": np.array([1, 2, 3, 255], U8)}
    found = checked(model(node("MatMulInteger", ["x", *held]), {"x": x}, held), {"x": x})
    (layer,) = found.layers.values()
    assert layer.weight_spec == IntSpec(-255, 254)


@pytest.mark.parametrize("rows", [4, 3])
def test_constant_matrix_on_the_left(rows, random):
    """Its zero points are those of rows, also where it is square."""
    w, x = codes(random, (rows, 4)), codes(random, (4, 5))
    zeros = np.arange(1, rows + 1, dtype=U8)
    made = model(
        node("MatMulInteger", ["w", "x", "wz", "xz"]), {"x": x}, {"w": w, "wz": zeros, "xz": U8(3)}
    )
    wanted = (w.astype(int) - zeros[:, None]) @ (x.astype(int) - 3)
    assert equal(ours(made, {"x": x}), wanted.astype(np.int32))


@pytest.mark.parametrize("shape", [(5, 4), (2, 5, 4), (5,)], ids=str)
def test_constant_left_side_of_floats(shape, random):
    """A matrix of a scale for each row times matrices, or a vector."""
    x = random.normal(0, 3, shape).astype(np.float32)
    (q, d), held = quantized("a", "x", 0.1, 120)
    wd, weights = dequantized("w", codes(random, (3, 5), I8), [0.1, 0.2, 0.4], np.zeros(3), axis=0)
    made = model(
        [q, d, wd, node("MatMul", ["w", "a"])], {"x": (np.float32, shape)}, {**held, **weights}
    )
    found = network(made)
    assert (len(found.layers), dict(found.untraced)) == (1, {})
    result, wanted = ours(made, {"x": x}), theirs(made, {"x": x})
    assert (result.dtype, result.shape) == (wanted.dtype, wanted.shape)
    np.testing.assert_allclose(result, wanted, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3, 5), (5, 4)),
        ((2, 3, 5), (5, 4)),
        ((3, 5), (2, 5, 4)),
        ((2, 1, 3, 5), (4, 5, 2)),
        ((5,), (5, 4)),
        ((3, 5), (5,)),
        ((5,), (5,)),
        ((5,), (2, 5, 4)),
        ((0, 3, 5), (5, 4)),
    ],
    ids=str,
)
def test_both_sides_computed(left, right, random):
    """As numpy.matmul has it, with vectors and batches that are broadcast."""
    inputs = {n: random.normal(0, 3, s).astype(np.float32) for n, s in (("a", left), ("b", right))}
    first, held = quantized("qa", "a", 0.25, 128)
    second, more = quantized("qb", "b", 0.5, 3, I8)
    made = model(
        [*first, *second, node("MatMul", ["qa", "qb"])],
        {"a": (np.float32, left), "b": (np.float32, right)}, {**held, **more},
    )  # fmt: skip
    found = checked(made, inputs)  # scales are powers of two: floats are exact
    (matmul,) = found.matmuls.values()
    said = 5 if max(len(left), len(right)) > 1 else None  # as matrices are declared
    assert matmul == MatMul(IntSpec(-128, 127), IntSpec(-131, 124), said)
    assert matmul.least_bits == (said and 18)


@pytest.mark.parametrize("zeros", [(0, 0), (7, 200)])
def test_computed_zero_points_of_both_sides(zeros, random):
    """They come off before the product: its sides reach as far down as up."""
    inputs = {
        "a": codes(random, (2, 3, 5)),
        "b": codes(random, (2, 5, 4)),
        "az": np.array(zeros[0], U8),
        "bz": np.array(zeros[1], U8),
    }
    made = model(
        node("MatMulInteger", list(inputs)), {n: (U8, np.shape(v)) for n, v in inputs.items()}
    )
    (matmul,) = checked(made, inputs).matmuls.values()
    assert matmul.left == matmul.right == IntSpec(-255, 255)


@pytest.mark.parametrize("weights", [U8, I8])
def test_dynamic_quantization(weights, random):
    """The zero point is taken off the sums; in narrow registers these are sums of raw codes."""
    x = random.normal(-2, 3, (6, 9)).astype(np.float32)
    w = codes(random, (9, 4), weights)
    made = model(
        [node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), node("MatMulInteger", ["q", "w", "z"])],
        {"x": x}, {"w": w},
    )  # fmt: skip
    found = checked(made, {"x": x})
    (layer,) = found.layers.values()
    assert layer.input_spec == unsigned(8)
    seen = []
    register = Accumulator(13, "saturate")
    result = next(
        iter(found.run(x, register, watch=lambda *call: seen.append(call)).outputs.values())
    )
    ((name, watched, raw, run),) = seen
    assert (name, watched) == ("MatMulInteger of y", layer)
    zero = int(theirs(model(made.graph.node[0], {"x": x}, outputs=["z"]), {"x": x}))
    for row, column in np.ndindex(result.shape):
        end = arith.fold(raw[row].tolist(), w[:, column].tolist(), register)
        assert run.output[row, column] == end.output
        assert result[row, column] == end.output - zero * int(w[:, column].astype(int).sum())


GEMMS = [
    ({}, None), ({}, (4,)), ({}, (1, 4)), ({}, (3, 4)), ({}, (3, 1)), ({}, (1, 1)), ({}, ()), ({}, (1,)),
    ({"transA": 1}, (4,)), ({"transB": 1}, (4,)), ({"transA": 1, "transB": 1}, (3, 4)),
    ({"alpha": 0.5}, (4,)), ({"beta": 2.0}, (4,)), ({"alpha": 3.0, "beta": 0.25, "transB": 1}, (1, 4)), ({"beta": 0.0}, (4,)),
]  # fmt: skip


@pytest.mark.parametrize("constant", [True, False], ids=["layer", "matmul"])
@pytest.mark.parametrize(("how", "bias"), GEMMS, ids=str)
def test_gemm(how, bias, constant, random):
    """Of dequantized codes, in powers of two, where floats are exact: alpha, beta, every bias."""
    x = random.normal(0, 5, (5, 3) if how.get("transA") else (3, 5)).astype(np.float32)
    nodes, held = quantized("a", "x", 0.25, 100)
    w = codes(random, (4, 5) if how.get("transB") else (5, 4), I8)
    wd, weights = dequantized("w", w, 0.5)
    inputs = {"x": x}
    if not constant:
        inputs["w_codes"] = weights.pop("w_codes")
    names = ["a", "w"]
    if bias is not None:
        bd, more = dequantized("b", random.integers(-900, 900, bias, np.int32), 0.125)
        nodes, weights, names = [*nodes, bd], {**weights, **more}, [*names, "b"]
    made = model(
        [*nodes, wd, node("Gemm", names, **how)],
        {n: (v.dtype, v.shape) for n, v in inputs.items()},
        {**held, **weights},
    )
    found = checked(made, inputs)
    inside = [layer.bias is not None for layer in found.layers.values()]
    per_channel = bias in [(4,), (1, 4)]
    assert inside == [per_channel and not {"alpha", "beta"} & set(how)] * constant


@pytest.mark.parametrize("scale", [0.125, 0.12500001, 0.125001, 0.25])
def test_a_bias_starts_registers_in_their_unit_alone(scale, random):
    """One of another scale is added to the result."""
    nodes, held = quantized("a", "x", 0.25, 100)
    wd, weights = dequantized("w", codes(random, (5, 4), I8), 0.5)
    bd, more = dequantized("b", np.arange(4, dtype=np.int32), scale)
    made = model(
        [*nodes, wd, bd, node("Gemm", ["a", "w", "b"])],
        {"x": (np.float32, ["N", 5])},
        {**held, **weights, **more},
    )
    (layer,) = network(made).layers.values()
    assert (layer.bias is not None) == (scale < 0.125001)


@pytest.mark.parametrize("y", [True, False], ids=["codes", "floats"])
@pytest.mark.parametrize("how", [{}, {"transA": 1}, {"transB": 1}, {"alpha": 0.3}], ids=str)
@pytest.mark.parametrize("bias", [None, (4,), (1, 4), (3, 4), (3, 1)], ids=str)
def test_qgemm(bias, how, y, random):
    """onnxruntime's own, with or without a quantized result."""
    x = codes(random, (5, 3) if how.get("transA") else (3, 5))
    w = codes(random, (4, 5) if how.get("transB") else (5, 4), I8)
    held = {
        "s": np.float32(0.02),
        "z": U8(3),
        "w": w,
        "ws": np.float32([0.1, 0.2, 0.3, 0.4]),
        "wz": np.zeros(4, I8),
    }
    if bias:
        held["b"] = random.integers(-5000, 5000, bias, np.int32)
    names = [*held] + [""] * (not bias)
    if y:
        held |= {"ys": np.float32(0.7), "yz": U8(128)}
        names += ["ys", "yz"]
    made = model(node("QGemm", ["x", *names], domain=MICROSOFT, **how), {"x": (U8, x.shape)}, held)
    checked(made, {"x": x})


@pytest.mark.parametrize("bias", [True, False])
def test_matmul_integer_to_float(bias, random):
    """A scale for each column, computed zero points, a float bias."""
    x, w = codes(random, (3, 5)), codes(random, (5, 4), I8)
    held = {
        "w": w,
        "xs": np.float32(0.5),
        "ws": np.float32([0.5, 0.25, 2, 1]),
        "xz": U8(7),
        "wz": np.zeros(4, I8),
    }
    if bias:
        held["b"] = np.float32([1, 2, 3, 4])
    checked(
        model(node("MatMulIntegerToFloat", ["x", *held], domain=MICROSOFT), {"x": x}, held),
        {"x": x},
    )


TRANSPOSED = {
    "plain": ((2, 3, 3, 3), {}),
    "strided": ((2, 3, 3, 2), {"strides": [2, 3]}),
    "grown": ((2, 3, 3, 3), {"strides": [2, 3], "output_padding": [1, 2]}),
    "cut": ((2, 3, 3, 3), {"strides": [2, 2], "pads": [1, 0, 2, 1]}),
    "cut by more than the kernel": ((2, 3, 2, 2), {"strides": [3, 3], "pads": [2, 2, 2, 3]}),
    "dilated": ((2, 3, 2, 3), {"dilations": [3, 2], "strides": [2, 1]}),
    "groups": ((4, 2, 3, 3), {"group": 2, "strides": [2, 2]}),
    "same upper": ((2, 3, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": ((2, 3, 3, 4), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "shape": ((2, 3, 3, 3), {"output_shape": [9, 10], "strides": [2, 2]}),
    "shape, upper": ((2, 3, 3, 3), {"output_shape": [10, 9], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "valid": ((2, 3, 3, 3), {"auto_pad": "VALID", "strides": [2, 2]}),
    "one dimension": ((2, 3, 3), {"strides": [2], "pads": [1, 0], "output_padding": [1]}),
}  # fmt: skip


@pytest.mark.parametrize("case", TRANSPOSED)
def test_conv_transposed(case, random):
    """Of dequantized codes; scales are powers of two, one for each output channel."""
    shape, how = TRANSPOSED[case]
    groups = how.get("group", 1)
    x = random.normal(0, 5, (2, shape[0], 5, 5)[: len(shape)]).astype(np.float32)
    nodes, held = quantized("a", "x", 0.25, 100)
    scales = [0.5, 0.25, 1.0][: shape[1]]
    wd, weights = dequantized("w", codes(random, shape, I8), scales, np.zeros(shape[1]), axis=1)
    bd, more = dequantized(
        "b",
        np.arange(shape[1] * groups, dtype=np.int32),
        np.float32(scales * groups) / 4,
        np.zeros(shape[1] * groups),
        axis=0,
    )
    made = model(
        [*nodes, wd, bd, node("ConvTranspose", ["a", "w", "b"], **how)],
        {"x": x},
        {**held, **weights, **more},
    )
    (layer,) = checked(made, {"x": x}).layers.values()
    assert layer.taps == shape[0] // groups * np.prod(shape[2:])
    assert layer.bias is not None


@pytest.mark.parametrize("case", CONVS)
def test_conv(case, random):
    """Of dequantized codes; depthwise also with a scale for each input channel."""
    shape, how = CONVS[case]
    x = random.normal(0, 5, (2, 2, 7, 9)[: len(shape)]).astype(np.float32)
    scales = [0.25, 0.5] if case == "depthwise" else 0.25
    nodes, held = quantized("a", "x", scales, [100, 30] if case == "depthwise" else 100)
    wd, weights = dequantized(
        "w",
        codes(random, shape, I8),
        np.full(len(range(shape[0])), 0.5),
        np.zeros(shape[0]),
        axis=0,
    )
    made = model([*nodes, wd, node("Conv", ["a", "w"], **how)], {"x": x}, {**held, **weights})
    (layer,) = checked(made, {"x": x}).layers.values()
    assert layer.input_spec == (IntSpec(-100, 225) if case == "depthwise" else IntSpec(-100, 155))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.float32, np.float64])
def test_products_without_quantizers(dtype, random):
    """Integers are integers whatever their type, which is that of the result, too."""
    x, w = codes(random, (3, 5), I8), random.integers(0, 9, (5, 4)).astype(dtype)
    x = x.clip(min=0).astype(np.uint8) if dtype == np.uint32 else x
    cast = node("Cast", ["x"], "c", to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    checked(model([cast, node("MatMul", ["c", "w"])], {"x": x}, {"w": w}), {"x": x})


def test_sides_of_other_types(random):
    """Floats in an operator of integers, integers times floats, fractions of integers: no layers."""
    nodes, held = quantized("a", "x", 0.5, 100)
    w = codes(random, (5, 4), I8)
    wd, weights = dequantized("w", w, 0.5)
    held |= weights | {"i": np.ones((5, 4), np.int32), "z": U8(0), "f": np.ones((5, 4), np.float32)}
    cast = node("Cast", ["a_codes"], "c", to=6)
    other = "its sides are of other types than it multiplies"
    for last, why in (
        (node("MatMulInteger", ["a", "w_codes"]), other),
        (node("MatMulInteger", ["a_codes", "f"]), other),
        (node("MatMul", ["a_codes", "w"]), other),
        (node("MatMul", ["a", "w_codes"]), other),
        (node("Gemm", ["c", "i"], alpha=0.5), "it multiplies sums of an integer type by fractions"),
    ):
        made = model([*nodes, wd, cast, last], {"x": (np.float32, ["N", 5])}, held)
        assert list(network(made).untraced.values()) == [why]
    made = model(
        [*nodes, node("DequantizeLinear", ["a", "a_scale"])], {"x": (np.float32, ["N", 5])}, held
    )
    why = trace(graph_of(made))["y"].why
    assert why == "DequantizeLinear 'DequantizeLinear of y' is given no integer type"


def test_a_bias_that_is_computed(random):
    """It is added to the sums, whatever their register; also where images are as wide as channels."""
    for width in (5, 7):
        x, w = codes(random, (2, 2, 7, width + 2)), codes(random, (5, 2, 3, 3), I8)
        held = {
            "s": np.float32(0.02),
            "z": U8(7),
            "w": w,
            "ws": np.float32(0.1),
            "wz": I8(0),
            "ys": np.float32(3),
            "yz": U8(20),
        }
        inputs = {"x": x, "b": random.integers(-50_000, 50_000, 5, np.int32)}
        made = model(
            node("QLinearConv", ["x", *held, "b"]), {"x": (U8, x.shape), "b": (np.int32, [5])}, held
        )
        (layer,) = checked(made, inputs).layers.values()
        assert layer.bias is None


SEVERAL = [
    ("QLinearMatMul", {"s": np.float32([1, 2, 3])}, "it must have one scale of its input, not 3"),
    ("QLinearMatMul", {"ys": np.float32([1, 2, 3, 4])}, "it must have one scale, not 4"),
    ("QLinearMatMul", {"yz": np.zeros(4, U8)}, "it must have one zero point, not 4"),
]


@pytest.mark.parametrize(("op", "changed", "text"), SEVERAL)
def test_several_where_there_must_be_one(op, changed, text, random):
    """A scale or zero point for each row of the inputs or outputs is refused when it is run."""
    x, w = codes(random, (3, 5)), codes(random, (5, 4), I8)
    held = {
        "s": np.float32(0.1),
        "z": U8(5),
        "w": w,
        "ws": np.float32(0.1),
        "wz": I8(0),
        "ys": np.float32(3),
        "yz": U8(128),
    }
    made = model(node(op, ["x", *held]), {"x": x}, held | changed)
    with pytest.raises(ModelFileError) as raised:
        ours(made, {"x": x})
    assert str(raised.value) == f"node '{op} of y' ({op}) cannot be computed: {text}"


FORMS = [
    (node("Conv", ["x", "w"]), (2, 2, 3, 3, 3), "it is a convolution of 3 dimensions, not of 1 or 2"),
    (node("Conv", ["x", "w"], kernel_shape=[2, 2]), (2, 2, 3, 3), "its kernel_shape [2, 2] is not that of its weights"),
    (node("Conv", ["x", "w"], strides=[1]), (2, 2, 3, 3), "its strides must be a number for each dimension, not [1]"),
    (node("Conv", ["x", "w"], strides=[0, 1]), (2, 2, 3, 3), "its strides must be a number for each dimension, not [0, 1]"),
    (node("Conv", ["x", "w"], dilations=[2**20, 1]), (2, 2, 3, 3), "its dilations must be a number for each dimension, not [1048576, 1]"),
    (node("Conv", ["x", "w"], pads=[1, 1]), (2, 2, 3, 3), "its pads must be two numbers for each dimension, not [1, 1]"),
    (node("Conv", ["x", "w"], pads=[1, 1, 1, -1]), (2, 2, 3, 3), "its pads must be two numbers for each dimension, not [1, 1, 1, -1]"),
    (node("Conv", ["x", "w"], group=0), (2, 2, 3, 3), "group must be at least 1, not 0"),
    (node("Conv", ["x", "w"], group=3), (2, 2, 3, 3), "groups must divide the 2 output channels, not 3"),
    (node("ConvTranspose", ["x", "w"], group=3), (2, 2, 3, 3), "group must divide its 2 input channels, not be 3"),
    (node("MatMul", ["x", "w"]), (2, 5, 4), "its weights are not one matrix"),
    (node("MatMul", ["w", "x"]), (2, 5, 4), "its constant side is the left one, and not a plain matrix"),
    (node("Gemm", ["w", "x"]), (5, 4), "its constant side is the left one, and not a plain matrix"),
    (node("Einsum", ["x", "w"], equation="ij,jk->ik"), (5, 4), "Einsum is no product of one matrix of constant integers"),
]  # fmt: skip


@pytest.mark.parametrize(("last", "shape", "why"), FORMS, ids=[form[2] for form in FORMS])
def test_arrangements_that_are_no_layer(last, shape, why):
    """The reason is the node's own."""
    nodes, held = quantized("x", "i", 0.5, 100)
    made = model(
        [*nodes, last], {"i": (np.float32, None)}, held | {"w": np.ones(shape, np.float32)}
    )
    assert list(network(made).untraced.values()) == [why]
