"""A float model to a quantized one: every linear and two-dimensional convolution layer replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from a2qplus.attention import MatMul, open_attention
from a2qplus.layers import (
    QuantConv2d,
    QuantLayer,
    QuantLinear,
    QuantMatMul,
    check_padding_mode,
)
from a2qplus.methods import Quantization
from a2qplus.modules import evaluating, replace_modules
from a2qplus.observe import Calibration, LastInputs, Seen, observe
from a2qplus.rules import Overrides, Range, Rule, left_in_float, overridden
from a2qplus.trace import never_negative, order_of_calls
from accsim._check import integer
from accsim.errors import ModelError, SpecError

__all__ = ["quantize_model"]

# What multiplies matrices in it, whether we can quantize it or not.
_PRODUCTS = (
    nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.RNNBase, nn.RNNCellBase,
    nn.MultiheadAttention, MatMul, QuantMatMul,
)  # fmt: skip


def quantize_model(
    model: nn.Module,
    *,
    weight_bits: int,
    act_bits: int,
    acc_bits: int | None = None,
    method: str = "a2q+",
    calibration: Calibration | None = None,
    edge_bits: int | None = None,
    start: str = "fit",
    zero_point: str | None = None,
    overrides: Overrides | None = None,
) -> nn.Module:
    """A trainable copy whose linear and conv2d layers sum integers that fit `acc_bits`.

    `method` is "base", "a2q", "a2q+" or "budget", and `start` where training starts from the float
    weights (`a2qplus.methods`); "a2q+" takes "a2q" for depthwise convolutions, whose few taps
    centring would hurt, as in the paper. Inputs of a layer are unsigned where the graph or the
    calibration data show them never negative (after ReLU), else signed; with a `zero_point`
    ("subtract", "outside" or "preload": `a2qplus.methods`) asymmetric, from the calibration data.
    With `edge_bits`, 8 in the paper, the first and last layer have weights and inputs of so many
    bits and no bound. `torch.nn.MultiheadAttention` becomes an `Attention` (or stays, where an
    override says None for its name); its two products of activations, and every `MatMul`, have
    quantized operands, and sums that only their types bound. Batch norm, layer norm, softmax,
    embeddings, pooling and additions stay in float, outside the register (`matmuls` lists what is
    left in float). `calibration` is one batch or several, each a tuple of tensors for a
    model of several inputs; without it each layer takes its input scale from the first batch that
    it sees. Weights that two layers share (tied, not one module) are no longer shared. The copy
    notes the shapes of the inputs that it is called with, for `export_onnx`.

    `overrides` changes weight_bits, act_bits, acc_bits, method, start or zero_point of the layers
    whose name matches a pattern, the later pattern winning; None leaves them in float:
    {"blocks.*.conv": {"acc_bits": 14}, "head": None}.

    Raises: SpecError for bits, an unknown word, a pattern that matches no layer, or a register
    that holds no weight but 0, with the least that does; ModelError for a model without such
    layers, or with one that cannot be quantized, by name; ShapeError for calibration data of a
    wrong shape.
    """
    rule = Rule(method, weight_bits, act_bits, acc_bits, start, zero_point)
    edge = None
    if edge_bits is not None:
        edge = Rule(
            "base", integer(edge_bits, "edge_bits", 2, 16), edge_bits, None, start, zero_point
        )
    overrides = {} if overrides is None else overrides
    attention = [n for n, m in model.named_modules() if isinstance(m, nn.MultiheadAttention)]
    model = open_attention(model, left=left_in_float(attention, overrides))
    layers = _layers(model)
    wanted = {name: layers[name] for name in overridden(dict.fromkeys(layers, rule), overrides)}
    _check_layers(wanted, overrides)
    last, seen = LastInputs(), {}
    if calibration is not None:
        handle = last.watch(model)
        seen = observe(model, wanted, calibration)
        handle.remove()  # the model may be a layer, which is replaced
    rules = overridden(_rules(model, layers, rule, edge, seen), overrides)
    with evaluating(model):
        positive = never_negative(model, layers)
    like = next(model.parameters(), torch.zeros(()))

    def replacement(name: str, layer: nn.Module) -> nn.Module | None:
        if name not in rules:
            return None
        try:
            return _replacement(
                layer, rules[name], seen.get(name, ()), positive=name in positive, like=like
            )
        except (ModelError, SpecError) as error:
            raise type(error)(f"layer {name!r}: {error}") from None

    quantized = replace_modules(model, replacement)
    last.watch(quantized)
    return quantized


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """What multiplies matrices, by name; attention that is one module hides its parts."""
    found = {n: m for n, m in model.named_modules() if isinstance(m, _PRODUCTS)}
    whole = [f"{n}." for n, m in found.items() if isinstance(m, nn.MultiheadAttention)]
    return {n: m for n, m in found.items() if not n.startswith(tuple(whole))}


def _rules(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    rule: Rule,
    edge: Rule | None,
    seen: Mapping[str, Seen],
) -> dict[str, Rule]:
    """The rule of each layer before overrides."""
    rules = dict.fromkeys(layers, rule)
    if rule.method == "a2q+":
        narrow = [name for name, layer in layers.items() if _is_depthwise(layer)]
        rules |= dict.fromkeys(narrow, rule.replaced({"method": "a2q"}))
    if edge is not None:
        order = list(seen) or order_of_calls(model, layers)
        weighty = [name for name in order if isinstance(layers[name], nn.Linear | nn.Conv2d)]
        rules |= dict.fromkeys(weighty[:1] + weighty[-1:], edge)
    return rules


def _is_depthwise(layer: nn.Module) -> bool:
    """Whether each register sums the taps of one input channel."""
    return isinstance(layer, nn.Conv2d) and layer.groups > 1 and layer.weight.shape[1] == 1


def _check_layers(layers: Mapping[str, nn.Module], overrides: Overrides) -> None:
    """Raise ModelError or SpecError unless all these can be quantized, and one has weights."""
    for name, layer in layers.items():
        _check_layer(name, layer)
        others = (overrides.get(name) or {}).keys() - {"act_bits", "zero_point"}
        if isinstance(layer, MatMul) and others:
            raise SpecError(
                f"overrides {name!r} must be of act_bits and zero_point, for a product of"
                f" activations, not {min(others)!r}"
            )
    if not any(isinstance(layer, nn.Linear | nn.Conv2d) for layer in layers.values()):
        raise ModelError("the model must hold a torch.nn.Linear or torch.nn.Conv2d to quantize")


def _check_layer(name: str, layer: nn.Module) -> None:
    if isinstance(layer, QuantLayer | QuantMatMul):
        raise ModelError(f"layer {name!r} is quantized already")
    if type(layer) not in (nn.Linear, nn.Conv2d, MatMul):
        way_out = f"; overrides={{{name!r}: None}} leaves it in float" if name else ""
        raise ModelError(
            f"{f'layer {name!r}' if name else 'the model'} must be a plain Linear or Conv2d, not"
            f" {type(layer).__name__}{way_out}"
        )
    if isinstance(layer, nn.Linear | nn.Conv2d) and not bool(layer.weight.isfinite().all()):
        raise ModelError(f"layer {name!r} has weights that are not finite")
    if layer._forward_hooks or layer._forward_pre_hooks:
        raise ModelError(f"layer {name!r} must be without hooks, which it would lose")
    if isinstance(layer, nn.Conv2d):
        check_padding_mode(layer, f"layer {name!r}")


def _replacement(
    layer: nn.Module, rule: Rule, seen: Seen, *, positive: bool, like: Tensor
) -> nn.Module:
    """The layer, quantized for the inputs that were seen, if any were; parameters `like` others."""
    unknown: list[Range | None] = [None] * (2 if isinstance(layer, MatMul) else 1)
    ranges = list(seen) or unknown
    # data that show a negative input overrule the graph, which may miss a write in place
    specs = [
        rule.inputs(ends, positive=positive if ends is None else ends[0] >= 0) for ends in ranges
    ]
    new: QuantMatMul | QuantLinear | QuantConv2d
    if isinstance(layer, MatMul):
        new = QuantMatMul(*specs).to(like.device, like.dtype).train(layer.training)
        quantizers = list(new.quantizers)
    else:
        new = _quantized(layer, rule.of(specs[0]))
        quantizers = [new.input_quantizer]
    for quantizer, ends in zip(quantizers, ranges, strict=True):
        if ends is not None:
            quantizer.calibrate(*ends)
    return new


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
            padding=_padding(layer),
            dilation=layer.dilation,
            groups=layer.groups,
            bias=layer.bias is not None,
            quantization=rule,
            **kind,
        )
    new.weight_quantizer.quantization = final
    with torch.no_grad():
        new.weight.copy_(new.weight_quantizer.initialize(layer.weight))
        new.weight.requires_grad_(layer.weight.requires_grad)
        if layer.bias is not None:
            new.bias.copy_(layer.bias)
            new.bias.requires_grad_(layer.bias.requires_grad)
    return new.train(layer.training)


def _padding(layer: nn.Conv2d) -> Any:
    """The layer's padding as numbers. Raises: ModelError for one that differs from side to side."""
    if layer.padding == "valid":
        return 0
    if layer.padding != "same":
        return layer.padding
    both = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    if any(total % 2 for total in both):
        raise ModelError('padding "same" must be equal on both sides, as of an odd kernel')
    return tuple(total // 2 for total in both)
