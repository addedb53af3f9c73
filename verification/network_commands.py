"""The commands about networks, and the benchmark: demo, train, report, bench."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from accsim import spec
from accsim.spec import Accumulator, Overflow
from verification import tables
from verification.console import output, show
from verification.decide import Verdict
from verification.options import EXIT, AsJson, Bits, Page, Rule, Unsigned, check_new, print_json
from verification.page import write_page
from verification.reading import read_reports

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
    bits: Bits = 16,
    overflow: Rule = Overflow.SATURATE,
    unsigned: Unsigned = False,
    weight_bits: Annotated[int, typer.Option(help="Width of the signed weights.")] = 8,
    input_bits: Annotated[int, typer.Option(help="Width of the inputs.")] = 8,
    unsigned_inputs: Annotated[
        bool, typer.Option("--unsigned-inputs", help="Inputs without negative values.")
    ] = False,
    threads: Annotated[int, typer.Option(help="Threads of the simulator.")] = 1,
    repeats: Annotated[int, typer.Option(help="Rounds, at least 7.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Check the simulator on random operands, then time it beside numpy."""
    from verification import bench as timing

    inputs = spec.unsigned(input_bits) if unsigned_inputs else spec.signed(input_bits)
    register = Accumulator(bits, overflow, signed=not unsigned)
    setup = timing.Setup(m, n, k, register, spec.signed(weight_bits), inputs, threads, repeats)
    with Console(stderr=True).status("checking, then timing"):  # shown on a terminal only
        content = timing.bench(setup)
    if as_json:
        print_json(content)
    else:
        show(output(), timing.bench_table(content))
