"""Two registers on one network and the same data: where they differ, and what comes of it.

A whole network needs the extra "train".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from accsim._check import IntArray
from accsim.extras import require
from accsim.layer import IntLayer
from accsim.simulate import Run, simulate
from accsim.spec import Accumulator

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Comparison", "Difference", "compare", "compare_layer"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One layer on the same codes in both registers, those of the first network.

    How many of its `outputs` differ, in which channels and samples, and the first step at which any
    register holds another number than its twin: -1 if none ends otherwise.
    """

    outputs: int
    differing: int
    channels: tuple[int, ...]
    samples: tuple[int, ...]
    first_step: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two registers make of a network: each layer by itself, then both networks' outputs.

    `largest`: the largest difference of an output number. `changed`: the samples whose largest
    output is at another place.
    """

    layers: dict[str, Difference]
    largest: float
    changed: tuple[int, ...]


def compare_layer(
    layer: IntLayer, x: object, first: Accumulator, second: Accumulator
) -> Difference:
    """Run one layer on the codes x with two registers. Shapes, raises: as `simulate`."""
    return _difference(layer, simulate(layer, x, first), simulate(layer, x, second))


def compare(model: nn.Module, x: Tensor, first: Accumulator, second: Accumulator) -> Comparison:
    """Run a quantized model on x with two registers, and tell where they differ.

    Layers are compared on the same codes, so that a difference is the layer's own; the outputs are
    those of two whole networks, in which differences go on from layer to layer.

    Shapes: x (B, ...). Raises: as `a2qplus.to_integer`.
    """
    require("torch", extra="train", purpose="the comparison of two registers on a network")
    from a2qplus import to_integer, to_layers

    found: dict[str, list[Difference]] = {}
    names = to_layers(model)

    def watch(name: str, layer: IntLayer, codes: IntArray, run: Run) -> None:
        if name in names:
            one_call = _difference(layer, run, simulate(layer, codes, second))
            found.setdefault(name, []).append(one_call)

    one = to_integer(model, first, watch=watch)(x)
    two = to_integer(model, second)(x)
    changed = (one.flatten(1).argmax(dim=1) != two.flatten(1).argmax(dim=1)).nonzero()
    return Comparison(
        {name: _together(parts) for name, parts in found.items()},
        float((one - two).abs().max()) if one.numel() else 0.0,
        tuple(changed.flatten().tolist()),
    )


def _difference(layer: IntLayer, one: Run, two: Run) -> Difference:
    differs = one.output != two.output
    at = np.nonzero(differs)
    steps = np.stack([one.first_overflow[differs], two.first_overflow[differs]])
    # until either overflows both hold the exact sum
    first = np.where(steps < 0, np.iinfo(np.int32).max, steps).min(initial=np.iinfo(np.int32).max)
    return Difference(
        one.output.size,
        int(differs.sum()),
        _sorted(at[1 if layer.is_conv else -1].tolist()),
        _sorted(at[0].tolist()),
        int(first) if differs.any() else -1,
    )


def _together(parts: list[Difference]) -> Difference:
    """All calls of one layer."""
    steps = [part.first_step for part in parts if part.first_step >= 0]
    return Difference(
        sum(part.outputs for part in parts),
        sum(part.differing for part in parts),
        _sorted(channel for part in parts for channel in part.channels),
        _sorted(sample for part in parts for sample in part.samples),
        min(steps, default=-1),
    )


def _sorted(numbers: Iterable[int]) -> tuple[int, ...]:
    """Each once, in order."""
    return tuple(sorted(set(numbers)))
