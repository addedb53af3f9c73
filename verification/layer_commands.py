"""The commands about layers in files, but for verify: explain, run, compare, search."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from accsim.datapath import Datapath
from accsim.errors import ModelFileError
from accsim.files import write_arrays
from accsim.layer import IntLayer
from accsim.network import Network
from accsim.simulate import plan_for, simulate
from accsim.spec import Accumulator, Overflow
from verification import report, searching, tables
from verification.compare import compare_layer
from verification.console import output, show
from verification.decide import Verdict
from verification.json_file import how_json, one_json
from verification.model import products_json
from verification.model_files import check_products, is_model, load_model, others
from verification.model_runs import ModelRun, compare_model, run_model
from verification.options import (
    EXIT,
    AsJson,
    Batch,
    DatapathName,
    ExternalData,
    Inputs,
    Labels,
    Layers,
    Rule,
    Unsigned,
    check_ending,
    check_new,
    each,
    load_inputs,
    load_layers,
    only_of_models,
    print_json,
)
from verification.order import harm_line, worst_harm
from verification.plot import trajectory_plot
from verification.registers import BitsFrom, OneWidth, asked_register
from verification.witness_file import load_witness, witness_json

__all__ = ["compare", "explain", "run", "search"]


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
        check_ending(plot, "--plot", ".png")
        check_new(plot, "--plot", {witness})
        trajectory_plot(plot, found)
    if as_json:
        exact, register = found.trajectory()
        shown = {"exact_sums": exact, "registers": register}
        print_json({**witness_json(found), **shown, "worst_order": harm and asdict(harm)})
    else:
        show(output(), tables.witness_table(witness.name, found))
        print(found)  # noqa: T201
        if harm and harm.simulated != found.simulated:
            print(harm_line(harm))  # noqa: T201


def compare(
    layers: Layers,
    inputs: Inputs,
    bits: OneWidth = None,
    other_bits: Annotated[int | None, typer.Option(help="Width of the other register.")] = None,
    overflow: Rule = Overflow.WRAP,
    other_overflow: Annotated[
        Overflow, typer.Option(help="What the other register does on overflow.")
    ] = Overflow.WRAP,
    datapath: DatapathName = None,
    other_datapath: Annotated[
        str | None, typer.Option(metavar="NAME", help="Instead of the other register.")
    ] = None,
    external_data: ExternalData = None,
    batch: Batch = None,
    as_json: AsJson = False,
) -> None:
    """Run layers with two registers or datapaths, and tell where their outputs differ."""
    first = asked_register(bits, datapath, overflow)
    second = asked_register(other_bits, other_datapath, other_overflow, other="other-")
    assert first is not None  # only a model's annotations are none
    assert second is not None
    if is_model(layers):
        compare_model(
            layers, inputs, first, second, external_data=external_data, batch=batch, as_json=as_json
        )
        return
    only_of_models({"--external-data": external_data, "--batch": batch})
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
        registers = [one_json(register) for register in (first, second)]
        print_json({"schema": "accsim.compare/1", "registers": registers, "layers": content})
    else:
        title = f"{layers.name}: {first}, and {second}"
        show(output(), tables.comparison_table(title, content))


def run(
    layers: Layers,
    inputs: Inputs,
    bits: OneWidth = None,
    bits_from: BitsFrom = None,
    overflow: Rule = Overflow.WRAP,
    unsigned: Unsigned = False,
    datapath: DatapathName = None,
    out: Annotated[
        Path | None, typer.Option(help="Write every layer's outputs to this .npz file.")
    ] = None,
    show_plan: Annotated[
        bool, typer.Option("--plan", help="Print which kernels would run and why; run nothing.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(help="Threads; NUMBA_NUM_THREADS if not given.")
    ] = None,
    labels: Labels = None,
    external_data: ExternalData = None,
    batch: Batch = None,
    as_json: AsJson = False,
) -> None:
    """Simulate layers bit-exactly on given inputs, and count what overflows."""
    model = is_model(layers)
    accumulator = asked_register(
        bits, datapath, overflow, unsigned=unsigned, bits_from=bits_from, model=model
    )
    if out is not None:
        if show_plan:
            raise typer.BadParameter("--plan runs nothing: there is nothing to write to --out")
        check_ending(out, "--out", ".npz")
        check_new(out, "--out", {inputs, layers, *layers.glob("*")}, external_data)
    if model:
        if show_plan:
            raise typer.BadParameter("--plan is of layers in files: not of a model")
        how = ModelRun(accumulator, overflow, out, labels, external_data, batch, threads)
        run_model(layers, inputs, how, as_json=as_json)
        return
    only_of_models({"--labels": labels, "--external-data": external_data, "--batch": batch})
    assert accumulator is not None  # or bits would be missing
    loaded = load_layers(layers)
    arrays = load_inputs(inputs, loaded)
    if show_plan:
        if isinstance(accumulator, Datapath):
            raise typer.BadParameter("--plan is of --bits: not of a datapath")
        _print_plan(loaded, arrays, accumulator, as_json=as_json)
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
        content = report.run_json(runs)
        print_json({"schema": "accsim.run/1", **how_json(accumulator), "layers": content})
    else:
        show(output(), tables.run_table(f"{layers.name}, {accumulator}", runs))


def _print_plan(
    layers: dict[str, IntLayer],
    arrays: dict[str, object],
    accumulator: Accumulator,
    *,
    as_json: bool,
) -> None:
    """Which kernels would run, and why."""
    plans = each(
        layers,
        "planning",
        lambda name, layer: plan_for(layer, arrays[name], accumulator),
        quiet=as_json,
    )
    if as_json:
        print_json({"schema": "accsim.plan/1", "layers": report.plan_json(plans)})
    else:
        print("\n".join(f"{name}: {chosen}" for name, chosen in plans.items()))  # noqa: T201


def search(
    layers: Layers,
    bits: OneWidth = None,
    overflow: Rule = Overflow.WRAP,
    unsigned: Unsigned = False,
    datapath: DatapathName = None,
    examples: Annotated[int, typer.Option(help="Inputs to try, of each layer.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the inputs.")] = 0,
    external_data: ExternalData = None,
    as_json: AsJson = False,
) -> None:
    """Try inputs until one overflows the register. Finding none proves nothing: see verify."""
    accumulator = asked_register(bits, datapath, overflow, unsigned=unsigned)
    assert accumulator is not None  # only a model's annotations are none
    if is_model(layers):
        network = load_model(layers, external_data)
        _check_layers(layers.name, network)
        loaded, left_out = network.layers, others(network)
        more: report.Json = {
            "products": products_json(network),
            "untraced": dict(network.untraced),
        }
    else:
        only_of_models({"--external-data": external_data})
        loaded, left_out, more = load_layers(layers), {}, {}
    samples = searching.sample_layers(
        loaded, accumulator, examples=examples, seed=seed, quiet=as_json
    )
    found = any(sample.witness for sample in samples.values())
    if as_json:
        content = {**how_json(accumulator), "seed": seed}
        told = searching.sample_json(loaded, samples)
        name = {"schema": "accsim.search/1", "name": layers.name}
        print_json({**name, **content, "found": found, "layers": told, **more})
    else:
        console = output()
        title = f"{layers.name}, {accumulator}, seed {seed}"
        show(console, searching.sample_table(title, loaded, samples))
        lines = [f"{node}: not searched: {why}" for node, why in left_out.items()]
        tables.print_lines(console, [*searching.summary(samples), *lines])
    raise typer.Exit(EXIT[Verdict.REFUTED] if found else 0)


def _check_layers(name: str, network: Network) -> None:
    """Refuse a model in which there is nothing to search."""
    check_products(name, network)
    if not network.layers:
        node, why = next(iter(others(network).items()))
        raise ModelFileError(f"{name} has no layer to search: {node}: {why}")
