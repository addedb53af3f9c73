"""Networks: inputs and registers by name, batches, what is told and counted, and all that is refused."""

from functools import partial

import numpy as np
import pytest
from onnx_graphs import WIDE, dequantized, model, network, node, quantized, value

from accsim import Accumulator, Datapath, IntSpec, arith, bounds, datapaths, signed, unsigned
from accsim.errors import DtypeError, ModelFileError, RangeError, ShapeError, SpecError
from accsim.network import MatMul, NetworkInput, least_registers

F = np.float32
NARROW = Accumulator(9, "saturate")


def two(batch="N", *, dynamic=False, extra=(), outputs=("y",)):
    """Two layers, named first and second, of x (batch, 4)."""
    random = np.random.default_rng(1)
    if dynamic:
        nodes, held = (
            [node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])],
            {"w": random.integers(-8, 8, (4, 3), np.int8)},
        )
        nodes += [
            node("MatMulInteger", ["q", "w", "z"], "i", name="first"),
            node("Cast", ["i"], "f", to=1),
            node("Mul", ["f", "s"], "h"),
        ]
    else:
        nodes, held = quantized("a", "x", 0.5, 3)
        one, more = dequantized("w", random.integers(-8, 8, (4, 3), np.int8), 0.5)
        nodes, held = [*nodes, one, node("MatMul", ["a", "w"], "h", name="first")], held | more
    again, more = quantized("b", "h", 1, 128)
    v, most = dequantized("v", random.integers(-8, 8, (3, 2), np.int8), 0.25)
    nodes = [*nodes, *again, v, node("MatMul", ["b", "v"], name="second"), *extra]
    made = model(nodes, {"x": (F, [batch, 4])}, held | more | most, outputs=list(outputs))
    made.graph.output[0].CopyFrom(value("y", F, [batch, 2]))
    return made


X = np.random.default_rng(2).normal(0, 30, (150, 4)).astype(F)


def note(notes, *call):
    """Keep what is told."""
    notes.append(call)


def test_batches():
    """As the file says, or `batch`, or 64; results are those of all together."""
    found, fixed = network(two()), network(two(5))
    whole = found.run(X, NARROW, batch=150)
    assert min(whole.overflows.values()) > 0
    for net, how, wanted in (
        (found, {}, [64, 128, 150]),
        (found, {"batch": 150}, [150]),
        (found, {"batch": 1000}, [150]),
        (found, {"batch": 49}, [49, 98, 147, 150]),
        (fixed, {}, list(range(5, 151, 5))),
        (fixed, {"batch": 49}, list(range(5, 151, 5))),
    ):
        told, calls = [], []
        seen = {"told": partial(note, told), "watch": partial(note, calls)}
        run = net.run(X, NARROW, **how, **seen)
        assert told == [(done, 150) for done in wanted]
        assert len(calls) == 2 * len(wanted)
        assert np.array_equal(run.outputs["y"], whole.outputs["y"])
        assert (run.overflows, run.overflowed, run.sums) == (
            whole.overflows,
            whole.overflowed,
            whole.sums,
        )
    assert whole.sums == {"first": 450, "second": 300}


def test_what_is_counted():
    """Steps and sums of each layer are those of its calls."""
    calls = []
    run = network(two()).run(X, NARROW, watch=lambda *call: calls.append(call))
    for name in ("first", "second"):
        runs = [one for layer, _, _, one in calls if layer == name]
        counts = np.concatenate([one.overflow_count.reshape(-1) for one in runs])
        assert run.overflows[name] == counts.sum()
        assert run.overflowed[name] == (counts > 0).sum()
        assert run.sums[name] == counts.size
        assert all(one.peak_low is not None for one in runs)
    _, layer, x, one = calls[0]
    for row, channel in np.ndindex(5, 3):
        end = arith.fold(layer.weight[channel].tolist(), x[row].tolist(), NARROW)
        assert one.output[row, channel] == end.output
        assert one.overflow_count[row, channel] == end.overflow_count
        assert one.peak_high[row, channel] == end.peak_high


def test_registers_by_name():
    """One for each, whatever the order."""
    found = network(two())
    wide, narrow = (found.run(X, one) for one in (WIDE, NARROW))
    mixed = found.run(X, {"second": WIDE, "first": NARROW})
    assert (mixed.overflows["first"], mixed.overflows["second"]) == (narrow.overflows["first"], 0)
    assert wide.overflows == {"first": 0, "second": 0}
    least = least_registers(found)
    assert least == {
        n: Accumulator(int(np.max(bounds.least_bits(v.weight, v.input_spec))))
        for n, v in found.layers.items()
    }
    exact = found.run(X, least)
    assert exact.overflows == wide.overflows
    assert np.array_equal(exact.outputs["y"], wide.outputs["y"])


LANES = Datapath(
    [Accumulator(9, "saturate", terms=2, rail="sum"), Accumulator(11)], order=(2, 0, 1, 3)
)


def test_datapaths():
    """Wherever a register is: for all, by name beside registers, and each level counted."""
    found, calls = network(two()), []
    run = found.run(X, LANES, watch=lambda *call: calls.append(call))
    assert min(sum(run.levels[name]) for name in ("first", "second")) > 0
    for name in ("first", "second"):
        levels = [one.levels for layer, _, _, one in calls if layer == name]
        counts = tuple(sum(int(level[i].overflow_count.sum()) for level in levels) for i in (0, 1))
        assert run.levels[name] == counts
        assert run.overflows[name] == sum(counts)
    _, layer, x, one = calls[0]
    end = arith.fold(layer.weight[1].tolist(), x[7].tolist(), LANES)
    assert (one.output[7, 1], one.peak_high[7, 1]) == (end.output, end.peak_high)
    mixed = found.run(X, {"first": LANES, "second": NARROW})
    assert mixed.levels == {"first": run.levels["first"], "second": ()}
    single = found.run(X, Datapath([NARROW]))
    plain = found.run(X, NARROW)
    assert (single.overflows, single.levels["first"]) == (
        plain.overflows,
        (plain.overflows["first"],),
    )
    assert np.array_equal(single.outputs["y"], plain.outputs["y"])


def test_datapaths_of_products_of_activations():
    """The right operand plays the weights."""
    nodes, held = quantized("a", "x", 0.5, 0)
    more, also = quantized("b", "z", 0.5, 0)
    nodes = [*nodes, *more, node("MatMul", ["a", "b"], name="both")]
    made = model(nodes, {"x": (F, ["N", 2, 5]), "z": (F, ["N", 5, 3])}, held | also)
    rng, calls = np.random.default_rng(4), []
    given = {
        "x": rng.normal(0, 60, (4, 2, 5)).astype(F),
        "z": rng.normal(0, 60, (4, 5, 3)).astype(F),
    }
    wide = Datapath([Accumulator(15, "saturate", terms=2, rail="sum"), Accumulator(20)])
    run = network(made).run(given, wide, watch=lambda *call: calls.append(call))
    assert run.levels["both"][0] > 0
    _, layer, x, one = calls[2]
    end = arith.fold(layer.weight[1].tolist(), x[1].tolist(), wide)
    assert one.output[1, 1] == end.output


def test_operands_that_a_datapath_does_not_take():
    """The layer is named."""
    with pytest.raises(RangeError) as raised:
        network(two()).run(X, datapaths.load("x86-avx2-u8s8"))
    assert str(raised.value) == (
        "first: x86-avx2-u8s8 takes inputs of UINT8 [0, 255], not [-3, 252]"
    )


@pytest.mark.parametrize(
    ("accumulator", "text"),
    [
        (12, "accumulator must be an Accumulator or a Datapath, or one by name, not 12"),
        (None, "accumulator must be an Accumulator or a Datapath, or one by name, not None"),
        ({"first": WIDE}, "accumulator must name a register for 'second'"),
        ({"first": WIDE, "second": 12}, "accumulator must name a register for 'second'"),
        ({"first": WIDE, "second": WIDE, "third": 3}, "accumulator must name a register for 'third'"),
        ({"first": WIDE, "second": WIDE, "third": WIDE}, "accumulator names 'third', which is no integer product"),
    ],
)  # fmt: skip
def test_registers_that_are_refused(accumulator, text):
    """Each product needs one, and nothing else has one."""
    with pytest.raises(SpecError) as raised:
        network(two()).run(X, accumulator)
    assert str(raised.value) == text


def test_a_bias_that_a_register_cannot_hold():
    """The layer is named, without its control characters."""
    nodes, held = quantized("a", "x", 0.5, 0)
    w, more = dequantized("w", np.ones((4, 2), np.int8), 0.5)
    b, most = dequantized("b", np.array([0, 200], np.int32), 0.25)
    for name, told in (("plain", "plain"), ("\x1b[2J", r"'\x1b[2J'")):
        made = model(
            [*nodes, w, b, node("Gemm", ["a", "w", "b"], name=name)], {"x": X}, held | more | most
        )
        with pytest.raises(RangeError) as raised:
            network(made).run(X, Accumulator(8))
        assert (
            str(raised.value)
            == f"{told}: bias[1] is 200, outside the 8-bit wrap register [-128, 127]"
        )


def test_dynamic_quantization_runs_all_together():
    """A scale is made of all inputs, unless the caller says how many are a batch."""
    found = network(two(dynamic=True))
    assert (found.rows_apart, network(two()).rows_apart) == (False, True)
    told = []
    whole = found.run(X, WIDE, told=lambda *done: told.append(done)).outputs["y"]
    assert told == [(150, 150)]
    parts = found.run(X, WIDE, batch=75).outputs["y"]
    halves = [found.run(half, WIDE).outputs["y"] for half in (X[:75], X[75:])]
    assert np.array_equal(parts, np.concatenate(halves))
    assert not np.array_equal(parts, whole)


@pytest.mark.parametrize(
    ("how", "apart"),
    [
        ({}, False),
        ({"axes": [0]}, False),
        ({"axes": [0, 1]}, False),
        ({"axes": [1]}, True),
        ({"axes": [-1]}, True),
    ],
)
@pytest.mark.parametrize("opset", [11, 21])
def test_reductions_of_a_batch(how, apart, opset):
    """What makes one number of all rows needs them together."""
    held = {"i": np.array(how["axes"])} if how and opset > 11 else {}
    attributes = how if opset == 11 else {}
    nodes = [node("ReduceMax", ["x", *held], "m", **attributes), node("Div", ["x", "m"])]
    made = model(nodes, {"x": X}, held, opset=opset)
    made.graph.output[0].CopyFrom(made.graph.input[0])
    made.graph.output[0].name = "y"
    assert network(made).rows_apart == apart


def test_inputs():
    """One array or by name; lists, other floats, integers; never changed."""
    found = network(two())
    wanted = found.run(X, WIDE).outputs["y"]
    for given in ({"x": X}, X.astype(np.float64), X[::-1][::-1], X.tolist(), np.asfortranarray(X)):
        assert np.array_equal(found.run(given, WIDE).outputs["y"], wanted)
    ones = np.ones((2, 4), np.int64)
    assert np.array_equal(
        found.run(ones, WIDE).outputs["y"], found.run(ones.astype(F), WIDE).outputs["y"]
    )
    kept = X.copy()
    kept.flags.writeable = False
    found.run(kept, NARROW, watch=lambda *_: None)
    assert np.array_equal(kept, X)


def several(*inputs, op="Concat", **how):
    """A graph that joins its inputs: (name, dtype, shape)."""
    names = [name for name, *_ in inputs]
    return network(model(node(op, names, **how), {n: (t, s) for n, t, s in inputs}))


def test_several_inputs():
    """By name, all of them, of one batch."""
    found = several(("a", F, ["N", 2]), ("b", F, ["N", 1]), axis=1)
    a, b = np.ones((3, 2), F), np.zeros((3, 1), F)
    assert found.run({"b": b, "a": a}, WIDE).outputs["y"].tolist() == [[1, 1, 0]] * 3
    for given, text in (
        (a, "inputs must be by name, one for each of a, b"),
        ({"a": a}, "inputs must be one for each of a, b: 'b' is missing"),
        ({"a": a, "b": b, "c": b}, "inputs must be one for each of a, b: 'c' is none of them"),
        ({}, "inputs must be one for each of a, b: 'a' is missing"),
    ):
        with pytest.raises(ShapeError) as raised:
            found.run(given, WIDE)
        assert str(raised.value) == text


TYPES = [
    ((F, ["N", 2]), np.ones((1, 3)), ShapeError, "input 'x' must be of shape (N, 2), not (1, 3)"),
    ((F, ["N", None, 2]), np.ones((1, 3)), ShapeError, "input 'x' must be of shape (N, ?, 2), not (1, 3)"),
    ((F, ["N", 2]), np.ones(2), ShapeError, "input 'x' must be of shape (N, 2), not (2,)"),
    ((F, ["N", 2]), 3.0, ShapeError, "input 'x' must be of shape (N, 2), not ()"),
    ((F, ["N", 2]), np.ones((1, 2), bool), DtypeError, "input 'x' must be numbers, not bool"),
    ((F, ["N", 2]), np.ones((1, 2), complex), DtypeError, "input 'x' must be numbers, not complex128"),
    ((F, ["N", 2]), [["a", "b"]], DtypeError, "input 'x' must be numbers, not <U1"),
    ((np.uint8, ["N", 2]), np.ones((1, 2)), DtypeError, "input 'x' must be an array of integers, not of float64"),
    ((np.uint8, ["N", 2]), [[1, 256]], RangeError, "input 'x'[0, 1] is 256, outside UINT8 [0, 255]"),
    ((np.int8, ["N", 2]), [[1, -129]], RangeError, "input 'x'[0, 1] is -129, outside INT8 [-128, 127]"),
    ((np.int64, ["N", 2]), np.array([[1, 2**63]], np.uint64), RangeError, f"input 'x' must lie from {-(2**63)} to {2**63 - 1}"),
    ((np.uint64, ["N", 2]), [[1, -1]], RangeError, f"input 'x' must lie from 0 to {2**64 - 1}"),
    ((bool, ["N", 2]), [[1, 0]], DtypeError, "input 'x' must be of bool, not int64"),
    ((F, [4, 2]), np.ones((6, 2)), ShapeError, "inputs must be a multiple of 4, as the file says, not 6"),
    ((F, [4, 2]), np.ones((0, 2)), ShapeError, "inputs must be a multiple of 4, as the file says, not 0"),
]  # fmt: skip


@pytest.mark.parametrize(("described", "given", "kind", "text"), TYPES, ids=[t[3] for t in TYPES])
def test_inputs_that_are_refused(described, given, kind, text):
    """Other shapes and other types than the file's; nothing is rounded."""
    found = network(model(node("Identity", ["x"]), {"x": described}))
    with pytest.raises(kind) as raised:
        found.run(given, WIDE)
    assert str(raised.value) == text


def test_types_of_inputs():
    """64-bit integers, bools, half floats, what has no declared type."""
    for dtype, given in (
        (np.int64, [[-(2**63)]]),
        (np.int64, [[0]]),
        (np.uint64, np.array([[2**64 - 1]], np.uint64)),
        (bool, [[True]]),
        (np.float16, [[0.1]]),
        (np.float64, [[0.1]]),
    ):
        found = network(model(node("Identity", ["x"]), {"x": (dtype, ["N", 1])}))
        result = found.run(np.asarray(given), WIDE).outputs["y"]
        assert result.dtype == dtype
        assert result.tolist() == np.asarray(given).astype(dtype).tolist()
    found = network(model(node("Identity", ["x"]), {"x": (F, ["N"])}))
    assert found.inputs == {"x": NetworkInput(np.dtype(F), ("N",))}


def test_inputs_of_other_lengths():
    """What comes first in them is no batch: they are run together, and are as long as the file says."""
    found = several(("a", F, [2, 3]), ("b", F, ["N", 3]), axis=0)
    told = []
    given = {"a": np.ones((2, 3)), "b": np.zeros((70, 3))}
    assert found.run(given, WIDE, told=lambda *done: told.append(done)).outputs["y"].shape == (
        72,
        3,
    )
    assert told == [(1, 1)]
    with pytest.raises(ShapeError) as raised:
        found.run({"a": np.ones((3, 3)), "b": np.zeros((70, 3))}, WIDE)
    assert str(raised.value) == "input 'a' must be 2 at a time, not 3"
    found = several(("a", F, [2, 3]), ("b", F, [4, 3]), axis=0)
    with pytest.raises(ShapeError) as raised:
        found.run({"a": np.ones((4, 3)), "b": np.zeros((4, 3))}, WIDE)
    assert str(raised.value) == "input 'a' must be 2 at a time, not 4"
    assert several(("a", F, [2]), ("b", F, []), op="Mul").run({"a": [1, 2], "b": 3}, WIDE).outputs[
        "y"
    ].tolist() == [3, 6]


@pytest.mark.parametrize("batch", [0, -1, 1.5, True, "3", 2**31 + 1])
@pytest.mark.parametrize("size", ["N", 5])
def test_batches_that_are_refused(batch, size):
    """Also where the file says how many."""
    with pytest.raises(SpecError) as raised:
        network(two(size)).run(X, WIDE, batch=batch)
    assert str(raised.value) == f"batch must be an integer from 1 to {2**31}, not {batch!r}"


def test_no_inputs_at_all():
    """An empty batch has empty outputs, and no sums."""
    told = []
    run = network(two()).run(np.zeros((0, 4)), NARROW, told=lambda *done: told.append(done))
    assert (run.outputs["y"].shape, told) == ((0, 2), [(1, 1)])
    assert run.sums == run.overflows == run.overflowed == {"first": 0, "second": 0}
    assert network(two()).run(np.zeros((0, 4)), NARROW, batch=3).outputs["y"].shape == (0, 2)


def test_outputs():
    """Several; values in the middle, inputs and constants among them."""
    found = network(
        two(outputs=["y", "x", "h", "c"], extra=[node("Constant", [], "c", value_float=2.0)])
    )
    run = found.run(X[:7], WIDE)
    assert list(run.outputs) == ["y", "x", "h", "c"]
    assert np.array_equal(run.outputs["x"], X[:7])
    assert run.outputs["c"] == 2
    assert np.array_equal(run.outputs["y"], network(two()).run(X[:7], WIDE).outputs["y"])
    with pytest.raises(ShapeError) as raised:
        found.run(X, WIDE, batch=64)
    assert str(raised.value) == "output 'c' is one number for all inputs: give at most 64 at a time"


def test_threads_change_nothing():
    """Nor does a wrong number of them go unseen."""
    found = network(two())
    runs = [found.run(X, NARROW, threads=threads) for threads in (1, 2, None)]
    for run in runs[1:]:
        assert np.array_equal(run.outputs["y"], runs[0].outputs["y"])
        assert run.overflows == runs[0].overflows
    with pytest.raises(
        SpecError, match=r"^first: threads must be an integer from 1 to \d+, not 0$"
    ):
        found.run(X, NARROW, threads=0)


def test_errors_of_nodes_while_running():
    """They name the node; the damage may show only now."""
    found = network(
        model(node("Reshape", ["x", "s"], name="shape it"), {"x": X}, {"s": np.array([7, -1])})
    )
    with pytest.raises(ModelFileError) as raised:
        found.run(X, WIDE)
    said = "node 'shape it' (Reshape) cannot be computed: cannot reshape array of size 600 into shape (7,newaxis)"
    assert str(raised.value) == said
    found = network(two())
    x = X.copy()
    x[3, 1] = np.nan
    with pytest.raises(
        RangeError, match=r"^node 'QuantizeLinear of a_codes' \(QuantizeLinear\): a quantizer"
    ):
        found.run(x, WIDE)


def test_matmul():
    """The least register of a product of activations is told by types and length."""
    assert MatMul(unsigned(8), signed(8)).least_bits is None
    assert (
        MatMul(unsigned(8), signed(8), 10).least_bits
        == bounds.data_type_bits(10, signed(8), unsigned(8))
        == 20
    )
    assert MatMul(IntSpec(0, 0), signed(8), 10).least_bits >= 1


def test_lengths_that_are_not_declared():
    """A file that lies about the length of a sum is found out when it is run."""
    first, held = quantized("a", "x", 0.5, 3)
    made = model(
        [*first, node("Transpose", ["a"], "t"), node("MatMul", ["a", "t"], name="m")],
        {"x": (F, ["N", 4])},
        held,
    )
    found = network(made)
    assert found.matmuls["m"].taps == 4
    assert least_registers(found) == {
        "m": Accumulator(bounds.data_type_bits(4, IntSpec(-3, 252), IntSpec(-3, 252)))
    }
    made.graph.value_info.add().CopyFrom(made.graph.input[0])
    made.graph.value_info[0].name = "a"
    made.graph.value_info[0].type.tensor_type.shape.dim[1].dim_value = 2
    with pytest.raises(ShapeError) as raised:
        network(made).run(X, WIDE)
    assert str(raised.value) == "m: sums must have 2 products, as the file says, not 4"
