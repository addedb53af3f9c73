"""The benchmarks run: every contender is right, and everything that is promised is reported."""

import json
import subprocess
import sys
from pathlib import Path

from accsim.kernels.forms import host

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
    ours = [
        found["right"]
        for figures in report["figures"].values()
        for name, found in figures.items()
        if not name.startswith("APyTypes")
    ]
    assert len(ours) > 50
    assert all(ours)
    assert len(report["goals"]) > 50
    assert bool(report["roofline"]) == host().x86
    assert drawn.stat().st_size > 10_000


def test_exactness():
    """Few cases."""
    assert ", no difference" in run("exactness.py", "--cases", 20_000)
