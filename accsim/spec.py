"""What an operand and a register may hold: ranges of integers, and two's complement registers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import numpy as np

from accsim._check import IntArray, integer, shown
from accsim.errors import RangeError, SpecError

__all__ = ["Accumulator", "IntSpec", "Overflow", "Rail", "between", "signed", "unsigned"]

MAX_BITS = 62  # the widest operand and register: see `simulate.check_host`
MAX_TERMS = 2**40  # more than any sum has
_WORD = re.compile(r"(U?)INT([1-9][0-9]?)", re.IGNORECASE | re.ASCII)
_RANGE = re.compile(r"\[(0|-?[1-9][0-9]{0,19}), (0|-?[1-9][0-9]{0,19})\]")


def bits_to_hold(low: int, high: int) -> int:
    """Least two's complement width, in bits, whose range contains [low, high]; 1 for [-1, 0].

    Source: facts of two's complement; 1 + max(bit length of high, bit length of -low - 1).
    """
    return 1 + max(high.bit_length() if high > 0 else 0, (-low - 1).bit_length() if low < 0 else 0)


@dataclass(frozen=True, slots=True)
class IntSpec:
    """A closed range of integers [min, max], at most 62 bits wide.

    Raises: SpecError for a bound that is not an integer, an empty range, or more than 62 bits.
    """

    min: int
    max: int

    def __post_init__(self) -> None:
        low, high = -(2 ** (MAX_BITS - 1)), 2**MAX_BITS - 1
        object.__setattr__(self, "min", integer(self.min, "IntSpec min", low, high))
        object.__setattr__(self, "max", integer(self.max, "IntSpec max", low, high))
        if self.min > self.max:
            raise SpecError(f"IntSpec min must not exceed max, not [{self.min}, {self.max}]")
        if self.bits > MAX_BITS:
            raise SpecError(
                f"IntSpec [{self.min}, {self.max}] needs {self.bits} bits; at most {MAX_BITS} are"
                " simulated"
            )

    @property
    def signed(self) -> bool:
        """Whether the range has negative integers."""
        return self.min < 0

    @property
    def bits(self) -> int:
        """Least width in bits that holds every code: two's complement if signed, else plain."""
        return bits_to_hold(self.min, self.max) if self.signed else max(1, self.max.bit_length())

    @property
    def magnitude(self) -> int:
        """Largest absolute value in the range."""
        return max(-self.min, self.max)

    @property
    def contains_zero(self) -> bool:
        """Whether 0 is a legal code; then safety of the final sum is safety of every partial."""
        return self.min <= 0 <= self.max

    @classmethod
    def parse(cls, text: str) -> IntSpec:
        """The spec that `str` printed: "INT4", "UINT8" (any case) or "[-7, 8]".

        Raises: SpecError for any other text.
        """
        if isinstance(text, str):
            if word := _WORD.fullmatch(text):
                bits = int(word[2])
                if bits <= MAX_BITS:
                    return unsigned(bits) if word[1] else signed(bits)
            if pair := _RANGE.fullmatch(text):
                return cls(int(pair[1]), int(pair[2]))
        raise SpecError(
            f'IntSpec text must be like "INT4", "UINT8" (1 to {MAX_BITS} bits) or "[-7, 8]",'
            f" not {shown(text)}"
        )

    def __str__(self) -> str:
        if self == unsigned(self.bits):
            return f"UINT{self.bits}"
        if self.signed and self == signed(self.bits):
            return f"INT{self.bits}"
        return f"[{self.min}, {self.max}]"

    def check(self, array: IntArray, name: str) -> None:
        """Raise RangeError naming the first entry of `array` that lies outside the range."""
        if array.size == 0 or (self.min <= int(array.min()) and int(array.max()) <= self.max):
            return
        outside = (array < self.min) | (array > self.max)
        where = tuple(int(i) for i in np.unravel_index(int(outside.argmax()), array.shape))
        place = ", ".join(str(i) for i in where)
        raise RangeError(f"{name}[{place}] is {int(array[where])}, outside {self.describe()}")

    def describe(self) -> str:
        """The name with the range beside it, for messages: "UINT4 [0, 15]"."""
        plain = f"[{self.min}, {self.max}]"
        return plain if str(self) == plain else f"{self} {plain}"


def signed(bits: int, *, narrow: bool = False) -> IntSpec:
    """Two's complement codes of `bits` bits; `narrow` leaves out the lowest: signed(4) is INT4.

    Raises: SpecError unless bits is an integer from 1 to 62 (narrow: from 2).
    """
    half = 2 ** (integer(bits, "signed bits", 2 if narrow else 1, MAX_BITS) - 1)
    return IntSpec(1 - half if narrow else -half, half - 1)


def unsigned(bits: int) -> IntSpec:
    """Codes 0 to 2^bits - 1: unsigned(8) is UINT8.

    Raises: SpecError unless bits is an integer from 1 to 62.
    """
    return IntSpec(0, 2 ** integer(bits, "unsigned bits", 1, MAX_BITS) - 1)


def between(min: int, max: int) -> IntSpec:
    """Any closed range, as zero points and calibration make them: between(-7, 8)."""
    return IntSpec(min, max)


class Overflow(str, Enum):
    """What a register does with a sum outside its range."""

    WRAP = "wrap"
    """Keep the low bits: the sum modulo 2^bits."""
    SATURATE = "saturate"
    """Stay at the nearer end of the range."""

    def __str__(self) -> str:
        return self.value


class Rail(str, Enum):
    """When a level of a datapath applies its overflow."""

    STEP = "step"
    """After every addition."""
    SUM = "sum"
    """Once, to the exact sum of its group."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Accumulator:
    """A register that every product is added to: `bits` wide, two's complement unless unsigned.

    The register applies its overflow after every addition. As a level of a `Datapath` it sums
    `terms` items of the level below it, or all that are left (None), and applies its overflow by
    `rail`: after every addition ("step"), or once to the exact sum of its group ("sum").

    Raises: SpecError for bits outside 2 to 62, terms below 1, or an unknown word.
    """

    bits: int
    overflow: Overflow | Literal["wrap", "saturate"] = Overflow.WRAP
    signed: bool = field(default=True, kw_only=True)
    terms: int | None = field(default=None, kw_only=True)
    rail: Rail | Literal["step", "sum"] = field(default=Rail.STEP, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", integer(self.bits, "Accumulator bits", 2, MAX_BITS))
        for name, kind in (("overflow", Overflow), ("rail", Rail)):
            try:
                object.__setattr__(self, name, kind(getattr(self, name)))
            except ValueError:
                words = " or ".join(f'"{one}"' for one in kind)
                raise SpecError(
                    f"Accumulator {name} must be {words}, not {shown(getattr(self, name))}"
                ) from None
        if not isinstance(self.signed, bool | np.bool_):
            raise SpecError(f"Accumulator signed must be True or False, not {self.signed!r}")
        object.__setattr__(self, "signed", bool(self.signed))
        if self.terms is not None:
            terms = integer(self.terms, "Accumulator terms", 1, MAX_TERMS)
            object.__setattr__(self, "terms", terms)

    @property
    def min(self) -> int:
        """Lowest value the register holds."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        """Highest value the register holds."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def alone(self) -> bool:
        """Whether this is a whole register, not a level that only makes sense in a datapath."""
        return self.terms is None and self.rail is Rail.STEP

    def __str__(self) -> str:
        kind = "" if self.signed else "unsigned "
        return f"{kind}{self.bits}-bit {self.overflow} register"
