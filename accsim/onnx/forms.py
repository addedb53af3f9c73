"""How each kind of product lies in its file: the way of weights, inputs and sums to a layer's.

A layer multiplies inputs (..., K) or (N, I, H, W) by weights with the output channels first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from accsim.errors import ModelFileError
from accsim.onnx.graph import Node

__all__ = ["Form", "conv", "conv_transposed", "dense", "dense_left", "window_pads"]

Array = np.ndarray[Any, Any]
Two = tuple[int, int]  # vertical, horizontal


def _same(array: Array) -> Array:
    return array


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """One arrangement. `axis` is that of the output channels in the node's output, from the back.

    weight: as in the file to channels first. inputs: codes, and the code that pads them, to the
    layer's inputs. sums: the layer's outputs to the node's. `geometry` is the convolution's;
    `mixes`: whether `inputs` puts padding among the codes.
    """

    weight: Callable[[Array], Array]
    inputs: Callable[[Array, int], Array]
    sums: Callable[[Array], Array] = _same
    axis: int = -1
    geometry: dict[str, Any] = field(default_factory=dict)
    mixes: bool = False


def dense(node: Node, shape: Sequence[int]) -> Form:
    """x times a constant (K, N), or (K,); Gemm may have either side transposed."""
    turned = bool(node.attributes.get("transB", 0))
    if len(shape) == 1:
        return Form(lambda w: w[None], lambda x, _: x, lambda y: y[..., 0])
    if len(shape) < 1 or any(size != 1 for size in shape[:-2]):
        raise ModelFileError("its weights are not one matrix")

    def inputs(x: Array, _: int) -> Array:
        x = x.T if node.attributes.get("transA", 0) else x
        return x.reshape((1,) * (len(shape) - max(x.ndim, 2)) + x.shape)  # as numpy broadcasts

    def weight(w: Array) -> Array:
        matrix = w.reshape(w.shape[-2:])
        return matrix if turned else matrix.T

    return Form(weight, inputs)


def dense_left(node: Node, shape: Sequence[int]) -> Form:
    """A constant (M, K) times x, (..., K, N) or (K,): the product of both turned, turned back."""
    if node.op in ("Gemm", "QGemm") or len(shape) != 2:
        raise ModelFileError("its constant side is the left one, and not a plain matrix")

    def turned(x: Array) -> Array:
        return x if x.ndim < 2 else np.swapaxes(x, -1, -2)

    return Form(_same, lambda x, _: turned(x), turned, axis=-2)


def conv(node: Node, shape: Sequence[int], *, mixed: bool = False) -> Form:
    """A convolution of one or two dimensions; unequal padding becomes codes among the inputs.

    `mixed`: so does all padding, as that by a zero point that is computed must.
    """
    flat = _flat(node, shape)
    strides, dilations = (_sizes(node, name, 1, flat) for name in ("strides", "dilations"))
    spread = [d * (k - 1) for d, k in zip(dilations, _kernel(shape, flat), strict=True)]
    pads = _pads(node, flat, strides, spread)
    geometry = {"stride": strides, "dilation": dilations, "groups": _groups(node)}
    even = pads is not None and pads[:2] == pads[2:] and not (mixed and any(pads))
    if even and pads is not None:
        geometry["padding"] = pads[:2]

    def inputs(x: Array, code: int) -> Array:
        x = _two(x, flat)
        if even:
            return x
        return _padded(x, pads or _same_pads(node, x.shape[2:], strides, spread), code)

    return _convolution(lambda w: _two(w, flat), inputs, flat, geometry, mixes=not even)


def conv_transposed(node: Node, shape: Sequence[int]) -> Form:
    """A transposed convolution: that of the kernel turned, over inputs with zeros between them.

    Its register takes the taps in the order of that kernel: (input channel, ky, kx).
    """
    flat = _flat(node, shape)
    strides, dilations = (_sizes(node, name, 1, flat) for name in ("strides", "dilations"))
    spread = [d * (k - 1) for d, k in zip(dilations, _kernel(shape, flat), strict=True)]
    groups = _groups(node)
    if shape[0] % groups:
        raise ModelFileError(f"group must divide its {shape[0]} input channels, not be {groups}")

    def weight(w: Array) -> Array:
        w = _two(w, flat)
        w = w.reshape(groups, -1, *w.shape[1:]).swapaxes(1, 2)
        return w.reshape(-1, *w.shape[2:])[:, :, ::-1, ::-1]

    def inputs(x: Array, code: int) -> Array:
        x = _two(x, flat)
        cut = _transposed_pads(node, flat, x.shape[2:], strides, spread)
        sizes = [(size - 1) * stride + 1 for size, stride in zip(x.shape[2:], strides, strict=True)]
        wide = np.full((*x.shape[:2], *(max(size, 0) for size in sizes)), code, x.dtype)
        wide[:, :, :: strides[0], :: strides[1]] = x
        grown = _sizes(node, "output_padding", 0, flat)
        begin = [s - c for s, c in zip(spread, cut[:2], strict=True)]
        end = [s - c + g for s, c, g in zip(spread, cut[2:], grown, strict=True)]
        return _padded(wide, (*begin, *end), code)

    geometry = {"dilation": dilations, "groups": groups}
    return _convolution(weight, inputs, flat, geometry, mixes=True)


def _convolution(
    weight: Callable[[Array], Array],
    inputs: Callable[[Array, int], Array],
    flat: bool,
    geometry: dict[str, Any],
    *,
    mixes: bool,
) -> Form:
    sums = (lambda y: y[:, :, 0]) if flat else _same
    return Form(weight, inputs, sums, -2 if flat else -3, geometry, mixes)


def _flat(node: Node, shape: Sequence[int]) -> bool:
    """Whether it is of one dimension, computed as of two with a height of 1."""
    if len(shape) not in (3, 4):
        raise ModelFileError(f"it is a convolution of {len(shape) - 2} dimensions, not of 1 or 2")
    kernel = node.attributes.get("kernel_shape")
    if kernel is not None and tuple(kernel) != tuple(shape[2:]):
        raise ModelFileError(f"its kernel_shape {list(kernel)} is not that of its weights")
    return len(shape) == 3


def _two(array: Array, flat: bool) -> Array:
    if array.ndim != (3 if flat else 4):
        raise ModelFileError(f"what it convolves must have {3 if flat else 4} dimensions")
    return array[:, :, None] if flat else array


def _kernel(shape: Sequence[int], flat: bool) -> Two:
    return (1, shape[2]) if flat else (shape[2], shape[3])


def _groups(node: Node) -> int:
    groups = int(node.attributes.get("group", 1))
    if groups < 1:
        raise ModelFileError(f"group must be at least 1, not {groups}")
    return groups


def _sizes(node: Node, name: str, default: int, flat: bool) -> Two:
    """An attribute with one number for each dimension."""
    values = tuple(node.attributes.get(name) or (default,) * (1 if flat else 2))
    if len(values) != (1 if flat else 2) or not all(default <= value < 2**20 for value in values):
        raise ModelFileError(f"its {name} must be a number for each dimension, not {list(values)}")
    return (default, values[0]) if flat else (values[0], values[1])


def _pads(node: Node, flat: bool, strides: Two, spread: Sequence[int]) -> tuple[int, ...] | None:
    """top, left, bottom, right; None where they depend on the size of the input."""
    auto = node.attributes.get("auto_pad", "NOTSET")
    if auto == "VALID":
        return (0, 0, 0, 0)
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        if strides == (1, 1) and not any(size % 2 for size in spread):
            return (spread[0] // 2, spread[1] // 2) * 2
        return None
    pads = tuple(node.attributes.get("pads") or (0,) * (2 if flat else 4))
    if len(pads) != (2 if flat else 4) or not all(0 <= pad < 2**20 for pad in pads):
        raise ModelFileError(f"its pads must be two numbers for each dimension, not {list(pads)}")
    return (0, pads[0], 0, pads[1]) if flat else pads


def window_pads(
    node: Node, sizes: Sequence[int], strides: Two, spread: Sequence[int]
) -> tuple[int, ...]:
    """top, left, bottom, right of a window of two dimensions over inputs of these sizes."""
    return _pads(node, False, strides, spread) or _same_pads(node, sizes, strides, spread)


def _same_pads(
    node: Node, sizes: Sequence[int], strides: Two, spread: Sequence[int]
) -> tuple[int, ...]:
    """Pads with which the output is the input's size divided by the stride, rounded up."""
    ends = []
    for size, stride, more in zip(sizes, strides, spread, strict=True):
        total = max((-(-size // stride) - 1) * stride + more + 1 - size, 0)
        half = total // 2
        upper = node.attributes["auto_pad"] == "SAME_UPPER"
        ends.append((half, total - half) if upper else (total - half, half))
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]


def _transposed_pads(
    node: Node, flat: bool, sizes: Sequence[int], strides: Two, spread: Sequence[int]
) -> tuple[int, ...]:
    """What a transposed convolution cuts off its output: top, left, bottom, right."""
    auto = node.attributes.get("auto_pad", "NOTSET")
    wanted = node.attributes.get("output_shape")
    if auto not in ("SAME_UPPER", "SAME_LOWER") and not wanted:
        return _pads(node, flat, strides, spread) or (0, 0, 0, 0)
    grown = _sizes(node, "output_padding", 0, flat)
    shape = (
        ([1] * flat + list(wanted))
        if wanted
        else [s * z for s, z in zip(strides, sizes, strict=True)]
    )
    ends = []
    for size, stride, more, extra, out in zip(sizes, strides, spread, grown, shape, strict=True):
        total = stride * (size - 1) + extra + more + 1 - out
        half = total // 2
        ends.append((half, total - half) if auto == "SAME_UPPER" else (total - half, half))
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]


def _padded(x: Array, pads: Sequence[int], code: int) -> Array:
    """With codes around it; negative pads cut off."""
    top, left, bottom, right = pads
    around = [(0, 0), (0, 0), (max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))]
    x = np.pad(x, around, constant_values=code)
    height, width = x.shape[2:]
    return x[:, :, max(-top, 0) : height - max(-bottom, 0), max(-left, 0) : width - max(-right, 0)]
