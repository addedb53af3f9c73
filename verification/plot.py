"""Pictures, where people look rather than read. Needs the extra "plot"."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from io import StringIO
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accsim.extras import require
from accsim.files import atomically
from verification.witness import Witness
from verification.words import printable, where_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "accuracy_plot",
    "accuracy_svg",
    "check_drawable",
    "sweep_plot",
    "trajectory_plot",
    "trajectory_svg",
]

_COLOURS = ("#c0392b", "#1f6fb2", "#8a6d1d", "#6b4fa0")  # of networks, in turn
_BAD, _REGISTER = _COLOURS[:2]
_BAND, _FAINT = "#eef1f4", "#9aa4ae"
_LINES = {"wrap": "-", "saturate": "--"}
_RULES = {"wrap": ("-", _BAD, "o"), "saturate": ("--", _REGISTER, "s")}
_TICKS = 32  # widths that have room along a picture
# Of a picture inside a page, whose style says what is dark: the page's own colours.
_OF_PAGE = {
    "#000000": "currentColor",
    "#c0392b": "var(--bad)",
    "#1f6fb2": "var(--accent)",
    "#8a6d1d": "var(--third)",
    "#6b4fa0": "var(--fourth)",
    _BAND: "var(--band)",
    _FAINT: "var(--faint)",
}

Json = dict[str, Any]


def trajectory_plot(path: Path, witness: Witness) -> None:
    """The exact sum and the register of a witness over its steps, between both rails."""
    _save(_trajectory(witness), path)


def trajectory_svg(witness: Witness) -> str:
    """The same for a page."""
    return _svg(_trajectory(witness))


def accuracy_plot(path: Path, sweeps: Mapping[str, list[Json]], title: str) -> None:
    """Accuracy against register width, for each network and overflow rule of its sweep."""
    figure = _accuracy(sweeps)
    figure.axes[0].set_title(title)
    _save(figure, path)


def check_drawable(path: Path) -> None:
    """Refuse a picture that could not be written once it is drawn.

    Raises: MissingExtraError without matplotlib, FileNotFoundError without its folder.
    """
    require("matplotlib", extra="plot", purpose="a plot")
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder", str(path.parent))


def sweep_plot(path: Path, sweep: Json) -> bool:
    """Accuracy of a model against register width; or without labels, how often its class stays.

    Takes what the command sweep tells. False, and no picture, where no width was run.
    """
    wide, *narrow = sweep["rows"]
    key = "same" if wide["accuracy"] is None else "accuracy"
    run = [row for row in narrow if row["unheld"] is None]
    if not run:
        return False
    figure = _figure()
    axes = figure.add_subplot()
    for rule, (line, colour, marker) in _RULES.items():
        shown = [row for row in run if row["overflow"] == rule]
        if shown:
            _curve(axes, shown, key, line, color=colour, marker=marker, label=rule)
    unheld = sorted({row["bits"] for row in narrow if row["unheld"] is not None})
    if unheld:
        label = "not run: a bias does not fit"
        axes.plot(unheld, [0] * len(unheld), "x", color="black", label=label, clip_on=False)
    _marks(axes, sweep, 100 * wide[key], sorted({row["bits"] for row in narrow}))
    said = "same class as the wide result" if key == "same" else "accuracy"
    axes.set(xlabel="register width (bits)", ylabel=f"{said}, %", ylim=(0, 102))
    title = f"{sweep['name']}, {sweep['samples']} inputs"
    title += "" if sweep["complete"] else ", interrupted"
    axes.set_title(_plain(title), fontsize="medium", wrap=True)
    _finish(axes, frameon=True, framealpha=0.9, edgecolor="none")  # lines go behind it
    _save(figure, path)
    return True


def _marks(axes: Axes, sweep: Json, wide: float, widths: list[int]) -> None:
    """The wide result, the least width that is proved, and every width that is swept."""
    bits = sweep["rows"][0]["bits"]
    axes.axhline(wide, color=_FAINT, linewidth=1, label=f"wide ({bits} bits)")
    proved = sweep["proved_from"]
    if proved is not None:
        label = f"proved from {proved} bits"
        if widths[0] <= proved <= widths[-1]:
            axes.axvline(proved, color=_COLOURS[2], linestyle=":", label=label)
        else:  # said, but no reason to draw a wider picture
            axes.plot([], [], ":", color=_COLOURS[2], label=label)
    axes.set_xticks(widths[:: 1 + len(widths) // _TICKS])
    axes.set_xlim(widths[0] - 0.5, widths[-1] + 0.5)


def accuracy_svg(sweeps: Mapping[str, list[Json]]) -> str:
    """The same for a page."""
    return _svg(_accuracy(sweeps))


def _trajectory(witness: Witness) -> Figure:
    figure = _figure()
    axes = figure.add_subplot()
    exact, register = witness.trajectory()
    steps = range(len(exact))
    low, high = witness.rails.min, witness.rails.max
    axes.axhspan(low, high, color=_BAND)
    for rail in (low, high):
        axes.axhline(rail, color=_FAINT, linewidth=1)
    axes.plot(steps, exact, color=_BAD, label="exact sum")
    axes.plot(steps, register, "--", color=_REGISTER, label="register")
    at = witness.added + 1
    axes.plot(at, exact[at], "o", color=_BAD, markersize=4)
    axes.set(
        xlabel="products added" if witness.level in (None, 0) else "items added",
        ylabel="value",
        title=f"Channel {witness.channel} leaves {where_of(witness)} {_when(witness)}",
    )
    if witness.level is not None:  # often of a few items
        axes.locator_params(axis="x", integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def _when(witness: Witness) -> str:
    """The step, or of a level which of its group's items, as the axis counts them."""
    if witness.level is None:
        return f"at step {witness.step}"
    kind = "product" if witness.level == 0 else "item"
    return f"with {kind} {witness.added + 1} of its group (step {witness.step})"


def _accuracy(sweeps: Mapping[str, list[Json]]) -> Figure:
    figure = _figure()
    axes = figure.add_subplot()
    for (name, rows), colour in zip(sweeps.items(), cycle(_COLOURS), strict=False):
        for rule, line in _LINES.items():
            shown = [row for row in rows if row["overflow"] == rule]
            if not shown:
                continue
            label = _plain(f"{rule}, {name}")
            _curve(axes, shown, "accuracy", line, color=colour, marker="o", label=label)
    axes.set(xlabel="register width (bits)", ylabel="accuracy (%)", ylim=(0, 102))
    widths = sorted({row["bits"] for rows in sweeps.values() for row in rows})
    axes.set_xticks(widths[::2])
    _finish(axes)
    return figure


def _curve(axes: Axes, rows: list[Json], key: str, line: str, **style: Any) -> None:
    """A share in % over the widths of these rows."""
    widths, shares = [row["bits"] for row in rows], [100 * row[key] for row in rows]
    axes.plot(widths, shares, line, markersize=3.5, **style)


def _finish(axes: Axes, **legend: Any) -> None:
    axes.grid(color=_BAND)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(**({"frameon": False, "loc": "lower right"} | legend))


def _plain(text: str) -> str:
    """A name as a label of a picture: no formula, and no control characters."""
    return printable(text).replace("$", r"\$")


def _figure() -> Figure:
    require("matplotlib", extra="plot", purpose="a plot")
    from matplotlib.figure import Figure

    return Figure(figsize=(6, 3.6), dpi=150, layout="constrained")


def _save(figure: Figure, path: Path) -> None:
    with atomically(path) as file:
        figure.savefig(file, format="png")


def _svg(figure: Figure) -> str:
    """Scalable, with letters as letters, no background, and no names that two pictures share."""
    from matplotlib import rc_context

    file = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "accsim"}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    for colour, name in _OF_PAGE.items():
        text = text.replace(colour, name)
    return re.sub('<g id="[^"]*"', "<g", text[text.index("<svg") :])
