"""The code of one vector tile, as LLVM IR.

A tile holds rows x vectors of narrow registers in the processor's own registers while it steps
through the taps. It takes one scalar of each row after another, and the vector of lanes at the
scalar's offset. In "int16x2" one scalar is two taps: the sums take both at once; all others go
through a block of scalars twice, first for the low halves, then for the high ones (the taps of one
channel, then of the next).

The same text serves every processor; what it may use is looked up in the target's features. A tile
is called with the address of its int64 `ARGUMENTS`, and returns an int64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from accsim.kernels.arithmetic import I32, I64, Arithmetic, Builder, Value
from accsim.kernels.forms import FIELDS, Kernel, Target
from accsim.kernels.vector import ARGUMENTS

HALVES = (0, 1)


def transpose(bits: int) -> Any:
    """Code that transposes squares of integers of `bits`; their side is 128 / bits.

    Arguments: 1 source, 2 bytes from row to row of it, 3 target, 4 bytes from row to row of it,
    5 how many squares, side by side in the source and one below the other in the target.
    """
    side = 128 // bits
    module = ir.Module("accsim.transpose")
    function = ir.Function(module, ir.FunctionType(I64, [I64.as_pointer()]), "tile")
    b = ir.IRBuilder(function.append_basic_block())
    source, stride, target, step, count = (
        b.load(b.gep(function.args[0], [I64(i)])) for i in range(1, 6)
    )
    kind = ir.VectorType(ir.IntType(bits), side)
    with cgutils.for_range(b, count, intp=I64) as loop:
        at = b.add(source, b.mul(loop.index, I64(16)))
        rows = []
        for i in range(side):
            row = b.add(at, b.mul(stride, I64(i)))
            rows.append(_load(b, b.inttoptr(row, kind.as_pointer()), 0))
        # interleave row i with row i + side / 2, as often as it takes
        low, high = (
            [half * (side // 2) + i // 2 + side * (i % 2) for i in range(side)] for half in (0, 1)
        )
        for _ in range(side.bit_length() - 1):
            pairs = [(rows[i], rows[i + side // 2]) for i in range(side // 2)]
            rows = [
                b.shuffle_vector(*pair, ir.Constant(ir.VectorType(I32, side), order))
                for pair in pairs
                for order in (low, high)
            ]
        for i, row in enumerate(rows):
            to = b.add(target, b.mul(step, b.add(b.mul(loop.index, I64(side)), I64(i))))
            b.store(row, b.inttoptr(to, kind.as_pointer())).align = 1
    b.ret(count)
    return module


def tile(kernel: Kernel, target: Target, height: int, vectors: int) -> Any:
    """The tile as LLVM IR: one function, `int64 tile(int64 *arguments)`."""
    module = ir.Module("accsim.tile")
    module.triple = target.triple
    function = ir.Function(module, ir.FunctionType(I64, [I64.as_pointer()]), "tile")
    b = ir.IRBuilder(function.append_basic_block())
    given = {name: b.load(b.gep(function.args[0], [I64(i)])) for i, name in enumerate(ARGUMENTS)}
    code = Arithmetic(b, kernel, target, given["register"])
    names, size = ("state", "second", "third")[: FIELDS[kernel.work]], height * vectors
    state = [_place(b, code, given, name, i, vectors) for name in names for i in range(size)]
    for at in state:  # results are seldom in the cache; they will be when the tile stores them
        code.prefetch(at)
    before = [_slot(b, ir.Constant(code.wide, None)) for _ in state]
    with b.if_else(b.icmp_signed("!=", given["row_starts"], I64(0))) as (fresh, further):
        with fresh:
            for i, slot in enumerate(before):
                b.store(_start(b, code, given, i // size, i % size, vectors), slot)
        with further:
            for at, slot in zip(state, before, strict=True):
                b.store(_load(b, at, 0), slot)
    slots = [_slot(b, code.enter(b.load(slot), i // size, i)) for i, slot in enumerate(before)]
    taken = _slot(b, ir.Constant(code.vector, [0] * code.across))
    rows = [b.add(given["rows"], b.mul(given["row_stride"], I64(r))) for r in range(height)]
    offsets = b.inttoptr(given["offsets"], I64.as_pointer())

    def step(k: Value, halves: Sequence[int | None] = (None,)) -> None:
        """All rows of the tile at scalar k; of its halves, one after another."""
        at = b.add(given["lanes"], b.load(b.gep(offsets, [k])))
        at = b.inttoptr(at, code.vector.as_pointer())
        lanes = [_load(b, at, v) for v in range(vectors)]
        for r in range(height):
            scalar = b.gep(b.inttoptr(rows[r], code.lane.as_pointer()), [k])
            for i, half in enumerate(halves):
                row = code.scalar(scalar, half)
                before_it = code.plus(b.load(taken), i)
                for v in range(r * vectors, (r + 1) * vectors):
                    kept = slots[v::size]
                    given_state = [b.load(slot) for slot in kept]
                    values = code.step(given_state, row, lanes[v % vectors], before_it, v)
                    for slot, value in zip(kept, values, strict=True):
                        b.store(value, slot)
        b.store(code.plus(b.load(taken), len(halves)), taken)

    done = given["blocks"]
    if kernel.work == "spill":
        _spill(b, code, given, slots, before, step)
    elif kernel.work == "cruise":
        done = _cruise(b, code, given, slots, height, vectors, step)
    else:
        with cgutils.for_range(b, done, intp=I64) as loop:
            if kernel.form != "int16x2" or kernel.work == "exact":
                step(loop.index)
            elif kernel.pixels:
                step(loop.index, HALVES)
            else:
                first = b.mul(loop.index, given["span"])
                for half in HALVES:
                    with cgutils.for_range(b, given["span"], intp=I64) as inner:
                        step(b.add(first, inner.index), (half,))
    for i, at in enumerate(state):
        if kernel.work == "peaks" and i < size:
            continue  # nobody asks for the sums
        if kernel.work == "spill":
            value = code.cut(b.load(before[i]))
        else:
            value = code.leave(b.load(slots[i]), i // size, i, b.load(before[i]), given["done"])
        b.store(value, at).align = 1
    b.ret(done)
    return module


def _place(
    b: Builder, code: Arithmetic, given: dict[str, Value], name: str, i: int, vectors: int
) -> Value:
    """Where the i-th vector of a field is."""
    row = b.add(given[name], b.mul(given["state_stride"], I64(i // vectors)))
    return b.gep(b.inttoptr(row, code.wide.as_pointer()), [I64(i % vectors)])


def _start(
    b: Builder, code: Arithmetic, given: dict[str, Value], field: int, i: int, vectors: int
) -> Value:
    """The true value of a field of the i-th vector before the first step."""
    if code.kernel.work == "count" and field:
        return ir.Constant(code.wide, [1 - field] * code.across)
    rows = b.inttoptr(given["row_starts"], code.wide.element.as_pointer())
    lanes = b.inttoptr(given["lane_starts"], code.wide.as_pointer())
    row = code.splat(b.load(b.gep(rows, [I64(i // vectors)])))
    return b.add(row, _load(b, lanes, i % vectors))


def _spill(
    b: Builder,
    code: Arithmetic,
    given: dict[str, Value],
    slots: Sequence[Value],
    rests: Sequence[Value],
    step: Callable[[Value], None],
) -> None:
    """Groups of scalars: lanes start at 0, and are added to what rests between them."""
    zero = ir.Constant(code.wide, None)
    with cgutils.for_range(b, given["blocks"], intp=I64) as loop:
        for i, slot in enumerate(slots):
            b.store(code.enter(zero, 0, i), slot)
        first = b.mul(loop.index, given["span"])
        with cgutils.for_range(b, given["span"], intp=I64) as inner:
            step(b.add(first, inner.index))
        for i, (slot, rest) in enumerate(zip(slots, rests, strict=True)):
            b.store(code.spill(b.load(rest), code.sum_of(b.load(slot), i)), rest)


def _cruise(
    b: Builder,
    code: Arithmetic,
    given: dict[str, Value],
    slots: Sequence[Value],
    height: int,
    vectors: int,
    step: Callable[[Value], None],
) -> Value:
    """Whole segments until one could pass a rail; the number of segments done."""
    done = cgutils.alloca_once_value(b, I64(0))
    with cgutils.for_range(b, given["blocks"], intp=I64) as loop:
        outside = []
        for low, high, registers in _limits(b, code, given, loop.index, slots, height, vectors):
            least = reduce(code.least, registers)
            greatest = reduce(code.greatest, registers)
            outside += [b.icmp_signed("<", least, low), b.icmp_signed(">", greatest, high)]
        any_outside = code.call(
            f"llvm.vector.reduce.or.v{code.across}i1", ir.IntType(1), reduce(b.or_, outside)
        )
        with b.if_then(any_outside):
            loop.do_break()
        first = b.mul(loop.index, given["span"])
        with cgutils.for_range(b, given["span"], intp=I64) as inner:
            step(b.add(first, inner.index))
        b.store(b.add(loop.index, I64(1)), done)
    return b.load(done)


def _limits(
    b: Builder,
    code: Arithmetic,
    given: dict[str, Value],
    segment: Value,
    slots: Sequence[Value],
    height: int,
    vectors: int,
) -> Iterator[tuple[Value, Value, list[Value]]]:
    """Lowest and highest safe register of a segment, and the registers they hold for."""
    registers = [b.load(slot) for slot in slots]
    if code.kernel.lane_limits:  # limits (segments, 2, lanes)
        row = b.add(given["limits"], b.mul(segment, given["limit_stride"]))
        at = b.inttoptr(row, code.vector.as_pointer())
        for v in range(vectors):
            yield _load(b, at, v), _load(b, at, vectors + v), registers[v::vectors]
        return
    for r in range(height):  # limits (rows, segments, 2)
        row = b.add(given["limits"], b.mul(given["limit_stride"], I64(r)))
        at = b.gep(b.inttoptr(row, I32.as_pointer()), [b.mul(segment, I64(2))])
        low, high = (code.splat(b.load(b.gep(at, [I64(i)]))) for i in (0, 1))
        yield low, high, registers[r * vectors : (r + 1) * vectors]


def _load(b: Builder, pointer: Value, index: int) -> Value:
    value = b.load(b.gep(pointer, [I64(index)]))
    value.align = 1
    return value


def _slot(b: Builder, value: Value) -> Value:
    return cgutils.alloca_once_value(b, value)
