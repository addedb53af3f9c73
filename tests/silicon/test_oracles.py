"""A run of the tests ends with the real things that accsim was compared with, and those that were not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

def test_agrees(record_property):
    record_property("oracle", {"name": "a chip", "cases": 2000, "differ": 250, "wrong": 0})

def test_disagrees(record_property):
    record_property("oracle", {"name": "another", "cases": 1000, "differ": 500, "wrong": 3})
    assert False

def test_missing(record_property):
    record_property("oracle", {"name": "a tool", "install": "apt-get install tool"})
    pytest.skip("a tool: apt-get install tool")

def test_else():
    pass
"""
SECTION = [
    "a chip: 2,000 outputs, 0 wrong; 250 (12.5%) are not those of exact arithmetic",
    "another: 1,000 outputs, 3 wrong; 500 (50.0%) are not those of exact arithmetic",
    "a tool: not compared: apt-get install tool",
]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_summary(tmp_path, workers):
    """The counts of all of them, whether the tests ran here or in other processes."""
    (tmp_path / "test_some.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "oracles", "-n", workers, tmp_path]
    where = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=where)
    printed = done.stdout
    lines = printed.splitlines()
    title = [i for i, line in enumerate(lines) if " oracles: 2 compared, 1 not there " in line]
    assert len(title) == 1, printed
    assert lines[title[0] + 1 :][: len(SECTION)] == SECTION
