"""Whatever is done to a trained model: its layers are decided again, and fit, or are named."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from a2qplus import QuantLinear, fit, quantize_model, to_integer, to_layers
from accsim import Accumulator, bounds
from accsim.errors import ModelError

BITS = 9
SETTINGS = {"weight_bits": 4, "act_bits": 4, "acc_bits": BITS, "edge_bits": None}


def data():
    """Inputs and classes."""
    x = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] > 0).long()


def trained(method="a2q+", **how):
    """A trained network for registers of 9 bits."""
    torch.manual_seed(0)
    x, y = data()
    float_model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    model = quantize_model(float_model, method=method, calibration=x, **{**SETTINGS, **how})
    fit(model, x, y, epochs=3, learning_rate=1e-2, seed=0)
    return model


def least_bits(model):
    """Of the widest layer; the layers were decided when they were frozen."""
    layers = to_layers(model).values()
    return max(int(bounds.least_bits(one.rows, one.input_spec).max()) for one in layers)


def tune(model):
    """Train on without the penalty, with a rate that is far too large."""
    fit(model, *data(), epochs=3, learning_rate=1.0, seed=1, penalty_weight=0.0)


def prune_most(model):
    """Set most weights to zero, by torch's pruning."""
    for layer in (model[0], model[2]):
        prune.l1_unstructured(layer, "weight", amount=0.7)
        prune.remove(layer, "weight")


@torch.no_grad()
def scale_up(model):
    """Make scales a thousand times smaller, so that integers would be larger."""
    for layer in (model[0], model[2]):
        layer.weight_quantizer.log2_scale.sub_(10)


@torch.no_grad()
def enlarge_norms(model):
    """Ask for norms far beyond the budget."""
    for layer in (model[0], model[2]):
        if layer.weight_quantizer.log2_norm is not None:
            layer.weight_quantizer.log2_norm.add_(20)


@torch.no_grad()
def round_weights(model):
    """Put integers in place of the float weights, as an export would."""
    for layer in (model[0], model[2]):
        layer.weight.copy_(layer.weight_quantizer(layer.weight) * 3)


ABUSES = {
    "tuned": tune,
    "pruned": prune_most,
    "scaled": scale_up,
    "norms": enlarge_norms,
    "integers": round_weights,
    "bfloat16": lambda model: model.bfloat16(),
    "float16": lambda model: model.half(),
    "float16 and tuned": lambda model: tune(model.half().float()),
}


@pytest.mark.parametrize("abuse", ABUSES.values(), ids=ABUSES)
@pytest.mark.parametrize("method", ["a2q", "a2q+", "budget"])
def test_layers_still_fit(method, abuse):
    """The integers are made anew from whatever the parameters are: inside the register."""
    model = trained(method)
    abuse(model)
    assert least_bits(model) <= BITS
    x = data()[0].to(model[0].weight.dtype)
    with torch.no_grad():
        wide, narrow = (to_integer(model, Accumulator(bits))(x) for bits in (32, BITS))
        assert torch.equal(wide, narrow)
        assert torch.equal(wide, model.eval()(x))


def test_weights_that_a_hook_computes_are_refused():
    """While pruning is not permanent, what is seen may be older than what would be computed."""
    model = trained()
    prune.l1_unstructured(model[2], "weight", amount=0.5)
    tune(model)
    text = r"^layer '2' must hold its weight as a parameter, not as what a hook computes: make"
    for freeze in (to_layers, lambda model: to_integer(model, Accumulator(9))):
        with pytest.raises(ModelError, match=text):
            freeze(model)
    prune.remove(model[2], "weight")
    assert least_bits(model) <= BITS


def saved(model):
    """A checkpoint that has been on a disk, loaded as tensors only."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("method", ["base", "a2q", "a2q+", "budget"])
def test_a_state_comes_back(method):
    """Of the same integers; it holds tensors only."""
    acc_bits = None if method == "base" else BITS
    model, other = (trained(method, acc_bits=acc_bits) for _ in range(2))
    tune(model)
    assert all(isinstance(value, torch.Tensor) for value in saved(model).values())
    other.load_state_dict(saved(model))
    for name, layer in to_layers(model).items():
        assert (to_layers(other)[name].weight == layer.weight).all()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"acc_bits": 8}, "acc_bits 8, as the layer is, not of 9"),
        ({"weight_bits": 3}, "weight_bits 3, as the layer is, not of 4"),
        ({"act_bits": 5}, "input_spec INT5, as the layer is, not of INT4"),
        ({"method": "budget"}, "method budget, as the layer is, not of a2q+"),
        ({"zero_point": "outside"}, "zero_point outside, as the layer is, not of subtract"),
    ],
)
def test_a_state_of_other_integers_is_refused(change, text):
    """Loading never changes what a layer was made for: the first difference is named."""
    state = saved(trained())
    other = trained(**change)
    if "zero_point" in change:  # of the same range
        spec = trained()[0].weight_quantizer.quantization.input_spec
        rule = other[0].weight_quantizer
        rule.quantization = type(rule.quantization)("a2q+", 4, spec, BITS, "fit", "outside")
    rules = [layer.weight_quantizer.quantization for layer in (other[0], other[2])]
    with pytest.raises(ModelError, match=rf"^a state to load must be of {text.replace('+', '.')}$"):
        other.load_state_dict(state)
    assert [layer.weight_quantizer.quantization for layer in (other[0], other[2])] == rules


def test_a_state_of_other_operands_is_refused():
    """Products of activations tell the ranges of theirs."""
    model, other = (
        quantize_model(
            nn.Sequential(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)),
            calibration=torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(0)),
            overrides={"*.scores": {"act_bits": bits}},
            **SETTINGS,
        )
        for bits in (4, 6)
    )
    text = r"^a state to load must be of operands \['INT4', 'INT4'\], as the layer is, not of"
    with pytest.raises(ModelError, match=text):
        model.load_state_dict(saved(other))
    model.load_state_dict(saved(model))


def test_a_state_of_another_version_is_refused():
    """Also one that does not say what it is of, or that is no such text."""
    model = trained()
    key = "0._extra_state"
    state = saved(model)
    text = bytes(state[key].tolist()).replace(b'"version": 1', b'"version": 0')
    state[key] = torch.tensor(list(text), dtype=torch.uint8)
    with pytest.raises(ModelError, match=r"^a state to load must be of version 1, as the layer is"):
        model.load_state_dict(state)
    for wrong in (torch.tensor([1, 2], dtype=torch.uint8), torch.tensor([0.5]), {"version": 1}):
        state[key] = wrong
        with pytest.raises(ModelError, match=r"^a state to load must tell the layer's rule"):
            model.load_state_dict(state)
    del state[key]
    with pytest.raises(RuntimeError, match="_extra_state"):
        model.load_state_dict(state)


def test_copies_keep_their_rule():
    """deepcopy and torch.save of the whole module."""
    model = trained()
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert isinstance(other[0], QuantLinear)
        assert (to_layers(other)["0"].weight == to_layers(model)["0"].weight).all()
