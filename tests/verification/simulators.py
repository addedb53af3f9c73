"""Icarus Verilog and Verilator, run on the bench."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["INSTALL", "SIMULATORS", "Outcome", "icarus", "missing", "verilator"]

INSTALL = {
    "icarus": ("iverilog", "apt-get install iverilog"),
    "verilator": ("verilator", "apt-get install verilator"),
}


class Outcome(NamedTuple):
    """Whether a run passed, its exit code, and all that it printed."""

    passed: bool
    code: int
    text: str


def missing(simulator: str) -> str | None:
    """What a machine without the simulator is told; None if it is there."""
    program, install = INSTALL[simulator]
    return None if shutil.which(program) else f"needs {program}: {install}"


def icarus(folder: Path, parameters: Mapping[str, object], *sources: str, top="bench") -> Outcome:
    """Build in the folder, and run there."""
    given = [f"-P{top}.{name}={value}" for name, value in parameters.items()]
    build = ["iverilog", "-g2012", "-Wall", "-o", f"{top}.vvp", "-s", top, *given, *sources]
    return _built_and_run(folder, build, ["vvp", "-n", f"{top}.vvp"])


def verilator(
    folder: Path, parameters: Mapping[str, object], *sources: str, top="bench"
) -> Outcome:
    """The same; the build, a C++ program, takes some seconds."""
    given = [f"-G{name}={value}" for name, value in parameters.items()]
    build = ["verilator", "--binary", "--timing", "--top-module", top, *given, *sources]
    return _built_and_run(folder, build, [f"./obj_dir/V{top}"])


SIMULATORS = {"icarus": icarus, "verilator": verilator}


def _built_and_run(folder: Path, build: list[str], run: list[str]) -> Outcome:
    """Raises: RuntimeError for a build that fails or warns, which is no wrong step."""
    built = subprocess.run(build, cwd=folder, capture_output=True, text=True, check=False)
    if built.returncode or "warning" in built.stderr.lower():
        raise RuntimeError(f"{build[0]} must build without a word: {built.stdout}{built.stderr}")
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    return Outcome(done.returncode == 0 and "passed: " in text, done.returncode, text)
