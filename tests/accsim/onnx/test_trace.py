"""What is constant is computed before anything is run, with its integers, within limits."""

import tracemalloc

import numpy as np
import pytest
from onnx import helper
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
    tensor,
)

from accsim import between, signed
from accsim.onnx.graph import graph_of
from accsim.onnx.known import constant, integer_ends, integers
from accsim.onnx.trace import trace

F = np.float32
W = np.arange(-6, 6, dtype=np.int8).reshape(4, 3)
MOVES = {
    "Transpose": ([node("Transpose", ["v"], "w")], np.ascontiguousarray(W.T)),
    "Reshape": ([node("Reshape", ["v", "s"], "w")], W.reshape(2, 6)),
    "twice": (
        [node("Reshape", ["v", "s"], "t"), node("Reshape", ["t", "z"], "w")],
        W.reshape(6, 2),
    ),
    "Identity": ([node("Identity", ["v"], "w")], W),
    "Slice": ([node("Slice", ["v", "b", "e"], "w")], np.vstack([W, W])),
    "Split": ([node("Split", ["v"], ["", "w"], num_outputs=2)], np.vstack([W + 1, W])),
}


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("case", MOVES)
def test_weights_that_are_moved(case, per_channel):
    """Their integers, and the scales of their channels, go with them."""
    moves, before = MOVES[case]
    nodes, held = quantized("a", "x", 0.5, 0)
    held |= {"s": np.array([4, 3]), "z": np.array([4, 3]), "b": np.array([4]), "e": np.array([8])}
    axis = 0 if case == "Transpose" else 1
    size = before.shape[axis]
    scale, zero = (np.arange(1, size + 1) / 4, np.zeros(size)) if per_channel else (0.25, 0)
    v, more = dequantized("v", before, scale, zero, **({"axis": axis} if per_channel else {}))
    made = model([*nodes, v, *moves, node("MatMul", ["a", "w"])], {"x": (F, ["N", 4])}, held | more)
    found = network(made)
    if per_channel and case in ("Reshape", "twice"):
        assert list(found.untraced.values()) == ["its weights have different scales within one sum"]
        return
    (layer,) = found.layers.values()
    assert np.array_equal(layer.weight, W.T)
    assert layer.weight_spec == signed(8)
    x = np.arange(8, dtype=F).reshape(2, 4)
    scales = np.broadcast_to(scale, 3).astype(F)
    assert equal(ours(made, {"x": x}), (x @ (W * scales)).astype(F))


def test_weights_through_quantizers():
    """Float weights, quantized in the file: clipped, narrow, to the types' whole ranges."""
    x, kernel = quantized("a", "x", 0.5, 0)
    fractions = (W / 7).astype(F)
    held = kernel | {"v": fractions, "s": F(0.1), "z": F(0), "b": F(4)}
    quant = node("Quant", ["v", "s", "z", "b"], "w", domain=QONNX, narrow=1, signed=1)
    (layer,) = network(
        model([*x, quant, node("MatMul", ["a", "w"])], {"x": (F, ["N", 4])}, held)
    ).layers.values()
    assert np.array_equal(layer.weight, np.rint(fractions / F(0.1)).clip(-7, 7).T)
    assert layer.weight_spec == signed(4, narrow=True)
    clips = [
        node("QuantizeLinear", ["v", "s", "i"], "q"), node("Clip", ["q", "l", "h"], "c"),
        node("DequantizeLinear", ["c", "s", "i"], "w"),
    ]  # fmt: skip
    held |= {"i": np.int8(0), "l": np.int8(-3), "h": np.int8(5)}
    (layer,) = network(
        model([*x, *clips, node("MatMul", ["a", "w"])], {"x": (F, ["N", 4])}, held)
    ).layers.values()
    assert np.array_equal(layer.weight, np.rint(fractions / F(0.1)).clip(-3, 5).T)
    assert layer.weight_spec == between(-3, 5)


@pytest.mark.parametrize(
    "how", [{"value": tensor(W.astype(F), "t")}, {"value": tensor(W, "t")}], ids=["float", "int8"]
)
def test_constant_nodes(how):
    """Whole floats are integers, too; integers of a small type have all of its range."""
    x, held = quantized("a", "x", 1, 0)
    op = "MatMul" if how["value"].data_type == 1 else "MatMulInteger"
    source = "a" if op == "MatMul" else "a_codes"
    nodes = [*x, node("Constant", [], "w", **how), node(op, [source, "w"])]
    (layer,) = network(model(nodes, {"x": (F, ["N", 4])}, held)).layers.values()
    assert np.array_equal(layer.weight, W.T)
    assert layer.weight_spec == (between(-6, 5) if op == "MatMul" else signed(8))


@pytest.mark.parametrize(
    ("key", "value", "dtype"),
    [
        ("value_float", 2.5, F),
        ("value_int", 7, np.int64),
        ("value_floats", [1.0, 2.0], F),
        ("value_ints", [1, 2], np.int64),
    ],
)
def test_other_constants(key, value, dtype):
    """Numbers and rows of numbers."""
    made = model(
        [node("Constant", [], "c", **{key: value}), node("Identity", ["x"])],
        {"x": np.ones((1, 2), F)},
    )
    fact = trace(graph_of(made))["c"]
    assert equal(fact.constant, np.asarray(value, dtype))


def test_constants_that_are_no_numbers():
    """Text in a constant is told where it matters."""
    made = model(
        [
            helper.make_node("Constant", [], ["c"], "n", value_string="text"),
            node("Identity", ["x"]),
        ],
        {"x": np.ones((1, 2), F)},
    )
    assert trace(graph_of(made))["c"].why == "it comes from Constant 'n', which holds no numbers"


def test_what_is_known_of_constants():
    """Integers, whole floats, fractions; what no register holds."""
    assert (
        constant(np.array([1, 2], np.uint8)).grid.low,
        constant(np.array([1, 2], np.uint8)).grid.high,
    ) == (0, 255)
    assert (constant(np.array([1, -2])).grid.low, constant(np.array([1, -2])).grid.high) == (-2, 1)
    assert constant(np.array([1, -2], F)).grid.codes.tolist() == [1, -2]
    assert constant(np.array([0.5], F)).why == "it is a constant of fractions"
    assert (
        constant(np.ones(0, F)).why == constant(np.array([True])).why == "it is no array of numbers"
    )
    for array in ([np.nan], [np.inf], [2.0**62]):
        assert constant(np.array(array)).why == "it has numbers that no register holds"
    for array in (
        np.array([2**63], np.uint64),
        np.array([2**62]),
        np.array([-(2**63)]),
        np.array([2**61]),
    ):
        assert constant(array).why == "it has numbers that no register holds"
    assert constant(np.array([2**61 - 1, -(2**61) + 2])).grid.high == 2**61 - 1
    assert integers(-3, 5).whole
    assert (integer_ends(np.dtype(np.uint16)), integer_ends(np.dtype(np.int8))) == (
        (0, 65535),
        (-128, 127),
    )


def test_small_files_do_not_grow():
    """Constants that are computed are limited by those in the file, all of them together."""
    wide = [node("Add", ["r", "c"], "w"), node("Add", ["x", "w"])]
    held = {"r": np.ones((1, 2**13), F), "c": np.ones((2**13, 1), F)}
    many = [node("Add", [f"v{i}" if i else "r", "c"], f"v{i + 1}") for i in range(400)]
    small = {"r": np.ones((1, 2**9), F), "c": np.ones((2**9, 1), F)}
    for nodes, constants in ((wide, held), ([*many, node("Add", ["x", "v400"])], small)):
        graph = graph_of(model(nodes, {"x": np.ones((1, 1), F)}, constants))
        tracemalloc.start()
        known = trace(graph)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**28
        assert known["y"].grid is None
    assert known["v1"].constant is not None
    assert known["v400"].constant is None


def test_inputs_of_integers():
    """Their type is their range; of 64 bits nothing is said."""
    for dtype, wanted in (
        (np.uint8, (0, 255)),
        (np.int32, (-(2**31), 2**31 - 1)),
        (np.int64, None),
    ):
        made = model(node("Identity", ["x"]), {"x": (dtype, ["N", 2])})
        grid = trace(graph_of(made))["y"].grid
        assert (grid and (grid.low, grid.high)) == wanted


def test_indices_of_a_pool_are_not_its_values():
    """Only the first output is what the rule tells."""
    nodes, held = quantized("a", "x", 0.5, 0)
    pool = node("MaxPool", ["a"], ["y", "i"], kernel_shape=[2, 2], name="pool")
    known = trace(graph_of(model([*nodes, pool], {"x": np.ones((1, 1, 4, 4), F)}, held)))
    assert known["y"].grid is not None
    assert (known["i"].grid, known["i"].why) == (None, "it comes from MaxPool 'pool'")


def test_a_split_of_activations():
    """All of its parts are on the grid; one that is left out moves no other."""
    nodes, held = quantized("a", "x", 0.5, 0)
    w, more = dequantized("w", W[:2], 0.25)
    split = node("Split", ["a"], ["", "m"], num_outputs=2, axis=1, name="split")
    made = model([*nodes, split, w, node("MatMul", ["m", "w"])], {"x": (F, ["N", 4])}, held | more)
    x = np.arange(8, dtype=F).reshape(2, 4)
    seen = []
    network(made).run(x, WIDE, watch=lambda *call: seen.append(call[2]))
    assert seen[0].tolist() == (x[:, 2:] * 2).tolist()
