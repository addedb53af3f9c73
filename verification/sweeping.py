"""A network in registers of many widths: what its outputs become, and how much overflows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from accsim.layer import unheld_start
from accsim.network import Network, NetworkRun
from accsim.spec import Accumulator, Overflow
from verification.model import wide_register
from verification.model_files import Data
from verification.outputs import check_labels, classes, differences, finite
from verification.progress import Told
from verification.report import Json
from verification.tables import named, table

__all__ = ["overflows_json", "overflows_table", "proved_line", "sweep_rows", "sweep_table"]

Array = np.ndarray[Any, Any]
_FIGURES = ("accuracy", "same", "largest", "mean")


def sweep_rows(
    network: Network,
    data: Data,
    widths: Sequence[int],
    rules: Sequence[Overflow],
    *,
    batch: int | None = None,
    told: Told = lambda *_: None,
) -> Iterator[Json]:
    """A row for the wide result, whose `overflow` is null; then one for each width and rule.

    Each has the share of right classes if there are labels, the share of inputs whose largest
    output is at the place of the wide result's, and how far outputs are from those of the wide
    result. `unheld`: the layer whose bias its register cannot hold, so that nothing was run.

    Raises: as `Network.run`; ShapeError, RangeError for labels that are not a class for each row of
    the first output.
    """
    registers = [Accumulator(bits, rule) for bits in widths for rule in rules]
    total = (1 + len(registers)) * data.samples

    def run(register: Accumulator, place: int) -> NetworkRun:
        return network.run(
            data.inputs,
            register,
            batch=batch,
            told=lambda done, _: told(str(register), place * data.samples + done, total),
        )

    register = wide_register(network)
    wide = run(register, 0)
    if data.labels is not None:
        check_labels(data.labels, wide.outputs, data.samples)
    yield {"bits": register.bits, "overflow": None, **_figures(wide, wide, data)}
    for place, register in enumerate(registers, 1):
        row: Json = {"bits": register.bits, "overflow": str(register.overflow)}
        layer = next(
            (n for n, found in network.layers.items() if unheld_start(found, register)), None
        )
        if layer is None:
            yield row | _figures(run(register, place), wide, data)
        else:
            yield row | dict.fromkeys(_FIGURES) | {"unheld": layer, "overflows": {}}


def _figures(run: NetworkRun, wide: NetworkRun, data: Data) -> Json:
    """What one row tells of the outputs and of the registers."""
    found, apart = classes(run.outputs), differences(run.outputs, wide.outputs)
    return {
        "accuracy": None if data.labels is None else _share(found == data.labels),
        "same": _share(found == classes(wide.outputs)),
        "largest": finite(apart.max(initial=0.0)),
        "mean": finite(apart.mean()) if apart.size else 0.0,
        "unheld": None,
        "overflows": overflows_json(run),
    }


def _share(hits: Array) -> float:
    return float(hits.mean()) if hits.size else 0.0


def overflows_json(run: NetworkRun) -> Json:
    """By product: how many sums there were, in how many a step overflowed, and how many steps.

    Through a datapath also how many steps of each level.
    """
    return {
        name: {
            "outputs": sums,
            "overflowed_outputs": run.overflowed[name],
            "overflow_steps": run.overflows[name],
            **({"level_steps": list(run.levels[name])} if run.levels[name] else {}),
        }
        for name, sums in run.sums.items()
    }


def sweep_table(title: str, rows: Sequence[Json], labels: str | None) -> Table:
    """One row per register: accuracy or what the outputs lose, and how many sums overflow."""
    figures = ["accuracy %"] if labels else ["same class %", "largest", "mean"]
    made = table(title, "register", *figures, "sums that overflow %")
    made.caption = (
        f"{rows[0]['bits']} (wide): a register that no layer overflows; the others are measured"
        " against its result"
    )
    for row in rows:
        register = f"{row['bits']} {row['overflow'] or '(wide)'}"
        if row["unheld"] is not None:
            made.add_row(
                register, *[""] * len(figures), f"cannot hold the bias of {named(row['unheld'])}"
            )
            continue
        cells = (
            [_percent(row["accuracy"])]
            if labels
            else [_percent(row["same"]), _number(row["largest"]), _number(row["mean"])]
        )
        counts = row["overflows"].values()
        sums = sum(count["outputs"] for count in counts)
        over = sum(count["overflowed_outputs"] for count in counts)
        made.add_row(register, *cells, _percent(over / sums if sums else 0.0))
    return made


def proved_line(content: Json) -> str:
    """In words from which width nothing overflows, whatever the inputs."""
    if content["proved_from"] is not None:
        return f"proved for all inputs from {content['proved_from']} bits: no sum overflows there"
    for node in content["untraced"]:
        return f"proved from no width: {node} is not traced"
    name = next(one["name"] for one in content["products"] if one["least_bits"] is None)
    return f"proved from no width: {name} is a product of activations of unknown length"


def overflows_table(title: str, rows: Sequence[Json]) -> Table:
    """One row per product: in how many % of its sums a step overflows, by width."""
    shown = [row for row in rows if row["unheld"] is None]
    made = table(title, "layer", *(str(row["bits"]) for row in shown))
    for name in shown[0]["overflows"] if shown else ():
        counts = [row["overflows"][name] for row in shown]
        shares = (c["overflowed_outputs"] / c["outputs"] if c["outputs"] else 0.0 for c in counts)
        made.add_row(named(name), *map(_percent, shares))
    return made


def _percent(share: float) -> str:
    """To a tenth; 0 is none and 100 is all."""
    if 0 < share < 0.0005:
        return "<0.1"
    return ">99.9" if 0.9995 <= share < 1 else f"{100 * share:.1f}"


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"
