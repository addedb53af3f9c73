"""The look at a few sums: what it sees, and that what it guesses changes no result."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from accsim import Accumulator, IntLayer, arith, between, sample, signed, simulate, unsigned
from accsim.plan import plan
from accsim.sample import sampled_reach

MODULE = import_module("accsim.simulate")
FIELDS = ("output", "overflow_count", "first_overflow", "peak_low", "peak_high")


def layer(shape, seed=0, **how):
    """Random weights of eight bits."""
    weight = np.random.default_rng(seed).integers(-128, 128, shape)
    return IntLayer(weight, weight_spec=signed(8), input_spec=how.pop("inputs", unsigned(8)), **how)


def slow(layer, x):
    """Least and greatest of all exact running sums."""
    run = simulate(layer, x, Accumulator(62))
    return int(run.peak_low.min()), int(run.peak_high.max())


GEOMETRIES = [
    {},
    {"padding": (1, 2)},
    {"stride": (2, 3), "padding": 1},
    {"dilation": (2, 1), "padding": 2},
]


@pytest.mark.parametrize("how", GEOMETRIES, ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_a_small_call_is_seen_whole(how, bias, monkeypatch):
    """Where all outputs are looked at, the guess holds all sums, with its room and no more."""
    monkeypatch.setattr(sample, "PLACES", 10_000)
    random = np.random.default_rng(4)
    start = random.integers(-9000, 9000, 5) if bias else None
    one = layer((5, 2, 3, 2), bias=start, **how)
    x = random.integers(0, 256, (2, 2, 7, 8)).clip(max=200)
    low, high = slow(one, x)
    seen = int(1.4 * min(low, 0)), int(1.4 * max(high, 0))
    room = int(18 * np.abs(one.rows.astype(int)).mean() * x.max())
    assert sampled_reach(one, x) == (seen[0] - room, seen[1] + room)
    flat = layer((5, 6), bias=start)
    x = random.integers(0, 256, (3, 4, 6))
    low, high = slow(flat, x)
    room = int(18 * np.abs(flat.rows.astype(int)).mean() * x.max())
    assert sampled_reach(flat, x) == (int(1.4 * min(low, 0)) - room, int(1.4 * max(high, 0)) + room)


def test_few_are_looked_at():
    """As spread as they go: the ends, and not what is between."""
    one = IntLayer(np.eye(100, dtype=int), weight_spec=signed(8), input_spec=unsigned(8))
    x = np.zeros((1000, 100), int)
    x[1, 1] = 200
    assert sampled_reach(one, x) == (0, 0)
    x[999, 99] = 100
    assert sampled_reach(one, x) == (-18, 140 + 18)
    assert sampled_reach(layer((4, 1, 3, 3), groups=2), np.zeros((1, 2, 5, 5), int)) is None


CALLS = {
    "linear": ((16, 300), (40, 300), {}),
    "bias": ((16, 300), (40, 300), {"bias": np.linspace(-3000, 3000, 16).astype(int)}),
    "conv": ((16, 8, 3, 3), (2, 8, 9, 9), {"padding": 1}),
    "strided": ((8, 4, 3, 3), (2, 4, 11, 9), {"stride": 2, "dilation": 2}),
    "groups": ((8, 4, 3, 3), (2, 8, 9, 9), {"groups": 2}),
    "signed": ((16, 120), (64, 120), {"inputs": signed(4)}),
    "no zero": ((16, 120), (64, 120), {"inputs": between(3, 9)}),
}


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("case", CALLS)
def test_results_are_those_without(case, overflow, monkeypatch):
    """Whatever the register, and wherever it overflows."""
    shape, given, how = CALLS[case]
    random = np.random.default_rng(5)
    one = layer(shape, **how)
    ends = one.input_spec
    x = random.integers(ends.min, ends.max + 1, given)
    for scale in (1, 16):
        codes = np.clip(x // scale, ends.min, ends.max)
        for bits in (13, 14, 15, 16, 17, 20):
            register = Accumulator(bits, overflow)
            monkeypatch.setattr(MODULE, "LONG", 2**62)
            plain = simulate(one, codes, register)
            monkeypatch.setattr(MODULE, "LONG", 0)
            looked = simulate(one, codes, register)
            for field in FIELDS:
                assert np.array_equal(getattr(plain, field), getattr(looked, field)), (field, bits)


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_it_is_only_a_guess(overflow, monkeypatch):
    """Sums that no one looked at overflow, and are exact all the same."""
    monkeypatch.setattr(MODULE, "LONG", 0)
    random = np.random.default_rng(6)
    weight = random.integers(-8, 8, (64, 256))
    x = random.integers(0, 2, (400, 256))
    x[1:20] = random.integers(0, 16, (19, 256))
    weight[3] = 7
    one = IntLayer(weight, weight_spec=signed(4), input_spec=unsigned(4))
    register = Accumulator(14, overflow)
    reach = sampled_reach(one, x)
    assert register.min <= reach[0] <= reach[1] <= register.max
    run = simulate(one, x, register)
    wide = simulate(one, x, Accumulator(32))
    assert (run.overflow_count > 0).any()
    for row in range(0, 22):
        for channel in (0, 3, 63):
            end = arith.fold(weight[channel].tolist(), x[row].tolist(), register)
            assert (run.output[row, channel], run.overflow_count[row, channel]) == (
                end.output,
                end.overflow_count,
            )
    same = run.overflow_count == 0
    assert np.array_equal(run.output[same], wide.output[same])


def test_what_a_reach_changes():
    """A plan with a reach inside the register differs in form alone, and only from int16."""
    one, register = layer((16, 64), inputs=unsigned(4)), Accumulator(14, "saturate")
    without = plan(one, unsigned(4), register)
    for reach in ((-20_000, 5), (-5, 20_000), (-8193, 0), (0, 8192), (-(2**20), 2**20)):
        assert plan(one, unsigned(4), register, reach=reach) == without
    assert [part.form for part in without.parts].count("int16") > 0
    for reach in ((-8192, 8191), (0, 0)):
        parts = plan(one, unsigned(4), register, reach=reach).parts
        for part, before in zip(parts, without.parts, strict=True):
            if before.form != "int16":
                assert part == before
                continue
            why = f"{before.why}, but of a few outputs none comes near"
            assert part == replace(before, form="int16x2", why=why)


def test_short_calls_are_not_looked_at(monkeypatch):
    """A look costs as much as they do."""

    def never(*_):
        raise AssertionError("it was looked at")

    monkeypatch.setattr(MODULE, "sampled_reach", never)
    simulate(layer((16, 64)), np.ones((10, 64), int), Accumulator(14))
    assert MODULE.LONG == 2**28
