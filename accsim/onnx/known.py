"""What is known of the values of a graph before anything is run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np

from accsim.errors import ModelFileError

__all__ = [
    "Grid",
    "Known",
    "at",
    "constant",
    "first",
    "integer_ends",
    "integers",
    "outward",
    "unknown",
]

Array = np.ndarray[Any, Any]

_INTEGER = re.compile(r"(u?)int([0-9]+)")
_ROUNDED = 1e-6  # by so much, relative, floats may leave an interval that real numbers keep
WIDEST = 2**20  # codes up to here are found again from float32, if no other rounding came between


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Values that are integers from `low` to `high` times a scale.

    `scale` (float32) is one number, or has one for each index along `axis` (counted from the back
    if negative). Of a constant, `codes` are the integers, and `scale` broadcasts against them.
    """

    low: int
    high: int
    scale: Array
    axis: int | None = None
    codes: Array | None = None
    rounded: int = 0  # how often the values were rounded after they were made of codes


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Facts that hold for every input, and in registers of any width.

    Every number lies in [low, high]. `grid`: all are integers times a scale; if there is none,
    `why` says why not. `constant`: they are these numbers.
    """

    low: float = -inf
    high: float = inf
    grid: Grid | None = None
    constant: Array | None = None
    why: str = ""
    whole: bool = False  # of an integer type, whose arithmetic wraps
    shape: tuple[int | str | None, ...] | None = None  # as far as the file declares it

    @property
    def sizes(self) -> tuple[int | str | None, ...] | None:
        """The shape: of a constant its own, else as far as it is declared."""
        return self.shape if self.constant is None else self.constant.shape


def unknown(why: str, low: float = -inf, high: float = inf, *, whole: bool = False) -> Known:
    """Numbers of no grid."""
    return Known(low, high, why=why, whole=whole)


def constant(array: Array) -> Known:
    """These numbers, and their grid if they are integers: those of a small type reach all of it."""
    if array.size == 0 or array.dtype.kind in "bcOSU":
        return Known(constant=array, why="it is no array of numbers")
    if array.dtype.name.lstrip("u").startswith("int"):
        if array.dtype.itemsize == 8 and int(np.abs(array // 2).max()) >= 2**60:
            return Known(constant=array, why="it has numbers that no register holds")
        if array.dtype.itemsize < 4:
            codes = array if array.dtype.kind in "iu" else array.astype(np.int8)
            return replace(integers(*integer_ends(array.dtype), codes), constant=array)
        codes = array.astype(np.int64)
        return replace(integers(int(codes.min()), int(codes.max()), codes), constant=array)
    low, high = float(array.min()), float(array.max())
    if not (-(2.0**62) < low <= high < 2.0**62):  # NaN, too
        return Known(constant=array, why="it has numbers that no register holds")
    if not bool((array == np.rint(array)).all()):
        return Known(low, high, constant=array, why="it is a constant of fractions")
    grid = integers(int(low), int(high), array.astype(np.int64)).grid
    return Known(low, high, grid, array)


def at(items: Sequence[Any], place: int | None) -> Any:
    """What a node has at an input; None if it has no such input, or leaves it out."""
    return None if place is None or place >= len(items) else items[place]


def integers(low: int, high: int, codes: Array | None = None) -> Known:
    """Numbers of an integer type, from `low` to `high`; of a constant, these."""
    return Known(low, high, Grid(low, high, np.ones((), np.float32), None, codes), whole=True)


def integer_ends(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The range of a type of integers. Raises: ModelFileError for a type of other numbers."""
    found = _INTEGER.fullmatch(dtype.name)
    if found is None:
        raise ModelFileError(f"codes must be integers, not {dtype.name}")
    bits = int(found[2])
    return (0, 2**bits - 1) if found[1] else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def first(known: Sequence[Known | None]) -> Known:
    """What is known of a node's first input. Raises: ModelFileError if it has none."""
    if not known or known[0] is None:
        raise ModelFileError("it has no input")
    return known[0]


def outward(low: float, high: float, by: float = _ROUNDED) -> tuple[float, float]:
    """A little wider: rounding may carry a float past the end of what it stands for."""
    below, above = (abs(end) * by if abs(end) < inf else 0.0 for end in (low, high))
    return low - below, high + above
