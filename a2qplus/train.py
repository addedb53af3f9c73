"""Training, as a plain loop that a user can also write: task loss plus the norm penalty."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from a2qplus.checkpoint import (
    check_same,
    describe_model,
    describe_tensor,
    interrupts_wait,
    read_tensors,
    write_tensors,
)
from a2qplus.quantizers import ActivationQuantizer, WeightQuantizer
from accsim._check import integer, real
from accsim.errors import CheckpointError, DtypeError, ModelError, ShapeError

__all__ = ["Epoch", "accuracy", "check_training", "fit", "parameter_groups", "penalty"]

FORMAT = 1  # of the checkpoint
_MOST = 2**31 - 1  # epochs, images in a batch
_NOT_DECAYED = (WeightQuantizer, ActivationQuantizer, nn.LayerNorm, nn.RMSNorm)
_AT_ONCE = 1024  # images whose outputs are computed together


def penalty(model: nn.Module) -> Tensor:
    """Sum over all bounded channels of max(norm - scale·T, 0); add it to the loss times 1e-3.

    Source: A2Q+ paper Eq. 42.
    """
    terms = [m.penalty() for m in model.modules() if isinstance(m, WeightQuantizer)]
    return torch.stack(terms).sum() if terms else torch.zeros(())


def parameter_groups(model: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """The trainable parameters, each once, as a torch optimizer takes them.

    `weight_decay` is for what inputs are multiplied by, matrices and kernels; biases, norms and the
    quantizers' scales have none: a scale that decays would change the integers.

    Raises: SpecError for weight_decay; ModelError for a model without trainable parameters.
    """
    weight_decay = real(weight_decay, "weight_decay")
    spared = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, _NOT_DECAYED)
        for parameter in module.parameters(recurse=False)
    }
    groups: dict[float, list[nn.Parameter]] = {weight_decay: [], 0.0: []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            decays = parameter.ndim >= 2 and id(parameter) not in spared
            groups[weight_decay if decays else 0.0].append(parameter)
    if not any(groups.values()):
        raise ModelError("the model must hold parameters to train")
    return [{"params": some, "weight_decay": decay} for decay, some in groups.items() if some]


@dataclass(frozen=True, slots=True)
class Epoch:
    """What `fit` tells about an epoch: its number from 1, of how many, and how it went."""

    number: int
    epochs: int
    loss: float  # mean over the images as they were trained on, penalty included
    learning_rate: float


def check_training(
    *, epochs: int, learning_rate: float, batch: int, penalty_weight: float, weight_decay: float
) -> dict[str, Any]:
    """What `fit` can be asked for, as plain numbers. Raises: SpecError if it can not."""
    return {
        "epochs": integer(epochs, "epochs", 0, _MOST),
        "learning_rate": real(learning_rate, "learning_rate"),
        "batch": integer(batch, "batch", 1, _MOST),
        "penalty_weight": real(penalty_weight, "penalty_weight"),
        "weight_decay": real(weight_decay, "weight_decay"),
    }


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
    weight_decay: float = 0.0,
    checkpoint: str | os.PathLike[str] | None = None,
    on_epoch: Callable[[Epoch], object] = lambda _: None,
) -> None:
    """Train a classifier in place with AdamW and a cosine schedule; all chance is from `seed`.

    `on_epoch` is called after each epoch. Dropout draws from torch's generators as if they had been
    seeded, and leaves them as they were.

    `checkpoint` is a file that holds the whole state after each epoch, written before `on_epoch` is
    called, and after the step in which Ctrl-C was pressed. To go on, call again with the same
    arguments and a model of the same layers, whatever its weights: it ends with the weights of a
    run that was never interrupted, bit for bit on the same machine. A second Ctrl-C does not wait
    for the step to end, and loses the epoch.

    Shapes: x (B, ...), y (B,) class numbers.
    Raises: SpecError, ShapeError, DtypeError, ModelError for what cannot be trained, and ModelError
    once the loss is no longer finite; CheckpointError for a
    file that is not a checkpoint of this very run; KeyboardInterrupt.
    """
    asked = check_training(
        epochs=epochs,
        learning_rate=learning_rate,
        batch=batch,
        penalty_weight=penalty_weight,
        weight_decay=weight_decay,
    )
    integer(seed, "seed", 0, 2**63 - 1)
    y = _checked(x, y)
    run = _Run(model, **asked, seed=seed)
    if checkpoint is not None:
        if not Path(checkpoint).absolute().parent.is_dir():
            raise CheckpointError(f"{checkpoint} must lie in a folder that is there")
        data = {"x": describe_tensor(x), "y": describe_tensor(y)}
        words = {name: str(value) for name, value in {**asked, "seed": seed, **data}.items()}
        words |= describe_model(model)
        if Path(checkpoint).exists():
            run.restore(read_tensors(checkpoint), words, Path(checkpoint).name)
    with interrupts_wait() as interrupted:
        while run.epoch < epochs:
            done = run.train_epoch(x, y, interrupted)
            if done is not None and not isfinite(done.loss):
                raise ModelError(
                    f"training must keep its loss finite: in epoch {done.number} it is {done.loss};"
                    " try a smaller learning_rate"
                )
            if checkpoint is not None:
                write_tensors(checkpoint, {"format": FORMAT, "run": words, **run.state()})
            if done is None:
                break
            on_epoch(done)
    model.eval()


def _checked(x: Tensor, y: Tensor) -> Tensor:
    """The classes as torch takes them. Raises: DtypeError, ShapeError or ModelError."""
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, Tensor):
            raise DtypeError(f"{name} must be a tensor, not a {type(value).__name__}")
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise DtypeError(f"y must be the numbers of classes, integers, not {y.dtype}")
    if len(x) != len(y) or len(x) == 0:
        raise ShapeError(f"x and y must hold as many, at least one, not {len(x)} and {len(y)}")
    if y.ndim != 1 or int(y.min()) < 0:
        raise ShapeError("y must be (B,) class numbers from 0 on")
    if x.is_floating_point() and not bool(x.isfinite().all()):
        raise ModelError("x to train on must hold finite numbers only")
    return y.long()


class _Run:
    """Training between two steps: what is trained, and how far it is."""

    def __init__(
        self,
        model: nn.Module,
        *,
        epochs: int,
        learning_rate: float,
        batch: int,
        penalty_weight: float,
        weight_decay: float,
        seed: int,
    ) -> None:
        self.model, self.batch, self.penalty_weight = model, batch, penalty_weight
        self.epochs = epochs
        groups = parameter_groups(model, weight_decay=weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=learning_rate)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, epochs)
        self.epoch = 0  # how many are done
        self.step = 0  # of the epoch that is on: how many are done
        self.loss = torch.zeros(())  # of that epoch: sum over the images
        self.shuffle = torch.Generator().manual_seed(seed)  # as it was when that epoch began
        self.devices = sorted({p.get_device() for p in model.parameters() if p.is_cuda})
        with torch.random.fork_rng(self.devices):
            torch.manual_seed(seed)
            self.chance = self._chance()

    def train_epoch(self, x: Tensor, y: Tensor, interrupted: Callable[[], bool]) -> Epoch | None:
        """Go on to the end of the epoch, or to where it is interrupted: then None."""
        self.model.train()  # anew each time: who is told of an epoch may have evaluated
        shuffle = self.shuffle.clone_state()
        order = torch.randperm(len(x), generator=shuffle)
        with torch.random.fork_rng(self.devices):
            self._set_chance(self.chance)
            for rows in torch.split(order, self.batch)[self.step :]:
                if interrupted():
                    self.chance = self._chance()
                    return None
                self._train_step(x[rows], y[rows])
            self.chance = self._chance()
        rate = self.optimizer.param_groups[0]["lr"]
        self.schedule.step()
        done = Epoch(self.epoch + 1, self.epochs, float(self.loss) / len(x), rate)
        self.epoch, self.step = self.epoch + 1, 0
        self.loss, self.shuffle = torch.zeros(()), shuffle
        return done

    def _train_step(self, x: Tensor, y: Tensor) -> None:
        logits = self._logits(x)
        if logits.ndim != 2 or logits.shape[1] <= int(y.max()):
            raise ShapeError(
                f"the model must give logits (B, classes), with class {int(y.max())} among them,"
                f" not {tuple(logits.shape)}"
            )
        loss = cross_entropy(logits, y) + self.penalty_weight * penalty(self.model)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.loss = self.loss + loss.detach() * len(x)
        self.step += 1

    def _logits(self, x: Tensor) -> Tensor:
        try:
            logits: Tensor = self.model(x)
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            raise ModelError(
                f"the model must train on a batch of shape {tuple(x.shape)}: {error}"
            ) from error
        return logits

    def state(self) -> dict[str, Any]:
        """All of it, as tensors and plain values."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "loss": self.loss,
            "shuffle": self.shuffle.get_state(),
            "chance": self.chance,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def restore(self, there: dict[str, Any], words: dict[str, str], name: str) -> None:
        """Take up a state that `fit` wrote to the file `name`, if it is of the run `words`."""
        missing = {"format", "run", *self.state()} - there.keys()
        if missing or there["format"] != FORMAT or not isinstance(there["run"], dict):
            raise CheckpointError(f"{name} must be a checkpoint that fit wrote, of format {FORMAT}")
        check_same(there["run"], words, name)
        try:
            self._restore(there)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
            raise CheckpointError(f"{name} must hold the state of this run, whole") from None

    def _restore(self, there: dict[str, Any]) -> None:
        """Take up the members of a state. Raises: whatever torch does for wrong ones."""
        self.model.load_state_dict(there["model"])
        self.optimizer.load_state_dict(there["optimizer"])
        self.schedule.load_state_dict(there["schedule"])
        self.epoch = integer(there["epoch"], "epoch", 0, self.epochs)
        self.step = integer(there["step"], "step", 0, _MOST)
        self.loss, self.chance = there["loss"], there["chance"]
        self.shuffle.set_state(there["shuffle"])

    def _chance(self) -> list[Tensor]:
        """States of torch's own generators, on the CPU and on the model's devices."""
        return [torch.get_rng_state(), *map(torch.cuda.get_rng_state, self.devices)]

    def _set_chance(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        for device, state in zip(self.devices, states[1:], strict=True):
            torch.cuda.set_rng_state(state, device)


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of the images in x whose largest logit is at their class."""
    hits = [
        model(some).argmax(dim=1) == classes
        for some, classes in zip(torch.split(x, _AT_ONCE), torch.split(y, _AT_ONCE), strict=True)
    ]
    return float(torch.cat(hits).float().mean())
