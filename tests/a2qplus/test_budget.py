"""The exact safe set: projections beside a general solver, rounding beside its slow definition."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from a2qplus.budget import apportion, project_budget, project_zero_centered
from a2qplus.functional import project_l1, refill
from accsim import Accumulator, between, bounds, signed, unsigned
from accsim.errors import ShapeError

SPECS = [
    unsigned(4),
    signed(4),
    unsigned(2),
    signed(2),
    between(-3, 9),
    between(-9, 2),
    between(-5, 5),
    between(0, 1),
]


def nearest(y, sides, limits):
    """The nearest z with sides @ z <= limits: least distance programming by non-negative squares.

    Source: Lawson and Hanson, Solving Least Squares Problems, chapter 23.
    """
    lack = sides @ y - limits
    found, _ = nnls(np.vstack([-sides.T, lack[None]]), np.r_[np.zeros(len(y)), 1.0], maxiter=10_000)
    rest = np.vstack([-sides.T, lack[None]]) @ found - np.r_[np.zeros(len(y)), 1.0]
    return y - rest[:-1] / rest[-1] if rest[-1] else y


def row(rng, size):
    """A channel of up to 6 taps, of about this size."""
    taps = int(rng.integers(1, 7))
    return rng.normal(rng.uniform(-1, 1), 1, taps) * size / taps


def test_projection_equals_a_general_solver():
    """1,000 channels: every corner input is a constraint, and nothing else is said of the set."""
    rng = np.random.default_rng(0)
    moved = 0
    for case in range(1000):
        spec, bits = SPECS[case % len(SPECS)], int(rng.integers(4, 12))
        y = row(rng, 2.0**bits / spec.magnitude * rng.uniform(0.05, 2))
        corners = np.array(list(product([spec.min, spec.max], repeat=len(y))), float)
        register = Accumulator(bits)
        limits = np.repeat([register.max, -register.min], len(corners))
        size = max(1.0, abs(y).max())
        right = nearest(y / size, np.vstack([corners, -corners]), limits / size) * size
        found = project_budget(torch.tensor(y)[None], bounds.sign_budgets(bits, spec))[0].numpy()
        # reals from two solvers, not integers
        np.testing.assert_allclose(found, right, rtol=0, atol=1e-9 * size)
        moved += bool(abs(found - y).max() > 1e-6)
    assert 300 < moved < 900


@pytest.mark.parametrize("centred", [False, True])
def test_norm_balls_equal_a_general_solver(centred):
    """500 channels each: every sign pattern is a constraint, and the sum."""
    rng = np.random.default_rng(1)
    moved = 0
    for _ in range(500):
        y = row(rng, 10)
        radius = rng.uniform(0.1, 1.5) * abs(y).sum()
        sides = np.array(list(product([-1.0, 1.0], repeat=len(y))))
        limits = np.full(len(sides), radius)
        if centred:
            sides = np.vstack([sides, np.ones(len(y)), -np.ones(len(y))])
            limits = np.r_[limits, 0, 0]
        project = project_zero_centered if centred else project_l1
        found = project(torch.tensor(y)[None], radius)[0].numpy()
        # reals from two solvers, not integers
        np.testing.assert_allclose(found, nearest(y, sides, limits), rtol=0, atol=1e-9)
        moved += bool(abs(found - y).max() > 1e-6)
    assert moved > 200


def test_projection_is_differentiated_as_it_is():
    """Its gradient is that of finite differences, in all cases: none, one and both half-planes."""
    rng = np.random.default_rng(2)
    for spec in SPECS:
        y = torch.tensor(rng.normal(0.3, 3, (6, 5)), requires_grad=True)
        budgets = bounds.sign_budgets(5, spec)
        assert torch.autograd.gradcheck(lambda y, b=budgets: project_budget(y, b), y)
        assert bool((project_budget(y, budgets) - y).abs().amax(dim=1).gt(0.1).any())


def slowly(target, start, budgets):
    """One unit after another to the entry that lacks most; a sign is done when one does not fit."""
    q, done = [int(n) for n in start], set()
    while True:
        lacks = {
            i: abs(t) - abs(n)
            for i, (t, n) in enumerate(zip(target, q, strict=True))
            if t and (t > 0) not in done and abs(t) - abs(n) >= 0.5
        }
        if not lacks:
            return q
        largest = min(lacks, key=lambda i: (-lacks[i], i))
        sign = target[largest] > 0
        q[largest] += 1 if sign else -1
        sums = sum(max(n, 0) for n in q), -sum(min(n, 0) for n in q)
        if not budgets.allow(*sums):
            q[largest] -= 1 if sign else -1
            done.add(sign)


def test_apportionment_equals_its_slow_definition():
    """3,000 channels with ties, from zero and from the target rounded toward zero."""
    rng = np.random.default_rng(3)
    nearest_everywhere = 0
    for case in range(3000):
        spec, taps = SPECS[case % len(SPECS)], int(rng.integers(1, 9))
        budgets = bounds.sign_budgets(int(rng.integers(3, 9)), spec)
        y = rng.normal(0, 1, (1, taps)) * rng.uniform(0.3, 6)
        y = np.round(y * 4) / 4 if case % 3 == 0 else y
        target = torch.tensor(y)
        found = apportion(target, budgets, start=torch.zeros_like(target))[0].tolist()
        assert found == slowly(y[0], [0] * taps, budgets)
        inside = project_budget(target, budgets)
        found = apportion(inside, budgets)[0].tolist()
        z = inside[0].numpy()
        assert found == slowly(z, np.trunc(z * (1 - 1e-11)), budgets)
        nearest_everywhere += bool((abs(np.array(found) - y[0]) <= 0.5).all())
    assert 500 < nearest_everywhere < 2500


def test_apportionment_is_the_nearest_for_unsigned_inputs():
    """Small channels, every integer vector of the safe set tried: none is nearer to the target."""
    rng = np.random.default_rng(4)
    for _ in range(300):
        taps, budgets = (
            int(rng.integers(1, 5)),
            bounds.sign_budgets(5, unsigned(int(rng.integers(1, 4)))),
        )
        y = np.clip(rng.normal(0, 1, taps) * rng.uniform(0.3, 4), -3, 3)
        target = torch.tensor(y)[None]
        q = apportion(target, budgets, start=torch.zeros_like(target))[0].numpy()
        every = np.array(list(product(range(-3, 4), repeat=taps)))
        safe = every[budgets.allow(every.clip(0).sum(1), -every.clip(max=0).sum(1))]
        least = ((safe - y) ** 2).sum(axis=1).min()
        assert ((q - y) ** 2).sum() <= least + 1e-9


def test_channels_are_independent():
    """A row by itself gives what it gives among others; no rows and no taps give none."""
    rng = np.random.default_rng(5)
    for spec in (unsigned(4), signed(4)):
        budgets = bounds.sign_budgets(7, spec)
        y = torch.tensor(rng.normal(0, 2, (9, 30)) * rng.uniform(0.1, 3, (9, 1)))
        for whole, alone in (
            (project_budget(y, budgets), [project_budget(r[None], budgets) for r in y]),
            (
                apportion(y, budgets, start=0 * y),
                [apportion(r[None], budgets, start=0 * r[None]) for r in y],
            ),
        ):
            assert torch.equal(whole, torch.cat(alone))
        for shape in ((0, 4), (3, 0), (0, 0)):
            none = torch.zeros(shape, dtype=torch.float64)
            assert apportion(project_budget(none, budgets), budgets).shape == shape
            assert project_zero_centered(none, 1.0).shape == shape


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("spec", [unsigned(4), signed(4), between(-3, 12)], ids=str)
def test_refill_spends_what_is_left(bits, spec):
    """Nearer to the weights than before, and proved; what was nearest stays as it is."""
    rng = np.random.default_rng(6)
    y = torch.tensor(rng.normal(0, 2, (40, 144)))
    start = torch.trunc(project_budget(y, bounds.sign_budgets(bits, spec)) * (1 - 1e-9))
    q = refill(start, y, acc_bits=bits, weight_bits=4, input_spec=spec)
    low, high = bounds.running_extremes(q.to(torch.int64), spec)
    assert bounds.fits(low, high, Accumulator(bits)).all()
    error = [(n.clamp(-7, 7) - y).square().sum(dim=1) for n in (start, q)]
    assert bool((error[1] <= error[0]).all())
    assert bool((error[1] < error[0]).any())
    assert torch.equal(refill(q, y, acc_bits=bits, weight_bits=4, input_spec=spec), q)
    assert int(q.abs().max()) <= 7


def test_units_of_any_size():
    """Targets beyond what float64 counts end, too."""
    target = torch.tensor([[1e300, -1e17, 3.0]], dtype=torch.float64)
    q = apportion(target, bounds.sign_budgets(8, unsigned(4)), start=torch.zeros_like(target))
    assert q.tolist() == [[8, -8, 0]]


def test_refill_is_exact_in_any_type():
    """Its integers are returned in float64: in their own type some would be others."""
    q = torch.zeros(1, 2, dtype=torch.bfloat16)
    how = {"weight_bits": 12, "acc_bits": 10, "input_spec": unsigned(1)}
    assert refill(q, torch.tensor([[511.0, 0]]), **how).tolist() == [[511, 0]]
    q = torch.zeros(1, 2, dtype=torch.int8)
    how = {"weight_bits": 12, "acc_bits": 24, "input_spec": unsigned(4)}
    assert refill(q, torch.tensor([[200.0, 1500.0]]), **how).tolist() == [[200, 1500]]


def test_refill_keeps_what_it_cannot_improve():
    """Integers of the other sign, or beyond their target, are left alone; unsafe ones too."""
    how = {"acc_bits": 8, "weight_bits": 4, "input_spec": unsigned(4)}
    q = torch.tensor([[2, -1, 0, 3]])
    assert refill(q, torch.tensor([[-3.0, -1.2, 0.4, 1.0]]), **how).tolist() == q.tolist()
    unsafe = torch.tensor([[7, 7, 7, -1]])
    assert refill(unsafe, torch.tensor([[7.0, 7.0, 7.0, -3.0]]), **how).tolist() == unsafe.tolist()
    with pytest.raises(
        ShapeError, match=r"target must have the shape of q, \(1, 4\), not \(1, 3\)"
    ):
        refill(q, torch.zeros(1, 3), **how)
