"""What the commands are given of a network: its model file, and data for its inputs.

Model files need the extra "onnx".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from accsim.errors import LayerFileError, ModelFileError, ShapeError
from accsim.files import DATA, read_array, read_arrays
from accsim.network import Network

__all__ = ["LABELS", "Data", "check_products", "is_model", "load_data", "load_model", "others"]

Array = np.ndarray[Any, Any]

LABELS = "y"  # the array of labels, where no other is named


class Data(NamedTuple):
    """Inputs of a network by name, and the class of each if there are labels."""

    inputs: dict[str, Array]
    labels: Array | None

    @property
    def samples(self) -> int:
        """How many inputs there are."""
        first = next(iter(self.inputs.values()))
        return len(first) if first.ndim else 1


def is_model(path: Path) -> bool:
    """Whether a path names a model file, rather than a layer file or a folder of them."""
    return path.suffix.lower() == ".onnx" and not path.is_dir()


def load_model(path: Path, external_data: Path | None = None) -> Network:
    """The network in a model file. Raises: MissingExtraError; as `accsim.onnx.load`."""
    from accsim.onnx import load

    return load(path, external_data=external_data)


def others(network: Network) -> dict[str, str]:
    """What of a network is no layer, with the reason: products of activations, untraced nodes."""
    return dict.fromkeys(network.matmuls, "a product of activations") | dict(network.untraced)


def check_products(name: str, network: Network) -> None:
    """Refuse a network none of whose products could be put into a register."""
    if network.layers or network.matmuls:
        return
    for node, why in network.untraced.items():
        raise ModelFileError(f"{name} has no integer product: {node}: {why}")
    raise ModelFileError(f"{name} has no integer product: it multiplies no matrices")


def load_data(path: Path, network: Network, labels: str | None = None) -> Data:
    """Inputs for a network from a .npy or .npz file, and labels if there are.

    An .npz has each input under its name; the only input of a network may be under x, too, or be
    the only array beside the labels. Those are `labels`, or y if it is there.

    Raises: LayerFileError for other files; ShapeError for no input at all, and for labels that are
    not one for each input.
    """
    if path.suffix.lower() == ".npy":
        arrays = {"x": read_array(path, DATA)}
    elif path.suffix.lower() == ".npz":
        arrays = read_arrays(path, DATA)
    else:
        raise LayerFileError(f"DATA must be a .npy or .npz file, not {path.name}")
    if labels is not None and labels not in arrays:
        raise LayerFileError(f"{path.name} lacks the labels {labels!r}: it has {_listed(arrays)}")
    found = arrays.get(labels or LABELS)
    data = Data(_inputs(path.name, arrays, network, labels or LABELS), found)
    for name, array in data.inputs.items():
        if not array.size:
            raise ShapeError(f"{path.name} holds no input: {name!r} is of shape {array.shape}")
    if found is not None:
        _check_labels(found, labels or LABELS, data.samples)
    return data


def _inputs(file: str, arrays: dict[str, Array], network: Network, labels: str) -> dict[str, Array]:
    names = list(network.inputs)
    if missing := [name for name in names if name not in arrays]:
        rest = [name for name in arrays if name != labels]
        chosen = "x" if "x" in arrays else rest[0] if len(rest) == 1 else None
        if len(names) == 1 and chosen is not None:
            return {names[0]: arrays[chosen]}
        raise LayerFileError(
            f"{file} lacks the network's input {missing[0]!r}: it has {_listed(arrays)}"
        )
    return {name: arrays[name] for name in names}


def _listed(arrays: dict[str, Array]) -> str:
    return ", ".join(map(repr, arrays)) or "no array"


def _check_labels(labels: Array, name: str, samples: int) -> None:
    if labels.dtype.kind not in "iu" or labels.shape != (samples,):
        raise ShapeError(
            f"labels {name!r} must be {samples} integers, one for each input, not {labels.dtype}"
            f" of shape {labels.shape}"
        )
