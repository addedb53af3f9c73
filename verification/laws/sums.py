"""Laws of exact sums over all inputs: which running sums a channel can reach.

Letters: q a weight; x its input in [c, d]; s a running sum, known to lie in [L, H]. Each claim is
one step of an induction over taps, in unbounded integers, so that it holds for any K.
"""

from __future__ import annotations

from collections.abc import Iterator

from accsim import arith, bounds
from accsim.spec import MAX_BITS, Accumulator, between, unsigned
from verification.laws.law import Z3, Claim, Law, Number, greatest, inside, least

WIDE = Accumulator(MAX_BITS)
SMALL = -9, 9  # what twins are looked for in, so that every value is a legal operand


def ends(z3: Z3, q: Number, c: Number, d: Number) -> tuple[Number, Number]:
    """Least and greatest product of a tap, as `bounds.tap_products` has them."""
    return least(z3, q * c, q * d), greatest(z3, q * c, q * d)


def _interval(z3: Z3) -> Iterator[Claim]:
    s, low, high, q, x, c, d = z3.Ints("s L H q x c d")
    bottom, top = ends(z3, q, c, d)
    given = z3.And(low <= s, s <= high, c <= x, x <= d)
    yield Claim(given, inside(z3, low + bottom, high + top, s + q * x))
    at_top, at_bottom = z3.If(q >= 0, d, c), z3.If(q >= 0, c, d)
    attained = z3.And(high + q * at_top == high + top, low + q * at_bottom == low + bottom)
    yield Claim(c <= d, attained)


def _interval_twin(z3: Z3) -> Claim:
    s, q, x, c, d = z3.Ints("s q x c d")
    given = z3.And(c <= x, x <= d, inside(z3, *SMALL, s, q, c, d))
    return Claim(given, inside(z3, s + q * c, s + q * d, s + q * x))


def _interval_fails(s: int, q: int, x: int, c: int, d: int) -> bool:
    low, high = bounds.extremes([q], between(c, d), bias=s)
    after = arith.fold([q], [x], WIDE, bias=s).output
    return low <= after <= high and not s + q * c <= after <= s + q * d


def _subset(z3: Z3) -> Iterator[Claim]:
    s, low, high, q, x, c, d = z3.Ints("s L H q x c d")
    taken = z3.Bool("taken")
    bottom, top = ends(z3, q, c, d)
    given = z3.And(low <= s, s <= high, c <= x, x <= d, c <= 0, d >= 0)
    after = s + z3.If(taken, q * x, 0)
    yield Claim(given, inside(z3, low + bottom, high + top, after))


def _subset_twin(z3: Z3) -> Claim:
    q, c, d = z3.Ints("q c d")
    given = z3.And(c <= d, inside(z3, *SMALL, q, c, d))
    return Claim(given, inside(z3, *ends(z3, q, c, d), z3.IntVal(0)))


def _subset_fails(q: int, c: int, d: int) -> bool:
    spec = between(c, d)
    return bool(bounds.running_extremes([q], spec) != bounds.extremes([q], spec))


def _padded(z3: Z3) -> Iterator[Claim]:
    s, low, high, q, x, c, d = z3.Ints("s L H q x c d")
    padding = z3.Bool("padding")
    zero = z3.IntVal(0)
    bottom, top = ends(z3, q, least(z3, zero, c), greatest(z3, zero, d))
    given = z3.And(low <= s, s <= high, c <= x, x <= d)
    after = s + z3.If(padding, 0, q * x)
    yield Claim(given, inside(z3, low + bottom, high + top, after))


def _padded_twin(z3: Z3) -> Claim:
    q, c, d = z3.Ints("q c d")
    zero = z3.IntVal(0)
    bottom, top = ends(z3, q, c, d)
    wider = ends(z3, q, least(z3, zero, c), greatest(z3, zero, d))
    given = z3.And(c <= d, inside(z3, *SMALL, q, c, d))
    return Claim(given, z3.And(wider[0] == bottom, wider[1] == top))


def _padded_fails(q: int, c: int, d: int) -> bool:
    wider = bounds.extremes([q], between(min(0, c), max(0, d)))
    return bool(wider != bounds.extremes([q], between(c, d)))


def _types(z3: Z3) -> Iterator[Claim]:
    q, x, n, p, c, d = z3.Ints("q x n p c d")
    given = z3.And(n <= q, q <= p, c <= x, x <= d)
    at_n, at_p = ends(z3, n, c, d), ends(z3, p, c, d)
    corners = least(z3, at_n[0], at_p[0]), greatest(z3, at_n[1], at_p[1])
    yield Claim(given, inside(z3, *corners, q * x))
    s, product, bottom, top, k, taps = z3.Ints("s product bottom top k K")
    step = z3.And(
        inside(z3, bottom, top, product, z3.IntVal(0)),
        inside(z3, k * bottom, k * top, s),
        inside(z3, 0, taps - 1, k),
    )
    after = s + product
    reached = inside(z3, (k + 1) * bottom, (k + 1) * top, after)
    yield Claim(step, z3.And(reached, inside(z3, taps * bottom, taps * top, after)))


def _types_twin(z3: Z3) -> Claim:
    q, x, n, p, c, d = z3.Ints("q x n p c d")
    given = z3.And(n <= q, q <= p, c <= x, x <= d, inside(z3, *SMALL, n, p, c, d))
    return Claim(given, inside(z3, least(z3, n * c, p * d), greatest(z3, n * c, p * d), q * x))


def _types_fails(q: int, x: int, n: int, p: int, c: int, d: int) -> bool:
    product = arith.fold([q], [x], WIDE).output
    low, high = sorted((n * c, p * d))
    return n <= q <= p and c <= x <= d and not low <= product <= high


def _zero_point(z3: Z3) -> Iterator[Claim]:
    q, x, z, w, total, outside = z3.Ints("q x z w W outside")
    subtract, preload = outside - z * w, outside - z * total
    after = outside + q * x
    yield Claim(True, subtract + q * (x - z) == after - z * (w + q))
    yield Claim(True, preload + q * x == after - z * total)
    yield Claim(w == total, z3.And(subtract == preload, outside - z * w == preload))


def _zero_point_twin(z3: Z3) -> Claim:
    q, x, z = z3.Ints("q x z")
    given = inside(z3, 0, 9, q, x, z)
    return Claim(given, q * (x - z) == z * q + q * x)


def _zero_point_fails(q: int, x: int, z: int) -> bool:
    subtract = arith.fold([q], [x - z], WIDE).output
    return subtract != arith.fold([q], [x], WIDE, bias=z * q).output


def _preload(z3: Z3) -> Iterator[Claim]:
    s, z, span, alpha, beta, some_alpha, some_beta = z3.Ints("s z D α |β| α' |β'|")
    low, high = -(z * alpha + (span - z) * beta), (span - z) * alpha + z * beta
    start = -z * (alpha - beta)
    given = z3.And(
        inside(z3, 0, span, z),
        inside(z3, 0, alpha, some_alpha),
        inside(z3, 0, beta, some_beta),
        inside(z3, -span * some_beta, span * some_alpha, s),
    )
    yield Claim(given, inside(z3, low, high, start, start + s))
    yield Claim(given, z3.And(start - span * beta == low, start + span * alpha == high))


def _preload_twin(z3: Z3) -> Claim:
    q, z = z3.Ints("q z")
    given = z3.And(inside(z3, 0, 15, z), inside(z3, *SMALL, q))
    raw, less = ends(z3, q, z3.IntVal(0), z3.IntVal(15)), ends(z3, q, -z, 15 - z)
    return Claim(given, inside(z3, *less, *raw))


def _preload_fails(q: int, z: int) -> bool:
    low, high = bounds.extremes([q], between(-z, 15 - z))
    raw_low, raw_high = bounds.extremes([q], unsigned(4))
    return bool(raw_low < low or raw_high > high)


LAWS = (
    Law(
        "interval-step",
        "a running sum in [L, H] goes on in [L + min(qc, qd), H + max(qc, qd)], and an input"
        " attains each end",
        _interval,
        "it goes on in [L + qc, H + qd]",
        _interval_twin,
        _interval_fails,
    ),
    Law(
        "subset-step",
        "if 0 is a legal input, the sum of any of the taps, so any prefix in any order, lies in the"
        " interval of the final sums",
        _subset,
        "so it does if 0 is not a legal input",
        _subset_twin,
        _subset_fails,
    ),
    Law(
        "padded-step",
        "with some taps on the padding, a running sum stays in the interval of inputs that may be 0"
        " as well",
        _padded,
        "inputs without padding attain the ends of that interval",
        _padded_twin,
        _padded_fails,
    ),
    Law(
        "type-bounds",
        "weights in [n, p] and inputs in [c, d] keep running sums of at most K taps between K times"
        " the least and K times the greatest of 0, nc, nd, pc, pd",
        _types,
        "nc and pd are the ends of the products",
        _types_twin,
        _types_fails,
    ),
    Law(
        "zero-point-results",
        "a zero point subtracted from the inputs, taken off the result or preloaded gives one exact"
        " sum",
        _zero_point,
        "so it does preloaded as +z·Σq",
        _zero_point_twin,
        _zero_point_fails,
    ),
    Law(
        "zero-point-preload",
        "a register that is preloaded for a zero point starts and stays in the range of its final"
        " sums, which is that of subtracted zero points",
        _preload,
        "a register that sums raw codes from 0 stays in that range",
        _preload_twin,
        _preload_fails,
    ),
)
