"""Learned quantizers: weights per output channel, activations per tensor; scales in log2."""

from __future__ import annotations

from math import isfinite, log2

import torch
from torch import Tensor, nn

from a2qplus.functional import round_nearest, zero_center
from a2qplus.methods import METHODS, Quantization
from accsim.errors import DtypeError, ModelError
from accsim.spec import IntSpec

__all__ = ["ActivationQuantizer", "WeightQuantizer"]

_STEPS, _FINER = 4, 3  # scales that are tried: steps in a factor of two, steps below max|w|
_SMALLEST_SCALE = 1e-10  # of a channel of zeros, which has no scale of its own


class WeightQuantizer(nn.Module):
    """Float weights to integers by one `Quantization`, with a learned scale and norm per channel.

    Parameters `log2_scale` and, for a method that learns a norm, `log2_norm`: shape (C,).
    """

    def __init__(self, channels: int, quantization: Quantization) -> None:
        super().__init__()
        self.quantization = quantization
        self.log2_scale = nn.Parameter(torch.zeros(channels))
        self.log2_norm = (
            None if quantization.budget is None else nn.Parameter(torch.zeros(channels))
        )

    def extra_repr(self) -> str:
        """What is shown of it."""
        rule = self.quantization
        register = "" if rule.acc_bits is None else f", {rule.acc_bits}-bit register"
        return f"{rule.method}, {rule.weight_spec}{register}"

    @property
    def scale(self) -> Tensor:
        """Positive scale per channel, float64: what one integer step is worth."""
        return self.log2_scale.double().exp2()

    def forward(self, weight: Tensor) -> Tensor:
        """The integers of `weight`, float64, with straight-through gradients."""
        rule = self.quantization
        scale = self.scale
        # a method that learns no norm is given one that it does not look at
        norm = scale if self.log2_norm is None else self.log2_norm.double().exp2()
        return METHODS[rule.method].quantize(weight, scale, norm, rule)

    @torch.no_grad()
    def initialize(self, weight: Tensor) -> Tensor:
        """Set scale and norm from float weights; the weights to train from are returned.

        Scale: max|w| / the largest integer, or by `Quantization.start` the best of a few around and
        above it: a coarser step spends a narrow register's budget on more of the weights.

        Source: A2Q+ paper Eq. 13-15 and 43; the fitted scale is ours.
        """
        rows = weight.double().flatten(1)
        largest = rows.abs().amax(dim=1) if rows.shape[1] else rows.new_zeros(len(rows))
        scale = (largest / self.quantization.weight_spec.max).clamp_min(_SMALLEST_SCALE)
        if self.quantization.start == "fit":
            scale = self._fitted(rows, scale)
        self.log2_scale.copy_(scale.log2())
        rows, norm = self._started(rows, self.scale)
        if self.log2_norm is not None:
            self.log2_norm.copy_(norm.log2())
        limits = torch.finfo(weight.dtype)  # centring moves a weight away from 0
        return rows.reshape(weight.shape).clamp(limits.min, limits.max).to(weight.dtype)

    def _started(self, rows: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and norms from which training starts at this scale."""
        method = METHODS[self.quantization.method]
        if self.quantization.start != "naive":
            rows = method.nearest(rows / scale[:, None], self.quantization) * scale[:, None]
        bounded = zero_center(rows) if method.centred else rows
        return rows, bounded.abs().sum(dim=1).clamp_min(_SMALLEST_SCALE)

    def _fitted(self, rows: Tensor, scale: Tensor) -> Tensor:
        """Of scales around and above this one, for each channel that with the least error."""
        method, top = METHODS[self.quantization.method], self.quantization.weight_spec.max
        best, least = scale, torch.full_like(scale, torch.inf)
        for step in range(-_FINER, round(_STEPS * log2(2 * top)) + 1):  # up to integers of 1/2
            tried = scale * 2 ** (step / _STEPS)
            started, norm = self._started(rows, tried)
            q = method.quantize(started, tried, norm, self.quantization)
            error = (q * tried[:, None] - rows).square().sum(dim=1)
            best = torch.where(error < least, tried, best)
            least = torch.minimum(error, least)
        return best

    @torch.no_grad()
    def rescale(self, factor: Tensor) -> None:
        """Multiply scales, and norms with them: weights times the same keep their integers."""
        change = factor.double().log2()
        for parameter in (self.log2_scale, self.log2_norm):
            if parameter is not None:
                parameter.add_(change.to(parameter.dtype))

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

    def extra_repr(self) -> str:
        """What is shown of it."""
        return str(self.spec)

    @property
    def scale(self) -> Tensor:
        """What one code is worth."""
        return self.log2_scale.exp2()

    @torch.no_grad()
    def calibrate(self, low: float, high: float) -> None:
        """Let the codes reach from `low` to `high`, as far as there are codes of that sign."""
        if not (isfinite(low) and isfinite(high)):
            raise ModelError(f"inputs to calibrate with must be finite, not {low} to {high}")
        below = low / self.spec.min if self.spec.min < 0 else 0.0
        scale = max(high / self.spec.max, below, _SMALLEST_SCALE)
        self.log2_scale.fill_(torch.tensor(scale).log2())
        self.calibrated.fill_(True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Integer-valued codes like x, with straight-through gradients, and their scale.

        Raises: DtypeError for anything but floats.
        """
        if not x.is_floating_point():
            raise DtypeError(f"inputs of a quantized layer must be floats, not {x.dtype}")
        if not self.calibrated and x.numel():
            low, high = (float(end) for end in x.detach().aminmax())
            if max(high, 0) or (low and self.spec.signed):  # nothing but zeros tells no scale
                self.calibrate(low, high)
        scale = self.scale.to(x.dtype) if x.dtype == torch.float64 else self.scale.float()
        x = x if x.dtype == torch.float64 else x.float()
        return round_nearest(x / scale).clamp(self.spec.min, self.spec.max), scale
