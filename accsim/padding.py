"""Which taps of a convolution can fall on padding together, over images of every size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from accsim import bounds
from accsim._check import IntArray
from accsim.layer import IntLayer

__all__ = ["exact_extremes", "layer_bits", "masked_extremes", "padding_masks"]

Mask = np.ndarray[Any, np.dtype[np.bool_]]


def masked_extremes(
    layer: IntLayer, *, final: bool = False
) -> Iterator[tuple[Mask, IntArray, IntArray]]:
    """Lowest and highest running sum of each channel, for each set of taps inside the image.

    Only the full set where 0 is a legal input, which padding then adds nothing to. `final`: of the
    final sums alone. Shapes: mask (K,), extremes (C,).
    """
    extremes = bounds.extremes if final else bounds.running_extremes
    needed = layer.pads and not layer.input_spec.contains_zero
    masks = padding_masks(layer) if needed else np.ones((1, layer.taps), dtype=bool)
    for mask in masks:
        yield (mask, *extremes(layer.rows * mask, layer.input_spec, bias=layer.bias))


def layer_bits(layer: IntLayer) -> int:
    """The least two's complement width that no input of the layer overflows, padded or not."""
    return int(bounds.bits_per_channel(*exact_extremes(layer)).max())


def exact_extremes(layer: IntLayer, *, final: bool = False) -> tuple[IntArray, IntArray]:
    """Lowest and highest running sum of each channel over all inputs, padded or not: (C,) each.

    `final`: of the final sums alone.
    """
    ends = [(low, high) for _, low, high in masked_extremes(layer, final=final)]
    lows, highs = zip(*ends, strict=True)
    return np.minimum.reduce(lows), np.maximum.reduce(highs)


def padding_masks(layer: IntLayer) -> Mask:
    """Every set of taps that some output of some image reads inside the image; the full one first.

    Shapes: (masks, K), in the index order of the taps. For convolutions.
    """
    stride, padding, dilation, _ = layer.geometry
    inputs, *kernel = layer.weight.shape[1:]
    rows, columns = (
        _inside(kernel[axis], stride[axis], padding[axis], dilation[axis]) for axis in (0, 1)
    )
    both = rows[:, None, :, None] & columns[None, :, None, :]  # (masks, masks, kh, kw)
    flat = both.reshape(-1, 1, kernel[0] * kernel[1])
    return np.repeat(flat, inputs, axis=1).reshape(len(flat), -1)


def _inside(taps: int, stride: int, padding: int, dilation: int) -> Mask:
    """The sets of taps of one axis that lie inside an image together: (sets, taps).

    An output whose first tap is at a (a = -padding modulo stride, a >= -padding) has the taps
    first..last inside an image of n: first = ceil(-a / dilation) or 0, and n >= 1 is free but for
    room for the output, n >= a + dilation·(taps - 1) + 1 - padding.
    """
    span = dilation * (taps - 1)
    found = set()
    for first in range(taps + 1):
        # the least -a with this first tap, which leaves the most freedom at the other end
        least = 0 if first == 0 else (first - 1) * dilation + 1
        before = least + (padding - least) % stride if first else 0
        # past the last tap it does not matter by how much
        if before > padding or (0 < first < taps and before > first * dilation):
            continue
        for last in range(min(max(span - padding, before) // dilation, taps - 1), taps):
            found.add((first, last) if first <= last else (0, -1))
    at = np.arange(taps)
    return np.array(
        [(first <= at) & (at <= last) for first, last in sorted(found, key=_full_first)]
    )


def _full_first(ends: tuple[int, int]) -> tuple[int, int]:
    """Sorts sets of taps by size, the largest first."""
    return (ends[0] - ends[1], ends[0])
