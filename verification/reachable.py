"""All that the registers of a datapath can hold, of one channel: sets of integers, exactly.

Where a register wraps, extremes of what it is handed do not tell what it hands over. The set of all
that it can hold does: it is moved on by every item, since items are independent of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from accsim.datapath import Datapath
from accsim.spec import Accumulator, IntSpec, Overflow, Rail

__all__ = ["Budget", "SpentError", "passed"]


class SpentError(Exception):
    """The work that is allowed is done."""


@dataclass(slots=True)
class Budget:
    """How much may still be done, in bits of sets that are moved."""

    left: int

    def spend(self, work: int) -> None:
        """Raises: SpentError if there is less."""
        if work > self.left:
            self.left = 0
            raise SpentError
        self.left -= work


@dataclass(frozen=True, slots=True)
class Row:
    """The integers first, first + step, ..., count of them."""

    first: int
    step: int
    count: int


@dataclass(frozen=True, slots=True)
class Held:
    """A set of integers, not empty: those first + i whose bit i is set."""

    first: int
    bits: int

    @property
    def least(self) -> int:
        """The least of them."""
        return self.first + (self.bits & -self.bits).bit_length() - 1

    @property
    def greatest(self) -> int:
        """The greatest of them."""
        return self.first + self.bits.bit_length() - 1


Item = tuple[Row, ...]  # what an item can be: the union of some rows


def passed(
    weights: Sequence[int],
    spec: IntSpec,
    bias: int,
    datapath: Datapath,
    budget: Budget,
    *,
    levels: int,
) -> list[tuple[bool, bool]]:
    """Of each level, inner to outer: whether a total can pass its lowest, its highest value.

    `weights` are those at the datapath's places, of one channel; exact, whatever wraps. Of so many
    `levels`, or fewer where the budget does not allow them.
    """
    items: list[Item] = [(_products(q, spec),) for q in weights]
    found: list[tuple[bool, bool]] = []
    try:
        for i, level in enumerate(datapath.levels[:levels]):
            start = bias if i == datapath.summing and datapath.bias == "first" else 0
            if i == datapath.summing and datapath.bias == "last":
                items.append((Row(bias, 1, 1),))
            size = max(1, len(items) if level.terms is None else level.terms)
            groups = [items[k : k + size] for k in range(0, len(items), size)]
            if level.terms is None and not groups:
                groups = [[]]
            ends = [_group(level, group, start, budget) for group in groups]
            low, high = (any(rails[side] for rails, _ in ends) for side in (0, 1))
            items = [_rows(held, budget) for _, held in ends]
            found.append((low, high))
    except SpentError:
        pass
    return found


def _products(q: int, spec: IntSpec) -> Row:
    """All products of a weight."""
    if q == 0:
        return Row(0, 1, 1)
    return Row(min(q * spec.min, q * spec.max), abs(q), spec.max - spec.min + 1)


def _group(
    level: Accumulator, items: Sequence[Item], start: int, budget: Budget
) -> tuple[tuple[bool, bool], Held]:
    """Which rails totals can pass while these items are added, and what the register can hold."""
    held, low, high = Held(start, 1), False, False
    steps, wraps = level.rail is Rail.STEP, level.overflow is Overflow.WRAP
    least = greatest = start
    for item in items:
        item_least = min(row.first for row in item)
        item_greatest = max(row.first + row.step * (row.count - 1) for row in item)
        if steps:
            low |= held.least + item_least < level.min
            high |= held.greatest + item_greatest > level.max
        if not wraps:
            total = _plus(held, item, budget)
            held = _reduced(total, level, budget) if steps else total
        elif not _is_full(held, level):
            # a sum that wraps at its end may as well do so on the way: it is right modulo 2^bits
            held = _reduced(_plus(held, item, budget), level, budget)
        least, greatest = least + item_least, greatest + item_greatest
    if not steps:
        low, high = least < level.min, greatest > level.max
        held = _reduced(held, level, budget)
    return (low, high), held


def _is_full(held: Held, level: Accumulator) -> bool:
    """Whether the register can hold whatever it can; one that wraps then keeps doing so."""
    size = level.max - level.min + 1
    whole = held.first == level.min and held.bits.bit_length() == size
    return whole and held.bits == (1 << size) - 1


def _plus(held: Held, item: Item, budget: Budget) -> Held:
    """The sums of any of these and any of those."""
    first = min(row.first for row in item)
    size, bits = held.bits.bit_length(), 0
    for row in item:
        budget.spend((size + row.step * row.count) * (row.count.bit_length() + 1))
        bits |= _spread(held.bits, row) << (row.first - first)
    return Held(held.first + first, bits)


def _spread(bits: int, row: Row) -> int:
    """The union of the set moved by 0, step, 2·step, ...: ever more of it at once."""
    done = 1
    while 2 * done <= row.count:
        bits |= bits << done * row.step
        done *= 2
    return bits | bits << (row.count - done) * row.step


def _reduced(total: Held, level: Accumulator, budget: Budget) -> Held:
    """What the register keeps of each."""
    if total.least >= level.min and total.greatest <= level.max:
        return total
    if level.overflow is Overflow.WRAP:
        size = level.max - level.min + 1
        budget.spend(size + total.bits.bit_length())
        first, bits = (total.first - level.min) % size, 0
        rest = total.bits << first
        while rest:
            bits |= rest & ((1 << size) - 1)
            rest >>= size
        return Held(level.min, bits)
    least = total.first
    bits = total.bits
    if least < level.min:
        below = level.min - least
        bits, least = bits >> below | bool(bits & ((1 << below) - 1)), level.min
    if total.greatest > level.max:
        size = level.max - least + 1
        bits = bits & ((1 << size) - 1) | 1 << (size - 1) if size > 0 else 1
        least = min(least, level.max)
    return Held(least, bits)


def _rows(held: Held, budget: Budget) -> Item:
    """The set as few rows of one step."""
    budget.spend(held.bits.bit_length())
    size = -(-held.bits.bit_length() // 8)
    flags = np.unpackbits(
        np.frombuffer(held.bits.to_bytes(size, "little"), np.uint8), bitorder="little"
    )
    at = np.flatnonzero(flags)
    gaps = np.diff(at)
    step = max(1, int(np.gcd.reduce(gaps))) if len(gaps) else 1
    breaks = np.flatnonzero(gaps != step) + 1
    firsts, counts = at[np.append(0, breaks)], np.diff(np.concatenate([[0], breaks, [len(at)]]))
    return tuple(
        Row(held.first + first, step, count)
        for first, count in zip(firsts.tolist(), counts.tolist(), strict=True)
    )
