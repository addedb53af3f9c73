"""Laws of widths: the least register, the preload that is free, the host's own integers."""

from __future__ import annotations

from collections.abc import Iterator

from accsim import arith, bounds
from accsim.spec import MAX_BITS, Accumulator
from verification.laws.law import Z3, Claim, Formula, Law, Number, inside, size

HOST = 64  # bits of the numbers in the law of least widths
BYTE, NIBBLE, WIDEST = Accumulator(8), Accumulator(4), Accumulator(MAX_BITS)


def bit_length(z3: Z3, number: Number) -> Number:
    """`int.bit_length` as a formula: one more than the place of the highest bit that is set."""
    length = z3.BitVecVal(0, HOST)
    for place in range(HOST):
        length = z3.If(z3.Extract(place, place, number) == 1, place + 1, length)
    return length


def least_width(z3: Z3, low: Number, high: Number, below: Number) -> Number:
    """`spec.bits_to_hold` as a formula; `below` is what stands for -low - 1."""
    zero = z3.BitVecVal(0, HOST)
    up = z3.If(high > 0, bit_length(z3, high), zero)
    down = z3.If(low < 0, bit_length(z3, below), zero)
    return 1 + z3.If(up >= down, up, down)


def _least(z3: Z3) -> Iterator[Claim]:
    low, high = z3.BitVecs("low high", HOST)
    width = least_width(z3, low, high, -low - 1)
    for bits in range(1, HOST):
        half = 2 ** (bits - 1)
        yield Claim(low <= high, z3.And(low >= -half, high <= half - 1) == (width <= bits))


def _least_twin(z3: Z3) -> Claim:
    low, high = z3.BitVecs("low high", HOST)
    held = z3.And(low >= BYTE.min, high <= BYTE.max)
    given = z3.And(low <= high, inside(z3, -1000, 1000, low, high))
    return Claim(given, held == (least_width(z3, low, high, -low) <= BYTE.bits))


def _least_fails(low: int, high: int) -> bool:
    width = 1 + max(max(0, high).bit_length(), max(0, -low).bit_length())
    return bool(bounds.fits(low, high, BYTE)) != (width <= BYTE.bits)


def _preload(z3: Z3) -> Iterator[Claim]:
    low, high, half, other = z3.Ints("low high half other")
    start, narrow = -half - low, high - low < 2 * half

    def fit(*numbers: Number) -> Formula:
        return inside(z3, -half, half - 1, *numbers)

    given = z3.And(half >= 1, low <= 0, high >= 0)
    yield Claim(given, fit(start, start + low, start + high) == narrow)
    yield Claim(given, z3.Implies(fit(other + low, other + high), narrow))


def _preload_twin(z3: Z3) -> Claim:
    low, high = z3.Ints("low high")
    given = z3.And(low <= 0, high >= 0, high - low < 2**NIBBLE.bits)
    return Claim(given, inside(z3, NIBBLE.min, NIBBLE.max, low, high))


def _preload_fails(low: int, high: int) -> bool:
    return (high - low).bit_length() <= NIBBLE.bits and not bounds.fits(low, high, NIBBLE)


def _host(z3: Z3) -> Iterator[Claim]:
    q, x, most_q, most_x = z3.Ints("q x max_q max_x")
    largest = z3.And(size(z3, q) <= most_q, size(z3, x) <= most_x)
    yield Claim(largest, size(z3, q * x) <= most_q * most_x)
    half, taps, k, most, spare = z3.Ints("h K k max_qx spare")
    bias, register, product, exact = z3.Ints("bias register product exact")
    span, low = 2 * half, z3.If(z3.Bool("signed"), -half, 0)
    limit = span + size(z3, bias) + taps * most + spare
    given = z3.And(
        half >= 1,
        spare >= 0,
        inside(z3, low, low + span - 1, register, bias),
        inside(z3, 0, taps - 1, k),
        size(z3, product) <= most,
        size(z3, exact) <= size(z3, bias) + k * most,
    )
    total, sum_ = register + product, exact + product
    numbers = (product, total, total - low, span - 1, low, exact - low, sum_, sum_ - low)
    reached = size(z3, sum_) <= size(z3, bias) + (k + 1) * most
    yield Claim(given, z3.And(inside(z3, -limit, limit - 1, *numbers), reached))


def _host_twin(z3: Z3) -> Claim:
    bias, product = z3.Ints("bias product")
    given = z3.And(
        inside(z3, WIDEST.min, WIDEST.max, bias), size(z3, bias) + size(z3, product) <= 2**63
    )
    return Claim(given, inside(z3, -(2**63), 2**63 - 1, bias + product - WIDEST.min))


def _host_fails(bias: int, product: int) -> bool:
    peaks = arith.fold([product], [1], WIDEST, bias=bias)
    ends = peaks.peak_low - WIDEST.min, peaks.peak_high - WIDEST.min
    return abs(bias) + abs(product) <= 2**63 and not all(-(2**63) <= e < 2**63 for e in ends)


LAWS = (
    Law(
        "least-bits",
        "P bits hold [lo, hi] if and only if P >= 1 + max(bitlen(hi), bitlen(-lo - 1)), a term"
        " being 0 where hi <= 0 or lo >= 0",
        _least,
        "bitlen(-lo) will do for bitlen(-lo - 1)",
        _least_twin,
        _least_fails,
    ),
    Law(
        "free-preload",
        "started at -2^(P-1) - lo, a register of P >= bitlen(hi - lo) bits holds its start and all"
        " sums, and no start makes fewer bits enough",
        _preload,
        "started at 0, a register of P >= bitlen(hi - lo) bits holds all sums",
        _preload_twin,
        _preload_fails,
    ),
    Law(
        "host-width",
        "if 2^P + |bias| + K·max|q|·max|x| <= 2^63, no intermediate of a step leaves int64, and"
        " 2^31 keeps int32",
        _host,
        "|bias| + K·max|q|·max|x| <= 2^63 is enough",
        _host_twin,
        _host_fails,
    ),
)
