"""Files of tensors, read as data alone and never left half-written; Ctrl-C at a chosen moment."""

from __future__ import annotations

import os
import re
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from a2qplus.quantizers import WeightQuantizer
from accsim.errors import CheckpointError
from accsim.files import atomically

__all__ = [
    "check_same",
    "describe_model",
    "describe_tensor",
    "interrupts_wait",
    "read_tensors",
    "write_tensors",
]


def write_tensors(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write tensors and plain values as `torch.save` does; `path` changes only when complete."""
    with atomically(path) as file:
        torch.save(dict(content), file)


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `write_tensors`, or `torch.save` of a state dict, wrote; on the CPU.

    Only tensors and plain values are read (`weights_only=True`): no code in the file is run.

    Raises: CheckpointError for a file that is damaged or is something else.
    """
    path = Path(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error.strerror}") from None
    with file:
        content = _whole(file)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name} must be a complete file of named tensors (torch.save)")
    return content


def _whole(file: BinaryIO) -> object:
    """What is in the file, or None where that is damaged."""
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()  # torch does not compare the checksums
        file.seek(0)
        return None if damaged else torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # whatever the readers run into
        return None


def check_same(there: Mapping[str, str], here: Mapping[str, str], name: str) -> None:
    """Raise CheckpointError unless the checkpoint `name` is of the run that is asked for."""
    for key in [*here, *there]:
        if there.get(key) != here.get(key):
            raise CheckpointError(
                f"{name} must be a checkpoint of this run: {key} is {here.get(key, 'absent')},"
                f" and was {there.get(key, 'absent')}"
            )


def describe_model(model: nn.Module) -> dict[str, str]:
    """By name, what decides how a model trains, but for the numbers in it."""
    found = {}
    for name, module in model.named_modules():
        # an address in it would be another one in every process
        options = re.sub(r"\b0x[0-9a-f]+", "0x", module.extra_repr())
        rule = f" {module.quantization}" if isinstance(module, WeightQuantizer) else ""
        found[f"module {name!r}"] = f"{type(module).__name__}({options}){rule}"
    for name, value in model.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor):
            trained = ", trained" if value.requires_grad else ""
            found[f"tensor {name!r}"] = f"{_kind(value)}{trained}"
    return found


def describe_tensor(tensor: Tensor) -> str:
    """Its type, its shape, and a fingerprint of what is in it."""
    data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return f"{_kind(tensor)} {sha256(data.data).hexdigest()[:16]}"


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


@contextmanager
def interrupts_wait() -> Iterator[Callable[[], bool]]:
    """Ctrl-C within this block raises KeyboardInterrupt at its end; the second one at once.

    Gives a function that tells whether it was pressed. In other threads, which Ctrl-C does not
    reach, and where the program handles it in its own way, nothing changes.
    """
    pressed: list[int] = []

    def note(number: int, _: object) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    here = threading.current_thread() is threading.main_thread()
    waits = here and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if waits:
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        if waits:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt
