"""The device in simulators: every step right, ten bugs caught, models and scoreboards for cocotb."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rtl_bugs import BUGS, Bug, bug_vectors, with_bug
from simulators import icarus, missing

from accsim import Accumulator, IntLayer, arith, between, signed, unsigned
from accsim.errors import DtypeError, RangeError, SpecError
from verification.rtl_costs import Cost, cost_table, lut_costs
from verification.rtl_model import MacModel, Scoreboard, Step
from verification.vector_files import parameters, write_vectors
from verification.vectors import chosen_stimulus, make_vectors

needs_icarus = pytest.mark.skipif(missing("icarus") is not None, reason=str(missing("icarus")))
needs_verilator = pytest.mark.skipif(
    missing("verilator") is not None, reason=str(missing("verilator"))
)
needs_cocotb = pytest.mark.skipif(
    importlib.util.find_spec("cocotb") is None,
    reason="needs cocotb: pip install -c constraints.txt '.[rtl]'",
)
each_simulator = pytest.mark.parametrize(
    "simulator",
    [
        pytest.param("icarus", marks=needs_icarus),
        pytest.param("verilator", marks=needs_verilator),
    ],
)


def vectors_for(accumulator, weight_spec=signed(4), input_spec=unsigned(4), sums=40):
    """Vectors of a small layer with biases all over the register."""
    rng = np.random.default_rng(accumulator.bits)
    layer = IntLayer(
        rng.integers(weight_spec.min, weight_spec.max, (5, 11), endpoint=True),
        weight_spec=weight_spec,
        input_spec=input_spec,
        bias=rng.integers(accumulator.min, accumulator.max, 5, endpoint=True),
    )
    return make_vectors(layer, accumulator, chosen_stimulus(layer, accumulator, sums=sums))


def bench(folder, made, **change):
    """The bench of these vectors in Icarus Verilog, parameters changed."""
    if not folder.exists():
        write_vectors(folder, made, ("hex",))
    return icarus(folder, parameters(made) | change, "bench.sv", "mac.sv")


OPERANDS = [
    (signed(4), unsigned(4)),
    (unsigned(1), unsigned(1)),
    (signed(1), signed(7)),
    (unsigned(8), signed(8)),
    (between(-5, 3), between(2, 9)),
    (signed(40), unsigned(33)),
    (unsigned(62), signed(62)),
]


@needs_icarus
@pytest.mark.parametrize("rule", ["wrap", "saturate"])
@pytest.mark.parametrize("is_signed", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 8, 31, 32, 33, 62])
def test_the_device_is_right(tmp_path, rule, is_signed, bits):
    """Operands of every kind, registers narrow and wide: each step right, and some overflow."""
    accumulator = Accumulator(bits, rule, signed=is_signed)
    for number, (weight_spec, input_spec) in enumerate(OPERANDS):
        made = vectors_for(accumulator, weight_spec, input_spec)
        outcome = bench(tmp_path / str(number), made)
        over = int(made.overflow.sum())
        assert (outcome.code, outcome.text) == (
            0,
            f"passed: {made.steps} steps, {over} of them overflow\n",
        )
        assert over > 0 or weight_spec.bits + input_spec.bits < 30 < bits or input_spec.bits == 1


README_VECTORS = vectors_for(Accumulator(9, "saturate"))


def commands_of(folder, simulator):
    """The commands of a folder's README: to build, and to run."""
    begin = "iverilog" if simulator == "icarus" else "verilator"
    text = (folder / "README.txt").read_text()
    return re.search(rf"^    ({begin} .*)\n    (.*)$", text, re.M).groups()


def shell(command, folder):
    """A command as a user types it: exit code, and what it prints."""
    done = subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder of vectors in which the README's command has built the bench, by simulator."""
    folders = {}

    def build(simulator):
        if simulator not in folders:
            folder = folders[simulator] = tmp_path_factory.mktemp("built") / "v"
            write_vectors(folder, README_VECTORS, ("hex",))
            code, text = shell(commands_of(folder, simulator)[0], folder)
            assert (code, "arning" in text) == (0, False), text
        return folders[simulator]

    return build


@each_simulator
def test_the_commands_of_the_folder_run(built, simulator):
    """As its README has them, word for word."""
    folder, over = built(simulator), README_VECTORS.overflow.sum()
    assert f"{over} of the\n440 steps overflow" in (folder / "README.txt").read_text()
    code, text = shell(commands_of(folder, simulator)[1], folder)
    assert (code, text) == (0, f"passed: 440 steps, {over} of them overflow\n")
    assert over > 50


@each_simulator
def test_a_wrong_device_ends_with_another_code(tmp_path, simulator):
    """And with a line that names a step, in either simulator."""
    write_vectors(tmp_path / "v", README_VECTORS, ("hex",))
    (tmp_path / "v" / "mac.sv").write_text(with_bug(BUGS["minus_max_for_min"]))
    build, run = commands_of(tmp_path / "v", simulator)
    assert shell(build, tmp_path / "v")[0] == 0
    code, text = shell(run, tmp_path / "v")
    assert code not in (0, 127)
    assert re.match(r"step \d+ \(sum \d+, tap \d+\): .* not 100000001 \(-255\)\n", text)


# Where each bug must show first: found in the vectors, not in a simulator.
SHOWS = {
    "upper_rail_one_low": lambda v: v.register == v.accumulator.max,
    "minus_max_for_min": lambda v: v.register == v.accumulator.min,
    "rail_of_the_wrong_sign": lambda v: v.overflow & (v.register == v.accumulator.max),
    "wraps_at_the_low_rail": lambda v: v.overflow & (v.register == v.accumulator.min),
    "sticky_forgets": lambda v: v.sticky & ~v.overflow,
    "flag_above_only": lambda v: v.overflow & (v.weight < 0),
    "weight_sign_lost": lambda v: (v.weight < 0) & (v.x != 0),
    "start_ignored": lambda v: v.start,
    "bias_ignored": lambda v: v.start & (v.bias != 0),
    "rail_shown_for_a_step": lambda v: v.overflow & (v.register != v.accumulator.max),
}


@needs_icarus
@pytest.mark.parametrize("bug", BUGS)
def test_seeded_bugs_are_caught(tmp_path, bug):
    """The first wrong step is named, at which the bug must show first, with bits and values."""
    made = bug_vectors(BUGS[bug].mode)
    write_vectors(tmp_path / "v", made, ("hex",))
    (tmp_path / "v" / "mac.sv").write_text(with_bug(BUGS[bug]))
    outcome = bench(tmp_path / "v", made)
    step = int(SHOWS[bug](made).argmax())
    line = outcome.text.splitlines()[0]
    assert outcome.code == 1
    assert line.startswith(f"step {step} (sum {step // 12}, tap {step % 12}): ")
    if line.endswith(")"):
        held = made.bias[step] if made.start[step] else made.register[step - 1]
        right = int(made.register[step])
        told = (
            f"{held} + {made.weight[step]} * {made.x[step]} must leave the register at"
            f" {right & 0x7FF:011b} ({right}), not "
        )
        assert told in line
    else:
        assert re.fullmatch(r"step .*: (overflow|sticky) must be 1, not 0", line)


def test_a_check_of_final_values_would_miss_one():
    """Among the vectors are sums that wrap on the way and not in their last step."""
    made = bug_vectors("wrap")
    last = np.arange(made.taps - 1, made.steps, made.taps)
    assert (made.sticky[last] & ~made.overflow[last]).sum() > 5
    assert len(BUGS) == 10


def test_a_bug_needs_its_fragment():
    """A bug whose fragment is not there just once is an error, not a right device."""
    for text, count in [("", 0), ("b b", 2)]:
        with pytest.raises(ValueError, match=rf"^the device must have 'b' once, not {count}$"):
            with_bug(Bug("b", "c", "wrap", ""), text)


@each_simulator
@pytest.mark.parametrize("words", [439, None])
def test_files_that_are_short(built, tmp_path, simulator, words):
    """Words that are not there would check nothing: the bench counts them first."""
    folder = shutil.copytree(built(simulator), tmp_path / "v")
    for name in ("weight", "x", "bias", "start", "register", "overflow", "sticky"):
        file = folder / f"{name}.hex"
        whole = file.read_text()
        file.unlink() if words is None else file.write_text("".join(whole.splitlines(True)[:words]))
        code, text = shell(commands_of(folder, simulator)[1], folder)
        said = "cannot be read" if words is None else "must hold 440 words, as STEPS says, not 439"
        assert code != 0
        assert f"./{name}.hex {said}" in text
        assert "passed" not in text
        file.write_text(whole)


@needs_icarus
def test_wrong_parameters(tmp_path):
    """A register of another width or rule fails at a step; without any the bench says so."""
    made = vectors_for(Accumulator(8, "saturate"))
    for change in ({"P": 9}, {"SATURATE": 0}, {"ACC_SIGNED": 0}, {"X_SIGNED": 1}):
        outcome = bench(tmp_path / "v", made, **change)
        assert outcome.code == 1
        assert re.search(r"^step \d+ \(sum \d+, tap \d+\): ", outcome.text, re.M)
    outcome = icarus(tmp_path / "v", {}, "bench.sv", "mac.sv")
    assert outcome.code == 1
    assert "bench needs its parameters: README.txt has the commands" in outcome.text


def test_a_missing_simulator_is_named(monkeypatch):
    """What a skip tells: the program and how to install it."""
    monkeypatch.setenv("PATH", "")
    assert missing("icarus") == "needs iverilog: apt-get install iverilog"
    assert missing("verilator") == "needs verilator: apt-get install verilator"


@pytest.mark.parametrize(
    "accumulator",
    [Accumulator(5, "saturate"), Accumulator(6), Accumulator(7, signed=False)],
    ids=str,
)
def test_the_model_is_the_definition(accumulator):
    """Step by step as the vectors, and at the end as `arith.fold`."""
    made = vectors_for(accumulator)
    model = MacModel(accumulator)
    for k in range(made.steps):
        begins = {"bias": int(made.bias[k])} if made.start[k] else {}
        step = model.step(int(made.weight[k]), int(made.x[k]), **begins)
        assert step == Step(int(made.register[k]), bool(made.overflow[k]), bool(made.sticky[k]))
    ends = made.register.reshape(-1, made.taps)[:, -1].tolist()
    operands = (getattr(made, name).reshape(-1, made.taps).tolist() for name in ("weight", "x"))
    biases = made.bias[:: made.taps].tolist()
    for end, weights, x, bias in zip(ends, *operands, biases, strict=True):
        assert arith.fold(weights, x, accumulator, bias=bias).output == end


def test_the_model_refuses():
    """A bias that the register cannot hold, and floats; what it held stays."""
    model = MacModel(Accumulator(4))
    model.step(2, 3)
    with pytest.raises(RangeError, match=r"^bias is 8, outside the 4-bit wrap register \[-8, 7\]$"):
        model.step(1, 1, bias=8)
    with pytest.raises(DtypeError, match=r"^x must be integers, not 0\.5$"):
        model.step(1, 0.5)
    assert model.step(0, 0) == Step(6, False, False)
    with pytest.raises(SpecError) as raised:
        MacModel(Accumulator(4, rail="sum"))
    assert str(raised.value).startswith("accumulator must be one Accumulator, no level, not Acc")


SATURATING = Accumulator(4, "saturate")


@pytest.mark.parametrize(
    ("accumulator", "shown", "text"),
    [
        (SATURATING, {"register": "1000"}, "step 1: 7 + 5 * 1 must leave the register at 0111 (7), not 1000 (-8)"),
        (SATURATING, {"register": 6}, "step 1: 7 + 5 * 1 must leave the register at 0111 (7), not 0110 (6)"),
        (SATURATING, {"register": "01xZ"}, "step 1: 7 + 5 * 1 must leave the register at 0111 (7), not 01xZ (unknown)"),
        (SATURATING, {"register": "111"}, "step 1: 7 + 5 * 1 must leave the register at 0111 (7), not 111 (-1)"),
        (Accumulator(4), {"register": -5}, "step 1: 7 + 5 * 1 must leave the register at 1100 (-4), not 1011 (-5)"),
        (Accumulator(4, signed=False), {"register": 8}, "step 1: 7 + 5 * 1 must leave the register at 1100 (12), not 1000 (8)"),
        (Accumulator(4, signed=False), {"register": "01100"}, "step 1: 7 + 5 * 1 must leave the register at 1100 (12), not 01100 (12)"),
        (SATURATING, {"register": 23}, "step 1: 7 + 5 * 1 must leave the register at 0111 (7), not the integer 23 (unknown)"),
        (Accumulator(4), {"register": 12}, "step 1: 7 + 5 * 1 must leave the register at 1100 (-4), not the integer 12 (unknown)"),
        (Accumulator(4, signed=False), {"register": 1100}, "step 1: 7 + 5 * 1 must leave the register at 1100 (12), not the integer 1100 (unknown)"),
        (SATURATING, {"register": np.int64(6)}, "step 1: 7 + 5 * 1 must leave the register at 0111 (7), not 0110 (6)"),
        (SATURATING, {"register": ""}, "step 1: 7 + 5 * 1 must leave the register at 0111 (7), not  (unknown)"),
        (SATURATING, {"register": 7, "overflow": 3}, "step 1: overflow must be 1, not the integer 3"),
        (SATURATING, {"register": 7, "overflow": "0"}, "step 1: overflow must be 1, not 0"),
        (SATURATING, {"register": 7, "overflow": 0}, "step 1: overflow must be 1, not 0"),
        (SATURATING, {"register": 7, "overflow": True, "sticky": "x"}, "step 1: sticky must be 1, not x"),
    ],
)  # fmt: skip
def test_the_scoreboard_names_the_first_wrong_step(accumulator, shown, text):
    """The bits and the values they stand for, or the flag."""
    board = Scoreboard(accumulator)
    board.step(7, 1, bias=0, register="0111", overflow="0", sticky=0)
    with pytest.raises(AssertionError) as raised:
        board.step(5, 1, **shown)
    assert str(raised.value) == text


def test_the_scoreboard_counts():
    """Steps, and those that overflow; flags that a device lacks are not asked for."""
    board = Scoreboard(SATURATING)
    for register in (7, 7, 7):
        board.step(7, 1, register=register)
    board.step(-1, 1, register=np.int64(6), overflow=np.bool_(False))
    board.step(-8, 1, bias=-7, register=-8, overflow=1)
    assert (board.steps, board.overflowed) == (5, 3)


def cocotb_results(folder, text, accumulator):
    """(tests, failures) of `cocotb_mac.py` on a device of this text."""
    from cocotb_tools.check_results import get_results
    from cocotb_tools.runner import get_runner

    folder.mkdir()
    (folder / "mac.sv").write_text(text)
    saturate, is_signed = int(accumulator.overflow == "saturate"), int(accumulator.signed)
    how = {"P": accumulator.bits, "SATURATE": saturate, "ACC_SIGNED": is_signed}
    told = {"P": str(accumulator.bits), "OVERFLOW": str(accumulator.overflow)}
    runner = get_runner("icarus")
    runner.build(
        sources=[folder / "mac.sv"], hdl_toplevel="mac", parameters=how, build_dir=folder,
        build_args=["-g2012"], timescale=("1ns", "1ps"), log_file=folder / "build.log",
    )  # fmt: skip
    results = folder / "results.xml"
    try:
        runner.test(
            hdl_toplevel="mac", test_module="cocotb_mac", test_dir=folder, build_dir=folder,
            extra_env={**told, "ACC_SIGNED": str(is_signed)}, results_xml=str(results),
            log_file=folder / "test.log",
        )  # fmt: skip
    except (SystemExit, RuntimeError, AssertionError):
        assert results.exists()  # a test that failed, not a simulator that did
    return get_results(results)


@needs_icarus
@needs_cocotb
@pytest.mark.parametrize(
    "accumulator",
    [Accumulator(16, "saturate"), Accumulator(15), Accumulator(17, "saturate", signed=False)],
    ids=str,
)
def test_cocotb_on_icarus(tmp_path, monkeypatch, accumulator):
    """The reference model beside the device, in a cocotb test."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])
    text = (Path(__file__).parents[2] / "verification/rtl/mac.sv").read_text()
    assert cocotb_results(tmp_path / "right", text, accumulator) == (1, 0)
    assert "steps, " in (tmp_path / "right" / "test.log").read_text()


@needs_icarus
@needs_cocotb
@pytest.mark.parametrize("bug", ["upper_rail_one_low", "sticky_forgets", "start_ignored"])
def test_cocotb_catches_seeded_bugs(tmp_path, monkeypatch, bug):
    """Each, by the scoreboard's own words."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])
    folder = tmp_path / "wrong"
    found = cocotb_results(folder, with_bug(BUGS[bug]), Accumulator(16, BUGS[bug].mode))
    assert found == (1, 1)
    assert re.search(r"AssertionError: step \d+: .* must ", (folder / "test.log").read_text())


def test_nothing_of_the_model_imports_cocotb():
    """The model serves any bench: a fresh interpreter loads no cocotb."""
    code = "import verification.rtl_model, sys; print('cocotb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_kept_costs():
    """Of every width and both rules; the table of the documents is of these."""
    costs = lut_costs()
    assert {rule for _, rule in costs} == {"wrap", "saturate"}
    assert all(min(cost) > 0 for cost in costs.values())
    for bits in {bits for bits, _ in costs}:
        assert costs[bits, "wrap"].luts < costs[bits, "saturate"].luts
        assert costs[bits, "wrap"].flip_flops == costs[bits, "saturate"].flip_flops
    assert cost_table(costs) in (Path(__file__).parents[2] / "docs/rtl.md").read_text()


def test_cost_table():
    """A row for each width: both rules, and what saturation adds."""
    costs = {(8, "wrap"): Cost(10, 1, 1), (8, "saturate"): Cost(13, 1, 1)}
    assert cost_table(costs).splitlines()[-1] == "| 8 | 10 | 13 | 3 |"
