"""The commands about layers in files: verify, explain, run, compare, search."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from rich.console import Console

from accsim.files import write_arrays
from accsim.layer import IntLayer
from accsim.simulate import plan_for, simulate
from accsim.spec import Accumulator, Overflow
from verification import report, searching, tables
from verification.compare import compare_layer
from verification.decide import Verdict, decide
from verification.lowerings import lowerings, preloaded
from verification.options import (
    EXIT,
    AsJson,
    Bits,
    Inputs,
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
from verification.order import worst_harm
from verification.padding import exact_extremes
from verification.page import write_page
from verification.plot import trajectory_plot
from verification.sums import Ends, sums_of
from verification.widths import widths
from verification.witness_file import load_witness, save_witness, witness_json

__all__ = ["compare", "explain", "run", "search", "verify"]


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
    stored = load_layers(layers)
    _check_together(zero_point, lowering, preload, unsigned, inputs, html)
    if html is not None:
        check_new(html, "--html", {layers, *layers.glob("*"), inputs or layers})
    loaded = stored
    if zero_point is not None:
        where = lowering or "subtract"
        loaded = each(stored, "", lambda _, layer: lowerings(layer, zero_point)[where], quiet=True)
    started = (
        each(loaded, "", lambda _, layer: _started(layer, bits), quiet=True) if preload else {}
    )
    arrays = {} if inputs is None else load_inputs(inputs, loaded)
    reports = each(
        loaded,
        "verifying",
        lambda name, layer: decide(started.get(name) or layer, accumulator),
        quiet=as_json,
    )
    verdict = report.overall(reports)
    content = report.sealed(
        {
            "name": layers.name,
            "accumulator": report.accumulator_json(accumulator),
            "verdict": str(verdict),
            "layers": report.layers_json(loaded, reports),
            "inputs": None if inputs is None else report.file_digest(inputs),
            "reached": _reached(loaded, arrays, accumulator, quiet=as_json),
            "zero_point": zero_point,
            "lowering": None if zero_point is None else lowering or "subtract",
            "lowerings": {
                name: report.lowerings_json(layer, zero_point, accumulator)
                for name, layer in stored.items()
                if zero_point is not None
            },
            "preloads": {
                name: None if layer is None else np.asarray(layer.bias).tolist()
                for name, layer in started.items()
            },
        }
    )
    if witnesses is not None:
        witnesses.mkdir(parents=True, exist_ok=True)
        for name, found in reports.items():
            path = witnesses / f"{name}.json"
            path.unlink(missing_ok=True)  # of another register, perhaps, in which it was refuted
            if found.witness:
                save_witness(found.witness, path)
    if html is not None:
        write_page(html, f"{layers.name}, {accumulator}", [content])
    if as_json:
        print_json(content)
    else:
        tables.print_report(Console(), content)
    raise typer.Exit(EXIT[verdict])


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
    needed = widths(layer).preloaded  # None for a layer whose bias says where it starts
    fits = needed is not None and int(needed.max()) <= bits
    return preloaded(layer, bits) if fits else None


def _reached(
    layers: dict[str, IntLayer],
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


def explain(
    witness: Annotated[
        Path, typer.Argument(metavar="WITNESS", help="A file of verify --witnesses.")
    ],
    plot: Annotated[
        Path | None, typer.Option(help="Draw sum and register over the steps into this .png file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replay a witness: the register step by step around the one that overflows."""
    found = load_witness(witness)
    harm = worst_harm(found)
    if plot is not None:
        if plot.suffix.lower() != ".png":
            raise typer.BadParameter(f"--plot must be a .png file, not {plot}")
        check_new(plot, "--plot", {witness})
        trajectory_plot(plot, found)
    if as_json:
        exact, register = found.trajectory()
        shown = {"exact_sums": exact, "registers": register}
        print_json({**witness_json(found), **shown, "worst_order": harm and asdict(harm)})
    else:
        Console().print(tables.witness_table(witness.name, found))
        print(found)  # noqa: T201
        if harm and harm.simulated != found.simulated:
            print(f"in its worst order the register ends at {harm.simulated}")  # noqa: T201


def compare(
    layers: Layers,
    inputs: Inputs,
    bits: Bits,
    other_bits: Annotated[int, typer.Option(help="Width of the other register.")],
    overflow: Rule = Overflow.WRAP,
    other_overflow: Annotated[
        Overflow, typer.Option(help="What the other register does on overflow.")
    ] = Overflow.WRAP,
    as_json: AsJson = False,
) -> None:
    """Run layers with two registers, and tell where their outputs differ."""
    first, second = Accumulator(bits, overflow), Accumulator(other_bits, other_overflow)
    loaded = load_layers(layers)
    arrays = load_inputs(inputs, loaded)
    found = each(
        loaded,
        "comparing",
        lambda name, layer: compare_layer(layer, arrays[name], first, second),
        quiet=as_json,
    )
    content = {name: report.difference_json(difference) for name, difference in found.items()}
    if as_json:
        registers = [report.accumulator_json(register) for register in (first, second)]
        print_json({"schema": "accsim.compare/1", "registers": registers, "layers": content})
    else:
        title = f"{layers.name}: {first}, and {second}"
        Console().print(tables.comparison_table(title, content))


def run(
    layers: Layers,
    inputs: Inputs,
    bits: Bits,
    overflow: Rule = Overflow.WRAP,
    unsigned: Unsigned = False,
    out: Annotated[
        Path | None, typer.Option(help="Write every layer's outputs to this .npz file.")
    ] = None,
    show_plan: Annotated[
        bool, typer.Option("--plan", help="Print which kernels would run and why; run nothing.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(help="Threads; NUMBA_NUM_THREADS if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate layers bit-exactly on given inputs, and count what overflows."""
    accumulator = Accumulator(bits, overflow, signed=not unsigned)
    if out is not None:
        _check_out(out, show_plan, {inputs, layers, *layers.glob("*")})
    loaded = load_layers(layers)
    arrays = load_inputs(inputs, loaded)
    if show_plan:
        plans = each(
            loaded,
            "planning",
            lambda name, layer: plan_for(layer, arrays[name], accumulator),
            quiet=as_json,
        )
        if as_json:
            print_json({"schema": "accsim.plan/1", "layers": report.plan_json(plans)})
        else:
            print("\n".join(f"{name}: {chosen}" for name, chosen in plans.items()))  # noqa: T201
        return
    runs = each(
        loaded,
        "simulating",
        lambda name, layer: simulate(layer, arrays[name], accumulator, threads=threads),
        quiet=as_json,
    )
    if out is not None:
        write_arrays(out, {name: result.output for name, result in runs.items()})
    if as_json:
        print_json(
            {
                "schema": "accsim.run/1",
                "accumulator": report.accumulator_json(accumulator),
                "layers": report.run_json(runs),
            }
        )
    else:
        Console().print(tables.run_table(f"{layers.name}, {accumulator}", runs))


def search(
    layers: Layers,
    bits: Bits,
    overflow: Rule = Overflow.WRAP,
    unsigned: Unsigned = False,
    examples: Annotated[int, typer.Option(help="Inputs to try, of each layer.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the inputs.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Try inputs until one overflows the register. Finding none proves nothing: see verify."""
    accumulator = Accumulator(bits, overflow, signed=not unsigned)
    loaded = load_layers(layers)
    samples = searching.sample_layers(
        loaded, accumulator, examples=examples, seed=seed, quiet=as_json
    )
    found = any(sample.witness for sample in samples.values())
    if as_json:
        print_json(
            {
                "schema": "accsim.search/1",
                "accumulator": report.accumulator_json(accumulator),
                "seed": seed,
                "found": found,
                "layers": searching.sample_json(loaded, samples),
            }
        )
    else:
        console = Console()
        title = f"{layers.name}, {accumulator}, seed {seed}"
        console.print(searching.sample_table(title, loaded, samples))
        for line in searching.summary(samples):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(EXIT[Verdict.REFUTED] if found else 0)


def _check_out(out: Path, show_plan: bool, read: set[Path]) -> None:
    """Refuse results that would be lost, or that would take the place of what is read."""
    if show_plan:
        raise typer.BadParameter("--plan runs nothing: there is nothing to write to --out")
    if out.suffix.lower() != ".npz":
        raise typer.BadParameter(f"--out must be an .npz file, not {out}")
    check_new(out, "--out", read)
