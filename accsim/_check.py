"""Checks of caller input, once, at the edge: what must hold, not what was got, where."""

from __future__ import annotations

import sys
from operator import index
from typing import Any

import numpy as np

from accsim.errors import DtypeError, ShapeError, SpecError

IntArray = np.ndarray[Any, np.dtype[Any]]
LONGEST = 500  # characters of a value in an error


def integer(value: object, what: str, low: int, high: int) -> int:
    """`value` as a Python int in [low, high]; bools and floats are not integers."""
    number = value if type(value) is int else _index(value)
    if number is None or not low <= number <= high:
        raise SpecError(f"{what} must be an integer from {low} to {high}, not {shown(value)}")
    return number


def real(value: object, what: str) -> float:
    """`value` as a finite float of at least 0; bools and words are not numbers."""
    number = isinstance(value, float | int) and not isinstance(value, bool)
    if not number or not 0 <= value <= sys.float_info.max:  # type: ignore[operator]
        raise SpecError(f"{what} must be a finite number of at least 0, not {shown(value)}")
    return float(value)  # type: ignore[arg-type]


def shown(value: object) -> str:
    """A value as an error tells it: as Python writes it, but no more than a line of it."""
    number = _index(value)
    if number is not None and number.bit_length() > 1000:  # Python prints no such number
        return "one of over 1000 bits"
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def whole(value: object, what: str) -> int:
    """`value` as a Python int of any size; bools and floats are not integers."""
    number = _index(value)
    if number is None:
        raise DtypeError(f"{what} must be integers, not {value!r}")
    return number


def _index(value: object) -> int | None:
    try:
        return None if isinstance(value, bool) else index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def integer_array(value: object, name: str) -> IntArray:
    """`value` as a numpy array of a native integer dtype; a view where it is one already."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise ShapeError(f"{name} must be a rectangular array of integers, not ragged") from None
    except (TypeError, RuntimeError) as error:
        raise DtypeError(f"{name} must be an array of integers: {error}") from None
    if array.dtype.kind not in "iu":
        raise DtypeError(f"{name} must be an array of integers, not of {array.dtype}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def plain(array: IntArray, dtype: np.dtype[Any]) -> IntArray:
    """The array as numba knows arrays: of this dtype, contiguous, aligned; a copy only if need be.

    Entries are taken modulo the dtype's size.
    """
    flags = array.flags
    if array.dtype == dtype and flags.c_contiguous and flags.aligned:
        return array
    return array.astype(dtype, order="C")


def read_only(array: IntArray) -> IntArray:
    """A view that cannot be written, so that numba compiles for one kind of array."""
    view = array.view()
    view.flags.writeable = False
    return view
