"""What a recipe asks for, made: the data, the float network, the quantized one."""

from __future__ import annotations

import importlib
import sys
from textwrap import shorten

import torch
from torch import nn

from a2qplus.checkpoint import read_tensors
from a2qplus.convert import quantize_model
from a2qplus.data import Data, read_data, split_digits
from a2qplus.modules import evaluating
from a2qplus.networks import NETWORKS
from a2qplus.recipe import Recipe
from accsim.errors import CheckpointError, RecipeError
from accsim.toml_files import blamed

__all__ = ["float_network", "quantized_network", "recipe_data"]

_CALIBRATION = 256  # inputs at once


def recipe_data(recipe: Recipe) -> Data:
    """What the recipe trains and tests on.

    Raises: RecipeError for a file without it; MissingExtraError for digits without scikit-learn.
    """
    if recipe.data == "digits":
        return split_digits(recipe.seed)
    return read_data(recipe.file.parent / recipe.data)


def float_network(recipe: Recipe, data: Data) -> nn.Module:
    """The recipe's network before quantization, with weights from the seed or the checkpoint.

    "module:function" runs the function, from a module beside the recipe or an installed one.

    Raises: RecipeError for a network that does not fit the data; CheckpointError for a state that
    does not fit the network.
    """
    with blamed(recipe.file, RecipeError, "[network] "), torch.random.fork_rng([]):
        torch.manual_seed(recipe.seed)
        if make := NETWORKS.get(recipe.network.model):
            try:
                model = make(data.train_x.shape[1:], data.classes, recipe.network.hidden)
            except RuntimeError as error:  # too large for the memory
                raise RecipeError(shorten(str(error), 300)) from None
        else:
            model = _call(recipe)
        _check_network(model, data, recipe.network.model)
    if recipe.network.checkpoint is not None:
        path = recipe.file.parent / recipe.network.checkpoint
        state = read_tensors(path)
        try:
            model.load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError) as error:
            text = shorten(str(error), 300)
            raise CheckpointError(f"{path.name} must hold this network's state: {text}") from None
    return model


def quantized_network(recipe: Recipe, network: nn.Module, data: Data) -> nn.Module:
    """The quantized network to train, from the trained float one.

    Raises: RecipeError for what `quantize_model` does not take.
    """
    calibration = torch.split(data.train_x, _CALIBRATION)
    with blamed(recipe.file, RecipeError, "[quantization] "):
        return quantize_model(network, calibration=calibration, **recipe.quantization)


def _call(recipe: Recipe) -> nn.Module:
    """What the "module:function" of the recipe returns; modules beside the recipe are found."""
    name, _, function = recipe.network.model.partition(":")
    folder = str(recipe.file.resolve().parent)
    sys.path.insert(0, folder)
    try:
        make = getattr(importlib.import_module(name), function, None)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it needs is not
        raise RecipeError(f"model must be of a module that can be imported, not {name!r}") from None
    finally:
        sys.path.remove(folder)
    if not callable(make):
        raise RecipeError(f"model {recipe.network.model} must name a function of the module")
    try:
        model = make()
    except Exception as error:  # the user's own code
        kind = type(error).__name__
        raise RecipeError(f"model {recipe.network.model} raised {kind}: {error}") from error
    if not isinstance(model, nn.Module):
        raise RecipeError(f"model {recipe.network.model} must return a torch.nn.Module")
    return model


@torch.no_grad()
def _check_network(model: nn.Module, data: Data, name: str) -> None:
    """Raise RecipeError unless the network maps inputs to logits of the classes."""
    x = data.train_x[:2]
    text = f"{name} must map inputs {tuple(x.shape)} to logits ({len(x)}, {data.classes})"
    try:
        with evaluating(model):
            logits = model(x)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise RecipeError(f"{text}: {shorten(str(error), 300)}") from None
    shape = tuple(getattr(logits, "shape", ()))
    if len(shape) != 2 or shape[0] != len(x) or shape[1] < data.classes:
        raise RecipeError(f"{text}, not {shape}")
