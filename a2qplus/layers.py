"""Linear and convolution layers whose sums are those of an integer register, in training too.

A layer multiplies integer codes by integer weights and scales the sum afterwards. The sum is an
integer that the float type holds exactly, so the frozen network computes the same numbers, as long
as torch multiplies directly: so it does by default on the CPU (oneDNN), but an algorithm that
transforms its inputs first (Winograd, as NNPACK's) rounds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from a2qplus.methods import Quantization
from a2qplus.quantizers import ActivationQuantizer, WeightQuantizer
from accsim.errors import ModelError

__all__ = ["QuantConv2d", "QuantLayer", "QuantLinear", "quantized_layers"]


def check_padding(layer: nn.Conv2d, name: str) -> None:
    """Raise ModelError unless the convolution pads with zeros by numbers."""
    if layer.padding_mode != "zeros":
        raise ModelError(f"{name} must pad with zeros, not {layer.padding_mode!r}")
    if layer.padding == "same":
        raise ModelError(f'{name} must give its padding as numbers, not "same"')


class QuantLayer(nn.Module, ABC):
    """What both layers share: quantize input and weight, sum integers, scale, add the bias."""

    weight: Tensor
    bias: Any  # a Parameter or None; torch's two layers declare it differently
    input_quantizer: ActivationQuantizer
    weight_quantizer: WeightQuantizer

    def _quantize(self, quantization: Quantization) -> None:
        """Attach the quantizers and start them from the layer's present float weights."""
        self.input_quantizer = ActivationQuantizer(quantization.input_spec)
        self.weight_quantizer = WeightQuantizer(len(self.weight), quantization)
        self.to(device=self.weight.device, dtype=self.weight.dtype)
        with torch.no_grad():
            self.weight.copy_(self.weight_quantizer.initialize(self.weight))

    @abstractmethod
    def sum_products(self, codes: Tensor, q: Tensor) -> Tensor:
        """What the registers hold in the end: the layer's product without bias."""

    def forward(self, x: Tensor) -> Tensor:
        """The layer on float activations, fake-quantized; shapes as the torch layer's."""
        with torch.autocast(x.device.type, enabled=False):
            codes, scale = self.input_quantizer(x)
            q = self.weight_quantizer(self.weight)
            exact = self._exact_dtype()
            sums = self.sum_products(codes.to(exact), q.to(exact))
            return self.dequantize(sums, scale).to(x.dtype)

    def dequantize(self, register: Tensor, input_scale: Tensor) -> Tensor:
        """Integer sums (N, C, ...) to float activations: times both scales, plus the bias."""
        shape = (-1, *[1] * (self.weight.ndim - 2))
        scale = (input_scale.double() * self.weight_quantizer.scale).float().reshape(shape)
        y = register.float() * scale
        return y if self.bias is None else y + self.bias.float().reshape(shape)

    def _exact_dtype(self) -> torch.dtype:
        """The narrowest float type that holds every sum this layer can make."""
        rule = self.weight_quantizer.quantization
        taps = self.weight[0].numel()
        largest = taps * rule.weight_spec.magnitude * rule.input_spec.magnitude
        return torch.float32 if largest <= 2**24 else torch.float64


class QuantLinear(QuantLayer, nn.Linear):
    """`torch.nn.Linear` with quantized input and weight.

    Shapes: (..., K) -> (..., C).
    """

    def __init__(self, *args: Any, quantization: Quantization, **kwargs: Any) -> None:
        nn.Linear.__init__(self, *args, **kwargs)
        self._quantize(quantization)

    def sum_products(self, codes: Tensor, q: Tensor) -> Tensor:  # noqa: D102
        return F.linear(codes, q)


class QuantConv2d(QuantLayer, nn.Conv2d):
    """`torch.nn.Conv2d` with quantized input and weight; padding is with zeros.

    Shapes: (N, I·groups, H, W) -> (N, O, oh, ow).
    """

    def __init__(self, *args: Any, quantization: Quantization, **kwargs: Any) -> None:
        nn.Conv2d.__init__(self, *args, **kwargs)
        check_padding(self, "QuantConv2d")
        self._quantize(quantization)

    def sum_products(self, codes: Tensor, q: Tensor) -> Tensor:  # noqa: D102
        return F.conv2d(codes, q, None, self.stride, self.padding, self.dilation, self.groups)


def quantized_layers(model: nn.Module) -> dict[str, QuantLayer]:
    """The quantized layers of a model by module name. Raises: ModelError if there are none."""
    layers = {name: m for name, m in model.named_modules() if isinstance(m, QuantLayer)}
    if not layers:
        raise ModelError("the model must hold quantized layers; quantize_model makes them")
    return layers
