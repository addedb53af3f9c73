"""Two registers on one network and the same data: where they differ, and what comes of it.

A whole network needs the extra "train".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from accsim._check import IntArray
from accsim.arith import reduce
from accsim.datapath import Datapath
from accsim.extras import require
from accsim.layer import IntLayer
from accsim.network import Network
from accsim.simulate import Run, simulate
from accsim.spec import Accumulator
from verification.datapaths import places_of, plain
from verification.outputs import classes, differences
from verification.properties import tap_products_at

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Comparison", "Difference", "How", "compare", "compare_layer", "compare_network"]


How = Accumulator | Datapath


@dataclass(frozen=True, slots=True)
class Difference:
    """One layer on the same codes in both registers, those of the first network.

    How many of its `outputs` differ, in which channels and samples (places along the first axis of
    its inputs), and the first step after which the registers of any of these hold different
    numbers: -1 if none ends otherwise.
    Where one is a datapath, other registers hold other sums all the time; `first_step` is then the
    first place at which either overflows, until when all sums are exact, and -1 too where the two
    take the products in different orders.
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


def compare_layer(layer: IntLayer, x: object, first: How, second: How) -> Difference:
    """Run one layer on the codes x with two registers or datapaths. Shapes, raises: `simulate`."""
    registers = (first, second)
    runs = [simulate(layer, x, register, peaks=False) for register in registers]
    return _difference(layer, np.asarray(x), registers, runs)


def compare(model: nn.Module, x: Tensor, first: How, second: How) -> Comparison:
    """Run a quantized model on x with two registers, and tell where they differ.

    Layers are compared on the same codes, so that a difference is the layer's own; the outputs are
    those of two whole networks, in which differences go on from layer to layer.

    Shapes: x (B, ...). Raises: as `a2qplus.to_integer`.
    """
    require("torch", extra="train", purpose="the comparison of two registers on a network")
    from a2qplus import to_integer
    from a2qplus.layers import quantized_layers

    found: dict[str, list[Difference]] = {}
    names = quantized_layers(model)

    def watch(name: str, layer: IntLayer, codes: IntArray, run: Run) -> None:
        if name in names:
            runs = [run, simulate(layer, codes, second, peaks=False)]
            one_call = _difference(layer, codes, (first, second), runs)
            found.setdefault(name, []).append(one_call)

    one = to_integer(model, first, watch=watch)(x)
    two = to_integer(model, second)(x)
    classes = [each.reshape(len(each), -1).argmax(dim=1) for each in (one, two)]
    changed = (classes[0] != classes[1]).nonzero()
    return Comparison(
        {name: _together(parts) for name, parts in found.items()},
        float((one - two).abs().max()) if one.numel() else 0.0,
        tuple(changed.flatten().tolist()),
    )


def compare_network(
    network: Network,
    inputs: Mapping[str, Any],
    first: How,
    second: How,
    *,
    batch: int | None = None,
    told: Callable[[int, int], object] = lambda *_: None,
) -> Comparison:
    """`compare` of a network as a model file holds it; samples of a layer count over all batches.

    Raises: as `Network.run`.
    """
    found: dict[str, list[Difference]] = {}
    seen: Counter[str] = Counter()

    def watch(name: str, layer: IntLayer, codes: IntArray, run: Run) -> None:
        if name in network.layers:
            runs = [run, simulate(layer, codes, second, peaks=False)]
            one_call = _difference(layer, codes, (first, second), runs)
            samples = tuple(seen[name] + sample for sample in one_call.samples)
            found.setdefault(name, []).append(replace(one_call, samples=samples))
            seen[name] += len(codes) if codes.ndim > 1 else 1

    one = network.run(inputs, first, batch=batch, watch=watch, told=told).outputs
    two = network.run(inputs, second, batch=batch, told=told).outputs
    return Comparison(
        {name: _together(parts) for name, parts in found.items()},
        float(differences(one, two).max(initial=0.0)),
        tuple(np.flatnonzero(classes(one) != classes(two)).tolist()),
    )


def _difference(
    layer: IntLayer, x: IntArray, registers: tuple[How, How], runs: list[Run]
) -> Difference:
    one, two = runs
    differs = one.output != two.output
    at = np.nonzero(differs)
    return Difference(
        one.output.size,
        int(differs.sum()),
        _sorted(at[1 if layer.is_conv else -1].tolist()),
        _sorted(at[0].tolist() if one.output.ndim > 1 else [0] * bool(differs.any())),
        _first_step(layer, x, registers, [run.first_overflow for run in runs], at),
    )


def _first_step(
    layer: IntLayer,
    x: IntArray,
    registers: tuple[How, How],
    overflows: list[IntArray],
    at: tuple[IntArray, ...],
) -> int:
    """The first step after which two registers differ, of the outputs `at`; -1 without any.

    Until one overflows both hold the exact sum. If it is one alone, they differ then. If both do
    at one step they may still agree, and are followed from there; not so datapaths (`Difference`).
    """
    one, two = (plain(register) for register in registers)
    orders = [places_of(register, layer.taps) for register in (one, two)]
    never = max(map(len, orders)) + 1
    first = np.stack([np.where(steps[at] < 0, never, steps[at]) for steps in overflows])
    if isinstance(one, Datapath) or isinstance(two, Datapath):
        return int(first.min()) if at[0].size and orders[0] == orders[1] else -1
    least = never
    for k in np.argsort(first.min(axis=0), kind="stable").tolist():
        step = int(first[:, k].min())
        if step >= least:
            break
        if first[0, k] == first[1, k]:
            place = tuple(int(axis[k]) for axis in at)
            step = _follow(*tap_products_at(layer, x, place), (one, two))
        least = min(least, step)
    return least if at[0].size else -1


def _follow(products: list[int], bias: int, registers: tuple[Accumulator, Accumulator]) -> int:
    """The step after which two registers first hold different numbers, as they end with."""

    def held(register: Accumulator) -> Iterator[int]:
        return accumulate(products, lambda acc, p: reduce(acc + p, register), initial=bias)

    one, two = (held(register) for register in registers)
    return next(k for k, (a, b) in enumerate(zip(one, two, strict=True)) if a != b) - 1


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
