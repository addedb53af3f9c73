"""The order of a sum matters to a register that saturates: the one that does most harm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations, zip_longest

from accsim.arith import fold
from accsim.datapath import Datapath
from accsim.errors import SpecError
from accsim.spec import Accumulator, Overflow
from verification.witness import Witness

__all__ = ["BadOrder", "Harm", "bad_order", "harm_line", "worst_harm", "worst_order"]

FEW = 7  # products whose orders are all tried


@dataclass(frozen=True, slots=True)
class Harm:
    """What a register ends with in the worst order of its products, and that order of the taps."""

    simulated: int
    order: list[int]


def worst_harm(witness: Witness) -> Harm | BadOrder | None:
    """The worst order of a witness's products; None for a register that wraps.

    Of a datapath a bad one, as `bad_order` finds it.
    """
    how = witness.accumulator
    products, bias = witness.taps()
    if isinstance(how, Datapath):
        return bad_order(products, how, bias=bias)
    if how.overflow is not Overflow.SATURATE:
        return None
    order = worst_order(products, how, bias=bias)
    return Harm(_end(products, order, how, bias), order)


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


@dataclass(frozen=True, slots=True)
class BadOrder:
    """An order of the products that does harm in a datapath, and what that ends with.

    `order[k]` is the product that takes the place of product k. `worst`: all orders were tried, so
    that no other does more.
    """

    simulated: int
    order: list[int]
    worst: bool


def bad_order(products: Sequence[int], datapath: Datapath, *, bias: int = 0) -> BadOrder:
    """An order in which a datapath ends far from the exact sum; the farthest for few products.

    All orders of at most 7 products are tried. Of more, those in which the datapath takes them
    rising, falling, largest and smallest in turn, all that are negative first or last, and as they
    are; of these it is the worst, and there may be worse ones.

    >>> from accsim import Accumulator
    >>> pairs = Datapath([Accumulator(4, "saturate", terms=2), Accumulator(8)])
    >>> bad_order([7, -8, 7, -8], pairs)
    BadOrder(simulated=-1, order=[0, 2, 1, 3], worst=True)
    """
    count = len(products)
    taken = [k for k in datapath.places(count).tolist() if k >= 0]  # in the order of the places
    tried: Iterable[Sequence[int]] = permutations(range(count))
    if count > FEW:
        tried = _family(products, taken)
    exact = bias + sum(products)
    found: tuple[int, int, list[int]] | None = None
    for by_place in tried:
        order = [0] * count
        for tap, product in zip(taken, by_place, strict=True):
            order[tap] = product
        end = fold([products[k] for k in order], [1] * count, datapath, bias=bias).output
        if found is None or abs(end - exact) > found[0]:
            found = abs(end - exact), end, order
    assert found is not None  # one order is always tried
    return BadOrder(found[1], found[2], count <= FEW)


def harm_line(harm: Harm | BadOrder) -> str:
    """In words what another order of a witness's products would end with."""
    if isinstance(harm, Harm):
        return f"in its worst order the register ends at {harm.simulated}"
    which = "its worst order" if harm.worst else "a bad order, of a few that were tried,"
    return f"in {which} the datapath ends at {harm.simulated}"


def _family(products: Sequence[int], taken: list[int]) -> list[list[int]]:
    """The orders that are tried of many products, as the datapath takes them."""
    given = list(range(len(products)))
    rising = sorted(given, key=lambda k: products[k])
    half = (len(given) + 1) // 2
    turns = [k for pair in zip_longest(rising[:half], rising[half:][::-1]) for k in pair]
    negative = sorted(given, key=lambda k: products[k] >= 0)
    positive = sorted(given, key=lambda k: products[k] < 0)
    return [taken, rising, rising[::-1], [k for k in turns if k is not None], negative, positive]


def _end(products: Sequence[int], order: list[int], accumulator: Accumulator, bias: int) -> int:
    """What the register ends with in this order."""
    return fold([products[k] for k in order], [1] * len(order), accumulator, bias=bias).output
