"""The command verify: proofs of layers in files, and what else is asked about them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from rich.console import Console

from accsim.errors import RangeError
from accsim.layer import IntLayer
from accsim.padding import exact_extremes
from accsim.simulate import simulate
from accsim.spec import Accumulator, Overflow
from verification import report, tables
from verification.decide import Report, decide
from verification.lowerings import lowerings, preloaded
from verification.options import (
    EXIT,
    AsJson,
    Bits,
    Layers,
    Page,
    Rule,
    Unsigned,
    check_new,
    each,
    load_inputs,
    load_layers,
    print_json,
)
from verification.page import write_page
from verification.sums import Ends, sums_of
from verification.witness_file import is_witness, save_witness

__all__ = ["verify"]

Layered = dict[str, IntLayer]


def verify(
    layers: Layers,
    bits: Bits,
    overflow: Rule = Overflow.WRAP,
    unsigned: Unsigned = False,
    inputs: Annotated[
        Path | None,
        typer.Option(metavar="INPUTS", help="Tell how far these go, too: integers, as for run."),
    ] = None,
    zero_point: Annotated[
        int | None,
        typer.Option(help="Inputs are codes with this zero point, told in all three lowerings."),
    ] = None,
    lowering: Annotated[
        Literal["subtract", "outside", "preload"] | None,
        typer.Option(help="Which of them is verified; subtract if not given."),
    ] = None,
    preload: Annotated[
        bool,
        typer.Option("--preload", help="Start each register where all its sums fit, if anywhere."),
    ] = False,
    witnesses: Annotated[
        Path | None, typer.Option(help="Write the witness of each refuted layer to this folder.")
    ] = None,
    html: Page = None,
    as_json: AsJson = False,
) -> None:
    """Prove for every layer that no input overflows the register, or show one that does."""
    accumulator = Accumulator(bits, overflow, signed=not unsigned)
    _check_together(zero_point, lowering, preload, unsigned, inputs, html)
    if html is not None:
        check_new(html, "--html", {layers, *layers.glob("*"), inputs or layers})
    stored = load_layers(layers)
    where = None if zero_point is None else lowering or "subtract"
    lowered = {}
    if zero_point is not None:
        lowered = each(stored, "", lambda _, layer: lowerings(layer, zero_point), quiet=True)
    loaded = {name: lowered[name][where] if where else layer for name, layer in stored.items()}
    arrays = {} if inputs is None else load_inputs(inputs, loaded)
    starts = {name: _started(layer, bits) for name, layer in loaded.items() if preload}
    reports = each(
        loaded,
        "verifying",
        lambda name, layer: decide(starts.get(name) or layer, accumulator),
        quiet=as_json,
    )
    content = report.sealed(
        {
            "name": layers.name,
            "accumulator": report.accumulator_json(accumulator),
            "verdict": str(report.overall(reports)),
            "layers": report.layers_json(loaded, reports),
            "inputs": None if inputs is None else report.file_digest(inputs),
            "reached": _reached(loaded, arrays, accumulator, quiet=as_json),
            "zero_point": zero_point,
            "lowering": where,
            "lowerings": {
                name: report.lowerings_json(forms, accumulator) for name, forms in lowered.items()
            },
            "preloads": {
                name: None if layer is None else np.asarray(layer.bias).tolist()
                for name, layer in starts.items()
            },
        }
    )
    if witnesses is not None:
        _write_witnesses(witnesses, reports)
    if html is not None:
        write_page(html, f"{layers.name}, {accumulator}", [content])
    if as_json:
        print_json(content)
    else:
        tables.print_report(Console(), content)
    raise typer.Exit(EXIT[report.overall(reports)])


def _check_together(
    zero_point: int | None,
    lowering: str | None,
    preload: bool,
    unsigned: bool,
    inputs: Path | None,
    html: Path | None,
) -> None:
    """Refuse options of verify that mean nothing together."""
    if zero_point is None and lowering is not None:
        raise typer.BadParameter("--lowering is of a zero point: only with --zero-point")
    if zero_point is not None and (preload or inputs is not None):
        raise typer.BadParameter(
            "--zero-point is for codes as they are stored: not with --preload or --inputs"
        )
    if preload and (unsigned or inputs is not None or html is not None):
        raise typer.BadParameter(
            "--preload is for registers of both signs, and their proof alone: not with --unsigned,"
            " --inputs or --html"
        )


def _started(layer: IntLayer, bits: int) -> IntLayer | None:
    """The layer whose registers start where all their sums fit, if there is such a start."""
    if layer.bias is not None:  # which says where they start
        return None
    try:
        return preloaded(layer, bits)
    except RangeError:  # no start has room
        return None


def _reached(
    layers: Layered,
    arrays: dict[str, object],
    accumulator: Accumulator,
    *,
    quiet: bool,
) -> report.Json:
    """By name, of the layers that have inputs: what these reach, beside what is proved."""
    runs = each(
        {name: layer for name, layer in layers.items() if name in arrays},
        "simulating",
        lambda name, layer: simulate(layer, arrays[name], accumulator),
        quiet=quiet,
    )
    return {
        name: {
            "data": report.sums_json(
                sums_of(layers[name], run), accumulator, int(np.count_nonzero(run.overflow_count))
            ),
            "proved": report.ends_json(Ends(*exact_extremes(layers[name])), accumulator),
        }
        for name, run in runs.items()
        if run.output.size
    }


def _write_witnesses(folder: Path, reports: dict[str, Report]) -> None:
    """A file for each refuted layer; of the others, those of an earlier call are taken away."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, found in reports.items():
        path = folder / f"{name}.json"
        if found.witness:
            save_witness(found.witness, path)
        elif is_witness(path):
            path.unlink()
