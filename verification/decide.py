"""Proof or witness, by exact integers: can this layer overflow this register for any input?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from accsim import bounds
from accsim.datapath import Datapath
from accsim.layer import IntLayer, check_start
from accsim.padding import exact_extremes
from accsim.spec import Accumulator
from accsim.tree import check_tree
from verification.level_witness import find_level_witness
from verification.levels import LevelReport, level_reports
from verification.register_witness import find_witness
from verification.verdict import Verdict
from verification.witness import Witness

__all__ = ["LevelReport", "Report", "Verdict", "decide"]


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What `decide` found.

    `least_bits` is the least two's complement register that is safe for the whole layer,
    `channel_bits` (C,) the same per output channel. `unsafe_channels` are those that can overflow.
    `wrap_exact`: a wraparound register still ends at the exact sum for all inputs.
    Of a datapath the widths are those of the summing level, `unsafe_channels` those in which any
    level can overflow, and `levels` tells of each, inner to outer. `wrap_exact` is then claimed
    only where registers that wrap are right modulo what comes after.
    """

    verdict: Verdict
    accumulator: Accumulator | Datapath
    least_bits: int
    channel_bits: np.ndarray[tuple[int], np.dtype[np.int64]]
    unsafe_channels: tuple[int, ...]
    wrap_exact: bool
    witness: Witness | None
    levels: tuple[LevelReport, ...] = ()


def decide(layer: IntLayer, accumulator: Accumulator | Datapath) -> Report:
    """Prove that no input can overflow the register, or show one that does.

    O(channels · taps) exact integer steps, no sampling. The verdict is for index order; where 0 is
    a legal input it holds for every order, subset and tile of the sum. Of a datapath: that no level
    can overflow, in its own order.

    Raises: RangeError for a bias outside the register, or operands that a datapath does not take.
    Source: extremes of running sums; docs/semantics.md, "What a proof means".

    >>> from accsim import IntLayer, signed, unsigned
    >>> layer = IntLayer([[1] * 272], weight_spec=signed(4), input_spec=unsigned(4))
    >>> str(decide(layer, Accumulator(12)).verdict), decide(layer, Accumulator(12)).least_bits
    ('refuted', 13)
    """
    if isinstance(accumulator, Datapath):
        return _decide_levels(layer, accumulator)
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


def _decide_levels(layer: IntLayer, datapath: Datapath) -> Report:
    """The same of a datapath. One that is a single register has that one's report and witness."""
    check_tree(layer, datapath)
    found = level_reports(layer, datapath)
    if datapath.single is not None:
        alone = decide(layer, datapath.single)
        return replace(alone, accumulator=datapath, levels=found.reports)
    summing = found.reports[datapath.summing]
    unsafe = bool(found.unsafe.any())
    return Report(
        Verdict.REFUTED if unsafe else Verdict.PROVED,
        datapath,
        summing.least_bits,
        summing.channel_bits,
        tuple(np.flatnonzero(found.unsafe).tolist()),
        found.wrap_exact,
        find_level_witness(layer, datapath) if unsafe else None,
        found.reports,
    )
