"""One self-contained page of HTML about one network or several: reports, for people to look at.

Needs the extra "plot".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import log1p
from pathlib import Path
from typing import NamedTuple

from accsim.files import atomically
from accsim.spec import Accumulator
from verification.plot import accuracy_svg, trajectory_svg
from verification.reading import witnesses_of
from verification.report import Json
from verification.witness import Witness
from verification.words import (
    how_lowered,
    kinds_of,
    percent,
    product_line,
    rails_line,
    rails_word,
    register_word,
    registers_of,
    remarks_of,
    start_line,
)

__all__ = ["page", "write_page"]

_DRAWN = 8  # witnesses of a network that get a picture
_COLUMNS = 20  # widths in a heat map
_SIDE = 16  # parts of the band on each side of 0


def write_page(path: Path, title: str, reports: Sequence[Json]) -> None:
    """Write `page` to a file; it appears only when complete."""
    text = page(title, reports)
    with atomically(path) as file:
        file.write(text.encode(errors="backslashreplace"))  # half a letter is no letter


def page(title: str, reports: Sequence[Json]) -> str:
    """The page, which loads nothing: style and pictures are inside. Every witness is replayed.

    Takes reports of `sealed` or `read_reports`. Raises: ReportError for a witness that does not
    replay.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("verification", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(percent=percent, grouped=lambda n: f"{n:,}", signed=lambda n: f"{n:+,}")
    networks = [_network(report) for report in reports]
    chart = _accuracy_chart(reports)
    return made.get_template("page.html").render(title=title, networks=networks, chart=chart)


class _Cell(NamedTuple):
    """A place in a heat map or a strip: how strong, and what is said of it."""

    strength: float
    label: str
    here: bool = False


def _network(report: Json) -> Json:
    """What the template says of one network."""
    layers, reached = report["layers"], report.get("reached") or {}
    products = report.get("products", [])
    drawn, more = _witnesses(layers)
    widths, kinds = _widths(layers), kinds_of(reached)
    return {
        "report": report,
        "layers": layers,
        "proved": sum(layer["verdict"] == "proved" for layer in layers.values()),
        "refuted": [name for name, layer in layers.items() if layer["verdict"] == "refuted"],
        "weights": sum(layer["weights"] for layer in layers.values()),
        "least_bits": max((layer["least_bits"] for layer in layers.values()), default=None),
        "data_type_bits": max((layer["data_type_bits"] for layer in layers.values()), default=None),
        "registers": registers_of([*layers.values(), *products]),
        "reached": {name: _reach(ends, layers[name], kinds) for name, ends in reached.items()},
        "how": how_lowered(report),
        "products": [product_line(product) for product in products],
        "untraced": report.get("untraced"),
        "starts": {name: start_line(layer) for name, layer in layers.items() if "start" in layer},
        "unbound": report.get("unbound"),
        "kinds": kinds,
        "attacked": "attack" in kinds,
        "signed": all(layer["accumulator"]["signed"] for layer in layers.values()),
        "rails": rails_line(reached) if reached else "",
        "widths": widths,
        "channels": {
            name: _heat(
                Counter(layer["channel_bits"]),
                len(layer["channel_bits"]),
                layer,
                widths,
                "channels can overflow",
            )
            for name, layer in layers.items()
        },
        "outputs": {
            name: _heat(
                {int(bits): n for bits, n in ends["data"]["outputs_by_bits"].items()},
                ends["data"]["outputs"],
                layers[name],
                widths,
                "outputs overflow",
            )
            for name, ends in reached.items()
        },
        "witnesses": drawn,
        "more_witnesses": more,
        "comparison": report.get("comparison"),
        "lowerings": report.get("lowerings"),
        "levels": [level for name, layer in layers.items() for level in _levels(name, layer)],
        "remarks": remarks_of(layers),
    }


def _levels(name: str, layer: Json) -> list[Json]:
    """What is decided of each level of a layer's datapath; of a register nothing."""
    if not layer.get("levels"):
        return []
    return [
        {
            **level,
            "layer": name,
            "number": i,
            "register": register_word({"accumulator": register}),
            "passes": rails_word(level["rails"]),
            "fold": "any" if level["longest_fold"] is None else level["longest_fold"],
        }
        for i, (level, register) in enumerate(
            zip(layer["levels"], layer["datapath"]["levels"], strict=True)
        )
    ]


def _witnesses(layers: Json) -> tuple[list[tuple[str, Witness, str]], list[tuple[str, Witness]]]:
    """Those with pictures, of the layers that need most beyond their register; and the others."""
    found = witnesses_of(layers)
    beyond = sorted(
        found, key=lambda name: layers[name]["accumulator"]["bits"] - layers[name]["least_bits"]
    )
    first = set(beyond[:_DRAWN])
    return (
        [(name, found[name], trajectory_svg(found[name])) for name in found if name in first],
        [(name, found[name]) for name in found if name not in first],
    )


def _widths(layers: Json) -> range:
    """Register widths worth a column: from where most overflows to where nothing does."""
    if not layers:
        return range(0)
    most = max(layer["least_bits"] for layer in layers.values())
    least = min(min(layer["channel_bits"]) for layer in layers.values())
    own = [layer["accumulator"]["bits"] for layer in layers.values()]
    last = max(most, *own) + 1
    return range(max(2, min(least, *own) - 1, last - _COLUMNS + 1), last + 1)


def _heat(
    needs: Mapping[int, int], total: int, layer: Json, widths: range, what: str
) -> list[_Cell]:
    """For each width the share of a total that needs more; `needs` counts it by bits."""
    cells = []
    for width in widths:
        over = sum(count for bits, count in needs.items() if bits > width)
        label = f"{width} bits: {over:,} of {total:,} {what}"
        cells.append(_Cell(over / total, label, width == layer["accumulator"]["bits"]))
    return cells


def _reach(ends: Json, layer: Json, kinds: list[str]) -> Json:
    """The strip of where the sums of the data lie, and the spans of data, attack and proof."""
    register = Accumulator(**layer["accumulator"])
    return {
        "ends": {kind: ends[kind] for kind in kinds},
        "spans": {kind: _span(ends[kind], register) for kind in kinds},
        "strip": _strip(ends["data"]["spread"], register),
        "register": register,
    }


def _span(ends: Json, register: Accumulator) -> tuple[float, float, bool, bool]:
    """From where to where of the band, each from 0 to 1; whether it goes below, and above."""
    size = register.max - register.min + 1
    low, high = ((ends[end] - register.min) / size for end in ("low", "high"))
    below, above = ends["low"] < register.min, ends["high"] > register.max
    low, high = min(max(0.0, low), 1.0), min(max(0.0, high + 1 / size), 1.0)
    return low, high, below, above


def _strip(spread: list[list[int]], register: Accumulator) -> list[_Cell]:
    """How many sums are in each part of the band, and below and above it in the outer cells.

    Parts end where `sums.EDGES` do, so that nothing is cut.
    """
    size = register.max - register.min + 1
    parts = min(2 * _SIDE if register.signed else _SIDE, size)
    step = size // parts
    counts = [0] * (parts + 2)
    for low, _, count in spread:
        counts[min(max((low - register.min) // step, -1), parts) + 1] += count
    most = max(counts)
    labels = ["below the register", "above it"]
    labels[1:1] = [
        f"{low:,} to {low + step - 1:,}" for low in range(register.min, register.max + 1, step)
    ]
    return [
        _Cell(log1p(count) / log1p(most) if most else 0.0, f"{label}: {count:,}")
        for count, label in zip(counts, labels, strict=True)
    ]


def _accuracy_chart(reports: Sequence[Json]) -> str | None:
    """Accuracy against width of all networks that have a sweep."""
    sweeps = {report["name"]: report["sweep"] for report in reports if report.get("sweep")}
    return accuracy_svg(sweeps) if sweeps else None
