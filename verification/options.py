"""What the commands share: their options, reading what they are given, progress, and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import track

from accsim.errors import AccsimError, LayerFileError
from accsim.files import read_array, read_arrays
from accsim.layer import IntLayer
from accsim.spec import Overflow
from verification.decide import Verdict
from verification.model_files import LABELS
from verification.report import Json

__all__ = [
    "EXIT",
    "AsJson",
    "Batch",
    "Bits",
    "DatapathName",
    "ExternalData",
    "Inputs",
    "Labels",
    "Layers",
    "Model",
    "Page",
    "Rule",
    "Unsigned",
    "check_ending",
    "check_new",
    "each",
    "load_inputs",
    "load_layers",
    "only_of_models",
    "print_json",
]

EXIT = {Verdict.PROVED: 0, Verdict.REFUTED: 1, Verdict.UNDECIDED: 3}

Layers = Annotated[
    Path,
    typer.Argument(metavar="LAYERS", help="A layer file, a folder of them, or an .onnx model."),
]
Inputs = Annotated[
    Path,
    typer.Argument(
        metavar="INPUTS",
        help="Integer inputs: a .npy file for one layer, or an .npz with one array per layer. Of a"
        " model: numbers for the network.",
    ),
]
Model = Annotated[Path, typer.Argument(metavar="FILE", help="A model: ONNX or QONNX.")]
ExternalData = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Where a model keeps weights outside its file."),
]
Batch = Annotated[
    int | None, typer.Option(help="Inputs of a model run at a time, if its file leaves it open.")
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help=f"Array of the classes beside the inputs; {LABELS} if it is there."
    ),
]
Bits = Annotated[int, typer.Option(help="Width of the register, 2 to 62.")]
DatapathName = Annotated[
    str | None,
    typer.Option(
        "--datapath",
        metavar="NAME",
        help="Instead of a register: one of accsim datapaths, or a .toml file.",
    ),
]
Rule = Annotated[Overflow, typer.Option(help="What the register does on overflow.")]
Unsigned = Annotated[bool, typer.Option("--unsigned", help="A register without negative values.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Page = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write a page for people to this file."),
]


def load_layers(path: Path) -> dict[str, IntLayer]:
    """The layers at `path`, by file name without its ending."""
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
        raise LayerFileError(f"{path.name} must hold layer files (*.npz)")
    try:
        return {file.stem: IntLayer.load(file) for file in files}
    except LayerFileError:
        if path.is_file() and path.suffix.lower() != ".npz":
            raise LayerFileError(
                f"{path.name} must be a layer file, which ends in .npz, or a model, which ends in"
                " .onnx"
            ) from None
        raise


def only_of_models(given: Mapping[str, object]) -> None:
    """Refuse options by name that mean nothing for layers in files."""
    for option, value in given.items():
        if value is not None:
            raise typer.BadParameter(f"{option} is of a model: LAYERS must be an .onnx file")


def load_inputs(path: Path, layers: dict[str, IntLayer]) -> dict[str, object]:
    """One array of inputs for each layer."""
    if path.suffix.lower() == ".npy":
        if len(layers) > 1:
            raise LayerFileError(
                f"{path.name} holds one array; {len(layers)} layers need an .npz with one for each"
            )
        return {name: read_array(path) for name in layers}
    if path.suffix.lower() != ".npz":
        raise typer.BadParameter(f"INPUTS must be a .npy or .npz file, not {path}")
    arrays: dict[str, object] = dict(read_arrays(path))
    if missing := sorted(layers.keys() - arrays.keys()):
        raise LayerFileError(f"{path.name} lacks inputs for {', '.join(missing)}")
    return arrays


Result = TypeVar("Result")


def each(
    layers: Mapping[str, IntLayer],
    doing: str,
    work: Callable[[str, IntLayer], Result],
    *,
    quiet: bool,
) -> dict[str, Result]:
    """`work` on each layer, with a progress bar on a terminal; an error names its layer."""
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    results = {}
    for name in track(list(layers), doing, console=console, transient=True, disable=hidden):
        try:
            results[name] = work(name, layers[name])
        except AccsimError as error:
            raise type(error)(f"{name}: {error}") from error
    return results


def check_new(path: Path, option: str, read: set[Path], external_data: Path | None = None) -> None:
    """Refuse to write a result over what is read, or any file of the folder of external data."""
    if path.resolve() in {file.resolve() for file in read} or _same_as_any(path, read):
        raise typer.BadParameter(
            f"{option} must be another file than those that are read, not {path.name}"
        )
    if external_data is not None and _is_file_of(external_data, path):
        raise typer.BadParameter(
            f"{option} must be no file that is in the folder of --external-data, as {path.name} is"
        )


def _is_file_of(folder: Path, path: Path) -> bool:
    """Whether a file is there that lies in a folder, or is linked from there or to there."""
    if not (path.exists() or path.is_symlink()):
        return False
    inside, places = folder.resolve(), (path.resolve(), path.parent.resolve() / path.name)
    if any(place.is_relative_to(inside) for place in places):
        return True
    return path.exists() and path.stat().st_nlink > 1 and _same_as_any(path, folder.rglob("*"))


def _same_as_any(path: Path, files: Iterable[Path]) -> bool:
    return path.is_file() and any(file.is_file() and file.samefile(path) for file in files)


def check_ending(path: Path, option: str, ending: str) -> None:
    """Refuse to write a result into a file whose name says that it is another kind."""
    if path.suffix.lower() != ending:
        article = "an" if ending in (".npz", ".onnx") else "a"
        raise typer.BadParameter(f"{option} must be {article} {ending} file, not {path}")


def print_json(content: Json) -> None:
    """Indented, on standard output."""
    print(json.dumps(content, indent=1))  # noqa: T201
