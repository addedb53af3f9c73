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
        steps = _turns(sums, low, bits)
    elif overflow == "saturate":
        output, steps = _saturate(products, low, high, bias)
    else:
        raise ValueError(f"overflow must be 'wrap' or 'saturate', not {overflow!r}")
    return Answer(output, len(steps), steps[0] if steps else -1, min(sums), max(sums))


def _turns(sums: Sequence[int], low: int, bits: int) -> list[int]:
    """Return the indices of the steps at which a register that wraps overflows."""
    # The register before step k is sums[k] wrapped, that is sums[k] less a whole number of
    # turns of 2^bits; adding product k overflows exactly if that number changes.
    turns = [(s - low) >> bits for s in sums]
    return [k for k in range(len(sums) - 1) if turns[k] != turns[k + 1]]


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


@dataclass(frozen=True, slots=True)
class Level:
    """A level of a datapath, as plain values; `terms` None: the rest."""

    bits: int
    overflow: str
    signed: bool
    terms: int | None
    per_sum: bool


@dataclass(frozen=True, slots=True)
class Item:
    """A number handed from level to level, what it would be exactly, and when it was complete."""

    value: int
    exact: int
    place: int


def climb(
    products: Sequence[int],
    levels: Sequence[Level],
    *,
    order: Sequence[int] | None = None,
    bias: int = 0,
    bias_last: bool = False,
) -> tuple[Answer, list[Answer]]:
    """Return what a datapath reports, and each of its levels, inner to outer.

    Whole levels are computed one after another, each from the list of all items of the one below.
    """
    placed = list(products)
    if order is not None:
        # Whole blocks: what is missing is 0.
        placed += [0] * (-len(products) % len(order))
        placed = [placed[block + k] for block in range(0, len(placed), len(order)) for k in order]
    items = [Item(p, p, place) for place, p in enumerate(placed)]
    end = max(len(placed) - 1, 0)
    at_start, at_end = (Item(0, 0, end), [Item(bias, bias, end)])
    if not bias_last:
        at_start, at_end = at_end[0], []
    answers: list[Answer] = []
    summed: Answer | None = None
    for level in levels:
        if level.terms is not None:
            firsts = range(0, len(items), level.terms)
            groups = [_group(items[i : i + level.terms], Item(0, 0, 0), level) for i in firsts]
        elif summed is None:
            groups = [_group([*items, *at_end], at_start, level)]
        else:
            groups = [_group(items, Item(0, 0, end), level)]
        items = [item for item, _, _ in groups]
        steps = sorted(step for _, steps, _ in groups for step in steps)
        peaks = [0] + [peak for _, _, peaks in groups for peak in peaks]
        if level.terms is None and summed is None:
            peaks = peaks[1:]
        answers.append(_answer(items[-1].value if items else 0, steps, peaks))
        if level.terms is None and summed is None:
            summed = answers[-1]
    assert summed is not None, "some level sums all that is left"
    steps = [a.first_overflow for a in answers for _ in range(a.overflow_count)]
    return _answer(items[0].value, sorted(steps), [summed.peak_low, summed.peak_high]), answers


def _answer(output: int, steps: list[int], peaks: list[int]) -> Answer:
    """Return the report of sorted steps that overflowed and exact running sums."""
    return Answer(output, len(steps), steps[0] if steps else -1, min(peaks), max(peaks))


def _group(items: Sequence[Item], start: Item, level: Level) -> tuple[Item, list[int], list[int]]:
    """Return what a group hands over, the places where it overflowed, and its exact sums."""
    low, high = rails(level.bits, level.signed)
    exact = list(accumulate((item.exact for item in items), initial=start.exact))
    place = items[-1].place if items else start.place
    values = [item.value for item in items]
    if level.per_sum:
        total = start.value + sum(values)
        end = run([total], level.bits, level.overflow, signed=level.signed).output
        return Item(end, exact[-1], place), [place] * (end != total), [exact[0], exact[-1]]
    answer = run(values, level.bits, level.overflow, signed=level.signed, bias=start.value)
    if level.overflow == "wrap":
        steps = _turns(list(accumulate(values, initial=start.value)), low, level.bits)
    else:
        steps = _saturate(values, low, high, start.value)[1]
    return Item(answer.output, exact[-1], place), [items[k].place for k in steps], exact
