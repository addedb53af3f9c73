"""Whether inputs may be run in parts: only where every node keeps rows apart."""

import numpy as np
import pytest
from onnx_graphs import MICROSOFT, dequantized, model, network, node, ours, quantized, value

F, I = np.float32, np.int64  # noqa: E741
APART = [  # a node of a value x (N, 4, 6), constants, and whether rows stay apart
    (node("Relu", ["x"]), {}, True),
    (node("Softmax", ["x"], axis=2), {}, True),
    (node("Softmax", ["x"], axis=-1), {}, True),
    (node("Softmax", ["x"], axis=-3), {}, False),
    (node("Softmax", ["x"], axis=0), {}, False),
    (node("LayerNormalization", ["x", "s"], axis=-2), {"s": np.ones((4, 6), F)}, True),
    (node("LayerNormalization", ["x", "s"], axis=0), {"s": np.ones(6, F)}, False),
    (node("ReduceMean", ["x", "a"]), {"a": np.array([-2], I)}, True),
    (node("ReduceMean", ["x", "a"]), {"a": np.array([1, -3], I)}, False),
    (node("ReduceMean", ["x"]), {}, False),
    (node("CumSum", ["x", "a"]), {"a": np.array(1, I)}, False),  # not known
    (node("Transpose", ["x"], perm=[0, 2, 1]), {}, True),
    (node("Transpose", ["x"], perm=[1, 0, 2]), {}, False),
    (node("Transpose", ["x"]), {}, False),
    (node("Reshape", ["x", "to"]), {"to": np.array([0, 24], I)}, True),
    (node("Reshape", ["x", "to"]), {"to": np.array([-1, 12], I)}, True),
    (node("Reshape", ["x", "to"]), {"to": np.array([4, -1], I)}, False),
    (node("Flatten", ["x"]), {}, True),
    (node("Flatten", ["x"], axis=0), {}, False),
    (node("Unsqueeze", ["x", "a"]), {"a": np.array([-1], I)}, True),
    (node("Unsqueeze", ["x", "a"]), {"a": np.array([0], I)}, False),
    (node("Concat", ["x", "x"], axis=1), {}, True),
    (node("Concat", ["x", "x"], axis=0), {}, False),
    (node("Split", ["x"], ["y", "z"], axis=1, num_outputs=2), {}, True),
    (node("Split", ["x"], ["y", "z"], num_outputs=2), {}, False),
    (node("MatMul", ["x", "w"]), {"w": np.ones((6, 2), F)}, True),
    (node("MatMul", ["w", "x"]), {"w": np.ones((2, 4), F)}, True),
    (node("MatMul", ["x", "x"]), {}, True),
    (node("QLinearSoftmax", ["x"], domain=MICROSOFT, axis=2), {}, True),
    (node("QLinearSoftmax", ["x"], domain=MICROSOFT, axis=0), {}, False),
    (node("Add", ["x", "c"]), {"c": np.ones((1, 4, 6), F)}, True),
    (node("Add", ["x", "c"]), {"c": np.ones((4, 6), F)}, True),
    (node("Add", ["x", "c"]), {"c": np.ones((1, 1, 4, 6), F)}, False),
    (node("Mul", ["x", "c"]), {"c": np.ones((2, 4, 6), F)}, False),
    (node("MatMul", ["x", "w"]), {"w": np.ones((1, 1, 6, 2), F)}, False),
    (node("Conv", ["c", "x"]), {"c": np.ones((1, 1, 1), F)}, False),
    (node("Reshape", ["x", "to"]), {"to": np.array([-1, 5], I)}, False),
    (node("Reshape", ["x", "to"]), {"to": np.array([np.nan], F)}, False),
    (node("MaxPool", ["x"], ["y", "places"], kernel_shape=[1]), {}, False),
    (node("QuickGelu", ["x"], domain=MICROSOFT), {}, False),  # not known
    (node("Magic", ["x"], domain="foreign"), {}, False),
]


def made(one, constants, shape=("N", 4, 6)):
    """A model whose input and output share a batch of open size."""
    graph = model(one, {"x": (F, list(shape))}, constants, domains={"foreign": 1})
    graph.graph.output[0].CopyFrom(value("y", F, ["N", None]))
    return graph


@pytest.mark.parametrize(
    ("one", "constants", "apart"), APART, ids=lambda v: getattr(v, "op_type", "")
)
def test_nodes(one, constants, apart):
    """Each node, beside others that keep rows apart or not."""
    assert network(made(one, constants)).rows_apart is apart


@pytest.mark.parametrize(
    ("one", "constants"),
    [
        (node("MatMul", ["x", "x"]), {}),
        (node("MatMul", ["w", "x"]), {"w": np.ones((2, 4), F)}),
        (node("Softmax", ["x"], axis=-2), {}),
        (node("Gemm", ["x", "w"], transA=1), {"w": np.ones((4, 4), F)}),
    ],
    ids=lambda v: getattr(v, "op_type", ""),
)
def test_of_two_dimensions_the_first_is_met(one, constants):
    """The same nodes join the rows of a matrix."""
    assert network(made(one, constants, ["N", 4])).rows_apart is False


def test_values_of_other_ranks_meet():
    """Rows on another axis are broadcast against rows."""
    grown = [node("Unsqueeze", ["x", "a"], "u"), node("Mul", ["u", "x"])]
    assert network(made(grown, {"a": np.array([1], I)}, ["N", 4])).rows_apart is False
    level = [node("Relu", ["x"], "u"), node("Mul", ["u", "x"])]
    assert network(made(level, {}, ["N", 4])).rows_apart is True


def test_axes_from_the_back_of_an_open_rank():
    """What could be the first axis is taken for it."""
    late = [node("Squeeze", ["x"], "a"), node("Softmax", ["a"], axis=-1)]
    assert network(made(late, {})).rows_apart is False


def test_sums_over_a_batch_do_not_depend_on_its_parts():
    """More inputs than are run at a time: those of a file that joins them are run together."""
    nodes, held = quantized("a", "x", 0.1, 128)
    w, more = dequantized("w", np.eye(4, dtype=np.int8), 0.5)
    nodes += [w, node("MatMul", ["a", "w"], "p"), node("Softmax", ["p"], axis=0)]
    x = np.random.default_rng(0).normal(0, 3, (200, 4)).astype(F)
    graph = model(nodes, {"x": x}, held | more)
    graph.graph.output[0].CopyFrom(value("y", F, ["N", 4]))
    assert np.allclose(ours(graph, {"x": x}).sum(axis=0), 1, atol=1e-5)
    parts = ours(graph, {"x": x}, batch=100).sum(axis=0)
    assert np.allclose(parts, 2, atol=1e-5)  # so that the difference would show
