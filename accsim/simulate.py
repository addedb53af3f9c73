"""Check, plan, run: quantized layers through a narrow register, bit for bit as `arith.fold`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial
from math import prod

import numpy as np

from accsim._check import IntArray, integer, integer_array
from accsim.datapath import Datapath
from accsim.errors import ShapeError
from accsim.layer import IntLayer, borrowing, check_start, range_of
from accsim.plan import Plan, check_host, output_dtype, plan
from accsim.sample import sampled_reach
from accsim.spec import Accumulator, IntSpec, Overflow
from accsim.tree import check_tree, climb, lane_type

__all__ = ["LevelRun", "Run", "conv2d", "linear", "simulate"]

Pair = int | tuple[int, int]
LONG = 2**28  # products of a call that takes longer than a look at some of them


@dataclass(frozen=True, slots=True, eq=False)
class LevelRun:
    """What one level of a datapath did, per output, over all of its groups.

    The peaks are those of the exact sums of its groups, as they would stand in unbounded registers
    whenever the level applies its overflow, starting values included.
    """

    overflow_count: IntArray
    first_overflow: IntArray
    peak_low: IntArray | None = None
    peak_high: IntArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What a register did, per output; every field has the shape of the layer's output.

    `output` is int32 where the register fits in one, else int64; the counts are int32, the peaks
    (lowest and highest exact running sum, starting value included) int64.
    Of a datapath `levels` tells the same of each level, inner to outer. Its counts are then those
    of all levels, a step is a place in the datapath's order, and peaks are the summing level's.
    """

    output: IntArray
    overflow_count: IntArray
    first_overflow: IntArray
    peak_low: IntArray | None = None
    peak_high: IntArray | None = None
    levels: tuple[LevelRun, ...] = ()


def simulate(
    layer: IntLayer,
    x: object,
    accumulator: Accumulator | Datapath,
    *,
    peaks: bool = True,
    threads: int | None = None,
) -> Run:
    """Run a layer on integer inputs, one narrow register per output, and report every field.

    Or one datapath per output.

    Without `peaks` the two peak fields are None, and a layer that provably fits costs no more than
    its integer product. `threads` is at most NUMBA_NUM_THREADS, which is what None means.

    Shapes: linear x (..., K) -> (..., C); conv2d x (N, I·groups, H, W) -> (N, O, oh, ow).
    Raises: DtypeError, ShapeError; RangeError for an input outside the layer's input range or a
    bias outside the register; HostWidthError for sums that could leave 64 bits.
    """
    array = integer_array(x, "x")
    if isinstance(accumulator, Datapath) and accumulator.single is None:
        return _simulate_levels(layer, array, accumulator, peaks, threads)
    register = _register(layer, accumulator)
    results = _results(layer, array, register)
    inputs = range_of(array, "x", layer.input_spec)
    shape = results["output"].shape
    results["overflow_count"] = np.empty(shape, np.int32)
    results["first_overflow"] = np.empty(shape, np.int32)
    if peaks:
        results["peak_low"] = np.empty(shape, np.int64)
        results["peak_high"] = np.empty(shape, np.int64)
    _fill(layer, array, inputs, register, results, threads)
    output = results.pop("output")
    levels = (LevelRun(**results),) if isinstance(accumulator, Datapath) else ()
    return Run(output, **results, levels=levels)


def _register(layer: IntLayer, accumulator: Accumulator | Datapath) -> Accumulator:
    """The one register of a call, checked beside the layer."""
    if isinstance(accumulator, Datapath):
        check_tree(layer, accumulator)
        return accumulator.last
    return accumulator


def _simulate_levels(
    layer: IntLayer, x: IntArray, datapath: Datapath, peaks: bool, threads: int | None
) -> Run:
    """`simulate` through several levels."""
    check_tree(layer, datapath)
    lane_type(layer, datapath)
    shape = layer.output_shape(x.shape)
    inputs = range_of(x, "x", layer.input_spec)
    threads = _threads(threads)
    output = np.empty(shape, output_dtype(datapath.last))
    kinds = (np.int32, np.int32, np.int64, np.int64) if peaks else (np.int32, np.int32)
    fields = [np.empty((len(datapath.levels), *shape), kind) for kind in kinds]
    if output.size:
        from accsim import route  # numba loads when first used

        if not peaks and route.holds(layer, inputs, datapath):
            fields[0][...], fields[1][...] = 0, -1
            register = replace(datapath.last, overflow=Overflow.WRAP)  # it never does
            route.exact(layer, x, inputs, register, threads, output)
        else:
            climb(layer, x, datapath, threads, output, fields)
    counts, firsts = fields[:2]
    first = firsts.view(np.uint32).min(axis=0).view(np.int32)  # without a sign -1 is the largest
    low, high = (field[datapath.summing] for field in fields[2:]) if peaks else (None, None)
    return Run(
        output,
        counts.sum(axis=0, dtype=np.int32),
        first,
        low,
        high,
        levels=tuple(LevelRun(*one) for one in zip(*fields, strict=True)),
    )


def linear(
    x: object,
    weight: object,
    accumulator: Accumulator | Datapath,
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
    accumulator: Accumulator | Datapath,
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
    accumulator: Accumulator | Datapath,
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
    if isinstance(accumulator, Datapath) and accumulator.single is None:
        return _level_values(layer, array, accumulator, _threads(threads))
    register = _register(layer, accumulator)
    results = _results(layer, array, register)
    _fill(layer, array, layer.input_spec, register, results, threads)
    return results["output"]


def _level_values(layer: IntLayer, x: IntArray, datapath: Datapath, threads: int) -> IntArray:
    """Outputs alone, through several levels."""
    check_tree(layer, datapath)
    lane_type(layer, datapath)
    out = np.empty(layer.output_shape(x.shape), output_dtype(datapath.last))
    if out.size:
        from accsim.route import outputs  # numba loads when first used

        outputs(layer, x, layer.input_spec, datapath, threads, out)
    return out


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
    threads = _threads(threads)
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


def _threads(threads: int | None) -> int:
    """So many, or all."""
    most = most_threads()
    return most if threads is None else integer(threads, "threads", 1, most)


@cache
def most_threads() -> int:
    """NUMBA_NUM_THREADS: how many threads share a call, if nothing else is said."""
    from numba import config

    return int(config.NUMBA_NUM_THREADS)
