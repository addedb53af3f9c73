"""After rounding, without training: budgets refilled, outputs fitted to the float network."""

import copy

import pytest
import torch
from torch import nn

from a2qplus import correct_outputs, quantize_model, refill_model, to_integer, to_layers
from a2qplus.post import _line
from accsim import Accumulator
from accsim.errors import ModelError, ShapeError
from verification import Verdict, decide


def network():
    """Convolutions with and without bias, batch norm, a linear layer; and inputs."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 5),
    )
    return model, torch.randn(40, 2, 8, 8)


def quantized(model, x, method, bits):
    """Before any training."""
    return quantize_model(
        model,
        weight_bits=4,
        act_bits=4,
        acc_bits=bits,
        method=method,
        calibration=x,
        edge_bits=None,
    )


def distance(model, source, x):
    """Mean squared difference of the outputs, in eval mode."""
    with torch.no_grad():
        return float((model.eval()(x) - source.eval()(x)).square().mean())


@pytest.mark.parametrize("method", ["a2q", "a2q+", "budget"])
@pytest.mark.parametrize("bits", [8, 10])
def test_refilled_layers_are_nearer_and_proved(method, bits):
    """Every layer fits its register, is nearer to the float weights, and computes in integers."""
    source, x = network()
    model = quantized(source, x, method, bits)
    before = copy.deepcopy(model)
    refill_model(model, source)
    for name, layer in to_layers(model).items():
        assert decide(layer, Accumulator(bits)).verdict is Verdict.PROVED
        errors = []
        for one in (before, model):
            module = one.get_submodule(name)
            q = module.weight_quantizer(module.weight).flatten(1)
            w = q * module.weight_quantizer.scale[:, None]
            errors.append((w - source.get_submodule(name).weight.flatten(1)).square().sum())
        assert errors[1] <= errors[0]
        if method != "budget":
            assert errors[1] < 0.98 * errors[0]
    with torch.no_grad():
        assert torch.equal(to_integer(model, Accumulator(bits))(x), model.eval()(x))


def test_plain_layers_are_not_refilled():
    """A layer without a register stays as it is."""
    source, x = network()
    model = quantized(source, x, "base", None)
    before = copy.deepcopy(model.state_dict())
    refill_model(model, source)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("method", ["a2q+", "budget"])
def test_corrected_outputs_keep_the_integers(method):
    """Scales and biases alone change, but for ties; the network comes nearer to the float one."""
    source, x = network()
    source, x = source.double().train(), x.double()
    model = quantized(source, x, method, 9)
    before = copy.deepcopy(model)
    correct_outputs(model, source, [x[:15], x[15:]])
    assert model.training
    assert source.training
    old, new = to_layers(before), to_layers(model)
    for name, layer in new.items():
        moved = torch.from_numpy(layer.weight != old[name].weight)
        part = before.get_submodule(name)
        scale = part.weight_quantizer.scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
        tie = ((part.weight / scale).abs() % 1 - 0.5).abs() < 1e-9
        assert not (moved & ~tie).any()
    assert distance(model, source, x) < 0.7 * distance(before, source, x)
    again = copy.deepcopy(model)
    correct_outputs(again, source, x)
    assert distance(again, source, x) == pytest.approx(distance(model, source, x), rel=0.05)


def test_any_layout_of_inputs():
    """Batches as a generator, inputs of three dimensions, images without a batch, writes in place."""
    torch.manual_seed(0)
    x = torch.randn(6, 5, 4, dtype=torch.float64)
    source = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2)).double()
    model = quantized(source, x, "budget", 8)
    flat = copy.deepcopy(model)
    correct_outputs(model, source, (part for part in x.split(2)))
    correct_outputs(flat, source, x.flatten(0, 1))
    for name, value in flat.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-9, atol=1e-12)
    with torch.no_grad():
        before = [m[0](x).mean(dim=(0, 1)) for m in (source, model)]
    torch.testing.assert_close(*before)  # of the sums themselves, not of what ReLU made of them
    conv = nn.Sequential(nn.Conv2d(3, 3, 1)).double()
    image = torch.randn(3, 3, 3, dtype=torch.float64)
    one = quantized(conv, image, "budget", 8)
    other = copy.deepcopy(one)
    correct_outputs(one, conv, image)
    correct_outputs(other, conv, image[None])
    assert torch.equal(one[0].bias, other[0].bias)


def test_wrong_calibration_changes_nothing():
    """No inputs, none left, or NaN: one error, before any bias is touched."""
    source, x = network()
    model = quantized(source, x, "budget", 9)
    before = copy.deepcopy(model.state_dict())
    for wrong in ([], iter(()), x[:0]):
        with pytest.raises(ShapeError, match=r"^calibration must hold at least one input$"):
            correct_outputs(model, source, wrong)
    text = r"^outputs of layer '0' to calibrate with must be finite$"
    with pytest.raises(ModelError, match=text):
        correct_outputs(model, source, x / 0)
    with pytest.raises(ModelError, match=r"^the source must have a layer '6'$"):
        correct_outputs(model, source[:5], x)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_infinite_weights_are_not_frozen():
    """A weight that is not finite is named, whatever the method makes of it."""
    source, x = network()
    model = quantized(source, x, "budget", 9)
    with torch.no_grad():
        model[3].weight[0, 0, 0, 0] = torch.inf
    with pytest.raises(ModelError, match=r"^layer '3' has weights that are not finite$"):
        to_layers(model)


def test_the_line_is_that_of_least_squares():
    """Beside torch's own solver, with and without a constant; a falling line leaves the factor."""
    torch.manual_seed(0)
    x = torch.randn(50, 3, dtype=torch.float64)
    y = 2 * x + 1 + 0.1 * torch.randn_like(x)
    for through_zero in (False, True):
        factor, constant = _line(x, y, through_zero=through_zero)
        for c in range(3):
            columns = [x[:, c]] if through_zero else [x[:, c], torch.ones(50)]
            right = torch.linalg.lstsq(torch.stack(columns, dim=1).double(), y[:, c]).solution
            assert factor[c].item() == pytest.approx(right[0].item())
            if not through_zero:
                assert constant[c].item() == pytest.approx(right[1].item())
    factor, constant = _line(x, 5 - x, through_zero=False)
    assert factor.tolist() == [1, 1, 1]
    torch.testing.assert_close(constant, (5 - 2 * x).mean(dim=0))
    factor, constant = _line(torch.zeros(4, 1), torch.ones(4, 1), through_zero=False)
    assert (factor.item(), constant.item()) == (1, 1)


def test_wrong_sources_are_named():
    """A source without the layer, or with another shape; a model without quantized layers."""
    source, x = network()
    model = quantized(source, x, "budget", 9)
    with pytest.raises(ModelError, match=r"^the source must have a layer '0'$"):
        refill_model(model, nn.Linear(1, 1))
    other = nn.Sequential(nn.Conv2d(1, 6, 3))
    text = r"^layer '0' of the source must have weights of shape \(6, 2, 3, 3\)$"
    with pytest.raises(ModelError, match=text):
        refill_model(model, other)
    with pytest.raises(ModelError, match=r"^the model must hold quantized layers; quantize_model"):
        refill_model(source, source)
