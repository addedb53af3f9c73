"""Results as tables for people: each drawn from the same plain values that machines are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from accsim.simulate import Run
from accsim.spec import Overflow
from verification.console import show
from verification.datapaths import places_of
from verification.reading import witnesses_of
from verification.report import Json, run_json
from verification.witness import Witness
from verification.words import (
    how_lowered,
    kinds_of,
    percent,
    printable,
    product_line,
    rails_line,
    rails_word,
    register_word,
    registers_of,
    remarks_of,
    start_line,
)

__all__ = [
    "cells",
    "comparison_table",
    "levels_table",
    "lowerings_table",
    "named",
    "print_lines",
    "print_report",
    "reached_table",
    "run_table",
    "sweep_table",
    "table",
    "verdict_table",
    "witness_table",
]

_STYLE = {"proved": "green", "refuted": "red", "undecided": "yellow"}
_AROUND = 3  # steps shown before and after the one that overflows
_MANY = 6  # channels or samples that are named


def table(title: str, *columns: str) -> Table:
    """An empty table: the first column to the left, figures to the right."""
    made = Table(
        title=named(title),
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for index, column in enumerate(columns):
        made.add_column(column, justify="right" if index else "left", no_wrap=index > 0)
    made.columns[0].overflow = "fold"  # names are never cut off
    return made


def print_report(console: Console, report: Json) -> None:
    """All that a report has, as tables; and a line for each witness, which is replayed.

    Raises: ReportError for a witness that does not replay.
    """
    name, layers, products = report["name"], report["layers"], report.get("products", [])
    witnesses = witnesses_of(layers)
    registers = registers_of([*layers.values(), *products])
    show(console, verdict_table(f"{name}, {registers}{how_lowered(report)}", layers, products))
    if any(layer.get("levels") for layer in layers.values()):
        show(console, levels_table(f"{name}: each level", layers))
    lines = remarks_of(layers)
    for layer, starts in (report.get("preloads") or {}).items():
        start = "no start" if starts is None else f"started from {min(starts)} to {max(starts)}"
        lines.append(f"{layer}: {start}")
    lines += [product_line(product) for product in products]
    lines += [f"{node}: not traced: {why}" for node, why in report.get("untraced", {}).items()]
    if unbound := report.get("unbound"):
        lines.append(f"without a register of their own: {', '.join(unbound)}")
    print_lines(console, lines)
    if reached := report.get("reached"):
        show(console, reached_table(f"{name}: how far the sums go", layers, reached))
        print_lines(console, [f"{name}: {rails_line(reached)}", ""])
    if found := report.get("lowerings"):
        title = f"{name}: zero point {report['zero_point']} in each lowering"
        show(console, lowerings_table(title, found))
    if rows := report.get("sweep"):
        show(console, sweep_table(f"{name}: accuracy in %", {name: rows}))
    if found := report.get("comparison"):
        title = f"{name}: {found['first']}, and {found['second']}, on the same codes"
        show(console, comparison_table(title, found["layers"]))
    starts = {layer: start_line(found) for layer, found in layers.items() if "start" in found}
    print_lines(console, [f"{layer}: {said}" for layer, said in {**witnesses, **starts}.items()])


def print_lines(console: Console, lines: list[str]) -> None:
    """Each on a line of its own, whatever names are in it."""
    for line in lines:
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def named(name: str) -> str:
    """A name as a cell of a table."""
    return escape(printable(name))


def verdict_table(title: str, layers: Json, products: Iterable[Json] = ()) -> Table:
    """One row per layer: what its types ask, what A2Q's bound asks, what is needed; the verdict.

    "preload" is for registers that start where they like, "run" how many taps a register takes
    before it must be emptied. Where not all layers and products of activations are in the same
    register, each layer's own is told instead.
    """
    parts = [*layers.values(), *products]
    own = len({register_word(part) for part in parts if part["accumulator"]}) > 1
    columns = ("types", "A2Q", "least", "register" if own else "preload", "run", "verdict")
    made = table(title, "layer", "taps", "input", "weight", *columns)
    place = "" if own else " preload: from the best start;"
    made.caption = (
        f"least: bits that no input overflows;{place}\n"
        "types, A2Q: bits that these bounds ask;\n"
        "run: so many taps never overflow an empty register"
    )
    for name, layer in layers.items():
        bits = [layer[key] for key in ("data_type_bits", "l1_bits", "least_bits")]
        bits += [_width(layer) if own else layer["preloaded_bits"], layer["fold_interval"]]
        cells = [layer["taps"], layer["input"], layer["weight"], *bits]
        shown = ("" if cell is None else escape(str(cell)) for cell in cells)
        verdict = layer["verdict"]
        made.add_row(named(name), *shown, f"[{_STYLE[verdict]}]{verdict}[/]")
    return made


def levels_table(title: str, layers: Json) -> Table:
    """One row per level of each layer: its register, which rails it can pass, what it needs.

    "fold": how many items it may sum, in groups that start empty, and never overflow.
    """
    columns = ("level", "register", "passes", "least", "fold", "verdict")
    made = table(title, "layer", *columns)
    made.caption = "passes: the ends of the register that some total can pass"
    for name, layer in layers.items():
        registers = layer["datapath"]["levels"] if layer.get("levels") else []
        for i, (level, register) in enumerate(zip(layer.get("levels", []), registers, strict=True)):
            fold = "any" if level["longest_fold"] is None else str(level["longest_fold"])
            cells = (str(i), _width({"accumulator": register}), rails_word(level["rails"]))
            verdict = f"[{_STYLE[level['verdict']]}]{level['verdict']}[/]"
            made.add_row(named(name), *cells, str(level["least_bits"]), fold, verdict)
    return made


def _width(layer: Json) -> str:
    register = layer["accumulator"]
    return f"{register['bits']}{'' if register['signed'] else ' unsigned'}"


def reached_table(title: str, layers: Json, reached: Json) -> Table:
    """One row per layer: how far data, an attack and the proof go, in bits and toward the rails.

    100 % is the rail. "overflow": of how many outputs the data do, each layer on exact inputs.
    """
    kinds = kinds_of(reached)
    made = table(title, "layer", "register", *kinds, "overflow")
    for name, ends in reached.items():
        cells = [f"{ends[kind]['bits']} ({percent(ends[kind]['of_rail'])} %)" for kind in kinds]
        data = ends["data"]
        overflowed = f"{data['overflowed_outputs']} of {data['outputs']}"
        made.add_row(named(name), str(layers[name]["accumulator"]["bits"]), *cells, overflowed)
    return made


def lowerings_table(title: str, layers: Json) -> Table:
    """One row per layer: the least bits, and the verdict, of each lowering of its zero point."""
    names = list(next(iter(layers.values())))
    made = table(title, "layer", *names)
    for layer, found in layers.items():
        cells = [
            f"{found[name]['least_bits']} [{_STYLE[found[name]['verdict']]}]"
            f"{found[name]['verdict']}[/]"
            for name in names
        ]
        made.add_row(named(layer), *cells)
    return made


def sweep_table(title: str, sweeps: Mapping[str, list[Json]], marked: int | None = None) -> Table:
    """Accuracy in % of each network and overflow rule, one row per width; `marked` stands out."""
    columns = [f"{name} {rule}" for name in sweeps for rule in Overflow]
    made = table(title, "bits", *columns)
    figures = {
        (name, row["bits"], row["overflow"]): row["accuracy"]
        for name, rows in sweeps.items()
        for row in rows
    }
    for bits in sorted({bits for _, bits, _ in figures}):
        cells = [
            f"{100 * figures[name, bits, str(rule)]:.1f}" for name in sweeps for rule in Overflow
        ]
        mark = " <" if bits == marked else ""
        made.add_row(f"{bits}{mark}", *cells, style="bold" if mark else None)
    return made


def comparison_table(title: str, layers: Json) -> Table:
    """One row per layer: how many outputs two registers end differently, and where first."""
    columns = ("outputs", "differ", "first step", "channels", "samples")
    made = table(title, "layer", *columns)
    for name, found in layers.items():
        step = "" if found["first_step"] < 0 else str(found["first_step"])
        places = (_listed(found[key]) for key in ("channels", "samples"))
        made.add_row(named(name), str(found["outputs"]), str(found["differing"]), step, *places)
    return made


def _listed(numbers: list[int]) -> str:
    more = f", +{len(numbers) - _MANY}" if len(numbers) > _MANY else ""
    return ", ".join(map(str, numbers[:_MANY])) + more


def witness_table(title: str, witness: Witness) -> Table:
    """The register step by step around the one that overflows, and the end.

    Of a datapath: the level that overflows, item by item of its group, and the taps of each.
    """
    if witness.level is None:
        made = table(title, "step", "weight", "input", "product", "exact sum", "register")
        row, x = witness.layer.rows[0].tolist(), witness.x.tolist()
        first: list[tuple[str, ...]]
        first = [(str(k), str(row[k]), str(x[k])) for k in range(len(row))]
    else:
        made = table(title, "places", "taps", "item", "exact sum", "register")
        first = _places(witness)
    added, last = witness.added, len(first) - 1
    exact, held = witness.trajectory()
    gap = False
    for k, (cells, item) in enumerate(zip(first, witness.products()[0], strict=True)):
        if abs(k - added) <= _AROUND or k == last:
            if gap:
                made.add_row("...")
            total, register = held[k] + item, held[k + 1]
            shown = str(register) if register == total else f"[red]{register}[/] (not {total})"
            made.add_row(*cells, str(item), str(exact[k + 1]), shown)
        gap = abs(k - added) > _AROUND
    return made


def _places(witness: Witness) -> list[tuple[str, ...]]:
    """Where each item of the group comes from: its places, and the taps that are there."""
    taps = places_of(witness.accumulator, witness.layer.taps)
    found: list[tuple[str, ...]] = []
    for at in witness.group().places:
        own = [k for k in taps[at.start : at.stop] if k >= 0]
        ends = f"{at.start}" if len(at) == 1 else f"{at.start} to {at.stop - 1}"
        found.append((ends, _listed(own)) if len(at) else ("bias", ""))
    return found


def run_table(title: str, runs: Mapping[str, Run]) -> Table:
    """One row per layer: how many outputs overflowed, and the widths these data needed."""
    columns = ["outputs", "overflowed", "steps", "lowest", "highest", "data need"]
    if any(run.levels for run in runs.values()):
        columns += ["by level: steps", "need"]
    made = table(title, "layer", *columns)
    for name, figures in run_json(runs).items():
        made.add_row(named(name), *cells(figures))
    return made


def cells(figures: Json) -> list[str]:
    """Figures as cells of a row; those of several levels side by side, inner to outer."""
    return [
        ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for value in figures.values()
    ]
