"""The definition, by hand and against the oracle."""

from itertools import product

import pytest

from accsim import Accumulator, Overflow, arith
from accsim.arith import Fold
from verification import oracle


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
            assert [getattr(fold, n) for n in Fold.__slots__] == [
                getattr(answer, n) for n in Fold.__slots__
            ]


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
