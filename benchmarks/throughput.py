"""Throughput of the simulator beside numpy, torch and plain loops: right first, then timed.

python benchmarks/throughput.py [--quick] [--only NAME ...] [--json FILE] [--plot FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import certificates
import convolutions
import multilevel
import processes
import products
import scaling
import torch
from contenders import apytypes
from rich import box
from rich.console import Console
from rich.table import Table
from roofline import roofline
from workload import Goal, Workload

from verification.bench import figure, machine, measure

SCHEMA = "accsim.throughput/1"
ROUNDS, QUICK_ROUNDS = 9, 3
IDLE = 0.5  # a higher load before the run is worth a word
ONE_BLAS_THREAD = {"OPENBLAS_NUM_THREADS": "1"}  # of numpy; torch is told by its own function
WORKLOADS: dict[str, Callable[[bool], Workload]] = {
    "wide": products.wide,
    "deep": products.deep,
    "seldom": products.seldom,
    "four": products.four,
    "safe": products.safe,
    "long": products.long,
    "certificates": certificates.certificates,
    "conv": convolutions.convolution,
    "depthwise": convolutions.depthwise,
    "threads": scaling.two_threads,
    "datapaths": multilevel.multilevel,
    "growth": scaling.growth,
    "limited": scaling.limited,
}
OTHERS = ("avx2", "startup", "memory", "roofline")
NAMES = (*(name for name in WORKLOADS if name != "limited"), *OTHERS)

Json = dict[str, Any]


def run(workload: Workload, rounds: int) -> tuple[Json, list[Json]]:
    """Check every contender, time them in turn: figures, and goals with what was reached."""
    right = {}
    for name, contender in workload.contenders.items():
        right[name] = contender.is_right()
        if not right[name] and not contender.may_err:
            raise SystemExit(f"wrong result of {name}: nothing is reported")
    times = measure({name: c.call for name, c in workload.contenders.items()}, rounds)
    figures = {
        name: {**figure(contender.macs, times[name]), "right": right[name]}
        for name, contender in workload.contenders.items()
    }
    return figures, [reached(goal, figures) for goal in workload.goals]


def reached(goal: Goal, figures: Json) -> Json:
    """The ratio of medians, of speeds, or of times where it must not be too large either.

    `rounds_median` is the median of the ratios within each round.
    """
    if not goal.other:
        speed = figures[goal.ours]["median"]
        told = {"case": goal.case, "ours": goal.ours, "value": speed, "unit": "GMAC/s"}
        return {**told, "least": goal.least, "most": None, "met": goal.least <= speed}
    ours, other = figures[goal.ours]["seconds"], figures[goal.other]["seconds"]
    above, below = (other, ours) if goal.most is None else (ours, other)
    ratio = statistics.median(above) / statistics.median(below)
    paired = [a / b for a, b in zip(above, below, strict=False)]
    return {
        "case": goal.case,
        "ours": goal.ours,
        "other": goal.other,
        "value": ratio,
        "rounds_median": statistics.median(paired),
        "unit": "×",
        "least": goal.least,
        "most": goal.most,
        "met": goal.least <= ratio and (goal.most is None or ratio <= goal.most),
    }


def collect(names: list[str], quick: bool, rounds: int, console: Console) -> Json:
    """Everything that is asked for, one workload after another."""
    torch.set_num_threads(1)
    report: Json = {"schema": SCHEMA, "figures": {}, "goals": [], "roofline": []}
    report["machine"] = {
        **machine(),
        "torch": torch.__version__,
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "apytypes": getattr(apytypes(), "__version__", None),
    }
    report["rounds"], report["quick"] = rounds, quick
    report["load_before"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    for name in names:
        console.print(f"{name} ...", style="dim")
        if name in WORKLOADS:
            report["figures"][name], goals = run(WORKLOADS[name](quick), rounds)
            report["goals"] += goals
        elif name == "avx2":
            limited = processes.avx2(Path(__file__), rounds)
            report["avx2_machine"] = limited["machine"]
            report["figures"][name] = limited["figures"]["limited"]
            report["goals"] += limited["goals"]
        elif name == "startup":
            report["goals"] += processes.startup(rounds)
        elif name == "memory":
            report["goals"] += processes.memory()
        else:
            report["roofline"] = roofline(quick, rounds)
    return report


def show(report: Json, console: Console) -> None:
    """Machine, figures, roofline, goals."""
    console.print(", ".join(f"{key} {value}" for key, value in report["machine"].items()))
    if (report["load_before"] or 0) > IDLE:
        console.print(
            f"load {report['load_before']:.1f} before the run: other work shares the cores, figures"
            " are too low, ratios of two threads most of all"
        )
    made = _table("GMAC/s", "workload", "", "median", "lowest", "highest", "rounds", "right")
    for workload, figures in report["figures"].items():
        for name, found in figures.items():
            speeds = (f"{found[key]:.2f}" for key in ("median", "lowest", "highest"))
            right = "yes" if found["right"] else "NO"
            made.add_row(workload, name, *speeds, str(found["rounds"]), right)
        made.add_section()
    _print(console, made)
    made = _table(
        "Share of the vector arithmetic limit: whole call, one thread; over 100%: skipped steps",
        *("kernel", "instructions per MAC", "limit", "achieved", "share"),
    )
    for row in report["roofline"]:
        speeds = (row["limit_gmac_per_s"], row["achieved_gmac_per_s"])
        shown = [f"{row['instructions_per_mac']:.4f}", *(f"{speed:.1f}" for speed in speeds)]
        made.add_row(row["case"], *shown, f"{row['share']:.0%}")
    _print(console, made)
    title = "Targets (not judged: the shapes are small)" if report["quick"] else "Targets"
    made = _table(title, "case", "beside", "target", "measured", "met")
    for row in report["goals"]:
        made.add_row(*_goal(row, judged=not report["quick"]))
    _print(console, made)


def _goal(row: Json, *, judged: bool) -> tuple[str, str, str, str, str]:
    if "failed" in row:
        return row["case"], "", "", " ".join(row["failed"]), "not measured"
    unit, bounds = row["unit"], []
    if row.get("least") is not None:
        bounds.append(f">= {row['least']:g}")
    if row.get("most") is not None:
        bounds.append(f"<= {row['most']:g}")
    beside = row.get("other", "") if row.get("most") is None else ""
    met = "yes" if row["met"] else "NO"
    bounds, value = f"{', '.join(bounds)} {unit}", f"{row['value']:.3g} {unit}"
    return row["case"], beside, bounds, value, met if judged else ""


def _print(console: Console, made: Table) -> None:
    if made.row_count:
        console.print(made)


def _table(title: str, *columns: str) -> Table:
    made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"rounds must be a positive integer, not {text}")
    return int(text)


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the report to this file")
    parser.add_argument("--plot", type=Path, help="also draw cost growth and shares of the limit")
    parser.add_argument("--quick", action="store_true", help="small shapes, no other processes")
    parser.add_argument("--only", nargs="+", choices=(*NAMES, "limited"), help="only these")
    parser.add_argument(
        "--rounds", type=_positive, help=f"rounds; {ROUNDS}, or {QUICK_ROUNDS} if quick"
    )
    arguments = parser.parse_args()
    if not os.environ.keys() >= ONE_BLAS_THREAD.keys():  # must be set before numpy loads
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_BLAS_THREAD})
    quick = arguments.quick
    rounds = arguments.rounds or (QUICK_ROUNDS if quick else ROUNDS)
    names = arguments.only or [n for n in NAMES if not (quick and n in OTHERS[:3])]
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    report = collect(names, quick, rounds, console)
    show(report, console)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))
    if arguments.plot:
        from plots import plot

        plot(arguments.plot, report)


if __name__ == "__main__":
    main()
