"""Hypothesis strategies of legal values: specs, registers, layers, and inputs near the worst."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis.extra.numpy import arrays

from accsim._check import IntArray
from accsim.layer import IntLayer
from accsim.spec import Accumulator, IntSpec, Overflow, between, signed, unsigned
from verification.witness import image_with, worst_inputs

__all__ = ["accumulators", "inputs", "int_layers", "int_specs", "near_worst", "plain_inputs"]

MOST_CHANGED = 3  # entries of a worst input that `near_worst` changes


def int_specs(*, max_bits: int = 8) -> st.SearchStrategy[IntSpec]:
    """Signed, narrow, unsigned and arbitrary ranges of at most `max_bits` bits."""
    bits = st.integers(1, max_bits)
    ends = st.integers(-(2 ** (max_bits - 1)), 2 ** (max_bits - 1) - 1)
    return st.one_of(
        bits.map(signed),
        st.integers(2, max(2, max_bits)).map(lambda b: signed(b, narrow=True)),
        bits.map(unsigned),
        st.tuples(ends, ends).map(lambda pair: between(min(pair), max(pair))),
    )


def accumulators(*, min_bits: int = 2, max_bits: int = 62) -> st.SearchStrategy[Accumulator]:
    """Registers of either overflow rule, with and without a sign."""
    return st.builds(
        Accumulator,
        st.integers(min_bits, max_bits),
        st.sampled_from(list(Overflow)),
        signed=st.booleans(),
    )


@st.composite
def int_layers(
    draw: st.DrawFn,
    *,
    max_taps: int = 64,
    weight_specs: st.SearchStrategy[IntSpec] | None = None,
    input_specs: st.SearchStrategy[IntSpec] | None = None,
    convolutions: bool = True,
) -> IntLayer:
    """Linear layers and small convolutions of every geometry, without bias."""
    weight_spec = draw(int_specs() if weight_specs is None else weight_specs)
    input_spec = draw(int_specs() if input_specs is None else input_specs)
    channels = draw(st.integers(1, 3))
    if not (convolutions and draw(st.booleans())):
        taps = draw(st.integers(0, max_taps))
        weight = draw(_codes(weight_spec, (channels, taps)))
        return IntLayer(weight, weight_spec=weight_spec, input_spec=input_spec)
    groups = draw(st.integers(1, 2))
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    shape = (channels * groups, draw(st.integers(1, 2)), *draw(pair))
    return IntLayer(
        draw(_codes(weight_spec, shape)),
        weight_spec=weight_spec,
        input_spec=input_spec,
        stride=draw(pair),
        padding=draw(st.tuples(st.integers(0, 2), st.integers(0, 2))),
        dilation=draw(pair),
        groups=groups,
    )


def near_worst(layer: IntLayer) -> st.SearchStrategy[IntArray]:
    """A worst input of some channel with 0 to 3 entries changed. Shapes: (K,)."""

    @st.composite
    def draw_one(draw: st.DrawFn) -> IntArray:
        channel = draw(st.integers(0, layer.channels - 1))
        x = draw(st.sampled_from(worst_inputs(layer, channel))).copy()
        if layer.taps:
            places = st.lists(st.integers(0, layer.taps - 1), max_size=MOST_CHANGED)
            for place in draw(places):
                x[place] = draw(_code(layer.input_spec))
        return x

    return draw_one()


def inputs(layer: IntLayer) -> st.SearchStrategy[IntArray]:
    """Legal inputs of a layer, near the worst or arbitrary.

    Shapes: linear (K,), conv2d (1, I·groups, H, W).
    """
    if not layer.is_conv:
        return near_worst(layer) | plain_inputs(layer)

    @st.composite
    def corner(draw: st.DrawFn) -> IntArray:
        channel = draw(st.integers(0, layer.channels - 1))
        return image_with(layer, draw(near_worst(layer)), channel)[0]

    return corner() | plain_inputs(layer)


def plain_inputs(layer: IntLayer) -> st.SearchStrategy[IntArray]:
    """Arbitrary legal inputs, as a search without knowledge draws them; it misses rare overflow."""
    if not layer.is_conv:
        return _codes(layer.input_spec, (layer.taps,))
    least = image_with(layer, np.zeros(layer.taps, np.int64), 0)[0].shape
    size = st.tuples(st.integers(least[2], least[2] + 3), st.integers(least[3], least[3] + 3))
    return size.flatmap(lambda hw: _codes(layer.input_spec, (1, least[1], *hw)))


def _code(spec: IntSpec) -> st.SearchStrategy[int]:
    """One code, the ends of the range favoured."""
    return st.sampled_from([spec.min, spec.max]) | st.integers(spec.min, spec.max)


def _codes(spec: IntSpec, shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    return arrays(np.int64, shape, elements=_code(spec), fill=st.nothing())
