"""A datapath as a picture: its registers as boxes, inner to outer, and what each of them sums.

Needs the extra "plot".
"""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from accsim.datapaths import Described
from accsim.extras import require
from accsim.files import atomically
from accsim.spec import Accumulator, Overflow, Rail
from verification.datapath_words import operands_short, order_line, safe_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["datapath_plot"]

_WRAP, _SATURATE, _INK, _FAINT = "#1f6fb2", "#c0392b", "#222222", "#9aa4ae"
_BOX, _GAP = 2.15, 0.95  # inches along the picture
_HALF = 0.82  # inches, of a box's height
_MARKS = 4  # items that are drawn of a group


def datapath_plot(path: Path, found: Described) -> None:
    """Draw a datapath into a .png file.

    Raises: MissingExtraError without matplotlib; OSError.
    """
    with atomically(path) as file:
        _drawn(found).savefig(file, format="png")


def _drawn(found: Described) -> Figure:
    require("matplotlib", extra="plot", purpose="a plot")
    from matplotlib.figure import Figure

    levels = found.datapath.levels
    width = 1.2 + len(levels) * (_BOX + _GAP) + 0.9
    figure = Figure(figsize=(width, 3.4), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(-1.5, 1.9))
    axes.axis("off")
    axes.text(0.15, 1.75, found.datapath.name, va="top", weight="bold", size=10, color=_INK)
    title = fill(found.title, int(width * 14))
    axes.text(0.15, 1.5, title, va="top", size=8.5, color=_INK, parse_math=False)
    axes.text(
        0.15, 0, _operands(found), ha="left", va="center", size=8.5, color=_INK, linespacing=1.4
    )
    for index in range(len(levels)):
        _level(axes, found, index, 1.2 + index * (_BOX + _GAP))
    end = 1.2 + len(levels) * (_BOX + _GAP)
    _arrow(axes, end, end + 0.35)
    axes.text(end + 0.4, 0, "output", va="center", size=8.5, color=_INK)
    order = f"products {order_line(found.datapath)}"
    axes.text(0.15, -1.32, order, ha="left", va="center", size=7.5, color=_INK)
    return figure


def _operands(found: Described) -> str:
    return "products of\n" + operands_short(found.datapath).replace(" x ", "\nx ")


def _level(axes: Axes, found: Described, index: int, left: float) -> None:
    """A box at the right of the items that it sums."""
    from matplotlib.patches import FancyBboxPatch

    datapath, level = found.datapath, found.datapath.levels[index]
    colour = _SATURATE if level.overflow is Overflow.SATURATE else _WRAP
    start = left + _GAP
    box = FancyBboxPatch(
        (start, -_HALF),
        _BOX,
        2 * _HALF,
        boxstyle="round,pad=0,rounding_size=0.12",
        facecolor=(colour, 0.07),
        edgecolor=colour,
        linewidth=1.4,
    )
    axes.add_patch(box)
    _items(axes, _taken(found, index), left, start)
    middle = start + _BOX / 2
    sign = "" if level.signed else "unsigned, "
    axes.text(
        middle, 0.47, f"{level.bits} bits", ha="center", va="center", size=13, weight="bold",
        color=colour,
    )  # fmt: skip
    axes.text(
        middle, 0.16, f"{sign}{level.overflow}", ha="center", va="center", size=9.5, color=colour
    )
    lines = [_when(level, read=index > datapath.summing), safe_line(datapath, index)]
    axes.text(
        middle, -0.13, "\n".join(lines), ha="center", va="top", size=7.5, color=_INK,
        linespacing=1.45,
    )  # fmt: skip
    if found.what[index]:
        what = fill(found.what[index], 30, max_lines=3, placeholder=" ...")
        below: dict[str, Any] = {"ha": "center", "va": "top", "size": 7.5, "style": "italic"}
        axes.text(middle, -_HALF - 0.07, what, parse_math=False, **below)
    if index == datapath.summing:
        _bias(axes, datapath.bias, middle)


def _when(level: Accumulator, *, read: bool) -> str:
    if read:
        return "on reading"
    return "after each addition" if level.rail is Rail.STEP else "once, after an exact sum"


def _taken(found: Described, index: int) -> int | None:
    """How many items a level sums: of a read-out one, of the summing level all (None)."""
    datapath = found.datapath
    return 1 if index > datapath.summing else datapath.levels[index].terms


def _items(axes: Axes, terms: int | None, left: float, right: float) -> None:
    """The items of a group, each with a line to its register; their number above."""
    shown = min(terms or _MARKS, _MARKS)
    x = left + 0.25
    for place in range(shown):
        y = 0.0 if shown == 1 else 0.17 * (shown - 1 - 2 * place)
        if place == shown - 2 and (terms is None or terms > _MARKS):
            axes.text(x, y, "⋮", ha="center", va="center", size=11, color=_INK)
            continue
        axes.plot([x], [y], "s", color=_INK, markersize=4)
        _arrow(axes, x + 0.1, right, y, y * 0.5)
    if terms != 1:
        told = "all" if terms is None else f"{terms:,}"
        axes.text(x, 0.72, told, ha="center", va="center", size=9, weight="bold", color=_INK)


def _arrow(axes: Axes, left: float, right: float, y: float = 0.0, end: float = 0.0) -> None:
    axes.annotate(
        "",
        (right, end),
        (left, y),
        arrowprops={
            "arrowstyle": "->",
            "color": _FAINT,
            "linewidth": 1,
            "shrinkA": 0,
            "shrinkB": 0,
        },
    )


def _bias(axes: Axes, when: str, middle: float) -> None:
    """Where the bias enters, from above."""
    axes.annotate(
        f"bias {when}",
        (middle, _HALF),
        (middle, _HALF + 0.32),
        ha="center",
        va="center",
        size=8,
        color=_INK,
        arrowprops={"arrowstyle": "->", "color": _FAINT, "linewidth": 1},
    )
