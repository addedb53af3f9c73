"""Whole networks: integer products by name, and all between them, in registers of one's choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from accsim._check import IntArray, integer, integer_array
from accsim.bounds import data_type_bits
from accsim.datapath import Datapath
from accsim.errors import AccsimError, DtypeError, RangeError, ShapeError, SpecError
from accsim.layer import IntLayer
from accsim.padding import layer_bits
from accsim.simulate import Run, simulate
from accsim.spec import MAX_BITS, Accumulator, IntSpec

__all__ = ["MatMul", "Network", "NetworkInput", "NetworkRun", "least_registers"]

Array = np.ndarray[Any, Any]
Register = Accumulator | Datapath
Registers = Register | Mapping[str, Register]  # one for all, or one for each product by name
Multiply = Callable[[str, tuple[IntArray, ...]], IntArray]  # a product's operands to its sums
Watch = Callable[[str, IntLayer, IntArray, Run], object]
Told = Callable[[int, int], object]  # how many inputs are done, of how many
_MANY = 64  # inputs that are run at a time, where the file leaves it open


@dataclass(frozen=True, slots=True)
class MatMul:
    """A product of two activations. Neither side is constant: only their types bound its sums.

    `taps`: how many products one sum has, if the file says so.
    """

    left: IntSpec
    right: IntSpec
    taps: int | None = None

    @property
    def least_bits(self) -> int | None:
        """The least register that is safe for all operands of these types, if `taps` are known."""
        return None if self.taps is None else data_type_bits(self.taps, self.right, self.left)


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """What the file says of an input or output: sizes are numbers, names of sizes, or None."""

    dtype: np.dtype[Any] | None
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class NetworkRun:
    """What a network gave, and what its registers did, by the name of the product.

    `overflows`: steps that overflowed. `overflowed`: sums in which one did. `sums`: of how many.
    `levels`: the steps of each level of a datapath, inner to outer; of a register, none.
    """

    outputs: Mapping[str, Array]
    overflows: Mapping[str, int]
    overflowed: Mapping[str, int]
    sums: Mapping[str, int]
    levels: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A network whose integer products are known, as `accsim.onnx.load` reads it.

    `layers`: those with constant weights, by node name. `matmuls`: those of two activations.
    `untraced`: what multiplies matrices and is neither, with the reason. `registers`: those that
    the file itself names. `evaluate` computes outputs from inputs, given what multiplies integers.
    """

    layers: Mapping[str, IntLayer]
    matmuls: Mapping[str, MatMul]
    untraced: Mapping[str, str]
    registers: Mapping[str, Accumulator]
    inputs: Mapping[str, NetworkInput]
    outputs: Mapping[str, NetworkInput]
    evaluate: Callable[[Mapping[str, Array], Multiply], dict[str, Array]] = field(repr=False)
    rows_apart: bool  # whether inputs may be run in parts of any size

    def run(
        self,
        inputs: object,
        accumulator: Registers,
        *,
        batch: int | None = None,
        threads: int | None = None,
        watch: Watch | None = None,
        told: Told = lambda *_: None,
    ) -> NetworkRun:
        """The network on given inputs, every integer product in its own narrow register.

        `inputs` is an array, or one by name for each input; the first axis is the batch. They are
        run as many at a time as the file says, or `batch`, or 64; and all together where a result
        depends on all, as scales do that are computed while it runs. `accumulator` is one register
        or datapath for every product, or one by name for each. `watch` is told of each call of each
        product, with peaks: its name, the layer (of a matmul the right side is the weights),
        integers that went in, and the run. `told` is told how many inputs are done.

        Raises: ShapeError, DtypeError for other inputs than the file's; SpecError for a product
        without a register; RangeError naming a layer whose bias its register cannot hold, or whose
        operands its datapath does not take; ModelFileError naming a node that cannot be computed.
        """
        arrays = self._arrays(inputs)
        registers = self._registers(accumulator)
        counts = {name: _none(register) for name, register in registers.items()}

        def multiply(name: str, operands: tuple[IntArray, ...]) -> IntArray:
            what, register = self.layers.get(name) or self.matmuls[name], registers[name]
            results = []
            try:
                for layer, x in _calls(what, operands):
                    run = simulate(layer, x, register, peaks=watch is not None, threads=threads)
                    if watch is not None:
                        watch(name, layer, x, run)
                    counts[name] += _counted(run)
                    results.append(run.output)
            except AccsimError as error:
                shown = name if name.isprintable() else repr(name)
                raise type(error)(f"{shown}: {error}") from None
            return results[0] if isinstance(what, IntLayer) else _stacked(results, *operands)

        parts: dict[str, list[Array]] = {name: [] for name in self.outputs}
        total, step = self._step(arrays, batch)
        for start in range(0, total, step):
            end = start + step
            part = arrays if step >= total else {n: a[start:end] for n, a in arrays.items()}
            for name, array in self.evaluate(part, multiply).items():
                parts[name].append(array)
            told(min(end, total), total)
        outputs = {name: _joined(name, found, step) for name, found in parts.items()}
        steps, over, sums = (
            {name: int(count[kind]) for name, count in counts.items()} for kind in range(3)
        )
        levels = {name: tuple(count[3:].tolist()) for name, count in counts.items()}
        return NetworkRun(outputs, steps, over, sums, levels)

    def _arrays(self, inputs: object) -> dict[str, Array]:
        """By name and of the declared types."""
        given = inputs if isinstance(inputs, Mapping) else None
        if given is None:
            if len(self.inputs) != 1:
                raise ShapeError(
                    f"inputs must be by name, one for each of {', '.join(self.inputs)}"
                )
            given = {next(iter(self.inputs)): inputs}
        if unknown := sorted(given.keys() ^ self.inputs.keys()):
            raise ShapeError(
                f"inputs must be one for each of {', '.join(self.inputs)}: {unknown[0]!r} is"
                f" {'missing' if unknown[0] in self.inputs else 'none of them'}"
            )
        return {name: _array(name, given[name], one) for name, one in self.inputs.items()}

    def _registers(self, accumulator: Registers) -> dict[str, Register]:
        names = [*self.layers, *self.matmuls]
        if isinstance(accumulator, Accumulator | Datapath):
            return dict.fromkeys(names, accumulator)
        if not isinstance(accumulator, Mapping):
            raise SpecError(
                "accumulator must be an Accumulator or a Datapath, or one by name, not"
                f" {accumulator!r}"
            )
        for name in [*names, *accumulator]:
            if not isinstance(accumulator.get(name), Accumulator | Datapath):
                raise SpecError(f"accumulator must name a register for {name!r}")
            if name not in names:
                raise SpecError(f"accumulator names {name!r}, which is no integer product")
        return {name: accumulator[name] for name in names}

    def _step(self, arrays: Mapping[str, Array], batch: int | None) -> tuple[int, int]:
        """How many inputs there are, and how many are run at a time."""
        if batch is not None:
            integer(batch, "batch", 1, 2**31)
        sizes = {name: array.shape[0] if array.ndim else 1 for name, array in arrays.items()}
        said = {name: one.shape[0] if one.shape else None for name, one in self.inputs.items()}
        fixed = {size for size in said.values() if isinstance(size, int)}
        if len({*sizes.values()}) != 1 or len(fixed) > 1:  # what comes first is no batch
            for name, size in said.items():
                if isinstance(size, int) and size != sizes[name]:
                    raise ShapeError(f"input {name!r} must be {size} at a time, not {sizes[name]}")
            return 1, 1
        total = next(iter(sizes.values()))
        for size in fixed:
            if total % max(size, 1) or (total == 0) != (size == 0):
                raise ShapeError(
                    f"inputs must be a multiple of {size}, as the file says, not {total}"
                )
        if not total:
            return 1, 1
        if fixed or batch is not None:
            return total, next(iter(fixed), batch or total)
        return total, _MANY if self.rows_apart else total


def _array(name: str, given: object, described: NetworkInput) -> Array:
    """An input as the file declares it: floats may be of any size, integers must be integers."""
    array, dtype = np.asarray(given), described.dtype
    if dtype is not None and dtype.kind in "iu":
        array = integer_array(given, f"input {name!r}")
        limits = np.iinfo(dtype)
        if limits.bits < 64:
            IntSpec(int(limits.min), int(limits.max)).check(array, f"input {name!r}")
        elif not limits.min <= int(array.min(initial=0)) <= int(array.max(initial=0)) <= limits.max:
            raise RangeError(f"input {name!r} must lie from {limits.min} to {limits.max}")
    elif dtype is not None and dtype.kind == "b":
        if array.dtype.kind != "b":
            raise DtypeError(f"input {name!r} must be of bool, not {array.dtype}")
    elif array.dtype.kind not in "iuf":
        raise DtypeError(f"input {name!r} must be numbers, not {array.dtype}")
    shape = described.shape
    fits = shape is None or (
        array.ndim == len(shape)
        and all(
            not isinstance(size, int) or size == there
            for size, there in zip(shape[1:], array.shape[1:], strict=True)
        )
    )
    if not fits:
        told = ", ".join("?" if size is None else str(size) for size in shape or ())
        raise ShapeError(f"input {name!r} must be of shape ({told}), not {array.shape}")
    return array if dtype is None else array.astype(dtype, copy=False)


def _joined(name: str, parts: list[Array], step: int) -> Array:
    """An output of all parts, one after another."""
    if len(parts) == 1:
        return parts[0]
    if any(part.ndim == 0 for part in parts):
        raise ShapeError(
            f"output {name!r} is one number for all inputs: give at most {step} at a time"
        )
    return np.concatenate(parts)


def least_registers(network: Network) -> dict[str, Accumulator]:
    """The narrowest two's complement register that no input overflows, by product.

    Of a product of activations by its types; those of unknown length are left out.

    Raises: RangeError naming a layer whose sums need more than 62 bits.
    """
    found = {}
    for name, layer in network.layers.items():
        bits = layer_bits(layer)
        if bits > MAX_BITS:
            raise RangeError(f"{name}: its sums need {bits} bits; at most {MAX_BITS} are simulated")
        found[name] = Accumulator(max(bits, 2))
    for name, matmul in network.matmuls.items():
        if matmul.least_bits is not None:
            found[name] = Accumulator(max(matmul.least_bits, 2))
    return found


def _none(register: Register) -> Array:
    """The counts of `_counted`, before anything was run."""
    return np.zeros(3 + (len(register.levels) if isinstance(register, Datapath) else 0), np.int64)


def _counted(run: Run) -> Array:
    """Steps that overflowed, outputs in which one did, and all outputs; the steps of each level."""
    count = run.overflow_count
    levels = [level.overflow_count.sum(dtype=np.int64) for level in run.levels]
    return np.array([count.sum(dtype=np.int64), np.count_nonzero(count), count.size, *levels])


def _calls(
    what: IntLayer | MatMul, operands: tuple[IntArray, ...]
) -> Iterator[tuple[IntLayer, IntArray]]:
    """What is simulated: a layer, or for each matrix of a product a layer of its right side."""
    if isinstance(what, IntLayer):
        yield what, operands[0]
        return
    left, right = operands
    if what.taps is not None and left.shape[-1] != what.taps:
        raise ShapeError(
            f"sums must have {what.taps} products, as the file says, not {left.shape[-1]}"
        )
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    many = (np.broadcast_to(side, (*batch, *side.shape[-2:])) for side in (left, right))
    flat = (side.reshape(prod(batch), *side.shape[-2:]) for side in many)
    for x, y in zip(*flat, strict=True):
        if x.size and y.size:
            yield IntLayer(y.T, weight_spec=what.right, input_spec=what.left), x


def _stacked(results: list[IntArray], left: IntArray, right: IntArray) -> IntArray:
    """The products of all matrices, in the shape that `numpy.matmul` gives."""
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    shape = (*batch, left.shape[-2], right.shape[-1])
    return np.array(results).reshape(shape) if results else np.zeros(shape, np.int32)
