"""Outputs of two runs of a network beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from accsim.errors import RangeError, ShapeError

__all__ = ["check_labels", "classes", "differences", "finite"]

Array = np.ndarray[Any, Any]
Outputs = Mapping[str, Array]


def classes(outputs: Outputs) -> Array:
    """Where the largest number of each row of the first output is; of a single one, that number.

    Shapes: (rows,).
    """
    first = np.atleast_2d(next(iter(outputs.values())))
    rows = first.reshape(len(first), -1) if first.size else np.zeros((len(first), 1))
    found: Array = rows[:, 0] if rows.shape[1] == 1 else rows.argmax(axis=1)
    return found


def check_labels(labels: Array, outputs: Outputs, samples: int) -> None:
    """Refuse labels that cannot be told from the first output: one row each, and so many classes.

    Raises: ShapeError for other rows, RangeError for a label that is no class.
    """
    first = np.atleast_2d(next(iter(outputs.values())))
    if len(first) != samples:
        raise ShapeError(
            f"labels need one row of outputs for each of {samples} inputs, not {len(first)}"
        )
    count = first.size // samples
    if count < 2:
        raise ShapeError("labels need the first output to have a number for each class, not one")
    outside = np.flatnonzero((labels < 0) | (labels >= count))
    if outside.size:
        place = int(outside[0])
        raise RangeError(
            f"labels must be from 0 to {count - 1}, as the first output has {count} numbers for"
            f" each input, but label {place} is {labels[place]}"
        )


def differences(one: Outputs, two: Outputs) -> Array:
    """How far apart all numbers of all outputs are, float64; 0 where they are the same.

    Shapes: (numbers,).
    """
    apart = []
    for name, array in one.items():
        a, b = (side.astype(np.float64).reshape(-1) for side in (array, two[name]))
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):
            apart.append(np.where(same, 0.0, np.abs(a - b)))
    return np.concatenate(apart)


def finite(number: Any) -> float | None:
    """As JSON can tell it: None for what is no finite number."""
    return float(number) if np.isfinite(number) else None
