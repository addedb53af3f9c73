"""Inputs that drive a register to its extremes, and the one that overflows it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from accsim import bounds
from accsim._check import IntArray, integer
from accsim.arith import fold
from accsim.layer import IntLayer
from accsim.simulate import Run, simulate
from accsim.spec import Accumulator

__all__ = ["Witness", "find_witness", "image_with", "worst_inputs"]


@dataclass(frozen=True, slots=True, eq=False)
class Witness:
    """One legal input of one output channel that overflows a register.

    `step` is the first step that overflows: there the register holds `register`, the product is
    `product`, and their sum is outside the register. `exact` is the sum over all taps,
    `simulated` what the register ends with. Shapes: x (K,). `layer` is the channel alone, linear.
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
    low, high = layer.input_spec.min, layer.input_spec.max
    idle = min(max(0, low), high)
    x_low = np.select([row > 0, row < 0], [low, high], idle)
    x_high = np.select([row > 0, row < 0], [high, low], idle)
    return x_low.astype(np.int64), x_high.astype(np.int64)


def find_witness(layer: IntLayer, accumulator: Accumulator) -> Witness | None:
    """The witness of the channel that passes a rail by most; None if no unpadded sum overflows.

    The worst input of the shortest prefix that can overflow, then inputs as near 0 as they may be.
    """
    low, high = bounds.running_extremes(layer.rows, layer.input_spec, bias=layer.bias)
    excess = np.maximum(accumulator.min - low, high - accumulator.max)
    channel = int(excess.argmax())
    if excess[channel] <= 0:
        return None
    row = [int(q) for q in layer.rows[channel]]
    bias = 0 if layer.bias is None else int(layer.bias[channel])
    step, x = min(
        (_first_outside(row, x, bias, accumulator), x.tolist())
        for x in worst_inputs(layer, channel)
    )
    spec = layer.input_spec
    x[step + 1 :] = [min(max(0, spec.min), spec.max)] * (len(row) - step - 1)
    before = fold(row[:step], x[:step], accumulator, bias=bias)
    whole = fold(row, x, accumulator, bias=bias)
    alone = IntLayer(
        layer.rows[channel : channel + 1],
        weight_spec=layer.weight_spec,
        input_spec=spec,
        bias=None if layer.bias is None else layer.bias[channel : channel + 1],
    )
    return Witness(
        channel=channel,
        x=np.array(x, dtype=np.int64),
        step=step,
        register=before.output,
        product=row[step] * x[step],
        exact=bias + sum(q * v for q, v in zip(row, x, strict=True)),
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
    idle = min(max(0, layer.input_spec.min), layer.input_spec.max)
    image = np.full((1, inputs * groups, *size), idle, dtype=np.int64)
    first = channel // (layer.channels // groups) * inputs
    image[
        0,
        first : first + inputs,
        corner[0] :: dilation[0],
        corner[1] :: dilation[1],
    ] = np.reshape(x, (inputs, kh, kw))
    return image, (at[0], at[1])


def _first_outside(row: list[int], x: IntArray, bias: int, accumulator: Accumulator) -> int:
    """The first step whose exact running sum leaves the register; len(row) if none does."""
    products = (q * int(v) for q, v in zip(row, x, strict=True))
    sums = enumerate(accumulate(products, initial=bias), start=-1)
    return next((k for k, s in sums if not accumulator.min <= s <= accumulator.max), len(row))
