"""Quantizers, against qonnx's own definitions and onnxruntime: every mode, width, sign, zero point."""

from itertools import product

import numpy as np
import onnx
import pytest
from onnx_graphs import MICROSOFT, QONNX, equal, model, network, node, ours, theirs
from qonnx.custom_op.general.bipolar_quant import binary_quant
from qonnx.custom_op.general.intquant import int_quant
from qonnx.custom_op.general.trunc import trunc_v1, trunc_v2

from accsim.errors import ModelFileError, RangeError
from accsim.onnx.quantizers import Coded, along, dimensions, floats, onnx_quantizer

MODES = ["ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"]
F = np.float32


def numbers(scale, low=-40.0, high=40.0):
    """Every quarter of a code, what rounds to its neighbours, and numbers far outside."""
    quarters = np.arange(low, high, 0.25, F)
    steps = [np.nextafter(quarters, F(end)) for end in (-np.inf, np.inf)]
    around = [F(sign * size) for sign in (-1, 1) for size in (0, 1e-30, 1e6, 3e38)]
    return np.concatenate([quarters, *steps, around]).astype(F) * F(scale)


def quant(x, scale, zero, bits, op="Quant", domain=QONNX, domains=None, **attributes):
    """A graph of one quantizer, and what comes out."""
    held = {"s": np.asarray(scale, F), "z": np.asarray(zero, F), "b": np.asarray(bits, F)}
    made = model(
        node(op, ["x", *held], domain=domain, **attributes), {"x": x}, held, domains=domains
    )
    return ours(made, {"x": x})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("signed", "narrow"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_quant(mode, signed, narrow):
    """As qonnx has it, for widths of 1 to 16 bits, with zero points."""
    for bits, zero, scale in product((1, 2, 3, 4, 8, 16), (0, 1, -3), (1, 0.25, 0.1)):
        x = numbers(scale)
        how = {"signed": signed, "narrow": narrow, "rounding_mode": mode}
        result = quant(x, scale, zero, bits, **how)
        wanted = int_quant(x, F(scale), F(zero), F(bits), signed, narrow, mode)
        assert equal(result, np.asarray(wanted, F)), (bits, zero, scale)


@pytest.mark.parametrize("domain", ["onnx.brevitas", "finn.custom_op.general", QONNX])
@pytest.mark.parametrize("op", ["Quant", "IntQuant"])
def test_names_of_quant(op, domain):
    """One operator under the names that it has had; signed, whole range, rounded, if not said."""
    x = numbers(0.5)
    result = quant(x, 0.5, 0, 4, op, domain, {domain: 1})
    assert equal(result, int_quant(x, F(0.5), F(0), F(4), 1, 0, "ROUND").astype(F))


@pytest.mark.parametrize("mode", ["round", "Half_Even", "fLoOr"])
def test_modes_in_small_letters(mode):
    """As qonnx takes them."""
    x = numbers(1)
    wanted = int_quant(x, F(1), F(0), F(5), 1, 0, mode)
    assert equal(quant(x, 1, 0, 5, rounding_mode=mode), wanted.astype(F))


def test_quant_of_channels():
    """A scale, a zero point and a width for each."""
    x = np.stack([numbers(1), numbers(0.5), numbers(0.1)])[None]
    scale, zero = np.array([1, 0.5, 0.1], F).reshape(3, 1), np.array([0, 2, -1], F).reshape(3, 1)
    bits = np.array([2, 3, 8], F).reshape(3, 1)
    each = zip(x[0], scale, zero, bits, strict=True)
    wanted = np.stack([int_quant(*one, 1, 0, "ROUND") for one in each])[None]
    assert equal(quant(x, scale, zero, bits), wanted.astype(F))


@pytest.mark.parametrize("shape", [(), (3, 1)])
def test_bipolar_quant(shape):
    """1 from 0 on, and else -1."""
    x = np.stack([numbers(1), -numbers(0.5), numbers(0.1)])
    x = x[:, np.abs(x[0]) < 1e38]  # qonnx warns of others
    scale = np.full(shape, 0.5, F)
    made = model(node("BipolarQuant", ["x", "s"], domain=QONNX), {"x": x}, {"s": scale})
    assert equal(ours(made, {"x": x}), binary_quant(x, scale).astype(F))
    zeros = np.array([[0.0, -0.0, 1e-38, -1e-38]], F)
    made = model(node("BipolarQuant", ["x", "s"], domain=QONNX), {"x": zeros}, {"s": F(2)})
    assert ours(made, {"x": zeros}).tolist() == [[2, 2, 2, -2]]


@pytest.mark.parametrize("mode", MODES)
def test_trunc_of_version_1(mode):
    """Codes to fewer bits, their scale kept."""
    for scale, zero, into, out in product((1, 0.25), (0, 3), (8, 10), (2, 4)):
        x = numbers(scale)
        x = x[np.abs(x) < 1e6]
        held = {"s": F(scale), "z": F(zero), "i": F(into), "o": F(out)}
        made = model(
            node("Trunc", ["x", *held], domain=QONNX, rounding_mode=mode), {"x": x}, held,
            domains={QONNX: 1},
        )  # fmt: skip
        wanted = trunc_v1(x, F(scale), F(zero), F(into), F(out), mode)
        assert equal(ours(made, {"x": x}), wanted.astype(F))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("signed", "narrow"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_trunc_of_version_2(mode, signed, narrow):
    """Codes to a coarser scale, clipped."""
    for scale, zero, more, bits in product((1, 0.25), (0, 16), (1, 4, 8), (2, 4)):
        x = numbers(scale)
        held = {"s": F(scale), "z": F(zero), "i": F(8), "t": F(scale * more), "o": F(bits)}
        how = {"signed": signed, "narrow": narrow, "rounding_mode": mode}
        made = model(node("Trunc", ["x", *held], domain=QONNX, **how), {"x": x}, held)
        wanted = trunc_v2(
            x, F(scale), F(zero), F(8), narrow, signed, F(scale * more), F(bits), mode
        )
        assert equal(ours(made, {"x": x}), wanted.astype(F)), (scale, zero, more, bits)


TYPES = [np.int8, np.uint8, np.int16, np.uint16]


def half(element):
    """The dtype of one of the format's types that numpy lacks."""
    return onnx.helper.tensor_dtype_to_np_dtype(element)


@pytest.mark.parametrize("domain", ["", MICROSOFT])
@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: dtype.__name__)
def test_quantize_linear(dtype, domain):
    """onnxruntime's codes, of a zero point at each end and in the middle, and back."""
    ends = np.iinfo(dtype)
    for scale, zero in product((1, 0.25, 0.1), (0, ends.min, ends.max, 3)):
        x = numbers(scale)
        held = {"s": F(scale), "z": np.array(zero, dtype)}
        there = node("QuantizeLinear", ["x", *held], "q", domain=domain)
        back = node("DequantizeLinear", ["q", *held], domain=domain)
        for nodes in (there, [there, back]):
            made = model(nodes, {"x": x}, held)
            assert equal(ours(made, {"x": x}), theirs(made, {"x": x}))


@pytest.mark.parametrize("element", [onnx.TensorProto.INT4, onnx.TensorProto.UINT4])
def test_codes_of_four_bits(element):
    """There and back; constants, too, are read as they are."""
    dtype = half(element)
    for scale, zero in product((1, 0.1), (0, 3)):
        x = numbers(scale)
        held = {"s": F(scale), "z": np.array(zero).astype(dtype)}
        nodes = [node("QuantizeLinear", ["x", *held], "q"), node("DequantizeLinear", ["q", *held])]
        made = model(nodes, {"x": x}, held)
        assert equal(ours(made, {"x": x}), theirs(made, {"x": x}))


@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, -2])
def test_axes(axis):
    """Along 1 if not said, from the back if negative."""
    x = np.random.default_rng(5).normal(0, 9, (4, 4, 4)).astype(F)
    held = {"s": np.array([1, 0.5, 0.1, 3], F), "z": np.array([0, 9, 255, 128], np.uint8)}
    how = {} if axis is None else {"axis": axis}
    nodes = [
        node("QuantizeLinear", ["x", *held], "q", **how),
        node("DequantizeLinear", ["q", *held], **how),
    ]
    made = model(nodes, {"x": x}, held)
    assert equal(ours(made, {"x": x}), theirs(made, {"x": x}))


def test_without_a_zero_point():
    """uint8, or as output_dtype says."""
    x = numbers(0.5)
    for how in ({}, {"output_dtype": onnx.TensorProto.INT16}):
        made = model(node("QuantizeLinear", ["x", "s"], **how), {"x": x}, {"s": F(0.5)})
        assert equal(ours(made, {"x": x}), theirs(made, {"x": x}))
    codes = np.arange(-128, 128, dtype=np.int8)
    made = model(node("DequantizeLinear", ["x", "s"]), {"x": codes}, {"s": F(0.3)})
    assert equal(ours(made, {"x": codes}), theirs(made, {"x": codes}))
    wide = np.array([-(2**31), 2**31 - 1, 2**24 + 1, 7], np.int32)
    made = model(node("DequantizeLinear", ["x", "s"]), {"x": wide}, {"s": F(0.3)})
    assert equal(ours(made, {"x": wide}), theirs(made, {"x": wide}))


def test_scales_of_half_precision():
    """Numbers are rounded to it: no product is traced, and outputs are near onnxruntime's."""
    x = np.linspace(-3, 3, 12, dtype=np.float16).reshape(3, 4)
    held = {"s": np.float16(0.013), "z": np.uint8(3)}
    nodes = [node("QuantizeLinear", ["x", *held], "q"), node("DequantizeLinear", ["q", *held])]
    made = model(nodes, {"x": x}, held)
    assert equal(ours(made, {"x": x}), theirs(made, {"x": x}))
    made = model(
        [*nodes, node("MatMul", ["y", "w"], "p")],
        {"x": x},
        {**held, "w": np.ones((4, 2), np.float16)},
    )
    assert dict(network(made).untraced) == {
        "MatMul of p": "its input 'y' is not quantized: DequantizeLinear 'DequantizeLinear of y' has a"
        " scale of float16, not float32"
    }


BAD = [
    ({"s": 0}, {}, "a scale must be a positive number"),
    ({"s": -1}, {}, "a scale must be a positive number"),
    ({"s": np.nan}, {}, "a scale must be a positive number"),
    ({"s": np.inf}, {}, "a scale must be a positive number"),
    ({"z": 0.5}, {}, "a zero point must be an integer of at most 24 bits"),
    ({"z": 2.0**25}, {}, "a zero point must be an integer of at most 24 bits"),
    ({"b": 2.5}, {}, "a bit width must be an integer of at most 24 bits"),
    ({"b": 0}, {}, "a bit width must be from 1 to 62"),
    ({"b": 63}, {}, "a bit width must be from 1 to 62"),
    ({}, {"rounding_mode": "AWAY"}, f"rounding_mode must be one of {', '.join(MODES)}, not 'AWAY'"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "how", "text"), BAD)
def test_what_is_no_quantizer(changed, how, text):
    """It is refused where it is run, by the node's name."""
    held = {"s": 1.0, "z": 0.0, "b": 4.0} | changed
    with pytest.raises(ModelFileError) as raised:
        quant(np.zeros((1, 3), F), *held.values(), **how)
    assert str(raised.value) == f"node 'Quant of y' (Quant): {text}"


@pytest.mark.parametrize("op", ["Quant", "QuantizeLinear"])
def test_not_a_number(op):
    """NaN has no code; infinities have the ends."""
    x = np.array([[np.inf, -np.inf, 1]], F)
    held = {"s": F(1), "z": np.float32(0) if op == "Quant" else np.int8(0)}
    if op == "Quant":
        held["b"] = F(4)
    made = model(node(op, ["x", *held], domain=QONNX if op == "Quant" else ""), {"x": x}, held)
    assert ours(made, {"x": x}).tolist() == ([[7, -8, 1]] if op == "Quant" else [[127, -128, 1]])
    x[0, 1] = np.nan
    with pytest.raises(RangeError) as raised:
        ours(made, {"x": x})
    assert (
        str(raised.value) == f"node '{op} of y' ({op}): a quantizer must be given numbers, not NaN"
    )


def test_numbers_that_overflow_floats():
    """They are clipped in silence; what nothing clips is refused."""
    x = np.array([[3e38, -3e38]], F)
    assert quant(x, 0.1, 0, 4).tolist() == [[F(7) * F(0.1), F(-8) * F(0.1)]]
    made = model(node("BipolarQuant", ["x", "s"], domain=QONNX), {"x": x}, {"s": F(0.1)})
    assert ours(made, {"x": x}).tolist() == [[F(0.1), -F(0.1)]]
    held = {"s": F(0.1), "z": F(0), "i": F(8), "o": F(4)}
    made = model(node("Trunc", ["x", *held], domain=QONNX), {"x": x}, held, domains={QONNX: 1})
    with pytest.raises(RangeError) as raised:
        ours(made, {"x": x})
    text = "node 'Trunc of y' (Trunc): a truncation must be given numbers that it can hold"
    assert str(raised.value) == text


def test_small_things():
    """Values and their dimensions, coded or not."""
    coded = Coded(np.array([[1, 2]]), F([0.5, 2]))
    assert (dimensions(coded), dimensions(3), dimensions([[1]])) == (2, 0, 2)
    assert floats(coded).tolist() == [[0.5, 4]]
    assert along(np.ones(3), -2, 3).shape == (1, 3, 1)
    assert along(np.ones((1, 1)), 5, 1).shape == ()
    for array, axis in ((np.ones(2), 2), (np.ones(2), -3), (np.ones((2, 1)), 0)):
        with pytest.raises(ModelFileError) as raised:
            along(array, axis, 2)
        assert str(raised.value) == (
            f"a scale of shape {array.shape} must be one number, or one for each place on axis {axis}"
        )


def test_ends_are_those_of_all_codes():
    """What a quantizer gives of an interval: quantizing keeps the order of numbers."""
    quantizer = onnx_quantizer(F(0.1), np.array(10, np.uint8), 0, 255)
    for low, high in [(-np.inf, np.inf), (-0.52, 3.07), (0, 0), (-9, 100)]:
        found = quantizer(np.linspace(max(low, -50), min(high, 50), 999, dtype=F)).codes
        assert quantizer.ends(low, high) == (found.min(), found.max())
