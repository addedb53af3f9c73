"""What a register's bits and saturation cost in hardware: figures of a synthesis tool, kept."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, NamedTuple

__all__ = ["RULES", "Cost", "cost_table", "lut_costs"]

RULES = ("wrap", "saturate")


class Cost(NamedTuple):
    """Cells of the example device with 8-bit operands, its multiplier in LUTs."""

    luts: int
    carries: int
    flip_flops: int


def lut_costs(content: Any = None) -> dict[tuple[int, str], Cost]:
    """Costs by register width and overflow rule, as `benchmarks/lut_costs.py` found them.

    `content`: other figures of the same form than those that are kept in the package.
    Source: the tool, its version and its command are in `verification/rtl/luts.json`.
    """
    if content is None:
        content = json.loads((files("verification") / "rtl" / "luts.json").read_text())
    return {
        (row["bits"], row["overflow"]): Cost(row["luts"], row["carries"], row["flip_flops"])
        for row in content["rows"]
    }


def cost_table(costs: dict[tuple[int, str], Cost]) -> str:
    """A table in Markdown: a row for each width, and what saturation adds."""
    lines = ["| register bits | LUTs, wrap | LUTs, saturate | added |", "|---|---|---|---|"]
    for bits in sorted({bits for bits, _ in costs}):
        wrap, saturate = (costs[bits, rule].luts for rule in RULES)
        lines.append(f"| {bits} | {wrap} | {saturate} | {saturate - wrap} |")
    return "\n".join(lines)
