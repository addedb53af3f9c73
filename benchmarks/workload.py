"""What a workload is: contenders timed in turn, and the ratios that they are to reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from contenders import Contender

from accsim import signed

SATURATE = "saturate"
WRAP = "wrap"
BYTE = signed(8)
WIDE = (1024, 512, 512)
DEEP = (256, 256, 1024)


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio of two contenders of one workload: speed, or time if it has an upper bound.

    Beside no other: a speed in GMAC/s.
    """

    case: str
    ours: str
    other: str
    least: float
    most: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """Contenders timed in turn, by name."""

    contenders: dict[str, Contender]
    goals: tuple[Goal, ...] = ()


def shrink(shape: tuple[int, ...], quick: bool) -> tuple[int, ...]:
    """A quarter of each side, for a quick run."""
    return tuple(max(16, side // 4) for side in shape) if quick else shape


def named(shape: tuple[int, ...]) -> str:
    """A product's sides, as they are printed."""
    return "M={} N={} K={}".format(*shape)


def exact(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The integer product; float64 holds it."""
    return (x.astype(np.float64) @ w.astype(np.float64).T).astype(np.int64)
