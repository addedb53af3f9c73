"""Every matrix product of a network, and what is known about its sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from a2qplus.integer import to_layers
from a2qplus.layers import QuantLayer, QuantMatMul
from a2qplus.modules import evaluating
from accsim import bounds
from accsim.layer import IntLayer
from accsim.spec import IntSpec

__all__ = ["Known", "Product", "matmuls"]

# Operations of torch that multiply matrices, under the names they have when they run. Those in the
# last three lines run as themselves in inference mode only, else as some of the others.
_MULTIPLIES = {
    "mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "vdot", "_int_mm",
    "_trilinear", "_sparse_mm", "_sparse_addmm", "linalg_vecdot", "convolution", "_convolution",
    "mkldnn_rnn_layer", "_native_multi_head_attention", "_transformer_encoder_layer_fwd",
    "linear", "matmul", "einsum", "tensordot", "inner", "bilinear", "conv1d", "conv2d", "conv3d",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "lstm", "gru",
    "rnn_tanh", "rnn_relu",
}  # fmt: skip
_ATTENTION = ("_scaled_dot_product", "scaled_dot_product", "_scaled_mm", "_flash_attention",
              "_efficient_attention")  # fmt: skip


class Known(str, Enum):
    """Where a bound on the sums of a product comes from."""

    WEIGHTS = "weights"
    """Frozen integer weights: the exact extremes of every sum."""
    TYPES = "types"
    """The ranges of both operands and the length of the sum."""
    FLOAT = "float"
    """Nowhere: the product is computed in float."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Product:
    """One matrix product, all its calls together.

    `name` is the module that computes it, `operation` what it is, `operands` the ranges of what it
    multiplies: inputs and weights, or two activations. `taps` is the length of its longest sum and
    `macs` how many products it added; `acc_bits` the register it was made for, and `least_bits` the
    least that no input overflows. None where nothing is known.
    """

    name: str
    operation: str
    known: Known
    calls: int
    operands: tuple[IntSpec, IntSpec] | None = None
    taps: int | None = None
    macs: int | None = None
    acc_bits: int | None = None
    least_bits: int | None = None


def matmuls(model: nn.Module, *inputs: Any, **options: Any) -> tuple[Product, ...]:
    """Every matrix product that a quantized model computes on these inputs, in order.

    The model is run once, in eval mode, and torch's matrix products, convolutions, attention and
    recurrent layers are seen wherever they are called from in this thread: what is listed as
    "float" is not computed in integers. Code of its own kernels is not seen.

    Raises: as `to_layers`.
    """
    layers = to_layers(model)
    calls: dict[tuple[str, str], list[_Call]] = {}
    with torch.no_grad(), evaluating(model), _watching(model) as seen:
        model(*inputs, **options)
    for call in seen:
        calls.setdefault((call.name, call.operation), []).append(call)
    return tuple(_product(same, layers) for same in calls.values())


class _Call(NamedTuple):
    name: str
    operation: str
    module: QuantLayer | QuantMatMul | None = None  # None: in float
    taps: int = 0
    outputs: int = 0


def _product(calls: list[_Call], layers: Mapping[str, IntLayer]) -> Product:
    """All calls of one product."""
    name, operation, module, *_ = calls[0]
    if module is None:
        return Product(name, operation, Known.FLOAT, len(calls))
    taps = max(call.taps for call in calls)
    macs = sum(call.taps * call.outputs for call in calls)
    if isinstance(module, QuantMatMul):
        left, right = (quantizer.spec for quantizer in module.quantizers)
        known, register, least = Known.TYPES, None, bounds.data_type_bits(taps, right, left)
    else:
        layer, register = layers[name], module.weight_quantizer.quantization.acc_bits
        left, right, known = layer.input_spec, layer.weight_spec, Known.WEIGHTS
        least = int(bounds.least_bits(layer.rows, left, bias=layer.bias).max())
    return Product(name, operation, known, len(calls), (left, right), taps, macs, register, least)


@contextmanager
def _watching(model: nn.Module) -> Iterator[list[_Call]]:
    """Every product that is computed meanwhile; those inside a quantized module are its own."""
    seen: list[_Call] = []
    running: list[tuple[str, nn.Module]] = []

    class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            word = func.overloadpacket.__name__
            inside = any(isinstance(m, QuantLayer | QuantMatMul) for _, m in running)
            if not inside and (word in _MULTIPLIES or word.startswith(_ATTENTION)):
                seen.append(_Call(running[-1][0] if running else "", word))
            return func(*args, **(kwargs or {}))

    def leave(module: nn.Module, args: Any, options: dict[str, Any], output: Any) -> None:
        name, _ = running.pop()
        if output is None:  # it raised, and somebody caught it
            return
        if isinstance(module, QuantLayer):
            operation = "conv2d" if module.weight.ndim == 4 else "linear"
            taps = module.weight[0].numel()
            seen.append(_Call(name, operation, module, taps, output.numel()))
        elif isinstance(module, QuantMatMul):
            taps = [*args, *options.values()][0].shape[-1]
            seen.append(_Call(name, "matmul", module, taps, output.numel()))

    handles = []
    for name, module in model.named_modules():
        enter = partial(lambda name, module, _: running.append((name, module)), name)
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave, with_kwargs=True, always_call=True))
    try:
        with Operations():  # type: ignore[no-untyped-call]
            yield seen
    finally:
        for handle in handles:
            handle.remove()
