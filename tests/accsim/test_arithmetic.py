"""Every kernel for every kind of processor is code that LLVM accepts."""

from itertools import product

import llvmlite.binding as llvm
import pytest

from accsim.kernels import emit
from accsim.kernels.forms import Kernel, Target

AVX512 = ["ssse3", "avx2", "avx512f", "avx512bw", "avx512vl"]
TARGETS = {
    "sse2": Target("x86_64-unknown-linux-gnu", "x86-64", frozenset()),
    "avx2": Target("x86_64-unknown-linux-gnu", "haswell", frozenset(["avx2", "ssse3"])),
    "avxvnni": Target("x86_64-unknown-linux-gnu", "alderlake", frozenset(["avx2", "avxvnni"])),
    "avx512": Target("x86_64-unknown-linux-gnu", "skylake-avx512", frozenset(AVX512)),
    "zen 4": Target("x86_64-unknown-linux-gnu", "znver4", frozenset([*AVX512, "avx512vnni"])),
    "arm": Target("aarch64-unknown-linux-gnu", "generic", frozenset()),
}


def kernels(target):
    """Those that a plan can choose on this processor."""
    for form, work in product(("int16x2", "float64"), ("exact", "saturate", "peaks")):
        yield Kernel(work, form)
    for form, wraps in product(("int16", "int16x2", "float64"), (False, True)):
        yield Kernel("count", form, wraps=wraps, pixels=form == "int16x2" and wraps)
    for by_lane in (False, True):
        yield Kernel("cruise", "int16x2", lane_limits=by_lane)
    for clamps, eases in product((False, True), repeat=2):
        yield Kernel("saturate", "int16", clamps=clamps, eases=eases)
    yield Kernel("count", "int16", wraps=True, clamps=True)
    if target.permutes:
        yield Kernel("count", "int16", looks_up=True)
    if target.dot_bytes or target.dot_pairs:
        for lanes_unsigned in (False, True):
            yield Kernel("exact", "int8x4", lanes_unsigned=lanes_unsigned)


@pytest.mark.parametrize("name", TARGETS)
def test_tiles_are_code(name):
    """The function is well formed, and does something."""
    target = TARGETS[name]
    counted = 0
    for kernel in kernels(target):
        module = llvm.parse_assembly(str(emit.tile(kernel, target, 2, 2)))
        module.verify()
        blocks = module.get_function("tile").blocks
        assert sum(len(list(block.instructions)) for block in blocks) > 100, kernel
        counted += 1
    assert counted == {"sse2": 19, "zen 4": 22, "arm": 19}.get(name, 21)
