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

from accsim.kernels.forms import FIELDS, FORMS, REGISTER, Kernel, Target
from accsim.kernels.vector import ARGUMENTS, MOST

I32, I64 = ir.IntType(32), ir.IntType(64)
Value = Any  # an ir.Value; llvmlite has no types
Builder = Any  # an ir.IRBuilder

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
    code = _Code(b, kernel, target, given["register"])
    names, size = ("state", "second", "third")[: FIELDS[kernel.work]], height * vectors
    state = [_place(b, code, given, name, i, vectors) for name in names for i in range(size)]
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
            at = b.gep(b.inttoptr(rows[r], code.lane.as_pointer()), [k])
            for i, half in enumerate(halves):
                row = code.splat(b.load(at)) if half is None else code.half(at, half)
                index = code.plus(b.load(taken), i)
                for v in range(r * vectors, (r + 1) * vectors):
                    kept = slots[v::size]
                    values = code.step(
                        [b.load(slot) for slot in kept], row, lanes[v % vectors], index, v
                    )
                    for slot, value in zip(kept, values, strict=True):
                        b.store(value, slot)
        b.store(code.plus(b.load(taken), len(halves)), taken)

    done = given["blocks"]
    if kernel.work == "cruise":
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
        value = code.leave(b.load(slots[i]), i // size, i, b.load(before[i]), given["done"])
        b.store(value, at).align = 1
    b.ret(done)
    return module


def _place(
    b: Builder, code: _Code, given: dict[str, Value], name: str, i: int, vectors: int
) -> Value:
    """Where the i-th vector of a field is."""
    row = b.add(given[name], b.mul(given["state_stride"], I64(i // vectors)))
    return b.gep(b.inttoptr(row, code.wide.as_pointer()), [I64(i % vectors)])


def _start(
    b: Builder, code: _Code, given: dict[str, Value], field: int, i: int, vectors: int
) -> Value:
    """The true value of a field of the i-th vector before the first step."""
    if code.kernel.work == "count" and field:
        return ir.Constant(code.wide, [1 - field] * code.across)
    rows = b.inttoptr(given["row_starts"], code.wide.element.as_pointer())
    lanes = b.inttoptr(given["lane_starts"], code.wide.as_pointer())
    row = code.splat(b.load(b.gep(rows, [I64(i // vectors)])))
    return b.add(row, _load(b, lanes, i % vectors))


def _cruise(
    b: Builder,
    code: _Code,
    given: dict[str, Value],
    slots: Sequence[Value],
    height: int,
    vectors: int,
    step: Callable[[Value], None],
) -> Value:
    """Whole segments until one could reach a rail; the number of segments done."""
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
    code: _Code,
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


class _Code:
    """The arithmetic of one kernel on vectors of its lane type."""

    def __init__(self, builder: Builder, kernel: Kernel, target: Target, register: Value) -> None:
        self.b, self.kernel, self.target = builder, kernel, target
        form = FORMS[kernel.form]
        self.floats = form.lane == "float64"
        self.bits = form.bits
        self.lane: Any = ir.DoubleType() if self.floats else ir.IntType(self.bits)
        self.across = target.vector_bytes * 8 // self.bits
        self.vector = ir.VectorType(self.lane, self.across)
        self.wide = ir.VectorType(ir.IntType(int(kernel.wide.removeprefix("int"))), self.across)
        self.suffix = f"v{self.across}{'f' if self.floats else 'i'}{self.bits}"
        pointer = builder.inttoptr(register, I64.as_pointer())
        fields = [builder.load(builder.gep(pointer, [I64(i)])) for i in range(len(REGISTER))]
        if self.wide.element != I64:
            fields = [builder.trunc(field, I32) for field in fields]
        self.low, self.high, self.span, self.shift = (
            self.narrow(self.splat(field)) for field in fields[:4]
        )
        self.offset, self.floor, self.mask = (self.splat(field) for field in fields[4:])
        self.top = self.constant(2 ** (self.bits - 1) - 1)  # in int16 also the upper rail

    def narrow(self, value: Value) -> Value:
        """The wide type to the lane type."""
        if self.floats:
            return self.b.sitofp(value, self.vector)
        return value if self.wide == self.vector else self.b.trunc(value, self.vector)

    def widen(self, value: Value) -> Value:
        """The lane type to the wide type."""
        if self.floats:
            return self.b.fptosi(value, self.wide)
        return value if self.wide == self.vector else self.b.sext(value, self.wide)

    def enter(self, value: Value, field: int, index: int) -> Value:
        """What a lane holds for the true value of a field of the tile's index-th vector."""
        if self.kernel.work == "count" and field:
            return self.constant(0 if field == 1 else MOST)
        if self.kernel.form != "int16":
            return self.narrow(value)
        lane = self.b.shl(self.narrow(self.b.add(value, self.offset)), self.shift)
        return self.b.xor(lane, self.top) if self.eases(index) else lane

    def leave(self, lane: Value, field: int, index: int, before: Value, done: Value) -> Value:
        """The true value; of counts, with that from before, after `done` steps."""
        b, work = self.b, self.kernel.work
        value = self.widen(lane)
        if work == "count" and field == 1:
            return b.add(before, value)
        if work == "count" and field == 2:
            steps = self.splat(done if self.wide.element == I64 else b.trunc(done, I32))
            none = b.icmp_signed(">=", value, self.widen(self.constant(MOST)))
            known = b.or_(none, b.icmp_signed(">=", before, ir.Constant(self.wide, None)))
            return b.select(known, before, b.add(value, steps))
        if self.kernel.form == "int16":
            lane = b.xor(lane, self.top) if self.eases(index) else lane
            return b.sub(self.widen(b.ashr(lane, self.shift)), self.offset)
        if work != "exact":
            return value
        return b.add(b.and_(b.sub(value, self.floor), self.mask), self.floor)

    def eases(self, index: int) -> bool:
        """Whether the index-th vector holds the distance from the upper rail.

        Where saturating additions compete with multiplications, every fourth vector does without.
        """
        return self.kernel.eases and self.target.saturates_slowly and index % 5 == 4

    def step(
        self, state: list[Value], row: Value, lanes: Value, taken: Value, index: int
    ) -> list[Value]:
        """One tap: the state of the tile's index-th vector of registers after it.

        `taken` is the number of steps before it.
        """
        work = self.kernel.work
        if work in ("exact", "cruise"):
            return [self.add(state[0], row, lanes)]
        if work == "peaks":
            total = self.add(state[0], row, lanes)
            return [total, self.least(state[1], total), self.greatest(state[2], total)]
        if work == "saturate" and self.eases(index):
            return [self.eased(state[0], row, lanes)]
        if work == "saturate":
            return [self.saturated(state[0], row, lanes)[0]]
        (kept, held), total = self.counted(state[0], row, lanes)
        return [held, *self.count(kept, total, state[1], state[2], taken)]

    def add(self, register: Value, row: Value, lanes: Value) -> Value:
        """The exact sum; of integers, modulo the lane's width."""
        b, form = self.b, self.kernel.form
        if self.floats:
            return b.fadd(register, b.fmul(row, lanes, flags=["contract"]), flags=["contract"])
        if form == "int16":
            return b.add(register, b.mul(row, lanes))
        if form == "int16x2":
            if self.target.dot_bytes:
                name = f"llvm.x86.avx512.vpdpwssd.{self.target.vector_bytes * 8}"
                return self.call(name, self.vector, register, row, lanes)
            return b.add(register, self.pairs(row, lanes))
        unsigned, signed = (lanes, row) if self.kernel.lanes_unsigned else (row, lanes)
        if self.target.dot_bytes:
            name = f"llvm.x86.avx512.vpdpbusd.{self.target.vector_bytes * 8}"
            return self.call(name, self.vector, register, unsigned, signed)
        names = {16: "ssse3.pmadd.ub.sw.128", 32: "avx2.pmadd.ub.sw", 64: "avx512.pmaddubs.w.512"}
        words = self.call(
            "llvm.x86." + names[self.target.vector_bytes],
            self.words(),
            b.bitcast(unsigned, self.bytes()),
            b.bitcast(signed, self.bytes()),
        )
        ones = ir.Constant(self.words(), [1] * (2 * self.across))
        return b.add(register, self.pairs(b.bitcast(words, self.vector), ones))

    def pairs(self, left: Value, right: Value) -> Value:
        """Per int32 lane, the sum of the two products of its int16 halves."""
        b, words = self.b, self.words()
        if self.target.x86:
            name = {16: "sse2.pmadd.wd", 32: "avx2.pmadd.wd", 64: "avx512.pmaddw.d.512"}
            return self.call(
                "llvm.x86." + name[self.target.vector_bytes],
                self.vector,
                b.bitcast(left, words),
                b.bitcast(right, words),
            )
        half = ir.Constant(self.vector, [16] * self.across)
        high = [b.ashr(side, half) for side in (left, right)]
        low = [b.ashr(b.shl(side, half), half) for side in (left, right)]
        return b.add(b.mul(*low), b.mul(*high))

    def saturated(self, register: Value, row: Value, lanes: Value) -> tuple[Value, Value]:
        """The saturated sum, and the sum (of int16: modulo 2^16)."""
        low, high = self.low, self.high
        if self.kernel.form != "int16":
            total = self.add(register, row, lanes)
            return self.least(self.greatest(total, low), high), total
        # the lane's own saturation is the upper rail: registers are stored so that they coincide
        product = self.b.mul(row, lanes)
        kept = self.call(f"llvm.sadd.sat.{self.suffix}", self.vector, register, product)
        if self.kernel.clamps:
            kept = self.greatest(kept, low)
        return kept, self.b.add(register, product)

    def eased(self, rest: Value, row: Value, lanes: Value) -> Value:
        """The distance from the upper rail after a step: no saturating addition, all units."""
        b = self.b
        product, zero = self.b.mul(row, lanes), self.constant(0)
        least = self.greatest(product, zero)  # from there the register would pass its upper rail
        # or its lower one; without a clamp the register's span is that of the lane
        span = b.sub(self.top, self.low) if self.kernel.clamps else self.constant(-1)
        most = b.add(self.least(product, zero), span)
        rest = self.call(f"llvm.umax.{self.suffix}", self.vector, rest, least)
        return b.sub(self.call(f"llvm.umin.{self.suffix}", self.vector, rest, most), product)

    def counted(self, register: Value, row: Value, lanes: Value) -> tuple[Value, Value]:
        """(The saturated sum, what the register keeps), and the sum."""
        b = self.b
        low, span = self.low, self.span
        kept, total = self.saturated(register, row, lanes)
        if not self.kernel.wraps:
            return (kept, kept), total
        if self.floats:
            turns = b.fdiv(b.fsub(total, low), span)
            turns = self.call(f"llvm.floor.{self.suffix}", self.vector, turns)
            wrapped = b.fsub(total, b.fmul(span, turns))
        elif self.kernel.form != "int16":
            wrapped = b.add(b.and_(b.sub(total, low), span), low)
        elif self.kernel.clamps:
            wrapped = b.or_(b.and_(total, span), low)  # low is a multiple of the span
        else:
            wrapped = total
        return (kept, wrapped), total

    def count(
        self, kept: Value, total: Value, count: Value, first: Value, taken: Value
    ) -> list[Value]:
        """Overflows, and the first of them, after a step that overflows where the two differ."""
        b = self.b
        if self.target.masks and not self.floats:  # which LLVM would make nine instructions
            size = {16: "w", 32: "d"}[self.bits]
            text = (
                f"vpcmpneq{size} $2, $3, %k1",
                f"vpsub{size} $4, $0, $0 {{%k1}}",
                f"vpmins{size} $5, $1, $1 {{%k1}}",
            )
            both = ir.LiteralStructType([self.vector, self.vector])
            given = [kept, total, self.constant(-1), taken, count, first]
            kind = ir.FunctionType(both, [self.vector] * len(given))
            code = ir.InlineAsm(kind, "\n".join(text), "=&v,=&v,v,v,v,v,0,1,~{k1}")
            done = b.call(code, given)
            return [b.extract_value(done, i) for i in (0, 1)]
        unlike = (b.fcmp_ordered if self.floats else b.icmp_signed)("!=", kept, total)
        count = b.select(unlike, self.plus(count, 1), count)
        return [count, b.select(unlike, self.least(first, taken), first)]

    def plus(self, value: Value, number: int) -> Value:
        """A vector of integers, each more by a number."""
        if self.floats:
            return self.b.fadd(value, self.constant(number))
        return self.b.add(value, self.constant(number))

    def least(self, left: Value, right: Value) -> Value:
        """The smaller, lane by lane."""
        if self.floats:
            return self.b.select(self.b.fcmp_ordered("<", left, right), left, right)
        return self.call(f"llvm.smin.{self.suffix}", self.vector, left, right)

    def greatest(self, left: Value, right: Value) -> Value:
        """The greater, lane by lane."""
        if self.floats:
            return self.b.select(self.b.fcmp_ordered(">", left, right), left, right)
        return self.call(f"llvm.smax.{self.suffix}", self.vector, left, right)

    def half(self, at: Value, half: int) -> Value:
        """Copies of a scalar of two int16, the other one zero."""
        if not self.target.masks:
            return self.b.and_(self.splat(self.b.load(at)), self.constant(0xFFFF << 16 * half))
        # a load that copies the one half under a mask; LLVM would shuffle
        kind = ir.FunctionType(self.vector, [at.type, I32])
        text = f"vpbroadcastw {2 * half}($1), $0 {{$2}} {{z}}"
        mask = I32((0x55555555, 0xAAAAAAAA)[half])
        return self.b.call(ir.InlineAsm(kind, text, "=v,r,^Yk"), [at, mask])

    def words(self) -> Any:
        """A vector register as int16."""
        return ir.VectorType(ir.IntType(16), self.target.vector_bytes // 2)

    def bytes(self) -> Any:
        """A vector register as int8."""
        return ir.VectorType(ir.IntType(8), self.target.vector_bytes)

    def constant(self, value: int) -> Value:
        """A vector of one number."""
        number = float(value) if self.floats else value
        return ir.Constant(self.vector, [number] * self.across)

    def splat(self, scalar: Value) -> Value:
        """A vector of copies."""
        none = ir.Constant(ir.VectorType(scalar.type, self.across), ir.Undefined)
        first = self.b.insert_element(none, scalar, I32(0))
        zeros = ir.Constant(ir.VectorType(I32, self.across), [0] * self.across)
        return self.b.shuffle_vector(first, none, zeros)

    def call(self, name: str, result: Any, *arguments: Value) -> Value:
        """A call of an LLVM intrinsic."""
        kind = ir.FunctionType(result, [value.type for value in arguments])
        return self.b.call(cgutils.get_or_insert_function(self.b.module, kind, name), arguments)


def _load(b: Builder, pointer: Value, index: int) -> Value:
    value = b.load(b.gep(pointer, [I64(index)]))
    value.align = 1
    return value


def _slot(b: Builder, value: Value) -> Value:
    return cgutils.alloca_once_value(b, value)
