"""Pictures, where people look rather than read. Needs the extra "plot"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accsim.extras import require
from accsim.files import atomically

__all__ = ["accuracy_plot"]

_COLOURS = {"plain": "#c0392b", "a2q+": "#1f6fb2"}
_LINES = {"wrap": "-", "saturate": "--"}


def accuracy_plot(path: Path, content: dict[str, Any]) -> None:
    """Accuracy against register width for each network and overflow rule of a demo report."""
    require("matplotlib", extra="plot", purpose="a plot")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for name, network in content["networks"].items():
        for rule, line in _LINES.items():
            rows = [row for row in network["sweep"] if row["overflow"] == rule]
            axes.plot(
                [row["bits"] for row in rows],
                [100 * row["accuracy"] for row in rows],
                line,
                color=_COLOURS[name],
                marker="o",
                markersize=3.5,
                label=f"{name}, {rule}",
            )
    axes.axvline(content["bits"], color="0.6", linewidth=1)
    axes.annotate(
        f"trained for {content['bits']} bits",
        (content["bits"], 1),
        xytext=(4, 2),
        textcoords="offset points",
        color="0.35",
        fontsize=8,
    )
    axes.set(
        xlabel="register width (bits)",
        ylabel=f"accuracy on {content['test_images']} test images (%)",
        ylim=(0, 102),
        title="The same 4-bit network in narrower registers",
    )
    axes.set_xticks([row["bits"] for row in content["networks"]["plain"]["sweep"]][::2])
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    with atomically(path) as file:
        figure.savefig(file, format="png")
