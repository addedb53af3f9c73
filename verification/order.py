"""The order of a sum matters to a register that saturates: the one that does most harm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accsim.arith import fold
from accsim.datapath import Datapath
from accsim.errors import SpecError
from accsim.spec import Accumulator, Overflow
from verification.witness import Witness

__all__ = ["Harm", "worst_harm", "worst_order"]


@dataclass(frozen=True, slots=True)
class Harm:
    """What a register ends with in the worst order of its products, and that order of the taps."""

    simulated: int
    order: list[int]


def worst_harm(witness: Witness) -> Harm | None:
    """The worst order of a witness's products; None for a register that wraps, or a datapath."""
    register = witness.accumulator
    if isinstance(register, Datapath) or register.overflow is not Overflow.SATURATE:
        return None
    products, bias = witness.products()
    order = worst_order(products, register, bias=bias)
    return Harm(_end(products, order, register, bias), order)


def worst_order(products: Sequence[int], accumulator: Accumulator, *, bias: int = 0) -> list[int]:
    """The order in which a saturating register ends farthest from the exact sum.

    A permutation of the indices: all products that are not negative first, or all negative first,
    each in index order. No other order ends lower than the former or higher than the latter: by
    induction over the steps the register is at least min(max, bias + P) - N, with P and N the sizes
    of the positive and the negative products so far, which is where the former ends unless a rail
    holds it; and the same the other way round.

    Raises: SpecError for a register that wraps, to which order does not matter.
    """
    if accumulator.overflow is not Overflow.SATURATE:
        raise SpecError("accumulator must saturate: one that wraps ends the same in every order")
    positive = [k for k, product in enumerate(products) if product >= 0]
    negative = [k for k, product in enumerate(products) if product < 0]
    exact = bias + sum(products)

    return max(
        (positive + negative, negative + positive),
        key=lambda order: abs(_end(products, order, accumulator, bias) - exact),
    )


def _end(products: Sequence[int], order: list[int], accumulator: Accumulator, bias: int) -> int:
    """What the register ends with in this order."""
    return fold([products[k] for k in order], [1] * len(order), accumulator, bias=bias).output
