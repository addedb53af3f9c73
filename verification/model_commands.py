"""The commands about model files: sweep, minimize."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from accsim.layer import IntLayer
from accsim.network import MatMul
from accsim.spec import MAX_BITS, Overflow
from verification import report, sweeping, tables
from verification.console import output, show
from verification.model import products_json, proved_from
from verification.model_files import LABELS, check_products, load_data, load_model
from verification.model_runs import untraced_lines
from verification.options import (
    AsJson,
    Batch,
    ExternalData,
    Labels,
    Model,
    check_ending,
    check_new,
    print_json,
)
from verification.plot import check_drawable, sweep_plot
from verification.progress import showing

__all__ = ["minimize", "sweep"]

NetworkData = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="Inputs: a .npy file, or an .npz with each under its name, or the only one under x.",
    ),
]
_WIDTHS = re.compile(r"([0-9]{1,3}):([0-9]{1,3})|[0-9]{1,3}(?:,[0-9]{1,3})*")


def sweep(
    file: Model,
    data: NetworkData,
    bits: Annotated[
        str, typer.Option(metavar="WIDTHS", help="From 8 to 20 bits: 8:20; or each: 8,10,16.")
    ],
    overflow: Annotated[
        str, typer.Option(metavar="RULES", help="wrap, saturate or both.")
    ] = "wrap,saturate",
    labels: Labels = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it into this .png file.")
    ] = None,
    external_data: ExternalData = None,
    batch: Batch = None,
    as_json: AsJson = False,
) -> None:
    """Run a model in registers of many widths. After Ctrl-C what is done is told."""
    widths, rules = _widths(bits), _rules(overflow)
    if plot is not None:
        check_ending(plot, "--plot", ".png")
        check_new(plot, "--plot", {file, data}, external_data)
        check_drawable(plot)
    network = load_model(file, external_data)
    check_products(file.name, network)
    given = load_data(data, network, labels)
    content: report.Json = {
        "schema": "accsim.sweep/1",
        "name": file.name,
        "inputs": report.file_digest(data),
        "samples": given.samples,
        "labels": None if given.labels is None else labels or LABELS,
        "products": products_json(network),
        "untraced": dict(network.untraced),
        "proved_from": proved_from(network),
        "complete": False,
        "rows": [],
    }
    try:
        with showing(Console(stderr=True), hidden=as_json) as told:
            rows = sweeping.sweep_rows(network, given, widths, rules, batch=batch, told=told)
            content["rows"].extend(rows)
        content["complete"] = True
    finally:
        if content["rows"]:
            _show_sweep(content, rules, plot, as_json=as_json)


def _show_sweep(
    content: report.Json, rules: list[Overflow], plot: Path | None, *, as_json: bool
) -> None:
    """The rows that are done, as tables, or JSON; and as a picture."""
    if as_json:
        print_json(content)
    else:
        _print_sweep(content, rules)
    if plot is not None and not sweep_plot(plot, content):
        print(f"accsim: no width was run: nothing to draw in {plot.name}", file=sys.stderr)  # noqa: T201


def _print_sweep(content: report.Json, rules: list[Overflow]) -> None:
    rows, name, console = content["rows"], content["name"], output()
    title = f"{name}, {content['samples']} inputs{'' if content['complete'] else ', interrupted'}"
    made = sweeping.sweep_table(title, rows, content["labels"])
    made.caption = f"{made.caption}\n{tables.named(sweeping.proved_line(content))}"
    show(console, made)
    console.print()
    for rule in rules:
        of_rule = [row for row in rows if row["overflow"] == rule]
        title = f"sums that overflow, {rule}: % by width"
        if any(row["unheld"] is None for row in of_rule):
            show(console, sweeping.overflows_table(title, of_rule))
    tables.print_lines(console, untraced_lines(content["untraced"]))


def _widths(text: str) -> list[int]:
    """Register widths, each once and in order: from a range that has both ends, or a list."""
    found = _WIDTHS.fullmatch(text)
    widths: list[int] = []
    if found and found[1]:
        widths = list(range(int(found[1]), int(found[2]) + 1))
    elif found:
        widths = sorted({int(part) for part in text.split(",")})
    if not widths or widths[0] < 2 or widths[-1] > MAX_BITS:
        raise typer.BadParameter(
            f"--bits must be widths from 2 to {MAX_BITS}, as 8:20 or 8,10,16, not {text}"
        )
    return widths


def _rules(text: str) -> list[Overflow]:
    """Overflow rules, each once and in the order of the definition."""
    words = text.split(",")
    if unknown := [word for word in words if word not in set(map(str, Overflow))]:
        raise typer.BadParameter(
            f"--overflow must be wrap, saturate or wrap,saturate, not {unknown[0]!r}"
        )
    return [rule for rule in Overflow if str(rule) in words]


def minimize(
    file: Model,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", help="The annotated model is written here."),
    ],
    external_data: ExternalData = None,
    as_json: AsJson = False,
) -> None:
    """Write a model with the least register of each product that no input overflows."""
    check_ending(out, "--out", ".onnx")
    check_new(out, "--out", {file}, external_data)
    network = load_model(file, external_data)
    check_products(file.name, network)
    from accsim.onnx import annotate

    registers = annotate(file, out, external_data=external_data)
    products: dict[str, IntLayer | MatMul] = {**network.layers, **network.matmuls}
    found: report.Json = {
        name: {
            "taps": products[name].taps,
            **report.accumulator_json(register),
            "by_types": name in network.matmuls,
        }
        for name, register in registers.items()
    }
    content: report.Json = {
        "schema": "accsim.minimize/1",
        "name": file.name,
        "registers": found,
        "products": products_json(network),
        "untraced": dict(network.untraced),
    }
    if as_json:
        print_json(content)
    else:
        _print_registers(out.name, content)


def _print_registers(name: str, content: report.Json) -> None:
    """The registers as a table, and a line for each product without one."""
    found = content["registers"]
    by_types = any(register["by_types"] for register in found.values())
    made = tables.table(
        f"{name}: the least registers", "node", "taps", "least bits", *([""] if by_types else [])
    )
    for node, register in found.items():
        cells = [str(register["taps"]), str(register["bits"])]
        cells += [("by types" if register["by_types"] else "")] if by_types else []
        made.add_row(tables.named(node), *cells)
    if by_types:
        made.caption = "by types: a product of activations, bounded by their types and its length"
    console = output()
    show(console, made)
    why = "a product of activations of unknown length"
    unbound = {one["name"]: why for one in content["products"] if one["name"] not in found}
    unbound |= content["untraced"]
    tables.print_lines(console, [f"{node}: no register: {why}" for node, why in unbound.items()])
