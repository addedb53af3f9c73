"""Vector tiles for a problem: which shape suits it, and its machine code for this process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from llvmlite import binding, ir
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from accsim.kernels import emit
from accsim.kernels.forms import FIELDS, FORMS, Kernel, Target

ENOUGH = 18  # vectors of registers that keep the arithmetic units busy


@dataclass(frozen=True, slots=True)
class Tile:
    """A compiled tile: where it is, and its shape in rows, vectors and lanes."""

    address: int
    rows: int
    vectors: int
    lanes: int


def shape(kernel: Kernel, target: Target, rows: int, lanes: int) -> tuple[int, int]:
    """Rows and vectors of the tile that suits a problem of `rows` by `lanes`, ragged ends included.

    The state leaves some vector registers to operands; of such shapes the one with the fewest
    loads per product wins.
    """
    keep = 24 if target.registers == 32 else 9
    across = 8 * target.vector_bytes // FORMS[kernel.form].bits

    def cost(height: int, vectors: int) -> tuple[float, int]:
        padded = -(-rows // height) * height * -(-lanes // (vectors * across)) * vectors
        return padded * (1 + 0.3 * (1.1 * height + vectors) / (height * vectors)), -vectors

    shapes = [
        (height, vectors)
        for vectors in range(1, ENOUGH + 1)
        for height in range(1, 9)
        if FIELDS[kernel.work] * height * vectors <= keep and height * vectors <= ENOUGH
    ]
    return min(shapes, key=lambda pair: cost(*pair))


@cache
def compile_transpose(bits: int) -> tuple[int, int]:
    """The address of `emit.transpose` for integers of `bits`, and the side of its squares."""
    return _compile(emit.transpose(bits)), 128 // bits


@cache
def compile_tile(kernel: Kernel, target: Target, height: int, vectors: int) -> Tile:
    """The tile as machine code for this process."""
    address = _compile(emit.tile(kernel, target, height, vectors))
    across = 8 * target.vector_bytes // FORMS[kernel.form].bits
    return Tile(address, height, vectors, vectors * across)


def _compile(module: ir.Module) -> int:
    """The address of a module's function `tile` as machine code.

    All under the lock: another thread's module has a function of that name, too.
    """
    with global_compiler_lock:
        binding.initialize_native_asmparser()
        library = cpu_target.target_context.codegen().create_library(module.name)
        library.add_ir_module(module)
        library.finalize()
        _LIBRARIES.append(library)
        return int(library.get_pointer_to_function("tile"))


_LIBRARIES: list[object] = []  # code lives as long as its library
