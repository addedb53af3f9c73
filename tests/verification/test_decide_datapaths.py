"""Decisions on datapaths against every input there is, level by level and rail by rail."""

from dataclasses import replace

import numpy as np
import pytest
from enumeration import distinct, every, totals
from hypothesis import given, settings
from hypothesis import strategies as st

from accsim import Accumulator, Datapath, IntLayer, between, signed, simulate, unsigned
from accsim.errors import RangeError, SpecError
from accsim.spec import bits_to_hold
from verification import Verdict, decide, reachable, strategies
from verification.folds import safe_folds
from verification.level_witness import worst_group_inputs
from verification.moments import moments
from verification.properties import oracle_answers
from verification.reachable import Budget

WEIGHTS = signed(2)
TAPS = {between(0, 1): 5, between(-1, 1): 5, between(1, 2): 5, between(-2, -1): 5, between(1, 3): 4}
MADE = 6  # datapaths of each seed
CASES = 2_207_232  # of each seed


# what is pinned of each seed, range or limit
WITNESSES = {  # how many, and of how many a level above the products overflows first
    between(0, 3): (60, 27),
    between(-2, 2): (63, 30),
    between(1, 4): (63, 30),
    between(-5, -2): (64, 24),
}
WIDTHS = {0: (27, 27), 1: (27, 27)}  # levels proved, and refuted one bit below
FOLDS = {0: 165, 1: 177, 2: 159}  # datapaths that were tried
WRAPS = {0: (149, 149), 1: (96, 96), 2: (172, 172), 3: (125, 127)}  # layers claimed, and right
PADDED = 40_896  # outputs of each seed
UNDECIDED = {0: (2, 4), 2**9: (1, 2), 2**12: (0, 0)}  # levels, and rails that are not known
GROUPS = {0: 80, 1: 82, 2: 82}


def made(seed, *, bits=(2, 5)):
    """Datapaths of 1 to 4 levels, narrow enough to overflow, most of them ragged; and biases."""
    rng = np.random.default_rng(seed)

    def level(terms):
        return Accumulator(
            int(rng.integers(*bits)),
            str(rng.choice(["wrap", "saturate"])),
            signed=bool(rng.random() < 0.8),
            terms=terms,
            rail=str(rng.choice(["step", "sum"])),
        )

    found = []
    for _ in range(MADE):
        inner = rng.integers(1, 4, rng.integers(0, 3)).tolist()
        levels = [level(terms) for terms in [*inner, *[None] * int(rng.integers(1, 3))]]
        order = rng.permutation(rng.integers(1, 5)).tolist() if rng.random() < 0.5 else None
        datapath = Datapath(levels, order=order, bias=str(rng.choice(["first", "last"])))
        register = datapath.register
        found.append((datapath, int(np.clip(rng.integers(-1, 2), register.min, register.max))))
    return found


def all_weights(spec, bias):
    """A layer with a channel for all weights there are, and all inputs of a channel."""
    weights = every(WEIGHTS, TAPS[spec])
    starts = np.full(len(weights), bias)
    layer = IntLayer(weights, weight_spec=WEIGHTS, input_spec=spec, bias=starts)
    return layer, every(spec, TAPS[spec])


def passed(layer, x, datapath, bias):
    """Whether any input passes each rail of each level: (levels, C, 2), by the definition."""
    products, which = distinct(layer.rows.astype(np.int64), x)
    found = [
        np.stack(both, axis=-1)[which].any(axis=0) for both in totals(products, datapath, bias)
    ]
    return np.array(found)


@pytest.mark.parametrize("seed", range(4))
def test_every_input_of_small_layers(seed):
    """Verdict, rails and channels of every level; all weights and inputs of 4 or 5 taps."""
    cases = 0
    for datapath, bias in made(seed):
        for spec in TAPS:
            layer, x = all_weights(spec, bias)
            rails = passed(layer, x, datapath, bias)
            report = decide(layer, datapath)
            over = rails.any(axis=(0, 2))
            assert report.unsafe_channels == tuple(np.flatnonzero(over)), datapath
            assert report.verdict is (Verdict.REFUTED if over.any() else Verdict.PROVED)
            for i, level in enumerate(report.levels):
                own = rails[i].any(axis=1)
                assert level.rails == tuple(rails[i].any(axis=0)), (datapath, i)
                assert level.unsafe_channels == tuple(np.flatnonzero(own)), (datapath, i)
                assert level.undecided_channels == ()
                assert level.verdict is (Verdict.REFUTED if own.any() else Verdict.PROVED)
            cases += len(x) * len(layer.rows)
    assert cases == CASES


@pytest.mark.parametrize("seed", range(3))
def test_sets_of_registers(seed):
    """What registers can hold, by channel: every rail of every level, whatever wraps below."""
    for datapath, bias in made(seed):
        for spec in TAPS:
            layer, x = all_weights(spec, bias)
            few = np.random.default_rng(seed).choice(layer.channels, 30, replace=False)
            rails = passed(layer, x, datapath, bias)
            places = datapath.places(layer.taps)
            for channel in few.tolist():
                row = np.where(places < 0, 0, layer.rows[channel][places]).tolist()
                count = len(datapath.levels)
                found = reachable.passed(row, spec, bias, datapath, Budget(2**30), levels=count)
                assert found == [tuple(both) for both in rails[:, channel].tolist()]


def overflows(witness, x):
    """Whether an input overflows anything, by the oracle; with the levels' answers."""
    layer = witness.layer
    products = [q * v for q, v in zip(layer.rows[0].tolist(), x, strict=True)]
    whole, levels = oracle_answers(products, witness.accumulator, int(layer.bias[0]))
    return whole, levels


def check_witness(witness):
    """It is legal, does what it tells, and no entry can move toward 0."""
    x, spec, datapath = witness.x.tolist(), witness.layer.input_spec, witness.accumulator
    assert spec.min <= min(x)
    assert max(x) <= spec.max
    whole, levels = overflows(witness, x)
    run = witness.replay()
    told = (witness.simulated, witness.step)
    assert (whole.output, whole.first_overflow) == told
    assert (int(run.output[0]), int(run.first_overflow[0])) == told
    register = witness.rails
    if witness.level is not None:
        firsts = [level.first_overflow for level in levels]
        assert firsts[witness.level] == witness.step
        assert witness.step not in firsts[: witness.level]
        assert register == datapath.levels[witness.level]
    total = witness.register + witness.product
    assert not register.min <= total <= register.max
    exact, held = witness.trajectory()
    assert held[witness.added] + witness.products()[0][witness.added] == total
    assert exact[witness.added + 1] == total  # nothing has overflowed before
    rest = min(max(0, spec.min), spec.max)
    for k, value in enumerate(x):
        for nearer in range(value, rest, 1 if rest > value else -1):
            moved = [*x[:k], nearer + (1 if rest > value else -1), *x[k + 1 :]]
            assert overflows(witness, moved)[0].overflow_count == 0, (witness, k)


@pytest.mark.parametrize("spec", WITNESSES, ids=str)
def test_witnesses_replay_and_are_least(spec):
    """Of layers of random taps in random datapaths, wide enough that entries can move."""
    rng = np.random.default_rng(spec.max + 2)
    found = levels = 0
    for seed in range(12):
        for datapath, bias in made(seed, bits=(3, 7)):
            weight = rng.integers(-3, 4, (2, rng.integers(1, 8)))
            layer = IntLayer(weight, weight_spec=signed(3), input_spec=spec, bias=[bias, bias])
            report = decide(layer, datapath)
            assert (report.witness is not None) == (report.verdict is Verdict.REFUTED)
            if report.witness is not None:
                check_witness(report.witness)
                found += 1
                levels += (report.witness.level or 0) > 0
    assert (found, levels) == WITNESSES[spec]


def widened(datapath, level, **change):
    """The levels to this one, which is changed, and those below it too wide to overflow here."""
    wide = [replace(one, bits=30, signed=True) for one in datapath.levels[:level]]
    return [*wide, replace(datapath.levels[level], **change)]


def level_peaks(layer, x, datapath, level):
    """The lowest and the highest exact sum of a level of each channel, over all inputs."""
    run = simulate(layer, x, datapath).levels[level]
    return run.peak_low.min(axis=0), run.peak_high.max(axis=0)


@pytest.mark.parametrize("seed", range(2))
def test_widths_are_least(seed):
    """Each level at its least width is proved if those below are wide, and refuted one bit below.

    The sums are those of all inputs; registers without a sign are widened with one.
    """
    proved = refuted = 0
    for datapath, bias in made(seed):
        for spec in (between(0, 1), between(1, 2)):
            layer, x = all_weights(spec, bias)
            for i, level in enumerate(decide(layer, datapath).levels):
                low, high = level_peaks(layer, x, datapath, i)
                if i == datapath.summing:  # which must hold a bias, even one that comes last
                    low, high = np.minimum(low, bias), np.maximum(high, bias)
                bits = [
                    bits_to_hold(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True)
                ]
                assert level.channel_bits.tolist() == bits, (datapath, i)
                assert (level.low.tolist(), level.high.tolist()) == (low.tolist(), high.tolist())
                assert level.least_bits == max(bits)
                if level.least_bits > 2:
                    rest, least = datapath.levels[i + 1 :], level.least_bits
                    wide = [*widened(datapath, i, bits=least, signed=True), *rest]
                    found = decide(layer, replace(datapath, levels=wide))
                    assert found.levels[i].verdict is Verdict.PROVED
                    proved += 1
                    narrow = [*widened(datapath, i, bits=least - 1, signed=True), *rest]
                    if -(2 ** (least - 2)) <= bias < 2 ** (least - 2):
                        found = decide(layer, replace(datapath, levels=narrow))
                        assert found.levels[i].verdict is Verdict.REFUTED
                        refuted += 1
    assert (proved, refuted) == WIDTHS[seed]


@pytest.mark.parametrize("seed", range(3))
def test_folds_are_longest(seed):
    """The most items that each level may sum, found by trying every number on all inputs."""
    tried = 0
    rng = np.random.default_rng(seed)
    for datapath, _ in made(seed, bits=(3, 6)):
        for spec in (between(-1, 1), between(1, 2), between(-3, -1)):
            weights = rng.integers(-2, 3, (2, 6))
            layer = IntLayer(weights, weight_spec=signed(3), input_spec=spec)
            x = every(spec, 6)
            for i, level in enumerate(decide(layer, datapath).levels[: datapath.summing + 1]):
                unit = (1, *datapath.spans)[i]
                items = -(-len(datapath.places(6)) // unit)
                safe = []
                for n in range(1, items + 1):
                    inner = widened(datapath, i, terms=n)
                    tree = replace(datapath, levels=[*inner, Accumulator(30)])
                    low, high = level_peaks(layer, x, tree, i)
                    register = datapath.levels[i]
                    safe.append(register.min <= low.min() and high.max() <= register.max)
                    tried += 1
                most = max((n for n in range(1, items + 1) if safe[n - 1]), default=0)
                assert level.longest_fold == (None if most == items else most), (datapath, i)
    assert tried == FOLDS[seed]


@pytest.mark.parametrize("seed", range(4))
def test_registers_that_wrap_and_end_right(seed):
    """`wrap_exact` is claimed only where all outputs are exact if every level wraps."""
    claimed = right = 0
    for datapath, bias in made(seed, bits=(3, 7)):
        levels = [replace(level, overflow="wrap") for level in datapath.levels]
        wraps = replace(datapath, levels=levels)
        for spec in (between(-1, 1), between(1, 2)):
            rng = np.random.default_rng(seed)
            for weights in rng.integers(-2, 3, (20, 1, 4)):
                layer = IntLayer(weights, weight_spec=signed(3), input_spec=spec, bias=[bias])
                x = every(spec, 4)
                exact = bool((simulate(layer, x, wraps).output == x @ weights.T + bias).all())
                report = decide(layer, datapath)
                assert exact or not report.wrap_exact, (datapath, weights, bias)
                assert report.wrap_exact or report.verdict is Verdict.REFUTED
                claimed += report.wrap_exact
                right += exact
    assert (claimed, right) == WRAPS[seed]


@pytest.mark.parametrize("seed", range(3))
def test_padding_of_inputs_without_0(seed):
    """Convolutions of one row, padded: every image of up to 5 pixels, level by level."""
    cases = 0
    spec = between(1, 2)
    rng = np.random.default_rng(seed)
    for datapath, bias in made(seed, bits=(2, 6)):
        for padding, stride in ((1, 1), (2, 1), (2, 2)):
            weight = rng.integers(-2, 2, (8, 1, 1, 3))
            layer = IntLayer(
                weight,
                weight_spec=WEIGHTS,
                input_spec=spec,
                bias=np.full(8, bias),
                padding=(0, padding),
                stride=(1, stride),
            )
            over = np.zeros((len(datapath.levels), 8), bool)
            for width in range(max(1, 3 - 2 * padding), 6):
                x = every(spec, width).reshape(-1, 1, 1, width)
                run = simulate(layer, x, datapath)
                counts = np.array([level.overflow_count for level in run.levels])
                over |= (counts > 0).any(axis=(1, 3, 4))
                cases += run.output.size
            report = decide(layer, datapath)
            for found, level in zip(over, report.levels, strict=True):
                assert level.unsafe_channels == tuple(np.flatnonzero(found)), (datapath, weight)
            if report.witness is not None:
                check_witness(report.witness)
    assert cases == PADDED


@pytest.mark.parametrize("work", [0, 2**9, 2**12])
def test_without_work_levels_stay_undecided(monkeypatch, work):
    """What sets of registers would have told is not known then; all that is said is right."""
    monkeypatch.setattr("verification.levels._WORK", work)
    undecided = unknown = 0
    for seed in range(3):
        for datapath, bias in made(seed):
            layer, x = all_weights(between(-1, 1), bias)
            rails = passed(layer, x, datapath, bias)
            report = decide(layer, datapath)
            over = rails.any(axis=(0, 2))
            assert report.unsafe_channels == tuple(np.flatnonzero(over))
            for i, level in enumerate(report.levels):
                own = rails[i].any(axis=1)
                for said, true in zip(level.rails, rails[i].any(axis=0), strict=True):
                    assert said is None or said == true
                    unknown += said is None
                assert own[list(level.unsafe_channels)].all()
                rest = set(range(layer.channels)) - {
                    *level.unsafe_channels,
                    *level.undecided_channels,
                }
                assert not own[list(rest)].any()
                undecided += level.verdict is Verdict.UNDECIDED
    assert (undecided, unknown) == UNDECIDED[work]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(strategies.int_layers(max_taps=12), strategies.accumulators(max_bits=12))
def test_one_level_is_the_register_itself(layer, register):
    """A datapath of one register in index order has that one's report, and tells of its level."""
    one, other = decide(layer, register), decide(layer, Datapath([register]))
    for name in ("verdict", "least_bits", "unsafe_channels", "wrap_exact"):
        assert getattr(one, name) == getattr(other, name)
    assert one.channel_bits.tolist() == other.channel_bits.tolist()
    assert str(one.witness) == str(other.witness)
    assert one.levels == ()
    (level,) = other.levels
    assert (level.verdict, level.least_bits) == (one.verdict, one.least_bits)
    assert level.channel_bits.tolist() == one.channel_bits.tolist()
    assert level.unsafe_channels == one.unsafe_channels
    again = decide(layer, Datapath([replace(register), Accumulator(62)]))
    assert again.unsafe_channels == one.unsafe_channels
    assert again.levels[0].rails == level.rails


@pytest.mark.parametrize("seed", range(3))
def test_worst_inputs_of_a_group(seed):
    """Of each group of each level, no input drives its exact sums farther; the rest is idle."""
    groups = 0
    for datapath, bias in made(seed, bits=(3, 6)):
        for spec in (between(-1, 2), between(1, 3)):
            weights = np.random.default_rng(seed).integers(-2, 3, (1, 5))
            layer = IntLayer(weights, weight_spec=signed(3), input_spec=spec, bias=[bias])
            places = datapath.places(5)
            x = every(spec, 5)
            for i, at in enumerate(moments(datapath, len(places))):
                products = np.where(places < 0, 0, (x * weights[0])[:, places])
                sums = at.sums(products, np.full(len(x), bias))
                starts = datapath.starts(i, len(places)).tolist()
                for group in [None, *range(len(starts))]:
                    own = (
                        np.ones(len(at.starts), bool)
                        if group is None
                        else at.starts == starts[group]
                    )
                    low, high = worst_group_inputs(layer, datapath, 0, level=i, group=group)
                    for worst, side in ((low, -1), (high, 1)):
                        mine = np.flatnonzero((x == worst).all(axis=1))[0]
                        assert (sums[mine, own] * side).max() == (sums[:, own] * side).max()
                    groups += 1
    assert groups == GROUPS[seed]


def test_sums_beyond_64_bits():
    """Weights and inputs too wide for int64 are decided in Python integers."""
    layer = IntLayer([[2**40] * 8], weight_spec=signed(42), input_spec=between(-(2**30), 2**30))
    tree = [Accumulator(62, "saturate", terms=2, rail="sum"), Accumulator(62)]
    report = decide(layer, Datapath(tree))
    assert [level.least_bits for level in report.levels] == [73, 75]
    assert [level.rails for level in report.levels] == [(True, True), (True, True)]
    assert report.witness.exact - 2**40 < 2**61 <= report.witness.exact


def test_nothing_to_sum():
    """No taps: the bias alone, as it starts and as it is read."""
    layer = IntLayer(np.zeros((1, 0), int), weight_spec=signed(4), input_spec=signed(4), bias=[9])
    tree = Datapath([Accumulator(4, terms=2), Accumulator(5), Accumulator(4)])
    report = decide(layer, tree)
    assert [level.rails for level in report.levels] == [
        (False, False),
        (False, False),
        (False, True),
    ]
    assert (report.verdict, report.unsafe_channels) == (Verdict.REFUTED, (0,))
    assert [level.longest_fold for level in report.levels] == [None, None, None]
    assert str(report.witness) == (
        "channel 0, step 0: 0 + 9 = 9, outside [-8, 7] of level 2 (4-bit wrap register); the datapath"
        " ends at -7, the exact sum is 9"
    )


def test_what_is_refused():
    """Operands and biases that the datapath does not take; channels and levels that are not there."""
    layer = IntLayer([[1, 1]], weight_spec=signed(4), input_spec=unsigned(4), bias=[8])
    with pytest.raises(RangeError) as caught:
        decide(layer, Datapath([Accumulator(8, terms=2), Accumulator(4)]))
    assert str(caught.value) == "bias[0] is 8, outside the 4-bit wrap register [-8, 7]"
    takes = Datapath([Accumulator(16)], inputs=signed(4), name="s4")
    with pytest.raises(RangeError) as caught:
        decide(layer, takes)
    assert str(caught.value) == "s4 takes inputs of INT4 [-8, 7], not UINT4 [0, 15]"
    for how, text in (
        ({"level": 2}, "level must be an integer from 0 to 1, not 2"),
        ({"level": 0, "group": 1}, "group must be an integer from 0 to 0, not 1"),
    ):
        tree = Datapath([Accumulator(8, terms=2), Accumulator(8)])
        with pytest.raises(SpecError) as caught:
            worst_group_inputs(layer, tree, 0, **how)
        assert str(caught.value) == text


@settings(max_examples=300, deadline=None, derandomize=True)
@given(strategies.datapaths(min_bits=3, max_bits=6), st.data())
def test_folds_of_any_products(datapath, data):
    """Of any extremes of products, growing or not: each number of items, group by group."""
    places = data.draw(st.integers(0, 12))
    ends = data.draw(
        st.lists(st.tuples(*[st.integers(-9, 9)] * 2), min_size=places, max_size=places)
    )
    low, high = (np.array([[pick(pair) for pair in ends]], np.int64) for pick in (min, max))
    found = safe_folds(low.reshape(1, -1), high.reshape(1, -1), datapath)
    for unit, level, safe in zip((1, *datapath.spans), datapath.levels, found, strict=False):
        items = -(-places // unit)
        assert len(safe) == items
        for n in range(1, items + 1):
            right = True
            for start in range(0, places, n * unit):
                group = slice(start, min(start + n * unit, places))
                until = [each[0, group].cumsum() for each in (low, high)]
                at = np.append(np.arange(unit, len(until[0]), unit), len(until[0])) - 1
                if str(level.rail) == "sum":
                    at = at[-1:]
                right &= bool(level.min <= until[0][at].min() and until[1][at].max() <= level.max)
            assert safe[n - 1] == right, (n, level)
