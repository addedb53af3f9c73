"""Where training starts: the published errors of initialisation, and what the exact sets gain."""

import pytest
import torch

from a2qplus.budget import apportion, project_budget, project_zero_centered
from a2qplus.functional import project_l1, quantize_a2q, quantize_a2q_plus, zero_center
from accsim import bounds, unsigned

INPUTS = unsigned(4)
TAPS, CHANNELS = 576, 200
# error and share of zeros on Gaussian channels of 576 taps, 4-bit weights, inputs UINT4
# Source: A2Q+ (arXiv 2401.10432) B.3, reproduced; the last two are ours
TABLE = {
    "a2q naive": {10: (1.000, 1.00), 12: (0.999, 1.00), 13: (0.866, 0.93), 14: (0.469, 0.63)},
    "a2q ep": {10: (0.938, 0.98), 12: (0.777, 0.91), 13: (0.603, 0.82), 14: (0.336, 0.65)},
    "a2q+ naive": {10: (1.000, 1.00), 12: (0.837, 0.91), 13: (0.426, 0.60), 14: (0.071, 0.36)},
    "a2q+ ep": {10: (0.890, 0.96), 12: (0.601, 0.82), 13: (0.319, 0.63), 14: (0.070, 0.36)},
    "projected": {12: (0.582, None), 13: (0.309, None), 14: (0.070, None)},
    "nearest": {12: (0.426, None), 13: (0.158, None), 14: (0.019, None)},
}


def integers(name, y, bits):
    """Of channels in units of their scale, as each way initialises them."""
    how = {"weight_bits": 4, "acc_bits": bits, "input_spec": INPUTS}
    one = torch.ones(len(y))
    budgets = bounds.sign_budgets(bits, INPUTS)
    if name == "projected":
        return torch.trunc(project_budget(y, budgets))
    if name == "nearest":
        return apportion(y, budgets, start=torch.zeros_like(y))
    plus = name.startswith("a2q+")
    rule = bounds.zero_centered_budget if plus else bounds.l1_budget
    v = project_l1(y, float(rule(bits, INPUTS))) if name.endswith("ep") else y
    norm = (zero_center(v) if plus else v).abs().sum(dim=1)
    return (quantize_a2q_plus if plus else quantize_a2q)(v, one, norm, **how)[0]


def gaussian():
    """Channels in units of the scale max|w| / 7."""
    torch.manual_seed(0)
    w = torch.randn(CHANNELS, TAPS, dtype=torch.float64)
    return w / w.abs().amax(dim=1, keepdim=True) * 7


def error(q, y):
    """Squared distance beside the squared length, averaged over channels."""
    return float(((q - y).square().sum(dim=1) / y.square().sum(dim=1)).mean())


@pytest.mark.parametrize("name", TABLE)
def test_published_errors(name):
    """Within 0.01 of the table, and the share of zeros within 0.015."""
    y = gaussian()
    for bits, (expected, zeros) in TABLE[name].items():
        q = integers(name, y, bits)
        assert error(q, y) == pytest.approx(expected, abs=0.01)
        if zeros is not None:
            assert float((q == 0).double().mean()) == pytest.approx(zeros, abs=0.015)


def test_the_exact_start_is_nearer():
    """The paper projects, centres and scales down to the norm: further away than the nearest."""
    y = gaussian()
    for bits in (10, 12, 13):
        radius = float(bounds.zero_centered_budget(bits, INPUTS))
        paper = zero_center(project_l1(y, radius))
        paper *= (radius / paper.abs().sum(dim=1, keepdim=True)).clamp_max(1)
        exact = project_zero_centered(y, radius)
        assert error(exact, y) < error(paper, y)
        assert exact.sum(dim=1).abs().max() < 1e-9
        assert exact.abs().sum(dim=1).max() <= radius * (1 + 1e-12)
