"""Ranges of every kind, bias, both signs of register: all enumerated beside what is decided.

`CONFIGURATIONS` and `CASES` count what `test_decide` compares: a case is one input of one channel.
"""

from collections import Counter
from itertools import permutations, product

import numpy as np
import pytest
from enumeration import distinct, every, folded, holding, holdings

from accsim import Accumulator, IntLayer, Overflow, between, bounds, signed, simulate
from accsim.errors import RangeError
from verification import Verdict, decide, oracle, widths
from verification.properties import FIELDS

WEIGHTS = {0: signed(2), 1: signed(4), 2: signed(3), 3: between(-2, 2), 4: signed(2)}  # by taps
WITH_ZERO = [(0, 0), (0, 2), (-3, 0), (-1, 2), (-2, 1)]
WITHOUT = [(3, 3), (-2, -2), (1, 3), (2, 5), (-3, -1), (-6, -4)]
RANGES = [between(*ends) for ends in WITH_ZERO + WITHOUT]
GRID = list(product(WEIGHTS, RANGES))
CONFIGURATIONS, CASES = 4316, 41_145_590
STARTS = (-5, 0, 3)  # of registers that are as wide as need be

everywhere = pytest.mark.parametrize(("k", "spec"), GRID, ids=str)


def configurations(k, spec):
    """Registers of both signs and rules to one bit past the types' need, from every start tried.

    Each starts at its rails, beside one, in the middle and, without a bias, at 0.
    """
    for bits, is_signed in product(range(2, most_bits(k, spec) + 2), (True, False)):
        ends = Accumulator(bits, signed=is_signed)
        starts = {ends.min, ends.min + 1, 0, ends.max // 2, ends.max}
        for start, rule in product(sorted(starts), Overflow):
            yield Accumulator(bits, rule, signed=is_signed), start


def most_bits(k, spec):
    """What these types need at most."""
    return bounds.data_type_bits(k, WEIGHTS[k], spec)


def all_of(k, spec):
    """Every weight and every input. Shapes: (weights, K), (inputs, K)."""
    return every(WEIGHTS[k], k), every(spec, k)


def layer_of(weights, spec, start=0):
    """All of these channels, starting there, or each at its own start; without a bias at 0."""
    bias = None if np.all(start == 0) else np.broadcast_to(start, len(weights))
    return IntLayer(weights, weight_spec=signed(4), input_spec=spec, bias=bias)


def sums_of(weights, inputs, order=None):
    """All running sums from 0 on, the taps in this order. Shapes: (inputs, weights, K + 1)."""
    products = inputs[:, None] * weights
    products = products if order is None else products[..., list(order)]
    return np.pad(products, ((0, 0), (0, 0), (1, 0))).cumsum(axis=-1)


def reach(sums):
    """Lowest and highest of each weight: (weights,) each."""
    return sums.min(axis=(0, 2)), sums.max(axis=(0, 2))


@everywhere
def test_decide(k, spec):
    """Every field equals the definition's, and the report what they show; the oracle agrees."""
    weights, inputs = all_of(k, spec)
    sequences, which = distinct(weights, inputs)
    exact = inputs @ weights.T
    for register, start in configurations(k, spec):
        layer = layer_of(weights, spec, start)
        run = simulate(layer, inputs, register)
        answers = folded(sequences, register, start)
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(run, field), answers[field][which])
        report = decide(layer, register)
        unsafe = (run.overflow_count > 0).any(axis=0)
        assert report.unsafe_channels == tuple(np.flatnonzero(unsafe).tolist())
        assert report.verdict is (Verdict.REFUTED if unsafe.any() else Verdict.PROVED)
        needed = holdings(run.peak_low.min(axis=0), run.peak_high.max(axis=0))
        assert report.channel_bits.tolist() == needed
        assert report.least_bits == max(needed)
        final = start + exact
        wrapped = (final - register.min) % 2**register.bits + register.min
        right = (wrapped == final).all(axis=0)
        assert report.wrap_exact == right.all()
        if right.any():  # though some of these channels overflow on the way
            ending = decide(layer_of(weights[right], spec, start), register)
            assert ending.wrap_exact
            assert len(ending.unsafe_channels) == unsafe[right].sum()
        assert (report.witness is None) == (report.verdict is Verdict.PROVED)
        if report.witness:
            assert unsafe[report.witness.channel]
            check(report.witness, spec)
        ends = (spec.min, spec.max, register.bits)
        how = {"signed": register.signed, "bias": start}
        assert [not oracle.safe(row, *ends, **how) for row in weights.tolist()] == unsafe.tolist()


def check(witness, spec):
    """A legal input that the simulator sees overflow."""
    assert witness.x.size == 0 or spec.min <= witness.x.min() <= witness.x.max() <= spec.max
    assert witness.replay().first_overflow.tolist() == [witness.step]


def test_the_grid_is_complete():
    """The grid has the documented number of configurations and cases."""
    found = Counter()
    for k, spec in GRID:
        weights, inputs = all_of(k, spec)
        number = len(list(configurations(k, spec)))
        found["configurations"] += number
        found["cases"] += number * len(weights) * len(inputs)
    assert found == {"configurations": CONFIGURATIONS, "cases": CASES}


@everywhere
def test_least_bits(k, spec):
    """Each channel alone is proved at its least width and refuted one bit below, from any start."""
    weights, inputs = all_of(k, spec)
    sums = sums_of(weights, inputs)
    ends, finals = reach(sums), reach(sums[..., -1:])
    together = []
    for start in STARTS:
        needed = holdings(*(np.array(ends) + start))
        final = holdings(*(np.array(finals) + start))
        together += needed
        found = widths(layer_of(weights, spec, start))
        assert (found.every_step.tolist(), found.final.tolist()) == (needed, final)
        for row, bits, end in zip(weights, needed, final, strict=True):
            layer, words = layer_of(row[None], spec, start), row.tolist()
            assert bounds.least_bits(row, spec, bias=start) == bits
            assert oracle.least_bits(words, spec.min, spec.max, bias=start) == bits
            at = decide(layer, Accumulator(max(2, bits)))
            assert (at.verdict, at.least_bits, at.wrap_exact) == (Verdict.PROVED, bits, True)
            if bits > 2 and holding(start, start) < bits:  # a register, and it holds the start
                below = decide(layer, Accumulator(bits - 1, "saturate"))
                assert (below.verdict, below.least_bits) == (Verdict.REFUTED, bits)
                assert below.wrap_exact == (end < bits)
                check(below.witness, spec)
    # in one layer, each channel starts where it does
    starts = np.repeat(STARTS, len(weights))
    mixed = decide(layer_of(np.tile(weights, (len(STARTS), 1)), spec, starts), Accumulator(9))
    assert mixed.channel_bits.tolist() == together


@everywhere
def test_any_order(k, spec):
    """The extremes over all inputs, in all orders; every subset is where some order has come to."""
    weights, inputs = all_of(k, spec)
    ends = [reach(sums_of(weights, inputs, order)) for order in permutations(range(k))]
    low = np.minimum.reduce([end[0] for end in ends])
    high = np.maximum.reduce([end[1] for end in ends])
    for start in STARTS:
        found = bounds.any_order_extremes(weights, spec, bias=[start] * len(weights))
        np.testing.assert_array_equal(found, (low + start, high + start))
        bits = widths(layer_of(weights, spec, start)).any_order
        assert bits.tolist() == holdings(low + start, high + start)


@everywhere
def test_preloads(k, spec):
    """Every start of every register, all inputs simulated: which of them hold every running sum."""
    weights, inputs = all_of(k, spec)
    least = bounds.preloaded_bits(weights, spec)
    assert widths(layer_of(weights, spec)).preloaded.tolist() == least.tolist()
    for bits in range(2, most_bits(k, spec) + 2):
        register = Accumulator(bits, "saturate")
        starts = range(register.min, register.max + 1)
        safe = np.array(
            [
                (simulate(layer_of(weights, spec, s), inputs, register).overflow_count == 0).all(0)
                for s in starts
            ]
        )
        possible = safe.any(axis=0)
        assert possible.tolist() == (least <= bits).tolist()
        first = np.array(starts)[safe.argmax(axis=0)]
        for row, start, holds in zip(weights, first.tolist(), possible.tolist(), strict=True):
            if holds:
                assert bounds.preload(row, spec, bits) == start
            else:
                with pytest.raises(RangeError):
                    bounds.preload(row, spec, bits)
        if possible.all():
            assert bounds.preload(weights, spec, bits).tolist() == first.tolist()


@everywhere
def test_fold_intervals(k, spec):
    """The longest runs of taps of which no subset overflows, all runs, subsets and inputs tried."""
    weights, inputs = all_of(k, spec)
    products = inputs[:, None] * weights
    ends = {
        (first, last): reach(products[..., first:last] @ every(between(0, 1), last - first).T)
        for first in range(k)
        for last in range(first + 1, k + 1)
    }
    for bits in range(2, most_bits(k, spec) + 2):
        register = Accumulator(bits)
        wanted = np.zeros(len(weights), int)
        for length in range(1, k + 1):
            fit = [
                bounds.fits(*ends[first, first + length], register)
                for first in range(k - length + 1)
            ]
            wanted = np.where(np.all(fit, axis=0), length, wanted)
        assert bounds.fold_interval(weights, spec, bits).tolist() == wanted.tolist()
