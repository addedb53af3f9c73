"""Check, plan, run: quantized layers through a narrow register, bit for bit as `arith.fold`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from math import prod

import numpy as np

from accsim._check import IntArray, integer, integer_array
from accsim.errors import ShapeError
from accsim.layer import IntLayer, borrowing, check_start, range_of
from accsim.plan import Plan, check_host, output_dtype, plan
from accsim.sample import sampled_reach
from accsim.spec import Accumulator, IntSpec

__all__ = ["Run", "conv2d", "linear", "simulate"]

Pair = int | tuple[int, int]
LONG = 2**28  # products of a call that takes longer than a look at some of them


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What a register did, per output; every field has the shape of the layer's output.

    `output` is int32 where the register fits in one, else int64; the counts are int32, the peaks
    (lowest and highest exact running sum, starting value included) int64.
    """

    output: IntArray
    overflow_count: IntArray
    first_overflow: IntArray
    peak_low: IntArray | None = None
    peak_high: IntArray | None = None


def simulate(
    layer: IntLayer,
    x: object,
    accumulator: Accumulator,
    *,
    peaks: bool = True,
    threads: int | None = None,
) -> Run:
    """Run a layer on integer inputs, one narrow register per output, and report every field.

    Without `peaks` the two peak fields are None, and a layer that provably fits costs no more than
    its integer product. `threads` is at most NUMBA_NUM_THREADS, which is what None means.

    Shapes: linear x (..., K) -> (..., C); conv2d x (N, I·groups, H, W) -> (N, O, oh, ow).
    Raises: DtypeError, ShapeError; RangeError for an input outside the layer's input range or a
    bias outside the register; HostWidthError for sums that could leave 64 bits.
    """
    array = integer_array(x, "x")
    results = _results(layer, array, accumulator)
    inputs = range_of(array, "x", layer.input_spec)
    shape = results["output"].shape
    results["overflow_count"] = np.empty(shape, np.int32)
    results["first_overflow"] = np.empty(shape, np.int32)
    if peaks:
        results["peak_low"] = np.empty(shape, np.int64)
        results["peak_high"] = np.empty(shape, np.int64)
    _fill(layer, array, inputs, accumulator, results, threads)
    return Run(**results)


def linear(
    x: object,
    weight: object,
    accumulator: Accumulator,
    *,
    bias: object = None,
    threads: int | None = None,
) -> IntArray:
    """x times weight transposed, each dot product in its own narrow register.

    Shapes: x (..., K), weight (C, K), bias (C,) -> (..., C).
    Raises: as `simulate`.

    >>> linear([[1, 1, 1, 1]], [[7, 5, -6, 2]], Accumulator(4, "saturate")).tolist()
    [[3]]
    """
    options = {} if bias is None else {"bias": bias}
    return _values(x, weight, accumulator, 2, threads, **options)


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
    threads: int | None = None,
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
        threads,
        bias=bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def plan_for(layer: IntLayer, x: object, accumulator: Accumulator) -> Plan:
    """Which kernels `simulate` would run on these inputs, and why; nothing is run.

    Raises: as `simulate`.
    """
    array = integer_array(x, "x")
    _results(layer, array, accumulator)
    inputs = range_of(array, "x", layer.input_spec)
    check_host(layer, accumulator)
    return _planned(layer, array, inputs, accumulator)


def _values(
    x: object,
    weight: object,
    accumulator: Accumulator,
    ndim: int,
    threads: int | None,
    **options: object,
) -> IntArray:
    """Outputs alone, of a layer whose ranges are those of the arrays themselves."""
    array, weights = integer_array(x, "x"), integer_array(weight, "weight")
    if weights.ndim != ndim:
        form = "(C, K)" if ndim == 2 else "(O, I, kh, kw)"
        raise ShapeError(f"weight must be {form}, not of shape {weights.shape}")
    layer = borrowing(weights, range_of(weights, "weight"), range_of(array, "x"), options)
    results = _results(layer, array, accumulator)
    _fill(layer, array, layer.input_spec, accumulator, results, threads)
    return results["output"]


def _results(layer: IntLayer, x: IntArray, accumulator: Accumulator) -> dict[str, IntArray]:
    """An array for the outputs, once bias and shapes are checked."""
    check_start(layer, accumulator)
    return {"output": np.empty(layer.output_shape(x.shape), output_dtype(accumulator))}


def _fill(
    layer: IntLayer,
    x: IntArray,
    inputs: IntSpec,
    accumulator: Accumulator,
    results: dict[str, IntArray],
    threads: int | None,
) -> None:
    """Plan and run on checked arguments; `results` has an array for each field asked for."""
    check_host(layer, accumulator)
    most = most_threads()
    threads = most if threads is None else integer(threads, "threads", 1, most)
    if results["output"].size == 0:
        return
    from accsim.execute import execute  # numba loads when first used

    counts, peaks = len(results) > 1, "peak_low" in results
    chosen = _planned(layer, x, inputs, accumulator, counts=counts, peaks=peaks)
    execute(chosen, layer, x, accumulator, threads, results)


def _planned(
    layer: IntLayer,
    x: IntArray,
    inputs: IntSpec,
    accumulator: Accumulator,
    *,
    counts: bool = True,
    peaks: bool = True,
) -> Plan:
    """The plan; for a long call of narrow registers by a look at what some of its sums do."""
    asked = partial(plan, layer, inputs, accumulator, counts=counts, peaks=peaks)
    chosen = asked()
    products = prod(layer.output_shape(x.shape)) * layer.taps
    if products < LONG or all(part.form != "int16" for part in chosen.parts):
        return chosen
    return asked(reach=sampled_reach(layer, x))


@cache
def most_threads() -> int:
    """NUMBA_NUM_THREADS: how many threads share a call, if nothing else is said."""
    from numba import config

    return int(config.NUMBA_NUM_THREADS)
