"""From a float model to a frozen one: conversion, training, freezing, the integer network."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from a2qplus import (
    MatMul,
    QuantConv2d,
    Quantization,
    QuantLinear,
    fit,
    matmuls,
    quantize_model,
    to_integer,
    to_layers,
)
from a2qplus.quantizers import WeightQuantizer
from a2qplus.train import accuracy
from accsim import (
    Accumulator,
    Datapath,
    between,
    bounds,
    datapaths,
    signed,
    simulate,
    unsigned,
)
from accsim.errors import ModelError, RangeError, UnsafeLayerError

METHODS = {"base": None, "a2q": 12, "a2q+": 12, "budget": 12}


class Branching(nn.Module):
    """Two paths that meet, a shared layer, a depthwise and a grouped convolution."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.grouped = nn.Conv2d(8, 8, (1, 3), padding=(0, 2), dilation=(1, 2), groups=2)
        self.shared = nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        """(B, 3, H, W) -> (B, 4)."""
        x = relu(self.norm(self.stem(x)))
        y = self.depthwise(x) + self.grouped(x)
        y = relu(y).mean(dim=(2, 3))
        y = self.shared(torch.tanh(self.shared(y)))
        return self.head(y)


def sequential():
    """A plain convolutional network."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding="valid", bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8, 4),
    )


MODELS = {"sequential": sequential, "branching": Branching}


def data(count=24):
    """Images and classes."""
    rng = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 9, 9, generator=rng), torch.arange(count) % 4


def trained(model, method="a2q+", edge_bits=None, dtype=torch.float32, **how):
    """A quantized model after a few steps."""
    torch.manual_seed(0)
    x, y = data()
    quantized = quantize_model(
        MODELS[model]().to(dtype),
        weight_bits=4,
        act_bits=4,
        acc_bits=METHODS[method],
        method=method,
        calibration=x.to(dtype),
        edge_bits=edge_bits,
        **how,
    )
    fit(quantized, x.to(dtype), y, epochs=2, learning_rate=1e-3, seed=0, batch=8)
    return quantized


@pytest.mark.parametrize("edge_bits", [None, 8])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", MODELS)
def test_the_integer_network_is_the_trained_one(model, method, edge_bits):
    """In a wide register every logit is equal, bit for bit, and nothing overflows."""
    quantized = trained(model, method, edge_bits)
    x, _ = data()
    network = to_integer(quantized, Accumulator(32))
    with torch.no_grad():
        assert torch.equal(network(x), quantized(x))
    report = network.overflow_report()
    assert set(report) == set(to_layers(quantized))
    assert all(seen.outputs > 0 and seen.overflow_steps == 0 for seen in report.values())


@pytest.mark.parametrize("method", ["a2q", "a2q+", "budget"])
@pytest.mark.parametrize("model", MODELS)
def test_trained_layers_fit_their_register(model, method):
    """Every layer is safe at its width: wrap, saturate and wide networks agree on every image."""
    quantized = trained(model, method)
    for layer in to_layers(quantized).values():
        assert bounds.least_bits(layer.rows, layer.input_spec).max() <= 12
    x, _ = data()
    wide = to_integer(quantized, Accumulator(32))(x)
    for rule in ("wrap", "saturate"):
        assert torch.equal(to_integer(quantized, Accumulator(12, rule))(x), wide)


def test_narrow_registers_are_counted():
    """A register that is too narrow changes the logits, and the report says where."""
    quantized = trained("sequential", "base")
    x, _ = data()
    network = to_integer(quantized, Accumulator(4, "saturate"))
    with torch.no_grad():
        assert not torch.equal(network(x), quantized(x))
    first = network.overflow_report()["0"]
    network(x)
    second = network.overflow_report()["0"]
    assert 0 < first.overflowed_outputs <= first.outputs
    assert first.overflow_steps >= first.overflowed_outputs
    assert second.overflow_steps == 2 * first.overflow_steps


def test_networks_through_datapaths():
    """As each layer's own simulation says; levels are counted, and a wide one changes nothing."""
    quantized = trained("sequential", "base")
    x, _ = data()
    pair = Accumulator(6, "saturate", terms=2, rail="sum")
    calls, lanes = [], Datapath([pair, Accumulator(14)], order=(1, 2, 0))
    network = to_integer(quantized, lanes, watch=lambda *call: calls.append(call))
    with torch.no_grad():
        assert not torch.equal(network(x), quantized(x))
        wide = to_integer(quantized, datapaths.load("arm-sdot"))
        assert torch.equal(wide(x), quantized(x))
    assert all(seen.level_steps == (0, 0) for seen in wide.overflow_report().values())
    for name, layer, codes, run in calls:
        np.testing.assert_array_equal(run.output, simulate(layer, codes, lanes).output)
        seen = network.overflow_report()[name]
        assert seen.level_steps == tuple(one.overflow_count.sum() for one in run.levels)
        assert seen.overflow_steps == sum(seen.level_steps) > 0
    once = network.overflow_report()["0"].level_steps
    network(x)
    assert network.overflow_report()["0"].level_steps == tuple(2 * steps for steps in once)
    narrow = Datapath([Accumulator(32)], inputs=unsigned(3), name="three bits")
    with pytest.raises(RangeError) as caught:
        to_integer(quantized, narrow)
    assert str(caught.value) == (
        "layer '0': three bits takes inputs of UINT3 [0, 7], not INT4 [-8, 7]"
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_float_types(dtype):
    """Models in double and half-size floats train, freeze safely, and run."""
    quantized = trained("sequential", dtype=dtype)
    for layer in to_layers(quantized).values():
        assert bounds.least_bits(layer.rows, layer.input_spec).max() <= 12
    x = data()[0].to(dtype)
    assert torch.equal(to_integer(quantized, Accumulator(32))(x), quantized(x).detach())


def test_under_autocast():
    """The sums stay exact under autocast."""
    quantized = trained("sequential")
    x, _ = data()
    conv = quantized[0]
    with torch.no_grad():
        plain = conv(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(conv(x), plain)


def test_types_follow_the_graph():
    """Unsigned after ReLU, through pooling and flattening; signed otherwise; wide edges."""
    specs = {
        name: str(layer.input_spec)
        for name, layer in to_layers(
            quantize_model(Branching(), weight_bits=4, act_bits=5, acc_bits=12, edge_bits=8)
        ).items()
    }
    assert specs == {
        "stem": "INT8",
        "depthwise": "UINT5",
        "grouped": "UINT5",
        "shared": "INT5",  # once after ReLU, once after tanh
        "head": "INT8",
    }
    how = {"weight_bits": 4, "act_bits": 5, "acc_bits": 12, "edge_bits": 8}
    model = quantize_model(sequential(), **how)
    specs = [str(layer.input_spec) for layer in to_layers(model).values()]
    assert specs == ["INT8", "UINT5", "UINT8"]
    positive = quantize_model(sequential(), **how, calibration=data()[0].abs())
    assert str(to_layers(positive)["0"].input_spec) == "UINT8"


def test_a_negative_constant_is_not_positive():
    """relu(x) - 1 and relu(x) * -1 are signed; relu(x) + 1 is not."""

    class Model(nn.Module):
        def __init__(self, change):
            super().__init__()
            self.change, self.a, self.b = change, nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.b(self.change(relu(self.a(x))))

    how = {"weight_bits": 4, "act_bits": 4, "acc_bits": 12, "edge_bits": None}
    for change, word in (
        (lambda x: x - 1, "INT4"),
        (lambda x: x * -1, "INT4"),
        (lambda x: -x, "INT4"),
        (lambda x: x + -1, "INT4"),
        (lambda x: x.add_(-1), "INT4"),
        (lambda x: (x.sub_(1), x)[1], "INT4"),
        (lambda x: (x.neg_(), x)[1], "INT4"),
        (lambda x: torch.add(x, x, alpha=-2), "INT4"),
        (lambda x: torch.add(x, 1), "UINT4"),
        (lambda x: 1 - x, "INT4"),
        (lambda x: x + 1, "UINT4"),
        (lambda x: x.reshape(-1, 3), "UINT4"),
        (lambda x: torch.cat([x, x])[:4], "UINT4"),
    ):
        model = quantize_model(Model(change), **how)
        assert str(to_layers(model)["b"].input_spec) == word


def test_data_overrule_the_graph():
    """A calibration that shows negative inputs makes a layer signed; modes stay as they were."""
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.Linear(3, 3)).train()
    model[2].eval()
    x = torch.randn(9, 3)
    how = {"weight_bits": 4, "act_bits": 4, "acc_bits": 12, "edge_bits": None}
    quantized = quantize_model(model, calibration=x, **how)
    assert [module.training for module in quantized] == [True, True, False, True]
    assert str(to_layers(quantized)["0"].input_spec) == "INT4"
    with pytest.raises(ModelError, match=r"^calibration batch 0 must hold finite numbers only$"):
        quantize_model(model, calibration=x / 0, **how)


def test_only_zero_padding_is_quantized():
    """A convolution that pads otherwise is refused, not computed with zeros."""
    rule = Quantization("base", 4, unsigned(4))
    with pytest.raises(ModelError, match=r"^QuantConv2d must pad with zeros, not 'reflect'$"):
        QuantConv2d(1, 2, 3, padding=1, padding_mode="reflect", quantization=rule)


def test_wide_sums_are_exact():
    """Sums beyond float32's integers, of 8-bit operands and 1,200 taps, are the register's."""
    torch.manual_seed(0)
    x = torch.randn(4, 1200)
    how = {"weight_bits": 8, "act_bits": 8, "method": "base", "edge_bits": None}
    quantized = quantize_model(nn.Linear(1200, 5), calibration=x, **how)
    with torch.no_grad():
        assert torch.equal(quantized(x), to_integer(quantized, Accumulator(40))(x))
        quantized.weight.fill_(1)  # every sum as large as it can be
        assert torch.equal(
            quantized(x.abs() * 9), to_integer(quantized, Accumulator(40))(x.abs() * 9)
        )


def test_what_cannot_be_traced_takes_signs_from_data():
    """Control flow on data: registration order and calibration decide."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.b(relu(self.a(x)) if x.sum() > -1e9 else x)

    how = {"weight_bits": 4, "act_bits": 4, "acc_bits": 12, "edge_bits": None}
    assert str(to_layers(quantize_model(Model(), **how))["b"].input_spec) == "INT4"
    model = quantize_model(Model(), calibration=[torch.randn(9, 3), torch.randn(1, 3)], **how)
    assert str(to_layers(model)["b"].input_spec) == "UINT4"


def test_the_model_itself_is_left_alone():
    """quantize_model and to_integer work on copies; a bare layer is a model too."""
    model = sequential()
    before = copy.deepcopy(model.state_dict())
    quantized = quantize_model(model, weight_bits=4, act_bits=4, acc_bits=12)
    quantized(data()[0])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert isinstance(quantized[3], QuantConv2d)
    to_integer(quantized, Accumulator(16))
    assert isinstance(quantized[3], QuantConv2d)
    bare = quantize_model(nn.Linear(3, 2), weight_bits=4, act_bits=4, acc_bits=12, edge_bits=None)
    assert isinstance(bare, QuantLinear)
    with pytest.raises(ModelError, match=r"^layer '' has no input scale yet"):
        to_integer(bare, Accumulator(12))
    bare(torch.zeros(1, 3))  # tells no scale
    assert not bare.input_quantizer.calibrated
    bare(torch.ones(1, 3))
    with pytest.raises(ModelError, match=r"^inputs of an integer layer must be finite$"):
        to_integer(bare, Accumulator(12))(torch.full((1, 3), torch.nan))
    assert to_integer(bare, Accumulator(12))(torch.ones(1, 3)).shape == (1, 2)


def test_a_shared_layer_stays_shared():
    """One module under two names is one quantized module under both."""
    layer = nn.Linear(3, 3)
    model = quantize_model(
        nn.Sequential(layer, nn.ReLU(), layer), weight_bits=4, act_bits=4, acc_bits=9
    )
    assert model[0] is model[2]
    assert isinstance(model[0], QuantLinear)


def rules(model, **how):
    """How each layer of a model is quantized, by name."""
    quantized = quantize_model(model, **{"weight_bits": 4, "act_bits": 4, "acc_bits": 12} | how)
    return {
        name: module.weight_quantizer.quantization
        for name, module in quantized.named_modules()
        if isinstance(module, QuantConv2d | QuantLinear)
    }


def test_depthwise_layers_are_not_centred():
    """A2Q there and A2Q+ elsewhere, as in the paper; every other method is the same everywhere."""
    found = rules(Branching(), edge_bits=None)
    assert {name for name, rule in found.items() if rule.method == "a2q"} == {"depthwise"}
    for method in ("a2q", "budget"):
        found = rules(Branching(), edge_bits=None, method=method)
        assert {rule.method for rule in found.values()} == {method}


def test_overrides_by_name():
    """The later pattern wins, over the edges' rule too; what is not named stays."""
    changes = {
        "*": {"weight_bits": 5},
        "[sg]*": {"acc_bits": 14, "method": "budget"},
        "head": {"method": "base", "act_bits": 6},
        "depthwise": {"start": "naive"},
    }
    found = rules(Branching(), overrides=changes, edge_bits=8)
    assert {rule.weight_bits for rule in found.values()} == {5}
    assert {n: (r.method, r.acc_bits) for n, r in found.items()} == {
        "stem": ("budget", 14),
        "shared": ("budget", 14),
        "grouped": ("budget", 14),
        "depthwise": ("a2q", 12),
        "head": ("base", None),
    }
    assert {n for n, r in found.items() if r.start == "naive"} == {"depthwise"}
    assert [r.input_spec.bits for n, r in found.items() if n in ("stem", "grouped", "head")] == [
        8,
        4,
        6,
    ]


def test_unsafe_integers_are_refused_by_name(monkeypatch):
    """If the quantizer ever gave integers that do not fit, freezing names the layer and channel."""
    quantized = trained("sequential")
    monkeypatch.setattr(
        WeightQuantizer, "forward", lambda self, weight: torch.full_like(weight, 7.0)
    )
    text = (
        r"^layer '3' must fit the 12-bit register it was trained for: channel 0 reaches"
        r" \[0, 2520\], outside \[-2048, 2047\]$"
    )
    with pytest.raises(UnsafeLayerError, match=text):
        to_layers(quantized)
    monkeypatch.undo()
    quantized = trained("sequential")
    with torch.no_grad():
        quantized[7].weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match=r"^layer '7' has weights that are not finite$"):
        to_layers(quantized)


def test_training_is_reproducible_and_learns():
    """The same seed gives the same weights; the loss falls on data that can be learned."""
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
    y = (x[:, 0] > 0).long()

    def run():
        torch.manual_seed(0)
        model = quantize_model(
            nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2)),
            weight_bits=4,
            act_bits=4,
            acc_bits=10,
            edge_bits=None,
            calibration=x,
        )
        ticks = []
        fit(model, x, y, epochs=15, learning_rate=1e-2, seed=5, on_epoch=ticks.append)
        assert len(ticks) == 15
        return model

    first, second = run(), run()
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    assert accuracy(first, x, y) > 0.8  # chance is 0.5


def test_layers_stand_alone():
    """QuantLinear and QuantConv2d are built like torch's, with one more argument."""
    rule = Quantization("a2q+", 4, between(-3, 12), 11)
    conv = QuantConv2d(2, 4, 3, groups=2, quantization=rule)
    linear = QuantLinear(5, 3, bias=False, quantization=rule)
    assert conv(torch.randn(1, 2, 5, 5)).shape == (1, 4, 3, 3)
    assert linear(torch.randn(2, 7, 5)).shape == (2, 7, 3)
    layer = to_layers(nn.Sequential(conv))["0"]
    assert (layer.groups, layer.weight_spec, layer.input_spec) == (
        2,
        signed(4, narrow=True),
        between(-3, 12),
    )
    assert np.abs(layer.weight).max() > 0


def test_frozen_weights_stay_frozen():
    """And a layer that is in eval mode stays in it."""
    model = sequential()
    model[3].requires_grad_(False)
    model[3].eval()
    quantized = quantize_model(model, weight_bits=4, act_bits=4, acc_bits=12)
    assert [quantized[i].weight.requires_grad for i in (0, 3, 7)] == [True, False, True]
    assert not quantized[3].bias.requires_grad
    assert (quantized[0].training, quantized[3].training) == (True, False)


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (3, 2), (5, 1), ((1, 3), (1, 2))])
def test_same_padding(kernel, dilation):
    """As torch pads it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, kernel, padding="same", dilation=dilation, bias=False))
    x = torch.randn(2, 2, 9, 9)
    how = {"weight_bits": 8, "act_bits": 8, "method": "base"}
    found = quantize_model(model, calibration=x, **how)(x)
    assert (found - model(x)).abs().max().item() < 0.1


def test_several_inputs_and_keywords():
    """A model of two inputs, one by keyword, calibrates, runs in integers, and takes options."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.product = nn.Linear(3, 3), nn.Linear(3, 3), MatMul()

        def forward(self, x, y, *, scale=1.0):
            return scale * self.product(right=self.b(y).mT, left=self.a(input=x))

    torch.manual_seed(0)
    x, y = torch.randn(2, 4, 3), torch.randn(2, 5, 3)
    how = {"weight_bits": 4, "act_bits": 4, "acc_bits": 12}
    model = quantize_model(Two(), calibration=[(x, y), (x * 2, y)], **how)
    assert all(quantizer.calibrated for quantizer in model.product.quantizers)
    network = to_integer(model, Accumulator(32))
    with torch.no_grad():
        assert torch.equal(network(x, y, scale=2.0), model(x, y, scale=2.0))
    assert [product.name for product in matmuls(model, x, y, scale=2.0)] == ["b", "a", "product"]


def test_the_integer_network_is_in_eval_mode_and_without_gradients():
    """Whatever the model's mode: it is the network that is deployed."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4), nn.Linear(4, 2))
    x = torch.randn(9, 4)
    model = quantize_model(model, weight_bits=4, act_bits=4, acc_bits=12, calibration=x).train()
    network = to_integer(model, Accumulator(32))
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert torch.equal(network(x), model.eval()(x).detach())
    single = nn.Sequential(nn.Conv2d(2, 3, 3))
    image = torch.randn(2, 5, 5)  # without a batch
    single = quantize_model(single, weight_bits=4, act_bits=4, acc_bits=12, calibration=image)
    assert torch.equal(to_integer(single, Accumulator(32))(image), single(image).detach())


@pytest.mark.parametrize("calibrated", [False, True])
def test_edges_with_attention(calibrated):
    """The first and last layer in the order of calls, however the model is put together."""

    class Attentive(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.stem = nn.Linear(4, 2), nn.Linear(4, 4)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x):
            x = self.stem(x)
            return self.head(self.attention(x, x, x)[0])

    calibration = torch.randn(2, 3, 4) if calibrated else None
    found = rules(Attentive(), edge_bits=8, calibration=calibration)
    assert {name for name, rule in found.items() if rule.method == "base"} == {"stem", "head"}


def test_attention_can_stay_in_float():
    """By its name, whole; also one that could not be taken apart."""

    class Attentive(nn.Module):
        def __init__(self, **how):
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **how)

        def forward(self, x):
            x = self.layer(x)
            return self.attention(x, x, x)[0]

    how = {"weight_bits": 4, "act_bits": 4, "acc_bits": 12, "calibration": torch.randn(2, 3, 4)}
    for options in ({}, {"add_bias_kv": True}):
        model = quantize_model(Attentive(**options), overrides={"attention": None}, **how)
        assert type(model.attention) is nn.MultiheadAttention
        assert list(to_layers(model)) == ["layer"]
    later = {"a*": None, "attention*": {"acc_bits": 13}}  # wins
    assert len(to_layers(quantize_model(Attentive(), overrides=later, **how))) == 5
    with pytest.raises(ModelError, match=r"^layer 'attention': attention must be without"):
        quantize_model(Attentive(add_bias_kv=True), **how)
