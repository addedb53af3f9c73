"""What the demo prints: verdicts, a witness, accuracy by width, overflows by layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from accsim.layer import IntLayer
from accsim.spec import Overflow
from verification import report
from verification.decide import Report, Verdict

__all__ = ["print_demo"]


def print_demo(
    console: Console,
    content: dict[str, Any],
    frozen: Mapping[str, Mapping[str, IntLayer]],
    reports: Mapping[str, Mapping[str, Report]],
    out: Path,
) -> None:
    """Verdicts, the witness step by step, accuracy by width, overflows by layer."""
    bits = content["bits"]
    networks = content["networks"]
    for name in networks:
        title = f"{name}: proof for every input, {bits}-bit register"
        console.print(report.verdict_table(title, frozen[name], reports[name]))
    refuted = [
        (layer, found.witness)
        for layer, found in reports["plain"].items()
        if found.verdict is Verdict.REFUTED and found.witness
    ]
    for layer, witness in refuted[-1:]:
        console.print(report.witness_table(f"plain, {layer}: an input that overflows", witness))
        console.print(f"{witness}\n")
    console.print(_accuracy_table(content))
    console.print(_overflow_table(content))
    for name in networks:
        network = networks[name]
        same = "identical" if network["wrap_saturate_wide_identical"] else "not identical"
        console.print(
            f"{name}: logits with wrapping, saturating and {content['wide_bits']}-bit registers are"
            f" {same} on all {content['test_images']} test images; the integer network differs from"
            f" the trained one by at most {network['largest_difference_from_fake_quantized']:g}"
        )
    console.print(f"\nWritten: {out}/ (report.json, accuracy.png, layers, inputs, witness.json)")


def _accuracy_table(content: dict[str, Any]) -> Table:
    networks = content["networks"]
    title = (
        f"Accuracy in % on {content['test_images']} test images by register width"
        f" (float: {100 * content['float_accuracy']:.1f})"
    )
    columns = [f"{name} {rule}" for name in networks for rule in Overflow]
    made = report.table(title, "bits", *columns)
    figures = {
        (name, row["bits"], row["overflow"]): row["accuracy"]
        for name in networks
        for row in networks[name]["sweep"]
    }
    for bits in sorted({bits for _, bits, _ in figures}):
        cells = [
            f"{100 * figures[name, bits, str(rule)]:.1f}" for name in networks for rule in Overflow
        ]
        mark = " <" if bits == content["bits"] else ""
        made.add_row(f"{bits}{mark}", *cells, style="bold" if mark else None)
    return made


def _overflow_table(content: dict[str, Any]) -> Table:
    networks = content["networks"]
    made = report.table(
        f"Outputs that overflowed on the test images, {content['bits']}-bit register, wrap",
        "layer",
        *networks,
    )
    seen = {
        name: next(
            row["overflows"]
            for row in networks[name]["sweep"]
            if (row["bits"], row["overflow"]) == (content["bits"], "wrap")
        )
        for name in networks
    }
    for layer in seen["plain"]:
        cells = [
            f"{seen[name][layer]['overflowed_outputs']} of {seen[name][layer]['outputs']}"
            for name in networks
        ]
        made.add_row(layer, *cells)
    return made
