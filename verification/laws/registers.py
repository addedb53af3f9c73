"""Laws of one register: what it keeps, and when that is the exact sum.

Wraparound is stated for each register of 2 to 62 bits by itself, signed and unsigned: modulo a
symbol the solver decides little. Saturation is stated for any range [low, high].
"""

from __future__ import annotations

from collections.abc import Iterator

from accsim import arith
from accsim.spec import MAX_BITS, Accumulator
from verification.laws.law import (
    Z3,
    Claim,
    Formula,
    Law,
    Number,
    greatest,
    inside,
    least,
    size,
)

REGISTERS = tuple(
    Accumulator(bits, signed=signed) for bits in range(2, MAX_BITS + 1) for signed in (True, False)
)
BYTE, NIBBLE = Accumulator(8), Accumulator(4)


def wrap(number: Number, register: Accumulator) -> Number:
    """`arith.wrap` as a formula: z3's % by a positive constant is Python's."""
    return (number - register.min) % 2**register.bits + register.min


def saturate(z3: Z3, number: Number, low: Number, high: Number) -> Number:
    """`arith.saturate` as a formula, for any range."""
    return least(z3, greatest(z3, number, low), high)


def mask(number: Number, register: Accumulator) -> Number:
    """What the plain loops do instead of %: on machine integers of 32 or 64 bits."""
    return ((number - register.min) & (2**register.bits - 1)) + register.min


def holds(z3: Z3, register: Accumulator, *numbers: Number) -> Formula:
    """Whether every number lies in the register's range."""
    return inside(z3, register.min, register.max, *numbers)


def _representative(z3: Z3) -> Iterator[Claim]:
    v, u = z3.Ints("v u")
    for register in REGISTERS:
        modulus, kept = 2**register.bits, wrap(v, register)
        congruent = (v - kept) % modulus == 0
        alone = z3.Implies(z3.And(holds(z3, register, u), (v - u) % modulus == 0), u == kept)
        yield Claim(True, z3.And(holds(z3, register, kept), congruent, alone))


def _representative_twin(z3: Z3) -> Claim:
    v = z3.Int("v")
    return Claim(True, wrap(v, BYTE) == v % 2**8)


def _mask(z3: Z3) -> Iterator[Claim]:
    for lane, register in ((lane, r) for lane in (32, 64) for r in REGISTERS if r.bits < lane):
        v = z3.BitVec("v", lane)
        kept, bits = mask(v, register), register.bits
        extend = z3.SignExt if register.signed else z3.ZeroExt
        extended = kept == extend(lane - bits, z3.Extract(bits - 1, 0, v))
        congruent = (v - kept) & (2**bits - 1) == 0
        yield Claim(True, z3.And(extended, holds(z3, register, kept), congruent))


def _mask_twin(z3: Z3) -> Claim:
    v = z3.BitVec("v", 64)
    return Claim(True, mask(v, BYTE) == (v & 255) + BYTE.min)


def _once(z3: Z3) -> Iterator[Claim]:
    s, p = z3.Ints("s p")
    for register in REGISTERS:
        start = z3.Implies(holds(z3, register, s), wrap(s, register) == s)
        step = wrap(wrap(s, register) + p, register) == wrap(s + p, register)
        yield Claim(True, z3.And(start, step))


def _once_twin(z3: Z3) -> Claim:
    s, p = z3.Ints("s p")
    rails = BYTE.min, BYTE.max
    step = saturate(z3, saturate(z3, s, *rails) + p, *rails)
    return Claim(True, step == saturate(z3, s + p, *rails))


def _once_fails(s: int, p: int) -> bool:
    register = Accumulator(8, "saturate")
    return arith.fold([s, p], [1, 1], register).output != arith.saturate(s + p, register)


def _final(z3: Z3) -> Iterator[Claim]:
    s = z3.Int("s")
    for register in REGISTERS:
        yield Claim(True, (wrap(s, register) == s) == holds(z3, register, s))


def _final_twin(z3: Z3) -> Claim:
    s, p = z3.Ints("s p")
    return Claim(wrap(wrap(s, BYTE) + p, BYTE) == s + p, holds(z3, BYTE, s))


def _final_fails(s: int, p: int) -> bool:
    run = arith.fold([s, p], [1, 1], BYTE)
    return run.output == s + p and run.overflow_count > 0


def _nearest(z3: Z3) -> Iterator[Claim]:
    v, u, low, high = z3.Ints("v u low high")
    kept = saturate(z3, v, low, high)
    nearer = z3.Or(u == kept, size(z3, v - kept) < size(z3, v - u))
    yield Claim(low <= high, inside(z3, low, high, kept))
    yield Claim(inside(z3, low, high, u), nearer)


def _nearest_twin(z3: Z3) -> Claim:
    v, u = z3.Ints("v u")
    return Claim(holds(z3, BYTE, u), size(z3, v - wrap(v, BYTE)) <= size(z3, v - u))


def _nearest_fails(v: int, u: int) -> bool:
    return abs(v - arith.wrap(v, BYTE)) > abs(v - u) >= abs(v - arith.saturate(v, BYTE))


def _idempotent(z3: Z3) -> Iterator[Claim]:
    v, low, high = z3.Ints("v low high")
    kept = saturate(z3, v, low, high)
    yield Claim(low <= high, saturate(z3, kept, low, high) == kept)


def _idempotent_twin(z3: Z3) -> Claim:
    v = z3.Int("v")
    wide = saturate(z3, v, BYTE.min, BYTE.max)
    return Claim(True, saturate(z3, wide, NIBBLE.min, NIBBLE.max) == wide)


def _idempotent_fails(v: int) -> bool:
    wide = arith.saturate(v, BYTE)
    return arith.saturate(wide, NIBBLE) != wide


def _monotone(z3: Z3) -> Iterator[Claim]:
    u, v, low, high = z3.Ints("u v low high")
    ordered = saturate(z3, u, low, high) <= saturate(z3, v, low, high)
    yield Claim(z3.And(low <= high, u <= v), ordered)


def _monotone_twin(z3: Z3) -> Claim:
    u, v = z3.Ints("u v")
    return Claim(u <= v, wrap(u, BYTE) <= wrap(v, BYTE))


def _monotone_fails(u: int, v: int) -> bool:
    return u <= v and arith.wrap(u, BYTE) > arith.wrap(v, BYTE)


def _exact(z3: Z3) -> Iterator[Claim]:
    r, s, p, low, high = z3.Ints("r s p low high")
    for register in REGISTERS:
        exact = wrap(r + p, register) == s + p
        yield Claim(r == s, exact == holds(z3, register, r + p))
    exact = saturate(z3, r + p, low, high) == s + p
    yield Claim(z3.And(low <= high, r == s), exact == inside(z3, low, high, r + p))


def _exact_twin(z3: Z3) -> Claim:
    r, p = z3.Ints("r p")
    given = z3.And(holds(z3, BYTE, r), inside(z3, BYTE.min, 2**7, r + p))
    return Claim(given, wrap(r + p, BYTE) == r + p)


def _exact_fails(r: int, p: int) -> bool:
    run = arith.fold([p], [1], BYTE, bias=r)
    return BYTE.min <= r + p <= 2**7 and run.output != r + p and run.overflow_count == 1


def _peaks(z3: Z3) -> Iterator[Claim]:
    r, s, p, kept, low, high = z3.Ints("r s p kept low high")
    peak_low, peak_high = z3.Ints("peak_low peak_high")
    never = z3.Bool("never")
    total, exact = r + p, s + p
    step = inside(z3, low, high, total)
    lower, higher = least(z3, peak_low, exact), greatest(z3, peak_high, exact)
    yield Claim(
        z3.And(
            low <= high,
            never == z3.And(low <= peak_low, peak_high <= high),
            z3.Implies(never, r == s),
            inside(z3, peak_low, peak_high, s),
            z3.Implies(step, kept == total),
        ),
        z3.And(
            z3.And(never, step) == z3.And(low <= lower, higher <= high),
            z3.Implies(z3.And(never, step), kept == exact),
            inside(z3, lower, higher, exact),
        ),
    )


def _peaks_twin(z3: Z3) -> Claim:
    s, p = z3.Ints("s p")
    register = saturate(z3, s, BYTE.min, BYTE.max)
    never = holds(z3, BYTE, s, register + p)
    return Claim(True, never == holds(z3, BYTE, s + p))


def _peaks_fails(s: int, p: int) -> bool:
    run = arith.fold([s, p], [1, 1], Accumulator(8, "saturate"))
    return (run.overflow_count == 0) != (BYTE.min <= s + p <= BYTE.max)


LAWS = (
    Law(
        "wrap-representative",
        "wrap(v) is the one integer of the register that is v modulo 2^P",
        _representative,
        "wrap(v) is v mod 2^P in a signed register, too",
        _representative_twin,
        lambda v: arith.wrap(v, BYTE) != v % 2**8,
    ),
    Law(
        "wrap-mask",
        "subtracting the lowest value, masking and adding it again wraps machine integers",
        _mask,
        "the lowest value need not be subtracted first",
        _mask_twin,
        lambda v: arith.wrap(v, BYTE) != (v & 255) + BYTE.min,
    ),
    Law(
        "wrap-once",
        "wrapping once at the end equals wrapping after every step",
        _once,
        "saturating once at the end equals saturating after every step",
        _once_twin,
        _once_fails,
    ),
    Law(
        "wrap-final",
        "a wrapped sum is exact if and only if the sum fits the register",
        _final,
        "if the final wrapped value is exact, no step overflowed",
        _final_twin,
        _final_fails,
    ),
    Law(
        "saturate-nearest",
        "saturate(v) is the one integer of the register that is nearest to v",
        _nearest,
        "wrap(v) is nearest to v",
        _nearest_twin,
        _nearest_fails,
    ),
    Law(
        "saturate-idempotent",
        "saturating twice is saturating once",
        _idempotent,
        "saturating to 4 bits changes nothing that was saturated to 8",
        _idempotent_twin,
        _idempotent_fails,
    ),
    Law(
        "saturate-monotone",
        "saturating keeps the order of two sums",
        _monotone,
        "wrapping keeps the order of two sums",
        _monotone_twin,
        _monotone_fails,
    ),
    Law(
        "exact-step",
        "a register that holds the exact sum holds it after the next step, wrapping or saturating,"
        " if and only if that step does not overflow",
        _exact,
        "a total of 2^(P-1) does not overflow",
        _exact_twin,
        _exact_fails,
    ),
    Law(
        "peaks-step",
        "no step has overflowed, and the register is exact, if and only if the lowest and the"
        " highest exact running sum fit the register, wrapping or saturating",
        _peaks,
        "no step overflows if and only if the final sum fits",
        _peaks_twin,
        _peaks_fails,
    ),
)
