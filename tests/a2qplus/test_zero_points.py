"""Asymmetric inputs in the three lowerings: ranges, budgets, and integers against plain sums."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from a2qplus import QuantConv2d, Quantization, QuantLinear, quantize_model, to_integer, to_layers
from a2qplus.methods import METHODS, ZERO_POINTS
from a2qplus.rules import Rule
from accsim import Accumulator, between, bounds, signed, unsigned
from accsim.errors import SpecError

BOUNDED = [name for name, method in METHODS.items() if method.bounded]


def test_ranges_from_data():
    """The codes cover what was seen, 0 is one of them, and some code is positive."""
    rule = Rule("base", 4, 4, None, "ep", "subtract")
    for seen, spec in {
        (-1.0, 2.0): between(-5, 10),
        (-2.0, 1.0): between(-10, 5),
        (-3.0, 0.0): between(-14, 1),
        (-3.0, -1.0): between(-14, 1),
        (-3.0, -3.0): between(-14, 1),
        (-1e-9, 5.0): between(0, 15),
    }.items():
        assert rule.inputs(seen, positive=False) == spec
    assert rule.inputs((0.0, 5.0), positive=True) == unsigned(4)
    symmetric = Rule("base", 4, 4, None, "ep", None)
    assert symmetric.inputs((-1.0, 2.0), positive=False) == signed(4)


@pytest.mark.parametrize("zero_point", ZERO_POINTS)
@pytest.mark.parametrize("method", BOUNDED)
def test_registers_against_plain_sums(method, zero_point):
    """Frozen layers of few taps, over every input: exact where they must be, inside, and tight."""
    torch.manual_seed(0)
    spec, bits, tight = between(-1, 2), 5, 0
    rule = Quantization(method, 3, spec, bits, "ep", zero_point)
    layer = QuantLinear(3, 40, bias=False, quantization=rule)
    with torch.no_grad():
        layer.weight.mul_(torch.logspace(-1, 1, 40)[:, None])
    frozen = to_layers(nn.Sequential(layer))["0"]
    offset = 0 if zero_point == "subtract" else 1
    assert frozen.input_spec == between(-1 + offset, 2 + offset)
    top, floor = 2 ** (bits - 1) - 1, -(2 ** (bits - 1))
    for channel, row in enumerate(frozen.rows.tolist()):
        start = -offset * sum(row) if zero_point == "preload" else 0
        assert (0 if frozen.bias is None else frozen.bias[channel]) == start
        for x in itertools.product(range(-1, 3), repeat=3):
            codes = [value + offset for value in x]
            sums = np.cumsum([start] + [q * code for q, code in zip(row, codes, strict=True)])
            assert floor <= sums.min() <= sums.max() <= top
            wanted = sum(q * value for q, value in zip(row, x, strict=True))
            correction = offset * sum(row) if zero_point == "outside" else 0
            assert sums[-1] - correction == wanted
            tight += sums.max() == top or sums.min() == floor
    assert np.abs(frozen.rows).max() == 3
    if method == "budget":
        assert tight > 0


@pytest.mark.parametrize("zero_point", ZERO_POINTS)
def test_padding_is_the_zero_point(zero_point):
    """A padded, strided, grouped convolution computes what the trained one does."""
    torch.manual_seed(0)
    rule = Quantization("budget", 4, between(-3, 12), 9, "fit", zero_point)
    layer = QuantConv2d(
        4, 6, 3, stride=(2, 1), padding=(2, 1), dilation=(1, 2), groups=2, quantization=rule
    )
    model, x = nn.Sequential(layer), torch.randn(3, 4, 7, 8) + 1
    model(x)
    frozen = to_layers(model)["0"]
    assert frozen.padding == ((2, 1) if zero_point == "subtract" else (0, 0))
    assert bounds.least_bits(frozen.rows, frozen.input_spec, bias=frozen.bias).max() <= 9
    with torch.no_grad():
        for register in (Accumulator(32), Accumulator(9, "saturate")):
            assert torch.equal(to_integer(model, register)(x), model(x))


def test_each_lowering_has_its_budget():
    """Raw codes outside are unsigned inputs; the others have the range that they had."""
    for zero_point, spec in zip(
        ZERO_POINTS, (between(-3, 12), unsigned(4), between(-3, 12)), strict=True
    ):
        rule = Quantization("budget", 4, between(-3, 12), 9, "ep", zero_point)
        assert rule.bounded_spec == spec
    rule = Quantization("budget", 4, signed(4), 9, "ep", "outside")
    assert (rule.offset, rule.code_spec) == (8, unsigned(4))
    rule = Quantization("budget", 4, unsigned(4), 9, "ep", "outside")
    assert (rule.offset, rule.code_spec) == (0, unsigned(4))


def test_asymmetric_inputs_in_a_model():
    """Inputs that are never negative stay unsigned; the others take their zero point from data."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 6), nn.ELU(), nn.Linear(6, 2))
    x = torch.randn(50, 5)
    how = {"weight_bits": 4, "act_bits": 4, "acc_bits": 10, "edge_bits": None}
    quantized = quantize_model(model, calibration=x, zero_point="subtract", **how)
    specs = [layer.input_spec for layer in to_layers(quantized).values()]
    assert specs[1] == unsigned(4)
    assert specs[2].min > -8
    assert specs[2].max - specs[2].min == 15
    symmetric = quantize_model(model, calibration=x, **how)
    with torch.no_grad():
        errors = [
            float((one[4](model[:4](x)) - model(x)).square().mean())
            for one in (quantized, symmetric)
        ]
    assert errors[0] < errors[1]  # no codes are spent on what does not occur


def test_the_least_register_is_named():
    """A width at which every weight would be 0 is refused, one more bit is not."""
    for method, spec, least in (
        ("a2q", unsigned(4), 6),
        ("a2q+", unsigned(4), 5),
        ("budget", unsigned(4), 5),
        ("a2q", signed(8), 9),
        ("a2q+", signed(8), 9),
        ("budget", signed(8), 8),
        ("budget", between(-1, 6), 4),
        ("budget", between(-1, 8), 4),  # -1 fits, 1 does not
        ("a2q+", between(-1, 5), 4),  # 1 fits, 1 and -1 do not
        ("base", unsigned(4), None),
    ):
        if least is None:
            QuantLinear(3, 2, quantization=Quantization(method, 4, spec))
            continue
        layer = QuantLinear(3, 2, quantization=Quantization(method, 4, spec, least, "ep"))
        with torch.no_grad():
            other = -9.0 if method == "a2q+" else 0.0
            layer.weight.copy_(torch.tensor([[9.0, other, 0.0], [-9.0, -other, 0.0]]))
            if layer.weight_quantizer.log2_norm is not None:
                layer.weight_quantizer.log2_norm.fill_(9)
        assert to_layers(nn.Sequential(layer))["0"].weight.any()
        text = f"acc_bits must be at least {least} for method"
        with pytest.raises(SpecError, match=text):
            QuantLinear(3, 2, quantization=Quantization(method, 4, spec, least - 1))
