"""What the JSON files of the toolkit have in common: how they are read, and registers in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accsim.datapath import Datapath
from accsim.errors import AccsimError
from accsim.spec import Accumulator, IntSpec

__all__ = ["accumulator_json", "datapath_json", "datapath_of", "how_json", "one_json", "read_json"]

MOST_BYTES = 2**28


def read_json(
    path: Path,
    kind: str,
    error: type[AccsimError],
    *,
    parse_constant: Callable[[str], Any] | None = None,
) -> Any:
    """What is in a JSON file; `kind` is what it must be, `parse_constant` as for `json.loads`.

    Raises: `error` for a file that is too large or is no JSON; OSError.
    """
    if path.stat().st_size > MOST_BYTES:
        raise error(f"{path.name} must be {kind}, not of over {MOST_BYTES} bytes")
    try:
        return json.loads(path.read_bytes(), parse_constant=parse_constant)
    except (ValueError, RecursionError):
        raise error(f"{path.name} must be {kind} as JSON") from None


def accumulator_json(accumulator: Accumulator) -> dict[str, Any]:
    """The register as plain values, the arguments that make it again."""
    return {
        "bits": accumulator.bits,
        "overflow": str(accumulator.overflow),
        "signed": accumulator.signed,
    }


def datapath_json(datapath: Datapath) -> dict[str, Any]:
    """The datapath as plain values, which `datapath_of` reads again."""
    levels = [
        {**accumulator_json(level), "terms": level.terms, "rail": str(level.rail)}
        for level in datapath.levels
    ]
    return {
        "levels": levels,
        "order": None if datapath.order is None else list(datapath.order),
        "bias": datapath.bias,
        "inputs": None if datapath.inputs is None else str(datapath.inputs),
        "weights": None if datapath.weights is None else str(datapath.weights),
        "name": datapath.name,
        "source": datapath.source,
    }


def datapath_of(content: dict[str, Any]) -> Datapath:
    """The datapath that `datapath_json` told.

    Raises: AccsimError, TypeError or ValueError for anything else.
    """
    ranges = {
        side: None if content[side] is None else IntSpec.parse(content[side])
        for side in ("inputs", "weights")
    }
    levels = [Accumulator(**level) for level in content["levels"]]
    return Datapath(**{**content, **ranges, "levels": levels})


def one_json(accumulator: Accumulator | Datapath) -> dict[str, Any]:
    """A register, or a datapath, as plain values."""
    if isinstance(accumulator, Datapath):
        return datapath_json(accumulator)
    return accumulator_json(accumulator)


def how_json(accumulator: Accumulator | Datapath) -> dict[str, Any]:
    """A register under "accumulator", or a datapath under "datapath"."""
    name = "datapath" if isinstance(accumulator, Datapath) else "accumulator"
    return {name: one_json(accumulator)}
