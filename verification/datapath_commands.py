"""The commands about datapaths: the named ones as a list, one of them as a tree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from accsim.datapaths import CHECKS, Described, describe, names
from verification import tables
from verification.console import output, show
from verification.datapath_words import (
    described_json,
    level_line,
    levels_short,
    operands_short,
    order_line,
    safe_line,
)
from verification.options import AsJson, check_ending, check_new, print_json

__all__ = ["datapaths"]

MOST_DRAWN = 16  # levels of a picture

datapaths = typer.Typer(help="Datapaths of real hardware: list them, or show one.")


@datapaths.callback(invoke_without_command=True)
def listing(context: typer.Context, as_json: AsJson = False) -> None:
    """List the named datapaths: their levels, operands, and how each was checked."""
    if context.invoked_subcommand is not None:
        return
    found = {name: describe(name) for name in names()}
    if as_json:
        content = {name: described_json(one) for name, one in found.items()}
        print_json({"schema": "accsim.datapaths/1", "checks": CHECKS, "datapaths": content})
        return
    console = output()
    show(console, _table(found))
    lines = [f"{kind}: {said}" for kind, said in CHECKS.items() if kind != "none"]
    tables.print_lines(console, [*lines, "accsim datapaths show NAME draws one"])


def _table(found: dict[str, Described]) -> Table:
    """One row per datapath."""
    made = tables.table(f"{len(found)} datapaths", "name", "levels", "inputs x weights", "checked")
    for column in made.columns[1:]:
        column.justify = "left"
    made.caption = (
        "levels, inner to outer: rule and bits of the register / how many items it sums, the last"
        " all that is left"
    )
    for name, one in found.items():
        made.add_row(
            name, levels_short(one.datapath), tables.named(operands_short(one.datapath)), one.check
        )
    return made


@datapaths.command("show")
def one(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A named datapath, or a .toml file of your own.")
    ],
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the tree into this .png file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a datapath as a tree: which register sums what, and when it overflows."""
    found = describe(name)
    if plot is not None:
        from verification.datapath_plot import datapath_plot

        check_ending(plot, "--plot", ".png")
        if len(found.datapath.levels) > MOST_DRAWN:
            raise typer.BadParameter(f"--plot draws at most {MOST_DRAWN} levels")
        check_new(plot, "--plot", {Path(name)})
        datapath_plot(plot, found)
    if as_json:
        print_json({"schema": "accsim.datapath/1", **described_json(found)})
        return
    console = output(highlight=False)
    console.print(Text(f"{found.datapath.name}: {found.title}", style="bold"), soft_wrap=True)
    console.print(_tree(found), soft_wrap=True)
    notes = found.notes.splitlines()
    how = f"checked: {found.check}" + (f", {found.checked}" if found.checked else "")
    tables.print_lines(console, ["", *notes, f"source: {found.datapath.source}", how])


def _tree(found: Described) -> Tree:
    """Registers, the last at the root, down to the products."""
    datapath = found.datapath
    tree = Tree(Text("output"))
    at = tree
    for index in reversed(range(len(datapath.levels))):
        said = [level_line(found, index), safe_line(datapath, index)]
        at = at.add(Text("; ".join(filter(None, said))))
    at.add(Text(f"products of {operands_short(datapath)}, {order_line(datapath)}"))
    return tree
