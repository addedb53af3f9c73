"""A model file as a checked protobuf message and its tensors: nothing in it is trusted.

Sizes are compared with limits and with the bytes that are there before anything is allocated.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from accsim.errors import ModelFileError

__all__ = ["array_of", "first_line", "read_model", "shown"]

MAX_BYTES = 512 * 2**20  # of a file, and of the data that it keeps in others
MAX_NODES = 50_000
MAX_TENSORS = 50_000
_REFUSED = {  # attributes that hold more than plain values
    onnx.AttributeProto.GRAPH: "a subgraph",
    onnx.AttributeProto.GRAPHS: "subgraphs",
    onnx.AttributeProto.SPARSE_TENSOR: "a sparse tensor",
    onnx.AttributeProto.SPARSE_TENSORS: "sparse tensors",
}
_EXTERNAL_KEYS = {"location", "offset", "length", "checksum"}
_NAME = 100  # characters of a name that an error shows


def read_model(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """The message in a model file, its sizes within limits and of the kinds that are understood.

    Raises: ModelFileError for anything else.
    """
    path = Path(path)
    name = path.name if path.name.isprintable() else repr(path.name)
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_size > MAX_BYTES:
                raise ModelFileError(
                    f"{name} must have at most {MAX_BYTES} bytes, not {found.st_size}"
                )
            # as much room as is asked for is taken; only what is no plain file has no size
            data = file.read(found.st_size if stat.S_ISREG(found.st_mode) else MAX_BYTES)
    except OSError as error:
        raise ModelFileError(f"{name} cannot be read: {error.strerror}") from None
    if not data:
        raise ModelFileError(f"{name} is empty")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, RecursionError, UnicodeError):
        raise ModelFileError(f"{name} is not an ONNX model") from None
    if not model.HasField("graph") or not model.graph.node:
        raise ModelFileError(f"{name} must hold a graph with nodes")
    _check(model)
    return model


def array_of(
    tensor: onnx.TensorProto, where: str, folder: Path | None = None
) -> np.ndarray[Any, Any]:
    """The numbers of a tensor; those kept in another file from `folder`, and from nowhere else.

    Raises: ModelFileError naming `where` for a tensor that does not hold what it claims.
    """
    if min(tensor.dims, default=0) < 0:
        raise ModelFileError(f"{where} must have no negative dimension, not {list(tensor.dims)}")
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, TypeError, ValueError):
        dtype = np.dtype(object)
    if dtype.kind in "OUSc" or tensor.data_type == onnx.TensorProto.STRING:
        raise ModelFileError(f"{where} must hold numbers, not elements of type {tensor.data_type}")
    claimed = _bytes_of(tensor, dtype)
    if claimed > MAX_BYTES:
        raise ModelFileError(f"{where} claims {claimed} bytes; at most {MAX_BYTES} are read")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        tensor = _from_outside(tensor, where, folder, claimed)
    if tensor.HasField("raw_data") and len(tensor.raw_data) != claimed:
        raise ModelFileError(
            f"{where} claims {claimed} bytes for {list(tensor.dims)} and has {len(tensor.raw_data)}"
        )
    try:
        array: np.ndarray[Any, Any] = onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # whatever damage the package meets
        raise ModelFileError(f"{where} is damaged: {first_line(error)}") from None
    if array.shape != tuple(tensor.dims):
        raise ModelFileError(f"{where} must be of shape {list(tensor.dims)}, not {array.shape}")
    array.flags.writeable = False
    return array


def shown(name: str) -> str:
    """A name as an error quotes it: no control characters, not too long."""
    return repr(name if len(name) <= _NAME else f"{name[:_NAME]}...")


def _check(model: onnx.ModelProto) -> None:
    """Limits, and what is refused by kind."""
    graph = model.graph
    for count, limit, what in (
        (len(graph.node), MAX_NODES, "nodes"),
        (len(graph.initializer), MAX_TENSORS, "initializers"),
    ):
        if count > limit:
            raise ModelFileError(f"the graph must have at most {limit} {what}, not {count}")
    if model.functions:
        raise ModelFileError(
            f"the model must be without functions of its own ({shown(model.functions[0].name)}):"
            " inline them first (onnx.inliner)"
        )
    if graph.sparse_initializer:
        raise ModelFileError("the graph must be without sparse initializers")
    _check_texts(graph)
    outside = sum(_claimed(tensor) for tensor in _tensors(graph))
    if outside > MAX_BYTES:
        raise ModelFileError(
            f"the model must keep at most {MAX_BYTES} bytes in other files, not {outside}"
        )
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type in _REFUSED or attribute.HasField("g") or attribute.graphs:
                kind = _REFUSED.get(attribute.type, "a subgraph")
                raise ModelFileError(
                    f"node {shown(node.name or node.op_type)} ({node.op_type}) must be without"
                    f" subgraphs and sparse tensors: its {shown(attribute.name)} is {kind}"
                )


def _check_texts(graph: onnx.GraphProto) -> None:
    """Raise ModelFileError for names that are no text: protobuf hands them over as bytes."""
    for place, node in enumerate(graph.node):
        attributes = (attribute.name for attribute in node.attribute)
        texts = (node.name, node.op_type, node.domain, *node.input, *node.output, *attributes)
        if not all(isinstance(text, str) for text in texts):
            raise ModelFileError(f"node number {place} has a name that is no text")
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    names = [value.name for value in values]
    for entry in graph.quantization_annotation:
        pairs = entry.quant_parameter_tensor_names
        names += [entry.tensor_name, *(text for pair in pairs for text in (pair.key, pair.value))]
    if not all(isinstance(name, str) for name in names):
        raise ModelFileError("the graph has a value with a name that is no text")


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def _claimed(tensor: onnx.TensorProto) -> int:
    """How many bytes a tensor claims of another file; of one that will be refused, 0."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL or min(tensor.dims, default=0) < 0:
        return 0
    try:
        return _bytes_of(tensor, onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (KeyError, TypeError, ValueError):
        return 0


def _bytes_of(tensor: onnx.TensorProto, dtype: np.dtype[Any]) -> int:
    bits = _SMALL.get(tensor.data_type, 8 * dtype.itemsize)
    return -(-int(prod(tensor.dims)) * bits // 8)


_SMALL: dict[int, int] = {
    getattr(onnx.TensorProto, name): bits
    for bits, names in (
        (2, ("INT2", "UINT2")),
        (4, ("INT4", "UINT4", "FLOAT4E2M1")),
        (6, ("FLOAT6E2M3", "FLOAT6E3M2")),
    )
    for name in names
    if hasattr(onnx.TensorProto, name)
}


def _from_outside(
    tensor: onnx.TensorProto, where: str, folder: Path | None, claimed: int
) -> onnx.TensorProto:
    """The tensor with the bytes that lie in another file of `folder`."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if unknown := sorted(entries.keys() - _EXTERNAL_KEYS):
        raise ModelFileError(f"{where} has the unknown entry {shown(unknown[0])} of external data")
    location = entries.get("location", "")
    if folder is None:
        raise ModelFileError(
            f"{where} is kept in another file, {shown(location)}: name the folder that it is in"
            " (external_data, --external-data)"
        )
    offset, length = (_count(entries, key, where) for key in ("offset", "length"))
    if length not in (None, claimed):
        raise ModelFileError(f"{where} must have length {claimed}, not {length}")
    whole = onnx.TensorProto(dims=tensor.dims, data_type=tensor.data_type)
    whole.raw_data = _contained(folder, location, where, offset or 0, claimed)
    return whole


def _count(entries: dict[str, str], key: str, where: str) -> int | None:
    """An entry that is a plain decimal number."""
    text = entries.get(key)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelFileError(f"{where} must have a plain number as {key}, not {shown(text)}")
    return int(text)


def _contained(folder: Path, location: str, where: str, offset: int, count: int) -> bytes:
    """Bytes of a regular file inside `folder`, reached by no link and no way up."""
    parts = Path(location).parts
    if not location or "\0" in location or Path(location).is_absolute() or ".." in parts:
        raise ModelFileError(
            f"{where} must lie inside the folder of external data, not at {shown(location)}"
        )
    path = folder
    try:
        for part in parts:
            path = path / part
            if path.is_symlink():
                raise ModelFileError(f"{where} must not be reached by a link: {shown(location)}")
        if not path.is_file() and path.exists():  # opening a pipe would wait
            raise ModelFileError(f"{where} must lie in a plain file of one name: {shown(location)}")
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_nlink != 1 or not stat.S_ISREG(found.st_mode):
                raise ModelFileError(
                    f"{where} must lie in a plain file of one name: {shown(location)}"
                )
            if offset + count > found.st_size:
                raise ModelFileError(
                    f"{where} claims bytes {offset} to {offset + count} of {shown(location)},"
                    f" which has {found.st_size}"
                )
            file.seek(offset)
            return file.read(count)
    except OSError as error:
        raise ModelFileError(f"{shown(location)} cannot be read: {error.strerror}") from None


def first_line(error: Exception) -> str:
    """What another package says, in short, and without control characters."""
    said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in said)
