"""An independent second opinion on narrow accumulators, written from docs/semantics.md alone.

Plain Python integers throughout, so nothing here can overflow. Where a closed form exists it is
used instead of the step loop of the definition, so that a mistake is unlikely to be made twice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, count
from operator import mul


@dataclass(frozen=True, slots=True)
class Answer:
    """What one run reports: final register, overflowing steps, peaks of the exact running sum."""

    output: int
    overflow_count: int
    first_overflow: int
    peak_low: int
    peak_high: int


def rails(bits: int, signed: bool) -> tuple[int, int]:
    """Return the lowest and the highest value that a register of `bits` bits holds."""
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def run(
    products: Sequence[int], bits: int, overflow: str, *, signed: bool = True, bias: int = 0
) -> Answer:
    """Fold `products` in index order into a register that starts at `bias`.

    `overflow` is "wrap" or "saturate"; ValueError if it is neither, or if `bias` does not fit.
    """
    low, high = rails(bits, signed)
    if not low <= bias <= high:
        raise ValueError(f"bias {bias} is outside the register [{low}, {high}]")
    sums = list(accumulate(products, initial=bias))
    if overflow == "wrap":
        # Reduction modulo 2^bits respects addition: once at the end is as good as at every step.
        output = (bias + sum(products) - low) % (1 << bits) + low
        # The register before step k is sums[k] wrapped, that is sums[k] less a whole number of
        # turns of 2^bits; adding product k overflows exactly if that number changes.
        turns = [(s - low) >> bits for s in sums]
        steps = [k for k in range(len(products)) if turns[k] != turns[k + 1]]
    elif overflow == "saturate":
        output, steps = _saturate(products, low, high, bias)
    else:
        raise ValueError(f"overflow must be 'wrap' or 'saturate', not {overflow!r}")
    return Answer(output, len(steps), steps[0] if steps else -1, min(sums), max(sums))


def _saturate(products: Sequence[int], low: int, high: int, bias: int) -> tuple[int, list[int]]:
    """Return the final saturating register and the indices of the steps that overflowed."""
    # Clamping does not commute with addition: no closed form, the recursion is the definition.
    register, steps = bias, []
    for k, product in enumerate(products):
        t = register + product
        register = sorted((low, t, high))[1]
        if register != t:
            steps.append(k)
    return register, steps


def dot(
    weights: Sequence[int],
    inputs: Sequence[int],
    bits: int,
    overflow: str,
    *,
    signed: bool = True,
    bias: int = 0,
) -> Answer:
    """Run the products weights[k] * inputs[k]; ValueError if the lengths differ."""
    if len(weights) != len(inputs):
        raise ValueError(f"{len(weights)} weights, but {len(inputs)} inputs")
    return run(list(map(mul, weights, inputs)), bits, overflow, signed=signed, bias=bias)


def _extremes(
    weights: Sequence[int], low_input: int, high_input: int, bias: int
) -> tuple[Iterator[int], Iterator[int]]:
    """Return the least and the greatest running sums, step by step, from the start on.

    Inputs are chosen freely per step, so each extreme is attained. ValueError if there are none.
    """
    if low_input > high_input:
        raise ValueError(f"empty input range [{low_input}, {high_input}]")
    least = (min(q * low_input, q * high_input) for q in weights)
    greatest = (max(q * low_input, q * high_input) for q in weights)
    return accumulate(least, initial=bias), accumulate(greatest, initial=bias)


def running_range(
    weights: Sequence[int], low_input: int, high_input: int, *, bias: int = 0
) -> tuple[int, int]:
    """Return the lowest and highest running sum, start included, over all inputs in the range."""
    lows, highs = _extremes(weights, low_input, high_input, bias)
    return min(lows), max(highs)


def safe(
    weights: Sequence[int],
    low_input: int,
    high_input: int,
    bits: int,
    *,
    signed: bool = True,
    bias: int = 0,
) -> bool:
    """Tell whether the start fits and no step, in index order, overflows for any input."""
    low, high = rails(bits, signed)
    lowest, highest = running_range(weights, low_input, high_input, bias=bias)
    return low <= lowest and highest <= high


def wrap_exact(
    weights: Sequence[int],
    low_input: int,
    high_input: int,
    bits: int,
    *,
    signed: bool = True,
    bias: int = 0,
) -> bool:
    """Tell whether the final wrapped value is the exact sum for every input.

    A wrapped value is right exactly when the sum fits, whatever overflowed on the way.
    """
    low, high = rails(bits, signed)
    lows, highs = _extremes(weights, low_input, high_input, bias)
    return low <= list(lows)[-1] and list(highs)[-1] <= high


def least_bits(weights: Sequence[int], low_input: int, high_input: int, *, bias: int = 0) -> int:
    """Return the least two's complement width, 1 or more, that holds every running sum."""
    return next(b for b in count(1) if safe(weights, low_input, high_input, b, bias=bias))
