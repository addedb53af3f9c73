"""What registers hold over given inputs: ends, widths and where they lie, against plain counting."""

import numpy as np
import pytest

from accsim import Accumulator, IntLayer, between, signed, simulate, unsigned
from accsim.spec import bits_to_hold
from verification.sums import EDGES, Ends, sums_of

LAYERS = [
    IntLayer([[7, -3, 5], [-8, 0, 1]], weight_spec=signed(4), input_spec=signed(4)),
    IntLayer([[7, -3, 5]], weight_spec=signed(4), input_spec=between(2, 9), bias=[-40]),
    IntLayer(np.arange(-8, 8).reshape(2, 2, 2, 2), weight_spec=signed(5), input_spec=unsigned(3)),
]


def inputs(layer, seed):
    """Random codes: 20 rows, or 5 images of 4 by 3."""
    shape = (5, 2, 4, 3) if layer.is_conv else (20, layer.taps)
    spec = layer.input_spec
    return np.random.default_rng(seed).integers(spec.min, spec.max + 1, shape)


@pytest.mark.parametrize("layer", LAYERS)
def test_sums_are_what_counting_says(layer):
    """Each output's lowest and highest sum is counted once, at its width and in its interval."""
    run = simulate(layer, inputs(layer, 0), Accumulator(8))
    sums = sums_of(layer, run)
    axes = (0, 2, 3) if layer.is_conv else 0
    assert sums.ends.low.tolist() == run.peak_low.min(axis=axes).tolist()
    assert sums.ends.high.tolist() == run.peak_high.max(axis=axes).tolist()
    pairs = list(zip(run.peak_low.ravel().tolist(), run.peak_high.ravel().tolist(), strict=True))
    assert sums.outputs == len(pairs) == run.output.size
    for bits, count in enumerate(sums.needs.tolist()):
        assert count == sum(bits_to_hold(low, high) == bits for low, high in pairs)
    ends = [end for pair in pairs for end in pair]
    for low, high, count in zip(EDGES[:-1], EDGES[1:], sums.spread.tolist(), strict=True):
        assert count == sum(low <= end < high for end in ends)


@pytest.mark.parametrize("bits", range(2, 63))
def test_rails_are_edges(bits):
    """So are the 16 equal parts of each half of a signed register, and those of an unsigned one."""
    edges = set(EDGES.tolist())
    for register, parts in ((Accumulator(bits), 32), (Accumulator(bits, signed=False), 16)):
        size = register.max - register.min + 1
        step = max(1, size // parts)
        wanted = set(range(register.min, register.max + 2, step))
        assert {edge for edge in wanted if abs(edge) <= 2**62} <= edges


def test_edges_are_in_order():
    """Each interval holds something, and next to 0 each integer has its own."""
    assert (np.diff(EDGES) > 0).all()
    assert EDGES[0] == -EDGES[-1] == -(2**62)
    assert set(range(-8, 9)) <= set(EDGES.tolist())


def test_the_largest_sums_are_counted():
    """Near 2^63 nothing is lost: the outer intervals have no end."""
    far = 2**62 + 2**61
    layer = IntLayer([[1]], weight_spec=signed(2), input_spec=between(-1, 1))
    run = simulate(layer, [[0], [0]], Accumulator(8))
    wide = type(run)(
        run.output, run.overflow_count, run.first_overflow, run.peak_low - far, run.peak_high + far
    )
    sums = sums_of(layer, wide)
    assert (sums.spread[0], sums.spread[-1], sums.spread.sum()) == (2, 2, 4)
    assert sums.needs[64] == 2


def test_joined_is_both_together():
    """Two runs of a layer, and the run of both."""
    for layer in LAYERS:
        parts = [inputs(layer, seed) for seed in (1, 2)]
        one, two, both = (
            sums_of(layer, simulate(layer, x, Accumulator(8)))
            for x in (*parts, np.concatenate(parts))
        )
        for found in (one.joined(two), two.joined(one)):
            assert (found.ends.low == both.ends.low).all()
            assert (found.ends.high == both.ends.high).all()
            assert (found.needs == both.needs).all()
            assert (found.spread == both.spread).all()


def test_how_far_ends_go():
    """Bits of all channels together, and the nearer rail's share."""
    ends = Ends(np.array([-3, -20]), np.array([30, 5]))
    assert ends.bits == 6
    assert ends.of_rails(Accumulator(6)) == 30 / 31
    assert ends.of_rails(Accumulator(5)) == 30 / 15
    assert Ends(np.array([-32]), np.array([0])).of_rails(Accumulator(6)) == 1
    unsigned_register = Accumulator(6, signed=False)
    assert Ends(np.array([0]), np.array([63])).of_rails(unsigned_register) == 1
    assert Ends(np.array([-1]), np.array([1])).of_rails(unsigned_register) == 1 + 1 / 63
    assert Ends(np.array([-1]), np.array([126])).of_rails(unsigned_register) == 2
