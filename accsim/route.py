"""How a datapath's outputs are computed fastest. Nothing here changes a result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from accsim._check import IntArray, read_only
from accsim.datapath import Datapath
from accsim.execute import SMALL, execute, run_kernel
from accsim.kernels.forms import host
from accsim.kernels.levels import group_sums
from accsim.layer import IntLayer, borrowing
from accsim.pack import problem_of
from accsim.plan import byte_shift, largest_sum, output_dtype, plan, vectors_run
from accsim.setting import pair_setting, spill_setting
from accsim.spec import MAX_BITS, Accumulator, IntSpec, Overflow, between, bits_to_hold
from accsim.stages import Range, Stage, Sums, never_overflows, stages
from accsim.tree import ENTRIES, climb, placed, store, windows

__all__ = ["Route", "exact", "holds", "outputs", "route"]

MANY = 256  # outputs of a channel beside which a look at its weights takes no time
SAMPLE = 16  # one channel in so many is looked at first
INT16 = (-(2**15), 2**15 - 1)
ANY = Accumulator(32)  # holds what fits, whatever register holds it


@dataclass(frozen=True, slots=True)
class Route:
    """A way to a datapath's outputs.

    work: "exact" (the exact sum, cut to `rest`), "saturate" (products one by one in `rest`),
    "pairs" (pairs of products that saturate in int16, added to `rest`), "spill" (groups of `span`
    scalars in registers `inner`, added to `rest`), "levels" (plain loops).
    form: that of the operands; "" where another plan chooses it.
    """

    work: str
    form: str
    why: str
    rest: Accumulator | None = None
    inner: Accumulator | None = None
    span: int = 0

    def __str__(self) -> str:
        return f"{self.work}{self.form and ' in '}{self.form}: {self.why}"


LEVELS = Route("levels", "portable", "no vector kernel has such levels, operands and sums")


def outputs(
    layer: IntLayer, x: IntArray, inputs: IntSpec, datapath: Datapath, threads: int, out: IntArray
) -> None:
    """Fill the outputs; arguments are checked, `inputs` is the range of x, none is missing."""
    chosen = route(layer, inputs, datapath, outputs=out.size)
    if chosen.work == "levels":
        climb(layer, x, datapath, threads, out)
    elif chosen.rest is not None and chosen.work == "exact":
        exact(layer, x, inputs, chosen.rest, threads, out)
    elif layer.is_conv or datapath.order is not None:
        places = datapath.places(layer.taps)
        rows = placed(layer.rows, places, axis=1)
        for at, window in windows(layer, x, ENTRIES):
            own = at.channels(layer)
            part = _matrix(layer, rows, own, inputs)
            taps = window.transpose(0, 2, 3, 1, 4, 5).reshape(-1, layer.taps)
            found = np.empty((len(taps), part.channels), out.dtype)
            _sums(part, placed(taps, places, axis=1), inputs, chosen, threads, found)
            store(layer, x, at, found.T[None], window.shape, out[None])
    else:
        _sums(layer, x, inputs, chosen, threads, out)


def route(layer: IntLayer, inputs: IntSpec, datapath: Datapath, *, outputs: int) -> Route:
    """The way to so many outputs, for inputs of this range; few do not pay a look at weights."""
    if not _one_holds(layer):
        return LEVELS
    inputs, weights = (_with_zero(spec) for spec in (inputs, layer.weight_range))
    places, bias = datapath.places(layer.taps), _biases(layer)

    def known(sums: Sums) -> Route:
        return _known(stages(datapath, len(places), bias, sums), inputs, weights, sums, len(places))

    found = known(_by_ranges(layer, inputs))
    if found.work == "exact" or outputs < MANY * layer.channels:
        return found
    rows = read_only(placed(layer.rows, places, axis=1))
    closer = found
    for some in (read_only(rows[::SAMPLE]), rows):  # where a few say nothing new, all do not
        closer = known(_by_weights(some, inputs))
        if closer.work == found.work:
            return found
    return closer


def holds(layer: IntLayer, inputs: IntSpec, datapath: Datapath) -> bool:
    """Whether no level overflows for any inputs of this range, so that outputs are `exact` sums.

    By ranges, or by the weights.
    """
    if not _one_holds(layer):
        return False
    inputs, places, bias = _with_zero(inputs), datapath.places(layer.taps), _biases(layer)
    if never_overflows(datapath, len(places), bias, _by_ranges(layer, inputs)):
        return True
    rows = read_only(placed(layer.rows, places, axis=1))
    return all(
        never_overflows(datapath, len(places), bias, _by_weights(some, inputs))
        for some in (read_only(rows[::SAMPLE]), rows)
    )


def _biases(layer: IntLayer) -> Range:
    """The least and the greatest."""
    if layer.bias is None:
        return 0, 0
    return int(layer.bias.min()), int(layer.bias.max())


def _one_holds(layer: IntLayer) -> bool:
    """Whether one register that is simulated can hold all exact sums, whatever the data."""
    return largest_sum(layer) < 1 << (MAX_BITS - 1)


def _by_ranges(layer: IntLayer, inputs: IntSpec) -> Sums:
    """Between what the sums of so many places lie, by the ranges of weights and inputs alone."""
    weights = _with_zero(layer.weight_range)
    corners = [q * x for q in (weights.min, weights.max) for x in (inputs.min, inputs.max)]

    def sums(span: int | None) -> Range:
        count = min(span or layer.taps, layer.taps)
        return count * min(corners), count * max(corners)

    return sums


def _by_weights(rows: IntArray, inputs: IntSpec) -> Sums:
    """Between what the sums of groups of places lie, over all inputs."""

    @cache  # stages ask again whenever one of them is left out
    def sums(span: int | None) -> Range:
        low, high = group_sums(rows, span or max(rows.shape[1], 1), inputs.min, inputs.max)
        return int(low), int(high)

    return sums


def _known(
    found: tuple[Stage, ...], inputs: IntSpec, weights: IntSpec, sums: Sums, places: int
) -> Route:
    """The kernel that knows these stages."""
    if not found:
        return LEVELS
    *groups, last = found
    if not groups:
        register = last.register
        if last.exact or last.wraps:
            why = "no sum leaves its level" if last.exact else "levels that wrap keep their bits"
            return Route("exact", "", why, rest=replace(register, overflow=Overflow.WRAP))
        work = "saturate" if last.steps else "exact"
        return Route(work, "", "one level saturates, the others hold all sums", rest=register)
    rest = ANY if last.exact and _within(last.sums, (ANY.min, ANY.max)) else last.register
    late = rest.overflow is Overflow.SATURATE
    if not vectors_run() or not rest.signed or rest.bits > 32 or (late and not last.steps):
        return LEVELS
    if any(stage.span is None for stage in groups):  # a read-out is left
        return LEVELS
    bytes_fit = host().dot_pairs and 0 in (byte_shift(inputs, weights), byte_shift(weights, inputs))
    free = _within(sums(2), INT16)  # pairs never saturate
    pairs = bytes_fit and groups[0].span == 2 and _as_pair(groups[0], free=free)
    if pairs and len(groups) == 1 and not late:
        return Route("pairs", "int8x4", "pairs saturate in int16", rest=rest)
    inner = groups[-1]
    span = min(inner.span or 0, places + places % 2)
    if not _as_lane(inner):
        return LEVELS
    narrow = replace(inner.register, terms=None)
    even = bytes_fit and span % 2 == 0 and inner.register.signed
    if even and ((len(groups) == 2 and pairs) or (len(groups) == 1 and inner.wraps and free)):
        why = "pairs are summed in lanes of int16"
        return Route("spill", "int8x2", why, rest=rest, inner=narrow, span=span // 2)
    words = all(_within((s.min, s.max), INT16) for s in (inputs, weights))
    if len(groups) == 1 and words and (inner.wraps or _within(sums(1), INT16)):
        why = "products are summed in lanes of int16"
        return Route("spill", "int16", why, rest=rest, inner=narrow, span=span)
    return LEVELS


def _as_pair(stage: Stage, *, free: bool) -> bool:
    """Whether a level of two products is what one instruction on bytes does."""
    saturates = stage.register.bits == 16 and stage.register.signed and not stage.wraps
    return (stage.exact and free) or saturates


def _as_lane(stage: Stage) -> bool:
    """Whether lanes of int16 sum as this level does: step by step, or modulo 2^bits."""
    return stage.register.bits <= 16 and (stage.wraps or stage.steps)


def _within(inner: Range, outer: Range) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def _with_zero(spec: IntSpec) -> IntSpec:
    return between(min(spec.min, 0), max(spec.max, 0))


def _matrix(layer: IntLayer, rows: IntArray, own: slice, inputs: IntSpec) -> IntLayer:
    """Some channels as a linear layer of taps in their places."""
    options = {} if layer.bias is None else {"bias": layer.bias[own]}
    return borrowing(rows[own], layer.weight_range, inputs, options)


def exact(
    layer: IntLayer,
    x: IntArray,
    inputs: IntSpec,
    register: Accumulator,
    threads: int,
    out: IntArray,
) -> None:
    """The exact sums, of which the register keeps some bits, or that it saturates in the end."""
    if register.overflow is Overflow.WRAP:
        _run(layer, x, inputs, register, threads, out)
        return
    total = largest_sum(layer)
    wide = Accumulator(max(2, bits_to_hold(-total, total)))
    sums = np.empty(out.shape, output_dtype(wide))
    _run(layer, x, inputs, wide, threads, sums)
    np.clip(sums, register.min, register.max, out=out, casting="unsafe")


def _run(
    layer: IntLayer,
    x: IntArray,
    inputs: IntSpec,
    register: Accumulator,
    threads: int,
    out: IntArray,
) -> None:
    """Outputs in one register, of products in index order."""
    chosen = plan(layer, inputs, register, counts=False, peaks=False)
    kind = output_dtype(register)
    found = out if out.dtype == kind else np.empty(out.shape, kind)
    execute(chosen, layer, x, register, threads, {"output": found})
    if found is not out:
        out[...] = found


def _sums(
    layer: IntLayer, x: IntArray, inputs: IntSpec, chosen: Route, threads: int, out: IntArray
) -> None:
    """Outputs of a linear layer whose taps are in their places."""
    rest = chosen.rest
    assert rest is not None
    if chosen.work == "saturate":
        _run(layer, x, inputs, rest, threads, out)
        return
    problem = problem_of(layer, x, slice(None))
    sides = _with_zero(inputs), _with_zero(layer.weight_range)
    lanes_are_inputs = problem.geometry.lanes_are_inputs
    if chosen.inner is None:
        setting = pair_setting(*sides, rest, lanes_are_inputs=lanes_are_inputs)
    else:
        setting = spill_setting(
            chosen.form,
            *sides,
            chosen.inner,
            rest,
            chosen.span,
            lanes_are_inputs=lanes_are_inputs,
        )
    found = out if out.dtype == np.int32 else np.empty(out.shape, np.int32)
    threads = threads if out.size * layer.taps >= SMALL else 1
    run_kernel(problem, setting, Accumulator(32), threads, {"output": found.reshape(-1)})
    if found is not out:
        out[...] = found
