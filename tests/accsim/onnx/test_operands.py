"""What is no operand of an integer product, and the reasons that are told."""

import numpy as np
import pytest
from onnx_graphs import (
    dequantized,
    model,
    network,
    node,
    quantized,
)

from accsim.onnx.graph import graph_of
from accsim.onnx.trace import trace

F = np.float32


WHY = {
    "constants of different scales": (
        lambda: _embedding(),
        "its input 'g' is not quantized: Gather 'Gather of g' moves constants of different scales",
    ),
    "both constant": (lambda: _both_constant(), "its input has different scales within one sum"),
    "rows of weights": (lambda: _rows(), "its weights have different scales within one sum"),
    "channels of inputs": (lambda: _channels(), "its input has different scales within one sum"),
    "computed scale": (
        lambda: _computed_scale(),
        "its input 'a' is not quantized: DequantizeLinear 'DequantizeLinear of a' has 's', which is"
        " not constant",
    ),
    "training": (lambda: _dropout(), "its input 'd' is not quantized: Dropout 'Dropout of d' may be that of training"),
    "blocks": (lambda: _blocks(), "its input 'w' is not quantized: DequantizeLinear 'DequantizeLinear of w' has a scale for each"
        " block of codes"),
}  # fmt: skip


def _weights(**how):
    return dequantized("w", np.arange(-6, 6, dtype=np.int8).reshape(4, 3), 0.5, **how)


def _embedding():
    rows, held = dequantized(
        "e",
        np.arange(40, dtype=np.int8).reshape(10, 4),
        np.linspace(0.1, 1, 10),
        np.zeros(10),
        axis=0,
    )
    w, more = _weights()
    return model(
        [rows, node("Gather", ["e", "x"], "g"), w, node("MatMul", ["g", "w"])],
        {"x": (np.int64, ["N"])},
        {**held, **more},
    )


def _both_constant():
    rows, held = dequantized(
        "e",
        np.arange(40, dtype=np.int8).reshape(10, 4),
        np.linspace(0.1, 1, 10),
        np.zeros(10),
        axis=0,
    )
    w, more = _weights()
    return model(
        [rows, w, node("MatMul", ["e", "w"], "m"), node("Add", ["m", "x"])],
        {"x": (F, [10, 3])},
        {**held, **more},
    )


def _rows():
    nodes, held = quantized("a", "x", 0.5, 0)
    w, more = dequantized(
        "w", np.arange(12, dtype=np.int8).reshape(4, 3), [1, 2, 3, 4], np.zeros(4), axis=0
    )
    return model([*nodes, w, node("MatMul", ["a", "w"])], {"x": (F, ["N", 4])}, {**held, **more})


def _channels():
    nodes, held = quantized("a", "x", [1, 2, 3, 4], [0] * 4)
    w, more = _weights()
    return model([*nodes, w, node("MatMul", ["a", "w"])], {"x": (F, ["N", 4])}, {**held, **more})


def _computed_scale():
    w, more = _weights()
    nodes = [
        node("ReduceMax", ["x"], "s", keepdims=0),
        node("QuantizeLinear", ["x", "s"], "q"),
        node("DequantizeLinear", ["q", "s"], "a"),
    ]
    return model([*nodes, w, node("MatMul", ["a", "w"])], {"x": (F, ["N", 4])}, more)


def _dropout():
    nodes, held = quantized("a", "x", 0.5, 0)
    w, more = _weights()
    drop = node("Dropout", ["a", "", "t"], "d")
    return model(
        [*nodes, drop, w, node("MatMul", ["d", "w"])],
        {"x": (F, ["N", 4]), "t": (bool, [])},
        {**held, **more},
    )


def _blocks():
    nodes, held = quantized("a", "x", 0.5, 0)
    w, more = dequantized(
        "w",
        np.arange(12, dtype=np.int8).reshape(4, 3),
        np.ones((2, 3)),
        np.zeros((2, 3)),
        axis=0,
        block_size=2,
    )
    return model([*nodes, w, node("MatMul", ["a", "w"])], {"x": (F, ["N", 4])}, {**held, **more})


@pytest.mark.parametrize("case", WHY)
def test_what_is_not_believed(case):
    """It is listed by the product's name, with the reason that names the node."""
    made, why = WHY[case]
    found = network(made())
    assert list(found.untraced.values()) == [why]
    assert (dict(found.layers), dict(found.matmuls)) == ({}, {})


def test_nothing_is_concluded_from_sums():
    """They wrap in a narrow register: what comes out of a product has no range of its own."""
    nodes, held = quantized("a", "x", 0.5, 0)
    w, more = _weights()
    made = model(
        [*nodes, w, node("MatMul", ["a", "w"], "m"), node("Relu", ["m"])],
        {"x": (F, ["N", 4])},
        {**held, **more},
    )
    known = trace(graph_of(made))
    assert (known["m"].low, known["m"].high, known["m"].grid) == (-np.inf, np.inf, None)
    assert (known["y"].low, known["y"].high, known["y"].grid) == (0, np.inf, None)
