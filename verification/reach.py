"""From inputs of a network to its registers: what is proved, what data reach, what an attack does.

Needs the extra "train".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from accsim._check import IntArray
from accsim.errors import ModelError
from accsim.extras import require
from accsim.layer import IntLayer
from accsim.simulate import Run
from accsim.spec import Accumulator, bits_to_hold
from verification.padding import exact_extremes

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Ends", "Reach", "reach"]

_STARTS = 16  # of a climb: half of them data
_WIDE = 48  # bits, of a register that no layer here overflows
_FIRST_STEP, _LAST_STEP = 0.2, 0.01  # of the width of the input range


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
        """How far they go toward a rail: 1 on it, more beyond."""
        return max(
            int(self.high.max()) / accumulator.max if accumulator.max else 0.0,
            int(self.low.min()) / accumulator.min if accumulator.min else 0.0,
        )

    def joined(self, other: Ends) -> Ends:
        """Of both together."""
        return Ends(np.minimum(self.low, other.low), np.maximum(self.high, other.high))


@dataclass(frozen=True, slots=True)
class Reach:
    """Of one layer: `proved` over all inputs of its own, `data` over the given inputs of the
    network, `attack` over those and the ones that were searched for.

    data <= attack <= proved, since a layer's inputs are not free in a network.
    """

    proved: Ends
    data: Ends
    attack: Ends


def reach(
    model: nn.Module,
    x: Tensor,
    *,
    steps: int = 30,
    seed: int = 0,
    on_layer: Callable[[str], object] = lambda _: None,
) -> dict[str, Reach]:
    """Of every quantized layer with weights: what is proved, what `x` reaches, and an attack.

    The attack is projected gradient ascent on inputs of the network, inside the range of x, through
    the quantized model: for each layer toward both rails, of the channel that is proved to reach
    farthest and of the one that the data drive farthest. What it finds is not taken from torch: the
    integer network runs on the best inputs of each climb, and what its registers held counts.

    `on_layer` is called with each name before it is attacked. Shapes: x (B, ...).
    Raises: as `a2qplus.to_integer`.
    """
    require("torch", extra="train", purpose="an attack on a network")
    import torch

    from a2qplus import to_layers

    if not x.is_floating_point():
        raise ModelError(f"x must be floats for an attack to change them, not {x.dtype}")
    proved = {name: _proved(layer) for name, layer in to_layers(model).items()}
    data = _reached(model, x, proved)
    attack = dict(data)
    generator = torch.Generator().manual_seed(seed)
    for name in data:
        on_layer(name)
        tried = [
            _driven(model, x, _Goal(name, channel, side), steps, generator)
            for channel, side in _goals(proved[name], data[name])
        ]
        found = _reached(model, torch.cat(tried), proved)
        attack = {each: attack[each].joined(found[each]) for each in attack}
    return {name: Reach(proved[name], data[name], attack[name]) for name in data}


class _Goal(NamedTuple):
    layer: str
    channel: int
    side: int  # 1: up, -1: down


def _goals(proved: Ends, data: Ends) -> list[tuple[int, int]]:
    """Channels and sides to drive: those proved to reach farthest, and those that data do."""
    farthest = [(int(ends.high.argmax()), 1) for ends in (proved, data)]
    farthest += [(int(ends.low.argmin()), -1) for ends in (proved, data)]
    return sorted(set(farthest))


def _proved(layer: IntLayer) -> Ends:
    """The exact extremes over every input of the layer."""
    return Ends(*exact_extremes(layer))


def _reached(model: nn.Module, x: Tensor, layers: Mapping[str, Any]) -> dict[str, Ends]:
    """What the registers of the integer network hold over inputs of the network."""
    from a2qplus import to_integer

    found: dict[str, Ends] = {}

    def watch(name: str, layer: IntLayer, _: IntArray, run: Run) -> None:
        if name in layers and run.output.size:
            assert run.peak_low is not None and run.peak_high is not None  # noqa: PT018
            axis = 1 if layer.is_conv else -1
            low, high = (
                np.moveaxis(peak, axis, -1).reshape(-1, layer.channels)
                for peak in (run.peak_low, run.peak_high)
            )
            ends = Ends(low.min(axis=0), high.max(axis=0))
            found[name] = found[name].joined(ends) if name in found else ends

    to_integer(model, Accumulator(_WIDE), watch=watch)(x)
    return found


def _driven(model: nn.Module, x: Tensor, goal: _Goal, steps: int, generator: Any) -> Tensor:
    """The best inputs of a climb toward a rail from data and from drawn ones: (starts, ...)."""
    import torch

    from a2qplus.modules import evaluating

    low, high = x.min(), x.max()
    rows = torch.randperm(len(x), generator=generator)[: _STARTS // 2]
    drawn = torch.rand(_STARTS - len(rows), *x.shape[1:], generator=generator)
    z = torch.cat([x[rows], drawn.to(x.dtype) * (high - low) + low]).detach()
    best, reached = z, torch.full((len(z),), -torch.inf)
    with evaluating(model), _outputs_of(model, goal.layer) as outputs:
        for step in range(steps):
            z = z.detach().requires_grad_(True)
            outputs.clear()
            model(z)
            axis = 1 if outputs[-1].ndim == 4 else -1
            sums = goal.side * outputs[-1].movedim(axis, 0)[goal.channel].reshape(len(z), -1)
            top = sums.amax(dim=1)
            better = (top > reached).reshape(-1, *[1] * (z.ndim - 1))
            best, reached = torch.where(better, z, best).detach(), reached.maximum(top.detach())
            (slope,) = torch.autograd.grad(top.sum(), z)
            rate = _FIRST_STEP * (_LAST_STEP / _FIRST_STEP) ** (step / max(1, steps - 1))
            z = (z + rate * (high - low) * slope.sign()).clamp(low, high)
    return best


@contextmanager
def _outputs_of(model: nn.Module, name: str) -> Iterator[list[Tensor]]:
    """The outputs of one module meanwhile, which grow with its integer sums, channel by channel."""
    outputs: list[Tensor] = []
    handle = model.get_submodule(name).register_forward_hook(
        lambda _, __, output: outputs.append(output)
    )
    try:
        yield outputs
    finally:
        handle.remove()
