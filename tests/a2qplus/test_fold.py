"""Batch norm folded: the same network, decided again, and a warning where integers changed."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from a2qplus import fit, fold_batch_norm, quantize_model, to_layers
from accsim import Accumulator
from accsim.errors import ModelError, UnsafeLayerError
from verification import Verdict, decide


def network(*, negative=False, method="a2q+", dtype=torch.float64):
    """Conv2d and linear layers with batch norm, trained; and inputs."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3, bias=False),
        nn.BatchNorm2d(4, affine=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 16, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Linear(8, 3),
    ).to(dtype)
    x, y = torch.randn(40, 2, 8, 8, dtype=dtype), torch.arange(40) % 3
    fit(model, x, y, epochs=2, learning_rate=1e-2, seed=0)
    if method is not None:
        how = {"weight_bits": 4, "act_bits": 6, "acc_bits": 12, "edge_bits": None}
        model = quantize_model(model, method=method, calibration=x, start="ep", **how)
        fit(model, x, y, epochs=1, learning_rate=1e-3, seed=0)
    with torch.no_grad():
        model[1].weight[1] = 0  # a channel that is switched off
        if negative:
            model[1].weight[2:5] *= -1
    return model, x


def test_a_float_network():
    """Four batch norms fewer and the same outputs; the model itself stays; no warning."""
    model, x = network(method=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folded = fold_batch_norm(model.train())
    kinds = [type(module) for module in folded.modules()]
    assert nn.BatchNorm2d not in kinds
    assert nn.BatchNorm1d not in kinds
    assert type(model[1]) is nn.BatchNorm2d
    assert model.training
    assert not folded.training
    torch.testing.assert_close(folded(x), model.eval()(x))


@pytest.mark.parametrize("method", ["a2q", "a2q+", "budget"])
def test_integers_stay_where_factors_are_positive(method):
    """Scales take the factors up: integers and outputs are those before, and proved."""
    model, x = network(method=method)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folded = fold_batch_norm(model)
    before, after = to_layers(model), to_layers(folded)
    for name, layer in after.items():
        kept = [c for c in range(layer.channels) if (name, c) != ("0", 1)]
        assert (layer.weight == before[name].weight)[kept].mean() > 0.99  # some lie at a boundary
        assert decide(layer, Accumulator(12)).verdict is Verdict.PROVED
    assert not after["0"].weight[1].any()
    assert all(parameter.isfinite().all() for parameter in folded.parameters())
    torch.testing.assert_close(folded(x), model(x), rtol=1e-3, atol=1e-2)


def test_a_warning_tells_what_changed():
    """Negative factors turn integers around, and the layer is decided again."""
    model, x = network(negative=True)
    turned = int((to_layers(model)["0"].weight[1:5] != 0).sum())
    with pytest.warns(UserWarning, match="folding changed") as caught:
        folded = fold_batch_norm(model)
    text = f"folding changed {turned} of the 108 integers of layer '0', which was decided again"
    assert str(caught[0].message) == text + " and fits its register"
    assert caught[0].filename == __file__
    old, new = to_layers(model)["0"].weight, to_layers(folded)["0"].weight
    assert (new[2:5] == -old[2:5]).all()
    torch.testing.assert_close(folded(x), model(x), rtol=1e-3, atol=1e-2)


def test_what_no_longer_fits_is_refused(monkeypatch):
    """If the integers after folding did not fit, the layer is named."""
    model, _ = network(negative=True)
    from a2qplus.quantizers import WeightQuantizer

    plain = WeightQuantizer.forward
    monkeypatch.setattr(WeightQuantizer, "rescale", lambda self, factor: self.log2_scale.sub_(9))
    monkeypatch.setattr(
        WeightQuantizer,
        "forward",
        lambda self, w: torch.where(self.log2_scale.min() < -9, 7.0, plain(self, w)),
    )
    with pytest.raises(UnsafeLayerError, match=r"^layer '0' must fit the 12-bit register"):
        fold_batch_norm(model)


class Shared(nn.Module):
    """Batch norms that must stay: read beside them, of a layer used twice, without statistics."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))
        self.one, self.two = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
        self.three = nn.BatchNorm1d(4, track_running_stats=False)

    def forward(self, x):
        """(B, 4) -> (B, 4)."""
        x = self.a(x)
        x = self.one(x) + x
        x = self.two(self.b(torch.relu(self.b(x))))
        return self.three(self.c(x))


def test_what_cannot_be_folded_stays():
    """The outputs are the same, and each of the three batch norms is there."""
    torch.manual_seed(0)
    model, x = Shared(), torch.randn(9, 4)
    folded = fold_batch_norm(model)
    assert sum(type(module) is nn.BatchNorm1d for module in folded.modules()) == 3
    torch.testing.assert_close(folded(x), model.eval()(x))


def test_untraceable_models_are_refused():
    """Control flow on data hides what follows what."""

    class Model(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ModelError, match=r"^the model must be one that torch.fx can trace"):
        fold_batch_norm(Model())


class Kept(nn.Module):
    """Batch norm after a layer, with something that folding would break."""

    def __init__(self, what):
        super().__init__()
        self.what = what
        self.fc, self.bn, self.other = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)
        if what == "parametrized":
            nn.utils.parametrizations.weight_norm(self.fc)
        if what == "pruned":
            prune.l1_unstructured(self.fc, "weight", amount=0.5)
        if what == "tied":
            self.other.weight = self.fc.weight
        if what == "hook":
            self.fc.register_forward_hook(lambda _, __, y: 2 * y)

    def forward(self, x):
        """(B, 4) -> (B, 4)."""
        y = self.bn(self.fc(x))
        if self.what == "read":
            y = y + torch.nn.functional.linear(x, self.fc.weight)
        if self.what == "trained otherwise" and not self.training:
            y = y + self.fc(x)
        return y + self.other(x)


@pytest.mark.parametrize(
    "what", ["parametrized", "pruned", "tied", "hook", "read", "trained otherwise"]
)
def test_what_folding_would_break_is_left(what):
    """The folded model gives the same outputs, and the batch norm is there."""
    torch.manual_seed(0)
    model, x = Kept(what), torch.randn(30, 4) * 3 + 1
    model(x)
    folded = fold_batch_norm(model)
    assert type(folded.bn) is nn.BatchNorm1d
    torch.testing.assert_close(folded(x), model.eval()(x))
    plain = fold_batch_norm(Kept("nothing"))
    assert type(plain.bn) is nn.Identity
