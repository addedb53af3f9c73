"""Whole networks, residual and attentive: through quantize_model, to_layers and to_integer."""

import pytest
import torch
from torch import nn
from torch.nn.functional import relu

from a2qplus import MatMul, fit, matmuls, quantize_model, to_integer, to_layers
from a2qplus.account import Known
from accsim import Accumulator, bounds
from accsim.errors import ModelError
from verification import Verdict, decide

BITS = 10


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding="same", bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.short = nn.Identity()
        if stride > 1:
            short = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.short = nn.Sequential(short, nn.BatchNorm2d(outputs))

    def forward(self, x):
        """(B, C, H, W) -> (B, D, H', W')."""
        y = self.norm2(self.conv2(relu(self.norm1(self.conv1(x)))))
        return relu(y + self.short(x))


class ResNet(nn.Module):
    """A stem, two residual blocks, average pooling, a head."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(Block(8, 8, 1), Block(8, 12, 2))
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(12, 5)

    def forward(self, x):
        """(B, 3, H, W) -> (B, 5)."""
        x = self.blocks(relu(self.norm(self.stem(x))))
        return self.head(self.pool(x).flatten(1))


class Transformer(nn.Module):
    """Embedding, torch's encoder (attention, layer norm, MLP), mean, head."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(16, 5)

    def forward(self, tokens):
        """(B, L) -> (B, 5)."""
        return self.head(self.encoder(self.embed(tokens)).mean(dim=1))


def network(name, **how):
    """The network after some training in float and quantized, and inputs."""
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(1)
    if name == "resnet":
        model, x = ResNet(), torch.randn(16, 3, 8, 8, generator=rng)
    else:
        model, x = Transformer(), torch.randint(20, (16, 7), generator=rng)
    y = torch.arange(16) % 5
    fit(model, x, y, epochs=2, learning_rate=1e-3, seed=0)
    settings = {"weight_bits": 4, "act_bits": 4, "acc_bits": BITS, "edge_bits": None} | how
    quantized = quantize_model(model, calibration=x, **settings)
    fit(quantized, x, y, epochs=2, learning_rate=1e-3, seed=0)
    return quantized, x


@pytest.mark.parametrize("zero_point", [None, "subtract", "outside", "preload"])
@pytest.mark.parametrize("method", ["a2q+", "budget"])
@pytest.mark.parametrize("name", ["resnet", "transformer"])
def test_the_whole_path(name, method, zero_point):
    """Every layer is proved; the integer network gives the same logits, bit for bit."""
    model, x = network(name, method=method, zero_point=zero_point)
    for layer in to_layers(model).values():
        assert decide(layer, Accumulator(BITS)).verdict is Verdict.PROVED
    wide = to_integer(model, Accumulator(32))
    with torch.no_grad():
        assert torch.equal(wide(x), model(x))
        if name == "resnet":  # a transformer's products of activations are not bounded by 10 bits
            assert torch.equal(to_integer(model, Accumulator(BITS, "saturate"))(x), model(x))
    assert set(wide.overflow_report()) == {product.name for product in matmuls(model, x)}


def test_every_product_of_a_resnet_is_accounted_for():
    """In order, with its length, its count of products, its register and its least one."""
    model, x = network("resnet")
    found = matmuls(model, x)
    layers = to_layers(model)
    order = ["stem", "blocks.0.conv1", "blocks.0.conv2", "blocks.1.conv1", "blocks.1.conv2"]
    assert [product.name for product in found] == [*order, "blocks.1.short.0", "head"]
    for product in found:
        layer = layers[product.name]
        assert (product.known, product.calls, product.acc_bits) == (Known.WEIGHTS, 1, BITS)
        assert product.taps == layer.taps
        assert product.operands == (layer.input_spec, layer.weight_spec)
        assert product.least_bits == decide(layer, Accumulator(BITS)).least_bits <= BITS
    macs = {product.name: product.macs for product in found}
    assert macs["stem"] == 16 * 8 * 64 * 27
    assert macs["blocks.1.short.0"] == 16 * 12 * 16 * 8


def test_every_product_of_a_transformer_is_accounted_for():
    """Projections by their weights, products of activations by their types; none in float."""
    model, x = network("transformer", overrides={"head": None})
    found = {product.name: product for product in matmuls(model, x)}
    one = ("q_proj", "k_proj", "v_proj", "scores", "mix", "out_proj")
    parts = [f"self_attn.{part}" for part in one] + ["linear1", "linear2"]
    names = [f"encoder.layers.{i}.{part}" for i in (0, 1) for part in parts]
    assert list(found) == [*names, "head"]
    for name, product in found.items():
        if name == "head":
            assert (product.known, product.operation) == (Known.FLOAT, "addmm")
            assert product.least_bits is product.taps is product.macs is product.operands is None
        elif name.endswith(("scores", "mix")):
            quantizers = model.get_submodule(name).quantizers
            left, right = (quantizer.spec for quantizer in quantizers)
            taps = 8 if name.endswith("scores") else 7
            assert (product.known, product.taps) == (Known.TYPES, taps)
            assert product.operands == (left, right)
            assert product.least_bits == bounds.data_type_bits(taps, left, right)
            assert left.signed == name.endswith("scores")  # softmax gives nothing negative
            assert product.macs == 16 * 2 * 7 * 7 * 8
        else:
            assert (product.known, product.acc_bits) == (Known.WEIGHTS, BITS)


def test_overflow_of_products_of_activations_is_counted():
    """In a register that is too narrow for them, and reported by name."""
    model, x = network("transformer", act_bits=8, acc_bits=16)
    integer = to_integer(model, Accumulator(8, "saturate"))
    integer(x)
    assert integer.overflow_report()["encoder.layers.0.self_attn.scores"].overflow_steps > 0


class Own(nn.Module):
    """Attention as people write it, with one product as a module and the other not."""

    def __init__(self):
        super().__init__()
        self.project, self.product = nn.Linear(6, 6), MatMul()

    def forward(self, x):
        """(..., L, 6) -> (..., 6)."""
        q = self.project(x)
        weights = self.product(q, q.transpose(-2, -1)).softmax(dim=-1)
        return (weights @ q).mean(dim=-2)


def test_what_stays_in_float_is_listed():
    """A product that is no module is found where it runs, and named as float."""
    torch.manual_seed(0)
    x = torch.randn(3, 5, 6)
    how = {"weight_bits": 4, "act_bits": 6, "acc_bits": 12, "edge_bits": None}
    model = quantize_model(Own(), calibration=x, **how)
    known = [(p.name, p.operation, p.known) for p in matmuls(model, x)]
    assert known == [
        ("project", "linear", Known.WEIGHTS),
        ("product", "matmul", Known.TYPES),
        ("", "bmm", Known.FLOAT),
    ]
    with torch.no_grad():
        for one in (x, x[0]):  # also without a batch
            assert torch.equal(to_integer(model, Accumulator(32))(one), model(one))
    product = model.product
    wide = to_integer(model, Accumulator(32)).network.product
    left, right = torch.randn(2, 1, 3, 4), torch.randn(5, 4, 2)
    assert torch.equal(wide(left, right), product(left, right))  # broadcast
    with pytest.raises(ModelError, match=r"^inputs of an integer layer must be finite$"):
        wide(left, right / 0)


def test_calls_are_counted_together():
    """A layer that is used twice is one product, of as many calls as there were."""
    layer = nn.Linear(4, 4)
    how = {"weight_bits": 4, "act_bits": 6, "acc_bits": 12, "edge_bits": None}
    model = quantize_model(nn.Sequential(layer, nn.ReLU(), layer), **how)
    (product,) = matmuls(model, torch.randn(3, 4))
    assert (product.calls, product.macs) == (2, 2 * 3 * 4 * 4)


class Hidden(nn.Module):
    """Products in every place where one might be missed."""

    def __init__(self):
        super().__init__()
        self.layer, self.plain = nn.Linear(4, 4), nn.Parameter(torch.randn(4, 4))
        self.recurrent = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x):
        """(B, L, 4) -> (B, L, 4)."""
        x = self.layer(x)
        try:
            self.layer(x[..., :3])
        except RuntimeError:
            x = x + torch.nn.functional.linear(x, self.plain)
        x = torch.nn.functional.scaled_dot_product_attention(x, x, x)
        x = torch.einsum("blc,cd->bld", x, self.plain)
        with torch.inference_mode():
            y = x @ self.plain
        x = x + y.clone() * (2.0 if self.training else 1.0)
        if self.training:
            x = x @ self.plain
        return self.recurrent(x)[0]


@pytest.mark.parametrize("inference", [False, True])
def test_no_product_is_missed(inference):
    """In inference mode, after an error that was caught, in torch's own attention; none twice."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4)
    how = {"weight_bits": 4, "act_bits": 4, "acc_bits": 12, "overrides": {"recurrent": None}}
    model = quantize_model(Hidden(), calibration=x, **how).train()
    with torch.inference_mode(inference):
        found = matmuls(model, x)
    assert model.training
    assert found[0].name == "layer"
    assert found[0].calls == 1
    # with gradients at hand torch's attention is two products
    calls = sum(product.calls for product in found if product.known is Known.FLOAT)
    assert calls == (5 if inference else 6)


def test_the_longest_sum_counts():
    """A product of activations of several lengths needs what the longest does."""

    class Lengths(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.product = nn.Linear(8, 8), MatMul()

        def forward(self, x):
            x = self.layer(x)
            return [self.product(x[:, :k], x[:, :k].mT) for k in (2, 8, 4)]

    x = torch.randn(5, 8)
    how = {"weight_bits": 4, "act_bits": 4, "acc_bits": 12}
    product = matmuls(quantize_model(Lengths(), calibration=x, **how), x)[1]
    assert (product.calls, product.taps, product.macs) == (3, 8, 25 * 14)
