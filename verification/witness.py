"""A witness: one input of one channel that overflows a register, and what it does there."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from accsim import bounds
from accsim._check import IntArray
from accsim.arith import fold, reduce
from accsim.datapath import Datapath
from accsim.errors import SpecError
from accsim.layer import IntLayer
from accsim.simulate import Run, simulate
from accsim.spec import Accumulator
from verification.datapaths import plain
from verification.traces import Trace, trace

__all__ = ["Witness", "alone_witness", "witness_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Witness:
    """One legal input of one output channel that overflows a register.

    `step` is the first step that overflows: there the register holds `register`, the product is
    `product`, and their sum is outside the register. `exact` is the sum over all taps,
    `simulated` what the register ends with. Shapes: x (K,). `layer` is the channel alone, linear;
    a tap that falls on padding has the weight 0 there.
    Of a datapath `level` is the level that overflows first, the innermost of several at once;
    `step` the place of the product that it does so with, `register` what its register holds, or
    has summed since it last settled, and `product` the item that it is handed.
    """

    channel: int
    x: IntArray
    step: int
    register: int
    product: int
    exact: int
    simulated: int
    layer: IntLayer
    accumulator: Accumulator | Datapath
    level: int | None = None

    def replay(self) -> Run:
        """The simulator's run of this input; fields of shape (1,)."""
        return simulate(self.layer, self.x, self.accumulator)

    @property
    def rails(self) -> Accumulator:
        """The register that overflows."""
        if isinstance(self.accumulator, Accumulator):
            return self.accumulator
        assert self.level is not None
        return self.accumulator.levels[self.level]

    @property
    def added(self) -> int:
        """Which of the items of its group, or of the products, overflows it."""
        return self.step if self.level is None else self.group().failing

    def group(self) -> Trace:
        """What the level that overflows is handed in that group. Of a datapath's witness."""
        return _group(self.layer, self.x.tolist(), self.accumulator, self.level or 0, self.step)

    def taps(self) -> tuple[list[int], int]:
        """The products (K) in index order, and the bias."""
        row, bias = _row_of(self.layer)
        return [q * v for q, v in zip(row, self.x.tolist(), strict=True)], bias

    def products(self) -> tuple[list[int], int]:
        """What each step adds (K), and what the register starts at; of a level, its group's."""
        if self.level is None:
            return self.taps()
        group = self.group()
        return group.items, group.start

    def trajectory(self) -> tuple[list[int], list[int]]:
        """The exact running sum and the register, before the first step and after each: K + 1.

        Of a datapath those of the level that overflows, over the items of that group.
        """
        if self.level is not None:
            group = self.group()
            return group.exact, group.held
        products, bias = self.products()
        register = accumulate(products, lambda acc, p: reduce(acc + p, self.rails), initial=bias)
        return list(accumulate(products, initial=bias)), list(register)

    def __str__(self) -> str:
        rails = self.rails
        level = "" if self.level is None else f" of level {self.level} ({rails})"
        whole = "datapath" if self.level is not None else str(self.accumulator)
        return (
            f"channel {self.channel}, step {self.step}: {self.register} + {self.product} ="
            f" {self.register + self.product}, outside [{rails.min}, {rails.max}]{level};"
            f" the {whole} ends at {self.simulated}, the exact sum is {self.exact}"
        )


def witness_of(
    layer: IntLayer,
    channel: int,
    x: list[int],
    accumulator: Accumulator | Datapath,
    *,
    mask: IntArray | None = None,
) -> Witness:
    """The witness that an input of one channel is; `mask` tells the taps inside the image.

    Raises: SpecError for an input that overflows nothing.
    """
    row, spec = layer.rows[channel : channel + 1], layer.weight_spec
    if mask is not None and not mask.all():
        row, spec = row * mask, bounds.idle_too(spec)
    alone = IntLayer(
        row,
        weight_spec=spec,
        input_spec=layer.input_spec,
        bias=None if layer.bias is None else layer.bias[channel : channel + 1],
    )
    return alone_witness(alone, channel, x, accumulator)


def alone_witness(
    alone: IntLayer, channel: int, x: list[int], accumulator: Accumulator | Datapath
) -> Witness:
    """The same of a channel that is a linear layer by itself already.

    Raises: SpecError for an input that overflows nothing.
    """
    accumulator = plain(accumulator)
    weights, bias = _row_of(alone)
    whole = fold(weights, x, accumulator, bias=bias)
    step = whole.first_overflow
    if step < 0:
        raise SpecError(f"a witness must overflow {_the(accumulator)}, not end at {whole.output}")
    level = None
    if isinstance(accumulator, Datapath):
        level = next(i for i, one in enumerate(whole.levels) if one.first_overflow == step)
        group = _group(alone, x, accumulator, level, step)
        register, product = group.held[group.failing], group.items[group.failing]
    else:
        register = fold(weights[:step], x[:step], accumulator, bias=bias).output
        product = weights[step] * x[step]
    return Witness(
        channel=channel,
        x=np.array(x, dtype=np.int64),
        step=step,
        register=register,
        product=product,
        exact=bias + sum(q * v for q, v in zip(weights, x, strict=True)),
        simulated=whole.output,
        layer=alone,
        accumulator=accumulator,
        level=level,
    )


def _the(accumulator: Accumulator | Datapath) -> str:
    """As it is called in a sentence."""
    return f"the {accumulator}" if isinstance(accumulator, Accumulator) else "some level"


def _group(
    alone: IntLayer, x: list[int], accumulator: Accumulator | Datapath, level: int, step: int
) -> Trace:
    """What a level is handed in the group that the product at place `step` is in."""
    assert isinstance(accumulator, Datapath)
    row, bias = _row_of(alone)
    places = accumulator.places(len(row)).tolist()
    products = [0 if k < 0 else row[k] * x[k] for k in places]
    return trace(products, accumulator, level, step, bias=bias)


def _row_of(layer: IntLayer) -> tuple[list[int], int]:
    """Weights and bias of a layer of one channel."""
    return layer.rows[0].tolist(), 0 if layer.bias is None else int(layer.bias[0])
