"""Learned quantizers: weights per output channel, activations per tensor; scales in log2."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isfinite

import torch
from torch import Tensor, nn

from a2qplus.functional import (
    project_l1,
    quantize_a2q,
    quantize_a2q_plus,
    quantize_nearest,
    round_nearest,
    zero_center,
)
from accsim._check import integer
from accsim.bounds import l1_budget, zero_centered_budget
from accsim.errors import ModelError, SpecError
from accsim.spec import MAX_BITS, IntSpec, signed

__all__ = ["METHODS", "ActivationQuantizer", "Quantization", "WeightQuantizer"]

METHODS = ("base", "a2q", "a2q+")
_SMALLEST_SCALE = 1e-10  # of a channel of zeros, which has no scale of its own


@dataclass(frozen=True, slots=True)
class Quantization:
    """How one layer is quantized: what its register sums, and whether the weights must fit it.

    `method` is "base" (no bound; acc_bits None), "a2q" or "a2q+" (weights fit acc_bits).

    Raises: SpecError for an unknown method or bits out of range.
    """

    method: str
    weight_bits: int
    input_spec: IntSpec
    acc_bits: int | None = None

    def __post_init__(self) -> None:
        check_method(self.method, self.acc_bits)
        integer(self.weight_bits, "weight_bits", 2, 16)
        if not isinstance(self.input_spec, IntSpec) or self.input_spec.max < 1:
            raise SpecError(
                f"input_spec must be an IntSpec that holds a positive input, not {self.input_spec}"
            )

    @property
    def weight_spec(self) -> IntSpec:
        """The symmetric range of the integer weights."""
        return signed(self.weight_bits, narrow=True)

    @property
    def budget(self) -> Fraction | None:
        """Largest l1-norm of a channel's integers by this method; None without a bound."""
        if self.acc_bits is None:
            return None
        rule = l1_budget if self.method == "a2q" else zero_centered_budget
        return rule(self.acc_bits, self.input_spec)


def check_method(method: str, acc_bits: int | None) -> None:
    """Raise SpecError unless this is a known method with the register it needs."""
    if method not in METHODS:
        raise SpecError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    if method == "base":
        if acc_bits is not None:
            raise SpecError('method "base" bounds nothing, so acc_bits must be None')
    else:
        integer(acc_bits, "acc_bits", 2, MAX_BITS)


class WeightQuantizer(nn.Module):
    """Float weights to integers by one `Quantization`, with a learned scale and norm per channel.

    Parameters `log2_scale` and, for a bounded method, `log2_norm`: shape (C,).
    """

    def __init__(self, channels: int, quantization: Quantization) -> None:
        super().__init__()
        self.quantization = quantization
        self.log2_scale = nn.Parameter(torch.zeros(channels))
        self.log2_norm = (
            None if quantization.budget is None else nn.Parameter(torch.zeros(channels))
        )

    @property
    def scale(self) -> Tensor:
        """Positive scale per channel, float64: what one integer step is worth."""
        return self.log2_scale.double().exp2()

    def forward(self, weight: Tensor) -> Tensor:
        """The integers of `weight`, float64, with straight-through gradients."""
        rule = self.quantization
        if self.log2_norm is None:
            return quantize_nearest(weight, self.scale, weight_bits=rule.weight_bits)[0]
        assert rule.acc_bits is not None  # for the type checker: a norm means a bounded method
        quantize = quantize_a2q if rule.method == "a2q" else quantize_a2q_plus
        return quantize(
            weight,
            self.scale,
            self.log2_norm.double().exp2(),
            weight_bits=rule.weight_bits,
            acc_bits=rule.acc_bits,
            input_spec=rule.input_spec,
        )[0]

    @torch.no_grad()
    def initialize(self, weight: Tensor) -> Tensor:
        """Set scale and norm from float weights; the weights to train from are returned.

        Scale: max|w| / the largest integer. For a bounded method the weights are projected onto
        the l1 ball of their budget (EP-init) and the norm is theirs, zero-centred for A2Q+.

        Source: A2Q+ paper Eq. 13-15 and 43.
        """
        rows = weight.double().flatten(1)
        largest = rows.abs().amax(dim=1) if rows.shape[1] else rows.new_zeros(len(rows))
        scale = (largest / self.quantization.weight_spec.max).clamp_min(_SMALLEST_SCALE)
        self.log2_scale.copy_(scale.log2())
        budget = self.quantization.budget
        if self.log2_norm is None or budget is None:
            return weight
        rows = project_l1(rows, self.scale * float(budget))
        bounded = zero_center(rows) if self.quantization.method == "a2q+" else rows
        norm = bounded.abs().sum(dim=1).clamp_min(_SMALLEST_SCALE)
        self.log2_norm.copy_(norm.log2())
        return rows.reshape(weight.shape).to(weight.dtype)

    def penalty(self) -> Tensor:
        """Sum over channels of max(norm - scale·T, 0): keeps norms from sticking above the budget.

        Source: A2Q+ paper Eq. 42.
        """
        budget = self.quantization.budget
        if self.log2_norm is None or budget is None:
            return self.log2_scale.new_zeros(())
        excess = self.log2_norm.double().exp2() - self.scale * float(budget)
        return excess.clamp_min(0).sum().to(self.log2_scale.dtype)


class ActivationQuantizer(nn.Module):
    """Activations to integer codes of one `IntSpec`, rounded to nearest, with one learned scale.

    The scale is set by `calibrate`, or by the first batch that comes.
    """

    calibrated: Tensor

    def __init__(self, spec: IntSpec) -> None:
        super().__init__()
        self.spec = spec
        self.log2_scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("calibrated", torch.tensor(False))

    @property
    def scale(self) -> Tensor:
        """What one code is worth."""
        return self.log2_scale.exp2()

    @torch.no_grad()
    def calibrate(self, largest: float) -> None:
        """Let the largest code stand for the magnitude `largest`."""
        if not isfinite(largest):
            raise ModelError(f"inputs to calibrate with must be finite, not up to {largest}")
        scale = max(largest / self.spec.max, _SMALLEST_SCALE)
        self.log2_scale.fill_(torch.tensor(scale).log2())
        self.calibrated.fill_(True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Integer-valued codes like x, with straight-through gradients, and their scale."""
        if not self.calibrated and bool(x.any()):  # a batch of zeros tells no scale
            self.calibrate(float(x.detach().abs().max()))
        scale = self.scale.to(x.dtype) if x.dtype == torch.float64 else self.scale.float()
        x = x if x.dtype == torch.float64 else x.float()
        return round_nearest(x / scale).clamp(self.spec.min, self.spec.max), scale
