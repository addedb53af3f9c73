"""Networks made with Brevitas, in memory, as integer layers: what they compute, not an export."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from a2qplus.integer import check_weight
from a2qplus.layers import check_padding_mode
from a2qplus.modules import evaluating
from accsim.errors import ModelError
from accsim.extras import require
from accsim.layer import IntLayer
from accsim.spec import IntSpec, between, signed

__all__ = ["from_brevitas"]


def from_brevitas(model: nn.Module, example: Any = None) -> dict[str, IntLayer]:
    """The integer layers of a network made with Brevitas, by module name, as it computes in eval.

    Every QuantLinear, QuantConv2d and QuantConv1d (as a convolution of height 1) with quantized
    weights, A2Q and A2Q+ ones too, holds exactly the integers that its quantizer makes; the zero
    points of weights and inputs are subtracted. Inputs have the range of the layer's `input_quant`,
    else of the QuantTensor that reaches it when `example`, a tensor or a tuple of arguments, runs
    through the model; Brevitas' arithmetic on QuantTensors is believed as far as the example shows
    no code outside. Scales and biases, quantized ones too, stay outside the register: a bias that
    it starts at is `dataclasses.replace(layer, bias=...)`. What is left in float is not listed,
    nor are embeddings and QuantScaleBias, which sum nothing, or products of two activations.

    Raises: ModelError naming the layer that is of another kind, whose inputs have no known range or
    several, whose integers do not share one scale in a register, or whose padding is not zeros,
    counted; MissingExtraError without brevitas.
    """
    require("brevitas", extra="brevitas", purpose="from_brevitas")
    layers = _layers(model)
    with torch.no_grad(), evaluating(model):
        reaching = _reaching(model, layers, example)
        return {
            name: _frozen(name, module, *_input(name, module, reaching[name]))
            for name, module in layers.items()
        }


def _layers(model: nn.Module) -> dict[str, Any]:
    """The layers to freeze, by module name. Raises: ModelError for others with such weights."""
    from brevitas import nn as qnn
    from brevitas.nn.mixin import QuantWeightMixin

    kinds = (qnn.QuantLinear, qnn.QuantConv1d, qnn.QuantConv2d)
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, QuantWeightMixin) and module.weight_quant.is_quant_enabled:
            if isinstance(module, kinds):
                found[name] = module
            elif not isinstance(module, qnn.QuantEmbedding | qnn.QuantScaleBias):
                raise ModelError(
                    f"layer {name!r} must be a QuantLinear, QuantConv1d or QuantConv2d, not a"
                    f" {type(module).__name__}"
                )
        _check_constant(name, module)
    if not found:
        raise ModelError("the model must hold Brevitas layers with quantized weights")
    return found


def _check_constant(name: str, module: nn.Module) -> None:
    """Raise ModelError for a quantizer of activations that takes its zero point from each input."""
    from brevitas.core.zero_point import ZeroZeroPoint
    from brevitas.proxy.runtime_quant import DynamicActQuantProxyFromInjector

    if isinstance(module, DynamicActQuantProxyFromInjector) and not any(
        isinstance(part, ZeroZeroPoint) for part in module.modules()
    ):
        raise ModelError(f"quantizer {name!r} must have one zero point, not one for each input")


def _reaching(
    model: nn.Module, layers: Mapping[str, Any], example: Any
) -> dict[str, list[Tensor | tuple[Any, ...]]]:
    """What each layer multiplies while the example runs: QuantTensors, or floats."""
    seen: dict[str, list[Tensor | tuple[Any, ...]]] = {name: [] for name in layers}
    if example is None:
        return seen

    def note(name: str, module: nn.Module, args: Any, output: Tensor | tuple[Any, ...]) -> None:
        seen[name].append(output)

    handles = [
        module.input_quant.register_forward_hook(partial(note, name))
        for name, module in layers.items()
    ]
    try:
        model(*example if type(example) is tuple else (example,))  # a QuantTensor is a tuple, too
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _input(name: str, module: Any, reaching: list[Any]) -> tuple[Any, IntSpec]:
    """A QuantTensor as the layer multiplies it, and the range of its codes.

    Raises: ModelError unless there is one range.
    """
    quantizer = module.input_quant
    if quantizer.is_quant_enabled and not quantizer.is_groupwise:
        reaching = [*reaching, quantizer.internal_forward(force_eval=True)]
    if not reaching or any(isinstance(one, Tensor) for one in reaching):
        raise ModelError(
            f"layer {name!r} must know the range of its inputs: give it an input_quant, or give an"
            " example that reaches it as a QuantTensor (return_quant_tensor=True)"
        )
    narrow = quantizer.is_quant_enabled and quantizer.is_narrow_range
    specs = {_code_range(name, "inputs", one, narrow) for one in reaching}
    if len(specs) > 1:
        both = " and ".join(sorted(str(spec) for spec in specs))
        raise ModelError(f"layer {name!r} must have inputs of one range, not of {both}")
    for one in reaching:
        # a depthwise register reads one channel only, so that each may have a scale
        scales = one.scale.numel()
        if scales > 1 and not getattr(module, "groups", 1) == scales == module.in_channels:
            raise ModelError(f"layer {name!r} must have inputs of one scale, not of {scales}")
        if one.bit_width > 1 and not one.is_valid:
            raise ModelError(
                f"layer {name!r} must have integers of their declared range as inputs, but the"
                " example brings others to it"
            )
    return reaching[0], specs.pop()


def _frozen(name: str, module: Any, x: Any, input_spec: IntSpec) -> IntLayer:
    """The layer, whose inputs are like `x`: the weights of A2Q depend on its width and sign."""
    check_weight(name, module)
    geometry = _geometry(name, module)
    weight = module.quant_weight(x)
    weight_spec = _code_range(name, "weights", weight, module.weight_quant.is_narrow_range)
    scales = weight.scale.numel()
    if scales > 1 and len(weight.scale) != scales:
        raise ModelError(f"layer {name!r} must have one weight scale in each output channel")
    q = (weight.value.double() / weight.scale.double()).round()
    if not torch.equal(q.to(weight.value.dtype) * weight.scale, weight.value):
        raise ModelError(f"layer {name!r} must have integers as weights, not something between")
    integers = q.to(torch.int64).cpu()
    return IntLayer(
        integers[:, :, None] if integers.ndim == 3 else integers,
        weight_spec=weight_spec,
        input_spec=input_spec,
        **geometry,
    )


def _code_range(name: str, what: str, tensor: Any, narrow: bool | None) -> IntSpec:
    """The range of a QuantTensor's codes less their zero point, the hull where there are several.

    Raises: ModelError for other tensors, as of floats or groups, and for fractions.
    """
    from brevitas.quant_tensor import IntQuantTensor

    if not isinstance(tensor, IntQuantTensor):
        raise ModelError(
            f"layer {name!r} must have {what} of integers with one scale in each register, not a"
            f" {type(tensor).__name__}"
        )
    narrow = bool(narrow)  # None: there is no quantizer that tells
    bits = max(_whole(name, f"bits of {what}", tensor.bit_width))
    zeros = _whole(name, f"zero point of {what}", tensor.zero_point)
    if tensor.signed:
        # what Brevitas calls one signed bit is -1 or 1
        codes = between(-1, 1) if bits == 1 else signed(bits, narrow=narrow)
    else:
        codes = between(0, 2**bits - 1 - narrow)
    return between(codes.min - max(zeros), codes.max - min(zeros))


def _whole(name: str, what: str, values: Tensor) -> set[int]:
    """The different values, as integers."""
    found = set(values.detach().flatten().tolist())
    for value in found:
        if not float(value).is_integer():
            raise ModelError(f"layer {name!r} must have a whole number as {what}, not {value:g}")
    return {int(value) for value in found}


def _geometry(name: str, module: Any) -> dict[str, Any]:
    """Stride and the like of a convolution, none of a linear layer."""
    if isinstance(module, nn.Linear):
        return {}
    check_padding_mode(module, f"layer {name!r}")
    padding = "same" if module.is_same_padded_strided else module.padding
    if isinstance(padding, str):
        raise ModelError(f"layer {name!r} must give its padding as numbers, not {padding!r}")
    flat = {"stride": (1,), "padding": (0,), "dilation": (1,)}  # the height of a Conv1d
    pairs = {key: (*first, *getattr(module, key))[-2:] for key, first in flat.items()}
    return {**pairs, "groups": module.groups}
