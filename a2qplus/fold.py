"""Batch norm folded into the layers before it: fewer operations, and perhaps other integers."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from a2qplus.integer import to_layers
from a2qplus.layers import QuantConv2d, QuantLayer, QuantLinear
from a2qplus.modules import by_channel, copied
from a2qplus.trace import graph_of
from accsim.errors import ModelError

__all__ = ["fold_batch_norm"]


@torch.no_grad()
def fold_batch_norm(model: nn.Module) -> nn.Module:
    """A copy, in eval mode, whose batch norms are part of the linear and conv2d layers before them.

    A batch norm is folded where torch.fx shows that it alone reads what such a layer gives. In a
    quantized layer its factors go into weights and scales alike, so that integers stay, but for
    those that a negative factor turns around and those that rounding moves across a boundary. Every
    layer is then decided again for its register, and a warning tells which integers changed.

    `BatchNorm1d` is taken to follow a linear layer's (B, C), not a sequence (B, L, C).

    Raises: ModelError for a model that torch.fx cannot trace; UnsafeLayerError, by `to_layers`.
    """
    model = copied(model).eval()
    graph = graph_of(model)
    if graph is None:
        raise ModelError("the model must be one that torch.fx can trace, to fold batch norms")
    quantized = any(isinstance(module, QuantLayer) for module in model.modules())
    before = to_layers(model) if quantized else {}
    calls = [str(node.target) for node in graph if node.op in ("call_module", "get_attr")]
    owners = Counter(id(p) for m in model.modules() for p in m.parameters(recurse=False))
    for node in graph:
        source = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) != 1:
            continue
        names = str(node.target), str(source.target)
        norm, layer = (model.get_submodule(name) for name in names)
        alone = all(calls.count(name) == 1 for name in names) and not any(
            call.startswith(f"{names[1]}.") for call in calls
        )
        if alone and _foldable(norm, layer, owners):
            _fold(layer, norm)
            parent, _, attribute = names[0].rpartition(".")
            setattr(model.get_submodule(parent), attribute, nn.Identity())
    after = to_layers(model) if quantized else {}
    for name, frozen in after.items():
        changed = np.count_nonzero(frozen.weight != before[name].weight)
        if changed:
            warnings.warn(
                f"folding changed {changed} of the {frozen.weight.size} integers of layer {name!r},"
                " which was decided again and fits its register",
                stacklevel=3,  # past torch's decorator
            )
    return model


def _foldable(norm: nn.Module, layer: nn.Module, owners: Mapping[int, int]) -> bool:
    """Whether a batch norm with statistics of its own follows a plain linear or conv2d layer.

    One whose parameters are its own: not computed, not tied to others; and without hooks.
    """
    if type(layer) in (nn.Conv2d, QuantConv2d):
        fits = type(norm) is nn.BatchNorm2d and norm.num_features == layer.out_channels
    elif type(layer) in (nn.Linear, QuantLinear):
        fits = type(norm) is nn.BatchNorm1d and norm.num_features == layer.out_features
    else:
        return False
    own = all(owners[id(p)] == 1 for p in layer.parameters(recurse=False))
    hooks = any((m._forward_hooks or m._forward_pre_hooks) for m in (layer, norm))
    return fits and own and not hooks and norm.running_mean is not None


def _fold(layer: Any, norm: Any) -> None:
    """Let the layer give what the batch norm made of it."""
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        factor = factor * norm.weight.double()
    shift = -norm.running_mean.double() * factor
    if norm.affine:
        shift = shift + norm.bias.double()
    if layer.bias is None:
        layer.bias = nn.Parameter(shift.to(layer.weight.dtype))
    else:
        layer.bias.copy_(layer.bias.double() * factor + shift)
    layer.weight.copy_(layer.weight.double() * by_channel(factor, layer.weight))
    if isinstance(layer, QuantLayer):
        size = factor.abs()  # of a channel that is switched off only the weights become 0
        layer.weight_quantizer.rescale(torch.where(size > 0, size, 1.0))
