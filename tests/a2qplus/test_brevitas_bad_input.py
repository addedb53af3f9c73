"""What of Brevitas is no integer layer: named, with the whole text pinned, or left out."""

import sys

import brevitas.nn as qnn
import brevitas.quant as bq
import pytest
import torch
from brevitas.proxy.runtime_quant import DynamicActQuantProxyFromInjector
from brevitas.quant.float import Fp8e4m3ActPerTensorFloat, Fp8e4m3WeightPerTensorFloat
from brevitas.quant.mx_quant_ocp import MXInt8Act, MXInt8Weight
from brevitas.quant.shifted_scaled_int import (
    ShiftedUint8ActPerTensorFloat,
    ShiftedUint8WeightPerChannelFloatHQO,
)
from torch import nn
from torch.nn.utils import prune

from a2qplus import from_brevitas
from accsim.errors import MissingExtraError, ModelError

INT8, UINT8 = bq.Int8ActPerTensorFloat, bq.Uint8ActPerTensorFloat


def linear(**how):
    """One small layer, changed."""
    return qnn.QuantLinear(8, 4, **{"input_quant": UINT8} | how)


def conv(**how):
    """One small convolution, changed."""
    return nn.Sequential(qnn.QuantConv2d(3, 3, 3, input_quant=UINT8, **how))


class Both(nn.Module):
    """Two quantizers of one input, and a layer behind."""

    def __init__(self, join):
        super().__init__()
        self.a = qnn.QuantIdentity(act_quant=UINT8, return_quant_tensor=True)
        self.b = qnn.QuantIdentity(act_quant=INT8, return_quant_tensor=True)
        self.fc = qnn.QuantLinear(8, 4)
        self.join = join
        self(torch.linspace(0, 1, 8)[None])

    def forward(self, x):
        """What the layer makes of both."""
        return self.join(self.fc, self.a(x), self.b(x))


def pruned():
    """A layer whose pruning was not made permanent."""
    layer = linear()
    prune.l1_unstructured(layer, "weight", amount=0.5)
    return layer


def by_input():
    """A layer whose weights have a scale for each input."""
    layer = linear()
    quantized = layer.quant_weight()
    layer.quant_weight = lambda x: quantized.set(scale=quantized.scale.expand(1, 8))
    return layer


DYNAMIC = ShiftedUint8ActPerTensorFloat.let(proxy_class=DynamicActQuantProxyFromInjector)
UNKNOWN = (
    "must know the range of its inputs: give it an input_quant, or give an example that reaches it"
    " as a QuantTensor (return_quant_tensor=True)"
)
DECLARED = (
    "must have integers of their declared range as inputs, but the example brings others to it"
)
ONE_KIND = "must be a QuantLinear, QuantConv1d or QuantConv2d, not a"
ONE_SCALE = "integers with one scale in each register, not a"
X = torch.linspace(0, 1, 8)[None]
REFUSED = {
    "float": (
        lambda: nn.Linear(2, 2),
        "the model must hold Brevitas layers with quantized weights",
    ),
    "float weights": (
        lambda: linear(weight_quant=None),
        "the model must hold Brevitas layers with quantized weights",
    ),
    "no range": (lambda: nn.Sequential(linear(input_quant=None)), f"layer '0' {UNKNOWN}"),
    "floats arrive": (
        lambda: (nn.Sequential(qnn.QuantReLU(), linear(input_quant=None)), X),
        f"layer '1' {UNKNOWN}",
    ),
    "not reached": (
        lambda: (Both(lambda fc, a, b: a.value), X),
        f"layer 'fc' {UNKNOWN}",
    ),
    "transposed": (
        lambda: nn.Sequential(qnn.QuantConvTranspose2d(3, 3, 3)),
        f"layer '0' {ONE_KIND} QuantConvTranspose2d",
    ),
    "recurrent": (
        lambda: nn.Sequential(qnn.QuantRNN(3, 3)),
        f"layer '0.layers.0.0.gate_params.input_weight' {ONE_KIND} GateWeight",
    ),
    "same": (
        lambda: conv(padding="same"),
        "layer '0' must give its padding as numbers, not 'same'",
    ),
    "same and strided": (
        lambda: conv(padding="same", stride=2),
        "layer '0' must give its padding as numbers, not 'same'",
    ),
    "reflect": (
        lambda: conv(padding=1, padding_mode="reflect"),
        "layer '0' must pad with zeros, not 'reflect'",
    ),
    "groups of weights": (
        lambda: qnn.QuantLinear(64, 4, input_quant=INT8, weight_quant=MXInt8Weight),
        f"layer '' must have weights of {ONE_SCALE} GroupwiseIntQuantTensor",
    ),
    "groups of inputs": (
        lambda: (qnn.QuantLinear(64, 4, input_quant=MXInt8Act), torch.rand(2, 64)),
        f"layer '' must have inputs of {ONE_SCALE} GroupwiseIntQuantTensor",
    ),
    "float inputs": (
        lambda: linear(input_quant=Fp8e4m3ActPerTensorFloat),
        f"layer '' must have inputs of {ONE_SCALE} FloatQuantTensor",
    ),
    "float weight codes": (
        lambda: linear(weight_quant=Fp8e4m3WeightPerTensorFloat),
        f"layer '' must have weights of {ONE_SCALE} FloatQuantTensor",
    ),
    "two ranges": (
        lambda: (Both(lambda fc, a, b: fc(a) + fc(b)), X),
        "layer 'fc' must have inputs of one range, not of INT8 and UINT8",
    ),
    "a sum that outgrows its type": (
        lambda: (Both(lambda fc, a, b: fc(a + b.set(value=a.value, scale=a.scale))), X),
        f"layer 'fc' {DECLARED}",
    ),
    "delayed inputs": (
        lambda: (linear(input_quant=INT8.let(quant_delay_steps=9)), X),
        f"layer '' {DECLARED}",
    ),
    "weight scales": (
        by_input,
        "layer '' must have one weight scale in each output channel",
    ),
    "input scales": (
        lambda: linear(
            input_quant=INT8.let(
                scaling_per_output_channel=True,
                per_channel_broadcastable_shape=(1, 8),
                scaling_stats_permute_dims=(1, 0),
            )
        ),
        "layer '' must have inputs of one scale, not of 8",
    ),
    "delay": (
        lambda: linear(weight_quant=bq.Int8WeightPerTensorFloat.let(quant_delay_steps=9)),
        "layer '' must have integers as weights, not something between",
    ),
    "pruned": (
        pruned,
        "layer '' must hold its weight as a parameter, not as what a hook computes: make pruning"
        " permanent first (torch.nn.utils.prune.remove)",
    ),
    "dynamic": (
        lambda: nn.Sequential(linear(input_quant=DYNAMIC)),
        "quantizer '0.input_quant' must have one zero point, not one for each input",
    ),
}


@pytest.mark.parametrize(("make", "text"), REFUSED.values(), ids=REFUSED)
def test_refused(make, text):
    """What is no integer layer is named, with what to do."""
    made = make()
    with pytest.raises(ModelError) as caught:
        from_brevitas(*(made if isinstance(made, tuple) else (made,)))
    assert str(caught.value) == text


def test_fractions_are_refused():
    """A zero point between two codes, as one of Brevitas' quantizers has."""
    layer = linear(weight_quant=ShiftedUint8WeightPerChannelFloatHQO)
    with pytest.raises(
        ModelError, match=r"^layer '' must have a whole number as zero point of weights, not \d"
    ):
        from_brevitas(layer)


def test_what_sums_nothing_is_left_out():
    """Embeddings and scales, and layers in float."""
    model = nn.Sequential(
        qnn.QuantEmbedding(3, 8), qnn.QuantScaleBias(8, True), nn.Linear(8, 8), linear()
    )
    assert list(from_brevitas(model)) == ["3"]


def test_without_brevitas(monkeypatch):
    """One line, with what to install."""
    monkeypatch.setitem(sys.modules, "brevitas", None)
    with pytest.raises(MissingExtraError) as caught:
        from_brevitas(nn.Linear(2, 2))
    assert str(caught.value) == "from_brevitas needs brevitas: pip install 'accsim[brevitas]'"
