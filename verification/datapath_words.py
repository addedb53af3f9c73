"""What is said of a datapath: in a line for each level, in short, and for machines."""

from __future__ import annotations

from typing import Any

from accsim.datapath import Datapath
from accsim.datapaths import Described, safe_products
from accsim.spec import Accumulator, Rail
from verification.json_file import datapath_json

__all__ = [
    "described_json",
    "level_line",
    "levels_short",
    "operands_short",
    "order_line",
    "safe_line",
]

Json = dict[str, Any]
_SHOWN = 8  # places of an order


def levels_short(datapath: Datapath) -> str:
    """All levels in a few letters: "sat16/2 > wrap32"."""
    return " > ".join(_short(level) for level in datapath.levels)


def _short(level: Accumulator) -> str:
    rule = {"wrap": "wrap", "saturate": "sat"}[str(level.overflow)]
    terms = "" if level.terms is None else f"/{level.terms}"
    return f"{'' if level.signed else 'u'}{rule}{level.bits}{terms}"


def operands_short(datapath: Datapath) -> str:
    """Inputs and weights: "UINT8 x INT8"."""
    sides = (datapath.inputs, datapath.weights)
    return " x ".join("any" if side is None else str(side) for side in sides)


def level_line(found: Described, index: int) -> str:
    """In which register a level sums what, and when that overflows."""
    datapath, level = found.datapath, found.datapath.levels[index]
    what = f" ({found.what[index]})" if found.what[index] else ""
    if index > datapath.summing:
        return f"{level}, on reading{what}"
    items = "product" if index == 0 else "sum"
    if level.terms is None:
        taken = f"all {items}s that are left, {bias_words(datapath)}"
    else:
        taken = f"{level.terms} {items}{'' if level.terms == 1 else 's'}"
    return f"{level}, {rail_words(level)} {taken}{what}"


def bias_words(datapath: Datapath) -> str:
    """Where the bias enters."""
    return "from the bias on" if datapath.bias == "first" else "the bias last"


def rail_words(level: Accumulator) -> str:
    """When a level applies its overflow."""
    return "at each of" if level.rail is Rail.STEP else "once for"


def safe_line(datapath: Datapath, index: int) -> str:
    """How many products of the datapath's operands a group of a level takes, if it names these."""
    if datapath.inputs is None or datapath.weights is None:
        return ""
    count = safe_products(datapath)[index]
    if count is None:
        return "never overflows"
    return f"{count:,} product{' is' if count == 1 else 's are'} safe"


def order_line(datapath: Datapath) -> str:
    """In which order products are summed."""
    if datapath.order is None:
        return "in index order"
    order = datapath.order
    shown = ", ".join(map(str, order[:_SHOWN])) + (", ..." if len(order) > _SHOWN else "")
    return f"of each {len(order)} in the order {shown}"


def described_json(found: Described) -> Json:
    """Everything that is said of a datapath, as plain values."""
    datapath = found.datapath
    known = datapath.inputs is not None and datapath.weights is not None
    safe = safe_products(datapath) if known else [None] * len(datapath.levels)
    told = datapath_json(datapath)
    levels = zip(told.pop("levels"), found.what, safe, strict=True)
    return {
        "title": found.title,
        **told,
        "levels": [
            {**level, "what": what, "safe_products": count} for level, what, count in levels
        ],
        "check": found.check,
        "checked": found.checked,
        "notes": found.notes,
    }
