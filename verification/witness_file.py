"""Witnesses as small JSON files, which are replayed before they are believed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from accsim._check import integer, integer_array, whole
from accsim.datapath import Datapath
from accsim.errors import AccsimError, SpecError, WitnessError
from accsim.files import atomically
from accsim.layer import IntLayer
from accsim.spec import Accumulator, IntSpec
from verification.json_file import datapath_of, how_json, read_json
from verification.witness import Witness, witness_of

__all__ = ["file_names", "is_witness", "load_witness", "replayed", "save_witness", "witness_json"]

SCHEMA = "accsim.witness/1"  # of a register
OF_DATAPATH = "accsim.witness/2"
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]+')  # in names of files, on any system
_LONGEST = 200  # bytes of a name
_CLAIMS = ("step", "register", "product", "exact", "simulated")
_MEMBERS = {"schema", "channel", "weight", "weight_spec", "x", "input_spec", "bias", *_CLAIMS}
_OWN = {SCHEMA: {"accumulator"}, OF_DATAPATH: {"datapath", "level"}}  # beside those


def witness_json(witness: Witness) -> dict[str, Any]:
    """Everything that is needed to replay the witness, and what it shows, as plain values."""
    layer = witness.layer
    level = {} if witness.level is None else {"level": witness.level}
    return {
        "schema": OF_DATAPATH if level else SCHEMA,
        **how_json(witness.accumulator),
        "channel": witness.channel,
        "weight": layer.rows[0].tolist(),
        "weight_spec": str(layer.weight_spec),
        "x": witness.x.tolist(),
        "input_spec": str(layer.input_spec),
        "bias": 0 if layer.bias is None else int(layer.bias[0]),
        **{claim: getattr(witness, claim) for claim in _CLAIMS},
        **level,
    }


def save_witness(witness: Witness, path: str | os.PathLike[str]) -> None:
    """Write the witness as JSON; the file appears only when complete."""
    with atomically(Path(path)) as file:
        file.write((json.dumps(witness_json(witness)) + "\n").encode())


def file_names(layers: Iterable[str]) -> dict[str, str]:
    """A name for a file of each layer, without its ending: in the folder it is put in, and its own.

    >>> file_names(["/fc/Gemm", "fc_Gemm", "a.b", "../x"])
    {'/fc/Gemm': 'fc_Gemm', 'fc_Gemm': 'fc_Gemm-2', 'a.b': 'a.b', '../x': '_x'}
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for layer in layers:
        plain = _UNSAFE.sub("_", layer.strip("/")).lstrip(".")
        plain = plain.encode()[:_LONGEST].decode(errors="ignore") or "layer"
        tries = chain([plain], (f"{plain}-{n}" for n in count(2)))
        names[layer] = next(name for name in tries if name.casefold() not in taken)
        taken.add(names[layer].casefold())
    return names


def load_witness(path: str | os.PathLike[str]) -> Witness:
    """Read what `save_witness` wrote, and replay it: what the file claims must happen.

    Raises: WitnessError for a file that is no witness, of another schema, or that claims what does
    not happen.
    """
    path = Path(path)
    return replayed(read_json(path, "a witness", WitnessError), path.name)


def is_witness(path: Path) -> bool:
    """Whether the file is there, and says of itself that it is a witness."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(64)
    return any(schema.encode() in start for schema in _OWN)


def replayed(content: Any, name: str) -> Witness:
    """The witness of `witness_json`'s plain values, replayed; `name` is what errors call it.

    Raises: as `load_witness`.
    """
    _check_members(content, name)
    try:
        layer = IntLayer(
            _entries(content["weight"], "weight")[None],
            weight_spec=IntSpec.parse(content["weight_spec"]),
            input_spec=IntSpec.parse(content["input_spec"]),
            bias=np.array([content["bias"]]),
        )
        layer.input_spec.check(integer_array(_entries(content["x"], "x"), "x"), "x")
        accumulator = _how(content)
        channel = integer(content["channel"], "channel", 0, 2**40)
        found = witness_of(layer, 0, content["x"], accumulator)
    except (AccsimError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise WitnessError(f"{name} is not a witness: {error}") from None
    for claim in [*_CLAIMS, *(["level"] if "level" in content else [])]:
        if type(content[claim]) is not int or content[claim] != getattr(found, claim):
            raise WitnessError(
                f"{name} must tell what happens: {claim} is {getattr(found, claim)}, not"
                f" {content[claim]}"
            )
    return replace(found, channel=channel)


def _entries(listed: Any, name: str) -> np.ndarray[Any, np.dtype[Any]]:
    """What is listed as an array: integers, or none at all, which numpy takes for floats."""
    entries = [whole(entry, name) for entry in listed]
    return np.array(entries, None if entries else np.int64)


def _how(content: dict[str, Any]) -> Accumulator | Datapath:
    """The register or the datapath of a witness."""
    if "datapath" not in content:
        register = Accumulator(**content["accumulator"])
        if not register.alone:
            raise SpecError("accumulator must be a register, not a level of a datapath")
        return register
    return datapath_of(content["datapath"])


def _check_members(content: Any, name: str) -> None:
    """The members of a witness, all of them there and no more."""
    schema = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(schema, str) or schema not in _OWN:
        raise WitnessError(f"{name} must be of schema {SCHEMA} or {OF_DATAPATH}, not {schema!r}")
    if wrong := sorted(content.keys() ^ (_MEMBERS | _OWN[schema])):
        raise WitnessError(f"{name} must have the members of a witness: {', '.join(wrong)}")
