"""Proof or witness, against enumeration and by replay."""

import json
from dataclasses import FrozenInstanceError
from itertools import product

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from accsim import Accumulator, IntLayer, arith, between, signed, simulate, unsigned
from accsim.errors import RangeError, SpecError
from accsim.spec import bits_to_hold
from verification import Verdict, decide, oracle, strategies, worst_inputs
from verification.properties import assert_bound_sound, assert_bound_tight, tap_inputs
from verification.witness_file import witness_json
from verification.worst import image_with

SPECS = [unsigned(2), signed(2), between(-1, 3), between(2, 4), between(-4, -2), between(1, 1)]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_decide_equals_enumeration(spec):
    """Ranges with and without 0, bias, both kinds of register, every weight of 2 taps."""
    inputs = list(product(range(spec.min, spec.max + 1), repeat=2))
    for weights, bits, is_signed in product(
        product(range(-2, 3), repeat=2), (3, 4, 5), (True, False)
    ):
        register = Accumulator(bits, signed=is_signed)
        for bias in (0, register.max - 1):
            layer = IntLayer([weights], weight_spec=signed(3), input_spec=spec, bias=[bias])
            runs = [arith.fold(weights, x, register, bias=bias) for x in inputs]
            report = decide(layer, register)
            safe = all(run.overflow_count == 0 for run in runs)
            assert (report.verdict is Verdict.PROVED) == safe
            assert report.verdict is not Verdict.UNDECIDED
            assert report.wrap_exact == all(
                run.output == bias + sum(q * v for q, v in zip(weights, x, strict=True))
                for run, x in zip(runs, inputs, strict=True)
            )
            peaks = [p for run in runs for p in (run.peak_low, run.peak_high)]
            assert report.least_bits == oracle.least_bits(weights, spec.min, spec.max, bias=bias)
            assert -(2 ** (report.least_bits - 1)) <= min(peaks)
            if report.witness:
                check_witness(report.witness)


def check_witness(witness):
    """What the witness tells is what simulator and oracle see, and the input is legal."""
    spec, register = witness.layer.input_spec, witness.accumulator
    x = witness.x.tolist()
    assert spec.min <= min(x)
    assert max(x) <= spec.max
    row = witness.layer.rows[0].tolist()
    bias = 0 if witness.layer.bias is None else int(witness.layer.bias[0])
    answer = oracle.dot(
        row, x, register.bits, str(register.overflow), signed=register.signed, bias=bias
    )
    run = witness.replay()
    assert (answer.output, answer.first_overflow) == (witness.simulated, witness.step)
    assert (run.output[0], run.first_overflow[0]) == (witness.simulated, witness.step)
    assert witness.exact == bias + sum(q * v for q, v in zip(row, x, strict=True))
    assert witness.product == row[witness.step] * x[witness.step]
    assert not register.min <= witness.register + witness.product <= register.max


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_bounds_are_sound_and_tight(data):
    """PROVED layers do not overflow near their worst; one bit below the least has a witness."""
    layer = data.draw(strategies.int_layers())
    if layer.pads and not layer.input_spec.contains_zero:
        return  # decided below
    assert_bound_tight(layer)
    x = data.draw(strategies.inputs(layer))
    least = decide(layer, Accumulator(2)).least_bits
    for bits in (max(2, least), max(2, least - 1)):
        assert_bound_sound(layer, x, Accumulator(bits, "saturate"))
    report = decide(layer, Accumulator(2))
    if report.witness:
        check_witness(report.witness)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_worst_inputs_attain_the_extremes(data):
    """No input near the worst gives a lower or a higher sum."""
    layer = data.draw(strategies.int_layers(convolutions=False))
    low, high = worst_inputs(layer, 0)
    x = data.draw(strategies.near_worst(layer))
    row = layer.rows[0].astype(np.int64)
    assert row @ low <= row @ x <= row @ high


def test_a_convolution_reaches_its_witness():
    """The image around a convolution's witness overflows in the layer itself, at that step."""
    rng = np.random.default_rng(0)
    for stride, padding, dilation, groups in product((1, 2, (3, 1)), (0, (1, 2)), (1, 2), (1, 2)):
        layer = IntLayer(
            rng.integers(-8, 8, (4, 2, 3, 2)),
            weight_spec=signed(4),
            input_spec=unsigned(4),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        )
        register = Accumulator(decide(layer, Accumulator(2)).least_bits - 1, "saturate")
        witness = decide(layer, register).witness
        image, (row, column) = image_with(layer, witness.x, witness.channel)
        run = simulate(layer, image, register)
        at = (0, witness.channel, row, column)
        assert (run.output[at], run.first_overflow[at]) == (witness.simulated, witness.step)
        taps = {place: taps for place, _, taps in tap_inputs(layer, image)}
        assert taps[at] == witness.x.tolist()


@pytest.mark.parametrize("spec", [unsigned(4), signed(4), between(2, 5), between(-5, -2)], ids=str)
def test_a_witness_rests_after_its_step(spec):
    """Inputs that the overflow does not need are as near 0 as they may be."""
    layer = IntLayer([[7, 7, -7, 7, -7, 1]], weight_spec=signed(4), input_spec=spec)
    witness = decide(layer, Accumulator(6)).witness
    rest = min((spec.min, 0, spec.max), key=lambda v: (not spec.min <= v <= spec.max, abs(v)))
    assert witness.step < 5
    assert witness.x[witness.step + 1 :].tolist() == [rest] * (5 - witness.step)


@pytest.mark.parametrize("spec", [unsigned(3), signed(3), between(1, 4), between(-4, -2)], ids=str)
def test_no_entry_can_move_toward_0(spec):
    """However far one of them moves, the register no longer overflows."""
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(150):
        weight = rng.integers(-7, 8, (1, rng.integers(1, 9)))
        layer = IntLayer(
            weight, weight_spec=signed(4), input_spec=spec, bias=rng.integers(-15, 16, 1)
        )
        witness = decide(layer, Accumulator(5, "saturate")).witness
        if witness is None:
            continue
        found += 1
        assert witness.replay().overflow_count.any()
        rest = min((spec.min, 0, spec.max), key=lambda v: (not spec.min <= v <= spec.max, abs(v)))
        for k, value in enumerate(witness.x.tolist()):
            for nearer in range(min(value, rest), max(value, rest) + 1):
                if nearer != value:
                    x = witness.x.copy()
                    x[k] = nearer
                    assert not simulate(layer, x, Accumulator(5)).overflow_count.any()
    assert found > 50


def test_a_report_by_hand():
    """Channels that are safe, that pass the rail and return, and that end beyond it."""
    layer = IntLayer(
        [[1, 1], [4, -4], [4, 4]], weight_spec=signed(4), input_spec=between(2, 3), bias=[0, 0, 1]
    )
    report = decide(layer, Accumulator(4))  # [4, 6], [0, 12] then [-4, 4], [17, 25]
    assert report.channel_bits.tolist() == [4, 5, 6]
    assert (report.verdict, report.least_bits) == (Verdict.REFUTED, 6)
    assert (report.unsafe_channels, report.wrap_exact) == ((1, 2), False)
    assert report.witness.channel in (1, 2)
    assert str(report.verdict) == "refuted"
    returns = IntLayer([[4, -4]], weight_spec=signed(4), input_spec=between(2, 3))
    assert decide(returns, Accumulator(4)).wrap_exact
    proved = decide(layer, register := Accumulator(6, "saturate"))
    assert (proved.verdict, proved.unsafe_channels) == (Verdict.PROVED, ())
    assert (proved.witness, proved.wrap_exact) == (None, True)
    assert proved.accumulator is register
    assert not hasattr(proved, "__dict__")
    with pytest.raises(FrozenInstanceError):
        proved.least_bits = 1
    assert proved != decide(layer, register)  # as arrays have no one answer


def test_padding_without_zero():
    """Inputs 2..5 beside zero padding: what overflows only beside padding is found there."""

    def layer(weights):
        return IntLayer(
            np.reshape(weights, (1, 1, 1, 2)),
            weight_spec=signed(4),
            input_spec=between(2, 5),
            padding=1,
        )

    assert decide(layer([1, 1]), Accumulator(5)).verdict is Verdict.PROVED
    assert decide(layer([3, 1]), Accumulator(5)).verdict is Verdict.REFUTED
    mixed = decide(layer([1, -2]), Accumulator(4))  # -8..5 unpadded, -10 beside padding
    assert (mixed.verdict, mixed.least_bits) == (Verdict.REFUTED, 5)
    assert mixed.witness.layer.rows.tolist() == [[0, -2]]
    assert mixed.witness.replay().output == mixed.witness.simulated == 6
    assert int(simulate(layer([1, -2]), [[[[5]]]], Accumulator(4)).overflow_count.max()) == 1


def test_decide_is_exact_beside_padding():
    """Convolutions with padding and inputs without 0, against every image of up to 3 by 3."""
    rng = np.random.default_rng(0)
    refuted = 0
    for case in range(120):
        kernel = (1, 2) if case % 2 else (2, 2)
        layer = IntLayer(
            rng.integers(-3, 4, (2, 1, *kernel)),
            weight_spec=signed(3),
            input_spec=between(*((1, 3), (-3, -2))[case % 3 == 0]),
            stride=int(rng.integers(1, 3)),
            padding=1,
            bias=rng.integers(-2, 3, 2),
        )
        codes = range(layer.input_spec.min, layer.input_spec.max + 1)
        reached = [(b, b) for b in layer.bias.tolist()]
        for shape in product(range(1, 4), repeat=2):
            images = np.array(list(product(codes, repeat=shape[0] * shape[1])))
            run = simulate(layer, images.reshape(-1, 1, *shape), Accumulator(20))
            if run.output.size:
                for c in (0, 1):
                    low, high = int(run.peak_low[:, c].min()), int(run.peak_high[:, c].max())
                    reached[c] = min(low, reached[c][0]), max(high, reached[c][1])
        report = decide(layer, Accumulator(20))
        needed = [bits_to_hold(*ends) for ends in reached]
        assert report.channel_bits.tolist() == needed
        bits = report.least_bits
        assert decide(layer, Accumulator(bits)).verdict is Verdict.PROVED
        if np.abs(layer.bias).max() < 2 ** (bits - 2):  # one bit less holds the start
            below = decide(layer, Accumulator(bits - 1))
            assert below.verdict is Verdict.REFUTED
            assert below.witness.replay().overflow_count.any()
            refuted += 1
    assert refuted > 80


def test_what_is_refused():
    """A bias outside the register and a channel that is not there."""
    layer = IntLayer([[1], [1]], weight_spec=signed(2), input_spec=unsigned(2), bias=[0, 9])
    with pytest.raises(
        RangeError, match=r"^bias\[1\] is 9, outside the 4-bit wrap register \[-8, 7\]$"
    ):
        decide(layer, Accumulator(4))
    with pytest.raises(SpecError, match="channel must be an integer from 0 to 1, not 2"):
        worst_inputs(layer, 2)


def test_a_witness_is_plain_json():
    """What is written replays through the oracle alone."""
    layer = IntLayer([[3, -7, 7]], weight_spec=signed(4), input_spec=unsigned(4))
    told = json.loads(json.dumps(witness_json(decide(layer, Accumulator(7)).witness)))
    answer = oracle.dot(told["weight"], told["x"], 7, "wrap", bias=told["bias"])
    assert (answer.output, answer.first_overflow) == (told["simulated"], told["step"])


def single_violation(taps):
    """A layer and register that exactly one input vector overflows."""
    weight = np.random.default_rng(taps).choice([-7, -5, -3, 3, 5, 7], (1, taps))
    top = int(15 * weight.clip(min=0).sum())
    # a preload that leaves room for all sums but the highest
    bits = max(16, top.bit_length() + 2)
    bias = Accumulator(bits).max - top + 1
    return IntLayer(weight, weight_spec=signed(4), input_spec=unsigned(4), bias=[bias]), bits


@pytest.mark.parametrize("taps", [4, 64, 1024])
def test_the_corner_strategy_finds_the_only_violation(taps):
    """Within 50 examples, where plain random search misses it in 2,000."""
    layer, bits = single_violation(taps)

    def overflows(x):
        return bool(simulate(layer, x, Accumulator(bits)).overflow_count.any())

    how = {"database": None, "deadline": None, "derandomize": True}
    find(strategies.near_worst(layer), overflows, settings=settings(max_examples=50, **how))
    if taps > 4:
        with pytest.raises(NoSuchExample):
            find(
                strategies.plain_inputs(layer),
                overflows,
                settings=settings(max_examples=2000 if taps == 64 else 200, **how),
            )
