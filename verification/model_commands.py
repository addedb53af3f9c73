"""The commands about model files: sweep, minimize; and what run and compare do with one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from accsim.files import write_arrays
from accsim.layer import IntLayer
from accsim.network import MatMul
from accsim.spec import MAX_BITS, Accumulator, Overflow
from verification import report, sweeping, tables
from verification.compare import compare_network
from verification.model_files import LABELS, load_data, load_model, others
from verification.network import comparison_json
from verification.options import (
    AsJson,
    Batch,
    ExternalData,
    Model,
    check_ending,
    check_new,
    print_json,
)
from verification.outputs import finite
from verification.plot import sweep_plot
from verification.progress import showing

__all__ = ["compare_model", "minimize", "run_model", "sweep"]

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
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help=f"Array of the classes in DATA; {LABELS} if it is there."
        ),
    ] = None,
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
    network = load_model(file, external_data)
    given = load_data(data, network, labels)
    content: report.Json = {
        "schema": "accsim.sweep/1",
        "name": file.name,
        "inputs": report.file_digest(data),
        "samples": given.samples,
        "labels": None if given.labels is None else labels or LABELS,
        "untraced": dict(network.untraced),
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
    rows, name = content["rows"], content["name"]
    if plot is not None:
        sweep_plot(plot, rows, name)
    if as_json:
        print_json(content)
        return
    console = Console()
    title = f"{name}, {content['samples']} inputs{'' if content['complete'] else ', interrupted'}"
    console.print(sweeping.sweep_table(title, rows, content["labels"]))
    for rule in rules:
        of_rule = [row for row in rows if row["overflow"] == rule]
        console.print(sweeping.overflows_table(f"sums that overflow, {rule}: % by width", of_rule))
    tables.print_lines(console, _untraced_lines(content["untraced"]))


def _untraced_lines(untraced: dict[str, str]) -> list[str]:
    return [f"{node}: not traced, and so in no register: {why}" for node, why in untraced.items()]


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
    from accsim.onnx import annotate

    registers = annotate(file, out, external_data=external_data)
    products: dict[str, IntLayer | MatMul] = {**network.layers, **network.matmuls}
    unbound = {name: why for name, why in others(network).items() if name not in registers}
    if as_json:
        found = {
            name: {"taps": products[name].taps, **report.accumulator_json(register)}
            for name, register in registers.items()
        }
        print_json({"schema": "accsim.minimize/1", "registers": found, "unbound": unbound})
        return
    console = Console()
    made = tables.table(f"{out.name}: the least registers", "node", "taps", "least bits")
    for name, register in registers.items():
        made.add_row(tables.named(name), str(products[name].taps), str(register.bits))
    console.print(made)
    tables.print_lines(console, [f"{name}: no register: {why}" for name, why in unbound.items()])


def run_model(
    file: Path,
    data: Path,
    accumulator: Accumulator,
    *,
    out: Path | None,
    external_data: Path | None,
    batch: int | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Run a model on data, and tell what overflowed; its outputs go to a file, if one is named."""
    network = load_model(file, external_data)
    given = load_data(data, network)
    with showing(Console(stderr=True), hidden=as_json) as told:
        found = network.run(
            given.inputs,
            accumulator,
            batch=batch,
            threads=threads,
            told=lambda done, of: told("running", done, of),
        )
    if out is not None:
        write_arrays(out, found.outputs)
    content = sweeping.overflows_json(found)
    if as_json:
        print_json(
            {
                "schema": "accsim.run/1",
                "accumulator": report.accumulator_json(accumulator),
                "layers": content,
                "untraced": dict(network.untraced),
                "outputs": {name: list(array.shape) for name, array in found.outputs.items()},
            }
        )
        return
    console = Console()
    made = tables.table(f"{file.name}, {accumulator}", "layer", "outputs", "overflowed", "steps")
    for name, figures in content.items():
        made.add_row(tables.named(name), *(str(value) for value in figures.values()))
    console.print(made)
    lines = [f"output {n}: {a.dtype} of shape {a.shape}" for n, a in found.outputs.items()]
    tables.print_lines(console, [*_untraced_lines(dict(network.untraced)), *lines])


def compare_model(
    file: Path,
    data: Path,
    first: Accumulator,
    second: Accumulator,
    *,
    external_data: Path | None,
    batch: int | None,
    as_json: bool,
) -> None:
    """Run a model with two registers, and tell where its layers and its outputs differ."""
    network = load_model(file, external_data)
    given = load_data(data, network)
    with showing(Console(stderr=True), hidden=as_json) as told:
        found = compare_network(
            network,
            given.inputs,
            first,
            second,
            batch=batch,
            told=lambda done, of: told("comparing", done, of),
        )
    content = comparison_json(found, first, second, samples=given.samples)
    content["largest"] = finite(found.largest)
    if as_json:
        print_json({"schema": "accsim.compare/1", **content})
        return
    console = Console()
    console.print(tables.comparison_table(f"{file.name}: {first}, and {second}", content["layers"]))
    changed = len(found.changed)
    said = f"outputs differ by at most {found.largest:.4g}, the class of {changed} inputs"
    tables.print_lines(console, [f"{said} of {given.samples}"])
