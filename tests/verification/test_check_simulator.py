"""A user's simulator against the definition: what is drawn, what is found, how it is told."""

from collections import Counter

import numpy as np
import pytest

from accsim import Accumulator, arith, bounds, linear, simulate
from accsim.errors import DtypeError, ShapeError, SimulatorError
from verification import check_simulator
from verification.hunting import hunt, smallest
from verification.operands import Operands, edits, operands
from verification.search import Disagreement


def as_plain_lists(x, weight, accumulator):
    """The definition, in the loosest form that is taken."""
    return [[arith.fold(q, v, accumulator).output for q in weight.tolist()] for v in x.tolist()]


def test_the_simulator_itself_passes():
    """accsim's own, and the definition in lists of Python ints."""
    assert check_simulator(linear, examples=700, seed=5) is None
    assert check_simulator(as_plain_lists, examples=300) is None


@pytest.fixture(scope="module")
def drawn():
    """Two thousand operands."""
    cases = []
    hunt(operands(), lambda case: cases.append(case), examples=2000, seed=0)
    return cases


def test_operands_reach_what_simulators_get_wrong(drawn):
    """Every kind of operand and register is drawn, and often."""
    counts = Counter()
    for case in drawn:
        x, weight, register = case.x, case.weight, case.accumulator
        taps = x.shape[1]
        runs = [arith.fold(q, v, register) for q in weight.tolist() for v in x.tolist()]
        exact = (x @ weight.T).T.ravel().tolist()
        over = [run for run in runs if run.overflow_count]
        counts[f"taps {taps}"] += 1
        counts[str(register.overflow), register.signed] += 1
        counts["bits 2"] += register.bits == 2
        counts["wide"] += register.bits > 31
        counts["rows"] += len(x) > 1
        counts["channels"] += len(weight) > 1
        counts["x signed"] += bool((x < 0).any())
        counts["x unsigned"] += bool((x >= 0).all())
        counts["overflow"] += bool(over)
        counts["no overflow"] += not over
        counts["comes back"] += any(
            run.overflow_count and register.min <= total <= register.max
            for run, total in zip(runs, exact, strict=True)
        )
        counts["rails above"] += any(
            run.peak_high in (register.max, register.max + 1) for run in runs
        )
        counts["rails below"] += any(
            run.peak_low in (register.min, register.min - 1) for run in runs
        )
        counts["beyond int32"] += any(abs(total) > 2**31 for total in exact)
        if len(runs) == 1 and register.bits > 2:
            for run in runs:
                need = [
                    b for b in range(2, 62)
                    if bounds.fits(run.peak_low, run.peak_high, Accumulator(b, signed=register.signed))
                ][:1]  # fmt: skip
                counts.update(
                    f"need {register.bits - b:+}" for b in need if abs(register.bits - b) < 3
                )
    expected = [f"taps {taps}" for taps in (0, 1, 2, 17, 33, 65, 129, 257)]
    expected += [(rule, sign) for rule in ("wrap", "saturate") for sign in (True, False)]
    expected += ["bits 2", "wide", "rows", "channels", "x signed", "x unsigned", "overflow"]
    expected += ["no overflow", "comes back", "rails above", "rails below", "beyond int32"]
    assert {name: counts[name] for name in expected if counts[name] < 20} == {}
    assert min(counts[f"need {off:+}"] for off in (-2, -1, 0, 1, 2)) >= 5  # of one output alone


def test_operands_are_what_is_promised(drawn):
    """int64, of matching shapes, and the simulator takes every one."""
    for case in drawn:
        assert case.x.dtype == case.weight.dtype == np.int64
        assert case.x.shape[1] == case.weight.shape[1]
        reach = case.x.shape[1] * bounds.magnitude(case.x) * bounds.magnitude(case.weight)
        assert 2**case.accumulator.bits + reach <= 2**63


def clamped_once(x, weight, accumulator):
    """Right for registers that wrap."""
    if accumulator.overflow == "wrap":
        return linear(x, weight, accumulator)
    return (x @ weight.T).clip(accumulator.min, accumulator.max)


def tiles_of_32(x, weight, accumulator):
    """The rest of the taps dropped."""
    kept = x.shape[1] if x.shape[1] < 32 else x.shape[1] // 32 * 32
    return linear(x[:, :kept], weight[:, :kept], accumulator)


@pytest.mark.parametrize("function", [clamped_once, tiles_of_32])
def test_what_is_found_is_small_and_can_be_pasted(function):
    """The text is a program whose definition and simulator differ as it says; no edit leaves both."""
    found = check_simulator(function, seed=1)
    names = {"np": np, "Accumulator": Accumulator}
    exec(str(found), names)
    x, weight, accumulator = names["x"], names["weight"], names["accumulator"]
    assert accumulator == found.accumulator
    assert linear(x, weight, accumulator).tolist() == names["expected"] == found.expected.tolist()
    assert function(np.array(x), np.array(weight), accumulator).tolist() == names["got"]
    assert names["got"] != names["expected"]
    row, channel = found.place
    head = f"# output[{row}, {channel}] must be {found.expected[found.place]}, not {found.got[found.place]}"
    assert str(found).splitlines()[0] == head
    case = Operands(found.x, found.weight, found.accumulator)
    for edit in edits(case):
        simpler = edit(case)
        if simpler is not None:
            assert function(
                simpler.x, simpler.weight, simpler.accumulator
            ).tolist() == as_plain_lists(simpler.x, simpler.weight, simpler.accumulator)
    assert len(found.x) == len(found.weight) == 1
    assert found.x.shape[1] == (2 if function is clamped_once else 33)


def test_an_unsigned_register_and_no_taps_can_be_pasted():
    """The sign of the register is said, and x of no taps keeps its shape."""
    found = Disagreement(
        np.zeros((1, 0), np.int64), np.zeros((2, 0), np.int64),
        Accumulator(5, "saturate", signed=False), np.array([[0, 0]]), np.array([[0, 1]]), (0, 1), 9,
    )  # fmt: skip
    names = {"np": np, "Accumulator": Accumulator}
    exec(str(found), names)
    assert (names["x"].shape, names["weight"].shape) == ((1, 0), (2, 0))
    assert names["accumulator"] == found.accumulator
    assert str(found).startswith("# output[0, 1] must be 0, not 1\n")


def test_one_output_among_many_is_found():
    """The first place that differs is named, of several rows and channels."""

    def second_channel(x, weight, accumulator):
        outputs = simulate_all(x, weight, accumulator)
        outputs[1:, 1:] ^= 1
        return outputs

    found = check_simulator(second_channel)
    assert found.place == (1, 1)
    assert found.got.shape == (2, 2)


def simulate_all(x, weight, accumulator):
    """What linear gives, to be changed."""
    return linear(x, weight, accumulator).copy()


def test_a_seed_gives_one_disagreement():
    """Word for word, also the number of the example; another seed needs another number."""
    told = [(str(d), d.example) for d in (check_simulator(tiles_of_32, seed=s) for s in (4, 4, 6))]
    assert told[0] == told[1]
    assert told[0][1] != told[2][1]


def test_the_function_may_do_what_it_likes_with_its_arrays():
    """They are its own: what it writes into them is not what is judged, or told."""

    def careless(x, weight, accumulator):
        outputs = linear(x, weight, accumulator)
        x[...], weight[...] = 99, 99
        return outputs

    assert check_simulator(careless, examples=200) is None


def test_an_answer_that_changes_is_told_as_it_was():
    """A function that errs once and never again: the operands and the answer of that time."""
    calls = []

    def moody(x, weight, accumulator):
        calls.append(1)
        return simulate_all(x, weight, accumulator) + (len(calls) == 40)

    found = check_simulator(moody)
    assert found.example == 40
    assert (found.got - found.expected == 1).all()
    assert found.expected.tolist() == as_plain_lists(found.x, found.weight, found.accumulator)


def raising(x, weight, accumulator):
    """A simulator that knows up to 32 taps."""
    if x.shape[1] > 32:
        raise KeyError("no such tile")
    return linear(x, weight, accumulator)


def test_a_simulator_that_raises_is_one_small_error():
    """With the operands for which it does, as few as they can be, and its own error as the cause."""
    with pytest.raises(SimulatorError) as caught:
        check_simulator(raising)
    zeros = [[0] * 33]
    text = f"KeyError('no such tile'), for x {zeros}, weight {zeros}, 2-bit wrap register"
    assert str(caught.value) == f"function must return outputs, not raise {text}"
    assert type(caught.value.__cause__) is KeyError


def test_errors_of_other_kinds_do_not_mix():
    """What is made small stays what it was, where simpler operands fail in another way."""

    def both(x, weight, accumulator):
        if x.shape[1] > 8:
            return linear(x, weight, accumulator)[:, :0]
        if x.shape[1] > 4:
            return raising(np.zeros((1, 40)), weight, accumulator)
        return linear(x, weight, accumulator)

    kinds = Counter()
    for seed in range(8):
        with pytest.raises((ShapeError, SimulatorError)) as caught:
            check_simulator(both, seed=seed)
        taps = str(caught.value).split("for x [[")[1].split("]")[0].count(",") + 1
        assert taps == (9 if caught.type is ShapeError else 5)
        kinds[caught.type] += 1
    assert len(kinds) == 2


def test_interrupts_pass():
    """Ctrl-C in the function ends the search."""

    def interrupted(x, weight, accumulator):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_simulator(interrupted)


def test_smallest_stops_where_no_edit_is_left():
    """Rows, channels, taps and codes go as far as they may, the register too."""
    case = Operands(
        np.arange(40).reshape(2, 20), -np.ones((3, 20), np.int64), Accumulator(9, "saturate", signed=False)
    )  # fmt: skip
    small = smallest(case, lambda c: c.x.shape[1] >= 2 and c.x[0, 0] >= 3, edits)
    assert (small.x.tolist(), small.weight.tolist()) == ([[3, 0]], [[0, 0]])
    assert small.accumulator == Accumulator(2)
    same = smallest(case, lambda c: False, edits)
    assert same is case


def test_a_wrong_dtype_is_no_disagreement():
    """Floats are refused even where their values are right."""
    with pytest.raises(DtypeError):
        check_simulator(lambda x, weight, accumulator: linear(x, weight, accumulator) * 1.0)
    run = simulate  # objects other than arrays are refused too
    with pytest.raises(DtypeError):
        check_simulator(lambda x, weight, accumulator: run)
