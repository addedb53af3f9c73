"""The model of several registers: step by step what `arith.fold` counts and ends with."""

import numpy as np
import pytest

from accsim import Accumulator, Datapath, arith
from accsim.errors import RangeError, SpecError
from verification.rtl_levels import DatapathModel
from verification.rtl_model import MacModel, Step

RULES = ("wrap", "saturate")


def random_datapath(rng):
    """One to four levels, orders and rails of every kind, narrow enough to overflow."""
    count = int(rng.integers(1, 5))
    summing = int(rng.integers(0, count))
    levels = [
        Accumulator(
            int(rng.integers(4, 9)),
            RULES[rng.integers(2)],
            signed=bool(rng.random() < 0.8),
            terms=int(rng.integers(1, 5)) if level < summing else None,
            rail=("step", "sum")[rng.integers(2)],
        )
        for level in range(count)
    ]
    order = rng.permutation(int(rng.integers(1, 9))).tolist() if rng.random() < 0.5 else None
    return Datapath(levels, order=order, bias=("first", "last")[rng.integers(2)])


def test_the_model_is_the_definition():
    """Sampled, 600 datapaths, two sums through each: ends, counts and first overflows by level."""
    rng = np.random.default_rng(0)
    overflowed = shown = 0
    for _ in range(600):
        datapath, taps = random_datapath(rng), int(rng.integers(1, 20))
        model = DatapathModel(datapath, taps=taps)
        for _ in range(2):
            weights, x = rng.integers(-8, 8, (2, taps)).tolist()
            register = datapath.register
            bias = int(rng.integers(register.min, register.max, endpoint=True))
            places = datapath.places(taps).tolist()
            steps = [
                model.step(
                    0 if k < 0 else weights[k], 0 if k < 0 else x[k],
                    **({"bias": bias} if place == 0 else {}),
                )
                for place, k in enumerate(places)
            ]  # fmt: skip
            fold = arith.fold(weights, x, datapath, bias=bias)
            assert steps[-1][-1].register == fold.output
            for level, told in enumerate(fold.levels):
                seen = [step[level] for step in steps]
                over = [place for place, one in enumerate(seen) if one and one.overflow]
                assert (over[0] if over else -1) == told.first_overflow
                # the last addition of a bias that comes last shares a step with the last product
                twice = datapath.bias == "last" and level == datapath.summing
                assert 0 <= told.overflow_count - len(over) <= twice
                assert seen[-1].sticky == (told.overflow_count > 0)
                overflowed += len(over)
                shown += sum(one is not None for one in seen)
    assert overflowed > 0.1 * shown


@pytest.mark.parametrize("rule", RULES)
def test_one_level_is_the_plain_model(rule):
    """Of one register it is `MacModel`, sum after sum."""
    rng = np.random.default_rng(0)
    register = Accumulator(7, rule)
    levels, plain = DatapathModel(Datapath([register]), taps=5), MacModel(register)
    for k in range(200):
        weight, x = rng.integers(-8, 8, 2).tolist()
        begins = {"bias": int(rng.integers(-64, 64))} if k % 5 == 0 else {}
        assert levels.step(weight, x, **begins) == (plain.step(weight, x, **begins),)


def test_sums_follow_each_other():
    """After the last product the next sum begins at 0, or where `bias` says, at any step."""
    model = DatapathModel(Datapath([Accumulator(8, terms=2), Accumulator(9)]), taps=3)
    ends = [model.step(1, 1)[1] for _ in range(6)]
    assert [one and one.register for one in ends] == [None, 2, 3, None, 2, 3]
    model.step(1, 1)
    assert model.step(5, 1, bias=7) == (Step(5, False, False), None)
    assert model.step(0, 1)[1] == Step(12, False, False)


def test_refusals():
    """A register alone, no taps, and a bias that the summing register cannot hold."""
    datapath = Datapath([Accumulator(8, terms=2), Accumulator(4)])
    with pytest.raises(SpecError) as raised:
        DatapathModel(Accumulator(4), taps=3)
    assert str(raised.value).startswith("datapath must be a Datapath, not Accumulator(")
    with pytest.raises(SpecError, match=r"^taps must be an integer from 1 to 2147483647, not 0$"):
        DatapathModel(datapath, taps=0)
    with pytest.raises(RangeError, match=r"^bias is 8, outside the 4-bit wrap register \[-8, 7\]$"):
        DatapathModel(datapath, taps=2).step(1, 1, bias=8)
