"""What the budgets take and refuse, and what they are at the ends of the widths."""

from dataclasses import FrozenInstanceError
from fractions import Fraction

import numpy as np
import pytest

from accsim import between, bounds, signed, unsigned
from accsim.budgets import SignBudgets, largest_input
from accsim.errors import SpecError

BUDGETS = [bounds.l1_budget, bounds.zero_centered_budget, bounds.sign_budgets]


@pytest.mark.parametrize("budget", BUDGETS)
def test_widths_end_at_2_and_62(budget):
    """These are taken, one less and one more are not."""
    assert budget(2, signed(4)) != budget(62, signed(4))
    for bits in (1, 63):
        with pytest.raises(
            SpecError, match=f"^acc_bits must be an integer from 2 to 62, not {bits}$"
        ):
            budget(bits, signed(4))


@pytest.mark.parametrize("budget", BUDGETS[1:])
@pytest.mark.parametrize(
    ("spec", "taken"),
    [(between(0, 1), True), (between(-1, 0), True), (between(0, 0), False),
     (between(1, 2), False), (between(-2, -1), False), (between(1, 1), False)],
    ids=str,
)  # fmt: skip
def test_ranges_hold_0_and_another_input(budget, spec, taken):
    """On either side of it."""
    if taken:
        budget(8, spec)
    else:
        with pytest.raises(SpecError, match=r"^input_spec must hold 0 and another input for the"):
            budget(8, spec)


def test_the_norm_budget_needs_an_input():
    """0 alone bounds nothing; 1 alone and -1 alone do."""
    assert bounds.l1_budget(8, between(1, 1)) == bounds.l1_budget(8, between(-1, -1)) == 127
    with pytest.raises(SpecError, match=r"^input_spec must hold an input other than 0"):
        bounds.l1_budget(8, between(0, 0))


def test_budgets_by_hand():
    """8 bits hold -128 to 127; inputs of [-3, 9] are at most 9 in size, and 12 apart."""
    spec = between(-3, 9)
    assert (largest_input(spec), largest_input(unsigned(4)), largest_input(signed(4))) == (9, 16, 8)
    assert bounds.l1_budget(8, spec) == Fraction(127, 9)
    assert bounds.zero_centered_budget(8, spec) == Fraction(254, 12)
    budgets = bounds.sign_budgets(8, spec)
    assert budgets == SignBudgets(up=9, down=3, high=127, low=128)
    # 9 * 12 + 3 * 6 = 126 and 3 * 12 + 9 * 6 = 90; 9 * 13 + 3 * 4 = 129; 3 * 1 + 9 * 14 = 129
    pairs = {
        (12, 6): True,
        (13, 4): False,
        (1, 14): False,
        (0, 14): True,
        (14, 0): True,
        (15, 0): False,
    }
    for (positive, negative), safe in pairs.items():
        assert budgets.allow(positive, negative) is safe
        assert budgets.allow(np.int8(positive), np.int8(negative)) == safe
    assert not hasattr(budgets, "__dict__")
    with pytest.raises(FrozenInstanceError):
        budgets.up = 1


def test_budgets_at_their_ends():
    """Sums of exactly the rails are safe, one beyond is not."""
    for budgets in (SignBudgets(1, 0, 5, 5), SignBudgets(1, 1, 5, 5), SignBudgets(3, 0, 15, 15)):
        assert budgets.allow(5, 0)
        assert budgets.allow(0, 5)
        assert not budgets.allow(6, 0)
        assert not budgets.allow(0, 6)
