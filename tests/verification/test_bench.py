"""`verification.bench`: what it reports, and that it refuses to report on a wrong simulator."""

import dataclasses
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from accsim import Accumulator, Datapath, linear, signed, simulate, unsigned
from accsim.arith import fold
from accsim.errors import SpecError
from verification import bench as module
from verification.bench import FIELDS, Setup, bench, bench_table, figure, measure
from verification.cli import main
from verification.level_steps import level_fields

SMALL = Setup(5, 7, 33, Accumulator(12, "saturate"))


def test_the_report_is_plain_json_with_every_figure():
    """Schema, machine, shape, plans and one figure for each contender, through JSON and back."""
    content = bench(SMALL)
    assert json.loads(json.dumps(content)) == content
    assert content["schema"] == "accsim.bench/1"
    assert content["shape"] == {"m": 5, "n": 7, "k": 33}
    assert content["checked"] == {"numpy_steps": 35, "folded": 32}
    assert set(content["plans"]) == {"values", "counts", "all"}
    assert {"platform", "processor", "cores", "numpy", "numba"} <= content["machine"].keys()
    assert len(content["gmac_per_s"]) == 5
    for found in content["gmac_per_s"].values():
        assert found["rounds"] == len(found["seconds"]) == 7
        assert 0 < found["lowest"] <= found["median"] <= found["highest"]


def test_the_table_has_a_row_for_each_figure():
    """Names, shape and rounds are printed."""
    console = Console(width=160, record=True, quiet=True)
    content = bench(SMALL)
    assert bench_table(content).row_count == 5
    with console.capture():
        console.print(bench_table(content))


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("inputs", [signed(8), unsigned(8), unsigned(1), signed(16)])
@pytest.mark.parametrize("bits", [8, 20, 40])
def test_other_types_are_checked_too(overflow, inputs, bits):
    """Any width, rule and range passes the check of the true simulator."""
    bench(Setup(3, 4, 17, Accumulator(bits, overflow), signed(4), inputs))


def off_by_one(function, name):
    """A twin of simulate, wrong in one entry of one field."""

    def twin(*arguments, **options):
        run = function(*arguments, **options)
        array = getattr(run, name)
        if array is None:
            return run
        wrong = array.copy()
        wrong.flat[-1] += 1
        return dataclasses.replace(run, **{name: wrong})

    return twin


@pytest.mark.parametrize("name", FIELDS)
def test_a_wrong_field_is_refused(monkeypatch, name):
    """One wrong entry of any field, and nothing is timed."""
    monkeypatch.setattr(module, "simulate", off_by_one(simulate, name))
    monkeypatch.setattr(module, "measure", lambda *_: pytest.fail("timed"))
    with pytest.raises(RuntimeError, match=f"^wrong result of simulate, {name}: nothing is repo"):
        bench(SMALL)


def test_wrong_values_are_refused(monkeypatch):
    """`linear` is checked by itself."""

    def twin(x, w, accumulator, **options):
        return linear(x, w, dataclasses.replace(accumulator, bits=13), **options)

    monkeypatch.setattr(module, "linear", twin)
    with pytest.raises(RuntimeError, match=r"^wrong result of linear: nothing is reported$"):
        bench(SMALL)


@pytest.mark.parametrize("name", FIELDS)
def test_a_wrong_reference_is_refused(monkeypatch, name):
    """The numpy step loop is compared with the definition, so that it cannot hide an error."""

    def twin(weights, inputs, accumulator):
        slow = fold(weights, inputs, accumulator)
        return dataclasses.replace(slow, **{name: getattr(slow, name) + 1})

    monkeypatch.setattr(module, "fold", twin)
    with pytest.raises(RuntimeError, match=f"^wrong result of the numpy step loop, {name}: noth"):
        bench(SMALL)


def test_the_loop_without_fields_is_the_one_with():
    """What is timed as the numpy step loop is what was checked."""
    random = np.random.default_rng(1)
    x, w = module.draw(random, signed(8), 6, 40), module.draw(random, signed(8), 5, 40)
    for overflow in ("wrap", "saturate"):
        accumulator = Accumulator(10, overflow)
        right = module.step_fields(x, w, accumulator)["output"]
        assert np.array_equal(module.step_loop(x, w, accumulator), right)


def test_figures_of_given_times():
    """Median, lowest and highest of 2 GMAC in 1, 4 and 2 seconds."""
    assert figure(2 * 10**9, [1.0, 4.0, 2.0]) == {
        "median": 1.0,
        "lowest": 0.5,
        "highest": 2.0,
        "rounds": 3,
        "seconds": [1.0, 4.0, 2.0],
    }


def test_calls_take_turns_and_slow_ones_fewer():
    """Interleaved rounds, a warm-up that is not counted, three rounds beyond a second."""
    now, order = [0.0], []

    def call(name, seconds):
        def run():
            order.append(name)
            now[0] += seconds

        return run

    calls = {"fast": call("fast", 0.5), "slow": call("slow", 1.5)}
    times = measure(calls, 7, clock=lambda: now[0])
    assert times == {"fast": [0.5] * 7, "slow": [1.5] * 3}
    rounds = [order[i : i + 2] for i in range(0, 8, 2)]
    assert all(sorted(turn) == ["fast", "slow"] for turn in rounds)
    assert order[8:] == ["fast"] * 4
    assert len({tuple(turn) for turn in rounds[1:]}) == 2  # neither is always the first


@pytest.mark.parametrize(
    "wrong", [{"m": 0}, {"k": -1}, {"repeats": 6}, {"threads": 0}, {"threads": 10**6}]
)
def test_sizes_have_bounds(wrong):
    """At least seven rounds, one thread, one output and one step."""
    with pytest.raises(SpecError, match=f"^{next(iter(wrong))} must"):
        dataclasses.replace(SMALL, **wrong)


DATAPATHS = [
    Datapath([Accumulator(16, "saturate", terms=2, rail="sum"), Accumulator(20)]),
    Datapath([Accumulator(9, "wrap", terms=3), Accumulator(12, "saturate")], order=(2, 0, 1, 3)),
    Datapath([Accumulator(8, "saturate", terms=1), Accumulator(40), Accumulator(9, "saturate")]),
    Datapath([Accumulator(14, "saturate", rail="sum")]),
]


@pytest.mark.parametrize("datapath", DATAPATHS, ids=str)
def test_datapaths_are_checked_and_timed(datapath):
    """Every field of the numpy loop is the definition's, and the simulator's are the loop's."""
    content = bench(Setup(3, 4, 17, datapath, signed(8), unsigned(8)))
    assert content["accumulator"] == str(datapath)
    assert set(content["plans"]) == {"values"}
    assert content["checked"] == {"numpy_steps": 12, "folded": 12}
    assert len(content["gmac_per_s"]) == 5


@pytest.mark.parametrize("twin", ["span", "peak", "count", "read"])
def test_a_wrong_numpy_loop_of_levels_is_refused(monkeypatch, twin):
    """One that hands over late, or errs in another field."""
    changed = {
        "span": lambda x, w, d: level_fields(x, w, replace(d, levels=wider(d))),
        "peak": lambda x, w, d: off(level_fields(x, w, d), "peak_high"),
        "count": lambda x, w, d: off(level_fields(x, w, d), "overflow_count"),
        "read": lambda x, w, d: off(level_fields(x, w, d), "output"),
    }[twin]
    monkeypatch.setattr("verification.bench.level_fields", changed)
    with pytest.raises(RuntimeError, match=r"^wrong result of the numpy step loop, "):
        bench(Setup(3, 4, 17, DATAPATHS[0], signed(8), unsigned(8)))


def wider(datapath):
    """Groups of one more."""
    first, *others = datapath.levels
    return (replace(first, terms=first.terms + 1), *others)


def off(fields, name):
    """One field off by one."""
    return {**fields, name: fields[name] + 1}


def test_the_command_takes_a_datapath(capsys, monkeypatch):
    """With the operands that it takes, or those that are asked for; a register otherwise."""

    def ran(*words):
        sizes = ["--m", "3", "--n", "2", "--k", "9", "--json"]
        monkeypatch.setattr(sys, "argv", ["accsim", "bench", *sizes, *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return stopped.value.code, json.loads(out) if out else err

    code, found = ran("--datapath", "x86-avx2-u8s8")
    told = {name: found[name] for name in ("accumulator", "weights", "inputs")}
    assert (code, told) == (
        0, {"accumulator": "x86-avx2-u8s8", "weights": "INT8", "inputs": "UINT8"}
    )  # fmt: skip
    code, found = ran("--datapath", "x86-avx2-u8s8", "--weight-bits", "4", "--unsigned-inputs")
    assert (found["weights"], found["inputs"]) == ("INT4", "UINT8")
    code, found = ran()
    assert (found["accumulator"], found["inputs"]) == ("16-bit saturate register", "INT8")
    assert ran("--datapath", "x86-avx2-u8s8", "--input-bits", "8") == (
        2, "accsim: x86-avx2-u8s8 takes inputs of UINT8 [0, 255], not INT8 [-128, 127]\n"
    )  # fmt: skip
    code, told = ran("--datapath", "x86-avx2-u8s8", "--bits", "9")
    assert (code, told) == (
        2,
        "accsim: Invalid value: --datapath takes the place of --bits: not both\n",
    )
