"""The weight quantizer: scale, norm and weights that training starts from, and the penalty."""

import pytest
import torch
from torch import nn

from a2qplus import penalty
from a2qplus.methods import METHODS, Quantization
from a2qplus.quantizers import ActivationQuantizer, WeightQuantizer
from accsim import between, bounds, signed, unsigned


def test_ep_init():
    """Scale max|w| / 7; the nearest weights in their set, exact; norm theirs; zeros stay zeros."""
    torch.manual_seed(0)
    weight = torch.randn(4, 100)
    weight[3] = 0
    for method, budget in (
        ("a2q", bounds.l1_budget(10, unsigned(4))),
        ("a2q+", bounds.zero_centered_budget(10, unsigned(4))),
    ):
        quantizer = WeightQuantizer(4, Quantization(method, 4, unsigned(4), 10, "ep"))
        v = quantizer.initialize(weight)
        scale = quantizer.scale.float()
        torch.testing.assert_close(scale[:3], weight[:3].abs().amax(dim=1) / 7)
        norm = v.abs().sum(dim=1)
        torch.testing.assert_close(norm[:3], scale[:3] * float(budget))
        assert v[3].abs().max() == 0
        centred = v - v.mean(dim=1, keepdim=True) if method == "a2q+" else v
        torch.testing.assert_close(
            quantizer.log2_norm.exp2()[:3], centred.abs().sum(dim=1)[:3], rtol=1e-4, atol=0
        )
        assert quantizer(v)[3].abs().max() == 0


@pytest.mark.parametrize("method", METHODS)
def test_the_fitted_scale_is_the_best_of_those_tried(method):
    """Its integers are no further from the weights than those of any other scale of the series."""
    torch.manual_seed(1)
    weight = torch.randn(6, 50)
    weight[5] = 0
    errors = {}
    for start in ("fit", "ep"):
        rule = Quantization(method, 4, unsigned(4), 8 if METHODS[method].bounded else None, start)
        quantizer = WeightQuantizer(6, rule)
        v = quantizer.initialize(weight)
        with torch.no_grad():
            errors[start] = (quantizer(v) * quantizer.scale[:, None] - weight).square().sum(dim=1)
    assert bool((errors["fit"] <= errors["ep"] * (1 + 1e-6)).all())
    assert errors["fit"].sum() < 0.995 * errors["ep"].sum()
    largest = weight.abs().amax(dim=1).double()
    for step in range(-3, 16):  # every scale that is tried, by hand
        scale = (largest / 7 * 2 ** (step / 4)).clamp_min(1e-10)
        rows = weight.double()
        started = METHODS[method].nearest(rows / scale[:, None], rule) * scale[:, None]
        norm = started - started.mean(dim=1, keepdim=True) * (method == "a2q+")
        q = METHODS[method].quantize(started, scale, norm.abs().sum(dim=1), rule)
        error = (q * scale[:, None] - rows).square().sum(dim=1)
        assert bool((errors["fit"] <= error * (1 + 1e-6) + 1e-12).all())


def test_a_naive_start_leaves_the_weights():
    """Scale max|w| / 7, the weights as they are, the norm that of the centred ones."""
    torch.manual_seed(2)
    weight = torch.randn(3, 20) + 1
    for method in ("a2q", "a2q+", "budget"):
        quantizer = WeightQuantizer(3, Quantization(method, 4, unsigned(4), 8, "naive"))
        torch.testing.assert_close(quantizer.initialize(weight), weight)
        if method != "budget":
            rows = weight - weight.mean(dim=1, keepdim=True) if method == "a2q+" else weight
            torch.testing.assert_close(quantizer.log2_norm.exp2(), rows.abs().sum(dim=1))


def test_penalty_counts_what_is_above_the_budget():
    """Zero below the budget; norm - scale·T above; its gradient shrinks the norm."""
    quantizer = WeightQuantizer(2, Quantization("a2q+", 4, unsigned(4), 8))
    budget = float(bounds.zero_centered_budget(8, unsigned(4)))
    with torch.no_grad():
        quantizer.log2_norm.copy_(torch.tensor([3.0, 6.0]))  # 8 and 64 against 254/15
    value = penalty(nn.Sequential(quantizer))
    assert value.item() == pytest.approx(64 - budget)
    value.backward()
    assert quantizer.log2_norm.grad[0] == 0
    assert quantizer.log2_norm.grad[1] > 0
    assert penalty(nn.Linear(1, 1)).item() == 0


@pytest.mark.parametrize(
    ("spec", "low", "high", "scale"),
    [
        (signed(4), -8.0, 1.0, 1.0),
        (signed(4), -1.0, 14.0, 2.0),
        (between(-3, 12), -6.0, 6.0, 2.0),
        (between(-3, 12), -1.0, 24.0, 2.0),
        (unsigned(4), -99.0, 15.0, 1.0),  # what no code stands for tells nothing
    ],
)
def test_codes_reach_what_was_seen(spec, low, high, scale):
    """The end that needs the coarser step decides, of the ends that have codes."""
    quantizer = ActivationQuantizer(spec)
    quantizer(torch.tensor([low, high]))
    assert quantizer.calibrated
    assert quantizer.scale.item() == scale


@pytest.mark.parametrize(("spec", "calibrated"), [(signed(4), True), (unsigned(4), False)])
def test_only_inputs_with_codes_tell_a_scale(spec, calibrated):
    """A batch without positive inputs calibrates where negative ones have codes."""
    quantizer = ActivationQuantizer(spec)
    for x in (torch.zeros(3), torch.zeros(0)):
        quantizer(x)
        assert not quantizer.calibrated
    quantizer(torch.tensor([-2.0, 0.0]))
    assert bool(quantizer.calibrated) is calibrated


def test_the_start_stays_in_the_float_type():
    """The nearest centred weights of the largest floats are larger still, and are cut off."""
    quantizer = WeightQuantizer(1, Quantization("a2q+", 4, unsigned(4), 12, "ep"))
    weight = torch.tensor([[65504.0, -65504.0, -65504.0]], dtype=torch.float16)
    assert quantizer.initialize(weight).isfinite().all()
