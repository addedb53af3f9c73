"""The trained network as integers: frozen layers, decided again, and computed by accsim."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from a2qplus.layers import QuantConv2d, QuantLayer, QuantMatMul, quantized_layers
from a2qplus.modules import copied, replace_modules
from a2qplus.quantizers import ActivationQuantizer
from accsim import bounds
from accsim._check import IntArray
from accsim.datapath import Datapath
from accsim.errors import ModelError, RangeError, UnsafeLayerError
from accsim.layer import IntLayer
from accsim.simulate import Run, simulate
from accsim.spec import Accumulator
from accsim.tree import check_takes

__all__ = ["IntegerNetwork", "LayerOverflow", "check_calibrated", "to_integer", "to_layers"]


def to_layers(model: nn.Module) -> dict[str, IntLayer]:
    """The frozen integer layers of a quantized model, by module name.

    Each layer that was trained for a register is decided again, exactly, on these integers. Biases
    and scales stay in float, outside the register. A layer with a zero point that is not subtracted
    first takes its padding as codes among its inputs, and starts at its preload, if it has one, as
    a bias. Products of activations have no weights to freeze: `matmuls` lists them, too.

    Raises: ModelError for a model without quantized layers, or with weights that are not finite or
    that a hook computes; UnsafeLayerError naming the layer and channel that can overflow.
    """
    return {name: _freeze(name, module) for name, module in quantized_layers(model).items()}


Watch = Callable[[str, IntLayer, IntArray, Run], object]


def to_integer(
    model: nn.Module, accumulator: Accumulator | Datapath, *, watch: Watch = lambda *_: None
) -> IntegerNetwork:
    """The same network, each quantized layer computed by accsim in registers like `accumulator`.

    Or through datapaths, which must take the codes of all layers.

    The float operations around the integer sums are those of the quantized model in eval mode, so
    with registers that never overflow both give the same numbers, bit for bit, with torch's default
    convolutions on the CPU (`a2qplus.layers` says where not).

    `watch` is told of each call of each layer: its name, the layer that was simulated (of a product
    of activations the right operand is the weights), the codes that went in, and the run.

    Raises: as `to_layers`; ModelError for a layer that has not seen any input; RangeError for one
    whose operands the datapath does not take.
    """
    frozen = to_layers(model)
    network = copied(model).eval().requires_grad_(False)

    def replacement(name: str, module: nn.Module) -> nn.Module | None:
        if not isinstance(module, QuantLayer | QuantMatMul):
            return None
        if isinstance(module, QuantLayer):
            _check_takes(name, frozen[name], accumulator)
        check_calibrated(name, module)
        if isinstance(module, QuantMatMul):
            return _IntegerMatMul(name, module, accumulator, watch)
        return _IntegerLayer(name, module, accumulator, watch, frozen[name])

    return IntegerNetwork(replace_modules(network, replacement))


def _check_takes(name: str, layer: IntLayer, accumulator: Accumulator | Datapath) -> None:
    """Raise RangeError naming the layer unless the register or datapath can compute it."""
    try:
        check_takes(layer, accumulator)
    except RangeError as error:
        raise RangeError(f"layer {name!r}: {error}") from None


def check_calibrated(name: str, module: nn.Module) -> None:
    """Raise ModelError unless all quantizers of activations in a layer have their scales."""
    if not all(m.calibrated for m in module.modules() if isinstance(m, ActivationQuantizer)):
        raise ModelError(
            f"layer {name!r} has no input scale yet: run the model on data that reach it, or"
            " quantize it with such calibration data"
        )


@dataclass(frozen=True, slots=True)
class LayerOverflow:
    """What happened in one layer since the network was made, summed over all its registers.

    `level_steps`: the steps of each level of a datapath, inner to outer; of a register, none.
    """

    outputs: int
    overflowed_outputs: int
    overflow_steps: int
    level_steps: tuple[int, ...] = ()


class IntegerNetwork(nn.Module):
    """A network computed in integers; calls and shapes as those of the model it was made from."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """The network's output, without gradients."""
        with torch.no_grad():
            return self.network(*inputs, **options)

    def overflow_report(self) -> dict[str, LayerOverflow]:
        """Overflows so far, by layer name."""
        return {
            name: module.seen
            for name, module in self.network.named_modules()
            if isinstance(module, _Counting)
        }


class _Counting(nn.Module):
    """A module whose sums accsim computes, and that counts what overflows."""

    def __init__(
        self, name: str, source: nn.Module, accumulator: Accumulator | Datapath, watch: Watch
    ) -> None:
        super().__init__()
        self.name, self.source, self.accumulator, self.watch = name, source, accumulator, watch
        levels = len(accumulator.levels) if isinstance(accumulator, Datapath) else 0
        self.seen = LayerOverflow(0, 0, 0, (0,) * levels)

    def simulated(self, layer: IntLayer, codes: Tensor) -> Tensor:
        """The registers' results, on the device of the codes."""
        if not bool(codes.isfinite().all()):
            raise ModelError("inputs of an integer layer must be finite")
        integers = codes.to(torch.int64).cpu().numpy()
        run = simulate(layer, integers, self.accumulator)
        self.watch(self.name, layer, integers, run)
        self.seen = LayerOverflow(
            self.seen.outputs + run.output.size,
            self.seen.overflowed_outputs + int(np.count_nonzero(run.overflow_count)),
            self.seen.overflow_steps + int(run.overflow_count.sum()),
            tuple(
                steps + int(level.overflow_count.sum())
                for steps, level in zip(self.seen.level_steps, run.levels, strict=True)
            ),
        )
        return torch.from_numpy(run.output).to(codes.device)


class _IntegerLayer(_Counting):
    """A quantized layer of frozen weights."""

    source: QuantLayer

    def __init__(
        self,
        name: str,
        source: QuantLayer,
        accumulator: Accumulator | Datapath,
        watch: Watch,
        layer: IntLayer,
    ) -> None:
        super().__init__(name, source, accumulator, watch)
        self.layer = layer
        self.rule = source.weight_quantizer.quantization
        self.padding: Any = getattr(source, "padding", None)

    def forward(self, input: Tensor) -> Tensor:
        codes, scale = self.source.input_quantizer(input)
        single = codes.ndim == 3 and isinstance(self.source, QuantConv2d)
        codes = codes[None] if single else codes
        offset = self.rule.offset
        if offset and isinstance(self.source, QuantConv2d):  # whose padding is the zero point
            vertical, horizontal = self.padding
            codes = F.pad(codes, (horizontal, horizontal, vertical, vertical))
        register = self.simulated(self.layer, codes + offset)
        if self.rule.zero_point == "outside":
            sums = torch.from_numpy(self.layer.rows.sum(axis=1, dtype=np.int64))
            shape = (-1, *[1] * (self.source.weight.ndim - 2))
            register = register - offset * sums.to(input.device).reshape(shape)
        register = register[0] if single else register
        return self.source.dequantize(register, scale).to(input.dtype)


class _IntegerMatMul(_Counting):
    """A product of two activations: one operand plays the weights, newly for each batch."""

    source: QuantMatMul

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b, scale = self.source.quantize(left, right)
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        many_a = a.expand(*batch, *a.shape[-2:]).flatten(0, -3) if batch else a[None]
        many_b = b.expand(*batch, *b.shape[-2:]).flatten(0, -3) if batch else b[None]
        register = a.new_zeros((len(many_a), a.shape[-2], b.shape[-1]), dtype=torch.int64)
        for place, (x, y) in enumerate(zip(many_a, many_b, strict=True)):
            if register[place].numel():
                register[place] = self._product(x, y)
        register = register.reshape(*batch, a.shape[-2], b.shape[-1])
        return (register.float() * scale).to(left.dtype)

    def _product(self, x: Tensor, y: Tensor) -> Tensor:
        """(M, K), (K, N) -> (M, N)."""
        if not bool(y.isfinite().all()):
            raise ModelError("inputs of an integer layer must be finite")
        a, b = self.source.quantizers
        layer = IntLayer(y.T.to(torch.int64).cpu().numpy(), weight_spec=b.spec, input_spec=a.spec)
        return self.simulated(layer, x)


def _freeze(name: str, module: QuantLayer) -> IntLayer:
    check_weight(name, module)
    rule = module.weight_quantizer.quantization
    with torch.no_grad():
        q = module.weight_quantizer(module.weight).cpu()
    if not bool(q.isfinite().all() and module.weight.isfinite().all()):
        raise ModelError(f"layer {name!r} has weights that are not finite")
    integers = q.to(torch.int64)
    preloaded = rule.zero_point == "preload"
    layer = IntLayer(
        integers,
        weight_spec=rule.weight_spec,
        input_spec=rule.code_spec,
        bias=-rule.offset * integers.flatten(1).sum(dim=1) if preloaded else None,
        **_geometry(module),
    )
    if rule.acc_bits is not None:
        _check_safe(name, layer, Accumulator(rule.acc_bits))
    return layer


def check_weight(name: str, module: nn.Module) -> None:
    """Raise ModelError if the layer's weight is what a hook computed, and may be out of date."""
    if "weight" in vars(module):  # as torch's pruning leaves it, a step behind its parameters
        raise ModelError(
            f"layer {name!r} must hold its weight as a parameter, not as what a hook computes: make"
            " pruning permanent first (torch.nn.utils.prune.remove)"
        )


def _check_safe(name: str, layer: IntLayer, accumulator: Accumulator) -> None:
    """Raise UnsafeLayerError if some input overflows the register."""
    low, high = bounds.running_extremes(layer.rows, layer.input_spec, bias=layer.bias)
    unsafe = np.flatnonzero(~bounds.fits(low, high, accumulator))
    if unsafe.size:
        channel = int(unsafe[0])
        raise UnsafeLayerError(
            f"layer {name!r} must fit the {accumulator.bits}-bit register it was trained for:"
            f" channel {channel} reaches [{low[channel]}, {high[channel]}], outside"
            f" [{accumulator.min}, {accumulator.max}]"
        )


def _geometry(module: QuantLayer) -> dict[str, Any]:
    """Stride and the like; codes with a zero point are padded before they are multiplied."""
    if not isinstance(module, QuantConv2d):
        return {}
    names = ("stride", "padding", "dilation", "groups")
    padded = {"padding": 0} if module.weight_quantizer.quantization.offset else {}
    return {**{name: getattr(module, name) for name in names}, **padded}
