"""Float operators of our own, against onnxruntime: what lies between integer products."""

import numpy as np
import pytest
from onnx_graphs import (
    QONNX,
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

from accsim import Accumulator
from accsim.errors import ModelFileError

F = np.float32


@pytest.fixture
def random():
    """The same numbers in each test."""
    return np.random.default_rng(11)


def near(made, inputs):
    """Equal to onnxruntime but for roundings of sums."""
    result, wanted = ours(made, inputs), theirs(made, inputs)
    assert (result.dtype, result.shape) == (wanted.dtype, wanted.shape)
    np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-5)


CONVS = [
    ("Conv", (4, 2, 3, 3), {}),
    ("Conv", (4, 2, 3, 2), {"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]}),
    ("Conv", (4, 1, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    ("Conv", (3, 2, 4), {"auto_pad": "SAME_LOWER"}),
    ("ConvTranspose", (2, 3, 3, 3), {"strides": [2, 2], "output_padding": [1, 0], "pads": [1, 1, 0, 1]}),
    ("ConvTranspose", (2, 3, 3), {"group": 2, "dilations": [2]}),
]  # fmt: skip


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("op", "shape", "how"), CONVS, ids=str)
def test_convolution(op, shape, how, bias, random):
    """Both kinds, with all that they have."""
    x = random.normal(0, 1, (2, 2, 7, 6)[: len(shape)]).astype(F)
    held = {"w": random.normal(0, 1, shape).astype(F)}
    if bias:
        count = shape[0] if op == "Conv" else shape[1] * how.get("group", 1)
        held["b"] = random.normal(0, 1, count).astype(F)
    near(model(node(op, ["x", *held], **how), {"x": x}, held), {"x": x})


@pytest.mark.parametrize("opset", [7, 8, 9, 14, 15, 21])
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (3, 4, 5, 2)])
def test_batch_normalization(opset, shape, random):
    """As at inference, in every version, momentum or not."""
    x = random.normal(0, 1, shape).astype(F)
    held = {name: random.uniform(0.5, 2, 4).astype(F) for name in ("scale", "bias", "mean", "var")}
    for how in ({}, {"momentum": 0.3, "epsilon": 0.01}):
        near(
            model(node("BatchNormalization", ["x", *held], **how), {"x": x}, held, opset=opset),
            {"x": x},
        )


@pytest.mark.parametrize(
    ("how", "opset", "text"),
    [
        ({"training_mode": 1}, 15, "training_mode must be 0: a network is run as it is deployed"),
        ({"spatial": 0}, 7, "spatial must be 1: a channel has one mean"),
    ],
)
def test_batch_normalization_that_is_refused(how, opset, text):
    """In training, or of each pixel."""
    held = dict.fromkeys(("scale", "bias", "mean", "var"), np.ones(1, F))
    outputs = ["y", "m", "v"] if "training_mode" in how else "y"
    made = model(
        node("BatchNormalization", ["x", *held], outputs, **how),
        {"x": np.ones((2, 1, 4, 4), F)},
        held,
        opset=opset,
        outputs=["y"],
    )
    with pytest.raises(ModelFileError) as raised:
        ours(made, {"x": np.ones((2, 1, 4, 4), F)})
    name = outputs if outputs == "y" else "y"
    assert str(raised.value) == f"node 'BatchNormalization of {name}' (BatchNormalization): {text}"


POOLS = [
    {"kernel_shape": [2, 2]}, {"kernel_shape": [3, 2], "strides": [2, 1]},
    {"kernel_shape": [3, 3], "pads": [1, 0, 2, 1], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "dilations": [2, 1]},
    {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 3], "auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"kernel_shape": [2, 2], "auto_pad": "VALID", "strides": [3, 3]},
]  # fmt: skip


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("how", POOLS, ids=str)
def test_max_pool(how, coded, random):
    """Of floats, and of codes that stay codes."""
    x = random.normal(0, 1, (2, 3, 7, 8)).astype(F)
    nodes, held = quantized("a", "x", 0.1, 128) if coded else ([], {})
    made = model([*nodes, node("MaxPool", ["a" if coded else "x"], **how)], {"x": x}, held)
    assert equal(ours(made, {"x": x}), theirs(made, {"x": x}))


@pytest.mark.parametrize("shape", [(2, 3, 9), (1, 2, 5, 5, 5)])
def test_max_pool_of_other_dimensions(shape, random):
    """One, three."""
    x = random.normal(0, 1, shape).astype(F)
    made = model(node("MaxPool", ["x"], kernel_shape=[2] * (len(shape) - 2)), {"x": x})
    assert equal(ours(made, {"x": x}), theirs(made, {"x": x}))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_max_pool_of_codes(dtype, random):
    """Padding is below every code."""
    x = random.integers(*(np.iinfo(dtype).min, np.iinfo(dtype).max), (1, 2, 5, 5), dtype)
    made = model(node("MaxPool", ["x"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]), {"x": x})
    assert equal(ours(made, {"x": x}), theirs(made, {"x": x}))


def test_a_window_that_does_not_fit():
    """It is refused by name."""
    x = np.ones((1, 1, 2, 2), F)
    for how in ({"kernel_shape": [3, 1]}, {"kernel_shape": [9, 9]}):
        with pytest.raises(ModelFileError) as raised:
            ours(model(node("MaxPool", ["x"], **how), {"x": x}), {"x": x})
        assert (
            str(raised.value) == "node 'MaxPool of y' (MaxPool): its window must fit into its input"
        )


def test_relu_and_moves_keep_codes(random):
    """Codes reach the next product as they are, through what only moves or clamps them."""
    x = random.normal(0, 30, (6, 2, 4)).astype(F)
    nodes, held = quantized("a", "x", 0.37, 100)
    w, more = dequantized("w", random.integers(-9, 9, (4, 3), np.int8), 0.11)
    moves = [
        node("Relu", ["a"], "r"),
        node("Transpose", ["r"], "t", perm=[1, 0, 2]),
        node("Reshape", ["t", "s"], "f"),
        node("Split", ["f"], ["l", "m"], num_outputs=2, axis=0),
    ]
    held |= more | {"s": np.array([12, 4])}
    made = model([*nodes, *moves, w, node("MatMul", ["m", "w"], name="p")], {"x": x}, held)
    seen = []
    network(made).run(x, WIDE, watch=lambda *call: seen.append(call), batch=6)
    codes = np.clip(np.rint(x / F(0.37)), -100, 155).clip(min=0)
    assert np.array_equal(seen[0][2], codes.transpose(1, 0, 2).reshape(12, 4)[6:])
    assert seen[0][1].input_spec.max == 155


def test_floats_that_overflow_are_silent():
    """Infinities and NaN are what the formats say; a product of them is refused."""
    x = np.full((1, 4), 3e38, F)
    made = model([node("Add", ["x", "x"], "d"), node("Sub", ["d", "d"])], {"x": x})
    assert np.isnan(ours(made, {"x": x})).all()
    made = model(
        node("Conv", ["x", "w"]), {"x": x.reshape(1, 4, 1, 1)}, {"w": np.full((1, 4, 1, 1), 2, F)}
    )
    # a constant of whole numbers times floats: no integer product, and inf as in float32
    assert np.isposinf(ours(made, {"x": x.reshape(1, 4, 1, 1)})).all()


def test_foreign_operators_are_listed_and_cannot_run():
    """They may multiply, and are never dropped."""
    x = np.ones((1, 4), F)
    for domain, op in (
        ("com.microsoft", "FusedMatMul"),
        ("com.microsoft", "QLinearConv"),
        ("mine", "Foo"),
        (QONNX, "XnorPopcountMatMul"),
    ):
        made = model(node(op, ["x", "x"], name="n", domain=domain), {"x": x}, domains={domain: 1})
        found = network(made)
        said = (
            f"{op} is no product of one matrix of constant integers"
            if domain == QONNX
            else f"{op} of the domain {domain!r} is not known"
        )
        assert dict(found.untraced) == {"n": said}
        with pytest.raises(ModelFileError, match=rf"^node 'n' \({op}\) cannot be computed: "):
            found.run(x, Accumulator(8))
