"""Ranges and registers."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from accsim import Accumulator, IntSpec, Overflow, between, signed, unsigned
from accsim.errors import SpecError
from accsim.spec import bits_to_hold


@pytest.mark.parametrize("bits", range(1, 63))
def test_types_of_n_bits_have_their_ranges_and_words(bits):
    """signed and unsigned give the textbook range, their width, and a word that parses back."""
    for spec, low, high, word in (
        (signed(bits), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, f"INT{bits}"),
        (unsigned(bits), 0, 2**bits - 1, f"UINT{bits}"),
    ):
        assert (spec.min, spec.max, spec.bits, str(spec)) == (low, high, bits, word)
        assert IntSpec.parse(word) == IntSpec.parse(word.lower()) == spec


def test_other_ranges():
    """Narrow and arbitrary ranges print as intervals, which parse back."""
    assert signed(4, narrow=True) == between(-7, 7)
    for spec, text, bits in (
        (between(-7, 8), "[-7, 8]", 5),
        (between(2, 5), "[2, 5]", 3),
        (between(0, 0), "[0, 0]", 1),
        (between(-9, -3), "[-9, -3]", 5),
    ):
        assert (str(spec), spec.bits, IntSpec.parse(text)) == (text, bits, spec)
    assert between(np.int8(-3), np.uint64(3)) == IntSpec(-3, 3)
    assert type(between(np.int8(-3), 3).min) is int


@pytest.mark.parametrize(
    "text",
    ["INT0", "INT63", "INT-5", "INT04", "INT4 ", " INT4", "FIXED<4,2", "FLOAT8", "", "[3]",
     "[5, 2]", "[1,2]", "INT4\n", "UINT", "[1e3, 2000]", None, 4],
)  # fmt: skip
def test_other_texts_are_refused(text):
    """Only a full match is a spec."""
    with pytest.raises(SpecError):
        IntSpec.parse(text)


def test_bits_to_hold_equals_search():
    """The closed form equals a search for the least width, at every small range."""
    for low in range(-20, 21):
        for high in range(low, 21):
            least = next(
                p for p in range(1, 9) if -(2 ** (p - 1)) <= low and high <= 2 ** (p - 1) - 1
            )
            assert bits_to_hold(low, high) == least


@pytest.mark.parametrize("bits", [2, 8, 31, 32, 62])
def test_registers_have_their_ranges(bits):
    """Two's complement unless unsigned."""
    register = Accumulator(bits)
    assert (register.min, register.max) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    register = Accumulator(bits, "saturate", signed=False)
    assert (register.min, register.max) == (0, 2**bits - 1)


def test_values_are_values():
    """Specs and registers are frozen, hashable, and equal by content; words become enums."""
    assert Accumulator(8, "wrap") == Accumulator(np.int64(8), Overflow.WRAP) == Accumulator(8)
    assert len({Accumulator(8), Accumulator(8), Accumulator(8, "saturate")}) == 2
    assert Accumulator(8, "saturate").overflow is Overflow.SATURATE
    assert str(Accumulator(8, "saturate", signed=False)) == "unsigned 8-bit saturate register"
    with pytest.raises(FrozenInstanceError):
        Accumulator(8).bits = 9
    with pytest.raises(FrozenInstanceError):
        signed(4).min = 0
