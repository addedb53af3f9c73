"""Convolutions of every arrangement, plain and transposed, against onnxruntime's."""

import numpy as np
import pytest
from onnx_graphs import (
    QONNX,
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

from accsim import IntSpec, signed, unsigned

U8, I8 = np.uint8, np.int8


@pytest.fixture
def random():
    """The same numbers in each test."""
    return np.random.default_rng(7)


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


@pytest.mark.parametrize("half", [False, True], ids=["", "halved"])
@pytest.mark.parametrize("scale", [[0.25, 0.5], 0.25])
def test_depthwise_with_qonnx_scales(scale, half, random):
    """A scale for each channel is one for each register; without groups it would be several."""
    x = random.normal(0, 3, (2, 2, 5, 5)).astype(np.float32)
    scales = np.float32(scale).reshape(-1, 1, 1) if np.ndim(scale) else np.float32(scale)
    weights = codes(random, (2, 1, 3, 3), I8).astype(np.float32)
    held = {"s": scales, "z": np.float32(0), "b": np.float32(4), "h": np.float32(0.5)}
    nodes = [node("Quant", ["x", "s", "z", "b"], "q", domain=QONNX)]
    nodes += [node("Mul", ["q", "h"], "m")] if half else []  # from where codes are floats
    source, factor = ("m", np.float32(0.5)) if half else ("q", np.float32(1))
    for groups, w in ((2, weights), (1, np.ones((3, 2, 3, 3), np.float32))):
        last = node("Conv", [source, "w"], group=groups, name="c")
        made = model([*nodes, last], {"x": x}, held | {"w": w})
        found = network(made)
        if groups == 1 and np.ndim(scale):
            assert dict(found.untraced) == {"c": "its input has different scales within one sum"}
            continue
        (layer,) = found.layers.values()
        assert (layer.input_spec, layer.groups) == (signed(4), groups)
        real = (np.rint(x / scales).clip(-8, 7) * scales * factor).astype(np.float32)
        plain = model(node("Conv", ["x", "w"], group=groups), {"x": x}, {"w": w})
        assert equal(ours(made, {"x": x}), theirs(plain, {"x": real}))
