"""Which register or datapath layers are put in: one for all, or those that a model's file names."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import typer

from accsim.datapaths import load
from accsim.errors import ModelFileError
from accsim.network import Network, Register
from accsim.spec import Accumulator, Overflow
from verification.options import only_of_models

__all__ = ["BitsFrom", "OneWidth", "asked_register", "registers_for"]

OneWidth = Annotated[int | None, typer.Option(help="Width of the register, 2 to 62.")]
BitsFrom = Annotated[
    Literal["annotations"] | None,
    typer.Option(metavar="WHERE", help="Or each register as the model's annotations name it."),
]


def asked_register(
    bits: int | None,
    datapath: str | None,
    overflow: Overflow,
    *,
    unsigned: bool = False,
    bits_from: str | None = None,
    model: bool = False,
    other: str = "",
) -> Register | None:
    """The register or datapath that these options ask for; None: those that the model names.

    `other`: how the names of the options begin.

    Raises: typer.BadParameter, typer.TyperException for more than one of them, or none;
    DatapathFileError.
    """
    if bits_from is not None and not model:
        only_of_models({"--bits-from": bits_from})
    given = {f"--{other}bits": bits, "--bits-from": bits_from, f"--{other}datapath": datapath}
    named = [option for option, value in given.items() if value is not None]
    if not named:
        also = " Or '--bits-from annotations'." if model else ""
        raise typer.TyperException(f"Missing option '--{other}bits' or '--{other}datapath'.{also}")
    if len(named) > 1:
        raise typer.BadParameter(f"{named[-1]} takes the place of {named[0]}: not both")
    if bits_from is not None and unsigned:
        raise typer.BadParameter(
            "--unsigned is of --bits: annotations tell which registers have a sign"
        )
    if datapath is None:
        return None if bits is None else Accumulator(bits, overflow, signed=not unsigned)
    if overflow is not Overflow.WRAP or unsigned:
        word = "--unsigned" if unsigned else f"--{other}overflow"
        raise typer.BadParameter(f"{word} is of --{other}bits: levels of a datapath have their own")
    return load(datapath)


def registers_for(
    network: Network, register: Register | None, overflow: Overflow, *, to_run: bool
) -> dict[str, Register]:
    """One register or datapath for all products, or what the file names, with this overflow rule.

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
