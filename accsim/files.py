"""Files: never left half-written, never trusted. Arrays are stored uncompressed, without pickle."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from accsim._check import IntArray
from accsim.errors import LayerFileError

__all__ = ["atomically", "read_array", "read_arrays", "write_arrays"]

MAX_MEMBERS = 1024  # arrays in one file


@contextmanager
def atomically(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write to that takes the name `path` only once it is complete.

    It is written beside `path` and renamed; after an error or Ctrl-C nothing is left of it.
    """
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp makes files that only their owner reads
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, IntArray]) -> None:
    """Write integer arrays as an uncompressed .npz file, the same bytes for the same arrays."""
    with atomically(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_arrays(path: str | os.PathLike[str]) -> dict[str, IntArray]:
    """The integer arrays of an uncompressed .npz file, by name.

    Nothing is allocated on the word of a header: a claim must agree with the bytes that are there.

    Raises: LayerFileError for anything else.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(path, members)
            return {
                member.filename.removesuffix(".npy"): _parse(
                    archive.read(member), f"{path.name}: {member.filename}"
                )
                for member in members
            }
    except OSError as error:
        raise LayerFileError(f"{path.name} cannot be read: {error.strerror}") from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise LayerFileError(f"{path.name} is not a complete .npz file: {error}") from None


def read_array(path: str | os.PathLike[str]) -> IntArray:
    """The integer array of a .npy file.

    Raises: LayerFileError for anything else.
    """
    path = Path(path)
    try:
        return _parse(path.read_bytes(), path.name)
    except OSError as error:
        raise LayerFileError(f"{path.name} cannot be read: {error.strerror}") from None


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MAX_MEMBERS:
        raise LayerFileError(
            f"{path.name} must hold at most {MAX_MEMBERS} arrays, not {len(members)}"
        )
    if len({member.filename for member in members}) < len(members):
        raise LayerFileError(f"{path.name} must name each array once")
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED:
            raise LayerFileError(f"{path.name}: {member.filename} must be stored uncompressed")
    claimed, there = sum(member.file_size for member in members), path.stat().st_size
    if claimed > there:
        raise LayerFileError(f"{path.name} claims {claimed} bytes of arrays and has {there}")


def _parse(data: bytes, name: str) -> IntArray:
    """The array in the bytes of one .npy file."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = header(stream)
    except (ValueError, KeyError, EOFError, TypeError):
        raise LayerFileError(f"{name} does not start with a numpy header") from None
    if dtype.kind not in "iu":
        raise LayerFileError(f"{name} must hold integers, not {dtype}")
    offset, claimed = stream.tell(), prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or claimed != len(data) - offset:
        raise LayerFileError(f"{name} claims {claimed} bytes and has {len(data) - offset}")
    flat = np.frombuffer(data, dtype, offset=offset)
    try:
        return flat.reshape(shape, order="F" if fortran else "C")
    except ValueError:  # an empty array whose other dimensions no array can have
        raise LayerFileError(f"{name} claims the impossible shape {shape}") from None
