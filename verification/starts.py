"""Layers whose register cannot even start: their bias lies outside it, whatever the input."""

from __future__ import annotations

import numpy as np

from accsim import bounds
from accsim.datapath import Datapath
from accsim.layer import IntLayer, unheld_start
from accsim.padding import exact_extremes
from accsim.spec import Accumulator
from verification.datapaths import register_of
from verification.decide import Report, Verdict, decide

__all__ = ["decide_start"]


def decide_start(layer: IntLayer, accumulator: Accumulator | Datapath) -> Report:
    """`decide`; and REFUTED without a witness where a register cannot even start: every input is.

    Of a datapath nothing is told of its levels then.

    Raises: as `decide`.
    """
    register = register_of(accumulator)
    if unheld_start(layer, register) is None:
        return decide(layer, accumulator)
    low, high = exact_extremes(layer)
    bits = bounds.bits_per_channel(low, high)
    unsafe = np.flatnonzero(~bounds.fits(low, high, register))
    return Report(
        Verdict.REFUTED, accumulator, int(bits.max()), bits, tuple(unsafe.tolist()), False, None
    )
