"""Quantizers as their formats define them, on arrays: real numbers to integer codes and back.

Codes here are less their zero point: real = scale · code, in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from accsim.errors import ModelFileError, RangeError
from accsim.spec import MAX_BITS, IntSpec

__all__ = [
    "Coded",
    "Quantizer",
    "along",
    "dimensions",
    "floats",
    "onnx_quantizer",
    "qonnx_quantizer",
    "qonnx_truncation",
]

Array = np.ndarray[Any, Any]


def _half_away(x: Array) -> Array:
    return np.copysign(np.floor(np.abs(x) + np.float32(0.5)), x)


def _half_toward(x: Array) -> Array:
    return np.copysign(np.ceil(np.abs(x) - np.float32(0.5)), x)


def _away(x: Array) -> Array:
    return np.copysign(np.ceil(np.abs(x)), x)


_ROUNDINGS: dict[str, Callable[..., Array]] = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": _away,
    "DOWN": np.trunc,
    "HALF_UP": _half_away,
    "HALF_DOWN": _half_toward,
}
_BLOCK = 2**16  # numbers that are worked on at a time: they stay in a core's cache


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """Real numbers kept as integers: `scale` (float32) broadcasts against the codes."""

    codes: Array
    scale: Array

    def __post_init__(self) -> None:
        sizes = zip(reversed(self.codes.shape), reversed(self.scale.shape), strict=False)
        if self.scale.ndim > self.codes.ndim or any(own not in (1, size) for size, own in sizes):
            raise ModelFileError(
                f"a scale of shape {self.scale.shape} does not fit codes of shape"
                f" {self.codes.shape}"
            )

    def floats(self) -> Array:
        """The numbers, float32."""
        return self.codes.astype(np.float32) * self.scale


def floats(value: Any) -> Array:
    """A value as an array of the type that its graph declares."""
    return value.floats() if isinstance(value, Coded) else np.asarray(value)


def dimensions(value: Any) -> int:
    """How many dimensions a value has."""
    return value.codes.ndim if isinstance(value, Coded) else int(np.ndim(value))


def along(array: Array, axis: int, ndim: int) -> Array:
    """One number for each index of an axis, to be broadcast against `ndim` dimensions.

    Raises: ModelFileError for anything but that or a single number.
    """
    if array.size == 1:
        return array.reshape(())
    if array.ndim != 1 or not -ndim <= axis < ndim:
        raise ModelFileError(
            f"a scale of shape {array.shape} must be one number, or one for each place on axis"
            f" {axis}"
        )
    return array.reshape([-1 if place == axis % ndim else 1 for place in range(ndim)])


@dataclass(frozen=True, slots=True, eq=False)
class Quantizer:
    """real to code: round(clip(real / scale + before, low, high)) - before.

    The arrays are float32 and broadcast against the input. QONNX adds its zero point before it
    rounds, ONNX after: there it is part of `low` and `high`. A bipolar one gives 1 from 0 on, and
    else -1.
    """

    scale: Array
    low: Array
    high: Array
    rounding: str = "ROUND"
    before: Array = field(default_factory=lambda: np.zeros((), np.float32))
    bipolar: bool = False

    @property
    def spec(self) -> IntSpec:
        """The range of codes."""
        return IntSpec(int(np.min(self.low - self.before)), int(np.max(self.high - self.before)))

    def __call__(self, x: Array) -> Coded:
        """The codes of real numbers, in the narrowest signed type that holds them all.

        Raises: RangeError for NaN, which has no code.
        """
        shape = np.broadcast_shapes(x.shape, self.scale.shape, self.before.shape)
        codes = np.empty(shape, _narrowest(self.spec))
        try:
            # invalid: NaN that is made an integer; over: numbers that are clipped
            with np.errstate(invalid="raise", over="ignore"):
                self._fill(codes, x)
        except FloatingPointError:
            raise RangeError("a quantizer must be given numbers, not NaN") from None
        return Coded(codes, self.scale)

    def ends(self, low: float, high: float) -> tuple[int, int]:
        """The range of codes of real numbers in [low, high]: quantizing keeps their order."""
        one, other = (self(np.full(self.scale.shape, end, np.float32)).codes for end in (low, high))
        return int(one.min()), int(other.max())

    def _fill(self, codes: Array, x: Array) -> None:
        parameters = (self.scale, self.low, self.high, self.before)
        if max(parameter.size for parameter in parameters) > 1:
            codes[...] = self._codes(x, *parameters)
            return
        numbers = [parameter.reshape(-1)[0] for parameter in parameters]
        flat, source = codes.reshape(-1), np.ascontiguousarray(x).reshape(-1)
        for start in range(0, len(flat), _BLOCK):
            part = slice(start, start + _BLOCK)
            flat[part] = self._codes(source[part], *numbers)

    def _codes(self, x: Array, scale: Any, low: Any, high: Any, before: Any) -> Array:
        y = np.asarray(x / scale)
        moved = bool(np.any(before))
        if moved:
            y = y + before
        if self.bipolar:
            y = np.where(y >= 0, np.float32(1), np.float32(-1))
        else:
            y = _ROUNDINGS[self.rounding](np.clip(y, low, high))
        return y - before if moved else y


@dataclass(frozen=True, slots=True, eq=False)
class Truncation:
    """Codes of one scale to fewer bits: round(clip(round(real / scale + before) / step)) - after.

    Source: QONNX's definition of Trunc; version 1 clips nothing and keeps the scale.
    """

    scale_in: Array
    before: Array
    step: Array
    low: float
    high: float
    rounding: str
    after: Array
    scale: Array

    @property
    def spec(self) -> IntSpec:
        """The range of codes. Raises: ModelFileError if nothing bounds them."""
        if abs(self.low) == np.inf:
            raise ModelFileError("a truncation of version 1 bounds no constant")
        return IntSpec(int(self.low - self.after.max()), int(self.high - self.after.min()))

    def __call__(self, x: Array) -> Coded:
        """The codes of real numbers. Raises: RangeError for NaN."""
        if np.isnan(x).any():
            raise RangeError("a quantizer must be given numbers, not NaN")
        try:
            with np.errstate(invalid="raise", over="ignore"):  # as of infinities made integers
                y = np.rint(x / self.scale_in + self.before) / self.step
                y = _ROUNDINGS[self.rounding](np.clip(y, self.low, self.high))
                return Coded((y - self.after).astype(np.int64), self.scale)
        except FloatingPointError:
            raise RangeError("a truncation must be given numbers that it can hold") from None

    def ends(self, low: float, high: float) -> tuple[int, int]:
        """The range of codes of real numbers in [low, high]. Raises: ModelFileError if infinite."""
        one, other = (
            _ROUNDINGS[self.rounding](
                np.clip(np.rint(end / self.scale_in + self.before) / self.step, self.low, self.high)
            )
            - self.after
            for end in (np.float32(low), np.float32(high))
        )
        if not (np.isfinite(one).all() and np.isfinite(other).all()):
            raise ModelFileError("it truncates numbers whose range is not known")
        return int(np.min(one)), int(np.max(other))


def _narrowest(spec: IntSpec) -> np.dtype[Any]:
    bits = spec.bits if spec.signed else spec.bits + 1
    return next(np.dtype(f"int{size}") for size in (8, 16, 32, 64) if bits <= size)


def onnx_quantizer(scale: Array, zero_point: Array, low: int, high: int) -> Quantizer:
    """That of QuantizeLinear: codes less their zero point are clipped, not the codes.

    Raises: ModelFileError for a scale that is not positive.
    """
    zero = zero_point.astype(np.float32)
    return Quantizer(_scale(scale), np.float32(low) - zero, np.float32(high) - zero)


def qonnx_quantizer(
    attributes: Mapping[str, Any], scale: Array, zero_point: Array, bits: Array
) -> Quantizer:
    """That of Quant and IntQuant. With one signed bit it is bipolar.

    Raises: ModelFileError for what is not a positive scale, a whole zero point, a whole width, a
    known rounding mode.
    Source: QONNX's definition of IntQuant.
    """
    signed, narrow = bool(attributes.get("signed", 1)), bool(attributes.get("narrow", 0))
    rounding = _rounding(attributes, "ROUND")
    whole = _widths(bits)
    before = _whole(zero_point, "zero point")
    bipolar = signed and bool((whole == 1).all())
    top = 2 ** (whole - signed)
    low = -top + narrow if signed else np.zeros_like(top)
    high = top - 1 - (narrow and not signed)
    if bipolar:
        low, high = -np.ones_like(top), np.ones_like(top)
    ends = low.astype(np.float32), high.astype(np.float32)
    return Quantizer(_scale(scale), *ends, rounding, before, bipolar)


def qonnx_truncation(version: int, attributes: Mapping[str, Any], *inputs: Array) -> Truncation:
    """That of Trunc; `inputs` are those of its node after the first.

    Raises: ModelFileError as `qonnx_quantizer`.
    """
    rounding = _rounding(attributes, "FLOOR")
    scale, before = _scale(inputs[0]), _whole(inputs[1], "zero point")
    if version < 2:
        step = (2.0 ** (_widths(inputs[2]) - _widths(inputs[3]))).astype(np.float32)
        return Truncation(scale, before, step, -np.inf, np.inf, rounding, before, scale)
    out = _scale(inputs[3])
    step = (2 ** np.rint(np.log2(out / scale))).astype(np.float32)
    kept = qonnx_quantizer(
        {"rounding_mode": rounding, "signed": 1, **attributes}, out, np.zeros(1), inputs[4]
    )
    after = _whole(before / step, "zero point after truncation")
    ends = float(np.max(kept.low)), float(np.min(kept.high))
    return Truncation(scale, before, step, *ends, rounding, after, out)


def _rounding(attributes: Mapping[str, Any], default: str) -> str:
    rounding = str(attributes.get("rounding_mode", default)).upper()
    if rounding not in _ROUNDINGS:
        raise ModelFileError(
            f"rounding_mode must be one of {', '.join(_ROUNDINGS)}, not {rounding!r}"
        )
    return rounding


def _scale(scale: Array) -> Array:
    if (
        scale.dtype.kind != "f"
        or scale.size == 0
        or not bool((scale > 0).all() and np.isfinite(scale).all())
    ):
        raise ModelFileError("a scale must be a positive number")
    return scale.astype(np.float32)


def _whole(array: Array, name: str) -> Array:
    wide = array.astype(np.float64)
    if array.size == 0 or not bool((np.rint(wide) == wide).all() and (abs(wide) <= 2**24).all()):
        raise ModelFileError(f"a {name} must be an integer of at most 24 bits")
    return array.astype(np.float32)


def _widths(bits: Array) -> Array:
    whole = _whole(bits, "bit width").astype(np.int64)
    if not 1 <= int(whole.min()) <= int(whole.max()) <= MAX_BITS:
        raise ModelFileError(f"a bit width must be from 1 to {MAX_BITS}")
    return whole
