"""Matrix products: every width and rule, beside everything else."""

from __future__ import annotations

import numpy as np
import torch
from contenders import (
    Contender,
    apytypes,
    apytypes_matmul,
    fields,
    float32,
    float32_converting,
    int_mm,
    numba_loops,
    numpy_matmul,
    numpy_steps,
    select,
    values,
)
from workload import BYTE, DEEP, SATURATE, WIDE, WRAP, Goal, Workload, exact, named, shrink

from a2qplus.functional import quantize_a2q_plus
from accsim import Accumulator, IntLayer, IntSpec, signed, unsigned
from accsim.bounds import zero_centered_budget
from verification import Verdict, decide
from verification.bench import draw, step_fields, step_loop


def _ours(
    x: np.ndarray, w: np.ndarray, specs: tuple[IntSpec, IntSpec], register: Accumulator
) -> dict[str, Contender]:
    """Values, counts and all of Run."""
    layer = IntLayer(w, weight_spec=specs[0], input_spec=specs[1])
    right = step_fields(x, w, register)
    macs, name = x.size * len(w), f"P={register.bits} {register.overflow}"
    return {
        f"accsim {name}": Contender(values(x, w, register), macs, right["output"]),
        f"accsim {name}, counts": Contender(
            fields(layer, x, register, peaks=False), macs, select(right, peaks=False)
        ),
        f"accsim {name}, all of Run": Contender(
            fields(layer, x, register, peaks=True), macs, select(right, peaks=True)
        ),
    }


def _others(x: np.ndarray, w: np.ndarray, register: Accumulator) -> dict[str, Contender]:
    """Every other contender; products without a register, and register loops."""
    macs, product, stepped = x.size * len(w), exact(x, w), step_loop(x, w, register)
    found = {
        "torch float32": Contender(float32(x, w), macs, product),
        "torch float32, converting": Contender(float32_converting(x, w), macs, product),
        "torch _int_mm": Contender(int_mm(x, w), macs, product),
        "numpy float64": Contender(numpy_matmul(x, w, np.float64), macs, product),
        "numpy int64": Contender(numpy_matmul(x, w, np.int64), macs, product),
        "numpy int64 step loop": Contender(numpy_steps(x, w, register), macs, stepped),
        "numba int64 triple loop": Contender(numba_loops(x, w, register), macs, stepped),
    }
    if apytypes() is not None:
        call = apytypes_matmul(x, w, register)
        found["APyTypes matmul"] = Contender(call, macs, stepped, may_err=True)
    return found


def _bytes(shape: tuple[int, int, int], quick: bool, least: float, product: float) -> Workload:
    """8-bit operands, all widths, both rules, everything beside them."""
    m, n, k = shrink(shape, quick)
    random = np.random.default_rng(0)
    x, w = draw(random, BYTE, m, k), draw(random, BYTE, n, k)
    found, goals, at = {}, [], named((m, n, k))
    for bits, rule in [(16, SATURATE), (20, SATURATE), (16, WRAP)]:
        found |= _ours(x, w, (BYTE, BYTE), Accumulator(bits, rule))
        name = f"accsim P={bits} {rule}"
        goals += [
            Goal(f"counts, P={bits} {rule}, {at}", f"{name}, counts", name, 0.45),
            Goal(f"all of Run, P={bits} {rule}, {at}", f"{name}, all of Run", name, 0.25),
        ]
    for bits, rule in [(12, SATURATE), (31, SATURATE), (8, WRAP), (32, WRAP)]:
        register = Accumulator(bits, rule)
        call = values(x, w, register)
        found[f"accsim P={bits} {rule}"] = Contender(call, m * n * k, step_loop(x, w, register))
    found |= _others(x, w, Accumulator(16, SATURATE))
    for bits in (16, 12):
        case = f"{SATURATE}, 8-bit, P={bits}, {at}"
        goals.append(Goal(case, f"accsim P={bits} {SATURATE}", "torch float32", least))
        goals.append(Goal(case, f"accsim P={bits} {SATURATE}", "torch float32, converting", 1.3))
    for bits in (20, 31):
        case = f"{SATURATE}, 8-bit, P={bits}, {at}"
        goals.append(Goal(case, f"accsim P={bits} {SATURATE}", "torch float32", 0.5))
    for bits in (8, 16, 32):
        case = f"{WRAP}, 8-bit, P={bits}, {at}"
        goals.append(Goal(case, f"accsim P={bits} {WRAP}", "torch _int_mm", product))
    return Workload(found, tuple(goals))


def wide(quick: bool) -> Workload:
    """M=1024 N=512 K=512."""
    return _bytes(WIDE, quick, 1.2, 0.9)


def deep(quick: bool) -> Workload:
    """M=N=256 K=1024."""
    return _bytes(DEEP, quick, 1.0, 0.8)


def seldom(quick: bool) -> Workload:
    """Data that seldom touch a rail."""
    m, n, k = shrink((8192, 64, 576), quick)
    random = np.random.default_rng(1)
    x, w = draw(random, BYTE, m, k), draw(random, BYTE, n, k)
    return _beside_float32(x, w, 20, f"saturate, P=20, seldom at a rail, {named((m, n, k))}", 1.0)


def four(quick: bool) -> Workload:
    """4-bit operands."""
    m, n, k = shrink(WIDE, quick)
    random = np.random.default_rng(2)
    x, w = draw(random, unsigned(4), m, k), draw(random, signed(4), n, k)
    return _beside_float32(x, w, 12, f"saturate, 4-bit, P=12, {named((m, n, k))}", 1.2)


def _beside_float32(x: np.ndarray, w: np.ndarray, bits: int, case: str, least: float) -> Workload:
    """A saturating register beside torch's float32 product."""
    register, macs = Accumulator(bits, SATURATE), x.size * len(w)
    right = step_loop(x, w, register)
    contenders = {
        f"accsim P={bits} saturate": Contender(values(x, w, register), macs, right),
        "torch float32": Contender(float32(x, w), macs, exact(x, w)),
    }
    return Workload(contenders, (Goal(case, *contenders, least),))


def safe_layer(quick: bool) -> IntLayer:
    """A layer of A2Q+ for 16 bits and inputs of 8, proved safe."""
    _, n, k = shrink(WIDE, quick)
    torch.manual_seed(3)
    v = torch.randn(n, k)
    norm = torch.full((n,), float(zero_centered_budget(16, unsigned(8))))
    q, _ = quantize_a2q_plus(
        v, torch.ones(n), norm, weight_bits=8, acc_bits=16, input_spec=unsigned(8)
    )
    w = q.numpy().astype(np.int8)
    layer = IntLayer(w, weight_spec=BYTE, input_spec=unsigned(8))
    if decide(layer, Accumulator(16)).verdict is not Verdict.PROVED or not w.any():
        raise SystemExit("the A2Q+ layer is not proved safe: nothing is reported")
    return layer


def safe(quick: bool) -> Workload:
    """A layer that is proved safe, in every mode."""
    m, n, k = shrink(WIDE, quick)
    random = np.random.default_rng(3)
    layer = safe_layer(quick)
    w = layer.weight.copy()  # torch warns of arrays that cannot be written
    x, macs = draw(random, unsigned(8), m, k), m * n * k
    found = {}
    for rule in (SATURATE, WRAP):
        register = Accumulator(16, rule)
        right = select(step_fields(x, w, register), peaks=False)
        found[f"accsim {rule}, values"] = Contender(values(x, w, register), macs, right["output"])
        call = fields(layer, x, register, peaks=False)
        found[f"accsim {rule}, counts"] = Contender(call, macs, right)
    at = named((m, n, k))
    goals = tuple(
        Goal(f"proved safe, P=16 {name.removeprefix('accsim ')}, {at}", name, "torch _int_mm", 0.85)
        for name in found
    )
    found["torch _int_mm"] = Contender(int_mm(x, w), macs, exact(x, w))
    return Workload(found, goals)


def long(quick: bool) -> Workload:
    """Registers of 33 to 62 bits."""
    m, n, k = shrink((256, 256, 512), quick)
    random = np.random.default_rng(4)
    x, w = draw(random, signed(16), m, k), draw(random, signed(16), n, k)
    found, goals = {}, []
    for bits in (33, 40, 48, 62):
        for rule in (SATURATE, WRAP):
            register = Accumulator(bits, rule)
            right = step_loop(x, w, register)
            name, loop = f"accsim P={bits} {rule}", f"numpy int64 step loop, P={bits} {rule}"
            found[name] = Contender(values(x, w, register), m * n * k, right)
            found[loop] = Contender(numpy_steps(x, w, register), m * n * k, right)
            case = f"P={bits} {rule}, 16-bit, {named((m, n, k))}"
            goals.append(Goal(case, name, loop, 10.0))
    return Workload(found, tuple(goals))
