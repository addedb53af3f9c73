"""Operand ranges and registers: their ends, their widths, their text, and what is refused."""

from copy import deepcopy
from dataclasses import FrozenInstanceError
from itertools import pairwise
from pickle import dumps, loads

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accsim import Accumulator, IntSpec, Overflow, between, signed, unsigned
from accsim.errors import SpecError
from accsim.spec import bits_to_hold

WIDTHS = range(1, 63)
LOWEST, HIGHEST = -(2**61), 2**62 - 1  # the ends of INT62 and of UINT62


@pytest.mark.parametrize("bits", WIDTHS)
def test_n_bit_types_hold_exactly_the_codes_of_n_bits(bits: int) -> None:
    """An N-bit type has 2^N codes, starting where two's complement or plain binary does."""
    assert (signed(bits).min, signed(bits).max) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    assert (unsigned(bits).min, unsigned(bits).max) == (0, 2**bits - 1)
    assert signed(bits).bits == unsigned(bits).bits == bits
    assert (signed(bits).signed, unsigned(bits).signed) == (True, False)


@pytest.mark.parametrize("bits", range(2, 63))
def test_narrow_types_are_symmetric(bits: int) -> None:
    """A narrow type lacks the lowest code, so that its ends differ only in sign."""
    narrow = signed(bits, narrow=True)
    assert (narrow.min, narrow.max) == (1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1)
    assert narrow.bits == bits
    assert narrow.magnitude == narrow.max == -narrow.min


@pytest.mark.parametrize(
    ("low", "high", "bits", "is_signed", "magnitude", "has_zero", "text"),
    [
        (0, 0, 1, False, 0, True, "[0, 0]"),
        (0, 1, 1, False, 1, True, "UINT1"),
        (-1, 0, 1, True, 1, True, "INT1"),
        (-1, 1, 2, True, 1, True, "[-1, 1]"),
        (-7, 8, 5, True, 8, True, "[-7, 8]"),
        (-8, 7, 4, True, 8, True, "INT4"),
        (-9, 7, 5, True, 9, True, "[-9, 7]"),
        (0, 14, 4, False, 14, True, "[0, 14]"),
        (0, 16, 5, False, 16, True, "[0, 16]"),
        (2, 5, 3, False, 5, False, "[2, 5]"),
        (-5, -2, 4, True, 5, False, "[-5, -2]"),
        (-4, -4, 3, True, 4, False, "[-4, -4]"),
        (LOWEST, 0, 62, True, 2**61, True, f"[{LOWEST}, 0]"),
        (0, HIGHEST, 62, False, HIGHEST, True, "UINT62"),
    ],
)
def test_any_range_knows_its_width_and_its_text(
    low: int, high: int, bits: int, is_signed: bool, magnitude: int, has_zero: bool, text: str
) -> None:
    """Each property of a hand-worked range is what a reader would count."""
    spec = between(low, high)
    assert spec == IntSpec(low, high)
    assert (spec.min, spec.max, spec.bits, spec.signed) == (low, high, bits, is_signed)
    assert (spec.magnitude, spec.contains_zero, str(spec)) == (magnitude, has_zero, text)
    assert IntSpec.parse(text) == spec


@pytest.mark.parametrize("bits", WIDTHS)
def test_every_type_name_survives_a_round_trip(bits: int) -> None:
    """The name of an N-bit type parses to that type, in any case of letters."""
    for spec, name in ((signed(bits), f"INT{bits}"), (unsigned(bits), f"UINT{bits}")):
        assert str(spec) == name
        assert IntSpec.parse(name) == IntSpec.parse(name.lower()) == spec
        assert IntSpec.parse(name.capitalize()) == spec
        assert spec.describe() == f"{name} [{spec.min}, {spec.max}]"


@given(st.integers(LOWEST, 2**61 - 1), st.integers(LOWEST, 2**61 - 1))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_every_range_survives_a_round_trip(a: int, b: int) -> None:
    """Text and value of any range determine each other, and the width is the least that holds."""
    spec = between(min(a, b), max(a, b))
    assert IntSpec.parse(str(spec)) == spec
    holder = signed(spec.bits) if spec.signed else unsigned(spec.bits)
    assert holder.min <= spec.min
    assert spec.max <= holder.max
    if spec.bits > 1:
        smaller = signed(spec.bits - 1) if spec.signed else unsigned(spec.bits - 1)
        assert spec.min < smaller.min or smaller.max < spec.max


def test_description_repeats_no_range() -> None:
    """A range without a name of its own is described once, not twice."""
    assert between(-7, 8).describe() == "[-7, 8]"


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "INT", "UINT", "INT0", "UINT0", "INT00", "INT04", "INT-5", "INT+5", "INT4.0"),
        *("INT63", "UINT63", "INT64", "INT99", "INT100", "INT4 ", " INT4", "INT4\n", "INT 4"),
        *("FIXED<4,2", "FIXED<4,2>", "SINT4", "UUINT4", "I4", "int4_t", "FLOAT32", "BIPOLAR"),
        *("[-7,8]", "[-7, 8", "-7, 8]", "[-7, 8]\n", "[-7;8]", "(-7, 8)", "[+1, 2]", "[1.0, 2]"),
        *("[, 8]", "[1, 2, 3]", "[--1, 2]", "[0x1, 2]", "[1_0, 20]", "INT٤", "INT4INT4"),
        *(4, 4.0, None, b"INT4", ["INT4"], True),
    ],
    ids=repr,
)
def test_parse_takes_only_a_full_match(text: str) -> None:
    """Anything but a name that `str` could print, letter case aside, is refused in full words."""
    with pytest.raises(SpecError) as caught:
        IntSpec.parse(text)
    assert str(caught.value) == (
        f'IntSpec text must be like "INT4", "UINT8" (1 to 62 bits) or "[-7, 8]", not {text!r}'
    )


@pytest.mark.parametrize("kind", [int, np.int8, np.uint8, np.int16, np.int64, np.uint64])
def test_numpy_integers_become_python_integers(kind: type) -> None:
    """Numpy integers are taken everywhere, and kept as Python ints that cannot wrap."""
    narrow = kind is not int and np.iinfo(kind).min < 0
    spec = IntSpec(kind(-7 if narrow else 1), kind(8))
    register = Accumulator(kind(8))
    assert [type(v) for v in (spec.min, spec.max, register.bits)] == [int, int, int]
    assert spec == between(-7 if narrow else 1, 8)
    assert register == Accumulator(8)
    assert signed(kind(4)) == signed(4)
    assert unsigned(kind(62)).max == 2**62 - 1


@pytest.mark.parametrize("bad", [True, False, np.True_, 2.0, np.float64(2), "2", None, 2j, [2]])
def test_only_integers_describe_a_type(bad: object) -> None:
    """Bools, floats and text are refused wherever a number describes a range or a register."""
    for make in (
        lambda: IntSpec(bad, 8),
        lambda: IntSpec(0, bad),
        lambda: signed(bad),
        lambda: unsigned(bad),
        lambda: signed(bad, narrow=True),
        lambda: Accumulator(bad),
    ):
        with pytest.raises(SpecError, match=r" must be an integer from "):
            make()


@pytest.mark.parametrize("bits", range(2, 63))
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_registers_hold_what_their_width_says(bits: int, overflow: str) -> None:
    """A P-bit register holds 2^P values, from -2^(P-1) if signed and from 0 if not."""
    register, plain = Accumulator(bits, overflow), Accumulator(bits, overflow, signed=False)
    assert (register.min, register.max) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    assert (plain.min, plain.max) == (0, 2**bits - 1)
    assert register.overflow is plain.overflow is Overflow(overflow)
    assert str(register) == f"{bits}-bit {overflow} register"
    assert str(plain) == f"unsigned {bits}-bit {overflow} register"


def test_registers_wrap_unless_told_otherwise() -> None:
    """Wraparound and two's complement are the defaults; word and enumeration mean the same."""
    assert Accumulator(8) == Accumulator(8, "wrap") == Accumulator(8, Overflow.WRAP, signed=True)
    assert Accumulator(8, "saturate") == Accumulator(bits=8, overflow=Overflow.SATURATE)
    assert len({Accumulator(8), Accumulator(8, "saturate"), Accumulator(8, signed=False)}) == 3
    assert [str(word) for word in Overflow] == ["wrap", "saturate"]
    assert Accumulator(8, signed=np.False_).max == 255
    with pytest.raises(TypeError, match="positional"):
        Accumulator(8, "wrap", True)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("value", "name", "other"),
    [
        (signed(4), "min", -1),
        (unsigned(8), "max", 7),
        (Accumulator(8), "bits", 9),
        (Accumulator(8), "overflow", "saturate"),
        (Accumulator(8), "signed", False),
    ],
)
def test_values_are_frozen(value: object, name: str, other: object) -> None:
    """No field changes after construction, and no other attribute can be added."""
    before = repr(value)
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, other)
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        value.extra = 1  # type: ignore[attr-defined]
    assert repr(value) == before
    assert hash(value) == hash(deepcopy(value))
    assert loads(dumps(value)) == value


@pytest.mark.parametrize(
    ("low", "high", "bits"),
    [
        *((0, 0, 1), (-1, 0, 1), (0, 1, 2), (-1, 1, 2), (-2, 1, 2), (-3, 0, 3), (3, 3, 3)),
        *((-128, 127, 8), (-129, 0, 9), (0, 128, 9), (-5, -5, 4), (-(2**70), 2**70 - 1, 71)),
    ],
)
def test_least_two_s_complement_width(low: int, high: int, bits: int) -> None:
    """The least width of hand-worked ranges, beyond 64 bits too."""
    assert bits_to_hold(low, high) == bits


def test_least_width_grows_with_the_range() -> None:
    """A range one wider at either end never needs fewer bits, and one more only at a power of 2."""
    up = [bits_to_hold(0, high) for high in range(300)]
    down = [bits_to_hold(-low, 0) for low in range(300)]
    assert [k for k, (a, b) in enumerate(pairwise(up), 1) if a != b] == [2**n for n in range(9)]
    assert [k for k, (a, b) in enumerate(pairwise(down), 1) if a != b] == [
        2**n + 1 for n in range(9)
    ]
