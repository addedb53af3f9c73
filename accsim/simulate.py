"""Check, plan, run: quantized layers through a narrow register, bit for bit as `arith.fold`."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from math import prod

import numpy as np

from accsim._check import IntArray, integer_array
from accsim.bounds import magnitude
from accsim.errors import HostWidthError, ShapeError
from accsim.layer import IntLayer, check_start, check_widest
from accsim.spec import Accumulator, IntSpec, Overflow, between

__all__ = ["Run", "conv2d", "linear", "simulate"]

Pair = int | tuple[int, int]

_ONE_AT_A_TIME = threading.Lock()  # numba's fallback thread pool dies of two callers at once


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What a register did, per output; every field has the shape of the layer's output.

    `output` is int32 where the register fits in one, else int64; the counts are int32, the peaks
    (lowest and highest exact running sum, starting value included) int64.
    """

    output: IntArray
    overflow_count: IntArray
    first_overflow: IntArray
    peak_low: IntArray
    peak_high: IntArray


def simulate(layer: IntLayer, x: object, accumulator: Accumulator) -> Run:
    """Run a layer on integer inputs, one narrow register per output, and report every field.

    Shapes: linear x (..., K) -> (..., C); conv2d x (N, I·groups, H, W) -> (N, O, oh, ow).
    Raises: DtypeError, ShapeError; RangeError for an input outside the layer's input range or a
    bias outside the register; HostWidthError for sums that could leave 64 bits.
    """
    array = integer_array(x, "x")
    output = _start(layer, array, accumulator)
    layer.input_spec.check(array, "x")
    run = Run(
        output,
        np.empty(output.shape, np.int32),
        np.empty(output.shape, np.int32),
        np.empty(output.shape, np.int64),
        np.empty(output.shape, np.int64),
    )
    _fill(layer, array, accumulator, run)
    return run


def linear(x: object, weight: object, accumulator: Accumulator, *, bias: object = None) -> IntArray:
    """x times weight transposed, each dot product in its own narrow register.

    Shapes: x (..., K), weight (C, K), bias (C,) -> (..., C).
    Raises: as `simulate`.

    >>> linear([[1, 1, 1, 1]], [[7, 5, -6, 2]], Accumulator(4, "saturate")).tolist()
    [[3]]
    """
    return _values(x, weight, accumulator, 2, bias=bias)


def conv2d(
    x: object,
    weight: object,
    accumulator: Accumulator,
    *,
    bias: object = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> IntArray:
    """Two-dimensional convolution as in torch, each output in its own narrow register.

    Shapes: x (N, I·groups, H, W), weight (O, I, kh, kw), bias (O,) -> (N, O, oh, ow).
    Raises: as `simulate`.
    """
    return _values(
        x,
        weight,
        accumulator,
        4,
        bias=bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def check_host(layer: IntLayer, accumulator: Accumulator) -> type[np.int32] | type[np.int64]:
    """The lane type in which no intermediate of this simulation can overflow, whatever the data.

    With total = |bias| + K·max|q|·max|x| over the declared ranges, every sum and every register
    plus one product, also counted from the register's lowest value, is below 2^bits + total in
    size; so 2^bits + total <= 2^31 allows int32 and <= 2^63 int64.

    Raises: HostWidthError beyond that.
    """
    bias = 0 if layer.bias is None else magnitude(layer.bias)
    total = bias + layer.taps * layer.weight_spec.magnitude * layer.input_spec.magnitude
    reach = 2**accumulator.bits + total
    if reach > 2**63:
        raise HostWidthError(
            f"2^{accumulator.bits} + {total}, the register's span plus the largest sum of"
            f" {layer.taps} products of {layer.weight_spec} and {layer.input_spec},"
            " must not exceed 2^63"
        )
    return np.int32 if reach <= 2**31 else np.int64


def _values(
    x: object, weight: object, accumulator: Accumulator, ndim: int, **options: object
) -> IntArray:
    """Outputs alone, of a layer whose ranges are those of the arrays themselves."""
    array, weights = integer_array(x, "x"), integer_array(weight, "weight")
    if weights.ndim != ndim:
        form = "(C, K)" if ndim == 2 else "(O, I, kh, kw)"
        raise ShapeError(f"weight must be {form}, not of shape {weights.shape}")
    layer = IntLayer(
        weights,
        weight_spec=_spec_of(weights, "weight"),
        input_spec=_spec_of(array, "x"),
        **options,  # type: ignore[arg-type]
    )
    output = _start(layer, array, accumulator)
    _fill(layer, array, accumulator, output)
    return output


def _spec_of(array: IntArray, name: str) -> IntSpec:
    check_widest(array, name)
    return between(int(array.min()), int(array.max())) if array.size else between(0, 0)


def _start(layer: IntLayer, x: IntArray, accumulator: Accumulator) -> IntArray:
    """The outputs, checked for shape, holding the value that each register starts at."""
    check_start(layer, accumulator)
    small = accumulator.max <= np.iinfo(np.int32).max
    output = np.zeros(_output_shape(layer, x.shape), np.int32 if small else np.int64)
    if layer.bias is not None:
        output += layer.bias.reshape(-1, 1, 1) if layer.is_conv else layer.bias
    return output


def _output_shape(layer: IntLayer, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the layer's output for an input of `shape`. Raises: ShapeError."""
    if not layer.is_conv:
        if len(shape) < 1 or shape[-1] != layer.taps:
            raise ShapeError(f"x must be (..., {layer.taps}), not of shape {shape}")
        return (*shape[:-1], layer.channels)
    inputs = layer.weight.shape[1] * layer.groups
    if len(shape) != 4 or shape[1] != inputs:
        raise ShapeError(f"x must be (N, {inputs}, H, W), not of shape {shape}")
    stride, padding, dilation, _ = layer.geometry
    # the least image: the kernel spread by the dilation, less what the padding gives
    least = [
        dilation[axis] * (layer.weight.shape[2 + axis] - 1) + 1 - 2 * padding[axis]
        for axis in (0, 1)
    ]
    if shape[2] < least[0] or shape[3] < least[1]:
        raise ShapeError(
            f"x must be at least {least[0]} by {least[1]} for this kernel, not"
            f" {shape[2]} by {shape[3]}"
        )
    window = [(shape[2 + axis] - least[axis]) // stride[axis] + 1 for axis in (0, 1)]
    return (shape[0], layer.channels, *window)


def _fill(layer: IntLayer, x: IntArray, accumulator: Accumulator, result: Run | IntArray) -> None:
    """Run the compiled kernel on checked arguments; it writes into `result`."""
    from accsim.kernels import portable  # numba loads when first used

    lane = check_host(layer, accumulator)
    output = result.output if isinstance(result, Run) else result
    if output.size == 0:
        return
    if layer.is_conv:
        sources, rows, kernel = x, layer.rows, layer.weight.shape[2:]
        window, strides = output.shape[2:], (output[0].size, output[0, 0].size)
    else:
        sources = x.reshape(prod(x.shape[:-1]), layer.taps)
        rows, kernel, window = layer.rows, (1, 1), (1, 1)
        strides = (layer.channels, 1)
        if len(sources) < layer.channels:  # products commute: let the longer axis be the lanes
            sources, rows, strides = rows, sources, strides[::-1]
        sources = sources[:, :, None, None]
    stride, padding, dilation, groups = layer.geometry
    rails = np.array([accumulator.min, accumulator.max, 2**accumulator.bits - 1], lane)
    saturates = accumulator.overflow is Overflow.SATURATE
    geometry = (*stride, *padding, *dilation)
    arguments = (_read_only(sources), _read_only(rows), kernel, geometry, groups, window)
    with _ONE_AT_A_TIME:
        if isinstance(result, Run):
            portable.statistics(
                *arguments,
                rails,
                saturates,
                output.reshape(-1),
                strides,
                result.overflow_count.reshape(-1),
                result.first_overflow.reshape(-1),
                result.peak_low.reshape(-1),
                result.peak_high.reshape(-1),
            )
        else:
            portable.values(*arguments, rails, saturates, output.reshape(-1), strides)


def _read_only(array: IntArray) -> IntArray:
    """A view that cannot be written, so that numba compiles for one kind of array."""
    view = array.view()
    view.flags.writeable = False
    return view
