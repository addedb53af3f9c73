"""The kernels as plain Python, and what they hold in memory."""

import dataclasses
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from itertools import product
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest

from accsim import (
    Accumulator,
    IntLayer,
    Overflow,
    between,
    execute,
    launch,
    setting,
    signed,
    simulate,
    unsigned,
)
from accsim.kernels import emit, tiles
from accsim.kernels.forms import Kernel, Target, host
from verification.properties import assert_kernels_agree

ROOT = Path(__file__).parents[2]

SMALL = """
import numpy as np
from accsim import Accumulator, IntLayer, Overflow, signed, simulate, unsigned
from accsim.kernels import portable
from verification.properties import assert_exact
print(type(portable.statistics).__name__)
rng = np.random.default_rng(1)
for rule in Overflow:
    for bits in (6, 40):
        conv = IntLayer(rng.integers(-8, 8, (4, 1, 2, 2)), weight_spec=signed(4),
                        input_spec=unsigned(4), stride=2, padding=1, groups=2)
        x = rng.integers(0, 16, (2, 2, 3, 4))
        assert_exact(conv, x, Accumulator(bits, rule))
        flat = IntLayer(rng.integers(-8, 8, (3, 5)), weight_spec=signed(4), input_spec=unsigned(4))
        assert_exact(flat, rng.integers(0, 16, (2, 5)), Accumulator(bits, rule))
print("ok")
"""

# One image's im2col matrix would be 9 * 64 * 128 * 128 * 4 bytes = 36 MiB, the batch's 604 MiB.
BATCH = """
from pathlib import Path
import numpy as np
from accsim import Accumulator, conv2d, linear
def memory(word):  # MiB; Linux keeps the peak, and forgets it when told
    status = Path("/proc/self/status").read_text()
    return int(status.split(word + ":")[1].split()[0]) / 1024
def start():
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")
w = np.ones((4, 64, 3, 3), np.int8)
a = Accumulator(16, "saturate")
conv2d(np.ones((1, 64, 8, 8), np.int8), w, a, padding=1)  # compile first
linear(np.ones((300, 7), np.int8), np.ones((4, 7), np.int8), a)
x = np.ones((16, 64, 128, 128), np.int8)
before = start()
out = conv2d(x, w, a, padding=1)
print("conv", memory("VmHWM") - before - out.nbytes / 2**20)
x = np.ones((2**15, 1024), np.int8)
w = np.ones((8, 1024), np.int8)
before = start()
out = linear(x, w, a)
print("linear", memory("VmHWM") - before - out.nbytes / 2**20)
x = np.ones((2048, 4096), np.int8)
w = np.ones((4096, 4096), np.int8)
linear(x[:100, :128], w[:100, :128], a)
before = start()
out = linear(x, w, a)
print("large", memory("VmHWM") - before - out.nbytes / 2**20)
"""

# Half of the channels are certified, so that those of each kind have results of their own; and
# counts without peaks by plain loops.
APART = """
from accsim import IntLayer, signed, simulate, unsigned
w = np.full((64, 16), -100)
w[:32] = 0
split = IntLayer(w, weight_spec=signed(8), input_spec=signed(8))
x = np.full((400_000, 16), 100, np.int8)
wide = IntLayer(np.full((64, 1), 2**25), weight_spec=signed(28), input_spec=signed(28))
for name, layer, x, bits in (("split", split, x, 17), ("plain", wide, np.full((400_000, 1), 2**27 - 1), 60)):
    simulate(layer, x[:100], Accumulator(bits, "saturate"), peaks=False)
    before = start()
    run = simulate(layer, x, Accumulator(bits, "saturate"), peaks=False)
    size = sum(a.nbytes for a in (run.output, run.overflow_count, run.first_overflow))
    print(name, memory("VmHWM") - before - size / 2**20)
    assert (run.overflow_count[:, -1] > 0).all() == (name == "split")
"""


def output(code, *, folder=ROOT, **environment):
    """What a fresh interpreter prints, started in a folder."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")


def test_kernels_run_as_python():
    """With the compiler off, the same functions give the oracle's answers."""
    assert output(SMALL, NUMBA_DISABLE_JIT="1") == ["function", "ok", ""]


@pytest.mark.unmeasured
def test_kernels_keep_inside_their_arrays(tmp_path):
    """With bounds checks on, no kernel reads or writes outside."""
    # checked code must neither come from the shared cache, which does not tell it apart, nor go there
    assert output(SMALL, NUMBA_BOUNDSCHECK="1", NUMBA_CACHE_DIR=str(tmp_path))[-2] == "ok"


@pytest.mark.unmeasured
def test_no_im2col_matrix_is_kept():
    """Beyond inputs and outputs a big batch needs less than 64 MiB."""
    for line in output(BATCH)[:3]:
        name, extra = line.split()
        assert float(extra) < 64, name


@pytest.mark.unmeasured
def test_results_of_some_channels_are_kept_in_pieces():
    """Nor do split channels, or counts without peaks, keep arrays of the size of the results."""
    code = BATCH.split("x = np.ones((16,")[0] + APART
    for line in output(code)[:2]:
        name, extra = line.split()
        assert float(extra) < 64, name
    assert (
        float(
            output("import accsim.execute\naccsim.execute.APART_BYTES = 2**40" + code)[0].split()[1]
        )
        > 64
    )


@pytest.mark.unmeasured
def test_the_measure_sees_a_whole_matrix():
    """The test above can fail: a copy of all patches shows."""
    code = BATCH.replace("out = conv2d(", "y = np.ones((9, *x.shape), np.int8)\nout = conv2d(")
    assert float(output(code)[0].split()[1]) > 64


# Two small layers and inputs through every kernel that accepts them.
KERNELS = """
import numpy as np
from accsim import Accumulator, IntLayer, Overflow, between, signed, unsigned
from verification.properties import assert_exact, assert_kernels_agree
from accsim.kernels.forms import host
rng = np.random.default_rng(3)
tried = set()
for inputs, weights in ((signed(8), signed(8)), (unsigned(4), signed(4)), (unsigned(8), signed(4))):
    flat = IntLayer(rng.integers(weights.min, weights.max + 1, (37, 150)), weight_spec=weights,
                    input_spec=inputs, bias=rng.integers(-30, 30, 37))
    conv = IntLayer(rng.integers(weights.min, weights.max + 1, (6, 3, 3, 2)), weight_spec=weights,
                    input_spec=inputs, stride=(1, 2), padding=1, groups=2)
    x = rng.integers(inputs.min, inputs.max + 1, (21, 150))
    images = rng.integers(inputs.min, inputs.max + 1, (2, 6, 7, 9))
    for rule in Overflow:
        for bits in (8, 16, 20, 40):
            tried |= set(assert_kernels_agree(flat, x, Accumulator(bits, rule)))
            tried |= set(assert_kernels_agree(conv, images, Accumulator(bits, rule)))
    assert_exact(flat, x[:2], Accumulator(9, "saturate"))
print(host().vector_bytes, host().dot_bytes, " ".join(sorted(tried)))
"""


@pytest.mark.unmeasured
@pytest.mark.parametrize(
    ("name", "features", "vector_bytes"),
    [("x86-64", "", 16), ("nehalem", "+ssse3,+sse4.1", 16), ("haswell", "+avx2,+fma,+ssse3", 32)]
    + [("skylake-avx512", "+avx2,+ssse3,+avx512f,+avx512bw,+avx512vl", 64)] * host().masks,
)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names processors of the x86-64 family")
def test_kernels_under_restricted_features(name, features, vector_bytes):
    """The same source is right on lesser processors."""
    line = output(KERNELS, NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES=features)[0]
    size, dot_bytes, *tried = line.split(" ", 2)
    assert (int(size), dot_bytes) == (vector_bytes, "False")
    for work in ("count int16", "saturate int16x2", "peaks float64", "exact int16x2"):
        assert work in tried[0]


def assembly(module, triple, cpu, features):
    """Machine code as text for any processor this LLVM knows."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(triple).create_target_machine(cpu, features, opt=3)
    return target.emit_assembly(llvm.parse_assembly(str(module)))


ZEN4 = Target(
    "x86_64-unknown-linux-gnu",
    "znver4",
    frozenset(["avx512f", "avx512bw", "avx512vl", "avx512vnni"]),
)


@pytest.mark.parametrize(("lanes_unsigned", "first"), [(True, "lanes"), (False, "rows")])
def test_the_byte_product_of_avx512(lanes_unsigned, first):
    """One vpdpbusd for each row, vector and tap; its unsigned operand is the second source."""
    kernel = Kernel("exact", "int8x4", lanes_unsigned=lanes_unsigned)
    text = assembly(emit.tile(kernel, ZEN4, 6, 2), ZEN4.triple, "znver4", "")
    products = re.findall(r"vpdpbusd\t([^,]+), (%zmm\d+), %zmm\d+", text)
    assert len(products) >= 12
    broadcast = set(re.findall(r"vpbroadcastd\t\(.*\), (%zmm\d+)", text))
    signed_side = {"rows": False, "lanes": True}[first]  # AT&T order: signed, unsigned, sum
    for signed_one, unsigned_one in products:
        assert (signed_one in broadcast or "{1to16}" in signed_one) == signed_side
        assert (unsigned_one in broadcast) != signed_side


def test_other_processors_get_their_own_instructions():
    """Saturation of 16-bit lanes is one instruction wherever the processor has it."""
    step = Kernel("saturate", "int16")
    text = assembly(emit.tile(step, ZEN4, 4, 2), ZEN4.triple, "znver4", "")
    assert re.search(r"vpaddsw\t.*%zmm", text)
    plain = Target("x86_64-unknown-linux-gnu", "x86-64", frozenset())
    text = assembly(emit.tile(step, plain, 4, 2), plain.triple, "x86-64", "")
    assert re.search(r"\tpaddsw\t.*%xmm", text)
    arm = Target("aarch64-unknown-linux-gnu", "generic", frozenset())
    for kernel, name in ((step, "sqadd\tv"), (Kernel("exact", "int16x2"), "mla\tv")):
        assert name in assembly(emit.tile(kernel, arm, 4, 2), arm.triple, "generic", "")


def test_edits_are_seen_in_spite_of_the_cache(tmp_path):
    """Compiled code on disk is used again, and is never older than its source."""
    shutil.copytree(ROOT / "accsim", tmp_path / "accsim", ignore=shutil.ignore_patterns("*.pyc"))
    code = """
import numpy as np
from accsim import Accumulator, linear
from accsim.kernels import vector
found = linear([[3, 4, 0, 0]], [[5, 6, 0, 0]], Accumulator(20, "saturate"))[0, 0]
print(found, sum(vector.run.stats.cache_hits.values()))
"""
    kernels = tmp_path / "accsim" / "kernels"

    def edit(name, old, new):
        text = (kernels / name).read_text()
        assert text.count(old) == 1
        (kernels / name).write_text(text.replace(old, new))

    def result():
        return output(code, folder=tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"))[0]

    assert result() == "39 0"
    assert result() == "39 1"
    edit("vector.py", "arguments[BLOCKS] = count\n", "arguments[BLOCKS] = 0 * count\n")
    assert result() == "0 0"
    edit("emit.py", "return b.add(row, _load(b, lanes, i % vectors))",
         "return ir.Constant(code.wide, [7] * code.across)")  # fmt: skip
    assert result() == "7 1"


def test_importing_does_not_load_numba():
    """The compiler loads when it is first used."""
    assert output("import sys, accsim; print('numba' in sys.modules)")[0] == "False"


# Packed operands that end at a page that cannot be read: one step beyond would end the process.
GUARDED = """
import ctypes, mmap
import numpy as np
from accsim import Accumulator, IntLayer, Overflow, execute, pack, signed
from verification.properties import assert_kernels_agree
kept = []
def at_the_edge(make):
    def made(*arguments):
        array = np.ascontiguousarray(make(*arguments))
        size = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        area = mmap.mmap(-1, size + mmap.PAGESIZE)
        end = ctypes.addressof(ctypes.c_char.from_buffer(area)) + size
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(end), mmap.PAGESIZE, 0) == 0
        view = np.frombuffer(area, array.dtype, array.size, size - array.nbytes)
        view[...] = array.reshape(-1)
        kept.append(area)
        return view.reshape(array.shape)
    return made
execute._lanes = at_the_edge(execute._lanes)
pack.scalars = at_the_edge(pack.scalars)
pack.limits = at_the_edge(pack.limits)
rng = np.random.default_rng(0)
for rule in Overflow:
    for taps in (1, 3, 64, 65):
        layer = IntLayer(rng.integers(-128, 128, (35, taps)), weight_spec=signed(8), input_spec=signed(8))
        for bits in (12, 20):
            assert_kernels_agree(layer, rng.integers(-128, 128, (5, taps)), Accumulator(bits, rule))
    conv = IntLayer(rng.integers(-128, 128, (4, 3, 3, 3)), weight_spec=signed(8), input_spec=signed(8))
    assert_kernels_agree(conv, rng.integers(-128, 128, (2, 3, 9, 7)), Accumulator(16, rule))
print("ok")
"""


@pytest.mark.unmeasured
@pytest.mark.skipif(sys.platform == "win32", reason="protects pages as POSIX does")
def test_tiles_keep_inside_their_operands():
    """No tile reads past the end of what was packed for it."""
    assert output(GUARDED)[0] == "ok"


@pytest.mark.unmeasured
@pytest.mark.skipif(sys.platform == "win32", reason="protects pages as POSIX does")
def test_the_guard_sees_a_tile_that_reads_on():
    """The test above can fail: without the tile's reach beyond the planes the process dies."""
    code = GUARDED.replace(
        "execute._lanes = at_the_edge(execute._lanes)",
        "lanes = execute._lanes\nexecute._lanes = at_the_edge(lambda *a: lanes(*a[:3], 0, a[4]))",
    )
    assert code != GUARDED
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, cwd=ROOT)
    assert done.returncode < 0


@pytest.fixture
def with_target(monkeypatch):
    """Choose kernels as for another processor; what is remembered of either is forgotten."""

    def forget():
        setting.setting_of.cache_clear()
        launch._remembered.cache_clear()

    def choose(target):
        for module in (launch, setting):
            monkeypatch.setattr(module, "host", lambda: target)
        forget()

    yield choose
    forget()


@pytest.mark.parametrize("processor", ["znver4", "generic"])
@pytest.mark.parametrize("codes", [(-128, 127), (0, 255), (-8, 7), (-1, 1), (-181, 181)], ids=str)
def test_registers_with_and_without_saturating_additions(with_target, processor, codes):
    """Where some vectors hold the distance from the upper rail, and where none does: the same."""
    target = dataclasses.replace(host(), processor=processor)
    assert target.saturates_slowly == (processor == "znver4" and target.x86)
    with_target(target)
    spec = between(*codes)
    rng = np.random.default_rng(3)
    ends = rng.choice(codes, (2, 70, 40))
    x, w = np.where(
        rng.random(ends.shape) < 0.5, ends, rng.integers(codes[0], codes[1] + 1, ends.shape)
    )
    for bits, signed_one in product((2, 5, 8, 12, 15, 16), (True, False)):
        layer = IntLayer(w, weight_spec=spec, input_spec=spec)
        register = Accumulator(bits, "saturate", signed=signed_one)
        assert_kernels_agree(layer, x, register)


@pytest.mark.parametrize(
    ("rows", "lanes", "looks_up"),
    [
        (signed(8), signed(5), True),
        (unsigned(8), unsigned(5), True),
        (between(-200, 55), between(-31, 0), True),
        (between(9, 264), unsigned(5), True),  # padded rows have a scalar that no row has
        (between(-264, -9), between(-16, 3), True),
        (signed(4), signed(4), True),  # products are scaled to both rails of the lane
        (between(-256, -9), between(-70, -39), True),
        (between(-256, 0), signed(4), False),
        (signed(8), between(-16, 16), False),
        (between(-128, 128), signed(4), False),
    ],
    ids=str,
)
def test_products_that_are_looked_up(with_target, rows, lanes, looks_up):
    """At the edges of what a table holds, on either side, also where scalars are padded: the same."""
    zen = dataclasses.replace(host(), processor="znver4")
    with_target(zen)
    rng = np.random.default_rng(7)

    def codes(spec, *shape):
        return np.where(
            rng.random(shape) < 0.3,
            rng.choice([spec.min, spec.max], shape),
            rng.integers(spec.min, spec.max + 1, shape),
        )

    flat = IntLayer(codes(lanes, 70, 41), weight_spec=lanes, input_spec=rows)
    conv = IntLayer(codes(rows, 5, 3, 3, 2), weight_spec=rows, input_spec=lanes)
    padded = IntLayer(codes(rows, 5, 3, 3, 2), weight_spec=rows, input_spec=lanes, padding=1)
    cases = ((flat, codes(rows, 37, 41)), (conv, images := codes(lanes, 2, 3, 9, 8)))
    for bits, rule in product((9, 12, 16), Overflow):
        register = Accumulator(bits, rule)
        for layer, x in (*cases, (padded, images)):
            assert_kernels_agree(layer, x, register)
        for sides in ((rows, lanes, False), (lanes, rows, True)):
            how = {"lanes_are_inputs": sides[2], "pixels": True}
            made = setting.setting_of("count", "int16", *sides[:2], register, **how)
            assert made.kernel.looks_up == (looks_up and zen.permutes)


def test_most_registers_of_a_tile_saturate_by_themselves():
    """One vector in five does without the saturating addition, if no product exceeds the span."""
    for eases, alone in ((True, 3), (False, 0)):
        text = assembly(
            emit.tile(Kernel("saturate", "int16", eases=eases), ZEN4, 4, 4),
            ZEN4.triple,
            "znver4",
            "",
        )
        assert len(re.findall(r"vpmaxuw\t", text)) == alone
        assert len(re.findall(r"vpaddsw\t", text)) == 16 - alone


@pytest.mark.parametrize("rule", ["wrap", "saturate"])
@pytest.mark.parametrize("side", [3, 100])
def test_the_first_overflow_of_large_kernels(rule, side):
    """In the later half of a pair of channels, or in a later pair; blocks of more than 2^14 steps."""
    for channel in (1, 3):
        w = np.zeros((1, 4, side, side), int)
        w[0, channel, -1, -1] = 30000
        layer = IntLayer(w, weight_spec=signed(16), input_spec=signed(16))
        run = simulate(layer, w, Accumulator(18, rule), peaks=False)
        step = (channel + 1) * side**2 - 1
        assert (run.overflow_count.item(), run.first_overflow.item()) == (1, step)


def test_threads_get_the_tiles_that_they_asked_for(monkeypatch):
    """A tile that another thread compiles as soon as the lock is free is not taken for one's own."""
    found, others, lock = {}, [], tiles.global_compiler_lock

    def compile_one(name, kernel):
        found[name] = tiles.compile_tile.__wrapped__(kernel, host(), 2, 2).address

    class Watched:
        """The compiler's lock; the other thread runs when it is first released."""

        def __enter__(self):
            lock.__enter__()

        def __exit__(self, *error):
            lock.__exit__(*error)
            if others:
                other = others.pop()
                other.start()
                other.join()

    monkeypatch.setattr(tiles, "global_compiler_lock", Watched())
    kernels = Kernel("saturate", "int16"), Kernel("exact", "int16x2")
    others.append(threading.Thread(target=compile_one, args=("sums", kernels[1])))
    compile_one("steps", kernels[0])
    assert len(found) == 2
    assert found["sums"] != found["steps"]


@pytest.mark.parametrize("guilty", ["first", "helper"])
def test_a_call_that_fails_leaves_nobody_at_work(guilty):
    """An error, or Ctrl-C, in one thread: it is raised when no other works on, and tasks are left."""
    first, done, lock = threading.get_ident(), [], threading.Lock()

    def task(begin, end):
        mine = threading.get_ident() == first
        if mine == (guilty == "first"):
            time.sleep(0.05)  # the others have begun
            raise KeyboardInterrupt if mine else ValueError
        time.sleep(0.1)
        with lock:
            done.append((begin, end))

    with pytest.raises(KeyboardInterrupt if guilty == "first" else ValueError):
        execute.share(3, task, 1000)
    before = list(done)
    assert before
    if guilty == "first":
        assert sum(end - begin for begin, end in before) < 600
    time.sleep(0.3)
    assert done == before


def test_few_threads_wait():
    """However many threads calls ask for, no more are kept than the most they may ask for."""
    code = """
import threading
from accsim import execute
for threads in range(1, 9):
    execute.share(threads, lambda begin, end: None, 100)
print(threading.active_count())
"""
    assert int(output(code, NUMBA_NUM_THREADS="8")[0]) <= 9


FORKED = """
import os, signal, threading
import numpy as np
from accsim import Accumulator, linear
x, w = np.ones((512, 256), np.int8), np.ones((256, 256), np.int8)
def right():
    found = linear(x, w, Accumulator(8, "saturate"), threads=2)
    return bool((found == 127).all()) and threading.active_count() == 2
assert right()
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(0 if right() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.unmeasured
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes fork where there is POSIX")
def test_threads_after_a_fork():
    """Threads wait between calls; a forked process, which has none of them, starts its own."""
    assert output(FORKED, NUMBA_NUM_THREADS="2")[0] == "0"
