"""The search for overflow: what it finds, how soon, and that it keeps its hands to itself."""

import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accsim import Accumulator, IntLayer, between, bounds, signed, simulate, unsigned
from verification import Verdict, decide, oracle, search, strategies, worst_inputs
from verification.hunting import below, hunt
from verification.search import overflows, sample, settled_witness

ROOT = Path(__file__).parents[2]


def tight(taps):
    """A layer and a register that exactly one input of ends overflows: the worst, by 1."""
    weight = np.random.default_rng(taps).choice([-7, -5, -3, 3, 5, 7], (1, taps))
    top = int(15 * weight.clip(min=0).sum())
    register = Accumulator(max(16, top.bit_length() + 2))
    bias = [register.max - top + 1]
    return IntLayer(weight, weight_spec=signed(4), input_spec=unsigned(4), bias=bias), register


@pytest.mark.parametrize("taps", [4, 64, 257, 1024])
def test_the_only_violation_is_found(taps):
    """Within 50 examples, by the corners, for every seed; and one bit more has none."""
    layer, register = tight(taps)
    for seed in range(20 if taps < 257 else 3):
        witness = search(layer, register, examples=50, seed=seed)
        assert witness is not None
        assert witness.x.tolist() == worst_inputs(layer, 0)[1].tolist()
    assert search(layer, Accumulator(register.bits + 1), examples=50) is None


def test_targets_lead_to_the_only_violation():
    """Within 500 examples at K = 64, from random ends; not without targets."""
    layer, register = tight(64)

    def found(seed, targeted):
        how = {"examples": 500 if targeted else 1000, "seed": seed, "targeted": targeted}
        return hunt(strategies.ends(layer), lambda x: overflows(layer, x, register), **how).found

    for seed in range(2):
        assert found(seed, True).tolist() == worst_inputs(layer, 0)[1].tolist()
    assert found(0, False) is None


def test_every_channel_is_attacked():
    """The worst inputs of all 16 channels, to both sides, among 400 examples."""
    weight = np.random.default_rng(1).choice([-1, 1], (16, 20))
    layer = IntLayer(weight, weight_spec=signed(2), input_spec=unsigned(4))
    tried = set()
    hunt(strategies.attacks(layer), lambda x: tried.add(tuple(x.tolist())), examples=400, seed=0)
    worst = {tuple(x.tolist()) for c in range(16) for x in worst_inputs(layer, c)}
    assert len(worst) == 32
    assert worst <= tried


LAYERS = {
    "signed inputs": IntLayer([[7, -8, 3], [1, 1, 1]], weight_spec=signed(4), input_spec=signed(4)),
    "without 0": IntLayer([[3, -2, 5, -6]], weight_spec=signed(4), input_spec=between(2, 9)),
    "below 0": IntLayer([[3, -2, 5, -6]], weight_spec=signed(4), input_spec=between(-9, -2)),
    "bias": IntLayer([[1, 0], [2, 1]], weight_spec=signed(3), input_spec=unsigned(3), bias=[0, 9]),
    "conv": IntLayer(
        np.arange(-8, 8).reshape(4, 1, 2, 2), weight_spec=signed(4), input_spec=unsigned(3),
        stride=2, padding=1, groups=2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("rule", ["wrap", "saturate"])
def test_search_finds_what_is_there(layer, rule):
    """Witnesses below the least register, none in it; each legal, and minimal."""
    least = decide(layer, Accumulator(8)).least_bits
    assert search(layer, Accumulator(least, rule), examples=200) is None
    start = 0 if layer.bias is None else bounds.magnitude(layer.bias)
    for bits in range(max(2, start.bit_length() + 1), least):
        for seed in range(3):
            check(search(layer, Accumulator(bits, rule), seed=seed), layer)


def check(witness, layer):
    """Legal, told as it is, and no input can move towards 0 alone."""
    spec, register, x = layer.input_spec, witness.accumulator, witness.x.tolist()
    assert all(spec.min <= v <= spec.max for v in x)
    row = layer.rows[witness.channel].tolist()
    bias = 0 if layer.bias is None else int(layer.bias[witness.channel])

    def answer(x):
        rule = str(register.overflow)
        return oracle.dot(row, x, register.bits, rule, signed=register.signed, bias=bias)

    told = answer(x)
    assert (told.output, told.first_overflow) == (witness.simulated, witness.step)
    assert witness.exact == bias + sum(q * v for q, v in zip(row, x, strict=True))
    assert witness.register == answer(x[: witness.step] + [0] * (len(x) - witness.step)).output
    assert witness.product == row[witness.step] * x[witness.step]
    assert not register.min <= witness.register + witness.product <= register.max
    assert witness.replay().output.tolist() == [witness.simulated]
    rest = min(max(0, spec.min), spec.max)
    for k, value in enumerate(x):
        for nearer in range(rest, value, 1 if value > rest else -1):
            assert answer([*x[:k], nearer, *x[k + 1 :]]).overflow_count == 0


@settings(max_examples=30, deadline=None, derandomize=True)
@given(strategies.int_layers(max_taps=12), st.integers(2, 9), st.booleans())
def test_search_agrees_with_the_decision(layer, bits, is_signed):
    """Nothing where the layer is proved, a witness where it is refuted, drawn in a test or not."""
    register = Accumulator(bits, signed=is_signed)
    verdict = decide(layer, register).verdict
    witness = search(layer, register, examples=100)
    if verdict is not Verdict.UNDECIDED:
        assert (witness is not None) == (verdict is Verdict.REFUTED)


def test_an_input_that_moves_lets_another_move():
    """12 of 7 are too much: after the middle input, which held back, is 0, the first may be too."""
    layer = IntLayer([[1, -1, 8]], weight_spec=signed(5), input_spec=unsigned(3))
    witness = settled_witness(layer, np.array([7, 3, 1]), Accumulator(4))
    assert witness.x.tolist() == [0, 0, 1]
    check(witness, layer)


def test_padding_beside_inputs_without_zero():
    """Taps on padding read 0, which the range lacks: such a witness replays, its 0 untouched."""
    layer = IntLayer([[[[1, -2]]]], weight_spec=signed(4), input_spec=between(2, 5), padding=1)
    witness = search(layer, Accumulator(4))
    assert (witness.x.tolist(), witness.exact) == ([0, 5], -10)
    assert witness.replay().output.tolist() == [6]
    assert decide(layer, Accumulator(4)).verdict is Verdict.REFUTED


def test_a_seed_gives_one_search(tmp_path):
    """The same examples each time, whatever modules are loaded; other seeds give others."""
    layer, register = tight(16)

    def tried(seed):
        seen = []
        cases = strategies.attacks(layer)
        hunt(cases, lambda x: seen.append(x.tolist()), examples=50, seed=seed)
        return seen

    assert tried(1) == tried(1) != tried(2)
    assert search(layer, register, seed=3).x.tolist() == search(layer, register, seed=3).x.tolist()
    (tmp_path / "constants.py").write_text("A = 77, 121, 1000, 1.5, b'abc'")
    code = """
import sys
{0}
from accsim import IntLayer, signed, unsigned
from verification import check_simulator, strategies
from verification.hunting import hunt
seen = []
layer = IntLayer([[3] * 16], weight_spec=signed(4), input_spec=unsigned(4))
hunt(strategies.attacks(layer), lambda x: seen.append(x.tolist()), examples=50, seed=1)
print(check_simulator(lambda x, weight, accumulator: seen.append(x.tolist()) or x @ weight.T, seed=1))
print(seen)
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code.format(first)], cwd=tmp_path, check=True,
            env={"PYTHONPATH": f"{ROOT}:{tmp_path}"}, capture_output=True, text=True,
        ).stdout
        for first in ("import constants", "import json")
    }  # fmt: skip
    assert len(outputs) == 1
    assert len(outputs.pop()) > 1000
    assert not (tmp_path / ".hypothesis").exists()


def test_the_caller_is_left_alone():
    """Random states, filters of warnings and the caller's profile: none is changed or used."""
    layer, register = tight(4)
    wide = Accumulator(30)
    random.seed(1)
    np.random.seed(1)
    states = random.getstate(), np.random.get_state()[1].tolist()
    settings.register_profile("sparse", max_examples=1, derandomize=True)
    before = settings.get_current_profile_name()
    settings.load_profile("sparse")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            filters = list(warnings.filters)
            assert search(layer, register) is not None
            assert sample(layer, wide, examples=77).examples > 50
            assert warnings.filters == filters
    finally:
        settings.load_profile(before)
    assert caught == []
    assert states == (random.getstate(), np.random.get_state()[1].tolist())


def test_search_computes_no_bound(monkeypatch):
    """What it finds it finds by simulation alone."""
    layer, register = tight(64)
    expected = search(layer, register)
    for name in ("extremes", "running_extremes", "least_bits", "data_type_bits"):
        monkeypatch.delattr(bounds, name)
    assert search(layer, register).x.tolist() == expected.x.tolist()


def test_each_example_is_told():
    """Their numbers, in order, and as many as the sample says."""
    layer, _ = tight(8)
    numbers = []
    result = sample(layer, Accumulator(40), examples=60, told=numbers.append)
    assert numbers == list(range(1, result.examples + 1))
    assert result.witness is None
    assert len(numbers) == 60


def test_below_reaches_every_number():
    """Also where their count is no power of two."""
    for n in (1, 2, 5, 7, 16):
        seen = set()
        hunt(below(n), lambda v, seen=seen: seen.add(v), examples=500, seed=0)
        assert seen == set(range(n))


def test_prefix_worst_goes_out_and_comes_back():
    """Some input overflows on the way and not at its end."""
    layer = IntLayer([[3] * 8], weight_spec=signed(4), input_spec=signed(4))
    register = Accumulator(7, "saturate")

    def returns(x):
        run = simulate(layer, x, register)
        peaks = (int(run.peak_low[0]), int(run.peak_high[0]))
        last = int(3 * x.sum())
        inside = register.min <= last <= register.max
        return inside and not bounds.fits(*peaks, register)

    assert hunt(strategies.prefix_worst(layer), returns, examples=200, seed=0).found is not None
