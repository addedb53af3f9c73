"""Results as plain JSON for machines: what each holds, and how a report is sealed."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import accsim
from accsim import bounds
from accsim.datapath import Datapath
from accsim.files import atomically
from accsim.layer import IntLayer, unheld_start
from accsim.padding import exact_extremes
from accsim.plan import Plan
from accsim.simulate import LevelRun, Run
from accsim.spec import Accumulator, bits_to_hold
from verification.compare import Difference
from verification.datapaths import datapath_remarks, register_of
from verification.decide import Report, Verdict
from verification.json_file import accumulator_json, how_json
from verification.levels import level_reports, levels_json
from verification.schema import NAME
from verification.sums import EDGES, Ends, Sums
from verification.widths import widths
from verification.witness_file import witness_json

__all__ = [
    "accumulator_json",
    "difference_json",
    "digest",
    "ends_json",
    "file_digest",
    "layer_digest",
    "layers_json",
    "lowerings_json",
    "overall",
    "plan_json",
    "run_json",
    "sealed",
    "sums_json",
    "versions",
    "worst",
    "write_json",
]

Json = dict[str, Any]

_UNDIGESTED = ("digest", "made", "name")


def sealed(content: Json) -> Json:
    """A report of one network: its content, what made it, and a digest of the former alone.

    Machines with other versions or processors that find the same get the same digest.
    """
    made = {"schema": NAME, **content}
    return {"digest": digest(made), "made": versions("numpy", "numba"), **made}


def digest(content: Json) -> str:
    """SHA-256 of everything that a report finds, as JSON with sorted keys and no blanks.

    Of what it finds alone: not of the name it was given, nor of the versions that made it.
    """
    found = {key: value for key, value in content.items() if key not in _UNDIGESTED}
    text = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"sha256:{sha256(text.encode()).hexdigest()}"


def overall(reports: Mapping[str, Report]) -> Verdict:
    """The network's verdict: refuted if any layer is, proved only if all are."""
    return worst({report.verdict for report in reports.values()})


def worst(verdicts: set[Verdict]) -> Verdict:
    """Of several: refuted if any is, proved only if all are."""
    order = (Verdict.REFUTED, Verdict.UNDECIDED, Verdict.PROVED)
    return next(verdict for verdict in order if verdict in verdicts)


def layers_json(layers: Mapping[str, IntLayer], reports: Mapping[str, Report]) -> Json:
    """By layer name: verdict and register, widths, also of each channel, and the witness if any."""
    return {
        name: {
            "verdict": str(report.verdict),
            "accumulator": accumulator_json(register_of(report.accumulator)),
            "digest": layer_digest(layers[name]),
            "taps": layers[name].taps,
            "channels": layers[name].channels,
            "weights": layers[name].weight.size,
            "input": str(layers[name].input_spec),
            "weight": str(layers[name].weight_spec),
            **_widths_json(layers[name], report),
            "unsafe_channels": list(report.unsafe_channels),
            "wrap_exact": report.wrap_exact,
            "witness": None if report.witness is None else witness_json(report.witness),
            **_start_json(layers[name], register_of(report.accumulator)),
            **_levels_json(report),
        }
        for name, report in reports.items()
    }


def _start_json(layer: IntLayer, accumulator: Accumulator) -> Json:
    """Where it starts that the register cannot hold; nothing if it can."""
    start = unheld_start(layer, accumulator)
    return {} if start is None else {"start": {"channel": start[0], "value": start[1]}}


def _levels_json(report: Report) -> Json:
    """The datapath, and what is decided of each of its levels; nothing of a register."""
    if not isinstance(report.accumulator, Datapath):
        return {}
    remarks = datapath_remarks(report.accumulator)
    return {
        **how_json(report.accumulator),
        "levels": levels_json(report.levels),
        "remarks": remarks,
    }


def layer_digest(layer: IntLayer) -> str:
    """SHA-256 of all that makes the layer: integers as 64 bits, ranges and geometry as text."""
    kind = f"{layer.weight.shape} {layer.weight_spec} {layer.input_spec}"
    geometry = f" {layer.geometry}" if layer.is_conv else ""
    made = sha256(f"{kind}{geometry}".encode())
    for array in (layer.weight, layer.bias):
        made.update(b"none" if array is None else np.ascontiguousarray(array, "<i8").data)
    return f"sha256:{made.hexdigest()}"


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    return f"sha256:{sha256(path.read_bytes()).hexdigest()}"


def _widths_json(layer: IntLayer, report: Report) -> Json:
    """Widths of the layer, of its channels, and the run of taps that the register always takes."""
    found, accumulator = widths(layer), report.accumulator
    interval, needed = None, found.every_step
    if isinstance(accumulator, Datapath):  # whose summing level is handed other sums, in its order
        needed = report.channel_bits
    elif accumulator.signed:  # the bound is for registers of both signs
        interval = int(bounds.fold_interval(layer.rows, layer.input_spec, accumulator.bits).min())
    return {
        "data_type_bits": found.data_type,
        "l1_bits": _most(found.l1),
        "zero_centered_bits": _most(found.zero_centered),
        "least_bits": _most(needed),
        "final_bits": _most(found.final),
        "any_order_bits": _most(found.any_order),
        "preloaded_bits": _most(found.preloaded),
        "fold_interval": interval,
        "channel_bits": needed.tolist(),
        "channel_final_bits": found.final.tolist(),
        "channel_any_order_bits": found.any_order.tolist(),
    }


def _most(bits: np.ndarray[Any, Any] | None) -> int | None:
    return None if bits is None else int(bits.max())


def ends_json(ends: Ends, accumulator: Accumulator) -> Json:
    """How far sums go: the layer's ends, in bits, and as a share of the way to a rail."""
    return {
        "low": int(ends.low.min()),
        "high": int(ends.high.max()),
        "bits": ends.bits,
        "of_rail": ends.of_rails(accumulator),
    }


def sums_json(sums: Sums, accumulator: Accumulator, overflowed: int) -> Json:
    """The same of given inputs: ends of each channel, outputs by width, and where they lie.

    `overflowed`: of how many outputs the register overflows.
    """
    return {
        **ends_json(sums.ends, accumulator),
        "outputs": sums.outputs,
        "overflowed_outputs": overflowed,
        "channel_low": sums.ends.low.tolist(),
        "channel_high": sums.ends.high.tolist(),
        "outputs_by_bits": {
            str(bits): int(sums.needs[bits]) for bits in np.flatnonzero(sums.needs).tolist()
        },
        "spread": [
            [int(EDGES[place]), int(EDGES[place + 1]), int(sums.spread[place])]
            for place in np.flatnonzero(sums.spread).tolist()
        ],
    }


def lowerings_json(forms: Mapping[str, IntLayer], accumulator: Accumulator | Datapath) -> Json:
    """By lowering of one layer (`lowerings`): what is summed, and what that needs."""
    found = {}
    for name, lowered in forms.items():
        low, high = exact_extremes(lowered)
        safe, bits = False, int(bounds.bits_per_channel(low, high).max())
        if isinstance(accumulator, Datapath):
            levels = level_reports(lowered, accumulator)
            safe = not levels.unsafe.any()
            bits = levels.reports[accumulator.summing].least_bits
        else:
            safe = bool(bounds.fits(low, high, accumulator).all())
        found[name] = {
            "verdict": str(Verdict.PROVED if safe else Verdict.REFUTED),
            "least_bits": bits,
            "input": str(lowered.input_spec),
        }
    return found


def difference_json(difference: Difference) -> Json:
    """Where one layer ends differently in two registers."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(difference).items()
    }


def run_json(runs: Mapping[str, Run]) -> Json:
    """The same by layer name; `data_bits` is the least register for these inputs.

    Of a datapath `level_bits` is the least of each level, `level_steps` the overflows of each.
    """
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
    low, high = _peaks(run)
    levels = {
        "level_steps": [int(level.overflow_count.sum()) for level in run.levels],
        "level_bits": [bits_to_hold(*_peaks(level)) for level in run.levels],
    }
    return {
        "outputs": run.output.size,
        "overflowed_outputs": int(np.count_nonzero(run.overflow_count)),
        "overflow_steps": int(run.overflow_count.sum()),
        "peak_low": low,
        "peak_high": high,
        "data_bits": bits_to_hold(low, high),
        **(levels if run.levels else {}),
    }


def _peaks(run: Run | LevelRun) -> tuple[int, int]:
    """The lowest and highest exact running sum of all outputs."""
    low, high = run.peak_low, run.peak_high
    some = run.overflow_count.size > 0
    return (
        int(low.min()) if some and low is not None else 0,
        int(high.max()) if some and high is not None else 0,
    )


def versions(*packages: str) -> dict[str, str]:
    """Of the toolkit, of Python and of the packages that results depend on."""
    own = {"accsim": accsim.__version__, "python": platform.python_version()}
    return own | {name: version(name) for name in packages}


def write_json(path: Path, content: Json) -> None:
    """Write indented JSON; the file appears only when complete."""
    with atomically(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())
