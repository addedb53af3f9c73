"""Exact ranges and least widths, and each published bound as one function with its source.

Letters: K taps of one output channel; M, N, P bits of weight, input, register; q, x integer weight
and input in [c, d]. Everything is a Python int, an exact integer array or a Fraction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

from accsim._check import IntArray, integer, integer_array
from accsim.errors import ShapeError, SpecError
from accsim.spec import MAX_BITS, Accumulator, IntSpec, bits_to_hold, signed, unsigned

__all__ = [
    "SignBudgets",
    "data_type_bits",
    "extremes",
    "l1_budget",
    "least_bits",
    "running_extremes",
    "sign_budgets",
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


def l1_budget(acc_bits: int, input_spec: IntSpec) -> Fraction:
    """Largest l1-norm of one channel's integer weights that A2Q allows.

    N-bit types: (2^(P-1) - 1) / 2^(N - s), s = 1 for signed inputs; other ranges: divided by
    max|x| instead.

    Raises: SpecError for bits outside 2 to 62 or inputs that are always 0.
    Source: A2Q (arXiv 2308.13504); A2Q+ (arXiv 2401.10432) Eq. 4-6.
    """
    top = 2 ** (integer(acc_bits, "acc_bits", 2, MAX_BITS) - 1) - 1
    n = input_spec.bits
    if input_spec == signed(n):
        return Fraction(top, 2 ** (n - 1))
    if input_spec == unsigned(n):
        return Fraction(top, 2**n)
    if input_spec.magnitude == 0:
        raise SpecError("input_spec must hold an input other than 0 for a weight budget")
    return Fraction(top, input_spec.magnitude)


def zero_centered_budget(acc_bits: int, input_spec: IntSpec) -> Fraction:
    """Largest l1-norm of one channel's zero-centred integer weights that A2Q+ allows.

    (2^P - 2) / (max - min). It certifies weights that sum to 0, or weights rounded toward zero
    from such; on any other integers it proves nothing.

    Raises: SpecError for bits outside 2 to 62 or a range that excludes 0 or holds nothing else.
    Source: A2Q+ (arXiv 2401.10432) Prop. 3.1, Eq. 7.
    """
    bits = integer(acc_bits, "acc_bits", 2, MAX_BITS)
    if not input_spec.contains_zero or input_spec.magnitude == 0:
        raise SpecError(
            "input_spec must hold 0 and another input for the zero-centred budget, not "
            + input_spec.describe()
        )
    return Fraction(2**bits - 2, input_spec.max - input_spec.min)


@dataclass(frozen=True, slots=True)
class SignBudgets:
    """What the sums α and |β| of a channel's positive and negative integers may be: every pair with

        up·α + down·|β| <= high   and   down·α + up·|β| <= low

    and no other. For unsigned inputs `down` is 0, and each sign has a budget of its own.
    """

    up: int  # the largest input
    down: int  # the least, in size
    high: int  # the register's highest value
    low: int  # its lowest, in size

    def allow(self, positive: Any, negative: Any) -> Any:
        """Whether these α and |β| are safe: integers, or arrays (of floats: exact ones)."""
        if isinstance(positive, np.ndarray | np.generic):  # whose own products could wrap
            positive, negative = np.asarray(positive, object), np.asarray(negative, object)
        return (self.up * positive + self.down * negative <= self.high) & (
            self.down * positive + self.up * negative <= self.low
        )


def sign_budgets(acc_bits: int, input_spec: IntSpec) -> SignBudgets:
    """The exact safe set: a channel's integers never overflow, in any order, if and only if inside.

    Raises: SpecError for bits outside 2 to 62 or a range that excludes 0 or holds nothing else.
    Source: hi = d·α + c·β, lo = c·α + d·β over inputs in [c, d], both attained; with 0 in [c, d]
    every partial sum lies between them.
    """
    register = Accumulator(integer(acc_bits, "acc_bits", 2, MAX_BITS))
    if not input_spec.contains_zero or input_spec.magnitude == 0:
        raise SpecError(
            "input_spec must hold 0 and another input for the sign budgets, not "
            + input_spec.describe()
        )
    return SignBudgets(input_spec.max, -input_spec.min, register.max, -register.min)


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


Pick = Callable[[IntArray, IntArray], tuple[IntArray, IntArray]]


def _per_channel(weight: object, input_spec: IntSpec, bias: object, pick: Pick) -> tuple[Any, Any]:
    """`pick` applied to the running extremes of every channel, a block of channels at a time."""
    array = integer_array(weight, "weight")
    single = array.ndim == 1
    if array.ndim not in (1, 2, 4):
        raise ShapeError(
            f"weight must be (K,), (C, K) or (O, I, kh, kw), not of shape {array.shape}"
        )
    rows = array[None] if single else array.reshape(len(array), prod(array.shape[1:]))
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
