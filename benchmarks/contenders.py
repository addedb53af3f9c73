"""What the simulator is timed beside: torch, numpy, plain numba loops, APyTypes if installed."""

from __future__ import annotations

import importlib
import types
from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
import torch

from accsim import Accumulator, IntLayer, Run, linear, simulate
from accsim.spec import Overflow
from verification.bench import step_loop
from verification.properties import FIELDS

Call = Callable[[], object]


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """A call, its multiply-accumulates, and what it must return.

    right: an array, or arrays by the names of the fields of `Run`. rows: only these are compared.
    May err: another package's register; a wrong result is reported, not refused.
    """

    call: Call
    macs: int
    right: object
    rows: np.ndarray | None = None
    may_err: bool = False

    def is_right(self) -> bool:
        """Whether one call returns what it must, bit for bit."""
        found = self.call()
        rows = slice(None) if self.rows is None else self.rows
        if isinstance(found, Run):
            return all(
                np.array_equal(getattr(found, name)[rows], right)
                for name, right in self.right.items()
                if getattr(found, name) is not None
            )
        return np.array_equal(np.asarray(found)[rows], self.right)


def values(x: np.ndarray, w: np.ndarray, register: Accumulator, threads: int = 1) -> Call:
    """Ours, outputs alone."""
    return lambda: linear(x, w, register, threads=threads)


def fields(
    layer: IntLayer, x: np.ndarray, register: Accumulator, *, peaks: bool, threads: int = 1
) -> Call:
    """Ours, with counts and first steps, and with peaks."""
    return lambda: simulate(layer, x, register, peaks=peaks, threads=threads)


def float32(x: np.ndarray, w: np.ndarray) -> Call:
    """Torch's matmul; both arrays are float32 already."""
    left, right = torch.from_numpy(x).float(), torch.from_numpy(w).float()
    return lambda: left @ right.T


def float32_converting(x: np.ndarray, w: np.ndarray) -> Call:
    """Torch's matmul from the integer arrays."""
    return lambda: torch.from_numpy(x).float() @ torch.from_numpy(w).float().T


def int_mm(x: np.ndarray, w: np.ndarray) -> Call:
    """Torch's product of bytes in int32."""
    return lambda: torch._int_mm(torch.from_numpy(x), torch.from_numpy(w).T)


def numpy_matmul(x: np.ndarray, w: np.ndarray, kind: type) -> Call:
    """numpy's matmul; both arrays are of the kind already."""
    left, right = x.astype(kind), w.astype(kind)
    return lambda: left @ right.T


def numpy_steps(x: np.ndarray, w: np.ndarray, register: Accumulator) -> Call:
    """All registers at once, one numpy pass per step."""
    return lambda: step_loop(x, w, register)


def numba_loops(x: np.ndarray, w: np.ndarray, register: Accumulator) -> Call:
    """Three plain loops in int64, a register at a time; saturating."""
    assert register.overflow is Overflow.SATURATE
    left, right = x.astype(np.int64), w.astype(np.int64)
    return lambda: _plain_loops(left, right, register.min, register.max)


@numba.njit(cache=True)
def _plain_loops(x: np.ndarray, w: np.ndarray, low: int, high: int) -> np.ndarray:
    out = np.empty((x.shape[0], w.shape[0]), np.int64)
    for i in range(x.shape[0]):
        for j in range(w.shape[0]):
            register = 0
            for k in range(x.shape[1]):
                register = min(max(register + x[i, k] * w[j, k], low), high)
            out[i, j] = register
    return out


def apytypes() -> types.ModuleType | None:
    """APyTypes, if it is installed."""
    try:
        return importlib.import_module("apytypes")
    except ImportError:
        return None


def apytypes_matmul(x: np.ndarray, w: np.ndarray, register: Accumulator) -> Call:
    """APyTypes' product with its accumulator context; operands are its arrays already."""
    module = apytypes()
    assert module is not None
    rule = "SAT" if register.overflow is Overflow.SATURATE else "WRAP"
    left, right = (
        module.APyFixedArray.from_array(side, int_bits=8, frac_bits=0) for side in (x, w.T)
    )

    def call() -> np.ndarray:
        with module.APyFixedAccumulatorContext(
            int_bits=register.bits, frac_bits=0, overflow=module.OverflowMode[rule]
        ):
            product = left @ right
        return product.to_numpy()

    return call


def select(right: dict[str, np.ndarray], *, peaks: bool) -> dict[str, np.ndarray]:
    """What `simulate` must return, with or without peaks."""
    return {name: right[name] for name in (FIELDS if peaks else FIELDS[:3])}
