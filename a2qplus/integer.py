"""The trained network as integers: frozen layers, decided again, and computed by accsim."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from a2qplus.convert import replace_modules
from a2qplus.layers import QuantConv2d, QuantLayer, quantized_layers
from accsim import bounds
from accsim.errors import ModelError, UnsafeLayerError
from accsim.layer import IntLayer, check_start
from accsim.simulate import simulate
from accsim.spec import Accumulator

__all__ = ["IntegerNetwork", "LayerOverflow", "to_integer", "to_layers"]


def to_layers(model: nn.Module) -> dict[str, IntLayer]:
    """The frozen integer layers of a quantized model, by module name.

    Each layer that was trained for a register is decided again, exactly, on these integers. Biases
    and scales stay in float, outside the register.

    Raises: ModelError for a model without quantized layers or with weights that are not finite;
    UnsafeLayerError naming the layer and channel that can overflow.
    """
    return {name: _freeze(name, module) for name, module in quantized_layers(model).items()}


def to_integer(model: nn.Module, accumulator: Accumulator) -> IntegerNetwork:
    """The same network, each quantized layer computed by accsim in registers like `accumulator`.

    The float operations around the integer sums are those of the quantized model in eval mode, so
    with registers that never overflow both give the same numbers, bit for bit, with torch's default
    convolutions on the CPU (`a2qplus.layers` says where not).

    Raises: as `to_layers`; ModelError for a layer that has not seen any input.
    """
    frozen = to_layers(model)
    network = copy.deepcopy(model).eval().requires_grad_(False)

    def replacement(name: str, module: nn.Module) -> nn.Module | None:
        if isinstance(module, QuantLayer):
            check_start(frozen[name], accumulator)
            if not module.input_quantizer.calibrated:
                raise ModelError(
                    f"layer {name!r} has no input scale yet: run the model once, or quantize it"
                    " with calibration data"
                )
            return _IntegerLayer(module, frozen[name], accumulator)
        return None

    return IntegerNetwork(replace_modules(network, replacement))


@dataclass(frozen=True, slots=True)
class LayerOverflow:
    """What happened in one layer since the network was made, summed over all its registers."""

    outputs: int
    overflowed_outputs: int
    overflow_steps: int


class IntegerNetwork(nn.Module):
    """A network computed in integers; calls and shapes as those of the model it was made from."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *args: Tensor) -> Tensor:
        """The network's output, without gradients."""
        with torch.no_grad():
            result: Tensor = self.network(*args)
        return result

    def overflow_report(self) -> dict[str, LayerOverflow]:
        """Overflows so far, by layer name."""
        return {
            name: module.seen
            for name, module in self.network.named_modules()
            if isinstance(module, _IntegerLayer)
        }


class _IntegerLayer(nn.Module):
    """A quantized layer whose sums accsim computes."""

    def __init__(self, source: QuantLayer, layer: IntLayer, accumulator: Accumulator) -> None:
        super().__init__()
        self.source, self.layer, self.accumulator = source, layer, accumulator
        self.seen = LayerOverflow(0, 0, 0)

    def forward(self, x: Tensor) -> Tensor:
        codes, scale = self.source.input_quantizer(x)
        if not bool(codes.isfinite().all()):
            raise ModelError("inputs of an integer layer must be finite")
        run = simulate(self.layer, codes.to(torch.int64).cpu(), self.accumulator)
        self.seen = LayerOverflow(
            self.seen.outputs + run.output.size,
            self.seen.overflowed_outputs + int(np.count_nonzero(run.overflow_count)),
            self.seen.overflow_steps + int(run.overflow_count.sum()),
        )
        register = torch.from_numpy(run.output).to(x.device)
        return self.source.dequantize(register, scale).to(x.dtype)


def _freeze(name: str, module: QuantLayer) -> IntLayer:
    rule = module.weight_quantizer.quantization
    with torch.no_grad():
        q = module.weight_quantizer(module.weight).cpu()
    if not bool(q.isfinite().all() and module.weight.isfinite().all()):
        raise ModelError(f"layer {name!r} has weights that are not finite")
    layer = IntLayer(
        q.to(torch.int64),
        weight_spec=rule.weight_spec,
        input_spec=rule.input_spec,
        **_geometry(module),
    )
    if rule.acc_bits is not None:
        accumulator = Accumulator(rule.acc_bits)
        low, high = bounds.running_extremes(layer.rows, layer.input_spec)
        unsafe = np.flatnonzero(~bounds.fits(low, high, accumulator))
        if unsafe.size:
            channel = int(unsafe[0])
            raise UnsafeLayerError(
                f"layer {name!r} must fit the {rule.acc_bits}-bit register it was trained for:"
                f" channel {channel} reaches [{low[channel]}, {high[channel]}], outside"
                f" [{accumulator.min}, {accumulator.max}]"
            )
    return layer


def _geometry(module: QuantLayer) -> dict[str, Any]:
    names = ("stride", "padding", "dilation", "groups")
    return {name: getattr(module, name) for name in names if isinstance(module, QuantConv2d)}
