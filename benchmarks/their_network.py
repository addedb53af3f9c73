"""The networks of benchmarks/accuracy.py made with brevitas, the A2Q+ authors' own library.

Source of the order of steps, the least scale and the penalty: its example
brevitas_examples/imagenet_classification/a2q.
"""

from __future__ import annotations

import warnings

import accuracy as ours
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from accsim import IntLayer, signed, unsigned

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its own optional packages
        import brevitas.nn as qnn
        from brevitas.config import JIT_ENABLED
        from brevitas.core.restrict_val import RestrictValueType
        from brevitas.core.scaling import AccumulatorAwareParameterPreScaling
        from brevitas.graph.calibrate import bias_correction_mode, calibration_mode
        from brevitas.quant import (
            Int8AccumulatorAwareWeightQuant,
            Int8AccumulatorAwareZeroCenterWeightQuant,
            Uint8ActPerTensorFloat,
        )
        from brevitas_examples.imagenet_classification.a2q.ep_init import apply_ep_init
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("brevitas", "brevitas_examples"):
        raise
    raise SystemExit(
        "benchmarks/beside_brevitas.py needs brevitas:"
        " pip install -c constraints.txt brevitas==0.13.4"
    ) from None

__all__ = ["JIT_ENABLED", "their_layers", "their_penalty", "theirs"]

LEAST = 1e-8  # of scales


def theirs(run: ours.Run) -> nn.Sequential:
    """Their network before training, made in the order of their A2Q+ example.

    Start "ep" is their EP-init, "naive" leaves the float weights to the quantizer.
    """
    images = ours.digits(run.seed)["train"][0]
    codes = Uint8ActPerTensorFloat.let(
        bit_width=ours.OPERAND_BITS, restrict_scaling_type=RestrictValueType.LOG_FP
    )
    layers = [qnn.QuantIdentity(act_quant=codes, return_quant_tensor=True)]
    for layer in ours.trained(run.network, run.seed):
        if isinstance(layer, nn.ReLU):
            layers.append(qnn.QuantReLU(act_quant=codes, return_quant_tensor=True))
        else:
            layers.append(nn.Flatten() if isinstance(layer, nn.Flatten) else their(layer, run.bits))
    model = nn.Sequential(*layers)
    with torch.no_grad():
        if run.start == "ep":
            apply_ep_init(model, images)
        with calibration_mode(model):
            model(images)
        if run.corrected:
            with bias_correction_mode(model):
                model(images)
    return model


def their(layer: nn.Module, bits: int | None) -> nn.Module:
    """Their layer with this one's weights, for a register of so many bits."""
    depthwise = isinstance(layer, nn.Conv2d) and layer.groups > 1
    kind = (
        Int8AccumulatorAwareWeightQuant if depthwise else Int8AccumulatorAwareZeroCenterWeightQuant
    )
    quant = kind.let(
        bit_width=ours.OPERAND_BITS,
        accumulator_bit_width=bits,
        scaling_min_val=LEAST,
        pre_scaling_min_val=LEAST,
    )
    if isinstance(layer, nn.Linear):
        new = qnn.QuantLinear(layer.in_features, layer.out_features, True, weight_quant=quant)
    else:
        new = qnn.QuantConv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            stride=layer.stride,
            padding=layer.padding,
            groups=layer.groups,
            weight_quant=quant,
        )
    # loading starts their scales and norms anew; the float layer's state lacks these
    new.load_state_dict(layer.state_dict(), strict=False)
    return new


def their_penalty(model: nn.Sequential) -> Tensor:
    """Sum over channels of max(g - s·T, 0) as in their example, by their modules."""
    input_bits = torch.tensor(float(ours.OPERAND_BITS))
    terms = []
    for layer in model:
        for part in layer.modules():
            if isinstance(part, AccumulatorAwareParameterPreScaling):
                largest = part.calc_max_l1_norm(input_bits, False) * part.scaling_impl(layer.weight)
                terms.append(relu(part.restrict_clamp_scaling(part.value) - largest).sum())
    return torch.stack(terms).sum()


@torch.no_grad()
def their_layers(model: nn.Sequential, x: Tensor) -> list[IntLayer]:
    """Their frozen integers, with the geometry; `x` is any input."""
    found = []
    for layer in model:
        if isinstance(layer, qnn.QuantLinear | qnn.QuantConv2d):
            names = ("stride", "padding", "groups") if isinstance(layer, nn.Conv2d) else ()
            found.append(
                IntLayer(
                    layer.quant_weight(x).int(),
                    weight_spec=signed(ours.OPERAND_BITS, narrow=True),
                    input_spec=unsigned(ours.OPERAND_BITS),
                    **{name: getattr(layer, name) for name in names},
                )
            )
        x = layer(x)
    return found
