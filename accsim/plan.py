"""Which kernel computes which channels of a call, and why. Nothing here changes a result."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from accsim._check import read_only
from accsim.bounds import magnitude
from accsim.errors import HostWidthError
from accsim.layer import IntLayer
from accsim.spec import Accumulator, IntSpec, Overflow

__all__ = ["Call", "Part", "Plan", "plan"]

WRAPPED = "wrapping at every step is the exact sum modulo 2^bits"
Channels = tuple[int, ...] | None  # None: all
SAMPLE = 16  # channels that are looked at first
NO_STARTS = read_only(np.empty(0, np.int64))
SPLIT = 4  # certified channels are computed apart if they are at least 1/4 of all


@dataclass(frozen=True, slots=True)
class Part:
    """One pass over some channels.

    work: "exact" (the exact sum is the answer), "saturate" or "count" (every step is taken; count
    also finds the overflows), "peaks" (exact running sums), "all" (every field of `Run`).
    form: how operands and registers lie in vectors: "int8x4", "int16", "int16x2", "float64", or
    "portable" for plain loops.
    """

    work: str
    form: str
    channels: Channels
    why: str

    def __str__(self) -> str:
        which = "all channels" if self.channels is None else f"{len(self.channels)} channels"
        return f"{self.work} in {self.form}, {which}: {self.why}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a call does: its parts, and the ranges of the arrays that they were chosen for."""

    parts: tuple[Part, ...]
    inputs: IntSpec
    weights: IntSpec

    def __str__(self) -> str:
        ranges = f"inputs {self.inputs.describe()}, weights {self.weights.describe()}"
        return "\n".join([ranges, *(str(part) for part in self.parts)])


def plan(
    layer: IntLayer,
    inputs: IntSpec,
    accumulator: Accumulator,
    *,
    counts: bool = True,
    peaks: bool = True,
    reach: tuple[int, int] | None = None,
) -> Plan:
    """Choose kernels for inputs in the range `inputs`, to find outputs, counts, peaks.

    Peaks are asked for only together with counts. `reach`: between which sums registers are
    expected to stay, if that is known: it changes how fast they are found, not what is found.
    """
    if layer.pads or not inputs.contains_zero:
        inputs = IntSpec(min(inputs.min, 0), max(inputs.max, 0))
    call = Call.of(layer, inputs, accumulator)
    parts = _by_ranges(call, counts, peaks)
    if parts is None:
        parts = _parts(call, counts, peaks, *_by_weights(layer, call))
    if reach is not None and accumulator.min <= reach[0] and reach[1] <= accumulator.max:
        parts = tuple(_by_segments(part, call) for part in parts)
    return Plan(parts, inputs, layer.weight_range)


def _by_segments(part: Part, call: Call) -> Part:
    """The part in the form that takes many steps at once while registers keep clear of the rails.

    Where they do not, it is twice as slow as stepping in int16.
    """
    if part.form != "int16" or "int16x2" not in call.forms(part.work):
        return part
    return replace(part, form="int16x2", why=f"{part.why}, but of a few outputs none comes near")


def _parts(
    call: Call, counts: bool, peaks: bool, exact: Channels, stepped: Channels, why: str
) -> tuple[Part, ...]:
    """The parts for channels whose exact sum is the answer, for that reason, and for the others."""
    parts = []
    if exact is None or exact:
        parts.append(Part("exact", call.forms("exact", proved=why != WRAPPED)[0], exact, why))
    if stepped is None or stepped:
        work = "count" if counts else "saturate"
        parts.append(Part(work, call.forms(work)[0], stepped, "some input could pass a rail"))
    if peaks and counts:
        parts.append(Part("peaks", call.forms("peaks")[0], None, "every running sum is looked at"))
    if any(part.form == "portable" for part in parts):
        # plain loops find everything in one pass
        work = "all" if counts else "exact" if stepped == () else "saturate"
        why = "no vector form holds these operands and sums"
        why = (
            "there are no taps" if not call.taps else why if vectors_run() else "no compiler is on"
        )
        parts = [Part(work, "portable", None, why)]
    return tuple(parts)


def output_dtype(accumulator: Accumulator) -> np.dtype[Any]:
    """What outputs are returned in: int32 where the register fits in one, else int64."""
    return np.dtype(np.int32 if accumulator.max < 2**31 else np.int64)


def largest_sum(layer: IntLayer) -> int:
    """No exact running sum is larger in size, whatever the data: |bias| + K·max|q|·max|x|."""
    bias = 0 if layer.bias is None else magnitude(layer.bias)
    return bias + layer.taps * layer.weight_spec.magnitude * layer.input_spec.magnitude


def check_host(layer: IntLayer, accumulator: Accumulator) -> type[np.int32] | type[np.int64]:
    """The lane type in which no intermediate of this simulation can overflow, whatever the data.

    With total = `largest_sum`, over the declared ranges, every sum and every register
    plus one product, also counted from the register's lowest value, is below 2^bits + total in
    size; so 2^bits + total <= 2^31 allows int32 and <= 2^63 int64.

    Raises: HostWidthError beyond that.
    """
    total = largest_sum(layer)
    reach = 2**accumulator.bits + total
    if reach > 2**63:
        raise HostWidthError(
            f"2^{accumulator.bits} + {total}, the register's span plus the largest sum of"
            f" {layer.taps} products of {layer.weight_spec} and {layer.input_spec},"
            " must not exceed 2^63"
        )
    return np.int32 if reach <= 2**31 else np.int64


class Call(NamedTuple):
    """The ranges of one call; with every product in [least, greatest], 0 included."""

    taps: int
    start: int  # the largest starting value, in size
    inputs: IntSpec
    weights: IntSpec
    accumulator: Accumulator

    @classmethod
    def of(cls, layer: IntLayer, inputs: IntSpec, accumulator: Accumulator) -> Call:
        """A call of a layer with inputs in this range."""
        start = 0 if layer.bias is None else magnitude(layer.bias)
        return cls(layer.taps, start, inputs, layer.weight_range, accumulator)

    @property
    def products(self) -> tuple[int, int]:
        """Least and greatest product, or 0."""
        corners = [
            q * x
            for q in (self.weights.min, self.weights.max)
            for x in (self.inputs.min, self.inputs.max)
        ]
        return min(0, *corners), max(0, *corners)

    @property
    def reach(self) -> int:
        """No exact running sum is larger in size."""
        least, greatest = self.products
        return self.start + self.taps * max(-least, greatest)

    @lru_cache(maxsize=256)  # noqa: B019  (calls are small values)
    def forms(self, work: str, *, proved: bool = False) -> tuple[str, ...]:
        """Every form in which this work is exact, the fastest first; plain loops always are.

        Proved: no running sum leaves the rails.
        """
        least, greatest = self.products
        register, reach = self.accumulator, self.reach
        words = all(s.min >= -(2**15) and s.max < 2**15 for s in (self.inputs, self.weights))
        if work == "exact":  # int32 must hold the sums, or the bits that are asked for
            fits = reach < 2**31 and (proved or register.min <= -reach)
            fits |= register.max < 2**31
            right = {
                "int8x4": fits and exact_shift(self.inputs, self.weights) is not None,
                "int16x2": fits and words,
                "float64": reach <= 2**53,
            }
        elif work == "peaks":  # lanes must hold every running sum
            right = {"int16x2": words and reach < 2**31, "float64": reach <= 2**53}
        else:  # lanes must hold the register, and in int32 and float64 the sum before it is cut
            low, high = register.min + least, register.max + greatest
            narrow = register.bits <= 16 and least >= -(2**15) and greatest < 2**15
            right = {
                "int16": words and narrow,
                "int16x2": words and low >= -(2**31) and high < 2**31,
                "float64": 2**register.bits + reach <= 2**53,
            }
        usable = vectors_run() and self.taps > 0
        return (*(form for form in right if usable and right[form]), "portable")


def byte_shift(inputs: IntSpec, weights: IntSpec) -> int | None:
    """What to take from inputs so that they are uint8 beside int8 weights; None if impossible."""
    shift = 0 if inputs.min >= 0 and inputs.max <= 255 else inputs.min
    fits = inputs.max - shift <= 255 and weights.min >= -128 and weights.max <= 127
    return shift if fits else None


def exact_shift(inputs: IntSpec, weights: IntSpec) -> int | None:
    """As `byte_shift`, where this processor multiplies such bytes exactly; sides may be swapped."""
    from accsim.kernels.forms import host  # numba loads when first used

    shift = byte_shift(inputs, weights)
    if shift is None or host().dot_bytes:
        return shift
    pair = 2 * (inputs.max - shift) * weights.magnitude
    return shift if host().dot_pairs and pair < 2**15 else None


@lru_cache(maxsize=256)
def _by_ranges(call: Call, counts: bool, peaks: bool) -> tuple[Part, ...] | None:
    """The parts, if the ranges alone tell that the exact sums are the answer; else None."""
    register, reach = call.accumulator, call.reach
    if register.overflow is Overflow.WRAP and not counts:
        return _parts(call, counts, peaks, None, (), WRAPPED)
    if register.min <= -reach and reach <= register.max:
        why = "by the ranges of the operands no running sum passes a rail"
        return _parts(call, counts, peaks, None, (), why)
    return None


def _by_weights(layer: IntLayer, call: Call) -> tuple[Channels, Channels, str]:
    """Channels whose exact sum is the answer, the others, and why.

    Their sums of positive and of negative weights tell.
    """
    from accsim.kernels.portable import certified

    register = call.accumulator
    safe = certified(
        layer.rows,
        NO_STARTS if layer.bias is None else layer.bias,
        call.inputs.min,
        call.inputs.max,
        register.min,
        register.max,
        # where not one of a few channels is safe, hardly a quarter of all is
        max(1, layer.channels // SAMPLE),
    )
    count = np.count_nonzero(safe)
    if count == layer.channels:
        return None, (), "by its weights no running sum of any channel passes a rail"
    if layer.groups > 1 or count * SPLIT < layer.channels:
        return (), None, ""
    apart = tuple(np.flatnonzero(safe).tolist()), tuple(np.flatnonzero(~safe).tolist())
    return *apart, "by their weights no running sum of these channels passes a rail"


@cache
def vectors_run() -> bool:
    """Whether vector kernels can run: the compiler is on."""
    from numba import config

    return not config.DISABLE_JIT and sys.byteorder == "little"
