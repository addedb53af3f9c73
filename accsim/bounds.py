"""Exact ranges and least widths, and each published bound as one function with its source.

Letters: K taps of one output channel; M, N, P bits of weight, input, register; q, x integer weight
and input in [c, d]. Everything is a Python int, an exact integer array or a Fraction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np

from accsim._check import IntArray, integer, integer_array
from accsim.budgets import (
    SignBudgets,
    l1_budget,
    largest_input,
    sign_budgets,
    zero_centered_budget,
)
from accsim.errors import RangeError, ShapeError
from accsim.spec import MAX_BITS, Accumulator, IntSpec, bits_to_hold

__all__ = [
    "SignBudgets",
    "any_order_extremes",
    "data_type_bits",
    "extremes",
    "fold_interval",
    "l1_bits",
    "l1_budget",
    "least_bits",
    "preload",
    "preloaded_bits",
    "running_extremes",
    "sign_budgets",
    "zero_centered_bits",
    "zero_centered_budget",
]

_BLOCK = 2**20  # taps decided at a time, so that memory stays small for any layer


def extremes(weight: object, input_spec: IntSpec, *, bias: object = None) -> tuple[Any, Any]:
    """Lowest and highest final sum of each output channel over all inputs in `input_spec`.

    Both are attained: x is one end of the range where q > 0 and the other where q < 0.

    Shapes: weight (K,), bias an int -> two Python ints; weight (C, K) or (O, I, kh, kw), bias
    (C,) -> two arrays (C,), int64, or of Python ints where int64 could overflow.
    Raises: DtypeError or ShapeError for anything but integers in these shapes.
    Source: hi = d·α + c·β, lo = c·α + d·β, with α and β the sums of positive and negative q.
    """
    return _per_channel(weight, input_spec, bias, lambda low, high: (low[:, -1], high[:, -1]))


def running_extremes(
    weight: object, input_spec: IntSpec, *, bias: object = None
) -> tuple[Any, Any]:
    """Lowest and highest running sum of each channel, in index order, starting value included.

    The same as `extremes` whenever 0 lies in `input_spec`; then any other order agrees too.

    Shapes, raises: as `extremes`.
    Source: extremes of prefix sums of the least and greatest product of each tap.
    """
    return _per_channel(
        weight, input_spec, bias, lambda low, high: (low.min(axis=1), high.max(axis=1))
    )


def any_order_extremes(
    weight: object, input_spec: IntSpec, *, bias: object = None
) -> tuple[Any, Any]:
    """Lowest and highest sum of any of the products, in any order, starting value included.

    What every order, subset and tile of the sum stays inside. As `extremes` if 0 is an input.

    Shapes, raises: as `extremes`. Source: sums of min(0, least) and max(0, greatest) products.
    """
    return running_extremes(weight, idle_too(input_spec), bias=bias)


def idle_too(input_spec: IntSpec) -> IntSpec:
    """The range with 0 in it: a tap may be left out."""
    return IntSpec(min(0, input_spec.min), max(0, input_spec.max))


def least_bits(weight: object, input_spec: IntSpec, *, bias: object = None) -> Any:
    """Least width, in bits, of a two's complement register that holds every running sum.

    1 for a channel that is always 0, though a register has at least 2 bits.

    Shapes: as `extremes`; a Python int for weight (K,), else an int64 array (C,).
    Source: exact integers; P = 1 + max(bit length of hi, bit length of -lo - 1).
    """
    low, high = running_extremes(weight, input_spec, bias=bias)
    if isinstance(low, int):
        return bits_to_hold(low, high)
    return bits_per_channel(low, high)


def bits_per_channel(low: IntArray, high: IntArray) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Least two's complement width, in bits, that holds [low, high] of each channel."""
    bits = [bits_to_hold(int(a), int(b)) for a, b in zip(low, high, strict=True)]
    return np.array(bits, dtype=np.int64)


def data_type_bits(k: int, weight_spec: IntSpec, input_spec: IntSpec) -> int:
    """Least register width, in bits, that is safe for every weight and input of these types.

    Source: the exact form of A2Q+ (arXiv 2401.10432) Eq. 20-22, which is up to two bits wider.
    """
    k = integer(k, "k", 0, 2**40)
    products = [
        q * x for q in (weight_spec.min, weight_spec.max) for x in (input_spec.min, input_spec.max)
    ]
    return bits_to_hold(k * min(0, *products), k * max(0, *products))


def l1_bits(weight: object, input_spec: IntSpec) -> Any:
    """Least width, in bits, for which A2Q's bound on the l1-norm certifies each channel.

    Safe, and often more than `least_bits`: it looks at the size of the weights alone.

    Shapes, raises: as `least_bits`, SpecError as `l1_budget`. Source: as `l1_budget`.
    """
    largest = largest_input(input_spec)
    return _norms(weight, lambda norm: 1 + (norm * largest).bit_length())


def zero_centered_bits(weight: object, input_spec: IntSpec) -> Any:
    """Least width, in bits, for which A2Q+'s bound holds: ‖q‖₁ <= `zero_centered_budget`.

    It proves nothing about integers. With UINT4 inputs 272 weights of 1 have 12 bits by it, and
    need 13; 3, 0, 0, 0, 0, rounded toward zero from 3 and four of -3/4, have 6 and need 7. What
    certifies is the norm of the zero-centred weights before they were rounded.

    Shapes, raises: as `least_bits`, SpecError as `zero_centered_budget`.
    Source: as `zero_centered_budget`.
    """
    zero_centered_budget(2, input_spec)  # refuses ranges that it does not hold for
    span = input_spec.max - input_spec.min
    return _norms(weight, lambda norm: max(2, (norm * span + 1).bit_length()))


def _norms(weight: object, bits: Callable[[int], int]) -> Any:
    """`bits` of the l1-norm of each channel."""
    ones = IntSpec(-1, 1)  # the highest sum over such inputs is the norm
    _, norm = extremes(weight, ones)
    return bits(norm) if isinstance(norm, int) else np.array([bits(int(n)) for n in norm])


def preloaded_bits(weight: object, input_spec: IntSpec) -> Any:
    """Least width, in bits, of a register that may start where it likes (`preload`).

    Shapes, raises: as `least_bits`.
    Source: [lo, hi] fits a range of 2^P numbers, wherever it lies, if and only if hi - lo < 2^P.
    """
    low, high = running_extremes(weight, input_spec)
    if isinstance(low, int):
        return _span_bits(low, high)
    return span_bits_per_channel(low, high)


def span_bits_per_channel(
    low: IntArray, high: IntArray
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Least width, in bits, that holds [low, high] of each channel, moved to where it likes."""
    bits = [_span_bits(int(a), int(b)) for a, b in zip(low, high, strict=True)]
    return np.array(bits, dtype=np.int64)


def _span_bits(low: int, high: int) -> int:
    """Least P with high - low < 2^P; 1 for a single number."""
    return max(1, (high - low).bit_length())


def preload(weight: object, input_spec: IntSpec, acc_bits: int) -> Any:
    """What each register starts at so that all running sums fit: the lowest such number.

    What it starts at is to be taken off the result, outside the register. Of a convolution that
    pads inputs without 0, `verification.lowerings.preloaded` sees the padding, this does not.

    Shapes: as `least_bits`. Raises: as there; RangeError for fewer bits than `preloaded_bits`.
    """
    register = Accumulator(integer(acc_bits, "acc_bits", 2, MAX_BITS))
    low, _ = running_extremes(weight, input_spec)
    needed = int(np.max(preloaded_bits(weight, input_spec), initial=1))
    if needed > acc_bits:
        raise RangeError(f"acc_bits must be at least {needed} for a preload, not {acc_bits}")
    return register.min - low


def fold_interval(weight: object, input_spec: IntSpec, acc_bits: int) -> Any:
    """How many consecutive taps a register of 0 can always take before it must be emptied.

    The most for which no run of taps, wherever it begins, can overflow, in any order and with any
    of them left out. All taps where none can; 0 where a single product does.

    Shapes: as `least_bits`.
    """
    register = Accumulator(integer(acc_bits, "acc_bits", 2, MAX_BITS))
    rows, single = _rows(weight)
    reach = idle_too(input_spec)
    beyond = np.array([register.min])  # `_longest` adds as much to sums
    found = []
    for row in rows:
        exact = _exact_dtype(row[None], reach, beyond)
        least, greatest = tap_products(row.astype(exact), reach)
        found.append(min(_longest(greatest, register.max), _longest(-least, -register.min)))
    return found[0] if single else np.array(found, dtype=np.int64)


def _longest(products: IntArray, most: int) -> int:
    """The longest run of these numbers, none negative, such that no run so long exceeds `most`."""
    sums = np.concatenate([np.zeros(1, products.dtype), products.cumsum()])
    ends = np.searchsorted(sums, sums + most, side="right")  # the first sum that is too large
    over = ends < len(sums)
    return int((ends - np.arange(len(sums)))[over].min(initial=len(products) + 1)) - 1


def fits(low: Any, high: Any, accumulator: Accumulator) -> Any:
    """Whether the register holds the closed range [low, high]: a bool, or one per channel."""
    return (low >= accumulator.min) & (high <= accumulator.max)


def tap_products(weight: IntArray, input_spec: IntSpec) -> tuple[IntArray, IntArray]:
    """Least and greatest product of each tap over all inputs in `input_spec`."""
    at_min, at_max = weight * input_spec.min, weight * input_spec.max
    return np.minimum(at_min, at_max), np.maximum(at_min, at_max)


def magnitude(array: IntArray) -> int:
    """Largest absolute value in the array; 0 if it is empty."""
    return max(-int(array.min()), int(array.max()), 0) if array.size else 0


def _rows(weight: object) -> tuple[IntArray, bool]:
    """The taps of every channel (C, K), and whether it was one channel alone (K,)."""
    array = integer_array(weight, "weight")
    if array.ndim not in (1, 2, 4):
        raise ShapeError(
            f"weight must be (K,), (C, K) or (O, I, kh, kw), not of shape {array.shape}"
        )
    if array.ndim == 1:
        return array[None], True
    return array.reshape(len(array), prod(array.shape[1:])), False


Pick = Callable[[IntArray, IntArray], tuple[IntArray, IntArray]]


def _per_channel(weight: object, input_spec: IntSpec, bias: object, pick: Pick) -> tuple[Any, Any]:
    """`pick` applied to the running extremes of every channel, a block of channels at a time."""
    rows, single = _rows(weight)
    start = integer_array(0 if bias is None else bias, "bias")
    if start.shape not in ((), (len(rows),)):
        raise ShapeError(
            f"bias must have one entry per channel, {len(rows)}, not shape {start.shape}"
        )
    start = np.broadcast_to(start, len(rows))
    exact = _exact_dtype(rows, input_spec, start)
    pieces = [pick(low, high) for low, high in _running(rows, input_spec, start, exact)]
    low = np.concatenate([piece[0] for piece in pieces]) if pieces else np.zeros(0, exact)
    high = np.concatenate([piece[1] for piece in pieces]) if pieces else np.zeros(0, exact)
    return (int(low[0]), int(high[0])) if single else (low, high)


def _exact_dtype(rows: IntArray, input_spec: IntSpec, start: IntArray) -> type:
    """int64 where no intermediate can leave it, else object: Python ints."""
    reach = magnitude(start) + rows.shape[1] * magnitude(rows) * input_spec.magnitude
    return np.int64 if reach < 2**63 else object


def _running(
    rows: IntArray, input_spec: IntSpec, start: IntArray, exact: type
) -> Iterator[tuple[IntArray, IntArray]]:
    """Running extremes (channels, K + 1) of consecutive blocks of channels."""
    step = max(1, _BLOCK // (rows.shape[1] + 1))
    for first in range(0, len(rows), step):
        block = slice(first, first + step)
        least, greatest = tap_products(rows[block].astype(exact), input_spec)
        begin: IntArray = start[block].astype(exact)[:, None]
        yield (
            np.concatenate([begin, least], axis=1).cumsum(axis=1),
            np.concatenate([begin, greatest], axis=1).cumsum(axis=1),
        )
