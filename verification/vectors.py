"""Vectors for a device: what to feed it, and what its register must hold after every step.

A check of final values alone passes a register that is wrong for a while and right at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accsim import bounds
from accsim._check import IntArray, integer, integer_array
from accsim.errors import ShapeError
from accsim.layer import IntLayer, check_start
from accsim.spec import Accumulator, IntSpec, Overflow
from verification.worst import idle_input, worst_inputs

__all__ = ["Stimulus", "Vectors", "chosen_stimulus", "given_stimulus", "make_vectors"]

MOST_STEPS = 2**24  # of one file of vectors
USUAL_STEPS = 2**18  # that the usual number of sums keeps to
OTHERS = 64  # sums beside the worst inputs, where nobody says how many


@dataclass(frozen=True, slots=True, eq=False)
class Stimulus:
    """Sums to make, one after the other: of which channel, and of which inputs.

    Shapes: channels (N,), x (N, K) in the index order of the channel's taps.
    """

    channels: IntArray
    x: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """What a device is given at each step, and what it must show after it.

    At a step with `start` the sum begins anew: from `bias`, not from what the register holds.
    `register` is what the register holds after the step, `overflow` whether this step's exact
    total was outside it, `sticky` whether that was so in any step since the sum began.
    Shapes: all arrays (S,), S = N sums of `taps` steps each; integers int64, flags bool.
    """

    accumulator: Accumulator
    weight_spec: IntSpec
    input_spec: IntSpec
    taps: int
    channel: IntArray
    start: IntArray
    bias: IntArray
    weight: IntArray
    x: IntArray
    register: IntArray
    overflow: IntArray
    sticky: IntArray

    @property
    def steps(self) -> int:
        """S: how many products are added."""
        return len(self.weight)

    @property
    def sums(self) -> int:
        """N: how many sums they make."""
        return self.steps // self.taps


def chosen_stimulus(
    layer: IntLayer, accumulator: Accumulator, *, sums: int | None = None, seed: int = 0
) -> Stimulus:
    """Inputs that make a register overflow, if any do, and others.

    The worst inputs of each channel, lowest and highest sum, of those channels first that pass a
    rail by most; then in turn worst inputs that change sides at some step, so that the sum comes
    back, inputs of random ends of the range, and any. `sums`: how many; without it both worst
    inputs of every channel and 64 others, as far as they stay within 2^18 steps.

    Raises: SpecError for numbers that are none; ShapeError for a layer without taps.
    """
    _check(layer, accumulator)
    rng = np.random.default_rng(integer(seed, "seed", 0, 2**63 - 1))
    if sums is None:
        sums = max(1, min(2 * layer.channels + OTHERS, USUAL_STEPS // layer.taps))
    sums = integer(sums, "count", 1, max(1, MOST_STEPS // layer.taps))
    worst = min(sums, 2 * layer.channels)
    first = np.repeat(_by_excess(layer, accumulator), 2)[:worst]
    channels = np.concatenate([first, rng.integers(0, layer.channels, sums - worst)])
    x = np.empty((sums, layer.taps), dtype=np.int64)
    kinds = (_turning, _ends, _any)
    for i, channel in enumerate(channels.tolist()):
        if i < worst:
            x[i] = worst_inputs(layer, channel)[1 - i % 2]
        else:
            x[i] = kinds[(i - worst) % len(kinds)](rng, layer, channel)
    return Stimulus(channels, x)


def given_stimulus(layer: IntLayer, x: object) -> Stimulus:
    """Every output of a layer for given inputs: row by row, or place by place, all its channels.

    Shapes: x as `accsim.simulate` takes it; a tap on the padding is given the input 0.
    Raises: DtypeError, ShapeError; RangeError naming the first input outside its range.
    """
    array = integer_array(x, "x")
    layer.output_shape(array.shape)
    layer.input_spec.check(array, "x")
    read = _taps_of_conv(layer, array) if layer.is_conv else array.reshape(1, -1, layer.taps)
    groups, places = read.shape[:2]
    if groups * places == 0 or layer.taps == 0:
        raise ShapeError(f"x must give a product at least, not of shape {array.shape}")
    steps = places * layer.channels * layer.taps
    if steps > MOST_STEPS:
        raise ShapeError(f"x must make at most {MOST_STEPS} steps, not {steps}")
    group = np.repeat(np.arange(groups), layer.channels // groups)  # of each channel
    chosen = read[group].swapaxes(0, 1)  # (places, channels, K)
    channels = np.tile(np.arange(layer.channels), places)
    return Stimulus(channels, chosen.reshape(-1, layer.taps).astype(np.int64))


def make_vectors(layer: IntLayer, accumulator: Accumulator, stimulus: Stimulus) -> Vectors:
    """The register after every step, by the definition (`accsim.arith.reduce`), for all sums.

    Raises: RangeError for a bias outside the register; SpecError for other things than a layer
    and a register.
    """
    _check(layer, accumulator)
    sums, taps = stimulus.x.shape
    weights = layer.rows[stimulus.channels].astype(np.int64)
    bias = np.zeros(layer.channels, np.int64) if layer.bias is None else layer.bias
    starts = bias[stimulus.channels]
    registers = np.empty((sums, taps), dtype=np.int64)
    overflows = np.empty((sums, taps), dtype=bool)
    exact = _exact_dtype(layer, accumulator)
    register: IntArray = starts.astype(exact)
    for k in range(taps):
        total = register + weights[:, k].astype(exact) * stimulus.x[:, k].astype(exact)
        register = _reduced(total, accumulator)
        registers[:, k], overflows[:, k] = register, total != register
    first = np.zeros((sums, taps), dtype=bool)
    first[:, 0] = True
    return Vectors(
        accumulator, layer.weight_spec, layer.input_spec, taps,
        channel=np.repeat(stimulus.channels, taps),
        start=first.reshape(-1),
        bias=np.repeat(starts, taps),
        weight=weights.reshape(-1),
        x=stimulus.x.reshape(-1),
        register=registers.reshape(-1),
        overflow=overflows.reshape(-1),
        sticky=np.logical_or.accumulate(overflows, axis=1).reshape(-1),
    )  # fmt: skip


def _reduced(total: IntArray, accumulator: Accumulator) -> IntArray:
    """`accsim.arith.reduce` of every entry."""
    if accumulator.overflow is Overflow.SATURATE:
        return np.clip(total, accumulator.min, accumulator.max)
    return (total - accumulator.min) % (1 << accumulator.bits) + accumulator.min


def _exact_dtype(layer: IntLayer, accumulator: Accumulator) -> type:
    """What holds every total: int64, or Python's own integers where a product is too wide."""
    product = layer.weight_spec.magnitude * layer.input_spec.magnitude
    return np.int64 if 2**accumulator.bits + product < 2**63 else object


def _check(layer: IntLayer, accumulator: Accumulator) -> None:
    check_start(layer, accumulator)
    if layer.taps == 0:
        raise ShapeError("a layer must have a tap for vectors to be made of it, not none")
    if layer.taps > MOST_STEPS:
        raise ShapeError(f"a sum must be of at most {MOST_STEPS} steps, not {layer.taps}")


def _by_excess(layer: IntLayer, accumulator: Accumulator) -> list[int]:
    """The channels, those first whose sums can pass a rail by most."""
    low, high = bounds.running_extremes(layer.rows, layer.input_spec, bias=layer.bias)
    excess = [
        max(accumulator.min - int(least), int(most) - accumulator.max)
        for least, most in zip(low, high, strict=True)
    ]
    return sorted(range(layer.channels), key=lambda channel: -excess[channel])


def _turning(rng: np.random.Generator, layer: IntLayer, channel: int) -> IntArray:
    ends = worst_inputs(layer, channel)
    out = int(rng.integers(0, 2))
    turn = int(rng.integers(0, layer.taps + 1))
    return np.where(np.arange(layer.taps) < turn, ends[out], ends[1 - out])


def _ends(rng: np.random.Generator, layer: IntLayer, channel: int) -> IntArray:
    spec = layer.input_spec
    return rng.choice([spec.min, spec.max, idle_input(spec)], layer.taps)


def _any(rng: np.random.Generator, layer: IntLayer, channel: int) -> IntArray:
    spec = layer.input_spec
    return rng.integers(spec.min, spec.max, layer.taps, endpoint=True)


def _taps_of_conv(layer: IntLayer, x: IntArray) -> IntArray:
    """What the taps of each output place read: (groups, places, K)."""
    stride, padding, dilation, groups = layer.geometry
    inputs, *kernel = layer.weight.shape[1:]
    padded = np.pad(x, ((0, 0), (0, 0), *((one, one) for one in padding)))
    spread = [dilation[axis] * (kernel[axis] - 1) + 1 for axis in (0, 1)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, spread, axis=(2, 3))
    windows = windows[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    images, _, rows, columns = windows.shape[:4]
    grouped = windows.reshape(images, groups, inputs, rows, columns, *kernel)
    return grouped.transpose(1, 0, 3, 4, 2, 5, 6).reshape(groups, -1, layer.taps)
