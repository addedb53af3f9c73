"""What one register of a datapath is handed while it sums one group, and what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from accsim.arith import fold, reduce
from accsim.datapath import Datapath
from accsim.spec import Accumulator, Rail

__all__ = ["Trace", "trace"]


@dataclass(frozen=True, slots=True)
class Trace:
    """One group of one level: the items that it is handed, and what they would be exactly.

    `places`: where each comes from, first and last place; empty for a bias that is added last.
    """

    register: Accumulator
    start: int
    items: list[int]
    exact_items: list[int]
    places: list[range]

    @property
    def exact(self) -> list[int]:
        """The exact sum before the first item and after each: items + 1."""
        return list(accumulate(self.exact_items, initial=self.start))

    @property
    def held(self) -> list[int]:
        """What the register holds then. One that settles at the end holds sums until then."""
        found = [self.start]
        for k, item in enumerate(self.items):
            total = found[-1] + item
            settles = self.register.rail is Rail.STEP or k + 1 == len(self.items)
            found.append(reduce(total, self.register) if settles else total)
        return found

    @property
    def failing(self) -> int:
        """The first item after which the total is outside the register as it settles; -1: none."""
        held = self.held
        return next((k for k, item in enumerate(self.items) if held[k] + item != held[k + 1]), -1)


def trace(
    products: Sequence[int], datapath: Datapath, level: int, place: int, *, bias: int = 0
) -> Trace:
    """The group of a level that the product at `place` is in; products are in the order of places.

    An item is what the levels below make of its own products, which is what they do alone.
    """
    register, summing = datapath.levels[level], datapath.summing
    if level > summing:
        below = replace(datapath, levels=datapath.levels[:level], order=None)
        out = fold(products, [1] * len(products), below, bias=bias).output
        exact = bias + sum(products)
        return Trace(register, 0, [out], [exact], [range(len(products))])
    units = (1, *datapath.spans)
    size = units[level + 1] if level < summing else max(1, len(products))
    first = place // size * size
    end = min(first + size, len(products))
    places = [range(k, min(k + units[level], end)) for k in range(first, end, units[level])]
    each = [[products[k] for k in at] for at in places]
    items = [_item(group, datapath, level) for group in each]
    exact_items = [sum(group) for group in each]
    start = bias if level == summing and datapath.bias == "first" else 0
    if level == summing and datapath.bias == "last":
        items, exact_items = [*items, bias], [*exact_items, bias]
        places = [*places, range(end, end)]
    return Trace(register, start, items, exact_items, places)


def _item(products: Sequence[int], datapath: Datapath, level: int) -> int:
    """What the levels below this one make of one item's products."""
    if level == 0:
        return products[0]
    last = replace(datapath.levels[level - 1], terms=None)
    below = Datapath([*datapath.levels[: level - 1], last])
    return fold(products, [1] * len(products), below).output
