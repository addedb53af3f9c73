"""Outputs of two runs of a network beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["classes", "differences", "finite"]

Array = np.ndarray[Any, Any]
Outputs = Mapping[str, Array]


def classes(outputs: Outputs) -> Array:
    """Where the largest number of each row of the first output is. Shapes: (rows,)."""
    first = np.atleast_2d(next(iter(outputs.values())))
    rows = first.reshape(len(first), -1) if first.size else np.zeros((len(first), 1))
    found: Array = rows.argmax(axis=1)
    return found


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
