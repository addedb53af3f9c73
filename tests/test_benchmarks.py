"""The benchmarks run: every contender is right, and everything that is promised is reported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from simulators import missing

from accsim.kernels.forms import host
from accsim.simulate import most_threads

FOLDER = Path(__file__).parents[1] / "benchmarks"


def run(script, *words):
    """What one of them prints."""
    done = subprocess.run(
        [sys.executable, FOLDER / script, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_throughput(tmp_path):
    """Small shapes, one round: table, JSON and plot, of all but what needs other processes."""
    made, drawn = tmp_path / "bench.json", tmp_path / "bench.png"
    words = ("--quick", "--rounds", 1, "--json", made, "--plot", drawn)
    assert "not judged: the shapes are small" in run("throughput.py", *words)
    report = json.loads(made.read_text())
    workloads = {"wide", "deep", "seldom", "four", "safe", "long", "certificates", "conv"}
    workloads |= {"depthwise", "threads", "growth"} if most_threads() > 1 else set()
    assert workloads <= report["figures"].keys()
    assert all(report["figures"][name] for name in workloads)
    assert len(report["goals"]) > 50
    assert len(report["roofline"]) >= (9 if host().x86 and host().dot_bytes else 0)
    assert drawn.stat().st_size > 10_000


def test_exactness():
    """Enough cases for every kernel, among them one that looks products up."""
    printed = run("exactness.py", "--cases", 400_000)
    assert ", no difference" in printed
    kernels = ("count int16 ", "saturate int16 ", "exact int8x4", "peaks float64")
    assert all(name in printed for name in kernels) or not host().dot_bytes


def test_guarantee(tmp_path):
    """300 layers: none refuted, most channels put to the test, and every broken twin is caught."""
    made = tmp_path / "guarantee.json"
    assert "0 refuted, by to_layers, decide" in run("guarantee.py", "--layers", 300, "--json", made)
    counts = json.loads(made.read_text())
    whole = counts["whole"]
    assert (whole["layers"], whole["refuted"]) == (300, [])
    kinds = {"a2q", "a2q+", "budget", "linear", "conv2d groups=1", "conv2d groups=4"}
    kinds |= {"zero point outside", "zero point preload"}
    kinds |= {"fit", "ep", "naive"} | {f"torch.{t}" for t in ("float64", "float16", "bfloat16")}
    assert all(whole["kinds"][kind] > 20 for kind in kinds)
    assert whole["of"]["not zero"] > 0.6 * whole["channels"]
    assert whole["of"]["use over 90 %"] > 0.1 * whole["channels"]
    assert whole["of"]["would not fit if rounded to nearest"] > 0.2 * whole["channels"]
    assert whole["of"]["decided in the quantizers, in every call"] > whole["channels"]
    assert whole["of"]["made zeros there"] == 0
    assert len(counts["twins"]) == 4
    for twin in counts["twins"].values():
        assert twin["layers"] > 80
        assert 5 < len(twin["refuted"]) < twin["layers"]


@pytest.mark.skipif(missing("icarus") is not None, reason=str(missing("icarus")))
def test_rtl_campaign(tmp_path):
    """All widths, rules and signs on Icarus Verilog, overflow at each, and all bugs caught."""
    made = tmp_path / "rtl.json"
    words = ("--steps", 40_000, "--simulators", "icarus", "--json", made)
    printed = run("rtl_campaign.py", *words).splitlines()
    assert printed[-1] == "seeded bugs caught, the first wrong step named: 10 of 10"
    assert printed[-2].endswith(" overflow: every step right in icarus")
    report = json.loads(made.read_text())
    assert len(report["rows"]) == 4
    assert all(row["steps"] >= 10_000 for row in report["rows"])
    assert all(row["least_overflow_steps"] > 0 for row in report["rows"])
    assert all(one["first_wrong"]["icarus"].startswith("step ") for one in report["bugs"])


def test_rtl_campaign_fails_when_it_must(tmp_path):
    """A simulator that passes whatever it is given, or nothing: counts differ, bugs escape."""
    code = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import rtl_campaign as campaign
from simulators import Outcome
text = "step 0: named, and passed\\npassed: 5 steps, 1 overflow"
campaign.SIMULATORS["icarus"] = lambda *_, **how: Outcome(True, 0, text)
campaign.missing = lambda _: None
campaign.main()
"""
    words = ["--steps", "4000", "--widths", "4:5", "--simulators", "icarus"]
    done = subprocess.run(
        [sys.executable, "-c", code, FOLDER, *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "NOT RIGHT in icarus" in done.stdout
    assert "first wrong step named: 0 of 10" in done.stdout


def test_rtl_campaign_needs_a_simulator():
    """One line that names the program and how to install it."""
    words = [sys.executable, FOLDER / "rtl_campaign.py"]
    done = subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, "PATH": ""}, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("benchmarks/rtl_campaign.py needs iverilog: apt-get install iverilog\n")


def test_published_bounds(tmp_path):
    """60,000 layers: no bound calls a register safe that overflows, and the trap does."""
    made = tmp_path / "bounds.json"
    printed = run("published_bounds.py", "--layers", 60_000, "--json", made)
    assert "bounds that call an overflowing register safe: 0 cases" in printed
    counts = json.loads(made.read_text())
    assert (counts["errors"], counts["examples"]) == ({}, [])
    assert counts["layers"] >= 60_000
    assert counts["decided"] > 100
    assert counts["registers"] > 60_000
    by_inputs = [counts["slack"][f"A2Q|{group}"] for group in ("unsigned", "signed", "without 0")]
    assert all(slack["0"] > 100 and min(map(int, slack)) == 0 for slack in by_inputs)
    assert all(f"{bound}|signed" in counts["slack"] for bound in ("types", "types, Eq. 20", "A2Q+"))
    kinds = ("uniform", "gaussian", "sparse", "equal", "one-signed", "extreme", "at an edge")
    for kind in (*kinds, "zero-centred, rounded toward zero"):
        found = [told for key, told in counts["trap"].items() if key.startswith(f"{kind}|")]
        assert sum(told["unsafe"] for told in found) > 0
        assert max(told["most bits missing"] for told in found) == 1


def test_published_bounds_can_be_stopped():
    """Ctrl-C ends it with whole blocks, and the tables of them."""
    code = """
import os, signal, sys
sys.path.insert(0, sys.argv.pop(1))
import published_bounds as published
examine = published.examine
def second(block, where, tally):
    if tally.layers:
        os.kill(os.getpid(), signal.SIGINT)
    examine(block, where, tally)
published.examine = second
blocks = [len(published.draw(0, number).rows) for number in range(9)]
print(sum([count for count in blocks if count][:2]))
published.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, FOLDER, "--layers", str(10**9)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    two = done.stdout.splitlines()[0]
    assert f"\n{two} layers of seed 0" in done.stdout
    assert "the trap" in done.stdout


@pytest.mark.parametrize(
    ("what", "name", "twin", "told"),
    [
        ("bounds", "l1_bits", "lambda *given: right(*given) - 1", "A2Q;A2Q budget"),
        ("bounds", "data_type_bits", "lambda k, *types: max(2, right(k - 1, *types))", "types"),
        ("published", "type_bits", "lambda *given: right(*given) - 2", "types, Eq. 20"),
        ("bounds", "l1_budget", "lambda bits, spec: right(bits, spec) * L", "A2Q budget"),
        ("bounds", "zero_centered_budget", "lambda bits, spec: right(bits, spec) * 2", "A2Q+"),
        ("bounds", "sign_budgets", "lambda *given: more(right(*given), 1, 0)", "sign budgets"),
        ("bounds", "sign_budgets", "lambda *given: more(right(*given), 0, -1)", "sign budgets"),
        ("channels", "zero_sums", "lambda values: values * values.shape[1]", "A2Q+"),
        ("channels", "rounded", "lambda above, below: (2 * above + below) // (2 * below)", "A2Q+"),
    ],
)
def test_published_bounds_notices_what_errs(what, name, twin, told):
    """A bound that is a little wider, or weights that are not centred, and cases are counted."""
    code = f"""
import sys
from dataclasses import replace
from fractions import Fraction
sys.path.insert(0, sys.argv[1])
import published_bounds as published
import random_channels as channels
from accsim import bounds
L = Fraction(256, 255)  # of a norm
def more(budgets, high, low):
    return replace(budgets, high=budgets.high + high, low=budgets.low + low)
published.decide_alone = lambda *given: None
right = {what}.{name}
{what}.{name} = {twin}
tally = published.Tally()
published.campaign(80_000, 0, tally, lambda done: True)
print(*sorted(tally.errors), sep=";")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, FOLDER], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == told


def test_search_power(tmp_path):
    """Few bugs and seeds: all found, tight instances by corners at once, and never without targets."""
    made = tmp_path / "power.json"
    words = ("--seeds", 2, "--bugs", 3, "--taps", 4, 33, "--examples", 600, "--json", made)
    assert "3 bugs, 2 seeds: 0 missed" in run("search_power.py", *words)
    content = json.loads(made.read_text())
    assert all(0 < number <= 600 for numbers in content["bugs"].values() for number in numbers)
    assert content["tight"]["33 plain"] == [None, None]
    assert all(number <= 50 for taps in (4, 33) for number in content["tight"][f"{taps} corners"])
    assert None not in content["tight"]["33 targeted"]
    words = ("--seeds", 2, "--bugs", 1, "--taps", 33, "--examples", 1)
    with pytest.raises(
        AssertionError, match="must be found: product_narrowed_plain_add, 33 taps\n"
    ):
        run("search_power.py", *words)


def test_beside_brevitas_says_what_it_needs():
    """Without brevitas: one line with the pip command."""
    code = """
import runpy, sys
sys.modules["brevitas"] = None
sys.path.insert(0, sys.argv[1])
runpy.run_path(sys.argv[1] + "/beside_brevitas.py", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, FOLDER], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "benchmarks/beside_brevitas.py needs brevitas:"
        " pip install -c constraints.txt brevitas==0.13.4\n"
    )


def test_accuracy_goes_on_where_it_stopped(tmp_path):
    """A line that was cut off is passed over, and its run is done again."""
    code = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import accuracy
if __name__ == "__main__":
    path = Path(sys.argv[2])
    kinds = accuracy.kinds(["mlp"], [])
    rows = accuracy.summary(kinds, accuracy.train_all(path, kinds, 1))
    print(len(accuracy.read(path)), rows[0]["test"]["runs"])
"""
    script, runs = tmp_path / "script.py", tmp_path / "runs.jsonl"
    script.write_text(code)

    def lines():
        done = subprocess.run(
            [sys.executable, script, FOLDER, runs], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert lines() == "4 1\n"
    text = runs.read_text().splitlines(keepends=True)
    runs.write_text("".join(text[:3]) + text[3][:40])
    assert lines() == "4 1\n"
    assert len(runs.read_text().splitlines()) == 5


MUTATION = """
import sys
sys.path.insert(0, "benchmarks")
import mutants, mutation
mutants.TESTS["verification/decide.py"] = ["tests/test_signatures.py"]
sys.argv[1:] = ["--only", "decide", "--sessions", sys.argv[1]]
mutation.main()
"""


def test_mutation(tmp_path):
    """Every mutant of a small module is killed; by a test that sees little they are not."""
    made = tmp_path / "counts.json"
    words = ("--only", "decide", "--sessions", tmp_path, "--json", made)
    for _ in range(2):  # once more from the session
        run("mutation.py", *words)
        (counts,) = json.loads(made.read_text()).values()
        assert counts.keys() == {"killed", "annotations"}  # nothing evaluates the latter
        assert counts["killed"] > 10
    code = [sys.executable, "-c", MUTATION, tmp_path]
    done = subprocess.run(code, cwd=FOLDER.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.count("(differs)\n  - ") > 5


def quoted(first):
    """The block of docs/datapaths.md that starts so."""
    page = (FOLDER.parent / "docs" / "datapaths.md").read_text()
    block = next(part for part in page.split("\n\n    ") if part.startswith(first))
    lines = [line.removeprefix("    ") for line in block.split("\n")]
    return lines


def test_bitnet_629(tmp_path):
    """The report is borne out, word by word as the page has it."""
    made = tmp_path / "bitnet.json"
    printed = run("bitnet_629.py", "--json", made).splitlines()
    page = quoted("worst case of a lane")
    assert page[: len(printed)] == printed
    told = json.loads(made.read_text())
    worst = told["worst"]
    assert (worst["lane"], worst["rails"]) == ({"high": 65024, "low": -65536}, [-32768, 32767])
    assert (worst["verdict"], worst["safe_pairs"], worst["lane_bits"]) == ("refuted", 64, 17)
    assert worst["folded"] == {"64": "proved", "65": "refuted"}
    witness = worst["witness"]
    assert witness["simulated"] == witness["replayed"] != witness["exact"]
    inputs = told["random"]["inputs"]
    assert inputs["uniform"]["overflowed"] == 0 < inputs["all 127"]["overflowed"]
    assert all(one["outputs"] == 64 * 256 for one in inputs.values())


def test_digits_datapaths(tmp_path):
    """One epoch: what is proved does not differ; one bit less is enough for AVX2."""
    made = tmp_path / "digits.json"
    printed = run("digits_datapaths.py", "--quick", "--json", made).splitlines()
    networks = json.loads(made.read_text())["networks"]
    plain, less, bounded = networks.values()
    names = ["x86-vnni-u8s8", "x86-avx2-u8s8", "fbgemm-acc16"]
    assert [list(found) for found in networks.values()] == [names] * 3
    for found, proved in ((plain, names[:1]), (less, names[:2]), (bounded, names)):
        for name, one in found.items():
            verdicts = {layer["verdict"] for layer in one["layers"].values()}
            assert verdicts == ({"proved"} if name in proved else {"refuted"})
            if name in proved:
                assert (one["images"], one["classes"]) == (0, 0)
                assert all(layer["wrong"] == 0 for layer in one["layers"].values())
    pairs = plain["x86-avx2-u8s8"]
    assert pairs["images"] > 0
    assert {max(layer["too_narrow"]) for layer in pairs["layers"].values()} == {1}
    assert all(sum(layer["level_steps"]) for layer in plain["fbgemm-acc16"]["layers"].values())
    page = quoted("digits, seed 0, 360 test images")
    rows = [line.split()[:3] for line in printed]
    assert len(rows) > 9
    assert [line.split()[:3] for line in page[: len(rows)]][1:11] == rows[1:11]
