"""Every weight, input, width, rule and sign on a small grid: simulator, oracle, decision agree."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from enumeration import distinct, every

from accsim import Accumulator, IntLayer, Overflow, bounds, signed, simulate, unsigned
from verification import decide, oracle
from verification.properties import FIELDS, assert_kernels_agree

pytestmark = pytest.mark.unmeasured
BITS = 16  # of all operands of one dot product together
GRID = [
    (k, m, n, sign)
    for k, m, n, sign in product(range(1, 6), range(2, 9), range(1, 9), (signed, unsigned))
    if k * (m + n) <= BITS
]
CONFIGURATIONS, CASES = 2936, 38_156_656


def widths(k, m, n, sign):
    """Register widths from 2 to one past the width that these types need at most."""
    return range(2, bounds.data_type_bits(k, signed(m), sign(n)) + 2)


@pytest.mark.parametrize(("k", "m"), sorted({(k, m) for k, m, _, _ in GRID}))
def test_everything_agrees(k, m, counted):
    """Five fields equal the oracle's, and the decision equals what the enumeration shows.

    Every kernel that accepts a configuration computes it, beside the one that the plan chooses.
    """
    for n, sign in [(n, sign) for gk, gm, n, sign in GRID if (gk, gm) == (k, m)]:
        weights, inputs = every(signed(m), k), every(sign(n), k)
        layer = IntLayer(weights, weight_spec=signed(m), input_spec=sign(n))
        sequences, which = distinct(weights, inputs)
        exact = inputs @ weights.T
        for bits, rule in product(widths(k, m, n, sign), Overflow):
            accumulator = Accumulator(bits, rule)
            counted.update(assert_kernels_agree(layer, inputs, accumulator))
            run = simulate(layer, inputs, accumulator)
            answers = [oracle.run(seq, bits, rule.value) for seq in sequences.tolist()]
            for field in FIELDS:
                expected = np.array([getattr(answer, field) for answer in answers])[which]
                np.testing.assert_array_equal(getattr(run, field), expected)
            report = decide(layer, accumulator)
            overflows = (run.overflow_count > 0).any(axis=0)
            assert report.unsafe_channels == tuple(np.flatnonzero(overflows).tolist())
            needed = np.maximum(abs(run.peak_low + (run.peak_low < 0)), run.peak_high).max(axis=0)
            assert report.channel_bits.tolist() == [int(v).bit_length() + 1 for v in needed]
            if rule is Overflow.WRAP:
                assert report.wrap_exact == bool((run.output == exact).all())
            counted["configurations"] += 1
            counted["cases"] += run.output.size
    assert counted["configurations"] > 0


def test_the_grid_is_complete():
    """The grid has the documented number of configurations and cases."""
    found = Counter()
    for k, m, n, sign in GRID:
        configurations = 2 * len(widths(k, m, n, sign))
        found["configurations"] += configurations
        found["cases"] += configurations * 2 ** (k * (m + n))
    assert found == {"configurations": CONFIGURATIONS, "cases": CASES}


@pytest.fixture
def counted():
    """How much one test has compared."""
    return Counter()
