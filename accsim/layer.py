"""`IntLayer`: frozen integer weights, the ranges of their operands, and where each tap reads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from accsim._check import IntArray, integer, integer_array, plain, read_only, shown
from accsim.arith import check_bias
from accsim.datapath import Datapath
from accsim.errors import AccsimError, LayerFileError, ShapeError, SpecError
from accsim.files import read_arrays, write_arrays
from accsim.spec import MAX_BITS, Accumulator, IntSpec, between, bits_to_hold, signed, unsigned

__all__ = ["IntLayer"]

FORMAT = 1  # of the layer file
_GEOMETRY = ("stride", "padding", "dilation")
_PLAIN = {"bias": None, "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
_STORED = [(bits, np.dtype(f"int{bits}")) for bits in (8, 16, 32, 64)]
_WIDEST_SIGNED, _WIDEST_UNSIGNED = signed(MAX_BITS), unsigned(MAX_BITS)
_MOST = 2**20  # the largest stride, padding, dilation or number of groups


@dataclass(frozen=True, slots=True, eq=False)
class IntLayer:
    """An integer linear layer or two-dimensional convolution, frozen.

    Shapes: weight (C, K) is linear, (O, I, kh, kw) is conv2d with I input channels per group;
    bias (C,) or (O,), in product units, is what each register starts at.
    `stride`, `padding` and `dilation` are one integer or (vertical, horizontal), as in torch.

    Raises: DtypeError, ShapeError, SpecError; RangeError naming the first weight outside its spec.
    """

    weight: IntArray
    weight_spec: IntSpec = field(kw_only=True)
    input_spec: IntSpec = field(kw_only=True)
    bias: IntArray | None = field(default=None, kw_only=True)
    stride: int | tuple[int, int] = field(default=1, kw_only=True)
    padding: int | tuple[int, int] = field(default=0, kw_only=True)
    dilation: int | tuple[int, int] = field(default=1, kw_only=True)
    groups: int = field(default=1, kw_only=True)
    weight_range: IntSpec = field(init=False, repr=False)  # of the weights themselves

    def __post_init__(self) -> None:
        for name in ("weight_spec", "input_spec"):
            if not isinstance(getattr(self, name), IntSpec):
                raise SpecError(f"{name} must be an IntSpec, not {getattr(self, name)!r}")
        weight = integer_array(self.weight, "weight")
        _check_shape(weight)
        object.__setattr__(self, "weight_range", range_of(weight, "weight", self.weight_spec))
        _settle(self, weight)
        object.__setattr__(self, "weight", _frozen(weight, storage(self.weight_spec)))

    @property
    def geometry(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], int]:
        """(stride, padding, dilation, groups), the first three as (vertical, horizontal)."""
        return self.stride, self.padding, self.dilation, self.groups  # type: ignore[return-value]

    @property
    def is_conv(self) -> bool:
        """Whether the layer is a convolution."""
        return self.weight.ndim == 4

    @property
    def channels(self) -> int:
        """Number of output channels, each with a register of its own."""
        return len(self.weight)

    @property
    def taps(self) -> int:
        """K: how many products one register sums."""
        return prod(self.weight.shape[1:])

    @property
    def rows(self) -> IntArray:
        """The weight as (channels, taps): each row in the order in which a register folds it."""
        return self.weight.reshape(self.channels, self.taps)

    @property
    def pads(self) -> bool:
        """Whether some taps can fall on padding, where their product is 0."""
        return self.geometry[1] != (0, 0)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the layer's output for an input of `shape`. Raises: ShapeError."""
        if not self.is_conv:
            if len(shape) < 1 or shape[-1] != self.taps:
                raise ShapeError(f"x must be (..., {self.taps}), not of shape {shape}")
            return (*shape[:-1], self.channels)
        inputs = self.weight.shape[1] * self.groups
        if len(shape) != 4 or shape[1] != inputs:
            raise ShapeError(f"x must be (N, {inputs}, H, W), not of shape {shape}")
        stride, padding, dilation, _ = self.geometry
        # the least image: the kernel spread by the dilation, less what the padding gives
        least = [
            dilation[axis] * (self.weight.shape[2 + axis] - 1) + 1 - 2 * padding[axis]
            for axis in (0, 1)
        ]
        if shape[2] < least[0] or shape[3] < least[1]:
            raise ShapeError(
                f"x must be at least {least[0]} by {least[1]} for this kernel, not"
                f" {shape[2]} by {shape[3]}"
            )
        window = [(shape[2 + axis] - least[axis]) // stride[axis] + 1 for axis in (0, 1)]
        return (shape[0], self.channels, *window)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the layer as a .npz file of integer arrays; `path` changes only when complete."""
        arrays = {
            "format": np.array(FORMAT),
            "weight": self.weight,
            "weight_spec": np.array([self.weight_spec.min, self.weight_spec.max]),
            "input_spec": np.array([self.input_spec.min, self.input_spec.max]),
            "groups": np.array(self.groups),
            **{name: np.array(getattr(self, name)) for name in _GEOMETRY},
        }
        write_arrays(path, arrays if self.bias is None else {**arrays, "bias": self.bias})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> IntLayer:
        """Read what `save` wrote; any file may be given, none is trusted.

        Raises: LayerFileError for a file that is not one layer, complete and consistent.
        """
        arrays, name = read_arrays(path), Path(path).name
        required = {"format", "weight", "weight_spec", "input_spec", "groups", *_GEOMETRY}
        if missing := sorted(required - arrays.keys()):
            raise LayerFileError(f"{name} is not a layer file: it lacks {', '.join(missing)}")
        if extra := sorted(arrays.keys() - required - {"bias"}):
            raise LayerFileError(f"{name} is not a layer file: it also holds {', '.join(extra)}")
        if arrays["format"].tolist() != FORMAT:
            raise LayerFileError(
                f"{name} must be of layer format {FORMAT}, not {arrays['format'].tolist()}"
            )
        try:
            return cls(
                arrays["weight"],
                weight_spec=_spec(arrays["weight_spec"]),
                input_spec=_spec(arrays["input_spec"]),
                bias=arrays.get("bias"),
                groups=arrays["groups"].tolist(),
                **{key: arrays[key].tolist() for key in _GEOMETRY},
            )
        except AccsimError as error:
            raise LayerFileError(f"{name} is not a layer file: {error}") from error


def borrowing(
    weight: IntArray, weights: IntSpec, inputs: IntSpec, options: Mapping[str, object]
) -> IntLayer:
    """A layer for one call, which reads the caller's weight where it is, if its dtype allows.

    `weights` is the range of the weight, and as `inputs` a spec of the layer; `options` are
    arguments of `IntLayer`, bias and geometry, checked as there.
    """
    _check_shape(weight)
    layer = object.__new__(IntLayer)
    given = {"weight_spec": weights, "input_spec": inputs, "weight_range": weights}
    stored = read_only(plain(weight, storage(weights)))
    for name, value in {**_PLAIN, **options, **given, "weight": stored}.items():
        object.__setattr__(layer, name, value)
    if options:
        _settle(layer, weight)
    return layer


def _check_shape(weight: IntArray) -> None:
    """Raise ShapeError unless this can be the weight of a layer."""
    if weight.ndim not in (2, 4):
        raise ShapeError(f"weight must be (C, K) or (O, I, kh, kw), not of shape {weight.shape}")
    if len(weight) == 0 or (weight.ndim == 4 and 0 in weight.shape):
        raise ShapeError(f"weight must have at least one channel and tap, not shape {weight.shape}")


def _settle(layer: IntLayer, weight: IntArray) -> None:
    """Check a new layer's geometry and bias beside its weight, and keep them as they are stored."""
    for name in _GEOMETRY:
        low = 0 if name == "padding" else 1
        object.__setattr__(layer, name, _pair(getattr(layer, name), name, low))
    object.__setattr__(layer, "groups", integer(layer.groups, "groups", 1, _MOST))
    if weight.ndim == 2 and layer.geometry != ((1, 1), (0, 0), (1, 1), 1):
        raise ShapeError("a linear weight (C, K) takes no stride, padding, dilation or groups")
    if len(weight) % layer.groups:
        raise ShapeError(
            f"groups must divide the {len(weight)} output channels, not {layer.groups}"
        )
    if layer.bias is not None:
        bias = integer_array(layer.bias, "bias")
        if bias.shape != (len(weight),):
            raise ShapeError(f"bias must have shape ({len(weight)},), not {bias.shape}")
        check_widest(bias, "bias", int(bias.min()), int(bias.max()))
        object.__setattr__(layer, "bias", _frozen(bias, np.int64))


def range_of(array: IntArray, name: str, within: IntSpec | None = None) -> IntSpec:
    """The range of the codes in an array, found in one look.

    Raises: RangeError for codes outside `within`, or that the widest register could not hold.
    """
    low = high = 0
    if array.size:
        low = int(np.minimum.reduce(array, axis=None))
        high = int(np.maximum.reduce(array, axis=None))
    if within is None:
        check_widest(array, name, low, high)
    elif array.size and not within.min <= low <= high <= within.max:
        within.check(array, name)
    return _range(low, high)


_range = lru_cache(maxsize=1024)(between)


def check_start(layer: IntLayer, accumulator: Accumulator | Datapath) -> None:
    """Raise unless these are a layer and a register that can start at every channel's bias.

    Raises: SpecError for other things; RangeError naming the first bias outside the register.
    """
    if isinstance(accumulator, Datapath):
        raise SpecError(f"accumulator must be one Accumulator here, not a Datapath, {accumulator}")
    if not isinstance(accumulator, Accumulator):
        raise SpecError(
            f"accumulator must be an Accumulator or a Datapath, not {shown(accumulator)}"
        )
    if not accumulator.alone:
        raise SpecError(
            "accumulator with terms or rail is a level: give Datapath([...]) of all levels"
        )
    check_held(layer, accumulator)


def check_held(layer: IntLayer, register: Accumulator) -> None:
    """As `check_start`, of a register that is one, or a level of a datapath."""
    if not isinstance(layer, IntLayer):
        raise SpecError(f"layer must be an IntLayer, not {type(layer).__name__}")
    if (start := unheld_start(layer, register)) is not None:
        check_bias(start[1], register, f"bias[{start[0]}]")


def unheld_start(layer: IntLayer, accumulator: Accumulator) -> tuple[int, int] | None:
    """The first channel whose bias the register cannot hold, and that bias; None if it holds all.

    >>> layer = IntLayer([[1], [1]], weight_spec=signed(4), input_spec=unsigned(4), bias=[7, 8])
    >>> unheld_start(layer, Accumulator(4)), unheld_start(layer, Accumulator(5))
    ((1, 8), None)
    """
    if layer.bias is None:
        return None
    outside = np.flatnonzero((layer.bias < accumulator.min) | (layer.bias > accumulator.max))
    return (int(outside[0]), int(layer.bias[outside[0]])) if outside.size else None


def check_widest(array: IntArray, name: str, low: int, high: int) -> None:
    """Raise RangeError naming the first entry that the widest register could not hold.

    `low` and `high` are the array's least and greatest entries.
    """
    widest = _WIDEST_SIGNED if low < 0 else _WIDEST_UNSIGNED
    if not widest.min <= low <= high <= widest.max:
        widest.check(array, name)


@lru_cache(maxsize=1024)
def storage(spec: IntSpec) -> np.dtype[Any]:
    """The narrowest signed numpy dtype that holds every code of `spec`."""
    least = bits_to_hold(spec.min, spec.max)
    return next(kind for bits, kind in _STORED if least <= bits)


def _frozen(array: IntArray, dtype: np.typing.DTypeLike) -> IntArray:
    """A private contiguous copy that cannot be written to."""
    copy = np.array(array, dtype=dtype, order="C")
    copy.flags.writeable = False
    return copy


def _pair(value: object, name: str, low: int) -> tuple[int, int]:
    """One integer or two, as (vertical, horizontal)."""
    if type(value) is int and low <= value <= _MOST:
        return value, value
    both = value if isinstance(value, tuple | list) else (value, value)
    if len(both) != 2:
        raise SpecError(f"{name} must be one integer or two, not {value!r}")
    return integer(both[0], name, low, _MOST), integer(both[1], name, low, _MOST)


def _spec(array: IntArray) -> IntSpec:
    if array.shape != (2,):
        raise SpecError(f"a spec must be (min, max), not of shape {array.shape}")
    return IntSpec(int(array[0]), int(array[1]))
