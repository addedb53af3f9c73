"""Integer products of every kind and arrangement, against onnxruntime's and the definition."""

import numpy as np
import onnx
import pytest
from onnx_graphs import (
    MICROSOFT,
    checked,
    codes,
    dequantized,
    equal,
    model,
    network,
    node,
    ours,
    quantized,
    theirs,
)

from accsim import Accumulator, IntSpec, arith, unsigned
from accsim.errors import ModelFileError
from accsim.network import MatMul
from accsim.onnx.graph import graph_of
from accsim.onnx.trace import trace

U8, I8 = np.uint8, np.int8


@pytest.fixture
def random():
    """The same numbers in each test."""
    return np.random.default_rng(7)


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
