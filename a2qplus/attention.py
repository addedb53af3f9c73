"""Attention whose products are modules, so that each can be quantized by name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from a2qplus.modules import copied, replace_modules
from accsim.errors import DtypeError, ModelError, ShapeError

__all__ = ["Attention", "MatMul", "open_attention"]


class MatMul(nn.Module):
    """The product of two activations, as a module: `quantize_model` turns it into integers.

    Shapes: (..., M, K), (..., K, N) -> (..., M, N), broadcast as `torch.matmul`.
    """

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Their matrix product."""
        return torch.matmul(left, right)


class Attention(nn.Module):
    """What `torch.nn.MultiheadAttention` computes, with its weights, in modules.

    `q_proj`, `k_proj`, `v_proj`, `out_proj` are linear layers, `scores` and `mix` products of
    activations; softmax stays in float. Arguments, results and shapes are those of torch's module.

    A query whose keys are all masked gets zeros, as torch gives it without the weights.

    Raises: ModelError for the options `add_bias_kv` and `add_zero_attn`.
    """

    # torch's encoder layer reads weights past the modules unless it is told that there is no bias
    in_proj_bias = None

    def __init__(self, source: nn.MultiheadAttention) -> None:
        super().__init__()
        if source.bias_k is not None or source.add_zero_attn:
            raise ModelError("attention must be without add_bias_kv and add_zero_attn")
        weights: tuple[Tensor, ...] = (
            source.in_proj_weight.chunk(3)
            if source._qkv_same_embed_dim
            else (source.q_proj_weight, source.k_proj_weight, source.v_proj_weight)
        )
        bias = source.in_proj_bias
        biases = (None, None, None) if bias is None else bias.chunk(3)
        self.q_proj, self.k_proj, self.v_proj = map(_linear, weights, biases)
        self.out_proj = _linear(source.out_proj.weight, source.out_proj.bias)
        self.scores, self.mix = MatMul(), MatMul()
        self.num_heads, self.dropout = source.num_heads, source.dropout
        self.batch_first = source.batch_first
        self.train(source.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `torch.nn.MultiheadAttention`; `is_causal` is a hint beside `attn_mask` there."""
        if is_causal and attn_mask is None:
            raise ModelError("is_causal must come with an attn_mask")
        self._check(query, key, value, key_padding_mask, attn_mask)
        single = query.ndim == 2
        axis = None if single else 0 if self.batch_first else 1
        q, k, v = (
            self._heads(proj(x), axis)
            for proj, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        scores = self.scores(q, k.transpose(-2, -1)) * q.shape[-1] ** -0.5
        if attn_mask is not None:
            per_head = attn_mask.ndim == 3
            mask = _additive(attn_mask, scores)
            scores = scores + (mask.reshape(scores.shape) if per_head else mask)
        if key_padding_mask is not None:
            scores = scores + _additive(key_padding_mask, scores).reshape(len(q), 1, 1, -1)
        idle = (scores == -torch.inf).all(dim=-1, keepdim=True)  # everything masked: all weights 0
        weights = scores.masked_fill(idle, 0.0).softmax(dim=-1).masked_fill(idle, 0.0)
        weights = F.dropout(weights, self.dropout, self.training)
        mixed = self.mix(weights, v)
        mixed = mixed.transpose(1, 2).flatten(2)  # (B, L, E)
        mixed = mixed[0] if single else mixed.movedim(0, axis or 0)
        if not need_weights:
            return self.out_proj(mixed), None
        weights = weights.mean(dim=1) if average_attn_weights else weights
        return self.out_proj(mixed), weights[0] if single else weights

    def _check(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        attn_mask: Tensor | None,
    ) -> None:
        """Raise ShapeError or DtypeError for what torch's module would not take."""
        single = query.ndim == 2
        axes = (0, 1) if self.batch_first else (1, 0)  # batch, sequence
        if {query.ndim, key.ndim, value.ndim} not in ({2}, {3}):
            raise ShapeError("query, key and value must all be (L, E) or all be (B, L, E)")
        batch, target, source = (
            (1, len(query), len(key))
            if single
            else (query.shape[axes[0]], query.shape[axes[1]], key.shape[axes[1]])
        )
        if not single and not batch == key.shape[axes[0]] == value.shape[axes[0]]:
            raise ShapeError("query, key and value must be of as many samples")
        padding = (source,) if single else (batch, source)
        shapes = [(target, source), (batch * self.num_heads, target, source)]
        for name, mask, allowed in (
            ("key_padding_mask", key_padding_mask, [padding]),
            ("attn_mask", attn_mask, shapes),
        ):
            if mask is None:
                continue
            if mask.dtype != torch.bool and not mask.is_floating_point():
                raise DtypeError(f"{name} must be of bools or floats, not {mask.dtype}")
            if tuple(mask.shape) not in allowed:
                shown = " or ".join(str(shape) for shape in sorted(allowed))
                raise ShapeError(f"{name} must be of shape {shown}, not {tuple(mask.shape)}")

    def _heads(self, x: Tensor, axis: int | None) -> Tensor:
        """Projected inputs as (B, heads, L, E / heads); `axis` is that of the batch, if any."""
        x = x[None] if axis is None else x.movedim(axis, 0)
        return x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2)


def open_attention(model: nn.Module, *, left: Collection[str] = ()) -> nn.Module:
    """A copy of the model in which every `torch.nn.MultiheadAttention` is an `Attention`.

    But for those whose names are in `left`.
    """
    model = copied(model)
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False  # a way past the modules, too

    def replacement(name: str, module: nn.Module) -> nn.Module | None:
        if type(module) is not nn.MultiheadAttention or name in left:
            return None
        try:
            return Attention(module)
        except ModelError as error:
            raise ModelError(f"layer {name!r}: {error}") from None

    return replace_modules(model, replacement)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer of these weights."""
    kind: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    made = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, **kind)
    with torch.no_grad():
        made.weight.copy_(weight)
        made.weight.requires_grad_(weight.requires_grad)
        if bias is not None:
            made.bias.copy_(bias)
            made.bias.requires_grad_(bias.requires_grad)
    return made


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    """A mask to be added to scores: -inf where a bool mask is True."""
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -torch.inf)
