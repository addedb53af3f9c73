"""onnxruntime's operators of codes, against onnxruntime: all codes, extreme scales, other shapes."""

import numpy as np
import pytest
from onnx_graphs import MICROSOFT, equal, model, network, node, ours, theirs

U8, I8, F = np.uint8, np.int8, np.float32
ENDS = {U8: (0, 255), I8: (-128, 127)}


def every(dtype):
    """All codes, as a batch of one."""
    low, high = ENDS[dtype]
    return np.arange(low, high + 1).astype(dtype)[None]


def run(op, inputs, held, **attributes):
    """Our result and onnxruntime's, of a node that reads all `inputs` and `held`, in this order."""
    names = attributes.pop("names", [*inputs, *held])
    made = model(node(op, names, domain=MICROSOFT, **attributes), inputs, held)
    found = network(made)
    assert (dict(found.layers), dict(found.untraced)) == ({}, {})
    return ours(made, inputs), theirs(made, inputs)


@pytest.mark.parametrize("dtype", [U8, I8])
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_two_sides(op, dtype):
    """All pairs of codes, several scales and zero points."""
    a, b = (side.reshape(-1).astype(dtype) for side in np.meshgrid(every(dtype), every(dtype)))
    for scales in ((0.1, 0.2, 0.3), (0.013, 0.5, 0.007), (1, 1, 1), (0.1, 0.1, 0.2), (0.3, 0.3, 4)):
        for zeros in ((0, 0, 0), (3, 100, 7), ENDS[dtype] + (0,)):
            held = {}
            for place, (scale, zero) in enumerate(zip(scales, zeros, strict=True)):
                held |= {f"s{place}": F(scale), f"z{place}": np.array(zero, dtype)}
            names = ["a", "s0", "z0", "b", "s1", "z1", "s2", "z2"]
            result, wanted = run(op, {"a": a[None], "b": b[None]}, held, names=names)
            assert equal(result, wanted), (scales, zeros)


@pytest.mark.parametrize("dtype", [U8, I8])
def test_sides_that_are_broadcast(dtype):
    """As numpy broadcasts."""
    x = every(dtype)
    held = {"s": F(0.1), "z": np.array(9, dtype), "b": np.array(50, dtype)}
    names = ["x", "s", "z", "b", "s", "z", "s", "z"]
    result, wanted = run("QLinearAdd", {"x": x}, held, names=names)
    assert equal(result, wanted)


@pytest.mark.parametrize("dtype", [U8, I8])
@pytest.mark.parametrize("scale", [0.001, 0.03, 0.2, 3])
@pytest.mark.parametrize(
    ("op", "how"),
    [("QLinearSigmoid", {}), ("QLinearLeakyRelu", {}), ("QLinearLeakyRelu", {"alpha": 0.3})],
)
def test_one_side(op, how, scale, dtype):
    """Each code, whatever its zero point."""
    for zero in (*ENDS[dtype], 5):
        held = {
            "s": F(scale),
            "z": np.array(zero, dtype),
            "ys": F(1 / 256),
            "yz": np.array(1, dtype),
        }
        result, wanted = run(op, {"x": every(dtype)}, held, **how)
        assert equal(result, wanted)


@pytest.mark.parametrize("dtype", [U8, I8])
@pytest.mark.parametrize(
    "how",
    [
        {"axis": -1, "opset": 13},
        {"axis": 1, "opset": 13},
        {"axis": 1, "opset": 12},
        {"axis": 2, "opset": 11},
    ],
)
def test_softmax(how, dtype):
    """Along one axis, or, as before opset 13, over all from one on.

    onnxruntime sums tables of exponentials in another order: a code may differ by 1.
    """
    random = np.random.default_rng(2)
    x = random.integers(*ENDS[dtype], (3, 6, 7), dtype, endpoint=True)
    for scale in (0.01, 0.1, 0.4):
        held = {
            "s": F(scale),
            "z": np.array(3, dtype),
            "ys": F(1 / 256),
            "yz": np.array(ENDS[dtype][0], dtype),
        }
        result, wanted = run("QLinearSoftmax", {"x": x}, held, **how)
        assert result.dtype == wanted.dtype
        assert np.abs(result.astype(int) - wanted).max() <= 1
        assert (result != wanted).mean() < 0.02


@pytest.mark.parametrize("dtype", [U8, I8])
@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 5, 7, 3), (2, 2, 1, 1)])
def test_global_average_pool(shape, dtype):
    """Averages over images."""
    random = np.random.default_rng(3)
    for scale, zero in ((0.1, 0), (0.07, 100), (2.5, ENDS[dtype][1])):
        x = random.integers(*ENDS[dtype], shape, dtype, endpoint=True)
        held = {"s": F(0.1), "z": np.array(zero, dtype), "ys": F(scale), "yz": np.array(7, dtype)}
        result, wanted = run("QLinearGlobalAveragePool", {"x": x}, held, channels_last=0)
        assert equal(result, wanted)


@pytest.mark.parametrize("dtype", [U8, I8])
def test_concat(dtype):
    """Each with a scale and zero point of its own."""
    a, b = every(dtype), every(dtype)[:, ::-1]
    held = {
        "s": F(0.1),
        "z": np.array(3, dtype),
        "s1": F(0.2),
        "z1": np.array(9, dtype),
        "s2": F(0.013),
        "z2": np.array(0, dtype),
    }
    names = ["s", "z", "a", "s1", "z1", "b", "s2", "z2"]
    result, wanted = run("QLinearConcat", {"a": a, "b": b}, held, names=names, axis=1)
    assert equal(result, wanted)


@pytest.mark.parametrize("dtype", [U8, I8])
def test_where(dtype):
    """Of two values the one that a third chooses."""
    a, b = every(dtype), every(dtype)[:, ::-1]
    inputs = {"c": (np.arange(256) % 3 == 0)[None], "a": a, "b": b}
    held = {
        "s1": F(0.2),
        "z1": np.array(9, dtype),
        "s2": F(0.013),
        "z2": np.array(0, dtype),
        "s": F(0.1),
        "z": np.array(3, dtype),
    }
    names = ["c", "a", "s1", "z1", "b", "s2", "z2", "s", "z"]
    result, wanted = run("QLinearWhere", inputs, held, names=names)
    assert equal(result, wanted)


WINDOWS = [
    {"kernel_shape": [2, 2]}, {"kernel_shape": [3, 2], "strides": [2, 1]},
    {"kernel_shape": [3, 3], "pads": [1, 0, 2, 1], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"}, {"kernel_shape": [3, 3], "auto_pad": "SAME_LOWER", "strides": [2, 2]},
]  # fmt: skip


@pytest.mark.parametrize("dtype", [U8, I8])
@pytest.mark.parametrize("how", WINDOWS, ids=str)
def test_average_pool(how, dtype):
    """Averages over windows; padding counts as 0 or not at all."""
    random = np.random.default_rng(3)
    for scale, zero in ((0.1, 0), (0.07, 100), (2.5, ENDS[dtype][1]), (0.05, 1)):
        x = random.integers(*ENDS[dtype], (2, 3, 7, 8), dtype, endpoint=True)
        held = {"s": F(0.1), "z": np.array(zero, dtype), "ys": F(scale), "yz": np.array(7, dtype)}
        result, wanted = run("QLinearAveragePool", {"x": x}, held, **how)
        assert equal(result, wanted)


@pytest.mark.parametrize("dtype", [U8, I8])
def test_zero_points_that_are_left_out(dtype):
    """They are 0, of the type of the codes."""
    x, held = every(dtype), {"s": F(0.1), "t": F(0.2), "z": np.zeros((), dtype)}
    image = x.reshape(1, 1, 16, 16)
    for op, given, short, whole, how in (
        (
            "QLinearAdd",
            x,
            ["x", "s", "", "x", "s", "", "t", ""],
            ["x", "s", "z", "x", "s", "z", "t", "z"],
            {},
        ),
        ("QLinearSigmoid", x, ["x", "s", "", "t"], ["x", "s", "z", "t", "z"], {}),
        (
            "QLinearAveragePool",
            image,
            ["x", "s", "", "t", ""],
            ["x", "s", "z", "t", "z"],
            {"kernel_shape": [2, 2]},
        ),
        ("QLinearGlobalAveragePool", image, ["x", "s", "", "t"], ["x", "s", "z", "t", "z"], {}),
    ):
        one, other = (
            ours(model(node(op, names, domain=MICROSOFT, **how), {"x": given}, held), {"x": given})
            for names in (short, whole)
        )
        assert equal(one, other)
