"""Files: never left half-written, never trusted. Arrays are stored without pickle.

Those of layers and their inputs are integers, uncompressed; the data of networks may be floats, and
deflated within limits.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from accsim.errors import LayerFileError

__all__ = [
    "DATA",
    "Allowed",
    "atomically",
    "read_array",
    "read_arrays",
    "read_plain",
    "write_arrays",
]

Array = np.ndarray[Any, Any]

MAX_MEMBERS = 1024  # arrays in one file
MAX_BYTES = 2**30  # of the deflated arrays in one file
DEFLATES_TO = 1032  # bytes that one byte of a deflated file can stand for
# A .npy header as numpy writes it for a plain dtype. It is matched, never evaluated.
_SIZE = r"(?:0|[1-9][0-9]{0,23})"
_HEADER = re.compile(
    r"\{'descr': '([<>|][biufcOSUV][0-9]{0,9})', 'fortran_order': (True|False),"
    rf" 'shape': \((|{_SIZE},|{_SIZE}(?:, {_SIZE})+)\), \}} *\n".encode()
)


class Allowed(NamedTuple):
    """What a file of arrays may hold: numbers of these kinds, deflated or not."""

    kinds: str
    what: str
    deflated: bool


INTEGERS = Allowed("iu", "integers", deflated=False)
DATA = Allowed("iuf", "integers or floats", deflated=True)


@contextmanager
def atomically(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write to that takes the name `path` only once it is complete.

    It is written beside `path` and renamed; after an error or Ctrl-C nothing is left of it.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder", str(target.parent))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "A folder, not a file", str(target))
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


def read_plain(path: Path, most: int | None = None) -> bytes:
    """What a plain file holds, or so many bytes of it; opening a pipe would wait.

    Raises: OSError for what cannot be read, or is no plain file.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "Not a plain file", str(path))
    with path.open("rb") as file:
        return file.read(-1 if most is None else most)


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Write arrays of numbers as an uncompressed .npz file, the same bytes for the same arrays."""
    with atomically(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(
                f"{name}.npy"
            )  # dated 1980, so that equal arrays are equal bytes
            with archive.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)


def read_arrays(path: str | os.PathLike[str], allowed: Allowed = INTEGERS) -> dict[str, Array]:
    """The arrays of an .npz file, by name; of integers and uncompressed, or as `allowed`.

    Nothing is allocated on the word of a header: a claim must agree with the bytes that are there,
    and where these are deflated it must be one that they can keep, and a small one.

    Raises: LayerFileError for anything else.
    """
    path = Path(path)
    try:
        read_plain(path, 0)
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(path, members, allowed)
            return {
                _array_name(member): _parse(
                    _read(archive, member), f"{path.name}: {member.filename}", allowed
                )
                for member in members
            }
    except OSError as error:
        raise LayerFileError(f"{path.name} cannot be read: {error.strerror}") from None
    except (
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError,
    ) as error:  # fmt: skip
        raise LayerFileError(f"{path.name} is not a complete .npz file: {error}") from None


def read_array(path: str | os.PathLike[str], allowed: Allowed = INTEGERS) -> Array:
    """The array of a .npy file: of integers, or as `allowed`.

    Raises: LayerFileError for anything else.
    """
    path = Path(path)
    try:
        return _parse(read_plain(path), path.name, allowed)
    except OSError as error:
        raise LayerFileError(f"{path.name} cannot be read: {error.strerror}") from None


def _array_name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member, of which no more are made than it claims; its checksum agrees."""
    with archive.open(member) as stream:
        return stream.read(member.file_size)


def _check_members(path: Path, members: list[zipfile.ZipInfo], allowed: Allowed) -> None:
    if len(members) > MAX_MEMBERS:
        raise LayerFileError(
            f"{path.name} must hold at most {MAX_MEMBERS} arrays, not {len(members)}"
        )
    if len({_array_name(member) for member in members}) < len(members):
        raise LayerFileError(f"{path.name} must name each array once")
    claimed = {zipfile.ZIP_STORED: 0, zipfile.ZIP_DEFLATED: 0}
    for member in members:
        deflated = member.compress_type == zipfile.ZIP_DEFLATED and allowed.deflated
        if member.compress_type != zipfile.ZIP_STORED and not deflated:
            how = "uncompressed or deflated" if allowed.deflated else "uncompressed"
            raise LayerFileError(f"{path.name}: {member.filename} must be stored {how}")
        claimed[member.compress_type] += member.file_size
    there = path.stat().st_size
    if claimed[zipfile.ZIP_STORED] > there:
        raise LayerFileError(
            f"{path.name} claims {claimed[zipfile.ZIP_STORED]} bytes of arrays and has {there}"
        )
    if (most := min(MAX_BYTES, DEFLATES_TO * there)) < claimed[zipfile.ZIP_DEFLATED]:
        raise LayerFileError(
            f"{path.name} claims {claimed[zipfile.ZIP_DEFLATED]} bytes of deflated arrays; at most"
            f" {most} are read from its {there}"
        )


def _parse(data: bytes, name: str, allowed: Allowed) -> Array:
    """The array in the bytes of one .npy file."""
    size = {b"\x93NUMPY\1\0": 2, b"\x93NUMPY\2\0": 4}.get(data[:8], 0)  # of the header's length
    offset = 8 + size + int.from_bytes(data[8 : 8 + size], "little")
    header = _HEADER.fullmatch(data[8 + size : offset])
    if not size or not header:
        raise LayerFileError(f"{name} does not start with a numpy header")
    kind, fortran, sizes = (group.decode() for group in header.groups())
    shape = tuple(int(n) for n in sizes.split(",") if n)
    try:
        dtype = np.dtype(kind)
    except TypeError:
        raise LayerFileError(f"{name} must hold {allowed.what}, not {kind}") from None
    if dtype.kind not in allowed.kinds or dtype.itemsize > 8:
        raise LayerFileError(f"{name} must hold {allowed.what}, not {dtype}")
    claimed, there = prod(shape) * dtype.itemsize, len(data) - offset
    if claimed != there:
        raise LayerFileError(f"{name} claims {claimed} bytes and has {there}")
    try:
        flat = np.frombuffer(data, dtype, offset=offset)
        return flat.reshape(shape, order="F" if fortran == "True" else "C")
    except ValueError:  # an empty array whose other dimensions no array can have
        raise LayerFileError(f"{name} claims the impossible shape {shape}") from None
