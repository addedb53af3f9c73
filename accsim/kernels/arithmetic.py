"""Arithmetic on vectors of narrow registers, as LLVM IR: what one step of each kernel does.

Each form is generic vector code. On x86-64, products of pairs and of bytes are the processor's own
instructions; under AVX-512 two things for which LLVM finds longer code are inline assembly.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from accsim.kernels.forms import FORMS, REGISTER, Kernel, Target

I32, I64 = ir.IntType(32), ir.IntType(64)
Value = Any  # an ir.Value; llvmlite has no types
Builder = Any  # an ir.IRBuilder

EASED = 5  # every fifth vector: measured on Zen 4, where the units are then all busy


class Arithmetic:
    """The arithmetic of one kernel on vectors of its lane type."""

    def __init__(self, builder: Builder, kernel: Kernel, target: Target, register: Value) -> None:
        self.b, self.kernel, self.target = builder, kernel, target
        form = FORMS[kernel.form]
        self.floats = form.lane == "float64"
        self.bits, self.never = form.bits, form.countable  # a step that never comes
        self.lane: Any = ir.DoubleType() if self.floats else ir.IntType(self.bits)
        self.across = target.vector_bytes * 8 // self.bits
        self.vector = ir.VectorType(self.lane, self.across)
        self.wide = ir.VectorType(ir.IntType(int(kernel.wide.removeprefix("int"))), self.across)
        self.suffix = f"v{self.across}{'f' if self.floats else 'i'}{self.bits}"
        pointer = builder.inttoptr(register, I64.as_pointer())
        *fields, self.table = (
            builder.load(builder.gep(pointer, [I64(i)])) for i in range(len(REGISTER))
        )
        if self.wide.element != I64:
            fields = [builder.trunc(field, I32) for field in fields]
        self.low, self.high, self.span, self.shift = (
            self.narrow(self.splat(field)) for field in fields[:4]
        )
        self.offset, self.floor, self.mask, *self.rest = (self.splat(f) for f in fields[4:])
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
            return self.constant(0 if field == 1 else self.never)
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
            none = b.icmp_signed(">=", value, self.widen(self.constant(self.never)))
            known = b.or_(none, b.icmp_signed(">=", before, ir.Constant(self.wide, None)))
            return b.select(known, before, b.add(value, steps))
        if self.kernel.form == "int16":
            return self.sum_of(lane, index)
        return self.cut(value) if work == "exact" else value

    def sum_of(self, lane: Value, index: int) -> Value:
        """What the index-th vector of int16 lanes holds, truly."""
        if self.kernel.form == "int8x2":  # of a register that wraps, only its bits count
            return self.widen(self.b.ashr(self.b.shl(lane, self.shift), self.shift))
        lane = self.b.xor(lane, self.top) if self.eases(index) else lane
        return self.b.sub(self.widen(self.b.ashr(lane, self.shift)), self.offset)

    def cut(self, value: Value) -> Value:
        """The bits of a wide sum that are asked for."""
        b = self.b
        return b.add(b.and_(b.sub(value, self.floor), self.mask), self.floor)

    def spill(self, rest: Value, item: Value) -> Value:
        """The wide register after another group's sum."""
        if not self.kernel.rests:
            return self.b.add(rest, item)
        suffix = f"v{self.across}i32"
        total = self.call(f"llvm.sadd.sat.{suffix}", self.wide, rest, item)
        total = self.call(f"llvm.smax.{suffix}", self.wide, total, self.rest[0])
        return self.call(f"llvm.smin.{suffix}", self.wide, total, self.rest[1])

    def eases(self, index: int) -> bool:
        """Whether the index-th vector holds the distance from the upper rail.

        Where saturating additions compete with multiplications, some vectors do without.
        """
        return self.kernel.eases and self.target.saturates_slowly and index % EASED == EASED - 1

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
        if work == "spill":
            return [self.grouped(state[0], row, lanes, index)]
        kept, total, held = self.counted(state[0], row, lanes)
        return [held, *self.count(kept, total, state[1], state[2], taken)]

    def grouped(self, lane: Value, row: Value, lanes: Value, index: int) -> Value:
        """A lane's sum after another product, or two of bytes."""
        if self.kernel.form == "int16":
            if self.kernel.wraps:
                return self.b.add(lane, self.product(row, lanes))
            if self.eases(index):
                return self.eased(lane, row, lanes)
            return self.saturated(lane, row, lanes)[0]
        pair = self.byte_pairs(row, lanes)
        if self.kernel.wraps:
            return self.b.add(lane, pair)
        kept = self.call(f"llvm.sadd.sat.{self.suffix}", self.vector, lane, pair)
        return self.least(self.greatest(kept, self.low), self.high) if self.kernel.clamps else kept

    def scalar(self, at: Value, half: int | None) -> Value:
        """What a step takes from a row: copies of a scalar or of a half of it, or its products."""
        b = self.b
        if half is not None:
            return self.half(at, half)
        if not self.kernel.looks_up:
            return self.splat(b.load(at))
        # the low byte alone: whatever is written there meanwhile, no address is outside
        index = b.zext(b.load(b.bitcast(at, ir.IntType(8).as_pointer())), I64)
        skip = b.mul(index, I64(self.target.vector_bytes))
        return b.load(b.inttoptr(b.add(self.table, skip), self.vector.as_pointer()))

    def product(self, row: Value, lanes: Value) -> Value:
        """Products of int16, which holds them; or looked up: by the lowest bits of the lanes."""
        if self.kernel.looks_up:
            return self.call("llvm.x86.avx512.permvar.hi.512", self.vector, row, lanes)
        return self.b.mul(row, lanes)

    def add(self, register: Value, row: Value, lanes: Value) -> Value:
        """The exact sum; of integers, modulo the lane's width."""
        b, form = self.b, self.kernel.form
        if self.floats:
            return b.fadd(register, b.fmul(row, lanes, flags=["contract"]), flags=["contract"])
        if form == "int16x2":
            if self.target.dot_bytes:
                name = f"llvm.x86.avx512.vpdpwssd.{self.target.vector_bytes * 8}"
                return self.call(name, self.vector, register, row, lanes)
            return b.add(register, self.pairs(row, lanes))
        if self.target.dot_bytes and not self.kernel.pairs:
            unsigned, signed = self.unsigned_first(row, lanes)
            name = f"llvm.x86.avx512.vpdpbusd.{self.target.vector_bytes * 8}"
            return self.call(name, self.vector, register, unsigned, signed)
        ones = ir.Constant(self.words(), [1] * (2 * self.across))
        words = self.byte_pairs(row, lanes)
        return b.add(register, self.pairs(b.bitcast(words, self.vector), ones))

    def unsigned_first(self, row: Value, lanes: Value) -> tuple[Value, Value]:
        """The sides that are uint8 and int8."""
        return (lanes, row) if self.kernel.lanes_unsigned else (row, lanes)

    def byte_pairs(self, row: Value, lanes: Value) -> Value:
        """Sums of two products of bytes, in int16, saturating."""
        b = self.b
        unsigned, signed = self.unsigned_first(row, lanes)
        names = {16: "ssse3.pmadd.ub.sw.128", 32: "avx2.pmadd.ub.sw", 64: "avx512.pmaddubs.w.512"}
        return self.call(
            "llvm.x86." + names[self.target.vector_bytes],
            self.words(),
            b.bitcast(unsigned, self.bytes()),
            b.bitcast(signed, self.bytes()),
        )

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
        product = self.product(row, lanes)
        kept = self.call(f"llvm.sadd.sat.{self.suffix}", self.vector, register, product)
        if self.kernel.clamps:
            kept = self.greatest(kept, low)
        return kept, self.b.add(register, product)

    def eased(self, rest: Value, row: Value, lanes: Value) -> Value:
        """The distance from the upper rail after a step: no saturating addition, all units."""
        b = self.b
        product, zero = b.mul(row, lanes), self.constant(0)
        least = self.greatest(product, zero)  # from there the register would pass its upper rail
        # or its lower one; without a clamp the register's span is that of the lane
        span = b.sub(self.top, self.low) if self.kernel.clamps else self.constant(-1)
        most = b.add(self.least(product, zero), span)
        rest = self.call(f"llvm.umax.{self.suffix}", self.vector, rest, least)
        return b.sub(self.call(f"llvm.umin.{self.suffix}", self.vector, rest, most), product)

    def counted(self, register: Value, row: Value, lanes: Value) -> tuple[Value, Value, Value]:
        """The saturated sum, the sum, and what the register holds then."""
        b = self.b
        low, span = self.low, self.span
        kept, total = self.saturated(register, row, lanes)
        if not self.kernel.wraps:
            return kept, total, kept
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
        return kept, total, wrapped

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
        # a load that copies the one half under a mask, where LLVM would shuffle; it need not be
        # kept in order with stores: no tile writes scalars
        kind = ir.FunctionType(self.vector, [at.type, I32])
        text = f"vpbroadcastw {2 * half}($1), $0 {{$2}} {{z}}"
        mask = I32((0x55555555, 0xAAAAAAAA)[half])
        return self.b.call(ir.InlineAsm(kind, text, "=v,r,^Yk"), [at, mask])

    def prefetch(self, at: Value) -> None:
        """Fetch the line at an address, to write to it."""
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32])
        fetch = cgutils.get_or_insert_function(self.b.module, kind, "llvm.prefetch.p0")
        self.b.call(fetch, [self.b.bitcast(at, byte), I32(1), I32(3), I32(1)])

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
