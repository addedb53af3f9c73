"""Pictures, where people look rather than read. Needs the extra "plot"."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from accsim.extras import require
from accsim.files import atomically
from verification.witness import Witness

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["accuracy_plot", "trajectory_plot"]

_COLOURS = {"plain": "#c0392b", "a2q+": "#1f6fb2"}
_LINES = {"wrap": "-", "saturate": "--"}


def trajectory_plot(path: Path, witness: Witness) -> None:
    """The exact sum and the register of a witness over its steps, between both rails."""
    figure = _figure()
    axes = figure.add_subplot()
    exact, register = witness.trajectory()
    steps = range(len(exact))
    low, high = witness.accumulator.min, witness.accumulator.max
    axes.axhspan(low, high, color="0.95")
    for rail in (low, high):
        axes.axhline(rail, color="0.6", linewidth=1)
    axes.plot(steps, exact, color=_COLOURS["plain"], label="exact sum")
    axes.plot(steps, register, "--", color=_COLOURS["a2q+"], label="register")
    axes.plot(witness.step + 1, exact[witness.step + 1], "o", color=_COLOURS["plain"], markersize=4)
    axes.set(
        xlabel="products added",
        ylabel="value",
        title=f"Channel {witness.channel} leaves the {witness.accumulator} at step {witness.step}",
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    _save(figure, path)


def accuracy_plot(path: Path, content: dict[str, Any]) -> None:
    """Accuracy against register width for each network and overflow rule of a demo report."""
    figure = _figure()
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
    _save(figure, path)


def _figure() -> Figure:
    require("matplotlib", extra="plot", purpose="a plot")
    from matplotlib.figure import Figure

    return Figure(figsize=(7, 4.2), dpi=150, layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    with atomically(path) as file:
        figure.savefig(file, format="png")
