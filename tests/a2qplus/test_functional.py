"""The paper's quantizers: the authors' integers, the guarantee, the gradients."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from a2qplus import functional
from a2qplus.functional import (
    project_l1,
    quantize_a2q,
    quantize_a2q_plus,
    quantize_budget,
    quantize_nearest,
    round_nearest,
    round_toward_zero,
    zero_center,
)
from accsim import Accumulator, between, bounds, signed, unsigned

GOLDEN = Path(__file__).parents[1] / "data" / "a2q_quantizer.npz"
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
QUANTIZE = {
    "a2q": quantize_a2q,
    "a2q+": quantize_a2q_plus,
    "budget": lambda v, scale, norm, **how: quantize_budget(v, scale, **how),
}


def golden():
    """The 16 configurations made by the paper's authors' library."""
    with np.load(GOLDEN) as data:
        arrays = dict(data)
    metas = json.loads(str(arrays["meta_json"]))
    assert len(metas) == 16
    return [(m, {k: arrays[f"{m['id']}_{k}"] for k in ("v", "scale", "norm", "q")}) for m in metas]


def formula(meta, v, scale, norm):
    """The real numbers before rounding, in float64 numpy, as the vectors' description has them."""
    rows = v.astype(np.float64).reshape(len(v), -1)
    if meta["kind"] == "a2q+":
        budget = (2 ** meta["P"] - 2) / (2 ** meta["N"] - 1)
        rows = rows - rows.mean(axis=1, keepdims=True)
    else:
        budget = (2 ** (meta["P"] - 1) - 1) * 2.0 ** (int(meta["signed"]) - meta["N"])
    ratio = norm.astype(np.float64) / scale.astype(np.float64)
    length = np.minimum(ratio, budget)[:, None]
    return rows / abs(rows).sum(axis=1, keepdims=True) * length


@pytest.mark.parametrize(("meta", "arrays"), golden(), ids=[m["id"] for m, _ in golden()])
def test_integers_equal_the_authors(meta, arrays):
    """Equal, but where the real number lies within 4 float32 ulp of an integer: there one apart."""
    q, _ = QUANTIZE[meta["kind"]](
        *(torch.tensor(arrays[k]) for k in ("v", "scale", "norm")),
        weight_bits=meta["M"],
        acc_bits=meta["P"],
        input_spec=(signed if meta["signed"] else unsigned)(meta["N"]),
    )
    ours, theirs = q.numpy().reshape(len(q), -1), arrays["q"].reshape(len(q), -1)
    y = formula(meta, arrays["v"], arrays["scale"], arrays["norm"])
    near = abs(y - np.round(y)) <= 4 * np.spacing(abs(y).astype(np.float32))
    np.testing.assert_array_equal(ours[~near], theirs[~near])
    assert abs(ours[near] - theirs[near]).max(initial=0) <= 1


def test_few_of_the_authors_integers_differ():
    """Over all files at most 3 of 6,904, as float32 and float64 arithmetic are known to."""
    different = total = 0
    for meta, arrays in golden():
        q, w = QUANTIZE[meta["kind"]](
            *(torch.tensor(arrays[k]) for k in ("v", "scale", "norm")),
            weight_bits=meta["M"],
            acc_bits=meta["P"],
            input_spec=(signed if meta["signed"] else unsigned)(meta["N"]),
        )
        different += int((q.numpy() != arrays["q"]).sum())
        total += q.numel()
        scale = torch.tensor(arrays["scale"]).double().reshape(-1, *[1] * (q.ndim - 1))
        assert torch.equal(w, (q * scale).to(w.dtype))
    assert total == 6904
    assert different <= 3


def channels(count, taps, seed):
    """Random and adversarial channels (count, taps), float64."""
    rng = np.random.default_rng(seed)
    kinds = [
        rng.normal(size=(count, taps)),
        rng.standard_cauchy((count, taps)).clip(-3e4, 3e4),
        rng.laplace(size=(count, taps)) + 3,
        rng.integers(-7, 8, (count, taps)).astype(float),  # at integers after scaling
        np.full((count, taps), 0.9),
        np.zeros((count, taps)),
        1000 + rng.normal(size=(count, taps)) / 1000,  # mean a million times the spread
        np.eye(taps)[rng.integers(0, taps, count)],
        np.where(rng.random((count, taps)) < 0.5, 1.0, -1.0),
        np.full((count, taps), 0.1) + 1e-17 * rng.normal(size=(count, taps)),
    ]
    return np.concatenate(kinds)


def violations(q, spec, bits):
    """How many channels of integers can overflow, by the exact decision."""
    register = Accumulator(bits)
    low, high = bounds.running_extremes(q.to(torch.int64), spec)
    return int((~bounds.fits(low, high, register)).sum())


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("method", QUANTIZE)
def test_integers_always_fit(method, dtype):
    """10,000 random and degenerate channels x P 8..20 x N 1..8 x both signs: 0 violations, 0 NaN."""
    decided = 0
    weights = [torch.tensor(channels(250, taps, seed=taps)).to(dtype) for taps in (1, 3, 9, 64)]
    assert sum(len(v) for v in weights) == 10_000
    for v in weights:
        scale = (v.double().abs().amax(dim=1) / 127).clamp_min(1e-10).to(dtype)
        for bits in range(8, 21):
            for n in range(1, 9):
                for spec in (unsigned(n), signed(n)):
                    norm = v.double().abs().sum(dim=1) * 1000  # far above the budget
                    q, w = QUANTIZE[method](
                        v, scale, norm, weight_bits=8, acc_bits=bits, input_spec=spec
                    )
                    assert bool(q.isfinite().all())
                    assert bool(w.isfinite().all())
                    assert violations(q, spec, bits) == 0
                    decided += len(q)
    assert decided == 10_000 * 13 * 8 * 2


def test_the_decision_is_what_guards(monkeypatch):
    """Without centring, the integers of all-equal channels would not fit; they become zeros."""
    v, ones = torch.full((1, 3), 0.9), torch.ones(1)
    how = {"weight_bits": 8, "acc_bits": 8, "input_spec": unsigned(4)}
    monkeypatch.setattr(functional, "zero_center", lambda rows: rows)
    assert quantize_a2q_plus(v, ones, 100 * ones, **how)[0].tolist() == [[0, 0, 0]]
    monkeypatch.setattr(functional, "_safe", lambda *_: 1)
    q = quantize_a2q_plus(v, ones, 100 * ones, **how)[0]
    assert q.tolist() == [[5, 5, 5]]
    assert violations(q, unsigned(4), 8) == 1


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("method", QUANTIZE)
def test_gradients_are_finite(method, dtype):
    """No NaN in the gradient of any parameter, for any kind of channel."""
    for taps in (1, 3, 9):
        v = torch.tensor(channels(5, taps, seed=1)).to(dtype).requires_grad_()
        scale = torch.full((len(v),), 0.01, dtype=dtype, requires_grad=True)
        norm = torch.full((len(v),), 0.05, dtype=dtype, requires_grad=True)
        q, w = QUANTIZE[method](v, scale, norm, weight_bits=4, acc_bits=12, input_spec=unsigned(4))
        (w.double().sum() + (q * torch.arange(taps)).sum()).backward()
        for parameter in (v, scale) if method == "budget" else (v, scale, norm):
            assert bool(parameter.grad.isfinite().all())


def test_autocast_changes_nothing():
    """Under autocast to bfloat16 the integers are those in float64."""
    v = torch.tensor(channels(20, 9, seed=2)).float()
    scale, norm = torch.full((len(v),), 0.01), torch.full((len(v),), 99.0)
    how = {"weight_bits": 4, "acc_bits": 12, "input_spec": unsigned(4)}
    plain = quantize_a2q_plus(v, scale, norm, **how)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantize_a2q_plus(v, scale, norm, **how)[0], plain)


def test_gradient_is_that_of_the_formula():
    """Straight through the rounding: the gradient of the unrounded formula in autograd."""
    torch.manual_seed(0)
    v = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    scale = torch.full((3,), 0.05, dtype=torch.float64, requires_grad=True)
    norm = torch.tensor([1.0, 2.0, 99.0], dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 7, dtype=torch.float64)
    parameters = (v, scale, norm)
    for method, centre, budget in (
        ("a2q", 0, bounds.l1_budget(12, unsigned(4))),
        ("a2q+", 1, bounds.zero_centered_budget(12, unsigned(4))),
    ):
        q, _ = QUANTIZE[method](*parameters, weight_bits=8, acc_bits=12, input_spec=unsigned(4))
        ours = torch.autograd.grad((q * weight).sum(), parameters)
        c = v - centre * v.mean(dim=1, keepdim=True)
        length = torch.minimum(norm / scale, torch.tensor(float(budget), dtype=torch.float64))
        y = c / c.abs().sum(dim=1, keepdim=True) * length[:, None]
        inside = (y.detach().trunc().abs() <= 127).double()
        theirs = torch.autograd.grad((y * inside * weight).sum(), parameters)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_rounding():
    """Toward zero and to nearest even, exactly, with gradient 1."""
    y = torch.tensor([-2.5, -1.0, -0.7, 0.0, 0.49999997, 1.5, 2.5, 7.999999], requires_grad=True)
    assert round_toward_zero(y).tolist() == [-2, -1, 0, 0, 0, 1, 2, 7]
    assert round_nearest(y).tolist() == [-2, -1, -1, 0, 0, 2, 2, 8]
    (round_toward_zero(y).sum() + round_nearest(y).sum()).backward()
    assert y.grad.tolist() == [2] * 8


def test_plain_quantization():
    """To nearest, clipped to the symmetric range."""
    v, scale = torch.tensor([[0.26, -0.26, 9.0, -9.0]]), torch.tensor([0.1])
    q, w = quantize_nearest(v, scale, weight_bits=4)
    assert q.tolist() == [[3, -3, 7, -7]]
    assert torch.equal(w, (q * scale.double()).float())


def bisected(row, radius):
    """The projection by bisection on the threshold."""
    if abs(row).sum() <= radius:
        return row
    low, high = 0.0, abs(row).max()
    for _ in range(200):
        middle = (low + high) / 2
        inside = np.maximum(abs(row) - middle, 0).sum() <= radius
        low, high = (low, middle) if inside else (middle, high)
    return np.sign(row) * np.maximum(abs(row) - high, 0)


@pytest.mark.parametrize("radius", [0.0, 0.1, 1.0, 5.0, 1e9])
def test_projection_equals_bisection(radius):
    """Rows of many kinds, one radius or one per row; what is inside stays bit for bit."""
    rows = channels(3, 17, seed=3)
    expected = np.stack([bisected(row, radius) for row in rows])
    tensor = torch.tensor(rows)
    projected = project_l1(tensor, radius)
    torch.testing.assert_close(projected, torch.tensor(expected), rtol=1e-9, atol=1e-9)
    per_row = project_l1(
        tensor.reshape(-1, 17, 1), torch.full((len(rows),), radius, dtype=torch.float64)
    )
    assert torch.equal(per_row.reshape(-1, 17), projected)
    inside = tensor.abs().sum(dim=1) <= radius
    assert torch.equal(projected[inside], tensor[inside])


def test_zero_centring():
    """Rows sum to 0; rows without spread become zeros; one spread in a million survives."""
    rows = torch.tensor([[1.0, 2.0, 6.0], [0.9] * 3, [1e6, 1e6 + 1, 1e6 - 1]], dtype=torch.float64)
    assert zero_center(rows).tolist() == [[-2, -1, 3], [0, 0, 0], [0, 1, -1]]
    assert zero_center(torch.full((1, 7), 0.1, dtype=torch.float64)).abs().max() == 0


def test_equal_taps_centre_to_nothing():
    """All-equal channels of any length and size are zeros, which one subtraction would not give."""
    rng = np.random.default_rng(0)
    sizes = [*range(1, 60), 576, 1000, 4608, 10_007]
    rows = [
        torch.full((1, k), float(v), dtype=torch.float64)
        for k in sizes
        for v in (*rng.normal(size=9), 1e-300, 1e300 / k)
    ]
    assert all(bool((zero_center(row) == 0).all()) for row in rows)
    assert not all(bool((row == row.mean()).all()) for row in rows)


def test_a_mean_far_above_the_spread_is_taken_out():
    """Mean ten billion times the spread, in float64: the sum left is rounding error of the spread."""
    rows = 1e10 + torch.randn(
        50, 33, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    centred = zero_center(rows)
    assert (centred.sum(dim=1).abs() < 1e-12 * centred.abs().sum(dim=1)).all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("method", QUANTIZE)
def test_narrow_parameters_lose_nothing(method, dtype):
    """The integers of half-size floats are those of the same numbers in float64."""
    v = torch.tensor(channels(25, 9, seed=5)).to(dtype)
    scale, norm = torch.full((len(v),), 0.25), torch.full((len(v),), 1e4)
    how = {"weight_bits": 8, "acc_bits": 14, "input_spec": unsigned(4)}
    q, _ = QUANTIZE[method](v, scale.to(dtype), norm.to(dtype), **how)
    wide, _ = QUANTIZE[method](v.double(), scale.to(dtype).double(), norm.to(dtype).double(), **how)
    assert torch.equal(q, wide)
    assert (q != 0).any()


def test_any_range_with_zero():
    """Ranges that calibration makes: the integers fit there too, tightly enough to be of use."""
    v = torch.tensor(channels(50, 40, seed=4))[:200]
    ones = torch.ones(len(v))
    for spec in (between(-3, 9), between(0, 5), between(-200, 1)):
        for method, quantize in QUANTIZE.items():
            q, _ = quantize(v, ones, 1e6 * ones, weight_bits=8, acc_bits=12, input_spec=spec)
            assert violations(q, spec, 12) == 0
            budget = bounds.l1_budget if method == "a2q" else bounds.zero_centered_budget
            used = q.abs().sum(dim=1).max().item()
            assert Fraction(1, 2) * budget(12, spec) < used <= budget(12, spec)
