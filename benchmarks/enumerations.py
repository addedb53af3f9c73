"""What each module that is mutated answers over many small inputs: equal for an equivalent mutant.

Each function yields the outcomes of its module's functions, errors included, over a fixed list of
arguments: every combination of a few small values, and sizes around blocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import is_dataclass
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np

from accsim import (
    Accumulator,
    Datapath,
    IntLayer,
    IntSpec,
    Overflow,
    between,
    signed,
    unsigned,
)

SPECS = [unsigned(1), unsigned(2), signed(2), signed(3, narrow=True), between(-1, 3),
         between(2, 4), between(-4, -2), between(1, 1), between(-1, -1), between(0, 0)]  # fmt: skip
FIELDS = ("output", "overflow_count", "first_overflow", "peak_low", "peak_high")
REGISTERS = [
    Accumulator(bits, rule, signed=is_signed)
    for bits, rule, is_signed in product((2, 3, 4), Overflow, (True, False))
]
# one register, in index order and not; levels that step and that do not; read-outs; a bias at last
NARROW = Accumulator(3, "saturate", terms=2, rail="sum")
WRAPS = Accumulator(3, terms=1)
TREES = [
    Datapath([Accumulator(4)]),
    Datapath([Accumulator(4, "saturate")], order=(1, 2, 0)),
    Datapath([Accumulator(4, rail="sum")]),
    Datapath([NARROW, Accumulator(4)], bias="last"),
    Datapath([WRAPS, NARROW, Accumulator(4, "saturate"), Accumulator(3, "saturate")], order=(1, 0)),
    Datapath([Accumulator(5, signed=False, terms=2), Accumulator(6), Accumulator(4)]),
]


def outcome(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a call returns, or its error, in a form that is equal only if they are."""
    try:
        return shown(function(*arguments, **options))
    except Exception as error:  # an error is an outcome, too, compared by kind and text
        return type(error).__name__, str(error)


def shown(value: Any) -> Any:
    """A value with its types."""
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tolist()
    if isinstance(value, np.generic):
        return str(value.dtype), value.item()
    if is_dataclass(value) and not isinstance(value, (IntLayer, IntSpec, Accumulator, type)):
        fields = {name: getattr(value, name) for name in value.__dataclass_fields__}
        return type(value).__name__, {name: shown(field) for name, field in fields.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [shown(item) for item in value]
    return type(value).__name__, str(value)


def arith() -> Iterator[Any]:
    """Every value of a few turns; folds of up to two products; lengths that differ."""
    from accsim import arith

    for register in REGISTERS:
        for value in range(-70, 71):
            for rule in (arith.wrap, arith.saturate, arith.reduce):
                yield outcome(rule, value, register)
        for bias in (register.min - 1, register.min, 0, register.max, register.max + 1):
            yield outcome(arith.check_bias, bias, register)
            for taps in range(3):
                for numbers in product((-3, -1, 0, 2), repeat=2 * taps):
                    sides = numbers[:taps], numbers[taps:]
                    yield outcome(arith.fold, *sides, register, bias=bias)
        for lengths in product(range(4), repeat=2):
            yield outcome(arith.fold, *([1] * length for length in lengths), register)
    for tree, bias, taps in product(TREES, (-9, -1, 0, 3), range(6)):
        for products in product((-5, 0, 3), repeat=taps):
            yield outcome(arith.fold, products, [1] * taps, tree, bias=bias)


def rows_of(taps: int) -> np.ndarray[Any, Any]:
    """Every row of so many taps from -2 to 2."""
    return np.array(list(product(range(-2, 3), repeat=taps)), int).reshape(5**taps, taps)


def bounds() -> Iterator[Any]:
    """All rows of up to 3 taps and all of them at once; shapes, sizes beside int64, blocks."""
    from accsim import bounds

    three = (bounds.extremes, bounds.running_extremes, bounds.any_order_extremes, bounds.least_bits)
    two = (bounds.l1_bits, bounds.zero_centered_bits, bounds.preloaded_bits)
    for spec, taps in product(SPECS, range(4)):
        rows = rows_of(taps)
        for weight in (rows, rows[:0], rows.reshape(*rows.shape, 1, 1), rows[None], *rows):
            for function in three:
                yield outcome(function, weight, spec)
                yield outcome(function, weight, spec, bias=5)
                yield outcome(function, weight, spec, bias=np.arange(len(rows)) - 3)
            for function in two:
                yield outcome(function, weight, spec)
            for bits in range(1, 7):
                yield outcome(bounds.preload, weight, spec, bits)
                yield outcome(bounds.fold_interval, weight, spec, bits)
        for k, weights in product((-1, 0, 1, 3, 2**40, 2**40 + 1), SPECS):
            yield outcome(bounds.data_type_bits, k, weights, spec)
        yield outcome(bounds.idle_too, spec)
        yield outcome(bounds.tap_products, rows, spec)
        for start in range(len(rows)):
            yield outcome(bounds.magnitude, rows[start:])
            yield outcome(bounds.magnitude, rows[: start + 1])
    random = np.random.default_rng(0)
    for size in range(28, 64):  # where int64 ends
        wide = random.integers(-(2 ** min(size, 62)), 2 ** min(size, 62), (2, 3))
        for spec in (unsigned(2), signed(32), unsigned(30)):
            yield outcome(bounds.running_extremes, wide, spec, bias=random.integers(-9, 9, 2))
            yield outcome(bounds.fold_interval, wide, spec, min(size, 62))
    many = random.integers(-8, 8, (1100, 1000), np.int8)  # more than a block
    yield outcome(bounds.running_extremes, many, signed(4))
    for register in REGISTERS:
        ends = range(-9, 10)
        yield [shown(bounds.fits(low, high, register)) for low, high in product(ends, ends)]


def budgets() -> Iterator[Any]:
    """All of them for every width and range; pairs of sums up to 20, in several types."""
    from accsim import budgets

    for spec, bits in product(SPECS, range(65)):
        yield outcome(budgets.l1_budget, bits, spec)
        yield outcome(budgets.zero_centered_budget, bits, spec)
        yield outcome(budgets.sign_budgets, bits, spec)
    pairs = np.array(list(product(range(20), repeat=2)))
    for spec in SPECS:
        yield outcome(budgets.largest_input, spec)
        if spec.contains_zero and spec.magnitude:
            for bits in range(2, 8):
                allow = budgets.sign_budgets(bits, spec).allow
                yield [allow(int(a), int(b)) for a, b in pairs]
                for kind in (np.int8, np.int64, np.float64):
                    yield outcome(allow, *pairs.T.astype(kind))
                    yield [bool(allow(kind(a), kind(b))) for a, b in pairs]
                yield outcome(allow, Fraction(1, 3), Fraction(7, 2))


def convolutions(kernel: tuple[int, int], **how: Any) -> Iterator[IntLayer]:
    """Geometries of a kernel, all taps 1 or all different."""
    for values in (lambda n: np.ones(n, int), lambda n: np.arange(n) % 7 - 3):
        weight = values(2 * kernel[0] * kernel[1]).reshape(2, 1, *kernel)
        yield IntLayer(weight, weight_spec=signed(4), **how)


def padding() -> Iterator[Any]:
    """Kernels of one axis over 672 geometries, of two over 108."""
    from verification import padding

    one = product(range(1, 5), range(1, 5), range(7), range(1, 4), (0, 1))
    for taps, stride, pad, dilation, axis in one:
        both = [(1, taps), (1, stride), (0, pad), (1, dilation)]
        kernel, *rest = (pair[::-1] if axis else pair for pair in both)
        how = dict(zip(("stride", "padding", "dilation"), rest, strict=True))
        for layer in convolutions(kernel, input_spec=between(1, 5), **how):
            yield outcome(padding.padding_masks, layer)
    two = product(((1, 2), (2, 1), (2, 3)), (1, 2), ((0, 1), (1, 1)), (1, 2), SPECS[:8])
    for kernel, stride, pad, dilation, spec in two:
        how = {"stride": stride, "padding": pad, "dilation": dilation}
        for layer in convolutions(kernel, input_spec=spec, bias=[1, -1], **how):
            for final in (False, True):
                yield outcome(padding.exact_extremes, layer, final=final)
                yield [shown(part) for part in padding.masked_extremes(layer, final=final)]
            yield outcome(padding.exact_extremes, layer)
            yield outcome(padding.masked_extremes, layer)


def decide() -> Iterator[Any]:
    """Three channels at a time, of all rows of 2 taps, in registers of up to 6 bits, and trees."""
    from verification.decide import Verdict, decide

    yield [(str(verdict), verdict.value) for verdict in Verdict]
    for spec, bits, rule in product(SPECS, (2, 4, 6), Overflow):
        for first in range(0, 23, 2):
            layer = IntLayer(
                rows_of(2)[first : first + 3],
                weight_spec=signed(3),
                input_spec=spec,
                bias=[0, 1, -2],
            )
            yield outcome(decide, layer, Accumulator(bits, rule))
            if (bits, rule, first % 6) == (4, Overflow.WRAP, 0):
                yield [outcome(decide, layer, tree) for tree in TREES]
    for layer in convolutions((1, 2), input_spec=between(2, 5), padding=1):
        yield outcome(decide, layer, Accumulator(4))


def oracle() -> Iterator[Any]:
    """Every run of up to 3 products, every range of up to 3 weights."""
    from verification import oracle

    for bits, is_signed in product(range(1, 6), (True, False)):
        yield outcome(oracle.rails, bits, is_signed)
    for register in REGISTERS:
        how = {
            "bits": register.bits,
            "overflow": register.overflow.value,
            "signed": register.signed,
        }
        for bias in (register.min - 1, register.min, 0, register.max, register.max + 1):
            for taps in range(4):
                for products in product((-9, -4, -1, 0, 3, 10), repeat=taps):
                    yield outcome(oracle.run, products, bias=bias, **how)
                    yield outcome(oracle.dot, products, products[::-1], bias=bias, **how)
        for lengths in product(range(4), repeat=2):
            yield outcome(oracle.dot, *([1] * length for length in lengths), **how)
        for word in ("neither", "saturated", "wrapped"):
            yield outcome(oracle.run, [1], register.bits, word)
    for taps, ends, bias in product(range(4), product(range(-2, 4), repeat=2), (-3, 0, 2)):
        for weights in product((-2, 0, 1, 3), repeat=taps):
            yield outcome(oracle.running_range, weights, *ends, bias=bias)
            yield outcome(oracle.running_range, weights, *ends)
            yield outcome(oracle.safe, weights, *ends, 3)
            yield outcome(oracle.wrap_exact, weights, *ends, 3)
            if ends[0] <= ends[1]:
                yield outcome(oracle.least_bits, weights, *ends, bias=bias)
                yield outcome(oracle.least_bits, weights, *ends)
            for bits, is_signed in product((2, 4), (True, False)):
                how = {"signed": is_signed, "bias": bias}
                yield outcome(oracle.safe, weights, *ends, bits, **how)
                yield outcome(oracle.wrap_exact, weights, *ends, bits, **how)
    for tree, bias, taps in product(TREES, (-1, 0, 3), range(6)):
        levels = [
            oracle.Level(one.bits, str(one.overflow), one.signed, one.terms, str(one.rail) == "sum")
            for one in tree.levels
        ]
        how = {"order": tree.order, "bias": bias, "bias_last": tree.bias == "last"}
        for products in product((-5, 0, 3), repeat=taps):
            yield outcome(oracle.climb, products, levels, **how)


def plain_run(layer: IntLayer, x: Any, register: Accumulator, count: int) -> Any:
    """The first `count` fields as the plain loops fill them, whatever a plan would choose."""
    from accsim.execute import execute
    from accsim.plan import Part, Plan, output_dtype

    kinds = [output_dtype(register), np.int32, np.int32, np.int64, np.int64][:count]
    shape = layer.output_shape(x.shape)
    results = {f: np.full(shape, 99, k) for f, k in zip(FIELDS[:count], kinds, strict=True)}
    part = Part("exact" if count == 1 else "all", "portable", None, "enumerated")
    execute(Plan((part,), layer.input_spec, layer.weight_range), layer, x, register, 1, results)
    return results.values()


def portable() -> Iterator[Any]:
    """Convolutions of 32 geometries, sizes around blocks, the ends of lanes; what is certified."""
    from accsim.kernels import portable

    random = np.random.default_rng(0)

    def layer(*shape: int, **how: Any) -> IntLayer:
        weight, bias = random.integers(-8, 8, shape), random.integers(0, 8, shape[0])
        return IntLayer(weight, weight_spec=signed(4), input_spec=signed(4), bias=bias, **how)

    registers = [REGISTERS[-4], REGISTERS[-1], Accumulator(40), Accumulator(40, "saturate")]
    names = ("stride", "padding", "dilation", "groups")
    for kernel, *values in product(((1, 1), (2, 3)), (1, (2, 1)), (0, (2, 3)), (1, (3, 2)), (1, 2)):
        how = dict(zip(names, values, strict=True))
        conv, x = layer(4, 6 // how["groups"], *kernel, **how), random.integers(-8, 8, (2, 6, 5, 6))
        for register, count in product(registers, (1, 5)):
            yield outcome(plain_run, conv, x, register, count)
    edges = [(1, 1, n) for n in (0, 1, 255, 256, 257, 513)]
    edges += [(n, 2, 2) for n in (127, 128, 129, 257)] + [(2, n, 2) for n in (127, 128, 129, 257)]
    edges += [(n, 129, 1) for n in (127, 128, 129)]
    for (rows, channels, taps), register in product(edges, registers[:2]):
        flat, x = layer(channels, taps), random.integers(-8, 8, (rows, taps))
        for count in (1, 5):
            yield outcome(plain_run, flat, x, register, count)
    for groups in (2, 3):
        conv = layer(groups * 129, 1, 1, 1, groups=groups)
        x = random.integers(-8, 8, (1, groups, 1, 2))
        yield [shown(plain_run(conv, x, register, 5)) for register in registers[:2]]
    conv, x = layer(1, 2, 3, 2, padding=(2, 3)), random.integers(-8, 8, (3, 2, 2, 4))
    yield [shown(plain_run(conv, x, register, 5)) for register in registers]
    for lane, rule, is_signed in product((31, 63), Overflow, (True, False)):
        spec = unsigned(lane - 1)
        one = IntLayer([[-1]], weight_spec=signed(1), input_spec=spec)
        register = Accumulator(lane - 1, rule, signed=is_signed)
        yield outcome(plain_run, one, np.array([[spec.max], [0]]), register, 5)
    rows, none = rows_of(3), np.zeros(0, np.int64)
    for kind, starts, step in product(
        (np.int8, np.int16, np.int32, np.int64), (none, np.arange(125) % 5), (1, 2, 3, 125)
    ):
        for low, high in ((-8, 7), (-2, 3), (0, 9), (-12, 12)):
            yield outcome(portable.certified, rows.astype(kind), starts, -1, 3, low, high, step)
    for length in (2**15 + 1, 2**16 + 1):
        for value, kind in ((-(2**15), np.int16), (127, np.int8), (-(2**40), np.int64)):
            row = np.full((1, length), value, kind)
            ends = (0, 1, min(value, 0) * length + 1, 2**62)
            yield outcome(portable.certified, row, none, *ends, 1)
            if kind == np.int8:
                yield outcome(portable.byte_sums, row)


def digest(enumeration: Callable[[], Iterator[Any]]) -> str:
    """How many outcomes, and a hash of all of them."""
    count, total = 0, hashlib.sha256()
    for item in enumeration():
        total.update(repr(item).encode())
        count += 1
    return f"{count} {total.hexdigest()}"
