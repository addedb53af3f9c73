"""How far a few of a call's registers go: a guess, by which the plan chooses between exact ways."""

from __future__ import annotations

from math import prod

import numpy as np

from accsim._check import IntArray
from accsim.layer import IntLayer

__all__ = ["sampled_reach"]

PLACES, CHANNELS = 16, 8  # of outputs that are looked at, as evenly spread as they go
BEYOND = 1.4  # by so much, relative, the others may go farther
SEGMENT = 18  # steps within which a kernel does not look


def sampled_reach(layer: IntLayer, x: IntArray) -> tuple[int, int] | None:
    """Where a guess has all registers stay, with room for a segment of steps; None for groups.

    From the exact running sums of a few outputs. Shapes: x as `simulate` takes it, not empty.
    """
    if layer.groups > 1:
        return None
    some = np.linspace(0, layer.channels - 1, min(CHANNELS, layer.channels)).astype(int)
    weights = layer.rows[some].astype(np.int64)
    taps = _patches(layer, x) if layer.is_conv else _spread(x.reshape(-1, layer.taps))
    products = taps.astype(np.int64)[:, None] * weights
    sums = products.cumsum(axis=-1)
    if layer.bias is not None:
        sums += layer.bias[some, None]
    room = int(SEGMENT * np.abs(weights).mean() * int(np.abs(taps).max(initial=0)))
    low, high = min(0, int(sums.min())), max(0, int(sums.max()))
    return int(BEYOND * low) - room, int(BEYOND * high) + room


def _spread(rows: IntArray) -> IntArray:
    places = np.linspace(0, len(rows) - 1, min(PLACES, len(rows))).astype(int)
    return np.asarray(rows[places])


def _patches(layer: IntLayer, x: IntArray) -> IntArray:
    """What the taps of some outputs read: (places, taps)."""
    stride, padding, dilation, _ = layer.geometry
    shape = layer.output_shape(x.shape)
    outputs = (shape[0], *shape[2:])
    patches = []
    for place in np.linspace(0, prod(outputs) - 1, min(PLACES, prod(outputs))).astype(int):
        image, *at = (int(i) for i in np.unravel_index(place, outputs))
        patch = x[image]
        for axis in (0, 1):
            first = at[axis] * stride[axis] - padding[axis]
            reads = first + dilation[axis] * np.arange(layer.weight.shape[2 + axis])
            inside = (reads >= 0) & (reads < x.shape[2 + axis])
            patch = np.take(patch, reads.clip(0, x.shape[2 + axis] - 1), axis=1 + axis)
            patch = patch * (inside[:, None] if axis == 0 else inside)
        patches.append(patch.reshape(-1))
    return np.stack(patches)
