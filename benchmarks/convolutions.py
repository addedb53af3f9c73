"""Convolutions: one with every channel, one channel by channel."""

from __future__ import annotations

import numpy as np
import torch
from contenders import Contender, values
from workload import BYTE, SATURATE, Goal, Workload

from accsim import Accumulator, conv2d
from verification.bench import draw, step_loop


def _convolved(x: np.ndarray, w: np.ndarray, register: Accumulator, groups: int) -> np.ndarray:
    """A 3×3 convolution with padding 1, tap by tap over all outputs; groups is 1 or all."""
    images, channels, height, width = x.shape
    padded = np.zeros((images, channels, height + 2, width + 2), np.int64)
    padded[:, :, 1:-1, 1:-1] = x
    out = np.zeros((images, len(w), height, width), np.int64)
    for i, ky, kx in np.ndindex(*w.shape[1:]):
        inputs = padded[:, :, ky : ky + height, kx : kx + width]
        inputs = inputs if groups > 1 else inputs[:, i : i + 1]
        out += inputs * w[:, i, ky, kx].astype(np.int64)[:, None, None]
        np.clip(out, register.min, register.max, out=out)
    return out


def convolution(quick: bool) -> Workload:
    """3×3, 64 to 64 channels, 32×32, batch 8, beside a linear layer of the same size."""
    batch, channels, side = (2, 16, 16) if quick else (8, 64, 32)
    random = np.random.default_rng(5)
    register = Accumulator(16, SATURATE)
    x, w = (
        draw(random, BYTE, batch, channels, side, side),
        draw(random, BYTE, channels, channels, 3, 3),
    )
    flat = draw(random, BYTE, batch * side * side, channels * 9)
    rows = w.reshape(channels, -1)
    macs = flat.size * channels
    left, right = torch.from_numpy(x).float(), torch.from_numpy(w).float()
    wide = Accumulator(40, SATURATE)
    contenders = {
        "accsim conv2d": Contender(
            lambda: conv2d(x, w, register, padding=1, threads=1),
            macs,
            _convolved(x, w, register, 1),
        ),
        "accsim linear": Contender(
            values(flat, rows, register), macs, step_loop(flat, rows, register)
        ),
        "torch float32 conv2d": Contender(
            lambda: torch.nn.functional.conv2d(left, right, padding=1),
            macs,
            _convolved(x, w, wide, 1),
        ),
    }
    case = f"conv2d 3×3, {channels}→{channels}, {side}×{side}, batch {batch}, P=16 saturate"
    return Workload(contenders, (Goal(case, "accsim conv2d", "accsim linear", 0.8),))


def depthwise(quick: bool) -> Workload:
    """3×3, 256 channels, 28×28, batch 8, each channel by itself."""
    batch, channels, side = (2, 64, 14) if quick else (8, 256, 28)
    random = np.random.default_rng(6)
    register = Accumulator(16, SATURATE)
    x, w = draw(random, BYTE, batch, channels, side, side), draw(random, BYTE, channels, 1, 3, 3)
    left, right = torch.from_numpy(x).float(), torch.from_numpy(w).float()
    options = {"padding": 1, "groups": channels}
    contenders = {
        "accsim conv2d": Contender(
            lambda: conv2d(x, w, register, threads=1, **options),
            x.size * 9,
            _convolved(x, w, register, channels),
        ),
        "torch float32 conv2d": Contender(
            lambda: torch.nn.functional.conv2d(left, right, **options),
            x.size * 9,
            _convolved(x, w, Accumulator(40, SATURATE), channels),
        ),
    }
    case = f"depthwise 3×3, {channels} channels, {side}×{side}, batch {batch}, P=16 saturate"
    return Workload(contenders, (Goal(case, *contenders, 1.0),))
