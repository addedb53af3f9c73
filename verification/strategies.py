"""Hypothesis strategies of legal values: specs, registers, layers, and inputs near the worst."""

from __future__ import annotations

from math import prod
from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis.extra.numpy import arrays

from accsim._check import IntArray
from accsim.datapath import Datapath
from accsim.layer import IntLayer
from accsim.spec import Accumulator, IntSpec, Overflow, Rail, between, signed, unsigned
from verification.hunting import below
from verification.worst import image_with, worst_inputs

__all__ = [
    "accumulators",
    "attacks",
    "datapaths",
    "ends",
    "inputs",
    "int_layers",
    "int_specs",
    "near_worst",
    "plain_inputs",
    "prefix_worst",
]

MOST_CHANGED = 3  # entries of a worst input that `near_worst` changes
MOST_FREE = 128  # entries of `ends` that are drawn one by one; more would take long


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
def datapaths(
    draw: st.DrawFn, *, min_bits: int = 2, max_bits: int = 20, max_levels: int = 4
) -> Datapath:
    """Up to `max_levels` levels of every kind, read-outs among them, in any order of products."""
    inner = draw(st.integers(0, max_levels - 1))
    reads = draw(st.integers(0, max_levels - 1 - inner))
    terms = [*draw(st.lists(st.integers(1, 9), min_size=inner, max_size=inner)), *[None] * reads]
    levels = [
        Accumulator(
            draw(st.integers(min_bits, max_bits)),
            draw(st.sampled_from(list(Overflow))),
            signed=draw(st.booleans()),
            terms=count,
            rail=draw(st.sampled_from(list(Rail))),
        )
        for count in [*terms, None]
    ]
    size = draw(st.integers(1, 12))
    order = draw(st.none() | st.permutations(range(size)))
    return Datapath(levels, order=order, bias=draw(st.sampled_from(["first", "last"])))


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
    return _near_worst(layer).map(lambda drawn: drawn[1])


def prefix_worst(layer: IntLayer) -> st.SearchStrategy[IntArray]:
    """The worst input of some channel up to some step, from there the worst to the other side.

    The sum goes out and comes back: what only looks at its end sees nothing. Shapes: (K,).
    """
    return _prefix_worst(layer).map(lambda drawn: drawn[1])


def inputs(layer: IntLayer) -> st.SearchStrategy[IntArray]:
    """Legal inputs of a layer: near the worst, worst up to a step, or arbitrary.

    Shapes: linear (K,), conv2d (1, I·groups, H, W).
    """
    corners = (_read_by(layer, drawn) for drawn in (_near_worst(layer), _prefix_worst(layer)))
    return st.one_of(*corners, plain_inputs(layer))


def ends(layer: IntLayer, *, free: int = MOST_FREE) -> st.SearchStrategy[IntArray]:
    """Inputs of which every entry is an end of the range; beyond `free` entries neighbours share.

    If any input overflows then some input of ends does, since running sums are linear in every
    entry; and choices of two are quickly climbed by `hypothesis.target`. Shapes: as `inputs`.
    """
    shape = _least_shape(layer)
    size = prod(shape)
    free = min(size, free)
    where = np.arange(size) * free // max(1, size)
    low, high = layer.input_spec.min, layer.input_spec.max
    return st.tuples(*[st.booleans()] * free).map(
        lambda sides: np.where(np.array(sides, bool)[where], high, low).reshape(shape)
    )


def attacks(layer: IntLayer) -> st.SearchStrategy[IntArray]:
    """What `verification.search` tries: worst inputs, half of the time, and inputs of all kinds.

    The worst inputs read the signs of the weights and nothing else. Made of booleans alone: see
    `hunting.below`. Shapes: as `inputs`.
    """
    shape, spec = _least_shape(layer), layer.input_spec

    def codes(number: int) -> IntArray:
        return np.random.default_rng(number).integers(spec.min, spec.max, shape, endpoint=True)

    worst = _read_by(layer, _worst(layer))
    others = (
        _read_by(layer, _near_worst(layer)),
        _read_by(layer, _prefix_worst(layer)),
        ends(layer),
        below(2**16).map(codes),
    )
    return st.booleans().flatmap(
        lambda other: below(len(others)).flatmap(others.__getitem__) if other else worst
    )


Read = tuple[int, IntArray]  # a channel, and what its taps read


@st.composite
def _worst(draw: st.DrawFn, layer: IntLayer) -> Read:
    channel = draw(below(layer.channels))
    return channel, worst_inputs(layer, channel)[draw(below(2))]


@st.composite
def _near_worst(draw: st.DrawFn, layer: IntLayer) -> Read:
    channel, x = draw(_worst(layer))
    spec = layer.input_spec
    for _ in range(draw(below(1 + MOST_CHANGED)) if layer.taps else 0):
        end = (spec.min, spec.max)[draw(below(2))]
        inner = draw(below(2**16)) * (spec.max - spec.min + 1) >> 16
        x[draw(below(layer.taps))] = spec.min + inner if draw(st.booleans()) else end
    return channel, x


@st.composite
def _prefix_worst(draw: st.DrawFn, layer: IntLayer) -> Read:
    channel = draw(below(layer.channels))
    out, back = worst_inputs(layer, channel)
    if draw(st.booleans()):
        out, back = back, out
    turn = draw(below(layer.taps + 1))
    return channel, np.concatenate([out[:turn], back[turn:]])


def _read_by(layer: IntLayer, taps: st.SearchStrategy[Read]) -> st.SearchStrategy[IntArray]:
    """Inputs of the layer of which one output reads the drawn taps."""
    if not layer.is_conv:
        return taps.map(lambda drawn: drawn[1])
    return taps.map(lambda drawn: image_with(layer, drawn[1], drawn[0])[0])


def _least_shape(layer: IntLayer) -> tuple[int, ...]:
    """The shape of an input that some output reads clear of the padding."""
    x = np.zeros(layer.taps, np.int64)
    return tuple((image_with(layer, x, 0)[0] if layer.is_conv else x).shape)


def plain_inputs(layer: IntLayer) -> st.SearchStrategy[IntArray]:
    """Arbitrary legal inputs, as a search without knowledge draws them; it misses rare overflow."""
    if not layer.is_conv:
        return _codes(layer.input_spec, (layer.taps,))
    least = _least_shape(layer)
    size = st.tuples(st.integers(least[2], least[2] + 3), st.integers(least[3], least[3] + 3))
    return size.flatmap(lambda hw: _codes(layer.input_spec, (1, least[1], *hw)))


def _code(spec: IntSpec) -> st.SearchStrategy[int]:
    """One code, the ends of the range favoured."""
    return st.sampled_from([spec.min, spec.max]) | st.integers(spec.min, spec.max)


def _codes(spec: IntSpec, shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    return arrays(np.int64, shape, elements=_code(spec), fill=st.nothing())
