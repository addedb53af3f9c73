"""Layers whose register cannot even start: their bias lies outside it, whatever the input."""

from __future__ import annotations

import numpy as np

from accsim import bounds
from accsim.layer import IntLayer, unheld_start
from accsim.padding import exact_extremes
from accsim.spec import Accumulator
from verification.decide import Report, Verdict, decide

__all__ = ["decide_start"]


def decide_start(layer: IntLayer, accumulator: Accumulator) -> Report:
    """`decide`; and REFUTED without a witness where a register cannot even start: every input is.

    Raises: SpecError as `decide`.
    """
    if unheld_start(layer, accumulator) is None:
        return decide(layer, accumulator)
    low, high = exact_extremes(layer)
    bits = bounds.bits_per_channel(low, high)
    unsafe = np.flatnonzero(~bounds.fits(low, high, accumulator))
    return Report(
        Verdict.REFUTED, accumulator, int(bits.max()), bits, tuple(unsafe.tolist()), False, None
    )
