"""Descriptions of datapaths: where they lie, what is in one, what follows from it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accsim.datapath import Datapath, lanes
from accsim.errors import AccsimError, DatapathFileError, SpecError
from accsim.spec import MAX_TERMS, Accumulator, IntSpec, Overflow
from accsim.toml_files import arguments, blamed, read_toml

__all__ = ["CHECKS", "Described", "describe", "load", "names", "safe_products"]

FOLDER = Path(__file__).parent
CHECKS = {
    "ran": "compared with the thing itself, or an emulator of it, as it ran",
    "source": "read in its source code",
    "documented": "as its documents say",
    "none": "compared with nothing",
}
Range = tuple[int, int]
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Described:
    """A datapath with what its file says of it.

    `what`: each level in a few words, inner to outer. `check`: a key of `CHECKS`, with `checked`
    telling how and where. `notes`: what the description leaves out, and what is peculiar.
    """

    datapath: Datapath
    title: str
    what: tuple[str, ...]
    check: str
    checked: str
    notes: str


def names() -> list[str]:
    """The named datapaths, sorted.

    >>> names()[:3]
    ['arm-sdot', 'arm-smmla', 'arm-udot']
    """
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def load(name_or_path: str | os.PathLike[str]) -> Datapath:
    """The datapath of this name, or in this .toml file.

    Raises: DatapathFileError, one line, for an unknown name or a file that is not as it must be.

    >>> print(*load("x86-avx2-u8s8").levels, sep="; ")
    16-bit saturate register; 32-bit wrap register; 32-bit wrap register
    """
    return describe(name_or_path).datapath


def describe(name_or_path: str | os.PathLike[str]) -> Described:
    """The datapath of this name, or in this .toml file, and all that is said of it.

    Raises: as `load`.
    """
    if isinstance(name_or_path, str) and name_or_path in names():
        path = FOLDER / f"{name_or_path}.toml"
    else:
        path = Path(name_or_path)
        if path.suffix.lower() != ".toml":
            raise DatapathFileError(
                f"{str(path)!r} is no named datapath (accsim datapaths lists them) and no .toml"
                " file"
            )
    content = read_toml(path, DatapathFileError)
    with blamed(path, DatapathFileError):
        return _described(**arguments(content, "the file", _described))


def safe_products(datapath: Datapath) -> tuple[int | None, ...]:
    """How many products a group of each level always takes, of any operands in the datapath's.

    Products as they follow each other in the level's own order, its register having started at 0,
    the levels below handing over whatever their registers can hold. Where none of these wraps one
    product more can overflow the level. None: no number of them can.

    Raises: SpecError for a datapath that does not say its operands.
    """
    if datapath.inputs is None or datapath.weights is None:
        raise SpecError("a datapath must name its inputs and weights for their products to count")
    x, q = datapath.inputs, datapath.weights
    products = [a * b for a in (x.min, x.max) for b in (q.min, q.max)]
    extremes = min(*products, 0), max(*products, 0)
    return tuple(_first(datapath, index, extremes) for index in range(len(datapath.levels)))


def _handed(datapath: Datapath, n: int, index: int, extremes: Range) -> Range:
    """What the levels below this one make of n products at least and at most."""
    least, greatest = extremes
    if index == 0:
        return n * least, n * greatest
    below = index - 1
    if below > datapath.summing:
        return _held(datapath, n, below, extremes)
    span = datapath.spans[below] if below < datapath.summing else MAX_TERMS
    groups, rest = divmod(n, span)
    low, high = _held(datapath, rest, below, extremes)
    if groups:
        full = _held(datapath, span, below, extremes)
        low, high = low + groups * full[0], high + groups * full[1]
    return low, high


def _held(datapath: Datapath, n: int, index: int, extremes: Range) -> Range:
    """What a level's register holds of n products at least and at most."""
    register = datapath.levels[index]
    low, high = _handed(datapath, n, index, extremes)
    if register.overflow is Overflow.WRAP and not (register.min <= low and high <= register.max):
        return register.min, register.max  # over one end it comes back at the other
    return max(low, register.min), min(high, register.max)


def _first(datapath: Datapath, index: int, extremes: Range) -> int | None:
    """The most products before a level can overflow; None if it never can."""
    level = datapath.levels[index]

    def fits(n: int) -> bool:
        low, high = _handed(datapath, n, index, extremes)
        return level.min <= low and high <= level.max

    low, top = 0, datapath.spans[index] if index < datapath.summing else MAX_TERMS
    if fits(top):
        return None
    while top - low > 1:  # `low` fits and `top` does not
        middle = (low + top) // 2
        low, top = (middle, top) if fits(middle) else (low, middle)
    return low


def _described(
    *,
    name: str,
    title: str,
    source: str,
    levels: tuple[Any, ...],
    inputs: str | None = None,
    weights: str | None = None,
    order: Mapping[str, Any] | tuple[Any, ...] | None = None,
    bias: str = "first",
    checked: Mapping[str, Any] | None = None,
    notes: str = "",
) -> Described:
    """The description, from the tables of its file."""
    if not _NAME.fullmatch(name):
        raise SpecError(
            f"name must be 1 to 64 of a-z, 0-9, '.', '_' and '-', a letter or digit first, not"
            f" {name!r}"
        )
    if not source.strip():
        raise SpecError("source must say where this is known from")
    made = [_level(levels, index) for index in range(len(levels))]
    check, how = ("none", "") if checked is None else _checked(checked)
    if isinstance(order, Mapping):
        order = lanes(**arguments(order, "[order]", _axes))
    datapath = Datapath(
        [register for register, _ in made],
        order=order,
        bias=bias,  # type: ignore[arg-type]
        inputs=None if inputs is None else IntSpec.parse(inputs),
        weights=None if weights is None else IntSpec.parse(weights),
        name=name,
        source=_lines(source),
    )
    return Described(
        datapath, _lines(title), tuple(what for _, what in made), check, how, _lines(notes)
    )


def _level(levels: tuple[Any, ...], index: int) -> tuple[Accumulator, str]:
    """A level, and what it is in words."""
    place = f"levels[{index}]"
    if not isinstance(levels[index], Mapping):
        raise SpecError(f"{place} must be a table, not {levels[index]!r}")
    options = arguments(levels[index], place, _register)
    try:
        return _register(**options)
    except AccsimError as error:
        raise SpecError(f"{place}: {error}") from None


def _register(
    *,
    bits: int,
    overflow: str,
    terms: int | None = None,
    rail: str = "step",
    signed: bool = True,
    what: str = "",
) -> tuple[Accumulator, str]:
    register = Accumulator(bits, overflow, signed=signed, terms=terms, rail=rail)  # type: ignore[arg-type]
    return register, _lines(what)


def _axes(*, shape: tuple[Any, ...], axes: tuple[Any, ...]) -> None:
    """The keys of [order]; `lanes` checks what they are."""


def _checked(table: Mapping[str, Any]) -> tuple[str, str]:
    """How far the description was checked."""
    options = arguments(table, "[checked]", _check)
    return _check(**options)


def _check(*, kind: str, how: str) -> tuple[str, str]:
    if kind not in CHECKS:
        words = ", ".join(f'"{word}"' for word in CHECKS)
        raise SpecError(f"[checked] kind must be one of {words}, not {kind!r}")
    return kind, _lines(how)


def _lines(text: str) -> str:
    """Paragraphs, each on one line, whose letters a terminal may be given."""
    told = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip())]
    return "\n".join("".join(c for c in part if c.isprintable()) for part in told)
