"""Figures of a benchmark report: cost growth, and shares of the measured limit."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

COLOURS = {"M": "#1f6fb2", "N": "#c0392b", "K": "#2e8b57"}
LINES = {"saturate": "-", "wrap": "--"}


def plot(path: Path, report: dict[str, Any]) -> None:
    """Both pictures side by side; whichever was not measured stays empty."""
    figure = Figure(figsize=(12, 4.6), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    _growth(left, report["figures"].get("growth", {}))
    _roofline(right, report["roofline"])
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def _growth(axes: Axes, figures: dict[str, Any]) -> None:
    """Milliseconds against the side that is doubled."""
    lines: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for name, found in figures.items():
        rule, _, side = name.partition(" ")
        axis, _, size = side.partition("=")
        point = int(size), 1e3 * statistics.median(found["seconds"])
        lines.setdefault((rule, axis), []).append(point)
    for (rule, axis), points in lines.items():
        sizes, times = zip(*points, strict=True)
        label = f"{axis}, {rule}"
        axes.plot(sizes, times, LINES[rule], color=COLOURS[axis], marker="o", ms=3.5, label=label)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="the side that is doubled (the others stay)",
        ylabel="milliseconds, one thread",
        title="Cost growth, 8-bit operands, P = 16",
    )
    axes.grid(color="0.92", which="both")
    if lines:
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.legend(frameon=False, ncols=2)


def _roofline(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """The share of the limit that each kernel reaches, with the instructions it rests on."""
    names = [row["case"] for row in rows][::-1]
    shares = [100 * row["share"] for row in rows][::-1]
    axes.barh(names, shares, color="#1f6fb2", height=0.6)
    for y, row in enumerate(reversed(rows)):
        text = (
            f"{row['achieved_gmac_per_s']:.1f} of {row['limit_gmac_per_s']:.1f} GMAC/s,"
            f" {row['instructions_per_mac']:.3f} instr/MAC"
        )
        axes.annotate(text, (shares[y] + 2, y), va="center", fontsize=7, color="0.25")
    axes.axvline(100, color="0.6", linewidth=1)
    axes.set(
        xlabel="% of the measured vector arithmetic limit, whole call",
        title="Share of the multiply, add, max limit",
        xlim=(0, max([100, *shares]) + 65),
    )
