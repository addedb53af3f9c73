"""Where a zero point is subtracted, and where a register starts: the layers to be decided."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from accsim import bounds
from accsim._check import IntArray, integer
from accsim.errors import RangeError, SpecError
from accsim.layer import IntLayer
from accsim.padding import exact_extremes
from accsim.spec import MAX_BITS, Accumulator, between, signed

__all__ = ["lowerings", "preloaded"]


def lowerings(layer: IntLayer, zero_point: int) -> dict[str, IntLayer]:
    """What the register sums in each of the three lowerings of a layer with a zero point z.

    The layer's inputs are the stored codes, z one of them; its sums are those of codes less z.
    "subtract": codes less z are multiplied, and padding adds 0. "outside": raw codes are summed
    from the same start, and z·Σq is taken off the result, outside the register. "preload": raw
    codes are summed from z·Σq less. In the last two a padded tap reads the code z, a code as any
    other, so that these layers have no padding: pad the images with z.

    Raises: SpecError for a zero point that is not a code; RangeError for a preload that the widest
    register could not hold.
    Source: q·(x - z) summed is q·x summed less z·Σq; docs/proofs.md, "zero-point-results".

    >>> from accsim import signed, unsigned
    >>> layer = IntLayer([[3, -1]], weight_spec=signed(3), input_spec=unsigned(2))
    >>> {name: (str(x.input_spec), x.bias) for name, x in lowerings(layer, 1).items()}
    {'subtract': ('[-1, 2]', None), 'outside': ('UINT2', None), 'preload': ('UINT2', array([-2]))}
    """
    codes = _checked(layer).input_spec
    zero = integer(zero_point, "zero_point", codes.min, codes.max)
    raw = replace(layer, padding=0)
    return {
        "subtract": replace(layer, input_spec=between(codes.min - zero, codes.max - zero)),
        "outside": raw,
        "preload": replace(raw, bias=_less(layer, zero)),
    }


def preloaded(layer: IntLayer, acc_bits: int) -> IntLayer:
    """The layer whose registers start as low as they may so that no running sum overflows.

    What a register starts at, the bias of the layer that comes back, is to be taken off its result,
    outside the register. It is `bounds.preload`, but that it sees padding.

    Raises: SpecError for bits outside 2 to 62, or a layer with a bias; RangeError for fewer bits
    than `Widths.preloaded`.
    Source: [lo, hi] fits a range of 2^P numbers, wherever it lies, if and only if hi - lo < 2^P.
    """
    register = Accumulator(integer(acc_bits, "acc_bits", 2, MAX_BITS))
    if _checked(layer).bias is not None:
        raise SpecError("layer must have no bias for a preload, which says where registers start")
    low, high = exact_extremes(layer)
    needed = (high - low).max()
    if int(needed) >= 2**acc_bits:
        raise RangeError(
            f"acc_bits must be at least {int(needed).bit_length()} for a preload, not {acc_bits}"
        )
    return replace(layer, bias=(register.min - low).astype(np.int64))


def _less(layer: IntLayer, zero: int) -> IntArray:
    """The start of each channel less z·Σq, in Python integers until it is known to fit."""
    starts = [0] * layer.channels if layer.bias is None else layer.bias.tolist()
    sums, _ = bounds.extremes(layer.rows, between(1, 1))
    preloads = [start - zero * total for start, total in zip(starts, sums.tolist(), strict=True)]
    widest = signed(MAX_BITS)
    for channel, preload in enumerate(preloads):
        if not widest.min <= preload <= widest.max:
            raise RangeError(
                f"preload of channel {channel} must fit {MAX_BITS} bits, not be {preload}"
            )
    return np.array(preloads, dtype=np.int64)


def _checked(layer: IntLayer) -> IntLayer:
    if not isinstance(layer, IntLayer):
        raise SpecError(f"layer must be an IntLayer, not {type(layer).__name__}")
    return layer
