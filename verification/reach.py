"""From inputs of a network to its registers: what is proved, what data reach, what an attack does.

Needs the extra "train".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from accsim._check import IntArray, integer
from accsim.errors import ModelError, ShapeError
from accsim.extras import require
from accsim.layer import IntLayer
from accsim.padding import exact_extremes
from accsim.simulate import Run
from accsim.spec import Accumulator
from verification.sums import Ends, Sums, gather

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Reach", "reach"]

MOST_STEPS = 10**6
_STARTS = 16  # of a climb: half of them data
_WIDE = 48  # bits, of a register that no layer here overflows
_FIRST_STEP, _LAST_STEP = 0.2, 0.01  # of the width of the input range


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """Of one layer: `proved` over all inputs of its own, `data` over the given inputs of the
    network, `attack` over those and the ones that were searched for.

    data <= attack <= proved, since a layer's inputs are not free in a network. `inputs` are those
    two of the network with which the layer goes lowest and highest; by themselves they reach it.
    Shapes: inputs (2, ...).
    """

    proved: Ends
    data: Sums
    attack: Ends
    inputs: Tensor


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

    A layer whose outputs are not one row or more for each input in turn is not attacked, nor one
    that x does not reach. `on_layer` is called with each name before it is. Shapes: x (B, ...).
    Raises: as `a2qplus.to_integer`; ModelError for inputs that are no floats; ShapeError without
    any; SpecError for `steps`.
    """
    require("torch", extra="train", purpose="an attack on a network")
    import torch

    from a2qplus import to_layers

    if not x.is_floating_point():
        raise ModelError(f"x must be floats for an attack to change them, not {x.dtype}")
    if len(x) == 0:
        raise ShapeError("x must have at least one input")
    integer(steps, "steps", 0, MOST_STEPS)
    layers = to_layers(model)
    proved = {name: Ends(*exact_extremes(layer)) for name, layer in layers.items()}
    reached = _integers(model)
    data = reached(x, proved)
    attack = dict(data)
    generator = torch.Generator().manual_seed(seed)
    for name in data:
        on_layer(name)
        goals = _goals(proved[name], data[name].sums.ends)
        target = _Target(name, layers[name].is_conv, goals)
        found = reached(_driven(model, x, target, steps, generator), proved)
        attack = {
            each: _farther(seen, found[each]) if each in found else seen
            for each, seen in attack.items()
        }
    return {
        name: Reach(
            proved[name],
            data[name].sums,
            attack[name].sums.ends,
            _two_inputs(reached, name, attack[name]),
        )
        for name in data
    }


class _Seen(NamedTuple):
    """Of one layer, and the inputs of the network among which it goes lowest, and highest."""

    sums: Sums
    lowest: Tensor
    highest: Tensor


Reached = Callable[[Any, Collection[str]], dict[str, _Seen]]  # inputs of the network, and layers


def _farther(one: _Seen, two: _Seen) -> _Seen:
    """Both together."""
    a, b = one.sums.ends, two.sums.ends
    return _Seen(
        one.sums.joined(two.sums),
        one.lowest if a.low.min() <= b.low.min() else two.lowest,
        one.highest if a.high.max() >= b.high.max() else two.highest,
    )


class _Goal(NamedTuple):
    channel: int
    side: int  # 1: up, -1: down


class _Target(NamedTuple):
    name: str
    is_conv: bool
    goals: list[_Goal]


def _goals(proved: Ends, data: Ends) -> list[_Goal]:
    """Channels and sides to drive: those proved to reach farthest, and those that data do."""
    farthest = [_Goal(int(ends.high.argmax()), 1) for ends in (proved, data)]
    farthest += [_Goal(int(ends.low.argmin()), -1) for ends in (proved, data)]
    return sorted(set(farthest))


def _integers(model: nn.Module) -> Reached:
    """The integer network, made once: what its registers hold, of some layers, over inputs."""
    from a2qplus import to_integer

    found: dict[str, Sums] = {}
    wanted: Collection[str] = ()

    def watch(name: str, layer: IntLayer, _: IntArray, run: Run) -> None:
        if name in wanted and run.output.size:
            gather(found, name, layer, run)

    network = to_integer(model, Accumulator(_WIDE), watch=watch)

    def reached(x: Tensor, layers: Collection[str]) -> dict[str, _Seen]:
        nonlocal wanted
        wanted = layers
        found.clear()
        network(x)
        return {name: _Seen(sums, x, x) for name, sums in found.items()}

    return reached


def _two_inputs(reached: Reached, name: str, seen: _Seen) -> Tensor:
    """The input with which the layer goes lowest, and highest, by itself: (2, ...)."""
    import torch

    def by_itself(x: Tensor, attains: Callable[[Ends], bool]) -> Tensor:
        while len(x) > 1:
            half = x[: len(x) // 2]
            seen = reached(half, {name}).get(name)
            x = half if seen and attains(seen.sums.ends) else x[len(half) :]
        return x

    low, high = int(seen.sums.ends.low.min()), int(seen.sums.ends.high.max())
    return torch.cat(
        [
            by_itself(seen.lowest, lambda ends: int(ends.low.min()) == low),
            by_itself(seen.highest, lambda ends: int(ends.high.max()) == high),
        ]
    )


def _driven(model: nn.Module, x: Tensor, target: _Target, steps: int, generator: Any) -> Tensor:
    """The best inputs of a climb toward each goal, from data and from drawn ones: (tried, ...)."""
    import torch

    from a2qplus.modules import evaluating

    low, high = x.min(), x.max()
    rows = torch.randperm(len(x), generator=generator)[: _STARTS // 2]
    drawn = torch.rand(_STARTS - len(rows), *x.shape[1:], generator=generator)
    starts = torch.cat([x[rows], drawn.to(x.dtype) * (high - low) + low]).detach()
    z = torch.cat([starts] * len(target.goals))
    channel, side = torch.tensor(target.goals).repeat_interleave(_STARTS, dim=0).unbind(dim=1)
    best, reached = z, torch.full((len(z),), -torch.inf)
    with torch.enable_grad(), evaluating(model), _outputs_of(model, target.name) as outputs:
        for step in range(steps):
            z = z.detach().requires_grad_(True)
            outputs.clear()
            model(z)
            if not outputs or len(outputs[-1]) != len(z) or outputs[-1].ndim < 2:
                break
            sums = outputs[-1].movedim(1 if target.is_conv else -1, 1)
            wanted = sums[torch.arange(len(z)), channel].reshape(len(z), -1)
            top = (side[:, None] * wanted).amax(dim=1)
            better = (top > reached).reshape(-1, *[1] * (z.ndim - 1))
            best, reached = torch.where(better, z, best).detach(), reached.maximum(top.detach())
            slope: Any = None
            if top.requires_grad:
                (slope,) = torch.autograd.grad(top.sum(), z, allow_unused=True)
            if slope is None:  # these outputs do not depend on the input
                break
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
