"""Inputs that drive a register to its extremes, and the one that overflows it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from accsim import bounds
from accsim._check import IntArray, integer
from accsim.arith import fold, reduce
from accsim.errors import SpecError
from accsim.layer import IntLayer
from accsim.padding import masked_extremes
from accsim.simulate import Run, simulate
from accsim.spec import Accumulator, IntSpec

__all__ = [
    "Witness",
    "alone_witness",
    "find_witness",
    "idle_input",
    "image_with",
    "witness_of",
    "worst_inputs",
]


@dataclass(frozen=True, slots=True, eq=False)
class Witness:
    """One legal input of one output channel that overflows a register.

    `step` is the first step that overflows: there the register holds `register`, the product is
    `product`, and their sum is outside the register. `exact` is the sum over all taps,
    `simulated` what the register ends with. Shapes: x (K,). `layer` is the channel alone, linear;
    a tap that falls on padding has the weight 0 there.
    """

    channel: int
    x: IntArray
    step: int
    register: int
    product: int
    exact: int
    simulated: int
    layer: IntLayer
    accumulator: Accumulator

    def replay(self) -> Run:
        """The simulator's run of this input; fields of shape (1,)."""
        return simulate(self.layer, self.x, self.accumulator)

    def products(self) -> tuple[list[int], int]:
        """What each step adds (K), and what the register starts at."""
        row, bias = _row_of(self.layer)
        return [q * v for q, v in zip(row, self.x.tolist(), strict=True)], bias

    def trajectory(self) -> tuple[list[int], list[int]]:
        """The exact running sum and the register, before the first step and after each: K + 1."""
        products, bias = self.products()
        register = accumulate(
            products, lambda acc, p: reduce(acc + p, self.accumulator), initial=bias
        )
        return list(accumulate(products, initial=bias)), list(register)

    def __str__(self) -> str:
        low, high = self.accumulator.min, self.accumulator.max
        return (
            f"channel {self.channel}, step {self.step}: {self.register} + {self.product} ="
            f" {self.register + self.product}, outside [{low}, {high}];"
            f" the {self.accumulator} ends at {self.simulated}, the exact sum is {self.exact}"
        )


def worst_inputs(layer: IntLayer, channel: int) -> tuple[IntArray, IntArray]:
    """The inputs that give one channel its lowest and its highest exact sum.

    Shapes: two arrays (K,), int64, in the index order of the channel's taps.
    Raises: SpecError for a channel that the layer does not have.
    """
    row = layer.rows[integer(channel, "channel", 0, layer.channels - 1)]
    return _worst(row, layer.input_spec)


def _worst(row: IntArray, spec: IntSpec) -> tuple[IntArray, IntArray]:
    """Inputs of the lowest and the highest sum of a row; `idle` where the weight is 0."""
    idle = idle_input(spec)
    x_low = np.select([row > 0, row < 0], [spec.min, spec.max], idle)
    x_high = np.select([row > 0, row < 0], [spec.max, spec.min], idle)
    return x_low.astype(np.int64), x_high.astype(np.int64)


def idle_input(spec: IntSpec) -> int:
    """The input nearest to 0."""
    return min(max(0, spec.min), spec.max)


def find_witness(layer: IntLayer, accumulator: Accumulator) -> Witness | None:
    """The witness of the channel that passes a rail by most; None if no sum can overflow.

    Of that channel's worst inputs the shortest prefix that overflows, every entry as near 0 as it
    may be: none of them can move toward 0 and the register still overflow.
    """
    worst = None
    for mask, low, high in masked_extremes(layer):
        excess = np.maximum(accumulator.min - low, high - accumulator.max)
        channel = int(excess.argmax())
        if excess[channel] > 0 and (worst is None or excess[channel] > worst[0]):
            worst = excess[channel], channel, mask
    if worst is None:
        return None
    _, channel, mask = worst
    row = (layer.rows[channel] * mask).tolist()
    bias = 0 if layer.bias is None else int(layer.bias[channel])
    spec = layer.input_spec
    ends = [x.tolist() for x in _worst(np.array(row, dtype=np.int64), spec)]
    first = min(ends, key=lambda x: (_first_outside(row, x, bias, accumulator), x))
    x = _minimal(row, first, bias, accumulator, spec)
    return witness_of(layer, channel, x, accumulator, mask=mask)


def witness_of(
    layer: IntLayer,
    channel: int,
    x: list[int],
    accumulator: Accumulator,
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


def alone_witness(alone: IntLayer, channel: int, x: list[int], accumulator: Accumulator) -> Witness:
    """The same of a channel that is a linear layer by itself already.

    Raises: SpecError for an input that overflows nothing.
    """
    weights, bias = _row_of(alone)
    whole = fold(weights, x, accumulator, bias=bias)
    step = whole.first_overflow
    if step < 0:
        raise SpecError(f"a witness must overflow the {accumulator}, not end at {whole.output}")
    return Witness(
        channel=channel,
        x=np.array(x, dtype=np.int64),
        step=step,
        register=fold(weights[:step], x[:step], accumulator, bias=bias).output,
        product=weights[step] * x[step],
        exact=bias + sum(q * v for q, v in zip(weights, x, strict=True)),
        simulated=whole.output,
        layer=alone,
        accumulator=accumulator,
    )


def image_with(layer: IntLayer, x: IntArray, channel: int) -> tuple[IntArray, tuple[int, int]]:
    """The smallest image in which one output of `channel` reads the taps `x`, and that output.

    Every other entry is as near 0 as the input range allows. The output's place is (row, column).

    Shapes: x (K,) -> image (1, I·groups, H, W), int64.
    """
    _, inputs, kh, kw = layer.weight.shape
    stride, padding, dilation, groups = layer.geometry
    at = [-(-padding[axis] // stride[axis]) for axis in (0, 1)]  # first output clear of padding
    corner = [at[axis] * stride[axis] - padding[axis] for axis in (0, 1)]
    size = [
        corner[axis] + dilation[axis] * (extent - 1) + 1 for axis, extent in enumerate((kh, kw))
    ]
    image = np.full((1, inputs * groups, *size), idle_input(layer.input_spec), dtype=np.int64)
    first = channel // (layer.channels // groups) * inputs
    image[
        0,
        first : first + inputs,
        corner[0] :: dilation[0],
        corner[1] :: dilation[1],
    ] = np.reshape(x, (inputs, kh, kw))
    return image, (at[0], at[1])


def _row_of(layer: IntLayer) -> tuple[list[int], int]:
    """Weights and bias of a layer of one channel."""
    return layer.rows[0].tolist(), 0 if layer.bias is None else int(layer.bias[0])


def _sums(row: list[int], x: list[int], bias: int) -> list[int]:
    """Exact running sums after each step."""
    return list(accumulate((q * v for q, v in zip(row, x, strict=True)), initial=bias))[1:]


def _first_outside(row: list[int], x: list[int], bias: int, accumulator: Accumulator) -> int:
    """The first step whose exact running sum leaves the register; len(row) if none does."""
    sums = enumerate(_sums(row, x, bias))
    return next((k for k, s in sums if not accumulator.min <= s <= accumulator.max), len(row))


def _minimal(
    row: list[int], x: list[int], bias: int, accumulator: Accumulator, spec: IntSpec
) -> list[int]:
    """The input with every entry moved toward 0 as far as the register still overflows.

    An entry gives up what the sum at the failing step exceeds the rail by. With 0 among the inputs
    nothing else can fail meanwhile, since all entries pull the same way. Without it a sum may leave
    the register at the other rail, so that in the end each entry is tried by itself; the moves of
    one entry after which a sum is outside are the first few or the last few, as sums are linear.
    """
    idle, step = idle_input(spec), len(row)
    while (first := _first_outside(row, x, bias, accumulator)) < step:
        step = first
        x = x[: step + 1] + [idle] * (len(row) - step - 1)
        reached = _sums(row, x, bias)[step]
        side = 1 if reached > accumulator.max else -1
        room = (reached - accumulator.max if side > 0 else accumulator.min - reached) - 1
        for k in range(step + 1):
            pull = side * row[k] * (x[k] - idle)
            if pull <= 0:
                x[k], room = idle, room - pull
        for k in range(step + 1):
            if x[k] != idle:
                moves = min(abs(x[k] - idle), room // abs(row[k]))
                room -= moves * abs(row[k])
                x[k] += moves if x[k] < idle else -moves
    if not spec.contains_zero:
        while (nearer := _one_nearer(row, x, bias, accumulator, idle)) is not None:
            x = nearer
    return x


def _one_nearer(
    row: list[int], x: list[int], bias: int, accumulator: Accumulator, idle: int
) -> list[int] | None:
    """The input with one entry nearer to 0 that still overflows, if there is one.

    An entry moves all sums from its own on alike, so their extremes tell whether one is outside.
    """
    sums = _sums(row, x, bias)
    highest, lowest = (list(accumulate(reversed(sums), pick))[::-1] for pick in (max, min))
    step = _first_outside(row, x, bias, accumulator)
    for k, value in enumerate(x):
        if value != idle:
            for nearer in (idle, value + (1 if value < idle else -1)):
                moved = row[k] * (nearer - value)
                outside = (
                    highest[k] + moved > accumulator.max or lowest[k] + moved < accumulator.min
                )
                if outside or k > step:  # what comes after does not matter
                    return [*x[:k], nearer, *x[k + 1 :]]
    return None
