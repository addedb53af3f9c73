"""Linear and convolution layers whose sums are those of an integer register, in training too.

A layer multiplies integer codes by integer weights and scales the sum afterwards. The sum is an
integer that the float type holds exactly, so the frozen network computes the same numbers, as long
as torch multiplies directly: so it does by default on the CPU (oneDNN), but an algorithm that
transforms its inputs first (Winograd, as NNPACK's) rounds.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from math import prod
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from a2qplus.methods import Quantization
from a2qplus.quantizers import ActivationQuantizer, WeightQuantizer
from accsim.errors import ModelError, ShapeError
from accsim.spec import IntSpec

__all__ = ["QuantConv2d", "QuantLayer", "QuantLinear", "QuantMatMul", "quantized_layers"]

_STATE = 1  # version of what a layer's state tells beside its tensors


def check_padding_mode(layer: nn.Conv2d, name: str) -> None:
    """Raise ModelError unless the convolution pads with zeros."""
    if layer.padding_mode != "zeros":
        raise ModelError(f"{name} must pad with zeros, not {layer.padding_mode!r}")


class QuantLayer(nn.Module, ABC):
    """What both layers share: quantize input and weight, sum integers, scale, add the bias."""

    weight: Tensor
    bias: Any  # a Parameter or None; torch's two layers declare it differently
    input_quantizer: ActivationQuantizer
    weight_quantizer: WeightQuantizer

    def _quantize(self, quantization: Quantization) -> None:
        """Attach the quantizers and start them from the layer's present float weights."""
        quantization.check_room()
        self.input_quantizer = ActivationQuantizer(quantization.input_spec)
        self.weight_quantizer = WeightQuantizer(len(self.weight), quantization)
        self.to(device=self.weight.device, dtype=self.weight.dtype)
        with torch.no_grad():
            self.weight.copy_(self.weight_quantizer.initialize(self.weight))

    @abstractmethod
    def sum_products(self, codes: Tensor, q: Tensor) -> Tensor:
        """What the registers hold in the end: the layer's product without bias."""

    def forward(self, input: Tensor) -> Tensor:
        """The layer on float activations, fake-quantized; shapes as the torch layer's."""
        with torch.autocast(input.device.type, enabled=False):
            codes, scale = self.input_quantizer(input)
            q = self.weight_quantizer(self.weight)
            rule, taps = self.weight_quantizer.quantization, self.weight[0].numel()
            exact = _exact_dtype(taps * rule.weight_spec.magnitude * rule.input_spec.magnitude)
            sums = self.sum_products(codes.to(exact), q.to(exact))
            return self.dequantize(sums, scale).to(input.dtype)

    def get_extra_state(self) -> Tensor:
        """The rule that the integers follow, for `set_extra_state`."""
        return _told(_identity(self.weight_quantizer.quantization))

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse a state of other integers: it would change what was chosen for this layer.

        Raises: ModelError naming what differs; what was loaded before this layer stays loaded.
        """
        _check_told(state, _identity(self.weight_quantizer.quantization))

    def dequantize(self, register: Tensor, input_scale: Tensor) -> Tensor:
        """Integer sums (N, C, ...) to float activations: times both scales, plus the bias."""
        shape = (-1, *[1] * (self.weight.ndim - 2))
        scale = (input_scale.double() * self.weight_quantizer.scale).float().reshape(shape)
        y = register.float() * scale
        return y if self.bias is None else y + self.bias.float().reshape(shape)


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
        check_padding_mode(self, "QuantConv2d")
        if isinstance(self.padding, str):
            raise ModelError(f"QuantConv2d must give its padding as numbers, not {self.padding!r}")
        self._quantize(quantization)

    def sum_products(self, codes: Tensor, q: Tensor) -> Tensor:  # noqa: D102
        return F.conv2d(codes, q, None, self.stride, self.padding, self.dilation, self.groups)


class QuantMatMul(nn.Module):
    """`MatMul` with both operands quantized: its sums are bounded by their types alone.

    Zero points are subtracted before the product. Shapes: (..., M, K), (..., K, N) -> (..., M, N).
    """

    def __init__(self, left: IntSpec, right: IntSpec) -> None:
        super().__init__()
        self.left_quantizer = ActivationQuantizer(left)
        self.right_quantizer = ActivationQuantizer(right)

    def get_extra_state(self) -> Tensor:
        """The ranges of both operands, for `set_extra_state`."""
        return _told({"version": _STATE, "operands": self._operands()})

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse a state of other operands. Raises: ModelError naming what differs."""
        _check_told(state, {"version": _STATE, "operands": self._operands()})

    def _operands(self) -> list[str]:
        return [str(quantizer.spec) for quantizer in self.quantizers]

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """The product of float activations, fake-quantized."""
        with torch.autocast(left.device.type, enabled=False):
            a, b, scale = self.quantize(left, right)
            largest = a.shape[-1] * prod(one.spec.magnitude for one in self.quantizers)
            exact = _exact_dtype(largest)
            return (torch.matmul(a.to(exact), b.to(exact)).float() * scale).to(left.dtype)

    @property
    def quantizers(self) -> tuple[ActivationQuantizer, ActivationQuantizer]:
        """Those of the left and the right operand."""
        return self.left_quantizer, self.right_quantizer

    def quantize(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes of both, and what one unit of their product is worth."""
        if left.ndim < 2 or right.ndim < 2:
            raise ShapeError("operands of a matrix product must have two dimensions or more")
        a, left_scale = self.left_quantizer(left)
        b, right_scale = self.right_quantizer(right)
        return a, b, (left_scale.double() * right_scale).float()


def _identity(rule: Quantization) -> dict[str, Any]:
    """What decides which integers a layer can have, and the version of this list."""
    names = ("method", "weight_bits", "acc_bits", "zero_point")
    members = {name: getattr(rule, name) for name in names}
    return {"version": _STATE, "input_spec": str(rule.input_spec), **members}


def _told(members: dict[str, Any]) -> Tensor:
    """Plain values as JSON in bytes: a state holds tensors only."""
    return torch.tensor(list(json.dumps(members).encode()), dtype=torch.uint8)


def _check_told(state: Tensor, here: dict[str, Any]) -> None:
    """Raise ModelError, naming the first member that differs, unless a state tells the same."""
    try:
        there = dict(json.loads(bytes(state.tolist())))
    except (AttributeError, TypeError, ValueError):
        raise ModelError("a state to load must tell the layer's rule, as JSON") from None
    for name, wanted in here.items():
        if there.get(name) != wanted:
            raise ModelError(
                f"a state to load must be of {name} {wanted}, as the layer is, not of"
                f" {there.get(name)}"
            )


def _exact_dtype(largest: int) -> torch.dtype:
    """The narrower float type that holds every integer up to this size."""
    return torch.float32 if largest <= 2**24 else torch.float64


def quantized_layers(model: nn.Module) -> dict[str, QuantLayer]:
    """The quantized layers of a model by module name. Raises: ModelError if there are none."""
    layers = {name: m for name, m in model.named_modules() if isinstance(m, QuantLayer)}
    if not layers:
        raise ModelError("the model must hold quantized layers; quantize_model makes them")
    return layers
