"""Operands of an integer product: constant weights, and activations on a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accsim._check import IntArray
from accsim.errors import ModelFileError, RangeError
from accsim.onnx.known import WIDEST, Known
from accsim.onnx.quantizers import Coded, along
from accsim.onnx.reading import shown
from accsim.spec import IntSpec

__all__ = ["Operand", "Weights", "operand", "weights"]

Array = np.ndarray[Any, Any]
Inputs = Sequence[Any]  # the values that a node is given, None for those left out


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Constant integers less their zero point, as they lie in the file, and their scale.

    `spec` is what their type allows; `scale` broadcasts against them.
    """

    codes: IntArray
    spec: IntSpec
    scale: Array

    def by_channel(self, arranged: Callable[[Array], Array]) -> Array:
        """One scale for each output channel, which `arranged` puts first; or one for all.

        Raises: ModelFileError if products of different scales would meet in one sum.
        """
        if self.scale.size == 1:
            return self.scale.reshape(())
        scale = arranged(np.broadcast_to(self.scale, self.codes.shape))
        scale = scale.reshape(len(scale), -1)
        if not bool((scale == scale[:, :1]).all()):
            raise ModelFileError("its weights have different scales within one sum")
        return scale[:, 0]


@dataclass(frozen=True, slots=True, eq=False)
class Operand:
    """Activations. `codes`: a value to the integers that registers multiply, in `spec`.

    `zero`: the range of a zero point that is computed; codes are raw then, and it is taken off the
    sums.
    """

    spec: IntSpec
    codes: Callable[[Any], IntArray]
    scale: Array
    axis: int | None
    zero: IntSpec | None = None


def weights(name: str, fact: Known, zero: Known | None, axis: int) -> Weights:
    """What is multiplied by: constants on a grid. `axis` is that of their zero points.

    Raises: ModelFileError saying why they are no integers.
    """
    if fact.grid is None or fact.grid.codes is None:
        raise ModelFileError(f"its weight {shown(name)} is no constant of integers: {_why(fact)}")
    codes, low, high = np.asarray(fact.grid.codes), fact.grid.low, fact.grid.high
    if zero is not None:
        if zero.constant is None:
            raise ModelFileError(f"the zero point of its weights {shown(name)} is not constant")
        if zero.constant.any():
            offset = zero.constant.astype(np.int64)
            moved = along(offset, axis, codes.ndim)
            if offset.size > 1 and offset.size != codes.shape[axis]:
                raise ModelFileError(f"its weights {shown(name)} have {offset.size} zero points")
            codes = codes.astype(np.int64) - moved
            low, high = low - int(offset.max()), high - int(offset.min())
    return Weights(codes, IntSpec(low, high), fact.grid.scale)


def operand(name: str, fact: Known, zero: Known | None) -> Operand:
    """What comes in: a value on a grid, less a constant zero point.

    Raises: ModelFileError if it is on no grid, or on one too wide to be told from float32.
    """
    grid = fact.grid
    if grid is None:
        raise ModelFileError(f"its input {shown(name)} is not quantized: {_why(fact)}")
    if grid.axis is None and grid.scale.size > 1:  # of a constant
        raise ModelFileError("its input has different scales within one sum")
    late, offset = None, 0
    if zero is not None and zero.constant is None:
        if zero.grid is None or not zero.whole:
            raise ModelFileError(f"the zero point of its input {shown(name)} is of no known range")
        late = IntSpec(zero.grid.low, zero.grid.high)
    if zero is not None and zero.constant is not None and zero.constant.any():
        if zero.constant.size != 1:
            raise ModelFileError(f"its input {shown(name)} has several zero points")
        offset = int(zero.constant.reshape(-1)[0])
    widest = WIDEST // (1 + grid.rounded)
    if not fact.whole and not -widest <= grid.low <= grid.high <= widest:
        raise ModelFileError(
            f"its input {shown(name)} has codes from {grid.low} to {grid.high}, more than float32"
            " tells apart"
        )
    spec = IntSpec(grid.low - offset, grid.high - offset)
    return Operand(spec, _codes(fact, offset), grid.scale, grid.axis, late)


def _codes(fact: Known, offset: int) -> Callable[[Any], IntArray]:
    """The way from a value on a grid to the integers that are multiplied."""
    grid = fact.grid
    assert grid is not None, "checked by those who ask"

    def codes(value: Any) -> IntArray:
        if isinstance(value, Coded):
            return value.codes
        array = np.asarray(value)
        if fact.whole:
            return array if not offset else array.astype(np.int64) - offset
        divisor = grid.scale if grid.axis is None else along(grid.scale, grid.axis, array.ndim)
        try:
            with np.errstate(invalid="raise", over="ignore"):  # as of NaN that is made an integer
                return np.rint(array / divisor).astype(np.int32)
        except FloatingPointError:
            raise RangeError("what it multiplies must be finite") from None

    return codes


def _why(fact: Known) -> str:
    """Why a value cannot be an operand."""
    return fact.why or ("it is constant" if fact.constant is not None else "it is not constant")
