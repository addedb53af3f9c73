"""TOML files that people write: tables as keyword arguments of functions, checked by them.

Which keys a table has, which of them are due and what they may be is read off the function.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter, signature
from pathlib import Path
from reprlib import repr as shown
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from accsim.errors import AccsimError, SpecError
from accsim.files import read_plain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["arguments", "blamed", "read_toml"]

MOST_BYTES = 2**20
MOST_DOTS = 1000
_FORMS = {
    bool: (bool, "true or false"),
    int: (int, "an integer"),
    float: (int | float, "a number"),
    str: (str, "a string"),
    tuple: (list, "an array"),
    Mapping: (dict, "a table"),
    NoneType: (NoneType, '"none"'),
}


def read_toml(path: Path, error: type[AccsimError]) -> dict[str, Any]:
    """What is in a TOML file.

    Raises: `error` for a file that cannot be read, is no TOML, is of over 1 MiB, or has a line with
    more dots than any is written with: keys of very many parts take very long.
    """
    try:
        data = read_plain(path, MOST_BYTES + 1)
    except OSError as reason:
        raise error(f"{path.name} cannot be read: {reason.strerror}") from None
    if len(data) > MOST_BYTES:
        raise error(f"{path.name} must be a TOML file of at most {MOST_BYTES} bytes")
    if any(line.count(b".") > MOST_DOTS for line in data.splitlines()):
        raise error(f"{path.name} must have at most {MOST_DOTS} dots in a line")
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as reason:
        raise error(f"{path.name} must be a TOML file: {reason}") from None


@contextmanager
def blamed(file: Path, error: type[AccsimError], place: str = "") -> Iterator[None]:
    """What goes wrong in this block names the file."""
    try:
        yield
    except AccsimError as reason:
        raise error(f"{file.name}: {place}{reason}") from None


def arguments(
    table: Mapping[str, Any],
    place: str,
    function: Callable[..., Any],
    without: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The table as keyword arguments of a function, but for those that tables are without.

    Raises: SpecError naming the place and the key that is unknown, missing or of another kind.
    """
    hints = get_type_hints(function)
    known = {
        name: option
        for name, option in signature(function).parameters.items()
        if option.kind is Parameter.KEYWORD_ONLY and name not in without
    }
    names = ", ".join(known)
    for name in table:
        if name not in known:
            raise SpecError(f"keys of {place} must be of {names}, not {shown(name)}")
    for name, option in known.items():
        if name not in table and option.default is Parameter.empty:
            raise SpecError(f"{place} must have {name}; its keys are {names}")
    return {name: _value(value, f"{place} {name}", hints[name]) for name, value in table.items()}


def _value(value: Any, name: str, hint: Any) -> Any:
    """A value of the table as the argument of this type: arrays as tuples, "none" as None."""
    union = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = [get_origin(kind) or kind for kind in union]
    if value == "none" and NoneType in kinds:
        return None
    forms = [_FORMS[kind] for kind in kinds if kind in _FORMS]
    fits = any(isinstance(value, form) for form, _ in forms)
    if isinstance(value, bool) and bool not in kinds:
        fits = False
    if forms and not fits:
        words = " or ".join(words for _, words in forms)
        raise SpecError(f"{name} must be {words}, not {shown(value)}")
    return tuple(value) if isinstance(value, list) else value
