"""Standard output, for people: every console for it is made here, and every table printed."""

from __future__ import annotations

from copy import copy

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

__all__ = ["output", "show"]

_UNBOUNDED = 100_000  # letters, of a line where there is no terminal to fit
_NAMES = 20  # letters that a column of names may be folded to


def output(*, quiet: bool = False, highlight: bool = True) -> Console:
    """A console for standard output: as wide as the terminal, or without one as wide as it takes.

    What reads a pipe or a file reads lines, and those are never wrapped or cut.
    """
    console = Console(quiet=quiet, highlight=highlight, emoji=False)
    if not console.file.isatty():
        console.width = _UNBOUNDED
    return console


def show(console: Console, made: Table) -> None:
    """Print a table, its title before it and its caption after it; without rows the title alone.

    Names are folded where the terminal is narrow; figures and verdicts never are, nor cut: a
    terminal that is narrower than those wraps the lines itself.
    """
    if made.title:
        console.print(made.title, style="bold", highlight=False, soft_wrap=True)
    if not made.rows:
        return
    bare = copy(made)
    bare.title = bare.caption = None
    there = console.width
    console.width = max(there, _least_width(console, bare))
    console.print(bare)
    console.width = there
    if made.caption:
        console.print(made.caption, style="dim italic", highlight=False, soft_wrap=True)


def _least_width(console: Console, made: Table) -> int:
    """Of a table with its names folded as far as they may be, and all else whole."""
    options = console.options.update(width=_UNBOUNDED)
    names = made.columns[0]
    longest = max(
        cell_len(Text.from_markup(str(cell)).plain) for cell in [names.header, *names.cells]
    )
    return Measurement.get(console, options, made).maximum - max(0, longest - _NAMES)
