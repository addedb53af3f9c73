"""The definition: a narrow register on Python ints, slow and obvious.

Everything fast in this project is compared with these few lines (see docs/semantics.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accsim._check import whole
from accsim.errors import RangeError, ShapeError
from accsim.spec import Accumulator, Overflow

__all__ = ["Fold", "fold", "reduce", "saturate", "wrap"]


@dataclass(frozen=True, slots=True)
class Fold:
    """One dot product through a register; the fields of `accsim.Run`, as Python ints."""

    output: int
    overflow_count: int
    first_overflow: int
    peak_low: int
    peak_high: int


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
    weights: Sequence[int], inputs: Sequence[int], accumulator: Accumulator, *, bias: int = 0
) -> Fold:
    """Add weights[k] * inputs[k] for k = 0, 1, ... to a register that starts at `bias`.

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


def check_bias(bias: int, accumulator: Accumulator, name: str = "bias") -> None:
    """Raise RangeError unless the register can start at `bias`."""
    if not accumulator.min <= bias <= accumulator.max:
        raise RangeError(
            f"{name} is {bias}, outside the {accumulator} [{accumulator.min}, {accumulator.max}]"
        )
