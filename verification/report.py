"""Results as tables for people and as plain JSON for machines."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

import accsim
from accsim.arith import reduce
from accsim.bounds import fold_interval
from accsim.files import atomically
from accsim.layer import IntLayer
from accsim.plan import Plan
from accsim.simulate import Run
from accsim.spec import Accumulator, bits_to_hold
from verification.decide import Report, Verdict
from verification.widths import widths
from verification.witness import Witness
from verification.witness_file import witness_json

__all__ = [
    "overall",
    "run_json",
    "run_table",
    "table",
    "verdict_json",
    "verdict_table",
    "versions",
    "witness_table",
    "write_json",
]

Json = dict[str, Any]

_STYLE = {Verdict.PROVED: "green", Verdict.REFUTED: "red", Verdict.UNDECIDED: "yellow"}
_AROUND = 3  # steps shown before and after the one that overflows


def table(title: str, *columns: str) -> Table:
    """An empty table: the first column to the left, figures to the right."""
    made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        made.add_column(column, justify="right" if index else "left")
    return made


def overall(reports: Mapping[str, Report]) -> Verdict:
    """The network's verdict: refuted if any layer is, proved only if all are."""
    verdicts = {report.verdict for report in reports.values()}
    order = (Verdict.REFUTED, Verdict.UNDECIDED, Verdict.PROVED)
    return next(verdict for verdict in order if verdict in verdicts)


def verdict_table(
    title: str, layers: Mapping[str, IntLayer], reports: Mapping[str, Report]
) -> Table:
    """One row per layer: what its types ask, what A2Q's bound asks, what is needed; the verdict.

    "preloaded" is for registers that start where they like, "run" how many taps a register takes
    before it must be emptied.
    """
    columns = ("by types", "A2Q", "least bits", "preloaded", "run", "verdict")
    made = table(title, "layer", "taps", "input", "weight", *columns)
    made.columns[-1].min_width = max(len(verdict) for verdict in Verdict)  # never cut off
    for name, layer in verdict_json(layers, reports).items():
        bits = [layer[key] for key in ("data_type_bits", "l1_bits", "least_bits", "preloaded_bits")]
        cells = [layer["taps"], layer["input"], layer["weight"], *bits, layer["fold_interval"]]
        shown = ("" if cell is None else str(cell) for cell in cells)
        verdict = reports[name].verdict
        made.add_row(escape(name), *shown, f"[{_STYLE[verdict]}]{verdict}[/]")
    return made


def verdict_json(layers: Mapping[str, IntLayer], reports: Mapping[str, Report]) -> Json:
    """The same by layer name, with the widths of each channel and the witness if it is refuted."""
    return {
        name: {
            "verdict": str(report.verdict),
            "taps": layers[name].taps,
            "channels": layers[name].channels,
            "input": str(layers[name].input_spec),
            "weight": str(layers[name].weight_spec),
            **_widths_json(layers[name], report),
            "unsafe_channels": list(report.unsafe_channels),
            "wrap_exact": report.wrap_exact,
            "witness": None if report.witness is None else witness_json(report.witness),
        }
        for name, report in reports.items()
    }


def _widths_json(layer: IntLayer, report: Report) -> Json:
    """Widths of the layer, of its channels, and the run of taps that the register always takes."""
    found, accumulator = widths(layer), report.accumulator
    interval = None
    if accumulator.signed:  # the bound is for registers of both signs
        interval = int(fold_interval(layer.rows, layer.input_spec, accumulator.bits).min())
    return {
        "data_type_bits": found.data_type,
        "l1_bits": _most(found.l1),
        "zero_centered_bits": _most(found.zero_centered),
        "least_bits": report.least_bits,
        "final_bits": _most(found.final),
        "any_order_bits": _most(found.any_order),
        "preloaded_bits": _most(found.preloaded),
        "fold_interval": interval,
        "channel_bits": report.channel_bits.tolist(),
    }


def _most(bits: np.ndarray[Any, Any] | None) -> int | None:
    return None if bits is None else int(bits.max())


def witness_table(title: str, witness: Witness) -> Table:
    """The register step by step around the one that overflows, and the end."""
    made = table(title, "step", "weight", "input", "product", "exact sum", "register")
    row = [int(q) for q in witness.layer.rows[0]]
    bias = 0 if witness.layer.bias is None else int(witness.layer.bias[0])
    exact = register = bias
    gap = False
    for k, (q, x) in enumerate(zip(row, witness.x.tolist(), strict=True)):
        exact += q * x
        total = register + q * x
        register = reduce(total, witness.accumulator)
        if abs(k - witness.step) <= _AROUND or k == len(row) - 1:
            if gap:
                made.add_row("...")
            shown = str(register) if register == total else f"[red]{register}[/] (not {total})"
            made.add_row(str(k), str(q), str(x), str(q * x), str(exact), shown)
        gap = abs(k - witness.step) > _AROUND
    return made


def run_table(title: str, runs: Mapping[str, Run]) -> Table:
    """One row per layer: how many outputs overflowed, and the widths these data needed."""
    made = table(title, "layer", "outputs", "overflowed", "steps", "lowest", "highest", "data need")
    for name, figures in run_json(runs).items():
        made.add_row(escape(name), *(str(value) for value in figures.values()))
    return made


def run_json(runs: Mapping[str, Run]) -> Json:
    """The same by layer name; `data_bits` is the least register for these inputs."""
    return {name: _figures(run) for name, run in runs.items()}


def plan_json(plans: Mapping[str, Plan]) -> Json:
    """By layer name: the ranges that were found, and for each part what runs, where and why."""
    return {
        name: {
            "inputs": [plan.inputs.min, plan.inputs.max],
            "weights": [plan.weights.min, plan.weights.max],
            "parts": [asdict(part) for part in plan.parts],
        }
        for name, plan in plans.items()
    }


def _figures(run: Run) -> Json:
    low = int(run.peak_low.min()) if run.peak_low is not None and run.output.size else 0
    high = int(run.peak_high.max()) if run.peak_high is not None and run.output.size else 0
    return {
        "outputs": run.output.size,
        "overflowed_outputs": int(np.count_nonzero(run.overflow_count)),
        "overflow_steps": int(run.overflow_count.sum()),
        "peak_low": low,
        "peak_high": high,
        "data_bits": bits_to_hold(low, high),
    }


def accumulator_json(accumulator: Accumulator) -> Json:
    """The register as plain values."""
    return {
        "bits": accumulator.bits,
        "overflow": str(accumulator.overflow),
        "signed": accumulator.signed,
    }


def versions(*packages: str) -> dict[str, str]:
    """Of the toolkit, of Python and of the packages that results depend on."""
    own = {"accsim": accsim.__version__, "python": platform.python_version()}
    return own | {name: version(name) for name in packages}


def write_json(path: Path, content: Json) -> None:
    """Write indented JSON; the file appears only when complete."""
    with atomically(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())
