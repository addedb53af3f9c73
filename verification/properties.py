"""What must hold for any layer, register and input; each raises AssertionError with the case."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from accsim._check import IntArray
from accsim.bounds import magnitude
from accsim.datapath import Datapath
from accsim.layer import IntLayer
from accsim.plan import Call, Part, Plan, output_dtype, plan
from accsim.simulate import LevelRun, Run, simulate
from accsim.spec import MAX_BITS, Accumulator, Overflow, Rail, between
from verification import oracle
from verification.decide import Verdict, decide

__all__ = [
    "assert_bound_sound",
    "assert_bound_tight",
    "assert_exact",
    "assert_kernels_agree",
    "tap_inputs",
]

FIELDS = ("output", "overflow_count", "first_overflow", "peak_low", "peak_high")


def assert_exact(layer: IntLayer, x: IntArray, accumulator: Accumulator | Datapath) -> None:
    """The simulator equals the oracle on every output and every field. Slow: plain Python.

    Of a datapath each level's fields, too.
    """
    run = simulate(layer, x, accumulator)
    bias = [0] * layer.channels if layer.bias is None else layer.bias.tolist()
    rows = layer.rows.tolist()
    for place, channel, taps in tap_inputs(layer, x):
        products = [q * v for q, v in zip(rows[channel], taps, strict=True)]
        answer, levels = oracle_answers(products, accumulator, bias[channel])
        claims: list[tuple[str, str, Run | LevelRun, oracle.Answer]]
        claims = [("", field, run, answer) for field in FIELDS]
        for i, (level, told) in enumerate(zip(run.levels, levels, strict=True)):
            claims += [(f"levels[{i}].", field, level, told) for field in FIELDS[1:]]
        for whose, field, found, right in claims:
            got, expected = int(getattr(found, field)[place]), getattr(right, field)
            assert got == expected, (
                f"{whose}{field}{list(place)} must be {expected}, not {got}: weight"
                f" {rows[channel]}, input {taps}, bias {bias[channel]}, {accumulator}"
            )


def oracle_answers(
    products: Sequence[int], accumulator: Accumulator | Datapath, bias: int
) -> tuple[oracle.Answer, list[oracle.Answer]]:
    """The oracle's answer for some products, and of a datapath those for its levels."""
    if isinstance(accumulator, Accumulator):
        bits, rule, sign = accumulator.bits, str(accumulator.overflow), accumulator.signed
        return oracle.run(products, bits, rule, signed=sign, bias=bias), []
    return oracle.climb(
        products,
        [
            oracle.Level(one.bits, str(one.overflow), one.signed, one.terms, one.rail is Rail.SUM)
            for one in accumulator.levels
        ],
        order=accumulator.order,
        bias=bias,
        bias_last=accumulator.bias == "last",
    )


def assert_kernels_agree(
    layer: IntLayer, x: IntArray, accumulator: Accumulator, *, threads: int = 1
) -> list[str]:
    """Every kernel that accepts the call gives the plain loops' answer; the names of those tried.

    Not only the kernels that the plan chooses: each form in which each work is exact.
    """
    from accsim.execute import execute  # numba loads when first used

    shape = layer.output_shape(x.shape)
    inputs = between(int(x.min()), int(x.max())) if x.size else between(0, 0)
    chosen = plan(layer, inputs, accumulator)

    def fill(tried: Plan) -> dict[str, IntArray]:
        kinds = (output_dtype(accumulator), np.int32, np.int32, np.int64, np.int64)
        results = {f: np.zeros(shape, kind) for f, kind in zip(FIELDS, kinds, strict=True)}
        results["first_overflow"][...] = -1
        if results["output"].size:
            execute(tried, layer, x, accumulator, threads, results)
        return results

    def only(work: str, form: str) -> Plan:
        return Plan((Part(work, form, None, "tried"),), chosen.inputs, chosen.weights)

    call = Call.of(layer, chosen.inputs, accumulator)
    works = {"count": FIELDS[:3], "peaks": FIELDS[3:]}
    wraps = accumulator.overflow is Overflow.WRAP
    works["exact" if wraps else "saturate"] = FIELDS[:1]
    tries: list[tuple[str, Plan, tuple[str, ...]]] = [("as planned", chosen, FIELDS)]
    tries.append(("values", plan(layer, inputs, accumulator, counts=False), FIELDS[:1]))
    for work, fields in works.items():
        tries += [(f"{work} {f}", only(work, f), fields) for f in call.forms(work)[:-1]]
    truth = fill(only("all", "portable"))
    for name, tried, fields in tries:
        found = fill(tried)
        for field in fields:
            np.testing.assert_array_equal(
                found[field], truth[field], f"{name}: {field} of {layer} in a {accumulator}"
            )
    return [name for name, _, _ in tries]


def assert_bound_sound(layer: IntLayer, x: IntArray, accumulator: Accumulator) -> None:
    """If the layer is PROVED for the register, this input does not overflow it."""
    report = decide(layer, accumulator)
    if report.verdict is Verdict.PROVED:
        run = simulate(layer, x, accumulator)
        worst = int(run.overflow_count.max(initial=0))
        assert worst == 0, (
            f"PROVED for a {accumulator}, yet {worst} steps overflow for {x.tolist()}"
        )


def assert_bound_tight(layer: IntLayer) -> None:
    """At `least_bits` the layer is PROVED; one bit below, REFUTED by a witness that replays.

    Where one bit less cannot even hold the bias, nothing is claimed.
    """
    least = decide(layer, Accumulator(MAX_BITS)).least_bits
    start = 0 if layer.bias is None else magnitude(layer.bias)
    if start >= 2 ** max(0, least - 2):
        return
    assert decide(layer, Accumulator(max(2, least))).verdict is Verdict.PROVED, f"{least} bits"
    if least <= 2:
        return
    below = decide(layer, Accumulator(least - 1))
    assert below.verdict is Verdict.REFUTED, f"{least - 1} bits are {below.verdict}"
    witness = below.witness
    assert witness is not None, "a refuted layer has a witness"
    run = witness.replay()
    seen = (int(run.output[0]), int(run.first_overflow[0]))
    told = (witness.simulated, witness.step)
    assert seen == told, f"the witness tells (output, step) {told}, its replay {seen}"


def tap_products_at(layer: IntLayer, x: IntArray, place: tuple[int, ...]) -> tuple[list[int], int]:
    """The products of one output in index order, and the number that its register starts at."""
    channel = place[1] if layer.is_conv else place[-1]
    taps = _patch(layer, _padded(layer, x), place) if layer.is_conv else np.asarray(x)[place[:-1]]
    row = layer.rows[channel].tolist()
    products = [q * v for q, v in zip(row, taps.ravel().tolist(), strict=True)]
    return products, 0 if layer.bias is None else int(layer.bias[channel])


def tap_inputs(layer: IntLayer, x: IntArray) -> list[tuple[tuple[int, ...], int, list[int]]]:
    """For every output: its index, its channel, and the input under each tap, in index order.

    A padded tap reads 0. Written with slices of a padded copy, unlike the simulator.
    """
    if not layer.is_conv:
        lead = np.shape(x)[:-1]
        return [
            ((*at, channel), channel, np.asarray(x)[at].tolist())
            for at in np.ndindex(lead)
            for channel in range(layer.channels)
        ]
    padded = _padded(layer, x)
    stride = layer.geometry[0]
    spans = _spans(layer)
    rows, columns = ((padded.shape[2 + axis] - spans[axis]) // stride[axis] + 1 for axis in (0, 1))
    places = product(range(len(padded)), range(layer.channels), range(rows), range(columns))
    return [(place, place[1], _patch(layer, padded, place).ravel().tolist()) for place in places]


def _padded(layer: IntLayer, x: IntArray) -> IntArray:
    """The images with their padding."""
    return np.pad(np.asarray(x), ((0, 0), (0, 0), *((p, p) for p in layer.geometry[1])))


def _spans(layer: IntLayer) -> list[int]:
    """How many rows and columns of an image one output reaches over."""
    dilation = layer.geometry[2]
    return [dilation[axis] * (layer.weight.shape[2 + axis] - 1) + 1 for axis in (0, 1)]


def _patch(layer: IntLayer, padded: IntArray, place: tuple[int, ...]) -> IntArray:
    """What one output of a convolution reads: (inputs, kh, kw)."""
    image, channel, *corner = place
    stride, _, dilation, groups = layer.geometry
    per_group = layer.weight.shape[1]
    first = channel // (layer.channels // groups) * per_group
    tops = [corner[axis] * stride[axis] for axis in (0, 1)]
    rows, columns = (
        slice(top, top + span, step)
        for top, span, step in zip(tops, _spans(layer), dilation, strict=True)
    )
    return padded[image, first : first + per_group, rows, columns]
