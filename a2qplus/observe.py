"""What the inputs of a model's layers are, over calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from a2qplus.modules import evaluating
from a2qplus.rules import Range
from accsim.errors import DtypeError, ModelError, ShapeError

__all__ = ["Seen", "batches_of", "observe"]

Seen = tuple[Range, ...]  # of each tensor that a layer takes


@torch.no_grad()
def observe(
    model: nn.Module, layers: Mapping[str, nn.Module], calibration: Tensor | Iterable[Tensor]
) -> dict[str, Seen]:
    """Lowest and highest input of each layer over the batches, in the order of the first calls.

    Raises: ShapeError for batches that do not run through the model, or without inputs; ModelError
    for numbers that are not finite.
    """
    seen: dict[str, Seen] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
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

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
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


def batches_of(calibration: Tensor | Iterable[Tensor]) -> Iterable[Tensor]:
    """One batch or several, as several."""
    return [calibration] if isinstance(calibration, Tensor) else calibration


def _run(model: nn.Module, batch: Tensor, name: str) -> None:
    """Run the model. Raises: DtypeError, ShapeError or ModelError with the batch's name."""
    if not isinstance(batch, Tensor):
        raise DtypeError(f"{name} must be a tensor, not a {type(batch).__name__}")
    if batch.is_floating_point() and not bool(batch.isfinite().all()):
        raise ModelError(f"{name} must hold finite numbers only")
    try:
        model(batch)
    except (RuntimeError, IndexError) as error:  # what torch raises for shapes and dtypes
        first = str(error).partition("\n")[0]
        raise ShapeError(
            f"{name}, of shape {tuple(batch.shape)}, must run through the model: {first}"
        ) from error
