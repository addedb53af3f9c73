"""A float model to a quantized one: every linear and two-dimensional convolution layer replaced."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from a2qplus.layers import QuantConv2d, QuantLayer, QuantLinear, check_padding
from a2qplus.methods import Quantization
from a2qplus.trace import first_and_last, never_negative
from accsim._check import integer
from accsim.errors import ModelError, ShapeError, SpecError
from accsim.spec import IntSpec, signed, unsigned

__all__ = ["evaluating", "quantize_model", "replace_modules"]


def quantize_model(
    model: nn.Module,
    *,
    weight_bits: int,
    act_bits: int,
    acc_bits: int | None = None,
    method: str = "a2q+",
    calibration: Tensor | Iterable[Tensor] | None = None,
    edge_bits: int | None = 8,
    start: str = "fit",
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> nn.Module:
    """A trainable copy whose linear and conv2d layers sum integers that fit `acc_bits`.

    `method` is "base", "a2q", "a2q+" or "budget", and `start` where training starts from the float
    weights (`a2qplus.methods`); "a2q+" takes "a2q" for depthwise convolutions, whose few taps
    centring would hurt, as in the paper. Inputs of a layer are unsigned where the graph or the
    calibration data show them never negative (after ReLU), else signed. The first and last layer
    have `edge_bits`-bit weights and inputs and no bound, as in the paper; `edge_bits=None` treats
    them as the others. Batch norm, pooling and everything else stay in float, outside the register.
    `calibration` is one batch or several; without it each layer takes its input scale from the
    first batch it sees.

    `overrides` changes weight_bits, act_bits, acc_bits, method or start of the layers whose name
    matches a pattern, the later pattern winning: {"blocks.*.conv": {"acc_bits": 14}}.

    Raises: SpecError for bits, an unknown word, or a pattern that matches no layer; ModelError for
    a model without such layers, or with one that cannot be quantized, by name.
    """
    rule = Rule(method, weight_bits, act_bits, acc_bits, start)
    if edge_bits is not None:
        integer(edge_bits, "edge_bits", 2, 16)
    model = copy.deepcopy(model)
    layers: dict[str, nn.Module] = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    }
    if not layers:
        raise ModelError("the model must hold a torch.nn.Linear or torch.nn.Conv2d to quantize")
    for name, layer in layers.items():
        _check_layer(name, layer)
    positive = never_negative(model, layers)
    seen = {} if calibration is None else _observe(model, layers, calibration)
    rules = dict.fromkeys(layers, rule)
    if method == "a2q+":
        narrow = [name for name, layer in layers.items() if _is_depthwise(layer)]
        rules |= dict.fromkeys(narrow, rule.replaced({"method": "a2q"}))
    if edge_bits is not None:
        edge = Rule("base", edge_bits, edge_bits, None, start)
        rules |= dict.fromkeys(first_and_last(model, layers), edge)
    for pattern, changes in (overrides or {}).items():
        matching = [name for name in rules if fnmatchcase(name, str(pattern))]
        if not matching:
            raise SpecError(f"overrides {pattern!r} must match a layer, one of {', '.join(rules)}")
        for name in matching:
            try:
                rules[name] = rules[name].replaced(changes)
            except SpecError as error:
                raise SpecError(f"overrides {pattern!r}, layer {name!r}: {error}") from None

    def replacement(name: str, layer: nn.Module) -> nn.Module | None:
        if name not in layers:
            return None
        low, high = seen.get(name, (None, None))
        # data that show a negative input overrule the graph, which may miss a write in place
        kind = unsigned if (name in positive if low is None else low >= 0) else signed
        new = _quantized(layer, rules[name].of(kind))
        if low is not None and high is not None:
            new.input_quantizer.calibrate(max(-low, high))
        return new

    return replace_modules(model, replacement)


@dataclass(frozen=True, slots=True)
class Rule:
    """How a layer is quantized, but for the sign of its inputs."""

    method: str
    weight_bits: int
    act_bits: int
    acc_bits: int | None
    start: str

    def __post_init__(self) -> None:
        integer(self.act_bits, "act_bits", 1, 16)
        self.of(unsigned)

    def replaced(self, changes: Mapping[str, Any]) -> Rule:
        """The rule with some members changed; to "base" also without a register."""
        names = [item.name for item in fields(self)]
        if not isinstance(changes, Mapping):
            raise SpecError(f"changes must be a mapping, not {changes!r}")
        for name in changes:
            if name not in names:
                raise SpecError(f"changes must be of {', '.join(names)}, not {name!r}")
        more = {"acc_bits": None} if changes.get("method") == "base" else {}
        return replace(self, **{**more, **changes})

    def of(self, kind: Callable[[int], IntSpec]) -> Quantization:
        """For inputs of this kind, signed or unsigned."""
        return Quantization(
            self.method, self.weight_bits, kind(self.act_bits), self.acc_bits, self.start
        )


def _is_depthwise(layer: nn.Module) -> bool:
    """Whether each register sums the taps of one input channel."""
    return isinstance(layer, nn.Conv2d) and layer.groups > 1 and layer.weight.shape[1] == 1


def replace_modules(
    model: nn.Module, replacement: Callable[[str, nn.Module], nn.Module | None]
) -> nn.Module:
    """The model, changed in place, with each module replaced where `replacement` returns one.

    A module that is used under several names is replaced once, under all of them.
    """
    names: dict[int, str] = {}
    for name, module in model.named_modules():
        names[id(module)] = name
    replaced: dict[int, nn.Module | None] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if id(module) not in replaced:
            replaced[id(module)] = replacement(names[id(module)], module)
        new = replaced[id(module)]
        if new is None:
            continue
        if name == "":
            return new
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, new)
    return model


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, and afterwards every module as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _check_layer(name: str, layer: nn.Module) -> None:
    if isinstance(layer, QuantLayer):
        raise ModelError(f"layer {name!r} is quantized already")
    if type(layer) not in (nn.Linear, nn.Conv2d):
        raise ModelError(
            f"layer {name!r} must be a plain Linear or Conv2d, not {type(layer).__name__}"
        )
    if isinstance(layer, nn.Conv2d):
        check_padding(layer, f"layer {name!r}")


def _quantized(layer: nn.Module, rule: Quantization) -> QuantLinear | QuantConv2d:
    """A quantized layer with the float layer's weights."""
    kind = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    new: QuantLinear | QuantConv2d
    rule, final = replace(rule, start="naive"), rule  # the weights it is made with are not kept
    if isinstance(layer, nn.Linear):
        new = QuantLinear(
            layer.in_features, layer.out_features, layer.bias is not None, quantization=rule, **kind
        )
    else:
        assert isinstance(layer, nn.Conv2d)
        new = QuantConv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            stride=layer.stride,
            padding=0 if layer.padding == "valid" else layer.padding,
            dilation=layer.dilation,
            groups=layer.groups,
            bias=layer.bias is not None,
            quantization=rule,
            **kind,
        )
    new.weight_quantizer.quantization = final
    with torch.no_grad():
        new.weight.copy_(new.weight_quantizer.initialize(layer.weight))
        if layer.bias is not None:
            new.bias.copy_(layer.bias)
    return new.train(layer.training)


@torch.no_grad()
def _observe(
    model: nn.Module, layers: dict[str, nn.Module], calibration: Tensor | Iterable[Tensor]
) -> dict[str, tuple[float, float]]:
    """Lowest and highest input of each layer over the calibration batches, in float."""
    seen: dict[str, tuple[float, float]] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if inputs[0].numel() == 0:
                return
            low, high = (float(t) for t in inputs[0].aminmax())
            old = seen.get(name, (low, high))
            seen[name] = (min(low, old[0]), max(high, old[1]))

        return hook

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    with evaluating(model):
        for batch in [calibration] if isinstance(calibration, Tensor) else calibration:
            model(batch)
    for handle in handles:
        handle.remove()
    if not seen:
        raise ShapeError("calibration must hold at least one input")
    return seen
