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
from accsim.bounds import data_type_bits
from accsim.files import atomically
from accsim.layer import IntLayer
from accsim.plan import Plan
from accsim.simulate import Run
from accsim.spec import Accumulator, bits_to_hold
from verification.decide import Report, Verdict
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
    """One row per layer: what its types need, what its weights need, and the verdict."""
    made = table(title, "layer", "taps", "input", "weight", "by types", "least bits", "verdict")
    for name, layer in layers.items():
        report = reports[name]
        verdict = report.verdict
        made.add_row(
            escape(name),
            str(layer.taps),
            str(layer.input_spec),
            str(layer.weight_spec),
            str(data_type_bits(layer.taps, layer.weight_spec, layer.input_spec)),
            str(report.least_bits),
            f"[{_STYLE[verdict]}]{verdict}[/]",
        )
    return made


def verdict_json(layers: Mapping[str, IntLayer], reports: Mapping[str, Report]) -> Json:
    """The same by layer name, with the witness of each refuted layer."""
    return {
        name: {
            "verdict": str(report.verdict),
            "taps": layers[name].taps,
            "channels": layers[name].channels,
            "input": str(layers[name].input_spec),
            "weight": str(layers[name].weight_spec),
            "data_type_bits": data_type_bits(
                layers[name].taps, layers[name].weight_spec, layers[name].input_spec
            ),
            "least_bits": report.least_bits,
            "channel_bits": report.channel_bits.tolist(),
            "unsafe_channels": list(report.unsafe_channels),
            "wrap_exact": report.wrap_exact,
            "witness": None if report.witness is None else witness_json(report.witness),
        }
        for name, report in reports.items()
    }


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
