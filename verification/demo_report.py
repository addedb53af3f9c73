"""What the demo prints: verdicts, a witness, accuracy by width, overflows by layer."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from verification import tables
from verification.console import show
from verification.reading import witnesses_of
from verification.report import Json
from verification.words import rails_line

__all__ = ["print_demo"]


def print_demo(console: Console, content: Json, out: Path) -> None:
    """Verdicts, how far sums go, a witness step by step, accuracy by width, overflows by layer."""
    bits, networks = content["bits"], content["networks"]
    for name, network in networks.items():
        title = f"{name}: proof for every input, {bits}-bit register"
        show(console, tables.verdict_table(title, network["layers"]))
        title = f"{name}: how far the sums go, {content['test_images']} test images"
        show(console, tables.reached_table(title, network["layers"], network["reached"]))
        console.print(f"{name}: {rails_line(network['reached'])}\n")
    for layer, witness in list(witnesses_of(networks["plain"]["layers"]).items())[-1:]:
        show(console, tables.witness_table(f"plain, {layer}: an input that overflows", witness))
        console.print(f"{witness}\n")
    title = (
        f"Accuracy in % on {content['test_images']} test images by register width"
        f" (float: {100 * content['float_accuracy']:.1f})"
    )
    sweeps = {name: network["sweep"] for name, network in networks.items()}
    show(console, tables.sweep_table(title, sweeps, marked=bits))
    show(console, _overflow_table(content))
    for name, same in content["identical"].items():
        words = "identical" if same["wrap_saturate_wide"] else "not identical"
        console.print(
            f"{name}: logits with wrapping, saturating and {content['wide_bits']}-bit registers are"
            f" {words} on all {content['test_images']} test images; the integer network differs"
            f" from the trained one by at most {same['largest_difference_from_fake_quantized']:g}"
        )
    console.print(
        f"\nWritten: {out}/ (report.html, report.json, accuracy.png, layers, inputs, witnesses)"
    )


def _overflow_table(content: Json) -> Table:
    networks = content["networks"]
    made = tables.table(
        f"Outputs that overflowed on the test images, {content['bits']}-bit register, wrap, each"
        " layer on what those before made of them",
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
