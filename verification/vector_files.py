"""Vectors as files for benches: $readmemh, .npz and a C header; beside them the bench itself."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import numpy as np

from accsim._check import IntArray
from accsim.errors import SpecError
from accsim.files import write_arrays
from accsim.spec import Overflow
from verification.vectors import Vectors

__all__ = [
    "FORMATS",
    "check_folder",
    "check_formats",
    "device_text",
    "parameters",
    "write_vectors",
]

FORMATS = ("hex", "npz", "c")
_C_TYPES = [(bits, f"int{bits}_t") for bits in (8, 16, 32, 64)]


def write_vectors(
    folder: str | os.PathLike[str], vectors: Vectors, formats: tuple[str, ...] = FORMATS
) -> list[str]:
    """Write a folder of vectors, which appears only when complete; the names of its files.

    With "hex" the bench, the example device and a README with the commands are in it, too.

    Raises: SpecError for a format that is none; OSError for a folder that holds something.
    """
    check_formats(formats)
    target = Path(folder)
    check_folder(target)
    made = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        if "hex" in formats:
            _write_texts(made, {**_hex_files(vectors), **_bench_files(vectors)})
        if "npz" in formats:
            write_arrays(made / "vectors.npz", _arrays(vectors))
        if "c" in formats:
            _write_texts(made, {"vectors.h": _header(vectors)})
        made.chmod(0o755)  # mkdtemp makes folders that only their owner enters
        os.replace(made, target)  # which may be there, empty
    except BaseException:
        shutil.rmtree(made)
        raise
    return sorted(file.name for file in target.iterdir())


def check_formats(formats: tuple[str, ...]) -> None:
    """Refuse a format that is none, and none at all. Raises: SpecError."""
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        told = repr(unknown[0]) if unknown else "none"
        raise SpecError(f"formats must be some of {', '.join(FORMATS)}, not {told}")


def check_folder(folder: Path) -> None:
    """Refuse a folder in which old files could be taken for new ones. Raises: OSError."""
    if not folder.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder", str(folder.parent))
    if not folder.exists():
        return
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "A file, not a folder", str(folder))
    if any(folder.iterdir()):
        raise FileExistsError(errno.EEXIST, "Not a new or empty folder", str(folder))


def parameters(vectors: Vectors) -> dict[str, int]:
    """The parameters of the bench that these vectors are for, by name."""
    accumulator, weights, inputs = vectors.accumulator, vectors.weight_spec, vectors.input_spec
    return {
        "P": accumulator.bits,
        "SATURATE": int(accumulator.overflow is Overflow.SATURATE),
        "ACC_SIGNED": int(accumulator.signed),
        "W_BITS": weights.bits,
        "W_SIGNED": int(weights.signed),
        "X_BITS": inputs.bits,
        "X_SIGNED": int(inputs.signed),
        "TAPS": vectors.taps,
        "STEPS": vectors.steps,
    }


def device_text() -> str:
    """The example device, SystemVerilog."""
    return _packaged("mac.sv")


def _packaged(name: str) -> str:
    return (files("verification") / "rtl" / name).read_text()


def _arrays(vectors: Vectors) -> dict[str, IntArray]:
    """The arrays of the files, by name: what is fed, then what must come of it."""
    names = ("weight", "x", "bias", "start", "register", "overflow", "sticky")
    return {name: getattr(vectors, name).astype(np.int64) for name in names}


def _hex_files(vectors: Vectors) -> dict[str, str]:
    """A file for $readmemh of each array: a word for each step, two's complement if negative."""
    bits = {"weight": vectors.weight_spec.bits, "x": vectors.input_spec.bits}
    bits |= dict.fromkeys(("bias", "register"), vectors.accumulator.bits)
    return {
        f"{name}.hex": _hex_words(array, bits.get(name, 1))
        for name, array in _arrays(vectors).items()
    }


def _hex_words(array: IntArray, bits: int) -> str:
    mask, digits = (1 << bits) - 1, -(-bits // 4)
    return "".join(f"{value & mask:0{digits}x}\n" for value in array.tolist())


def _bench_files(vectors: Vectors) -> dict[str, str]:
    """The bench, the device, and the commands that run them."""
    values = parameters(vectors).items()
    told = {
        "register": vectors.accumulator,
        "steps": vectors.steps,
        "sums": vectors.sums,
        "taps": vectors.taps,
        "overflowed": int(vectors.overflow.sum()),
        "icarus": " ".join(f"-Pbench.{name}={value}" for name, value in values),
        "verilator": " ".join(f"-G{name}={value}" for name, value in values),
    }
    readme = _packaged("README.txt").format(**told)
    return {"bench.sv": _packaged("bench.sv"), "mac.sv": device_text(), "README.txt": readme}


def _header(vectors: Vectors) -> str:
    """The arrays as C, each of the narrowest type that holds it, with the bench's parameters."""
    values = parameters(vectors).items()
    lines = [f"/* accsim: vectors of the {vectors.accumulator}; one entry for each step. */"]
    lines += ["#ifndef ACCSIM_VECTORS_H", "#define ACCSIM_VECTORS_H", "", "#include <stdint.h>", ""]
    lines += [f"#define ACCSIM_{name} {value}" for name, value in values]
    for name, array in _arrays(vectors).items():
        sums = array.reshape(-1, vectors.taps).tolist()
        entries = [", ".join(map(str, steps)) + "," for steps in sums]
        lines += ["", f"static const {_c_type(array)} accsim_{name}[ACCSIM_STEPS] = {{", *entries]
        lines += ["};"]
    return "\n".join([*lines, "", "#endif", ""])


def _c_type(array: IntArray) -> str:
    """The narrowest signed type of C."""
    low, high = int(array.min()), int(array.max())
    return next(name for bits, name in _C_TYPES if -(1 << bits - 1) <= low and high < 1 << bits - 1)


def _write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).write_text(text)
