"""A recipe: all that a training run is made of, as a TOML file.

A table holds arguments of a function by name (`fit`, `quantize_model`), so its keys, which of them
are due and what they may be are read off the function.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

from a2qplus.convert import quantize_model
from a2qplus.networks import NETWORKS
from a2qplus.train import check_training, fit
from accsim._check import integer
from accsim.errors import AccsimError, RecipeError, SpecError
from accsim.toml_files import arguments, blamed, read_toml

__all__ = ["Network", "Recipe", "read_recipe"]

MOST_SIZE = 2**20  # of a hidden layer
_OURS = ("seed", "checkpoint", "on_epoch")  # arguments of fit that no table has


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
    content = read_toml(path, RecipeError)
    with blamed(path, RecipeError):
        return _recipe(path, **arguments(content, "the recipe", _recipe))


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
    how = arguments(quantization, "[quantization]", quantize_model, ("calibration",))
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
    options = arguments(table, f"[{name}]", function or make, without)
    try:
        return make(**options)
    except AccsimError as error:
        raise RecipeError(f"[{name}] {error}") from None


def _without_words(value: Any) -> Any:
    """The value, with None for each "none" inside it, if it is a table."""
    if not isinstance(value, dict):
        return value
    return {
        name: None if inner == "none" else _without_words(inner) for name, inner in value.items()
    }
