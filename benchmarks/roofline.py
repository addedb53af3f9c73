"""What share of the processor's vector arithmetic each kernel reaches. x86-64 only.

The innermost loop of every tile that a call uses is read back as assembly. Its vector arithmetic
(multiply, look up, add, min, max, compare, and; not loads, moves, broadcasts) over its products
gives instructions per MAC. How fast the processor executes that mix is measured: the same
instructions, made independent of each other and of memory, in a loop of their own, compiled by the
same code generator. The limit is their quotient. Achieved speed is that of the whole call, packing
and checks included; it passes the limit where a kernel skips steps that cannot matter.
"""

from __future__ import annotations

import ctypes
import re
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import cgutils

from accsim import Accumulator, IntLayer, IntSpec, launch, linear, signed, simulate
from accsim.kernels import emit, tiles
from accsim.kernels.forms import FORMS, Kernel, Target, host
from verification.bench import draw, measure

SHAPE = (512, 512, 1024)
BLOCK = 96  # instructions of a measured loop, at least
ITERATIONS = 100_000
BYTE, NIBBLE = signed(8), signed(4)

MULTIPLIES = {  # what starts the one multiplication of each step and register, by form
    "int8x4": ("vpdpbusd", "pmaddubsw", "vpmaddubsw"),
    "int16": ("pmullw", "vpmullw", "vpermw"),  # or looks it up
    "int16x2": ("pmaddwd", "vpmaddwd", "vpdpwssd"),
    "float64": ("mulpd", "vmulpd", "vfmadd"),
}
NO_ARITHMETIC = re.compile(r"v?mov|v?p?broadcast|vp?insert|vp?extract|vpmov|kmov|vzero")


@dataclass(frozen=True, slots=True)
class Case:
    """A call, and which of the tiles that it compiles do its work."""

    name: str
    work: tuple[str, ...]
    register: Accumulator
    specs: tuple[IntSpec, IntSpec] = (BYTE, BYTE)  # of weights and inputs
    fields: str = "values"


CASES = (
    Case("exact, 8-bit, wrap P=16", ("exact",), Accumulator(16)),
    Case("exact, 4-bit, wrap P=16", ("exact",), Accumulator(16), (NIBBLE, NIBBLE)),
    Case("saturate P=16", ("saturate",), Accumulator(16, "saturate")),
    Case("saturate P=12, 4-bit", ("saturate",), Accumulator(12, "saturate"), (NIBBLE, NIBBLE)),
    Case("saturate P=12, often at a rail", ("saturate",), Accumulator(12, "saturate")),
    Case("saturate P=18, often at a rail", ("saturate",), Accumulator(18, "saturate")),
    Case("saturate P=24, seldom at a rail", ("cruise",), Accumulator(24, "saturate")),
    Case("counts, saturate P=16", ("count",), Accumulator(16, "saturate"), fields="counts"),
    Case("counts, wrap P=16", ("count",), Accumulator(16), fields="counts"),
    Case(
        "all of Run, saturate P=16", ("count", "peaks"), Accumulator(16, "saturate"), fields="all"
    ),
    Case(
        "saturate P=40, 16-bit",
        ("saturate",),
        Accumulator(40, "saturate"),
        (signed(16), signed(16)),
    ),
)


def roofline(quick: bool, rounds: int) -> list[dict[str, object]]:
    """One row per case: instructions per MAC, measured limit, achieved speed, share."""
    if not host().x86:
        return []
    llvm.initialize_native_asmparser()
    return [row for case in CASES if (row := _row(case, quick, rounds)) is not None]


def _row(case: Case, quick: bool, rounds: int) -> dict[str, object] | None:
    call, macs = _call(case, quick)
    used = [entry for entry in tiles_of(call) if entry[0].work in case.work]
    loops = [loop(*entry) for entry in used]
    if not loops:
        return None  # another kernel was planned on this processor
    peaks = [_peak(body) for body, _ in loops]
    times = measure(
        {"call": call, **{f"peak {i}": run for i, (run, _) in enumerate(peaks)}}, rounds
    )
    seconds_per_mac, parts = 0.0, []
    for i, ((body, done), (_, issued), entry) in enumerate(zip(loops, peaks, used, strict=True)):
        rate = issued / statistics.median(times[f"peak {i}"])
        seconds_per_mac += len(body) / done / rate
        parts.append(
            {
                "kernel": f"{entry[0].work} in {entry[0].form}, {entry[1]}×{entry[2]} vectors",
                "instructions": dict(Counter(line.split()[0] for line in body)),
                "macs_per_iteration": done,
                "instructions_per_mac": len(body) / done,
                "ginstructions_per_s": rate / 1e9,
            }
        )
    limit = 1 / seconds_per_mac / 1e9
    achieved = macs / statistics.median(times["call"]) / 1e9
    return {
        "case": case.name,
        "instructions_per_mac": sum(len(body) / done for body, done in loops),
        "limit_gmac_per_s": limit,
        "achieved_gmac_per_s": achieved,
        "share": achieved / limit,
        "kernels": parts,
    }


def _call(case: Case, quick: bool) -> tuple[Callable[[], object], int]:
    """The call, on one thread, and its products."""
    m, n, k = (side // 4 for side in SHAPE) if quick else SHAPE
    random = np.random.default_rng(0)
    x, w = draw(random, case.specs[1], m, k), draw(random, case.specs[0], n, k)
    if case.fields == "values":
        return lambda: linear(x, w, case.register, threads=1), m * n * k
    layer = IntLayer(w, weight_spec=case.specs[0], input_spec=case.specs[1])
    peaks = case.fields == "all"
    return lambda: simulate(layer, x, case.register, peaks=peaks, threads=1), m * n * k


def tiles_of(call: Callable[[], object]) -> list[tuple[Kernel, int, int]]:
    """The tiles that a call asks for, with rows and vectors."""
    found = []
    original = tiles.compile_tile

    def record(kernel: Kernel, target: Target, height: int, vectors: int) -> tiles.Tile:
        found.append((kernel, height, vectors))
        return original(kernel, target, height, vectors)

    tiles.compile_tile = record
    launch._remembered.cache_clear()  # so that every tile is asked for
    try:
        call()
    finally:
        tiles.compile_tile = original
    return list(dict.fromkeys(found))


def loop(kernel: Kernel, height: int, vectors: int) -> tuple[list[str], int]:
    """Vector arithmetic in the tile's innermost loop, and products per iteration of it."""
    target, form = host(), FORMS[kernel.form]
    tiles._compile(emit.tile(kernel, target, height, vectors))
    best: list[str] = []
    multiplies = 0
    for body in innermost(tiles._LIBRARIES[-1].get_asm_str()):
        count = sum(line.startswith(MULTIPLIES[kernel.form]) for line in body)
        if count > multiplies:
            best, multiplies = body, count
    lanes = target.vector_bytes // np.dtype(form.lane).itemsize
    halves = kernel.form == "int16x2" and kernel.work not in ("exact", "cruise")
    products = 1 if halves else form.group
    return best, multiplies * lanes * products


def innermost(assembly: str) -> list[list[str]]:
    """The vector arithmetic of every loop that holds no other loop."""
    lines = [line.strip() for line in assembly.splitlines()]
    labels = {line[:-1]: i for i, line in enumerate(lines) if line.endswith(":")}
    ends = [
        (labels[jump[1]], i)
        for i, line in enumerate(lines)
        if (jump := re.match(r"j\w+\s+(\.L\w+)$", line)) and labels.get(jump[1], i) < i
    ]
    return [
        [line for line in lines[begin:end] if is_arithmetic(line)]
        for begin, end in ends
        if not any(begin <= b and e <= end for b, e in ends if (b, e) != (begin, end))
    ]


def is_arithmetic(line: str) -> bool:
    """Whether an instruction computes on vectors; clearing a register is no work."""
    clears = re.match(r"v?p?xor\w*\s+(%\w+), \1(, %\w+)?$", line)
    return bool(re.search(r"%[xyz]mm", line)) and not NO_ARITHMETIC.match(line) and not clears


def independent(body: list[str]) -> list[str]:
    """The instructions of a loop on registers of their own: no memory, no chains."""
    lines = []
    repeats = -(-BLOCK // len(body))
    for i, line in enumerate(body * repeats):
        mnemonic, operands = line.split(None, 1)
        *sources, target = re.split(r",\s*(?![^(]*\))", operands)
        width = re.search(r"%([xyz])mm", operands)
        assert width is not None
        kind = width[1]
        named = [_source(source, kind, j) for j, source in enumerate(sources)]
        if target.startswith("%k"):
            named.append(re.sub(r"%k\d", f"%k{1 + i % 7}", target, count=1))
        else:
            named.append(re.sub(r"%[xyz]mm\d+", f"%{kind}mm{i % 12}", target, count=1))
        lines.append(f"{mnemonic} {', '.join(named)}")
    return lines


def _source(operand: str, kind: str, position: int) -> str:
    if operand.startswith(("$", "%k")):
        return operand
    return f"%{kind}mm{15 - position % 2}"


def _peak(body: list[str]) -> tuple[Callable[[], object], int]:
    """A call that executes the mix of a loop, and how many instructions of it."""
    lines = independent(body)
    kind = "zmm" if "%zmm" in lines[0] else "ymm" if "%ymm" in lines[0] else "xmm"
    used = [f"{kind}{i}" for i in (*range(12), 14, 15)]
    used += [f"k{i}" for i in range(1, 8)] if any("%k" in line for line in lines) else []
    clobbers = ",".join(f"~{{{name}}}" for name in used)
    module = ir.Module("accsim.peak")
    i64 = ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(i64, [i64.as_pointer()]), "tile")
    b = ir.IRBuilder(function.append_basic_block())
    kind_of = ir.FunctionType(ir.VoidType(), [])
    zero = "\n".join(_zero(i, lines[0].startswith("v")) for i in (*range(12), 14, 15))
    b.call(ir.InlineAsm(kind_of, zero, clobbers, side_effect=True), [])
    count = b.load(function.args[0])
    with cgutils.for_range(b, count, intp=i64):
        b.call(
            ir.InlineAsm(kind_of, "\n".join(lines).replace("$", "$$"), clobbers, side_effect=True),
            [],
        )
    b.ret(count)
    run = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(tiles._compile(module))
    given = (ctypes.c_int64 * 1)(ITERATIONS)
    return lambda: run(ctypes.addressof(given)), ITERATIONS * len(lines)


def _zero(index: int, avx: bool) -> str:
    """An instruction that clears a vector register."""
    name = f"%xmm{index}"
    return f"vpxor {name}, {name}, {name}" if avx else f"pxor {name}, {name}"
