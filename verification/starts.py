"""Layers whose register cannot even start: their bias lies outside it, whatever the input."""

from __future__ import annotations

import numpy as np

from accsim import bounds
from accsim.layer import IntLayer
from accsim.padding import exact_extremes
from accsim.spec import Accumulator
from verification.decide import Report, Verdict, decide

__all__ = ["decide_start", "unheld_start"]


def unheld_start(layer: IntLayer, accumulator: Accumulator) -> tuple[int, int] | None:
    """The first channel whose bias the register cannot hold, and that bias; None if it holds all.

    >>> from accsim import signed, unsigned
    >>> layer = IntLayer([[1], [1]], weight_spec=signed(4), input_spec=unsigned(4), bias=[7, 8])
    >>> unheld_start(layer, Accumulator(4)), unheld_start(layer, Accumulator(5))
    ((1, 8), None)
    """
    if layer.bias is None:
        return None
    outside = np.flatnonzero((layer.bias < accumulator.min) | (layer.bias > accumulator.max))
    return (int(outside[0]), int(layer.bias[outside[0]])) if outside.size else None


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
