"""The definition, by hand and against the oracle."""

from dataclasses import FrozenInstanceError
from itertools import product

import pytest

from accsim import Accumulator, Datapath, Overflow, arith
from accsim.arith import Fold, LevelFold
from accsim.errors import ShapeError
from verification import oracle
from verification.properties import FIELDS


@pytest.mark.parametrize(
    ("products", "bits", "rule", "bias", "expected"),
    [
        # 7, 12 -> 7, 1, 3; exact 7, 12, 6, 8
        ([7, 5, -6, 2], 4, "saturate", 0, Fold(3, 1, 1, 0, 12)),
        # 7, 12 -> -4, -10 -> 6, 8 -> -8
        ([7, 5, -6, 2], 4, "wrap", 0, Fold(-8, 3, 1, 0, 12)),
        # transient: 5, 10 -> -6, -11 -> 5; the end is exact, two steps overflowed
        ([5, 5, -5], 4, "wrap", 0, Fold(5, 2, 1, 0, 10)),
        # starts at -8: -9 -> -8
        ([-1], 4, "saturate", -8, Fold(-8, 1, 0, -9, -8)),
        ([], 4, "wrap", 3, Fold(3, 0, -1, 3, 3)),
        # the rails themselves do not overflow
        ([7, -15], 4, "wrap", 0, Fold(-8, 0, -1, -8, 7)),
    ],
)
def test_by_hand(products, bits, rule, bias, expected):
    """Worked cases, one step per comment."""
    assert arith.fold(products, [1] * len(products), Accumulator(bits, rule), bias=bias) == expected


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("rule", list(Overflow))
def test_equals_the_oracle(bits, rule, signed):
    """All sequences of three products from -9 to 9, from both rails and 0: every field."""
    register = Accumulator(bits, rule, signed=signed)
    for products in product(range(-9, 10, 3), repeat=3):
        for bias in (register.min, 0, register.max):
            fold = arith.fold(products, [1, 1, 1], register, bias=bias)
            answer = oracle.run(products, bits, rule.value, signed=signed, bias=bias)
            assert fields(fold) == fields(answer)


def fields(answer):
    """Either one's five numbers."""
    return [getattr(answer, name) for name in FIELDS]


@pytest.mark.parametrize("rule", list(Overflow))
def test_products_are_of_weights_and_inputs(rule):
    """Two weights and two inputs from -3 to 3 each, from 0 on; and 300 of them at once."""
    register = Accumulator(4, rule)
    for numbers in product(range(-3, 4), repeat=4):
        fold = arith.fold(numbers[:2], numbers[2:], register)
        assert fields(fold) == fields(oracle.dot(numbers[:2], numbers[2:], 4, rule.value))
    many = [k % 7 - 3 for k in range(300)]
    fold = arith.fold(many, many[::-1], register)
    assert fields(fold) == fields(oracle.dot(many, many[::-1], 4, rule.value))


@pytest.mark.parametrize(("weights", "inputs"), [([1, 2], [1]), ([1], [1, 2]), ([], [0])])
def test_lengths_must_agree(weights, inputs):
    """Neither side is cut."""
    with pytest.raises(ShapeError, match=f"not {len(weights)} and {len(inputs)}$"):
        arith.fold(weights, inputs, Accumulator(4))


def test_an_answer_cannot_change():
    """It is frozen."""
    with pytest.raises(FrozenInstanceError):
        arith.fold([], [], Accumulator(4)).output = 1


@pytest.mark.parametrize("bits", [2, 5, 62])
def test_rules_give_what_they_say(bits):
    """wrap is in range and congruent; saturate is in range and nearest."""
    register = Accumulator(bits)
    turn = 2**bits
    for value in (-3 * turn, register.min - 1, register.min, -1, 0, register.max, register.max + 1):
        wrapped, clamped = arith.wrap(value, register), arith.saturate(value, register)
        assert register.min <= wrapped <= register.max
        assert (wrapped - value) % turn == 0
        assert clamped == sorted((register.min, value, register.max))[1]


def test_levels_by_hand():
    """Products are of weights and inputs; pairs in an order of threes, one of them incomplete."""
    tree = Datapath([Accumulator(4, "saturate", terms=2), Accumulator(5)], order=(2, 0, 1))
    fold = arith.fold([3, -2, 5, 1], [4, 7, 0, 2], tree, bias=1)
    # products 12, -14, 0, 2 as pairs 0 12, -14 0, 2 0: 12 -> 7, -14 -> -8, 2; sums 1 8 0 2
    assert fold.levels == (LevelFold(2, 1, -14, 12), LevelFold(0, -1, -1, 13))
    assert (
        str(fold) == "Fold(output=2, overflow_count=2, first_overflow=1, peak_low=-1, peak_high=13)"
    )
    assert fold != arith.fold([2], [1], Datapath([Accumulator(5)]))


@pytest.mark.parametrize(("letters", "end"), [("first", 10), ("last", 12)])
def test_more_products_than_small_integers(letters, end):
    """The last group ends with the last of 300; a bias is told by its letters."""
    how = {"bias": "".join(list(letters))}
    tree = Datapath([Accumulator(8, terms=7), Accumulator(12)], **how)
    fold = arith.fold([-1] * 150 + [1] * 150, [1] * 300, tree, bias=5)
    assert (fold.output, fold.levels[0]) == (5, LevelFold(0, -1, -7, 7))
    alone = Datapath([Accumulator(5, "saturate")], **how)
    assert arith.fold([12, -5], [1, 1], alone, bias=5).output == end
