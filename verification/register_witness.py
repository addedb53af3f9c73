"""The input that overflows a register, every entry as near 0 as it may be."""

from __future__ import annotations

from itertools import accumulate

import numpy as np

from accsim.layer import IntLayer
from accsim.padding import masked_extremes
from accsim.spec import Accumulator, IntSpec
from verification.witness import Witness, witness_of
from verification.worst import idle_input, worst_of

__all__ = ["find_witness"]


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
    ends = [x.tolist() for x in worst_of(np.array(row, dtype=np.int64), spec)]
    first = min(ends, key=lambda x: (_first_outside(row, x, bias, accumulator), x))
    x = _minimal(row, first, bias, accumulator, spec)
    return witness_of(layer, channel, x, accumulator, mask=mask)


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
