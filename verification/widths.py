"""How narrow a layer's registers can be: the exact widths, and beside them what each bound asks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accsim import bounds
from accsim.layer import IntLayer
from accsim.padding import exact_extremes

__all__ = ["Widths", "widths"]

Bits = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True, eq=False)
class Widths:
    """Least register widths of a layer in bits, for each channel (C,), and by the types alone.

    `every_step`: no running sum overflows, in index order. `final`: the end does not, which is all
    that a wraparound register needs. `any_order`: nor does any other order, subset or tile.
    `preloaded`: a register that starts where it likes (`bounds.preload`); None for a layer with a
    bias, which says where it starts. `l1` and `zero_centered` are what the bounds of A2Q and A2Q+
    ask; the latter proves nothing by itself (`bounds.zero_centered_bits`), and None stands where it
    does not apply. `data_type` knows nothing of the weights.
    """

    every_step: Bits
    final: Bits
    any_order: Bits
    preloaded: Bits | None
    l1: Bits | None
    zero_centered: Bits | None
    data_type: int


def widths(layer: IntLayer) -> Widths:
    """All of them, exactly; O(channels · taps). What a bias adds is counted where it is preloaded.

    The published bounds, and the types, know of no bias.
    """
    rows, spec = layer.rows, layer.input_spec
    zero_inside = spec.contains_zero and spec.magnitude > 0
    ends = exact_extremes(layer)
    return Widths(
        every_step=_bits(ends),
        final=_bits(exact_extremes(layer, final=True)),
        any_order=_bits(bounds.any_order_extremes(rows, spec, bias=layer.bias)),
        preloaded=bounds.span_bits_per_channel(*ends) if layer.bias is None else None,
        l1=bounds.l1_bits(rows, spec) if spec.magnitude else None,
        zero_centered=bounds.zero_centered_bits(rows, spec) if zero_inside else None,
        data_type=bounds.data_type_bits(layer.taps, layer.weight_spec, spec),
    )


def _bits(ends: tuple[np.ndarray, np.ndarray]) -> Bits:
    return bounds.bits_per_channel(*ends)
