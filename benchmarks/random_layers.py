"""Random quantized layers: every method, register, range, float type, start and kind of weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from a2qplus import QuantConv2d, Quantization, QuantLinear
from a2qplus.layers import QuantLayer
from a2qplus.methods import STARTS, ZERO_POINTS
from accsim import IntSpec, between, bounds, signed, unsigned

METHODS = ("a2q", "a2q+", "budget")  # case I is of method I modulo 3
BITS = (6, 24)  # of registers
TAPS = (1, 2, 3, 4, 8, 9, 16, 27, 64, 100, 144, 300, 577)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
LARGEST = 1e300  # so that float64 holds the l1-norm of a channel, before and after training
ROOM = 4  # below the largest of its type: centring, where training starts, doubles a weight


def input_range(rng: np.random.Generator, method: str) -> IntSpec:
    """Codes of a type, of a zero point, of one side; without 0 only where the method allows it."""
    kind = rng.integers(5 if method == "a2q" else 4)
    if kind == 0:
        return unsigned(int(rng.integers(1, 9)))
    if kind == 1:
        return signed(int(rng.integers(2, 9)))
    largest = int(rng.integers(1, 256))
    if kind == 2:
        zero = int(rng.integers(0, largest))
        return between(-zero, largest - zero)
    return between(0 if kind == 3 else int(rng.integers(1, largest + 1)), largest)


def gaussian(rng: np.random.Generator, rows: int, taps: int) -> np.ndarray:
    """Of a mean of their own."""
    return rng.normal(rng.uniform(-1, 1), 1, (rows, taps))


def hot(rng: np.random.Generator, rows: int, taps: int) -> np.ndarray:
    """One weight in each row, of either sign."""
    return np.eye(taps)[rng.integers(0, taps, rows)] * rng.choice([-1.0, 1.0], (rows, 1))


WEIGHTS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "gaussian": gaussian,
    "cauchy": lambda rng, rows, taps: rng.standard_cauchy((rows, taps)),
    "shifted": lambda rng, rows, taps: rng.laplace(size=(rows, taps)) + 3,
    "whole": lambda rng, rows, taps: rng.integers(-127, 128, (rows, taps)).astype(float),
    "equal": lambda rng, rows, taps: np.tile(rng.normal(size=(rows, 1)), taps),
    "nearly equal": lambda rng, rows, taps: 0.1 + 1e-17 * rng.normal(size=(rows, taps)),
    "zero": lambda rng, rows, taps: np.zeros((rows, taps)),
    "far": lambda rng, rows, taps: 1000 + rng.normal(size=(rows, taps)) / 1000,
    "hot": hot,
    "alternating": lambda rng, rows, taps: np.tile((-1.0) ** np.arange(taps), (rows, 1)),
    "signs": lambda rng, rows, taps: rng.choice([-1.0, 1.0], (rows, taps)),
    "denormal": gaussian,
    "huge": gaussian,
}


def draw_weights(rng: np.random.Generator, rows: int, taps: int, dtype: torch.dtype) -> Tensor:
    """Finite weights (rows, taps) of one kind and size."""
    kind = "gaussian" if rng.random() < 0.3 else str(rng.choice(list(WEIGHTS)))
    limits = torch.finfo(dtype)
    size = {"denormal": limits.tiny / 4, "huge": min(limits.max / ROOM, LARGEST)}.get(
        kind, 10 ** rng.uniform(-3, 2)
    )
    weights = WEIGHTS[kind](rng, rows, taps).clip(-1e6, 1e6)
    if kind == "huge":
        weights /= max(1.0, np.abs(weights).max())
    return torch.tensor(weights * size).clamp(limits.min, limits.max).to(dtype)


def draw(seed: int, index: int) -> QuantLayer:
    """The layer of this number, made of float weights and perhaps moved by training."""
    rng = np.random.default_rng([seed, index])
    torch.manual_seed(index)
    method, weight_bits = METHODS[index % 3], int(rng.integers(2, 9))
    spec, dtype = input_range(rng, method), DTYPES[rng.integers(4)]
    make, taps = geometry(rng)
    least, most = BITS
    if rng.random() < 0.8:  # registers that hold some products, and not all sums
        least = max(least, spec.magnitude.bit_length() + 2)
        most = bounds.data_type_bits(taps, signed(weight_bits, narrow=True), spec)
    bits = int(rng.integers(least, min(max(most, least), BITS[1]) + 1))
    start, zero_point = str(rng.choice(STARTS)), str(rng.choice(ZERO_POINTS))
    rule = Quantization(method, weight_bits, spec, bits, start, zero_point)
    rule = replace(rule, acc_bits=max(bits, rule.least_acc_bits or 0))  # with room for a weight
    # made in the quickest way first, for weights that are not kept
    layer = make(replace(rule, start="naive"), dtype)
    layer.weight_quantizer.quantization = rule
    weights = draw_weights(rng, len(layer.weight), taps, dtype).reshape(layer.weight.shape)
    with torch.no_grad():
        layer.weight.copy_(layer.weight_quantizer.initialize(weights))
        for _ in range(int(rng.integers(0, 4)) if rng.random() < 0.5 else 0):
            shake(rng, layer)
    return layer


def geometry(
    rng: np.random.Generator,
) -> tuple[Callable[[Quantization, torch.dtype], QuantLayer], int]:
    """What makes a layer of a drawn shape, and its taps for each register."""
    channels = int(rng.integers(1, 13))
    if rng.random() < 0.5:
        taps = int(rng.choice(TAPS))
        return lambda rule, dtype: QuantLinear(taps, channels, quantization=rule, dtype=dtype), taps
    groups, each = int(rng.choice([1, 1, 2, 4])), int(rng.choice([1, 1, 2, 7, 16]))
    kernel = tuple(int(n) for n in rng.integers(1, 4, 2))
    how = {"stride": int(rng.integers(1, 3)), "padding": int(rng.integers(0, 2))}

    def conv(rule: Quantization, dtype: torch.dtype) -> QuantLayer:
        sides = groups * each, groups * channels
        return QuantConv2d(*sides, kernel, groups=groups, quantization=rule, dtype=dtype, **how)

    return conv, each * kernel[0] * kernel[1]


def shake(rng: np.random.Generator, layer: QuantLayer) -> None:
    """Move every parameter at random, farther than a step of training would; all stay finite."""
    limits = torch.finfo(layer.weight.dtype)
    noise = torch.tensor(rng.normal(size=layer.weight.shape))
    size = layer.weight.double().abs().mean() * rng.uniform(0, 2)
    moved = layer.weight.double() + noise * size
    layer.weight.copy_(moved.clamp(limits.min, limits.max))
    quantizer = layer.weight_quantizer
    for parameter, most in ((quantizer.log2_scale, 2), (quantizer.log2_norm, 4)):
        if parameter is not None:
            parameter.add_(torch.tensor(rng.uniform(-most, most, len(parameter))).to(parameter))
