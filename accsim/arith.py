"""The definition: a narrow register on Python ints, slow and obvious.

Everything fast in this project is compared with these few lines (see docs/semantics.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from accsim._check import whole
from accsim.datapath import Datapath
from accsim.errors import RangeError, ShapeError
from accsim.spec import Accumulator, Overflow, Rail

__all__ = ["Fold", "LevelFold", "fold", "reduce", "saturate", "wrap"]


@dataclass(frozen=True, slots=True)
class LevelFold:
    """What one level of a datapath did; the fields of `accsim.LevelRun`, as Python ints."""

    overflow_count: int
    first_overflow: int
    peak_low: int
    peak_high: int


@dataclass(frozen=True, slots=True)
class Fold:
    """One dot product through a register; the fields of `accsim.Run`, as Python ints."""

    output: int
    overflow_count: int
    first_overflow: int
    peak_low: int
    peak_high: int
    levels: tuple[LevelFold, ...] = field(default=(), repr=False)


def wrap(value: int, accumulator: Accumulator) -> int:
    """The integer in the register's range that is `value` modulo 2^bits."""
    return (value - accumulator.min) % (1 << accumulator.bits) + accumulator.min


def saturate(value: int, accumulator: Accumulator) -> int:
    """The integer in the register's range that is nearest to `value`."""
    return min(max(value, accumulator.min), accumulator.max)


def reduce(value: int, accumulator: Accumulator) -> int:
    """What the register keeps of `value`, by its own overflow rule."""
    rule = saturate if accumulator.overflow is Overflow.SATURATE else wrap
    return rule(value, accumulator)


def fold(
    weights: Sequence[int],
    inputs: Sequence[int],
    accumulator: Accumulator | Datapath,
    *,
    bias: int = 0,
) -> Fold:
    """Add weights[k] * inputs[k] for k = 0, 1, ... to a register that starts at `bias`.

    Through a datapath in its order and up its levels: see `_climb`.

    Raises: DtypeError for anything but integers; ShapeError for lengths that differ; RangeError
    for a bias outside the register.

    >>> fold([7, 5, -6, 2], [1, 1, 1, 1], Accumulator(4, "saturate"))
    Fold(output=3, overflow_count=1, first_overflow=1, peak_low=0, peak_high=12)
    """
    if len(weights) != len(inputs):
        raise ShapeError(
            f"weights and inputs must have one length, not {len(weights)} and {len(inputs)}"
        )
    weights = [whole(q, "weights") for q in weights]
    inputs = [whole(x, "inputs") for x in inputs]
    bias = whole(bias, "bias")
    if isinstance(accumulator, Datapath):
        check_bias(bias, accumulator.register)
        places = accumulator.places(len(weights)).tolist()
        return _climb([0 if k < 0 else weights[k] * inputs[k] for k in places], accumulator, bias)
    check_bias(bias, accumulator)
    register = exact = low = high = bias
    count, first = 0, -1
    for k, (q, x) in enumerate(zip(weights, inputs, strict=True)):
        total = register + q * x
        register = reduce(total, accumulator)
        if total != register:
            count += 1
            first = k if first < 0 else first
        exact += q * x
        low, high = min(low, exact), max(high, exact)
    return Fold(register, count, first, low, high)


@dataclass(slots=True)
class _Level:
    """A level while it works: what its register holds, what it would hold were it unbounded."""

    register: Accumulator
    held: int = 0
    exact: int = 0
    count: int = 0
    first: int = -1
    low: int = 0
    high: int = 0

    def add(self, item: int, exact: int) -> None:
        """Another item, and what it would be had nothing overflowed."""
        self.held += item
        self.exact += exact

    def settle(self, place: int) -> None:
        """Apply the level's overflow after the product at `place`."""
        kept = reduce(self.held, self.register)
        if kept != self.held:
            self.count += 1
            self.first = place if self.first < 0 else self.first
        self.held = kept
        self.low, self.high = min(self.low, self.exact), max(self.high, self.exact)


def _climb(products: Sequence[int], datapath: Datapath, bias: int) -> Fold:
    """Add products, in their order, to the bottom level; what it hands over to the next; and so on.

    A level hands over when its group is complete, or the last product has come, and starts the next
    group at 0. One that applies its overflow to whole sums does so then.
    """
    levels = [_Level(register) for register in datapath.levels]
    inner, summing = levels[: datapath.summing], levels[datapath.summing]
    if datapath.bias == "first":
        summing.held = summing.exact = summing.low = summing.high = bias
    for place, product in enumerate(products):
        item = exact = product
        for level, span in zip(inner, datapath.spans, strict=True):
            complete = (place + 1) % span == 0 or place + 1 == len(products)
            level.add(item, exact)
            if complete or level.register.rail is Rail.STEP:
                level.settle(place)
            if not complete:
                break
            item, exact = level.held, level.exact
            level.held = level.exact = 0
        else:
            summing.add(item, exact)
            if summing.register.rail is Rail.STEP:
                summing.settle(place)
    end = max(len(products) - 1, 0)
    if datapath.bias == "last":
        summing.add(bias, bias)
    summing.settle(end)
    for below, level in zip(levels[len(inner) :], levels[len(inner) + 1 :], strict=False):
        level.add(below.held, below.exact)
        level.settle(end)
    done = tuple(LevelFold(one.count, one.first, one.low, one.high) for one in levels)
    return Fold(
        levels[-1].held,
        sum(one.overflow_count for one in done),
        min((one.first_overflow for one in done if one.overflow_count), default=-1),
        summing.low,
        summing.high,
        done,
    )


def check_bias(bias: int, accumulator: Accumulator, name: str = "bias") -> None:
    """Raise RangeError unless the register can start at `bias`."""
    if not accumulator.min <= bias <= accumulator.max:
        raise RangeError(
            f"{name} is {bias}, outside the {accumulator} [{accumulator.min}, {accumulator.max}]"
        )
