"""Proof or witness, by exact integers: can this layer overflow this register for any input?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from accsim import bounds
from accsim.layer import IntLayer, check_start
from accsim.padding import exact_extremes
from accsim.spec import Accumulator
from verification.witness import Witness, find_witness

__all__ = ["Report", "Verdict", "decide"]


class Verdict(str, Enum):
    """The three answers; none of them means that time ran out."""

    PROVED = "proved"
    """No step overflows for any legal input, so every output is the exact sum."""
    REFUTED = "refuted"
    """A legal input overflows; the report's witness is one."""
    UNDECIDED = "undecided"
    """What the method cannot express; no layer of one register is."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What `decide` found.

    `least_bits` is the least two's complement register that is safe for the whole layer,
    `channel_bits` (C,) the same per output channel. `unsafe_channels` are those that can overflow.
    `wrap_exact`: a wraparound register still ends at the exact sum for all inputs.
    """

    verdict: Verdict
    accumulator: Accumulator
    least_bits: int
    channel_bits: np.ndarray[tuple[int], np.dtype[np.int64]]
    unsafe_channels: tuple[int, ...]
    wrap_exact: bool
    witness: Witness | None


def decide(layer: IntLayer, accumulator: Accumulator) -> Report:
    """Prove that no input can overflow the register, or show one that does.

    O(channels · taps) exact integer steps, no sampling. The verdict is for index order; where 0 is
    a legal input it holds for every order, subset and tile of the sum.

    Raises: RangeError for a bias outside the register.
    Source: extremes of running sums; docs/semantics.md, "What a proof means".

    >>> from accsim import IntLayer, signed, unsigned
    >>> layer = IntLayer([[1] * 272], weight_spec=signed(4), input_spec=unsigned(4))
    >>> str(decide(layer, Accumulator(12)).verdict), decide(layer, Accumulator(12)).least_bits
    ('refuted', 13)
    """
    check_start(layer, accumulator)
    low, high = exact_extremes(layer)
    safe = bounds.fits(low, high, accumulator)
    witness = None if safe.all() else find_witness(layer, accumulator)
    bits = bounds.bits_per_channel(low, high)
    return Report(
        Verdict.PROVED if safe.all() else Verdict.REFUTED,
        accumulator,
        int(bits.max()),
        bits,
        tuple(int(c) for c in np.flatnonzero(~safe)),
        bool(bounds.fits(*exact_extremes(layer, final=True), accumulator).all()),
        witness,
    )
