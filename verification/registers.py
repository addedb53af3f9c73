"""Which register each product of a model is put in: one for all, or those that the file names."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import typer

from accsim.errors import ModelFileError
from accsim.network import Network
from accsim.spec import Accumulator, Overflow
from verification.options import only_of_models

__all__ = ["BitsFrom", "OneWidth", "check_bits", "registers_for"]

OneWidth = Annotated[int | None, typer.Option(help="Width of the register, 2 to 62.")]
BitsFrom = Annotated[
    Literal["annotations"] | None,
    typer.Option(metavar="WHERE", help="Or each register as the model's annotations name it."),
]


def check_bits(bits: int | None, bits_from: str | None, *, unsigned: bool, model: bool) -> None:
    """Refuse more than one word about the width, and none."""
    if bits_from is not None and not model:
        only_of_models({"--bits-from": bits_from})
    if bits is None and bits_from is None:
        also = " Or '--bits-from annotations'." if model else ""
        raise typer.TyperException(f"Missing option '--bits'.{also}")
    if bits is not None and bits_from is not None:
        raise typer.BadParameter("--bits-from takes the place of --bits: not both")
    if bits_from is not None and unsigned:
        raise typer.BadParameter(
            "--unsigned is of --bits: annotations tell which registers have a sign"
        )


def registers_for(
    network: Network, register: Accumulator | None, overflow: Overflow, *, to_run: bool
) -> dict[str, Accumulator]:
    """One register for all products, or those that the file names, with this overflow rule.

    Of a product of activations of unknown length no register can be proved, and none is asked for
    but `to_run` it.

    Raises: ModelFileError for a product of which the file names no register.
    """
    if register is not None:
        return dict.fromkeys([*network.layers, *network.matmuls], register)
    unknown = {name for name, product in network.matmuls.items() if product.taps is None}
    for name in [*network.layers, *network.matmuls]:
        if name in network.registers or (name in unknown and not to_run):
            continue
        why = "accsim minimize writes them"
        if name in unknown:
            why = "no register is known to hold a product of activations of unknown length"
        raise ModelFileError(f"node {name!r} has no annotation of its register: {why}")
    return {name: replace(own, overflow=overflow) for name, own in network.registers.items()}
