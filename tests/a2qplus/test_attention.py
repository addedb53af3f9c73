"""Attention in modules computes what torch's does."""

import pytest
import torch
from torch import nn

from a2qplus.attention import Attention, open_attention
from accsim.errors import DtypeError, ModelError, ShapeError

E, HEADS = 12, 2
CASES = {
    "batch first": {"batch_first": True},
    "batch second": {},
    "without bias": {"bias": False},
    "other keys": {"kdim": 5, "vdim": 7, "batch_first": True},
}


def operands(options, batch=4):
    """Queries, keys and values."""
    torch.manual_seed(1)
    widths = (E, options.get("kdim", E), options.get("vdim", E))
    shapes = [(batch, length, width) for length, width in zip((5, 6, 6), widths, strict=True)]
    found = [torch.randn(shape) for shape in shapes]
    return found if options.get("batch_first") else [x.transpose(0, 1) for x in found]


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_as_torch(options):
    """Outputs and weights, with every kind of mask, with and without a batch."""
    torch.manual_seed(0)
    source = nn.MultiheadAttention(E, HEADS, **options).eval()
    source.out_proj.requires_grad_(False)
    ours = Attention(source)
    assert not ours.training
    assert ours.q_proj.weight.requires_grad
    assert not any(parameter.requires_grad for parameter in ours.out_proj.parameters())
    x = operands(options)
    causal = torch.ones(5, 6).tril().logical_not()
    padded = torch.arange(6).expand(4, 6) >= torch.tensor([6, 5, 3, 2])[:, None]
    for how in (
        {},
        {"need_weights": False},
        {"average_attn_weights": False},
        {"attn_mask": causal},
        {"attn_mask": causal, "is_causal": True, "need_weights": False},
        {"attn_mask": torch.randn(5, 6)},
        {"attn_mask": torch.randn(4 * HEADS, 5, 6)},
        {"key_padding_mask": padded},
        {"key_padding_mask": padded, "attn_mask": causal},
        {"key_padding_mask": torch.randn(4, 6)},
    ):
        for wanted, found in zip(source(*x, **how), ours(*x, **how), strict=True):
            if wanted is None:
                assert found is None
            else:
                torch.testing.assert_close(found, wanted)
    axis = 0 if options.get("batch_first") else 1
    alone = [one.select(axis, 2) for one in x]
    for wanted, found in zip(source(*alone), ours(*alone), strict=True):
        torch.testing.assert_close(found, wanted)
    wanted = source(*alone, key_padding_mask=padded[2])[0]
    torch.testing.assert_close(ours(*alone, key_padding_mask=padded[2])[0], wanted)


def test_in_torch_s_encoder_and_decoder():
    """Nothing goes past the modules, in eval mode and with padding either."""
    torch.manual_seed(0)
    source = nn.Transformer(E, HEADS, 2, 2, 16, batch_first=True, dropout=0.0).eval()
    ours = open_attention(source)
    assert not any(type(module) is nn.MultiheadAttention for module in ours.modules())
    assert any(type(module) is nn.MultiheadAttention for module in source.modules())
    x, y = torch.randn(3, 5, E), torch.randn(3, 4, E)
    padded = torch.arange(5).expand(3, 5) >= torch.tensor([5, 4, 2])[:, None]
    calls = []
    for module in ours.modules():
        if isinstance(module, Attention):
            module.q_proj.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        how = {"src_key_padding_mask": padded, "memory_key_padding_mask": padded}
        found = ours(x, y, **how)
        torch.backends.mha.set_fastpath_enabled(False)  # which warns, for the reference
        try:
            torch.testing.assert_close(found, source(x, y, **how))
        finally:
            torch.backends.mha.set_fastpath_enabled(True)
    assert len(calls) == 2 + 2 * 2


def test_dropout_is_that_of_training():
    """Off in eval mode, on in training."""
    ours = Attention(nn.MultiheadAttention(E, HEADS, dropout=0.5, batch_first=True))
    x = torch.randn(2, 5, E)
    assert not torch.equal(ours(x, x, x)[0], ours(x, x, x)[0])
    ours.eval()
    assert torch.equal(ours(x, x, x)[0], ours(x, x, x)[0])


def test_what_is_not_taken_over():
    """Options that add keys, and a causal hint without a mask, are refused."""
    text = r"^layer '0': attention must be without add_bias_kv and add_zero_attn$"
    for option in ("add_bias_kv", "add_zero_attn"):
        with pytest.raises(ModelError, match=text):
            open_attention(nn.Sequential(nn.MultiheadAttention(E, HEADS, **{option: True})))
    x = torch.randn(5, E)
    with pytest.raises(ModelError, match=r"^is_causal must come with an attn_mask$"):
        Attention(nn.MultiheadAttention(E, HEADS))(x, x, x, is_causal=True)


def test_a_query_whose_keys_are_all_masked_gets_zeros():
    """As from torch's module without weights; its gradients are finite."""
    torch.manual_seed(0)
    source = nn.MultiheadAttention(E, HEADS, batch_first=True)
    ours, x = Attention(source), torch.randn(3, 5, E)
    padded = torch.zeros(3, 5, dtype=torch.bool)
    padded[0] = True
    found = ours(x, x, x, key_padding_mask=padded, need_weights=False)[0]
    wanted = source(x, x, x, key_padding_mask=padded, need_weights=False)[0]
    torch.testing.assert_close(found, wanted)
    found.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in ours.parameters())


def test_weights_are_those_that_were_used():
    """After dropout, as torch's."""
    torch.manual_seed(0)
    ours = Attention(nn.MultiheadAttention(E, HEADS, dropout=0.5, batch_first=True))
    x = torch.randn(2, 5, E)
    weights = ours(x, x, x, average_attn_weights=False)[1]
    assert (weights == 0).any()


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"key": torch.randn(3, 6, E)}, ShapeError, "query, key and value must be of as many samples"),
        ({"key": torch.randn(6, E)}, ShapeError, "query, key and value must all be (L, E) or all be (B, L, E)"),
        ({"key_padding_mask": torch.zeros(6, 4) > 0}, ShapeError, "key_padding_mask must be of shape (4, 6), not (6, 4)"),
        ({"attn_mask": torch.zeros(1, 6)}, ShapeError, "attn_mask must be of shape (5, 6) or (8, 5, 6), not (1, 6)"),
        ({"attn_mask": torch.zeros(5, 6, dtype=torch.uint8)}, DtypeError, "attn_mask must be of bools or floats, not torch.uint8"),
    ],
)  # fmt: skip
def test_what_torch_refuses_is_refused(change, error, text):
    """Masks and operands that broadcast, or hold as many entries in another order, are not taken."""
    source = nn.MultiheadAttention(E, HEADS, batch_first=True).eval()
    x = dict(zip(("query", "key", "value"), operands({"batch_first": True}), strict=True))
    with pytest.raises((RuntimeError, AssertionError, TypeError, ValueError)):
        source(**x | change)
    with pytest.raises(error) as caught:
        Attention(source)(**x | change)
    assert str(caught.value) == text
