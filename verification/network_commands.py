"""The commands about networks, and the benchmark: demo, train, report, bench."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from accsim import spec
from accsim.datapath import Datapath
from accsim.spec import Overflow
from verification import tables
from verification.console import output, show
from verification.decide import Verdict
from verification.options import (
    EXIT,
    AsJson,
    DatapathName,
    Page,
    Unsigned,
    check_new,
    print_json,
)
from verification.page import write_page
from verification.reading import read_reports
from verification.registers import asked_register

__all__ = ["bench", "demo", "report", "train"]


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("accsim-demo"),
    bits: Annotated[int, typer.Option(help="Register width to train A2Q+ for.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of weights, split and shuffling.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Little training, few images.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train digits to fit a narrow register, prove it, simulate it; beside a plain network."""
    from verification.demo import run_demo

    result = run_demo(
        out, bits=bits, seed=seed, quick=quick, console=output(quiet=as_json, highlight=False)
    )
    if as_json:
        print_json(result)


def train(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="A .toml file; docs/digits.toml is one.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of this run: new, or to go on in.")],
    with_report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Then attack the network, sweep its registers, and write report.html and .json.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train as a recipe says, and prove each layer. After Ctrl-C the same command goes on."""
    from verification import training

    try:
        content, verdict = training.train(recipe, out, with_report=with_report, quiet=as_json)
    except KeyboardInterrupt:
        print("accsim: interrupted; the same command goes on", file=sys.stderr)  # noqa: T201
        raise
    if as_json:
        print_json(content)
    else:
        training.print_result(content, out, output(highlight=False))
    raise typer.Exit(0 if verdict is None else EXIT[verdict])


def report(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="REPORT", help="A .json file: of verify --json, train --report or demo."
        ),
    ],
    html: Page = None,
    as_json: AsJson = False,
) -> None:
    """Show a report again: checked against its digest, its witnesses replayed."""
    if html is not None:
        check_new(html, "--html", {file})
    reports = read_reports(file)
    if html is not None:
        write_page(html, ", ".join(network["name"] for network in reports), reports)
    if as_json:
        print_json({"networks": {network["name"]: network for network in reports}})
    else:
        for network in reports:
            tables.print_report(output(), network)
    raise typer.Exit(max(EXIT[Verdict(network["verdict"])] for network in reports))


def bench(
    m: Annotated[int, typer.Option(help="Inputs.")] = 256,
    n: Annotated[int, typer.Option(help="Output channels.")] = 256,
    k: Annotated[int, typer.Option(help="Taps.")] = 1024,
    bits: Annotated[
        int | None, typer.Option(help="Width of the register, 2 to 62; 16 if not given.")
    ] = None,
    overflow: Annotated[
        Overflow | None,
        typer.Option(help="What the register does on overflow; saturate if not given."),
    ] = None,
    unsigned: Unsigned = False,
    datapath: DatapathName = None,
    weight_bits: Annotated[
        int | None,
        typer.Option(help="Width of the signed weights; 8, or the datapath's, if not given."),
    ] = None,
    input_bits: Annotated[
        int | None,
        typer.Option(help="Width of the inputs; 8, or the datapath's, if not given."),
    ] = None,
    unsigned_inputs: Annotated[
        bool, typer.Option("--unsigned-inputs", help="Inputs without negative values.")
    ] = False,
    threads: Annotated[int, typer.Option(help="Threads of the simulator.")] = 1,
    repeats: Annotated[int, typer.Option(help="Rounds, at least 7.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Check the simulator on random operands, then time it beside numpy."""
    from verification import bench as timing

    rule = overflow or (Overflow.SATURATE if datapath is None else Overflow.WRAP)
    width = 16 if bits is None and datapath is None else bits
    through = asked_register(width, datapath, rule, unsigned=unsigned)
    assert through is not None  # no model names registers here
    takes = through if isinstance(through, Datapath) else None
    weights = takes and takes.weights if weight_bits is None else None
    inputs = takes and takes.inputs if input_bits is None and not unsigned_inputs else None
    kind = spec.unsigned if unsigned_inputs else spec.signed
    setup = timing.Setup(
        m,
        n,
        k,
        through,
        weights or spec.signed(8 if weight_bits is None else weight_bits),
        inputs or kind(8 if input_bits is None else input_bits),
        threads,
        repeats,
    )
    with Console(stderr=True).status("checking, then timing"):  # shown on a terminal only
        content = timing.bench(setup)
    if as_json:
        print_json(content)
    else:
        show(output(), timing.bench_table(content))
