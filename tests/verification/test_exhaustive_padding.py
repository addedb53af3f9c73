"""Convolutions with padding, inputs with and without 0: every weight and every image enumerated.

`CONFIGURATIONS` and `CASES` count what `test_registers` compares: a case is one output.
"""

from collections import Counter
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
from enumeration import every, holdings

from accsim import Accumulator, IntLayer, IntSpec, Overflow, between, signed, simulate
from verification import Verdict, decide, widths


class Case(NamedTuple):
    """A geometry, the ranges of its operands, and the largest image tried."""

    kernel: tuple[int, int]
    weights: IntSpec
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: int
    inputs: IntSpec
    image: tuple[int, int]


PAIRS = [between(1, 2), between(-3, -2), between(4, 4), between(0, 1)]
ROW = product(
    [(1, 2)], [signed(3)], [(1, 1), (1, 2), (1, 3)], [(0, 1), (0, 2), (1, 0)], [1, 2],
    [*PAIRS, between(2, 4)], [(1, 6)],
)  # fmt: skip
COLUMN = product(
    [(3, 1)], [between(-2, 2)], [(1, 1), (2, 1)], [(1, 0), (2, 0)], [1], PAIRS, [(6, 1)]
)
SQUARE = product(
    [(2, 2)], [signed(2)], [(1, 1), (2, 2)], [(1, 1), (0, 1)], [1], PAIRS, [(3, 3)]
)  # fmt: skip
LINES = [Case(*case) for case in [*ROW, *COLUMN]]
SQUARES = [Case(*case) for case in SQUARE]
CONFIGURATIONS, CASES = 5088, 494_463_456
WIDE = Accumulator(30)


def layer_of(case, start=None):
    """Every weight of a geometry as a channel of its own."""
    rows = every(case.weights, case.kernel[0] * case.kernel[1])
    return IntLayer(
        rows.reshape(-1, 1, *case.kernel),
        weight_spec=case.weights,
        input_spec=case.inputs,
        bias=None if start is None else [start] * len(rows),
        stride=case.stride,
        padding=case.padding,
        dilation=case.dilation,
    )


def images(case):
    """All images up to the largest that have an output, size by size: (images, 1, H, W)."""
    for size in product(*(range(1, most + 1) for most in case.image)):
        spans = [case.dilation * (taps - 1) for taps in case.kernel]
        if all(size[axis] + 2 * case.padding[axis] > spans[axis] for axis in (0, 1)):
            yield every(case.inputs, size[0] * size[1]).reshape(-1, 1, *size)


def name(case):
    """What tells cases apart."""
    kernel, _, stride, padding, dilation, inputs, _ = case
    return f"{kernel} stride {stride} padding {padding} dilation {dilation} {inputs}"


def per_channel(runs, field, end):
    """The least or greatest (`end`) of a field over all images and places, for each channel."""
    of = {"min": np.minimum, "max": np.maximum}[end]
    return of.reduce([of.reduce(getattr(run, field), axis=(0, 2, 3)) for run in runs])


@pytest.mark.parametrize("case", LINES + SQUARES, ids=name)
def test_widths(case):
    """For every step, for the end, and with a preload: what all images need, and no more."""
    runs = [simulate(layer_of(case), x, WIDE) for x in images(case)]
    low, high = per_channel(runs, "peak_low", "min"), per_channel(runs, "peak_high", "max")
    last = [per_channel(runs, "output", end) for end in ("min", "max")]
    for start in (-3, 0, 6):
        found = widths(layer_of(case, start))
        assert found.every_step.tolist() == holdings(low + start, high + start)
        assert found.final.tolist() == holdings(last[0] + start, last[1] + start)
    preloaded = widths(layer_of(case)).preloaded
    assert preloaded.tolist() == [max(1, int(d).bit_length()) for d in high - low]


def registers():
    """Registers of both rules and signs, each from its rails and from between them."""
    for bits, rule, is_signed in product(range(2, 6), Overflow, (True, False)):
        register = Accumulator(bits, rule, signed=is_signed)
        for start in (register.min, register.max // 2, register.max):
            yield register, start


@pytest.mark.parametrize("case", LINES, ids=name)
def test_registers(case):
    """What is decided is what the images do: verdict, channels, and a wraparound's end."""
    exact = [simulate(layer_of(case), x, WIDE).output for x in images(case)]
    for register, start in registers():
        layer = layer_of(case, start)
        runs = [simulate(layer, x, register) for x in images(case)]
        unsafe = per_channel(runs, "overflow_count", "max") > 0
        report = decide(layer, register)
        assert report.unsafe_channels == tuple(np.flatnonzero(unsafe).tolist())
        assert report.verdict is (Verdict.REFUTED if unsafe.any() else Verdict.PROVED)
        if register.overflow is Overflow.WRAP:
            wrong = [run.output != sums + start for run, sums in zip(runs, exact, strict=True)]
            right = ~np.any([w.any(axis=(0, 2, 3)) for w in wrong], axis=0)
            assert report.wrap_exact == right.all()
            if right.any():  # though some of these channels overflow on the way
                ending = replace(layer, weight=layer.weight[right], bias=layer.bias[right])
                assert decide(ending, register).wrap_exact
        if unsafe.any():
            assert report.witness.replay().overflow_count.all()


def test_the_grid_is_complete():
    """The grid has the documented number of configurations and cases."""
    found = Counter()
    for case in LINES:
        number = len(list(registers()))
        shapes = [layer_of(case).output_shape(x.shape) for x in images(case)]
        found["configurations"] += number
        found["cases"] += number * sum(int(np.prod(shape)) for shape in shapes)
    assert found == {"configurations": CONFIGURATIONS, "cases": CASES}
