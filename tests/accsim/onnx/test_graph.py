"""Graphs as plain values: order, names, attributes; what is damaged is refused by name."""

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper
from onnx_graphs import WIDE, dequantized, model, network, node, ours, quantized, tensor, value

from accsim.errors import ModelFileError
from accsim.network import NetworkInput
from accsim.onnx.graph import QONNX, graph_of

F = np.float32
X = np.ones((2, 3), F)


def small(*nodes, **how):
    """A model of x and a constant w."""
    return model(list(nodes) or [node("Add", ["x", "w"])], {"x": X}, {"w": np.ones(3, F)}, **how)


def refused(made):
    """The text of the error."""
    with pytest.raises(ModelFileError) as raised:
        graph_of(made)
    return str(raised.value)


def test_order_is_found():
    """Nodes may lie in the file in any order; what can run first does, else as in the file."""
    chain = [node("Add", [f"v{i}", "w"], f"v{i + 1}") for i in range(6)]
    side = node("Mul", ["v2", "v5"], "y")
    nodes = [*chain, side]
    wanted = None
    for order in ([0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [3, 6, 0, 5, 1, 4, 2]):
        made = model([nodes[i] for i in order], {"v0": X}, {"w": F(1)}, outputs=["y"])
        result = ours(made, {"v0": X})
        wanted = result if wanted is None else wanted
        assert np.array_equal(result, wanted)
        assert result.tolist() == [[18] * 3] * 2
    free = [node("Add", ["x", "w"], f"v{i}") for i in range(5)]
    made = model(free, {"x": X}, {"w": F(1)}, outputs=["v3"])
    assert [one.outputs[0] for one in graph_of(made).nodes] == [f"v{i}" for i in range(5)]


def test_names_are_unique():
    """A node's own if no other has it, else that of its output, made different where it must be."""

    def named(name, output):
        return node("Identity", ["x"], output, name=name)

    nodes = [
        named("", "a"),
        named("twice", "b"),
        named("twice", "c"),
        named("own", "d"),
        named("", "own"),
        named("b", "e"),
    ]
    made = model(nodes, {"x": X}, outputs=["a"])
    assert [one.name for one in graph_of(made).nodes] == ["a", "b#1", "c", "own", "own#4", "b"]


def test_doubly_named_products():
    """Each has a register of its own."""
    nodes, held = quantized("a", "x", 0.5, 128)
    w, more = dequantized("w", np.ones((3, 3), np.int8), 0.5)
    products = [node("MatMul", ["a", "w"], f"m{i}", name="same" if i < 2 else "") for i in range(3)]
    made = model([*nodes, w, *products], {"x": X}, {**held, **more}, outputs=["m0", "m1", "m2"])
    found = network(made)
    assert [*found.layers] == ["m0", "m1", "m2"]
    assert [*found.run(X, WIDE).overflows] == ["m0", "m1", "m2"]


def test_what_a_graph_is():
    """Inputs are those that no initializer gives; sizes are numbers, names, or unknown."""
    made = small()
    made.graph.input.append(value("w", F, [3]))
    made.graph.input.append(value("free", np.int64, ["N", None, 5]))
    made.graph.input.append(onnx.ValueInfoProto(name="any"))
    graph = graph_of(made)
    assert graph.inputs == {
        "x": NetworkInput(np.dtype(F), ("N", 3)),
        "free": NetworkInput(np.dtype(np.int64), ("N", None, 5)),
        "any": NetworkInput(None, None),
    }
    assert graph.constants["w"].tolist() == [1, 1, 1]
    assert graph.opsets == {"": 21, "com.microsoft": 1, QONNX: 2}


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        ([node("Add", ["x", "none"])], "node 'Add of y' (Add) reads 'none', which no node, input or initializer gives"),
        ([node("Add", ["x", "y"])], "the graph must be without cycles: node 'Add of y' waits for itself"),
        ([node("Add", ["x", "b"], "a"), node("Add", ["a", "x"], "b"), node("Add", ["x", "x"])], "the graph must be without cycles: node 'Add of a' waits for itself"),
        ([node("Add", ["x", "w"]), node("Mul", ["x", "w"])], "node 'Mul of y' makes 'y' once more"),
        ([node("Add", ["x", "w"], "x")], "node 'Add of x' makes 'x' once more"),
        ([node("Add", ["x", "w"], "w")], "node 'Add of w' makes 'w' once more"),
        ([node("Foo", ["x"], domain="other")], "node 'Foo of y' (Foo) is of the domain 'other', which opset_import does not list"),
        ([node("Add", ["x"])], None),
        ([node("Cast", ["x"])], "node 'Cast of y' (Cast) is not as it is defined: Required attribute 'to' is missing."),
        ([node("Relu", ["x"], foo=1)], "node 'Relu of y' (Relu) is not as it is defined: Unrecognized attribute: foo for operator Relu"),
        ([node("Conv", ["x", "w"], group=1.5)], "node 'Conv of y' (Conv) is not as it is defined: Mismatched attribute type in 'Conv of y : group'. Expected: 'INT', actual: 'FLOAT'"),
        ([node("", ["x"])], "node ' of y' must name an operator, not ''"),
        ([node("A" * 101, ["x"], name="n")], f"node 'n' must name an operator, not '{'A' * 100}...'"),
    ],
)  # fmt: skip
def test_damaged_graphs(nodes, text):
    """Node and field are named."""
    said = refused(model(nodes, {"x": X}, {"w": np.ones(3, F)}, outputs=["y"]))
    assert said == text or (
        text is None and said.startswith("node 'Add of y' (Add) is not as it is defined: ")
    )


def test_damaged_ends():
    """Outputs that nothing makes, or none; initializers of one name."""
    assert refused(small(outputs=["none"])) == "output 'none' of the graph is made by no node"
    made = small()
    del made.graph.output[:]
    assert refused(made) == "the graph must have an output"
    made = small()
    made.graph.initializer.append(tensor(np.ones(3, F), "w"))
    assert refused(made) == "initializer 'w' must be there once"


@pytest.mark.parametrize(
    ("version", "good"),
    [
        (6, False),
        (7, True),
        (onnx.defs.onnx_opset_version(), True),
        (onnx.defs.onnx_opset_version() + 1, False),
        (-1, False),
        (2**40, False),
    ],
)
def test_versions(version, good):
    """Those of the standard that broadcast, up to the newest that is installed."""
    made = small(opset=version)
    if good:
        assert graph_of(made).nodes[0].version == version
        return
    newest = onnx.defs.onnx_opset_version()
    assert refused(made) == (
        f"opset_import must be of a standard version from 7 to {newest}, not {version}"
    )


def test_names_of_domains():
    """ai.onnx is the standard; QONNX has had other names."""
    made = small(node("Add", ["x", "w"], domain="ai.onnx"))
    assert graph_of(made).nodes[0].domain == ""
    for name in ("onnx.brevitas", "finn.custom_op.general"):
        one = node("BipolarQuant", ["x", "w"], domain=name)
        assert graph_of(small(one, domains={name: 1})).nodes[0].domain == QONNX


def test_attributes():
    """Numbers, text, arrays; others are refused."""
    w = tensor(np.arange(3), "t")
    one = helper.make_node(
        "Foo", ["x"], ["y"], "n", domain=QONNX, i=3, f=0.5, s="word", l=[1, 2], g=[0.5, 1.5], t=w
    )
    attributes = graph_of(small(one)).nodes[0].attributes
    assert attributes["t"].tolist() == [0, 1, 2]
    assert {key: attributes[key] for key in "ifslg"} == {
        "i": 3,
        "f": 0.5,
        "s": "word",
        "l": (1, 2),
        "g": (0.5, 1.5),
    }
    for changed in (
        AttributeProto(name="a", type=AttributeProto.STRING, s=b"\xff"),
        AttributeProto(
            name="a", type=AttributeProto.TYPE_PROTO, tp=helper.make_tensor_type_proto(1, [1])
        ),
        AttributeProto(name="a"),
    ):
        made = small(node("Foo", ["x"], name="n", domain=QONNX))
        made.graph.node[0].attribute.append(changed)
        assert refused(made) == "attribute 'a' of node 'n' is of no known type"
    made = small(node("Foo", ["x"], name="n", domain=QONNX))
    made.graph.node[0].attribute.add(name="a", type=AttributeProto.TENSOR)
    assert refused(made) == "attribute 'a' of node 'n' holds no tensor"
    made = small(node("Quant", ["x"], name="n", domain=QONNX, signed=1.5))
    assert refused(made) == "attribute 'signed' of node 'n' is of the wrong type"


def test_large_attributes_are_limited():
    """As initializers are."""
    one = node("Constant", [], name="n", value=tensor(np.ones(3, F), "t", dims=[2**40]))
    text = "attribute 'value' of node 'n' claims 4398046511104 bytes; at most 536870912 are read"
    assert refused(small(one)) == text


def test_deep_and_wide_graphs_are_quick():
    """50,000 nodes in a row, the last first, need no recursion."""
    nodes = [node("Relu", [f"v{i}"], f"v{i + 1}", name="") for i in range(20_000)][::-1]
    made = model(nodes, {"v0": X}, outputs=["v20000"])
    order = graph_of(made).nodes
    assert [order[0].outputs[0], order[-1].outputs[0]] == ["v1", "v20000"]


def test_text_values():
    """Inputs of text have no type that numbers have."""
    made = small()
    made.graph.input.append(helper.make_tensor_value_info("t", TensorProto.STRING, [1]))
    assert graph_of(made).inputs["t"].dtype in (None, np.dtype(object))
