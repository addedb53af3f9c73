"""What the inputs of a model's layers are, over calibration data, and what the model takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from a2qplus.modules import evaluating
from a2qplus.rules import Range
from accsim.errors import AccsimError, DtypeError, ModelError, ShapeError

__all__ = [
    "Batch",
    "Calibration",
    "LastInputs",
    "Seen",
    "Taken",
    "batches_of",
    "inputs_of",
    "observe",
    "taken_by",
]

Taken = tuple[tuple[tuple[int, ...], torch.dtype], ...]  # shape and type of each input of a model
Seen = tuple[Range, ...]  # of each tensor that a layer takes
Batch = Tensor | tuple[Tensor, ...]  # of one input, or of several
Calibration = Tensor | Iterable[Batch]


class LastInputs:
    """A hook that notes shapes and types of what a model was last called with, if tensors alone.

    It stays with the model and its copies, and is no part of its state.
    """

    def __init__(self) -> None:
        self.taken: Taken | None = None

    def __call__(self, _: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Note the inputs of a call."""
        if inputs and not options and all(isinstance(x, Tensor) for x in inputs):
            self.taken = tuple((tuple(x.shape), x.dtype) for x in inputs)

    def watch(self, model: nn.Module) -> RemovableHandle:
        """Note the calls of this model."""
        return model.register_forward_pre_hook(self, with_kwargs=True)


def taken_by(model: nn.Module) -> Taken | None:
    """Shapes and types of what a model of `quantize_model` was last called with, if known."""
    hooks = [hook for hook in model._forward_pre_hooks.values() if isinstance(hook, LastInputs)]
    return hooks[0].taken if hooks else None


@torch.no_grad()
def observe(
    model: nn.Module, layers: Mapping[str, nn.Module], calibration: Calibration
) -> dict[str, Seen]:
    """Lowest and highest input of each layer over the batches, in the order of the first calls.

    Raises: ShapeError for batches that do not run through the model, or without inputs; ModelError
    for numbers that are not finite.
    """
    seen: dict[str, Seen] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Any]], None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...], options: dict[str, Any]) -> None:
            inputs = [*args, *options.values()]
            if any(x.numel() == 0 for x in inputs):
                return
            if not all(bool(x.isfinite().all()) for x in inputs):
                raise ModelError(f"inputs of layer {name!r} to calibrate with must be finite")
            new = [(float(x.min()), float(x.max())) for x in inputs]
            old = seen.get(name, new)
            seen[name] = tuple(
                (min(a, c), max(b, d)) for (a, b), (c, d) in zip(old, new, strict=True)
            )

        return hook

    handles = [
        layer.register_forward_pre_hook(watch(name), with_kwargs=True)
        for name, layer in layers.items()
    ]
    try:
        with evaluating(model):
            for number, batch in enumerate(batches_of(calibration)):
                _run(model, batch, f"calibration batch {number}")
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise ShapeError("calibration must hold at least one input")
    return seen


def batches_of(calibration: Calibration) -> Iterable[Batch]:
    """One batch or several, as several."""
    return [calibration] if isinstance(calibration, Tensor) else calibration


def inputs_of(batch: Batch) -> tuple[Tensor, ...]:
    """What the model is called with."""
    return batch if isinstance(batch, tuple) else (batch,)


def _run(model: nn.Module, batch: Batch, name: str) -> None:
    """Run the model. Raises: DtypeError, ShapeError or ModelError with the batch's name."""
    inputs = inputs_of(batch)
    for x in inputs:
        if not isinstance(x, Tensor):
            raise DtypeError(
                f"{name} must be a tensor of inputs, not a {type(x).__name__}; of a loader of pairs"
                " take (x for x, y in loader)"
            )
        if x.is_floating_point() and not bool(x.isfinite().all()):
            raise ModelError(f"{name} must hold finite numbers only")
    try:
        model(*inputs)
    except AccsimError:
        raise
    except (RuntimeError, IndexError, TypeError, ValueError) as error:  # what torch raises
        first = str(error).partition("\n")[0]
        shapes = " and ".join(str(tuple(x.shape)) for x in inputs)
        raise ShapeError(
            f"{name}, of shape {shapes}, must run through the model: {first}"
        ) from error
