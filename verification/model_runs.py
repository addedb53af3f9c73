"""What run and compare do with a model file: the whole network on data, in registers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from accsim.files import write_arrays
from accsim.network import Network, NetworkRun, Register
from accsim.spec import Accumulator, Overflow
from verification import report, sweeping, tables
from verification.compare import compare_network
from verification.console import output, show
from verification.json_file import how_json
from verification.model import products_json
from verification.model_files import LABELS, Data, check_products, load_data, load_model
from verification.network import comparison_json
from verification.options import print_json
from verification.outputs import check_labels, classes, finite
from verification.progress import showing
from verification.registers import registers_for
from verification.words import registers_of

__all__ = ["ModelRun", "compare_model", "run_model", "untraced_lines"]


class ModelRun(NamedTuple):
    """How a model is to be run: options of the command. `accumulator` None: as the file names."""

    accumulator: Register | None
    overflow: Overflow
    out: Path | None
    labels: str | None
    external_data: Path | None
    batch: int | None
    threads: int | None


def run_model(file: Path, data: Path, how: ModelRun, *, as_json: bool) -> None:
    """Run a model on data, and tell what overflowed; its outputs go to a file, if one is named."""
    network = load_model(file, how.external_data)
    check_products(file.name, network)
    given = load_data(data, network, how.labels)
    registers = registers_for(network, how.accumulator, how.overflow, to_run=True)
    with showing(Console(stderr=True), hidden=as_json) as told:
        found = network.run(
            given.inputs,
            registers,
            batch=how.batch,
            threads=how.threads,
            told=lambda done, of: told("running", done, of),
        )
    accuracy = _accuracy(found, given)
    if how.out is not None:
        write_arrays(how.out, found.outputs)
    content: report.Json = {
        "schema": "accsim.run/1",
        "name": file.name,
        **({"accumulator": None} if how.accumulator is None else how_json(how.accumulator)),
        "registers": {
            name: report.accumulator_json(own)
            for name, own in registers.items()
            if isinstance(own, Accumulator)
        },
        "layers": sweeping.overflows_json(found),
        "products": products_json(network),
        "untraced": dict(network.untraced),
        "samples": given.samples,
        "labels": None if given.labels is None else how.labels or LABELS,
        "accuracy": accuracy,
        "outputs": {name: list(array.shape) for name, array in found.outputs.items()},
    }
    if as_json:
        print_json(content)
    else:
        _print_run(content, registers, found)


def _accuracy(found: NetworkRun, given: Data) -> float | None:
    """The share of inputs whose largest output is at the label, if there are labels."""
    if given.labels is None:
        return None
    check_labels(given.labels, found.outputs, given.samples)
    return float(np.mean(classes(found.outputs) == given.labels))


def _print_run(content: report.Json, registers: Mapping[str, Register], found: NetworkRun) -> None:
    """What overflowed as a table, and a line for each output."""
    own = len(set(registers.values())) > 1
    levels = any(found.levels.values())
    columns = ["layer", *(["register"] if own else []), "outputs", "overflowed", "steps"]
    columns += ["by level"] if levels else []
    if "datapath" in content:
        said = str(next(iter(registers.values())))
    else:
        said = registers_of({"accumulator": one} for one in content["registers"].values())
    made = tables.table(f"{content['name']}, {said}", *columns)
    for name, figures in content["layers"].items():
        cells = [str(registers[name])] if own else []
        made.add_row(tables.named(name), *cells, *tables.cells(figures))
    made.caption = (
        "outputs: sums; overflowed: in how many a step overflowed; steps: how many steps did"
        + (", of each level from the inner" if levels else "")
    )
    console = output()
    show(console, made)
    lines = untraced_lines(content["untraced"])
    lines += [f"output {n}: {a.dtype} of shape {a.shape}" for n, a in found.outputs.items()]
    if content["accuracy"] is not None:
        lines.append(f"accuracy {100 * content['accuracy']:.1f} % of {content['samples']} inputs")
    tables.print_lines(console, lines)


def untraced_lines(untraced: Mapping[str, str]) -> list[str]:
    """A line for each node that is in no register."""
    return [f"{node}: not traced, and so in no register: {why}" for node, why in untraced.items()]


def compare_model(
    file: Path,
    data: Path,
    first: Register,
    second: Register,
    *,
    external_data: Path | None,
    batch: int | None,
    as_json: bool,
) -> None:
    """Run a model with two registers, and tell where its layers and its outputs differ."""
    network = load_model(file, external_data)
    check_products(file.name, network)
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
    content |= {"products": products_json(network), "untraced": dict(network.untraced)}
    if as_json:
        print_json({"schema": "accsim.compare/1", "name": file.name, **content})
        return
    console = output()
    title = f"{file.name}: {first}, and {second}"
    show(console, tables.comparison_table(title, content["layers"]))
    said = (
        f"outputs differ by at most {found.largest:.4g}, the class of {len(found.changed)} inputs"
    )
    tables.print_lines(console, [*_uncompared(network), f"{said} of {given.samples}"])


def _uncompared(network: Network) -> list[str]:
    """A line for each product of which only the end of the network tells."""
    why = "a product of activations, run in both registers, but not compared by itself"
    lines = [f"{name}: {why}" for name in network.matmuls]
    return lines + untraced_lines(network.untraced)
