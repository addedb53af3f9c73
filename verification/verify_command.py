"""The command verify: proofs of layers in files, and what else is asked about them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from rich.console import Console

from accsim.datapath import Datapath
from accsim.errors import RangeError
from accsim.layer import IntLayer
from accsim.network import Network, Register
from accsim.padding import exact_extremes
from accsim.simulate import simulate
from accsim.spec import Overflow
from verification import report, tables
from verification.console import output
from verification.datapaths import register_of
from verification.decide import Verdict, decide
from verification.json_file import how_json
from verification.levels import level_ends
from verification.lowerings import lowerings, preloaded
from verification.model import model_report
from verification.model_files import is_model, load_data, load_model
from verification.options import (
    EXIT,
    AsJson,
    DatapathName,
    ExternalData,
    Layers,
    Page,
    Rule,
    Unsigned,
    check_new,
    each,
    load_inputs,
    load_layers,
    only_of_models,
    print_json,
)
from verification.page import write_page
from verification.progress import showing
from verification.reading import witnesses_of
from verification.registers import BitsFrom, OneWidth, asked_register, registers_for
from verification.sums import Ends, sums_of
from verification.witness_file import file_names, is_witness, save_witness

__all__ = ["verify"]

Layered = dict[str, IntLayer]


def verify(
    layers: Layers,
    bits: OneWidth = None,
    bits_from: BitsFrom = None,
    overflow: Rule = Overflow.WRAP,
    unsigned: Unsigned = False,
    datapath: DatapathName = None,
    inputs: Annotated[
        Path | None,
        typer.Option(metavar="INPUTS", help="Tell how far these go, too; they are as for run."),
    ] = None,
    external_data: ExternalData = None,
    zero_point: Annotated[
        int | None,
        typer.Option(help="Inputs are codes with this zero point, told in all three lowerings."),
    ] = None,
    lowering: Annotated[
        Literal["subtract", "outside", "preload"] | None,
        typer.Option(metavar="WHICH", help="subtract (if not given), outside or preload."),
    ] = None,
    preload: Annotated[
        bool,
        typer.Option("--preload", help="Start each register where all its sums fit, if anywhere."),
    ] = False,
    witnesses: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the witness of each refuted layer there."),
    ] = None,
    html: Page = None,
    as_json: AsJson = False,
) -> None:
    """Prove for every layer that no input overflows the register, or show one that does."""
    model = is_model(layers)
    _check_together(zero_point, lowering, preload, unsigned, datapath, inputs, html)
    register = asked_register(
        bits, datapath, overflow, unsigned=unsigned, bits_from=bits_from, model=model
    )
    if html is not None:
        check_new(html, "--html", {layers, *layers.glob("*"), inputs or layers}, external_data)
    if model:
        if zero_point is not None or preload:
            raise typer.BadParameter(
                "--zero-point and --preload are of layers in files: a model says itself where its"
                " registers start"
            )
        network = load_model(layers, external_data)
        registers = registers_for(network, register, overflow, to_run=False)
        content = _of_model(layers.name, network, registers, inputs, quiet=as_json)
    else:
        only_of_models({"--external-data": external_data})
        assert register is not None  # or bits would be missing
        content = _of_layers(layers, register, inputs, zero_point, lowering, preload, quiet=as_json)
    if witnesses is not None:
        _write_witnesses(witnesses, content["layers"], external_data)
    if html is not None:
        write_page(html, f"{layers.name}, {register or 'registers of its own'}", [content])
    if as_json:
        print_json(content)
    else:
        tables.print_report(output(), content)
    raise typer.Exit(EXIT[Verdict(content["verdict"])])


def _of_model(
    name: str,
    network: Network,
    registers: dict[str, Register],
    inputs: Path | None,
    *,
    quiet: bool,
) -> report.Json:
    """The report of a model."""
    data = None if inputs is None else load_data(inputs, network).inputs
    with showing(Console(stderr=True), hidden=quiet) as told:
        return model_report(
            name,
            network,
            registers,
            inputs=data,
            digest=None if inputs is None else report.file_digest(inputs),
            told=told,
        )


def _of_layers(
    layers: Path,
    accumulator: Register,
    inputs: Path | None,
    zero_point: int | None,
    lowering: str | None,
    preload: bool,
    *,
    quiet: bool,
) -> report.Json:
    """The report of layers in files."""
    stored = load_layers(layers)
    where = None if zero_point is None else lowering or "subtract"
    lowered = {}
    if zero_point is not None:
        lowered = each(stored, "", lambda _, layer: lowerings(layer, zero_point), quiet=True)
    loaded = {name: lowered[name][where] if where else layer for name, layer in stored.items()}
    arrays = {} if inputs is None else load_inputs(inputs, loaded)
    bits = register_of(accumulator).bits
    starts = {name: _started(layer, bits) for name, layer in loaded.items() if preload}
    reports = each(
        loaded,
        "verifying",
        lambda name, layer: decide(starts.get(name) or layer, accumulator),
        quiet=quiet,
    )
    return report.sealed(
        {
            "name": layers.name,
            **how_json(accumulator),
            "verdict": str(report.overall(reports)),
            "layers": report.layers_json(loaded, reports),
            "inputs": None if inputs is None else report.file_digest(inputs),
            "reached": _reached(loaded, arrays, accumulator, quiet=quiet),
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


def _check_together(
    zero_point: int | None,
    lowering: str | None,
    preload: bool,
    unsigned: bool,
    datapath: str | None,
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
    if preload and (unsigned or any(one is not None for one in (datapath, inputs, html))):
        raise typer.BadParameter(
            "--preload is for registers of both signs, and their proof alone: not with --unsigned,"
            " --datapath, --inputs or --html"
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
    accumulator: Register,
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
    register = register_of(accumulator)
    return {
        name: {
            "data": report.sums_json(
                sums_of(layers[name], run), register, int(np.count_nonzero(run.overflow_count))
            ),
            "proved": report.ends_json(_proved(layers[name], accumulator), register),
        }
        for name, run in runs.items()
        if run.output.size
    }


def _proved(layer: IntLayer, accumulator: Register) -> Ends:
    """How far the sums go that a run tells of: those of the register that adds up what is left."""
    if isinstance(accumulator, Datapath):
        return Ends(*level_ends(layer, accumulator, accumulator.summing))
    return Ends(*exact_extremes(layer))


def _write_witnesses(folder: Path, layers: report.Json, external_data: Path | None) -> None:
    """A file for each refuted layer; of the others, those of an earlier call are taken away."""
    paths = {name: folder / f"{file}.json" for name, file in file_names(layers).items()}
    for path in paths.values():
        check_new(path, "--witnesses", set(), external_data)
    folder.mkdir(parents=True, exist_ok=True)
    found = witnesses_of(layers)
    for name, path in paths.items():
        if name in found:
            save_witness(found[name], path)
        elif is_witness(path):
            path.unlink()
