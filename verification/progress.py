"""How far a long job is, on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from verification.words import printable

__all__ = ["Told", "showing"]

Told = Callable[[str, int, int], object]  # what is being done, how much of it is done, of how much


@contextmanager
def showing(console: Console, *, hidden: bool) -> Iterator[Told]:
    """A bar on the console, where that is a terminal, of whatever is told meanwhile."""
    off = hidden or not console.is_terminal
    with Progress(console=console, transient=True, disable=off) as progress:
        bar = progress.add_task("", total=None)
        yield lambda doing, done, of: progress.update(
            bar, description=escape(printable(doing)), completed=done, total=of
        )
