"""Decisions on datapaths against every input there is, level by level and rail by rail."""

import numpy as np
import pytest
from enumeration import distinct, every, totals

from accsim import Accumulator, Datapath, IntLayer, between, signed
from verification import Verdict, decide

WEIGHTS = signed(2)
TAPS = {between(0, 1): 5, between(-1, 1): 5, between(1, 2): 5, between(-2, -1): 5, between(1, 3): 4}
MADE = 6  # datapaths of each seed
CASES = 2_207_232  # of each seed


def made(seed):
    """Datapaths of 1 to 4 levels, narrow enough to overflow, most of them ragged; and biases."""
    rng = np.random.default_rng(seed)

    def level(terms):
        return Accumulator(
            int(rng.integers(2, 5)),
            str(rng.choice(["wrap", "saturate"])),
            signed=bool(rng.random() < 0.8),
            terms=terms,
            rail=str(rng.choice(["step", "sum"])),
        )

    found = []
    for _ in range(MADE):
        inner = rng.integers(1, 4, rng.integers(0, 3)).tolist()
        levels = [level(terms) for terms in [*inner, *[None] * int(rng.integers(1, 3))]]
        order = rng.permutation(rng.integers(1, 5)).tolist() if rng.random() < 0.5 else None
        datapath = Datapath(levels, order=order, bias=str(rng.choice(["first", "last"])))
        register = datapath.register
        found.append((datapath, int(np.clip(rng.integers(-1, 2), register.min, register.max))))
    return found


def all_weights(spec, bias):
    """A layer with a channel for all weights there are, and all inputs of a channel."""
    weights = every(WEIGHTS, TAPS[spec])
    starts = np.full(len(weights), bias)
    layer = IntLayer(weights, weight_spec=WEIGHTS, input_spec=spec, bias=starts)
    return layer, every(spec, TAPS[spec])


def passed(layer, x, datapath, bias):
    """Whether any input passes each rail of each level: (levels, C, 2), by the definition."""
    products, which = distinct(layer.rows.astype(np.int64), x)
    found = [
        np.stack(both, axis=-1)[which].any(axis=0) for both in totals(products, datapath, bias)
    ]
    return np.array(found)


@pytest.mark.parametrize("seed", range(4))
def test_every_input_of_small_layers(seed):
    """Verdict, rails and channels of every level; all weights and inputs of 4 or 5 taps."""
    cases = 0
    for datapath, bias in made(seed):
        for spec in TAPS:
            layer, x = all_weights(spec, bias)
            rails = passed(layer, x, datapath, bias)
            report = decide(layer, datapath)
            over = rails.any(axis=(0, 2))
            assert report.unsafe_channels == tuple(np.flatnonzero(over)), datapath
            assert report.verdict is (Verdict.REFUTED if over.any() else Verdict.PROVED)
            for i, level in enumerate(report.levels):
                own = rails[i].any(axis=1)
                assert level.rails == tuple(rails[i].any(axis=0)), (datapath, i)
                assert level.unsafe_channels == tuple(np.flatnonzero(own)), (datapath, i)
                assert level.undecided_channels == ()
                assert level.verdict is (Verdict.REFUTED if own.any() else Verdict.PROVED)
            cases += len(x) * len(layer.rows)
    assert cases == CASES
