"""What the registers of a layer hold over given inputs, as unbounded ones would: exact sums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accsim._check import IntArray
from accsim.layer import IntLayer
from accsim.simulate import Run
from accsim.spec import MAX_BITS, Accumulator, bits_to_hold

__all__ = ["EDGES", "Ends", "Sums", "gather", "sums_of"]

_FINE = 8  # parts of an octave, and the numbers next to 0 that are told apart


def _edges() -> IntArray:
    """Where intervals begin, from -2^62 to 2^62: each rail of a register of any width is one."""
    octaves = range(_FINE.bit_length() - 1, MAX_BITS)
    steps = (part << (octave - 3) for octave in octaves for part in range(_FINE, 2 * _FINE))
    starts = [*range(_FINE), *steps, 1 << MAX_BITS]
    return np.array([-s for s in reversed(starts[1:])] + starts, dtype=np.int64)


EDGES = _edges()
_POWERS = 1 << np.arange(MAX_BITS + 1, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """The lowest and the highest running sum of each channel: (C,) each."""

    low: IntArray
    high: IntArray

    @property
    def bits(self) -> int:
        """The least register that holds them all."""
        return bits_to_hold(int(self.low.min()), int(self.high.max()))

    def of_rails(self, accumulator: Accumulator) -> float:
        """How far they go toward a rail: 1 on it, more beyond.

        Below 0, where a register without a sign ends, beyond by as much of its range.
        """
        low, high = int(self.low.min()), int(self.high.max())
        if accumulator.signed:
            down = low / accumulator.min
        else:
            down = 1 - low / accumulator.max if low < 0 else 0.0
        return max(high / accumulator.max, down)

    def joined(self, other: Ends) -> Ends:
        """Of both together."""
        return Ends(np.minimum(self.low, other.low), np.maximum(self.high, other.high))


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Of one layer over some inputs, whatever the register.

    `needs` (65,): how many outputs have running sums that need just so many bits. `spread`: of how
    many outputs the lowest, and of how many the highest running sum is in [EDGES[i], EDGES[i + 1]),
    the first and the last of which have no end; each output counts twice.
    """

    ends: Ends
    needs: IntArray
    spread: IntArray

    @property
    def outputs(self) -> int:
        """How many there were."""
        return int(self.needs.sum())

    def joined(self, other: Sums) -> Sums:
        """Of both together."""
        ends = self.ends.joined(other.ends)
        return Sums(ends, self.needs + other.needs, self.spread + other.spread)


def sums_of(layer: IntLayer, run: Run) -> Sums:
    """Of a run with peaks, and with at least one output."""
    assert run.peak_low is not None  # simulated with peaks
    assert run.peak_high is not None
    axis = 1 if layer.is_conv else -1
    low, high = (
        np.moveaxis(peak, axis, -1).reshape(-1, layer.channels)
        for peak in (run.peak_low, run.peak_high)
    )
    size = np.maximum(np.where(low < 0, ~low, low), np.where(high < 0, ~high, high))
    bits = 1 + np.searchsorted(_POWERS, size.ravel(), side="right")
    ends = np.concatenate([low.ravel(), high.ravel()])
    last = len(EDGES) - 2
    place = (np.searchsorted(EDGES, ends, side="right") - 1).clip(0, last)
    return Sums(
        Ends(low.min(axis=0), high.max(axis=0)),
        np.bincount(bits, minlength=len(_POWERS) + 2),
        np.bincount(place, minlength=last + 1),
    )


def gather(found: dict[str, Sums], name: str, layer: IntLayer, run: Run) -> None:
    """Join those of one more run to what is found of a layer. Of the run: as `sums_of`."""
    here = sums_of(layer, run)
    found[name] = found[name].joined(here) if name in found else here
