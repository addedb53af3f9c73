"""`accsim search`: every layer of a network searched, and what came of it as table and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from accsim.datapath import Datapath
from accsim.errors import AccsimError
from accsim.layer import IntLayer
from accsim.spec import Accumulator
from verification import report, tables
from verification.search import Sample, sample
from verification.witness_file import witness_json

__all__ = ["sample_json", "sample_layers", "sample_table", "summary"]


def sample_layers(
    layers: Mapping[str, IntLayer],
    accumulator: Accumulator | Datapath,
    *,
    examples: int,
    seed: int,
    quiet: bool,
) -> dict[str, Sample]:
    """`sample` for each layer, with a progress bar on a terminal; an error names its layer."""
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    samples = {}
    with Progress(console=console, transient=True, disable=hidden) as progress:
        for name, layer in layers.items():
            bar = progress.add_task(f"searching {tables.named(name)}", total=examples)
            told = partial(_advance, progress, bar)
            try:
                samples[name] = sample(layer, accumulator, examples=examples, seed=seed, told=told)
            except AccsimError as error:
                raise type(error)(f"{name}: {error}") from error
            progress.remove_task(bar)
    return samples


def _advance(progress: Progress, bar: TaskID, tried: int) -> None:
    progress.update(bar, completed=tried)


def sample_table(
    title: str, layers: Mapping[str, IntLayer], samples: Mapping[str, Sample]
) -> Table:
    """One row per layer: how many inputs were tried, and whether one of them overflows."""
    made = tables.table(title, "layer", "taps", "channels", "sampled", "found")
    for name, layer in layers.items():
        found = "nothing" if samples[name].witness is None else "[red]overflow[/]"
        figures = (layer.taps, layer.channels, samples[name].examples)
        made.add_row(tables.named(name), *map(str, figures), found)
    return made


def summary(samples: Mapping[str, Sample]) -> list[str]:
    """A line for each witness; without any, how much was tried, which proves nothing."""
    lines = [f"{name}: {found.witness}" for name, found in samples.items() if found.witness]
    tried = sum(found.examples for found in samples.values())
    return lines or [f"sampled {tried} examples, nothing found; accsim verify proves or refutes"]


def sample_json(layers: Mapping[str, IntLayer], samples: Mapping[str, Sample]) -> report.Json:
    """The same by layer name."""
    return {
        name: {
            "taps": layers[name].taps,
            "channels": layers[name].channels,
            "examples": found.examples,
            "witness": None if found.witness is None else witness_json(found.witness),
        }
        for name, found in samples.items()
    }
