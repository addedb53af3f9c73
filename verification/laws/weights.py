"""Laws of weight budgets: what A2Q, A2Q+ and the exact safe set say of a channel's integers.

Letters: α and |β| the sums of a channel's positive and negative weights, in size; u real weights in
units of the scale, of which q are the integers; inputs in [c, d] with D = d - c; the register is
[-h, h - 1], h = 2^(P-1). No claim depends on K or P.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import floor

from accsim import bounds
from accsim.arith import fold
from accsim.spec import Accumulator, IntSpec, between, signed, unsigned
from verification.laws.law import Z3, Claim, Formula, Law, Number, greatest, inside, least, size
from verification.laws.sums import ends

BYTE = Accumulator(8)


def parts(z3: Z3, number: Number) -> tuple[Number, Number]:
    """What a weight adds to the positive sum and, in size, to the negative one."""
    return z3.If(number > 0, number, 0), z3.If(number < 0, -number, 0)


def allowed(z3: Z3, alpha: Number, beta: Number, c: Number, d: Number, half: Number) -> Formula:
    """`bounds.SignBudgets.allow` as a formula."""
    return z3.And(d * alpha - c * beta <= half - 1, -c * alpha + d * beta <= half)


def overflows(weights: Sequence[int], inputs: IntSpec, register: Accumulator) -> bool:
    """Whether the inputs that make the sum highest or lowest overflow, step by step."""
    top = [inputs.max if q > 0 else inputs.min for q in weights]
    bottom = [inputs.min if q > 0 else inputs.max for q in weights]
    return any(fold(weights, x, register).overflow_count > 0 for x in (top, bottom))


def _signs(z3: Z3) -> Iterator[Claim]:
    alpha, beta, q, c, d, half = z3.Ints("α |β| q c d h")
    bottom, top = ends(z3, q, c, d)
    more_alpha, more_beta = parts(z3, q)

    def extremes(positive: Number, negative: Number) -> tuple[Number, Number]:
        return c * positive - d * negative, d * positive - c * negative

    low, high = extremes(alpha, beta)
    given = z3.And(c <= 0, d >= 0, alpha >= 0, beta >= 0, half >= 1)
    after = extremes(alpha + more_alpha, beta + more_beta)
    yield Claim(given, low + bottom == after[0])
    yield Claim(given, high + top == after[1])
    safe = inside(z3, -half, half - 1, low, high)
    yield Claim(given, allowed(z3, alpha, beta, c, d, half) == safe)


def _signs_twin(z3: Z3) -> Claim:
    alpha, beta = z3.Ints("alpha beta")
    c, d, half = -8, 7, 128
    given = z3.And(alpha >= 0, beta >= 0, d * alpha <= half - 1, d * beta <= half)
    return Claim(given, allowed(z3, alpha, beta, c, d, half))


def _signs_fails(alpha: int, beta: int) -> bool:
    alone = bounds.sign_budgets(8, between(0, 7)).allow(alpha, beta)
    return bool(alone) and overflows([alpha, -beta], signed(4), BYTE)


def _l1(z3: Z3) -> Iterator[Claim]:
    s, q, x, norm, most = z3.Ints("s q x norm max_x")
    step = size(z3, s + q * x) <= most * (norm + size(z3, q))
    yield Claim(z3.And(norm >= 0, size(z3, s) <= most * norm, size(z3, x) <= most), step)
    so_far, divisor, spare = z3.Ints("so_far divisor spare")
    half = divisor * norm + 1 + spare
    given = z3.And(
        spare >= 0,
        inside(z3, 0, norm, so_far),
        inside(z3, 0, divisor, most),
        size(z3, s) <= most * so_far,
    )
    yield Claim(given, inside(z3, -half, half - 1, s))


def _l1_twin(z3: Z3) -> Claim:
    alpha, beta = z3.Ints("alpha beta")
    given = z3.And(alpha >= 0, beta >= 0, 15 * (alpha + beta) <= 2**12 - 2)
    return Claim(given, allowed(z3, alpha, beta, 0, 15, 2**11))


def _l1_fails(alpha: int, beta: int) -> bool:
    ones = [1] * alpha + [-1] * beta
    norm = bounds.zero_centered_budget(12, unsigned(4))
    return len(ones) <= norm and overflows(ones, unsigned(4), Accumulator(12))


def _halves(z3: Z3) -> Iterator[Claim]:
    u, above, below, span, half = z3.Reals("u above below D h")
    more_above, more_below = parts(z3, u)
    step = z3.And(
        above - below + u == above + more_above - (below + more_below),
        above + below + size(z3, u) == above + more_above + below + more_below,
    )
    yield Claim(z3.And(above >= 0, below >= 0), step)
    given = z3.And(span > 0, above - below == 0, span * (above + below) <= 2 * half - 2)
    yield Claim(given, z3.And(span * above <= half - 1, span * below <= half - 1))


def _halves_twin(z3: Z3) -> Claim:
    above, below = z3.Ints("above below")
    norms = z3.And(15 * above <= 2**8 - 2, 15 * below <= 2**8 - 2)
    given = z3.And(above >= 0, above - below == 0, norms)
    return Claim(given, allowed(z3, above, z3.IntVal(0), 0, 15, 2**7))


def _halves_fails(above: int, below: int) -> bool:
    norm = bounds.zero_centered_budget(8, unsigned(4))
    return above == below <= norm and overflows([1] * above, unsigned(4), BYTE)


def _toward_zero(z3: Z3) -> Iterator[Claim]:
    u, above, below = z3.Reals("u above below")
    alpha, beta, n, p = z3.Ints("α |β| n p")
    rounded = z3.If(u >= 0, z3.ToInt(u), -z3.ToInt(-u))
    q = least(z3, greatest(z3, rounded, n), p)
    more_above, more_below = parts(z3, u)
    more_alpha, more_beta = parts(z3, q)
    given = z3.And(n <= 0, p >= 0, alpha <= above, beta <= below)
    step = z3.And(alpha + more_alpha <= above + more_above, beta + more_beta <= below + more_below)
    yield Claim(given, step)


def _toward_zero_twin(z3: Z3) -> Claim:
    weights = z3.Reals("u0 u1 u2 u3 u4")
    integers = [z3.ToInt(u + z3.Q(1, 2)) for u in weights]
    norm = sum(size(z3, u) for u in weights)
    positive, negative = (sum(part) for part in zip(*(parts(z3, q) for q in integers), strict=True))
    given = z3.And(sum(weights) == 0, 3 * norm <= 2**4 - 2)
    return Claim(given, allowed(z3, positive, negative, 0, 3, 2**3))


def _toward_zero_fails(**values: Fraction) -> bool:
    weights = list(values.values())
    norm = bounds.zero_centered_budget(4, unsigned(2))
    centred = sum(weights) == 0 and sum(map(abs, weights)) <= norm
    integers = [floor(u + Fraction(1, 2)) for u in weights]
    return centred and overflows(integers, unsigned(2), Accumulator(4))


def _centred(z3: Z3) -> Iterator[Claim]:
    alpha, beta, c, d, half = z3.Ints("α |β| c d h")
    span = d - c
    given = z3.And(
        alpha >= 0, beta >= 0, c <= 0, d >= 0, span * alpha <= half - 1, span * beta <= half - 1
    )
    yield Claim(given, allowed(z3, alpha, beta, c, d, half))


def _centred_twin(z3: Z3) -> Claim:
    alpha, c, d = z3.Ints("alpha c d")
    given = z3.And(alpha >= 0, inside(z3, -9, 9, c, d), c <= d, (d - c) * alpha <= 127)
    return Claim(given, allowed(z3, alpha, z3.IntVal(0), c, d, 2**7))


def _centred_fails(alpha: int, c: int, d: int) -> bool:
    return (d - c) * alpha <= 127 and overflows([alpha], between(c, d), BYTE)


LAWS = (
    Law(
        "sign-budgets",
        "with 0 among the inputs, d·α + |c|·|β| and -(|c|·α + d·|β|) are the extreme sums, so the"
        " sign budgets are necessary and sufficient",
        _signs,
        "for signed inputs a budget for each sign alone is enough",
        _signs_twin,
        _signs_fails,
    ),
    Law(
        "l1-budget",
        "‖q‖₁ <= (2^(P-1) - 1) / 2^(N - signed) keeps every running sum in the register (A2Q)",
        _l1,
        "‖q‖₁ <= (2^P - 2) / (2^N - 1), the norm of A2Q+, is enough for any integers",
        _l1_twin,
        _l1_fails,
    ),
    Law(
        "zero-centred-halves",
        "real weights with Σu = 0 and ‖u‖₁ <= (2^P - 2) / D have at most (2^(P-1) - 1) / D of each"
        " sign",
        _halves,
        "so they do if centred together with the taps of another register",
        _halves_twin,
        _halves_fails,
    ),
    Law(
        "round-toward-zero",
        "rounding toward zero and clipping raises the sum of neither sign",
        _toward_zero,
        "rounded to nearest, centred weights within the norm of A2Q+ stay safe",
        _toward_zero_twin,
        _toward_zero_fails,
    ),
    Law(
        "zero-centred-safe",
        "with 0 among the inputs, at most (2^(P-1) - 1) / D of each sign is inside the sign budgets"
        " (A2Q+)",
        _centred,
        "so it is for inputs that exclude 0",
        _centred_twin,
        _centred_fails,
    ),
)
