"""Accumulators of several levels, as real hardware has them: registers that feed registers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Literal

import numpy as np

from accsim._check import IntArray, integer, shown
from accsim.errors import SpecError
from accsim.spec import MAX_TERMS, Accumulator, IntSpec, Rail

__all__ = ["Datapath", "lanes"]

MAX_ORDER = 2**20  # products in one period of an order
MAX_LEVELS = 64
MAX_AXES = 64  # numpy has no more

Bias = Literal["first", "last"]


@dataclass(frozen=True, slots=True)
class Datapath:
    """Several registers, each summing items of the one before it; taken wherever an Accumulator is.

    levels: Accumulators, inner to outer. Each sums `terms` items of the level below it, products at
    the bottom, in a register that starts at 0 for every group. The first with terms=None is the
    *summing* level, which adds up all that is left; any after it, also with terms=None, are
    *read-outs*: they take the one final sum and apply their overflow to it.
    order: a permutation of 0..B-1 that is applied to each B products in turn: place p of a block
    takes its product order[p]. It says which product lands in which lane. If B does not divide K,
    products of 0 stand in for those that are missing. None: index order. A last group with fewer
    items is summed as it is.
    bias: the summing register starts at it ("first"), or it is added after everything else
    ("last").
    inputs, weights: what operands the hardware takes, None for any.

    Raises: SpecError for levels, an order or a word that are none of these.

    >>> pairs = Accumulator(16, "saturate", terms=2, rail="sum")
    >>> print(Datapath([pairs, Accumulator(32)]))
    2 products: 16-bit saturate register, all: 32-bit wrap register
    """

    levels: Sequence[Accumulator]  # kept as tuples, both
    order: Sequence[int] | None = field(default=None, kw_only=True)
    bias: Bias = field(default="first", kw_only=True)
    inputs: IntSpec | None = field(default=None, kw_only=True)
    weights: IntSpec | None = field(default=None, kw_only=True)
    name: str = field(default="", kw_only=True)
    source: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", _levels(self.levels))
        if self.order is not None:
            object.__setattr__(self, "order", _permutation(self.order))
        if self.bias not in ("first", "last"):
            raise SpecError(f'Datapath bias must be "first" or "last", not {shown(self.bias)}')
        for name in ("inputs", "weights"):
            given = getattr(self, name)
            if given is not None and not isinstance(given, IntSpec):
                raise SpecError(f"Datapath {name} must be an IntSpec or None, not {shown(given)}")
        for name in ("name", "source"):
            if not isinstance(getattr(self, name), str):
                raise SpecError(f"Datapath {name} must be text, not {shown(getattr(self, name))}")

    @property
    def summing(self) -> int:
        """Which level adds up all that is left."""
        return next(i for i, level in enumerate(self.levels) if level.terms is None)

    @property
    def register(self) -> Accumulator:
        """The summing level's register, which holds the bias."""
        return self.levels[self.summing]

    @property
    def last(self) -> Accumulator:
        """The register that outputs are read from."""
        return self.levels[-1]

    @property
    def spans(self) -> tuple[int, ...]:
        """How many places a full group of each level below the summing one covers."""
        sizes = [level.terms or 1 for level in self.levels[: self.summing]]
        return tuple(min(prod(sizes[: i + 1]), MAX_TERMS) for i in range(len(sizes)))

    @property
    def single(self) -> Accumulator | None:
        """The one register that this is in index order, if it is no more than that."""
        plain = self.order is None and len(self.levels) == 1 and self.last.rail is Rail.STEP
        return self.last if plain and self.bias == "first" else None

    def places(self, taps: int) -> IntArray:
        """The product at each place: (places,), -1 where one of 0 stands in.

        >>> Datapath([Accumulator(8)], order=(1, 2, 0)).places(4).tolist()
        [1, 2, 0, -1, -1, 3]
        """
        if self.order is None:
            return np.arange(taps)
        size = len(self.order)
        blocks = np.arange(0, taps, size)[:, None] + np.array(self.order)
        return np.where(blocks < taps, blocks, -1).reshape(-1)

    def starts(self, level: int, places: int) -> IntArray:
        """The places at which the groups of a level begin: (groups,); of none, there is no group.

        The summing level and read-outs have one group.
        """
        return np.arange(0, places, self.spans[level] if level < self.summing else max(places, 1))

    def __str__(self) -> str:
        return self.name or ", ".join(
            f"{_count(level, i, self.summing)}: {level}" for i, level in enumerate(self.levels)
        )


def lanes(shape: Sequence[int], axes: Sequence[int]) -> tuple[int, ...]:
    """The order in which products that lie in memory as `shape` are summed: its axes, outer first.

    Two vectors of eight, each lane taking its two products one after the other:

    >>> lanes((2, 8), (1, 0))
    (0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15)

    Raises: SpecError unless axes are a permutation of the shape's, 64 at most.
    """
    sizes = [integer(size, "lanes shape", 1, MAX_ORDER) for size in shape]
    order = [integer(axis, "lanes axes", 0, max(len(sizes) - 1, 0)) for axis in axes]
    if sorted(order) != list(range(len(sizes))):
        raise SpecError(f"lanes axes must be a permutation of 0..{len(sizes) - 1}, not {order}")
    if len(sizes) > MAX_AXES:
        raise SpecError(f"lanes must be of at most {MAX_AXES} axes, not {len(sizes)}")
    if prod(sizes) > MAX_ORDER:
        raise SpecError(f"lanes must be of at most {MAX_ORDER} products, not {prod(sizes)}")
    return tuple(np.arange(prod(sizes)).reshape(sizes).transpose(order).ravel().tolist())


def _levels(given: object) -> tuple[Accumulator, ...]:
    """The levels, of which the first without `terms` is the summing one."""
    levels = tuple(given) if isinstance(given, Iterable) else ()
    if not levels or not all(isinstance(level, Accumulator) for level in levels):
        raise SpecError(f"Datapath levels must be Accumulators, inner to outer, not {shown(given)}")
    if len(levels) > MAX_LEVELS:
        raise SpecError(f"a Datapath must have at most {MAX_LEVELS} levels, not {len(levels)}")
    if levels[-1].terms is not None:
        raise SpecError(
            f"the last level sums all that is left: terms must be None, not {levels[-1].terms}"
        )
    summing = next(i for i, level in enumerate(levels) if level.terms is None)
    for i, level in enumerate(levels[summing:], summing):
        if level.terms is not None:
            raise SpecError(
                f"levels[{i}] follows levels[{summing}], which sums all that is left: terms must be"
                f" None, not {level.terms}"
            )
    return levels


def _permutation(given: object) -> tuple[int, ...]:
    """The order as Python ints."""
    entries = list(given) if isinstance(given, Iterable) else []
    if not 1 <= len(entries) <= MAX_ORDER:
        raise SpecError(f"Datapath order must be 1 to {MAX_ORDER} integers, or None")
    order = tuple(integer(entry, "Datapath order", 0, len(entries) - 1) for entry in entries)
    if len(set(order)) < len(order):
        twice = next(entry for entry, times in Counter(order).items() if times > 1)
        raise SpecError(f"Datapath order must be a permutation: {twice} is there more than once")
    return order


def _count(level: Accumulator, index: int, summing: int) -> str:
    """What a level takes, in words."""
    if index > summing:
        return "read out"
    if level.terms is None:
        return "all"
    return f"{level.terms} {'sums' if index else 'products'}"
