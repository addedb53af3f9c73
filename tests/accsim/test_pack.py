"""Operands as kernels read them: what is copied, and what lies right already."""

from itertools import product

import numpy as np
import pytest

from accsim import IntLayer, signed
from accsim.kernels.forms import FORMS
from accsim.pack import elements, problem_of, scalars

RNG = np.random.default_rng(5)


def problem(shape, x):
    """All channels of a layer of random bytes."""
    weight = RNG.integers(-128, 128, shape).astype(np.int8)
    return problem_of(IntLayer(weight, weight_spec=signed(8), input_spec=signed(8)), x, slice(None))


def inputs(count, taps, kind):
    """Random bytes in some dtype."""
    return RNG.integers(-128, 128, (count, taps)).astype(kind)


@pytest.mark.parametrize("form", FORMS.values(), ids=str)
@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "int64"])
def test_rows_that_lie_right_are_packed_the_same(form, kind):
    """Whole rows and units, nothing taken: the same bytes as among rows that need packing."""
    for count, taps, step in product((8, 9), (8, 12, 13), (1, 2)):
        x = inputs(count, taps * step, kind)[:, ::step]
        one = problem((40, taps), x)
        units = -(-taps // form.group)
        for take, shift in ((0, 0), (-128, 0), (0, 3)):
            if (take and form.element != "uint8") or (shift and form.name != "int16"):
                continue
            short = scalars(one, form, count, units, take, shift)
            longer = scalars(one, form, count + 1, units + 1, take, shift)
            assert (short.dtype, short.flags.writeable) == (np.uint8, False)
            assert longer.shape == (count + 1, short.shape[1] // units * (units + 1))
            np.testing.assert_array_equal(short, longer[:count, : short.shape[1]])


@pytest.mark.parametrize(
    ("kind", "form", "shares"),
    [
        ("int8", "int8x4", True),
        ("uint8", "int8x4", True),
        ("int16", "int16", True),
        ("int16", "int16x2", True),
        ("int8", "int16", False),
        ("int64", "float64", False),
    ],
)
def test_operands_that_lie_right_are_not_copied(kind, form, shares):
    """Contiguous inputs of the element's size are read where they are."""
    x = RNG.integers(0, 128, (8, 16)).astype(kind)
    one = problem((40, 16), x)
    found = scalars(one, FORMS[form], 8, 16 // FORMS[form].group, 0, 0)
    assert np.shares_memory(found, x) == shares
    for other, taken in ((x[:, ::2], 0), (x, 1)):  # steps between them; something to take
        units = other.shape[1] // FORMS[form].group
        packed = scalars(problem((40, other.shape[1]), other), FORMS[form], 8, units, taken, 0)
        assert not np.shares_memory(packed, x)


def test_elements_of_unaligned_arrays():
    """They are copied: numba would compile anew for them."""
    raw = bytes(range(33))
    crooked = np.frombuffer(raw, np.int16, 16, offset=1)
    found = elements(crooked, FORMS["int16"])
    assert found.flags.aligned
    assert found.tolist() == crooked.tolist()
