"""Walks over the modules of a model: replacing some, and how they were before."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

__all__ = ["by_channel", "copied", "evaluating", "replace_modules"]


def copied(model: nn.Module) -> nn.Module:
    """A deep copy; tensors that hooks computed (as pruned weights are) as they are now."""
    computed = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    return copy.deepcopy(model, computed)


def by_channel(values: Tensor, weight: Tensor) -> Tensor:
    """One value for each output channel, to be multiplied with a weight."""
    return values.reshape(-1, *[1] * (weight.ndim - 1))


def replace_modules(
    model: nn.Module, replacement: Callable[[str, nn.Module], nn.Module | None]
) -> nn.Module:
    """The model, changed in place, with each module replaced where `replacement` returns one.

    A module that is used under several names is replaced once, under all of them.
    """
    names: dict[int, str] = {}
    for name, module in model.named_modules():
        names[id(module)] = name
    replaced: dict[int, nn.Module | None] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if id(module) not in replaced:
            replaced[id(module)] = replacement(names[id(module)], module)
        new = replaced[id(module)]
        if new is None:
            continue
        if name == "":
            return new
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, new)
    return model


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, and afterwards every module as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
