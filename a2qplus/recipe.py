"""A recipe: all that a training run is made of, as a TOML file.

A table holds arguments of a function by name (`fit`, `quantize_model`), so its keys, which of them
are due and what they may be are read off the function.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import Parameter, signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from a2qplus.convert import quantize_model
from a2qplus.networks import NETWORKS
from a2qplus.train import check_training, fit
from accsim._check import integer
from accsim.errors import AccsimError, RecipeError, SpecError
from accsim.extras import require

__all__ = ["Network", "Recipe", "blamed", "read_recipe"]

MOST_SIZE = 2**20  # of a hidden layer
_OURS = ("seed", "checkpoint", "on_epoch")  # arguments of fit that no table has
_FORMS = {
    bool: (bool, "true or false"),
    int: (int, "an integer"),
    float: (int | float, "a number"),
    str: (str, "a string"),
    tuple: (list, "an array"),
    Mapping: (dict, "a table"),
    NoneType: (NoneType, '"none"'),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The float network: "mlp" or "cnn" with the sizes of its hidden layers, or "module:function".

    `checkpoint` is a file of its trained state, as torch.save writes a state dict.
    """

    model: str
    hidden: tuple[int, ...] = ()
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        if self.model in NETWORKS:
            if not self.hidden:
                raise SpecError(f"hidden must hold the sizes of the hidden layers of {self.model}")
            for size in self.hidden:
                integer(size, "sizes in hidden", 1, MOST_SIZE)
            return
        module, _, function = self.model.partition(":")
        if not module or not function.isidentifier():
            words = ", ".join(f'"{word}"' for word in NETWORKS)
            raise SpecError(f'model must be {words} or "module:function", not {self.model!r}')
        if self.hidden:
            raise SpecError(f"hidden must be absent where {self.model} makes the network")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training run. Names of files in it start from the folder of `file`.

    `quantization` are arguments of `quantize_model`, the trainings of `fit`; `float_training` is
    None where the network has a checkpoint.
    """

    file: Path = field(compare=False)
    seed: int
    data: str
    network: Network
    quantization: Mapping[str, Any]
    float_training: Mapping[str, Any] | None
    quantized_training: Mapping[str, Any]


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """The recipe in a TOML file.

    Raises: RecipeError naming the table and the key that is unknown, missing or of another kind.
    """
    path = Path(path)
    content = _parsed(path)
    with blamed(path):
        return _recipe(path, **_arguments(content, "the recipe", _recipe))


@contextmanager
def blamed(file: Path, place: str = "") -> Iterator[None]:
    """What goes wrong in this block names the recipe."""
    try:
        yield
    except AccsimError as error:
        raise RecipeError(f"{file.name}: {place}{error}") from None


def _parsed(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        tomllib = require("tomli", extra="train", purpose="a recipe")
    try:
        content: dict[str, Any] = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise RecipeError(f"{path.name} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path.name} must be a TOML file: {error}") from None
    return content


def _recipe(
    file: Path,
    *,
    seed: int,
    data: Mapping[str, Any],
    network: Mapping[str, Any],
    quantization: Mapping[str, Any],
    quantized_training: Mapping[str, Any],
    float_training: Mapping[str, Any] | None = None,
) -> Recipe:
    """The recipe, from its tables."""
    made = _table(network, "network", Network)
    if (float_training is None) == (made.checkpoint is None):
        raise RecipeError("the recipe must have either [float_training] or checkpoint in [network]")
    floats = ("penalty_weight", *_OURS)  # nothing is bounded there
    how = _arguments(quantization, "[quantization]", quantize_model, ("calibration",))
    if "overrides" in how:
        how["overrides"] = _without_words(how["overrides"])
    return Recipe(
        file=file,
        seed=integer(seed, "seed", 0, 2**63 - 1),
        data=_table(data, "data", _source),
        network=made,
        quantization=how,
        float_training=None
        if float_training is None
        else _table(float_training, "float_training", _training, fit, floats),
        quantized_training=_table(quantized_training, "quantized_training", _training, fit, _OURS),
    )


def _source(*, source: str) -> str:
    if source != "digits" and not source.lower().endswith(".npz"):
        raise SpecError(f'source must be "digits" or an .npz file, not {source!r}')
    return source


def _training(**options: Any) -> dict[str, Any]:
    """The options of fit that were given, checked beside the defaults of the others."""
    defaults = {name: option.default for name, option in signature(fit).parameters.items()}
    names = signature(check_training).parameters
    check_training(**{name: options.get(name, defaults[name]) for name in names})
    return options


def _table(
    table: Mapping[str, Any],
    name: str,
    make: Callable[..., Any],
    function: Callable[..., Any] | None = None,
    without: tuple[str, ...] = (),
) -> Any:
    """What `make` makes of the table, whose keys are those of `function`, else its own."""
    options = _arguments(table, f"[{name}]", function or make, without)
    try:
        return make(**options)
    except AccsimError as error:
        raise RecipeError(f"[{name}] {error}") from None


def _arguments(
    table: Mapping[str, Any],
    place: str,
    function: Callable[..., Any],
    without: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The table as keyword arguments of a function, but for those that tables are without."""
    hints = get_type_hints(function)
    known = {
        name: option
        for name, option in signature(function).parameters.items()
        if option.kind is Parameter.KEYWORD_ONLY and name not in without
    }
    names = ", ".join(known)
    for name in table:
        if name not in known:
            raise RecipeError(f"keys of {place} must be of {names}, not {name!r}")
    for name, option in known.items():
        if name not in table and option.default is Parameter.empty:
            raise RecipeError(f"{place} must have {name}; its keys are {names}")
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
        raise RecipeError(f"{name} must be {words}, not {value!r}")
    return tuple(value) if isinstance(value, list) else value


def _without_words(value: Any) -> Any:
    """The value, with None for each "none" inside it, if it is a table."""
    if not isinstance(value, dict):
        return value
    return {
        name: None if inner == "none" else _without_words(inner) for name, inner in value.items()
    }
