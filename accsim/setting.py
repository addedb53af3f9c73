"""What vector kernels are told of ranges and registers: the same for all calls of such ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from accsim._check import read_only
from accsim.kernels.forms import CODES, REGISTER, SCALARS, Kernel, host
from accsim.plan import byte_shift, exact_shift
from accsim.spec import Accumulator, IntSpec, Overflow

__all__ = ["Setting", "pair_setting", "setting_of", "spill_setting"]

KEPT = 128  # kinds of calls that are remembered

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """A kernel, and what it and its operands are told."""

    kernel: Kernel
    register: Array  # as `REGISTER`
    largest: int  # of the inputs, in size
    table: Array | None = None  # what the register refers to
    shift: int = 0  # rows are times 2^shift
    take_rows: int = 0  # what is taken from operands
    take_lanes: int = 0
    forgets: bool = False
    span: int = 0  # scalars in a group that is spilled


@lru_cache(maxsize=KEPT)
def setting_of(
    work: str,
    form: str,
    inputs: IntSpec,
    weights: IntSpec,
    accumulator: Accumulator,
    *,
    lanes_are_inputs: bool,
    pixels: bool,
) -> Setting:
    """How to do this work in this form on operands of these ranges."""
    narrow = _narrow(inputs, weights, accumulator) if form == "int16" else NOT_NARROW
    low, span = accumulator.min, 2**accumulator.bits
    # sums beyond 32 bits are asked for in int32 only where they fit: nothing is cut from those
    wide = low >= -(2**31) or form == "float64"
    floor, mask = (low, span - 1) if wide else (-(2**31), -1)
    lanes_unsigned, take = (
        _bytes(inputs, weights, lanes_are_inputs=lanes_are_inputs)
        if form == "int8x4"
        else (False, 0)
    )
    sides = (weights, inputs) if lanes_are_inputs else (inputs, weights)
    table = _table(*sides, narrow.shift) if form == "int16" else None
    return Setting(
        Kernel(
            work,
            form,
            wraps=work == "count" and accumulator.overflow is Overflow.WRAP,
            clamps=narrow.clamps,
            lanes_unsigned=lanes_unsigned,
            pixels=pixels and form == "int16x2" and work != "exact",
            eases=(work, form) == ("saturate", "int16")
            and table is None
            and _small(inputs, weights, accumulator),
            looks_up=table is not None,
        ),
        _register(
            low=low + narrow.offset,
            high=accumulator.max + narrow.offset,
            span=span if form == "float64" else span - 1,
            shift=narrow.shift,
            offset=narrow.offset,
            floor=floor,
            mask=mask,
            table=_address(table),
        ),
        inputs.magnitude,
        table,
        shift=0 if table is not None else narrow.shift,
        take_rows=0 if lanes_unsigned else take,
        take_lanes=take if lanes_unsigned else 0,
        forgets=work == "saturate" and span <= 2 * inputs.magnitude * weights.magnitude,
    )


def pair_setting(
    inputs: IntSpec, weights: IntSpec, rest: Accumulator, *, lanes_are_inputs: bool
) -> Setting:
    """How to sum pairs of products of bytes, which saturate in int16, and all of them in `rest`."""
    unsigned = _lanes_unsigned(inputs, weights, lanes_are_inputs=lanes_are_inputs)
    kernel = Kernel("exact", "int8x4", lanes_unsigned=unsigned, pairs=True)
    return Setting(kernel, _register(**_rest(rest)), inputs.magnitude)


@lru_cache(maxsize=KEPT)
def spill_setting(
    form: str,
    inputs: IntSpec,
    weights: IntSpec,
    inner: Accumulator,
    rest: Accumulator,
    span: int,
    *,
    lanes_are_inputs: bool,
) -> Setting:
    """How to sum groups of `span` scalars in registers `inner`, and their sums in `rest`.

    Ranges hold 0, which stands in for what the last group lacks.
    """
    wraps, table, narrow = inner.overflow is Overflow.WRAP, None, NOT_NARROW
    unsigned, clamps, eases = False, not wraps and inner.bits < 16, False
    if form == "int8x2":
        unsigned = _lanes_unsigned(inputs, weights, lanes_are_inputs=lanes_are_inputs)
    else:
        # what wraps may lose all bits above, whatever its operands are
        narrow = _scaled_up(inner) if wraps else _narrow(inputs, weights, inner)
        sides = (weights, inputs) if lanes_are_inputs else (inputs, weights)
        table, clamps = _table(*sides, narrow.shift), narrow.clamps
        eases = not wraps and table is None and _small(inputs, weights, inner)
    kernel = Kernel(
        "spill",
        form,
        wraps=wraps,
        clamps=clamps,
        lanes_unsigned=unsigned,
        rests=rest.overflow is Overflow.SATURATE,
        eases=eases,
        looks_up=table is not None,
    )
    register = _register(
        low=inner.min + narrow.offset,
        high=inner.max + narrow.offset,
        span=2**inner.bits - 1,
        shift=16 - inner.bits if wraps else narrow.shift,
        offset=narrow.offset,
        table=_address(table),
        **_rest(rest),
    )
    shift = 0 if table is not None else narrow.shift
    return Setting(kernel, register, inputs.magnitude, table, shift=shift, span=span)


def _register(**fields: int) -> Array:
    """The numbers of `REGISTER`; 0 for those that a kernel does not look at."""
    return read_only(np.array([fields.get(name, 0) for name in REGISTER], np.int64))


def _rest(rest: Accumulator) -> dict[str, int]:
    """What is told of a register of up to 32 bits that sums of groups are added to."""
    cuts = rest.overflow is Overflow.WRAP
    return {
        "floor": rest.min if cuts else -(2**31),
        "mask": 2**rest.bits - 1 if cuts else -1,
        "rest_low": rest.min,
        "rest_high": rest.max,
    }


def _bytes(inputs: IntSpec, weights: IntSpec, *, lanes_are_inputs: bool) -> tuple[bool, int]:
    """Whether the lanes are the side that is uint8, or the rows, and what is taken from it."""
    take = byte_shift(inputs, weights)
    assert take is not None, "the plan chose bytes"
    if lanes_are_inputs:
        return True, take
    if take:  # rather from the lanes: they are copied anyway
        other = exact_shift(weights, inputs)
        if other is not None:
            return True, other
    return False, take


def _lanes_unsigned(inputs: IntSpec, weights: IntSpec, *, lanes_are_inputs: bool) -> bool:
    """Whether the lanes are the side that is uint8, of operands that are bytes as they are."""
    return (byte_shift(inputs, weights) == 0) is lanes_are_inputs


def _small(inputs: IntSpec, weights: IntSpec, accumulator: Accumulator) -> bool:
    """Whether no product is 2^bits or more in size."""
    return inputs.magnitude * weights.magnitude < 1 << accumulator.bits


def _address(table: Array | None) -> int:
    return 0 if table is None else int(table.ctypes.data)


def _table(rows: IntSpec, lanes: IntSpec, shift: int) -> Array | None:
    """Products of int16, where a table of them is sooner read than they are multiplied: if small.

    Times 2^shift.
    """
    if rows.max - rows.min >= SCALARS or lanes.max - lanes.min >= CODES or not host().permutes:
        return None
    return _products(_least(rows, SCALARS), _least(lanes, CODES), shift)


@lru_cache(maxsize=KEPT)
def _products(rows: int, lanes: int, shift: int) -> Array:
    """Products times 2^shift, int16 (SCALARS, CODES), of codes from these least ones on.

    Each code is where its lowest bits say; each row of the table is one line of the cache.
    """
    sides = [
        least + (np.arange(count) - least) % count
        for least, count in ((rows, SCALARS), (lanes, CODES))
    ]
    size, line = SCALARS * CODES * 2, 64
    space = np.empty(size + line, np.uint8)
    skip = -space.ctypes.data % line
    table = space[skip : skip + size].view(np.int16).reshape(SCALARS, CODES)
    table[...] = (np.multiply.outer(*sides) << shift).astype(np.int16)
    return read_only(table)


def _least(spec: IntSpec, count: int) -> int:
    """Where a table of so many codes begins that holds this range; few different places."""
    if -count // 2 <= spec.min and spec.max < count // 2:
        return -count // 2
    return 0 if spec.min >= 0 and spec.max < count else spec.min


@dataclass(frozen=True, slots=True)
class Narrow:
    """How int16 holds a register: (value + offset) << shift."""

    shift: int
    offset: int
    clamps: bool  # whether the register's lowest rail is above that of the lane


NOT_NARROW = Narrow(0, 0, clamps=False)


def _narrow(inputs: IntSpec, weights: IntSpec, accumulator: Accumulator) -> Narrow:
    """How int16 holds the register, and its sums with products of these ranges.

    The register's highest value is the lane's, because that is where the lane saturates.
    """
    shift = 16 - accumulator.bits
    factors = [bound for spec in (weights, inputs) for bound in (spec.min, spec.max)]
    corners = [q * x for q in factors[:2] for x in factors[2:]]
    if shift and not all(-(2**15) <= value << shift < 2**15 for value in factors + corners):
        return Narrow(0, 2**15 - 1 - accumulator.max, clamps=True)
    return _scaled_up(accumulator)


def _scaled_up(accumulator: Accumulator) -> Narrow:
    """The register with both rails of the lane; what the bits below its lowest hold: no matter."""
    shift = 16 - accumulator.bits
    return Narrow(shift, -(2**15 >> shift) - accumulator.min, clamps=False)
