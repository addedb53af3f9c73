"""Which kernel is chosen, and that the reasons hold."""

import sys

import numpy as np
import pytest

from accsim import Accumulator, IntLayer, between, linear, signed, simulate, unsigned
from accsim.bounds import extremes
from accsim.kernels.forms import host
from accsim.kernels.portable import certified
from accsim.plan import Call, byte_shift, plan
from verification.properties import assert_exact

INT8 = signed(8)


def of(weight, inputs, bits, rule="saturate", *, weights=INT8, given=None, **how):
    """The plan as (work, form, channels), for inputs of the whole range unless given."""
    layer = IntLayer(np.array(weight), weight_spec=weights, input_spec=inputs)
    made = plan(layer, given or inputs, Accumulator(bits, rule), **how)
    return [(part.work, part.form, part.channels) for part in made.parts]


BIG = [[100] * 64] * 4


@pytest.mark.parametrize(
    ("weight", "inputs", "bits", "rule", "expected"),
    [
        (BIG, INT8, 16, "saturate", ("count", "int16", None)),
        (BIG, INT8, 12, "wrap", ("count", "int16", None)),
        (BIG, INT8, 17, "saturate", ("count", "int16x2", None)),
        (BIG, INT8, 21, "wrap", ("exact", None, None)),  # 64 * 100 * 128 < 2^20
        ([[127] * 600] * 4, unsigned(8), 20, "wrap", ("count", "int16x2", None)),
        ([[255] * 64] * 4, unsigned(8), 16, "saturate", ("count", "int16x2", None)),
        (BIG, between(-(2**15), 2**15), 16, "saturate", ("count", "float64", None)),
        (BIG, between(-(2**30), 2**30), 50, "saturate", ("exact", "float64", None)),
        (BIG, between(-(2**50), 2**50), 50, "saturate", ("all", "portable", None)),
    ],
)
def test_lanes_follow_the_widths(weight, inputs, bits, rule, expected):
    """16 bits where register and products fit, then 32, then 53 exact bits, else plain loops."""
    weights = between(-255, 255) if weight[0][0] > 127 else INT8
    found = of(weight, inputs, bits, rule, weights=weights)[0]
    assert (found[0], found[1] if expected[1] else None, found[2]) == expected


def test_values_alone():
    """Wrapping without statistics is one exact product, whatever the width; no counts, no peaks."""
    assert [work for work, _, _ in of(BIG, INT8, 5, "wrap", counts=False)] == ["exact"]
    assert [work for work, _, _ in of(BIG, INT8, 5, counts=False)] == ["saturate"]
    assert [work for work, _, _ in of(BIG, INT8, 5, peaks=False)] == ["count"]
    assert [work for work, _, _ in of(BIG, INT8, 5)] == ["count", "peaks"]


def test_certified_channels_are_apart():
    """Channels that cannot reach a rail are exact products, if they are enough to be worth it."""
    weight = [[1] * 64, [100] * 64, [-1] * 64, [0] * 64]
    found = of(weight, INT8, 15, peaks=False)
    assert [(work, channels) for work, _, channels in found] == [
        ("exact", (0, 2, 3)),
        ("count", (1,)),
    ]
    weight = [[1] * 64] + [[100] * 64] * 4
    assert [(work, channels) for work, _, channels in of(weight, INT8, 15, peaks=False)] == [
        ("count", None)
    ]


def test_the_inputs_of_the_call_count():
    """The ranges of this call's arrays decide, not the declared ones alone."""
    assert of(BIG, INT8, 16, given=between(-1, 1), peaks=False)[0][0] == "exact"
    assert of(BIG, INT8, 16, given=between(-128, 1), peaks=False)[0][0] == "count"
    assert of(BIG, INT8, 16, weights=signed(20), peaks=False) == [("count", "int16", None)]


def test_plain_loops_say_why(monkeypatch):
    """Operands that no vector holds, no taps, or no compiler."""
    wide = IntLayer([[2**40]], weight_spec=signed(42), input_spec=signed(20))
    layer = IntLayer(BIG, weight_spec=INT8, input_spec=INT8)
    register = Accumulator(16, "saturate")
    why = "no vector form holds these operands and sums"
    assert [part.why for part in plan(wide, signed(20), register).parts] == [why]
    empty = IntLayer(np.zeros((3, 0), int), weight_spec=INT8, input_spec=INT8)
    assert [part.why for part in plan(empty, INT8, register).parts] == ["there are no taps"]
    monkeypatch.setattr(sys.modules["accsim.plan"], "vectors_run", lambda: False)
    Call.forms.cache_clear()
    assert [part.why for part in plan(layer, INT8, register).parts] == ["no compiler is on"]
    Call.forms.cache_clear()


def test_forms_are_those_of_the_ranges():
    """What is remembered of one call is used for none of other ranges."""
    one, other = between(-1, 1), between(-(2**15), 2**15 - 1)
    register = Accumulator(16, "saturate")
    for first, second in ((one, other), (other, one)):
        found = [Call(9, 0, given, one, register).forms("count")[0] for given in (first, second)]
        assert found == ["int16" if given is one else "int16x2" for given in (first, second)]
        made = [of([[1, -1]] * 3, other, 16, given=given) for given in (first, second)]
        assert [parts[0][0] for parts in made] == [
            "exact" if given is one else "count" for given in (first, second)
        ]


@pytest.mark.parametrize("q", [1, 2, 3])
def test_certificates_are_tight(q):
    """A channel is certified exactly where its worst sum fits, for ranges that hold 0."""
    for spec in (signed(4), unsigned(4), between(-3, 9)):
        weight = np.array([[q, -7, q, 5]])
        layer = IntLayer(weight, weight_spec=signed(5), input_spec=spec)
        high = sum(max(w * spec.min, w * spec.max) for w in weight[0].tolist())
        low = sum(min(w * spec.min, w * spec.max) for w in weight[0].tolist())
        for bits in range(2, 12):
            register = Accumulator(bits, "saturate")
            fits = register.min <= low and high <= register.max
            assert (plan(layer, spec, register).parts[0].work == "exact") == fits


@pytest.mark.parametrize("kind", [np.int8, np.int32])
@pytest.mark.parametrize("biased", [False, True])
def test_certificates_of_channels(kind, biased):
    """They are those of the exact extremes, unless no channel of the few has one."""
    rng = np.random.default_rng(4)
    rows = (rng.integers(-100, 100, (40, 33)) // rng.integers(1, 40, (40, 1))).astype(kind)
    bias = rng.integers(-2000, 2000, 40) if biased else None
    lowest, highest = extremes(rows, between(-3, 9), bias=bias)
    for bits in (9, 11, 12, 13, 16):
        register = Accumulator(bits)
        starts = np.empty(0, np.int64) if bias is None else bias
        safe = (register.min <= lowest) & (highest <= register.max)
        for step in (1, 7, 39):
            found = certified(rows, starts, -3, 9, register.min, register.max, step)
            assert found.tolist() == (safe if safe[::step].any() else safe & False).tolist()


@pytest.mark.parametrize(
    ("inputs", "weights", "shift"),
    [
        (unsigned(8), signed(8), 0),
        (signed(8), signed(8), -128),
        (between(-5, 250), signed(8), -5),
        (between(-5, 251), signed(8), None),
        (between(-300, -45), signed(8), -300),
        (unsigned(8), between(-129, 0), None),
        (unsigned(8), between(0, 128), None),
    ],
)
def test_bytes(inputs, weights, shift):
    """Inputs become uint8 by a shift; weights must be int8 as they are."""
    assert byte_shift(inputs, weights) == shift


def test_forms_at_the_edges_of_their_lanes():
    """One past each limit the next wider form is the first."""

    def first(work, inputs, weights, bits, taps=1, rule="saturate"):
        return Call(taps, 0, inputs, weights, Accumulator(bits, rule)).forms(work)[0]

    one = between(-1, 1)
    assert first("count", between(-(2**15), 2**15 - 1), between(0, 1), 16) == "int16"
    assert first("count", between(-(2**15), 2**15 - 1), one, 16) == "int16x2"  # 2^15 is a product
    assert first("count", between(0, 3), between(0, 3), 17) == "int16x2"
    most = between(-(2**15), 2**15 - 1)
    assert first("count", most, between(0, 2**15 - 1), 31) == "int16x2"
    assert first("count", most, most, 31) == "int16x2"  # 2^30 - 1 + 2^30 is the lane's highest
    assert first("count", most, most, 32) == "float64"
    assert first("peaks", most, between(0, 2), 31, taps=2**15 - 1) == "int16x2"
    assert first("peaks", most, between(0, 2), 31, taps=2**15) == "float64"
    assert first("count", between(0, 2**16), one, 52) == "float64"
    assert first("count", between(0, 2**16), one, 53) == "portable"
    assert first("exact", between(0, 2**40), one, 62, taps=2**13) == "float64"
    assert first("exact", between(0, 2**40), one, 62, taps=2**13 + 1) == "portable"
    narrow = "int8x4" if host().dot_bytes or host().dot_pairs else "int16x2"
    assert first("exact", unsigned(4), signed(4), 32) == narrow
    wider = "int8x4" if host().dot_bytes else "int16x2"  # 2 * 255 * 65 > 2^15 > 2 * 255 * 64
    assert first("exact", unsigned(8), between(-64, 63), 32) == narrow
    assert first("exact", unsigned(8), between(-65, 63), 32) == wider


def test_what_a_plan_prints():
    """Ranges and reasons, one line for each part."""
    layer = IntLayer([[100] * 64] * 2, weight_spec=INT8, input_spec=INT8)
    assert str(plan(layer, INT8, Accumulator(16, "saturate"))) == (
        "inputs INT8 [-128, 127], weights [100, 100]\n"
        "count in int16, all channels: some input could pass a rail\n"
        "peaks in int16x2, all channels: every running sum is looked at"
    )


def test_unsigned_registers_wider_than_32_bits_wrap_negative_sums():
    """Sums that fit int32 still wrap: -1 is 2^40 - 1 in an unsigned 40-bit register."""
    layer = IntLayer([[-1, 0]], weight_spec=signed(2), input_spec=unsigned(1))
    for bits in (32, 40, 52, 62):
        register = Accumulator(bits, signed=False)
        assert_exact(layer, np.array([[1, 1]]), register)
        assert linear([[1, 1]], layer.weight, register)[0, 0] == 2**bits - 1


def test_without_peaks():
    """Nobody asks, nobody looks."""
    layer = IntLayer([[1, 2]], weight_spec=signed(4), input_spec=unsigned(2))
    run = simulate(layer, [[3, 3]], Accumulator(3), peaks=False)
    assert run.peak_low is None
    assert run.peak_high is None
    full = simulate(layer, [[3, 3]], Accumulator(3))
    assert (run.output, run.overflow_count, run.first_overflow) == (
        full.output,
        full.overflow_count,
        full.first_overflow,
    )
