"""What a recipe trains on: scikit-learn's digits, or arrays of one's own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from accsim._check import IntArray
from accsim.errors import RecipeError
from accsim.extras import require

__all__ = ["Data", "read_data", "split_digits"]

TEST_IMAGES = 360  # of the digits
MOST_CLASSES = 2**16
_NAMES = ("x", "y", "test_x", "test_y")


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Inputs (B, ...), float32, and their classes (B,), int64, to train on and to test on."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    @property
    def classes(self) -> int:
        """How many there are: the highest number and one."""
        return 1 + max(int(self.train_y.max()), int(self.test_y.max()))


def split_digits(seed: int, *, quick: bool = False) -> Data:
    """Images (B, 1, 8, 8) from 0 to 1 and their digits, shuffled by a seed.

    360 are to test on, the others to train on; few if quick.

    Raises: MissingExtraError without scikit-learn.
    """
    require("sklearn", extra="train", purpose="the digits")
    from sklearn.datasets import load_digits

    data = load_digits()
    x = torch.tensor(data.images / 16, dtype=torch.float32)[:, None]
    y = torch.tensor(data.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    test, train = order[:TEST_IMAGES], order[TEST_IMAGES:]
    if quick:
        test, train = test[:60], train[:600]
    return Data(x[train], y[train], x[test], y[test])


def read_data(path: str | os.PathLike[str]) -> Data:
    """The arrays x and y, to train on, test_x and test_y of an .npz file.

    Raises: RecipeError for anything else.
    """
    path = Path(path)
    arrays = _arrays(path)
    if missing := [name for name in _NAMES if name not in arrays]:
        raise RecipeError(
            f"{path.name} must hold the arrays {', '.join(_NAMES)}; it lacks {', '.join(missing)}"
        )
    train_x, test_x = (_inputs(arrays[name], f"{path.name}: {name}") for name in ("x", "test_x"))
    train_y, test_y = (_classes(arrays[name], f"{path.name}: {name}") for name in ("y", "test_y"))
    for x, y, name in ((train_x, train_y, "x and y"), (test_x, test_y, "test_x and test_y")):
        if len(x) != len(y):
            raise RecipeError(f"{path.name}: {name} must hold as many, not {len(x)} and {len(y)}")
    if train_x.shape[1:] != test_x.shape[1:]:
        raise RecipeError(
            f"{path.name}: inputs of x and test_x must be of one shape, not"
            f" {tuple(train_x.shape[1:])} and {tuple(test_x.shape[1:])}"
        )
    return Data(train_x, train_y, test_x, test_y)


def _arrays(path: Path) -> dict[str, IntArray]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise RecipeError(f"{path.name} cannot be read: {error.strerror}") from None
    with file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except Exception:  # whatever numpy's reader runs into
            raise RecipeError(f"{path.name} must be a complete .npz file of plain arrays") from None


def _inputs(array: IntArray, name: str) -> Tensor:
    if array.dtype.kind not in "fiu" or array.ndim < 2 or array.size == 0:
        raise RecipeError(
            f"{name} must hold numbers (B, ...), at least one, not {array.dtype} {array.shape}"
        )
    with np.errstate(over="ignore"):  # then it is not finite
        x = torch.from_numpy(array.astype(np.float32))
    if not bool(x.isfinite().all()):
        raise RecipeError(f"{name} must be finite in float32")
    return x


def _classes(array: IntArray, name: str) -> Tensor:
    if array.dtype.kind not in "iu" or array.ndim != 1 or array.size == 0:
        raise RecipeError(
            f"{name} must hold integers (B,), at least one, not {array.dtype} {array.shape}"
        )
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= MOST_CLASSES:
        raise RecipeError(f"{name} must be from 0 to {MOST_CLASSES - 1}, not [{low}, {high}]")
    return torch.from_numpy(array.astype(np.int64))
