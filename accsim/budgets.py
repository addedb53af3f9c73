"""How large one channel's weights may be: published bounds on their norm, and the exact safe set.

Letters as in `accsim.bounds`; α and |β| are the sums of positive and negative integer weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from accsim._check import integer
from accsim.errors import SpecError
from accsim.spec import MAX_BITS, Accumulator, IntSpec, unsigned

__all__ = ["SignBudgets", "l1_budget", "largest_input", "sign_budgets", "zero_centered_budget"]


def l1_budget(acc_bits: int, input_spec: IntSpec) -> Fraction:
    """Largest l1-norm of one channel's integer weights that A2Q allows.

    N-bit types: (2^(P-1) - 1) / 2^(N - s), s = 1 for signed inputs; other ranges: divided by
    max|x| instead.

    Raises: SpecError for bits outside 2 to 62 or inputs that are always 0.
    Source: A2Q (arXiv 2308.13504); A2Q+ (arXiv 2401.10432) Eq. 4-6.
    """
    top = 2 ** (integer(acc_bits, "acc_bits", 2, MAX_BITS) - 1) - 1
    return Fraction(top, largest_input(input_spec))


def largest_input(input_spec: IntSpec) -> int:
    """What A2Q takes for the largest |x|: of an unsigned N-bit type it is one more, 2^N."""
    if input_spec.magnitude == 0:
        raise SpecError("input_spec must hold an input other than 0 for a weight budget")
    return input_spec.magnitude + (input_spec == unsigned(input_spec.bits))


def zero_centered_budget(acc_bits: int, input_spec: IntSpec) -> Fraction:
    """Largest l1-norm of one channel's zero-centred integer weights that A2Q+ allows.

    (2^P - 2) / (max - min). It certifies weights that sum to 0, or weights rounded toward zero
    from such; on any other integers it proves nothing.

    Raises: SpecError for bits outside 2 to 62 or a range that excludes 0 or holds nothing else.
    Source: A2Q+ (arXiv 2401.10432) Prop. 3.1, Eq. 7.
    """
    bits = integer(acc_bits, "acc_bits", 2, MAX_BITS)
    if not input_spec.contains_zero or input_spec.magnitude == 0:
        raise SpecError(
            "input_spec must hold 0 and another input for the zero-centred budget, not "
            + input_spec.describe()
        )
    return Fraction(2**bits - 2, input_spec.max - input_spec.min)


@dataclass(frozen=True, slots=True)
class SignBudgets:
    """What the sums α and |β| of a channel's positive and negative integers may be: every pair with

        up·α + down·|β| <= high   and   down·α + up·|β| <= low

    and no other. For unsigned inputs `down` is 0, and each sign has a budget of its own.
    """

    up: int  # the largest input
    down: int  # the least, in size
    high: int  # the register's highest value
    low: int  # its lowest, in size

    def allow(self, positive: Any, negative: Any) -> Any:
        """Whether these α and |β| are safe: integers, or arrays (of floats: exact ones)."""
        if isinstance(positive, np.ndarray | np.generic):  # whose own products could wrap
            positive, negative = (np.asarray(n).astype(object) for n in (positive, negative))
        return (self.up * positive + self.down * negative <= self.high) & (
            self.down * positive + self.up * negative <= self.low
        )


def sign_budgets(acc_bits: int, input_spec: IntSpec) -> SignBudgets:
    """The exact safe set: a channel's integers never overflow, in any order, if and only if inside.

    Raises: SpecError for bits outside 2 to 62 or a range that excludes 0 or holds nothing else.
    Source: hi = d·α + c·β, lo = c·α + d·β over inputs in [c, d], both attained; with 0 in [c, d]
    every partial sum lies between them.
    """
    register = Accumulator(integer(acc_bits, "acc_bits", 2, MAX_BITS))
    if not input_spec.contains_zero or input_spec.magnitude == 0:
        raise SpecError(
            "input_spec must hold 0 and another input for the sign budgets, not "
            + input_spec.describe()
        )
    return SignBudgets(input_spec.max, -input_spec.min, register.max, -register.min)
