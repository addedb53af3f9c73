"""Training, as a plain loop that a user can also write: task loss plus the norm penalty."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from a2qplus.quantizers import WeightQuantizer

__all__ = ["accuracy", "fit", "penalty"]


def penalty(model: nn.Module) -> Tensor:
    """Sum over all bounded channels of max(norm - scale·T, 0); add it to the loss times 1e-3.

    Source: A2Q+ paper Eq. 42.
    """
    terms = [m.penalty() for m in model.modules() if isinstance(m, WeightQuantizer)]
    return torch.stack(terms).sum() if terms else torch.zeros(())


def fit(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    learning_rate: float,
    seed: int,
    batch: int = 64,
    penalty_weight: float = 1e-3,
    on_epoch: Callable[[], object] = lambda: None,
) -> None:
    """Train a classifier in place with Adam and a cosine schedule, shuffled by `seed` alone.

    Shapes: x (B, ...), y (B,) class numbers. `on_epoch` is called after each epoch.
    """
    shuffle = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    model.train()
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(x), generator=shuffle), batch):
            loss = cross_entropy(model(x[rows]), y[rows]) + penalty_weight * penalty(model)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
        on_epoch()
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of the images in x whose largest logit is at their class."""
    return float((model(x).argmax(dim=1) == y).float().mean())
