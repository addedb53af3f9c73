"""What the JSON files of the toolkit have in common: how they are read, and a register in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accsim.errors import AccsimError
from accsim.spec import Accumulator

__all__ = ["accumulator_json", "read_json"]

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
