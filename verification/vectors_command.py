"""The command that writes vectors for a device: vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accsim.errors import AccsimError, LayerFileError, ModelFileError
from accsim.layer import IntLayer
from accsim.spec import Accumulator, Overflow
from verification.console import output
from verification.json_file import accumulator_json
from verification.model_files import is_model, load_model
from verification.options import (
    AsJson,
    Bits,
    ExternalData,
    Layers,
    Rule,
    Unsigned,
    load_inputs,
    load_layers,
    only_of_models,
    print_json,
)
from verification.report import Json
from verification.tables import print_lines
from verification.vector_files import (
    FORMATS,
    check_folder,
    check_formats,
    parameters,
    write_vectors,
)
from verification.vectors import Vectors, chosen_stimulus, given_stimulus, make_vectors

__all__ = ["vectors"]


def vectors(
    layers: Layers,
    bits: Bits,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder for the files.")],
    overflow: Rule = Overflow.WRAP,
    unsigned: Unsigned = False,
    layer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which one, where LAYERS are several.")
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Integer inputs of the layer: .npy, or .npz by name."),
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="Or so many sums of worst and other inputs, not the usual.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the inputs.")] = 0,
    formats: Annotated[
        str, typer.Option(metavar="LIST", help="Some of hex (with the bench), npz and c.")
    ] = ",".join(FORMATS),
    external_data: ExternalData = None,
    as_json: AsJson = False,
) -> None:
    """Write vectors for a device: what to feed it, and its register after every step."""
    accumulator = Accumulator(bits, overflow, signed=not unsigned)
    chosen = tuple(formats.split(","))
    check_formats(chosen)
    check_folder(out)
    name, one = _only(layers, layer, external_data)
    try:
        if inputs is None:
            stimulus = chosen_stimulus(one, accumulator, sums=count, seed=seed)
        elif count is not None:
            raise typer.BadParameter("--inputs takes the place of --count: not both")
        else:
            stimulus = given_stimulus(one, load_inputs(inputs, {name: one})[name])
        made = make_vectors(one, accumulator, stimulus)
    except AccsimError as error:
        raise type(error)(f"{name}: {error}") from error
    written = write_vectors(out, made, chosen)
    content: Json = {
        "schema": "accsim.vectors/1",
        "layer": name,
        "accumulator": accumulator_json(accumulator),
        "parameters": parameters(made),
        "sums": made.sums,
        "steps": made.steps,
        "overflow_steps": int(made.overflow.sum()),
        "channels": len(set(stimulus.channels.tolist())),
        "of_channels": one.channels,
        "files": written,
    }
    if as_json:
        print_json(content)
    else:
        print_lines(output(), _lines(content, made, out))


def _lines(content: Json, made: Vectors, out: Path) -> list[str]:
    """In words what was written, and whether it tests what a device does on overflow."""
    overflowed, steps = content["overflow_steps"], content["steps"]
    said = f"{overflowed} of {steps} steps overflow"
    if not overflowed:
        said = f"no step of {steps} overflows: what a device does then is not tested"
    return [
        f"{content['layer']}, {made.accumulator}: {made.sums} sums of {made.taps} steps,"
        f" {content['channels']} of {content['of_channels']} channels",
        said,
        f"Written: {out}/ ({', '.join(content['files'])})",
    ]


def _only(path: Path, wanted: str | None, external_data: Path | None) -> tuple[str, IntLayer]:
    """The layer at `path`, or the one of several that is named."""
    if is_model(path):
        found = dict(load_model(path, external_data).layers)
    else:
        only_of_models({"--external-data": external_data})
        found = load_layers(path)
    if wanted is None and len(found) == 1:
        return next(iter(found.items()))
    if wanted is not None and wanted in found:
        return wanted, found[wanted]
    error = ModelFileError if is_model(path) else LayerFileError
    if not found:
        raise error(f"{path.name} has no layer to make vectors of")
    asked = "" if wanted is None else f", not {wanted!r}"
    which = "1 layer: --layer must name it" if len(found) == 1 else None
    which = which or f"{len(found)} layers: --layer must name one"
    raise error(f"{path.name} has {which}{asked}: {', '.join(found)}")
