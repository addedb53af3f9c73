"""What a network gains without training once its weights are rounded: refilled budgets, outputs."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from a2qplus.attention import open_attention
from a2qplus.functional import refill
from a2qplus.layers import quantized_layers
from a2qplus.modules import by_channel, evaluating
from a2qplus.observe import Batch, Calibration, batches_of, inputs_of
from accsim.errors import ModelError, ShapeError

__all__ = ["correct_outputs", "refill_model"]


@torch.no_grad()
def refill_model(model: nn.Module, source: nn.Module) -> None:
    """Spend what the registers of a quantized model have left on its integers, in place.

    The integers move toward the weights of the float model `source` that it was made from, or of
    any model of the same layers (`functional.refill`); every layer stays proved for its register.
    Such integers are those of method "budget", which is what the layers have from then on: their
    state loads into a model that was made with it.

    Raises: ModelError for a source that lacks a layer or has one of another shape.
    """
    weights = _weights(open_attention(source), model)
    for name, layer in quantized_layers(model).items():
        quantizer = layer.weight_quantizer
        rule = quantizer.quantization
        if rule.acc_bits is None:
            continue
        scale = by_channel(quantizer.scale, layer.weight)
        q = refill(
            quantizer(layer.weight),
            weights[name].double() / scale,
            **rule.register,
        )
        quantizer.quantization = replace(rule, method="budget")
        quantizer.log2_norm = None
        layer.weight.copy_((q * scale).to(layer.weight.dtype))


@torch.no_grad()
def correct_outputs(model: nn.Module, source: nn.Module, calibration: Calibration) -> None:
    """Fit each output channel of a quantized model to the float model it was made from, in place.

    By least squares over the calibration data: a factor on the channel's scale, which leaves its
    integers as they are (but for those that rounding moves across a boundary), and a bias.
    Weights that were shrunk to fit a register pass on shrunken outputs; the factor makes up for it.
    Layer by layer in the order of computation, so that each correction sees those before it; a
    layer without bias gets the factor alone.

    Raises: ModelError for another source or outputs that are not finite, ShapeError without inputs.
    Source: the bias is that of Nagel et al., arXiv 1906.04721, section 4.2; the factor is ours.
    """
    batches = list(batches_of(calibration))
    source = open_attention(source)
    layers = quantized_layers(model)
    _weights(source, model)
    with evaluating(model), evaluating(source):
        order = list(_outputs(model, list(layers), batches[:1]))  # of computation
        if not order:
            raise ShapeError("calibration must hold at least one input")
        for name in order:
            layer = layers[name]
            wanted, found = (
                torch.cat(_outputs(one, [name], batches)[name]) for one in (source, model)
            )
            if len(found) == 0:
                raise ShapeError("calibration must hold at least one input")
            if not bool(wanted.isfinite().all() and found.isfinite().all()):
                raise ModelError(f"outputs of layer {name!r} to calibrate with must be finite")
            factor, bias = _line(found, wanted, through_zero=layer.bias is None)
            layer.weight *= by_channel(factor, layer.weight).to(layer.weight.dtype)
            layer.weight_quantizer.rescale(factor)
            if layer.bias is not None:
                layer.bias *= factor.to(layer.bias.dtype)
                layer.bias += bias.to(layer.bias.dtype)


def _line(x: Tensor, y: Tensor, *, through_zero: bool) -> tuple[Tensor, Tensor]:
    """The factor, 1 where it would not be positive, and the constant of y = factor·x + constant."""
    middle = (
        (torch.zeros_like(x[0]), torch.zeros_like(y[0])) if through_zero else (x.mean(0), y.mean(0))
    )
    centred = x - middle[0]
    factor = (centred * (y - middle[1])).sum(dim=0) / centred.square().sum(dim=0).clamp_min(1e-30)
    factor = torch.where(factor > 0, factor, 1.0)
    return factor, middle[1] - factor * middle[0]


def _weights(source: nn.Module, model: nn.Module) -> dict[str, Tensor]:
    """The source's weights of every quantized layer of the model."""
    found = {}
    for name, layer in quantized_layers(model).items():
        try:
            weight = source.get_submodule(name).weight
        except AttributeError:
            raise ModelError(f"the source must have a layer {name!r}") from None
        if not isinstance(weight, Tensor) or weight.shape != layer.weight.shape:
            raise ModelError(
                f"layer {name!r} of the source must have weights of shape"
                f" {tuple(layer.weight.shape)}"
            )
        found[name] = weight
    return found


def _outputs(model: nn.Module, names: list[str], batches: list[Batch]) -> dict[str, list[Tensor]]:
    """Outputs of these layers in each batch, (rows, channels), in the order in which they run."""
    found: dict[str, list[Tensor]] = {}

    def watch(name: str, module: nn.Module) -> RemovableHandle:
        axis = -3 if isinstance(module, nn.Conv2d) else -1

        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            rows = output.movedim(axis, -1).flatten(0, -2)
            # a copy: what follows may write into the output
            found.setdefault(name, []).append(rows.to(torch.float64, copy=True))

        return module.register_forward_hook(hook)

    handles = [watch(name, model.get_submodule(name)) for name in names]
    try:
        for batch in batches:
            model(*inputs_of(batch))
    finally:
        for handle in handles:
            handle.remove()
    return found
