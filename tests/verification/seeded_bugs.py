"""Every seeded bug with the search that has to find it, and a case that shows it to matter.

Simulators are searched by `check_simulator`. Deciders are compared with what all inputs of ends of
the range do, in registers at the edge; rules make integers whose worst inputs must not overflow.
Both are drawn and hunted by what `check_simulator` and `search` are made of.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import hypothesis.strategies as st
import numpy as np
from seeded_rules import DECIDERS, RULES
from seeded_simulators import SIMULATORS

from accsim import Accumulator, arith, between
from accsim.bounds import fits
from verification import check_simulator
from verification.hunting import below, hunt
from verification.operands import code_range, codes, pick

MOST_TAPS = 6  # of which every input of ends is tried


@dataclass(frozen=True)
class Bug:
    """`found(examples, seed)`: the number of the example that shows it, or None."""

    name: str
    kind: str
    found: Callable[[int, int], int | None]
    matters: Callable[[], bool]
    imitates: str


def overflows(weights, inputs, register, bias=0):
    """Whether any step does, by the definition."""
    return arith.fold(weights, inputs, register, bias=bias).overflow_count > 0


def safe(weights, spec, register, bias):
    """Whether no input overflows: running sums, linear in each input, have extremes at ends."""
    ends = product({spec.min, spec.max}, repeat=len(weights))
    return not any(overflows(weights, x, register, bias) for x in ends)


@st.composite
def decisions(draw):
    """What a decider is asked: few taps, and a register or a bias at the edge."""
    rng = np.random.default_rng(draw(below(2**12)))
    spec, weight_spec = (code_range(draw, rng, pick(draw, (1, 2, 4, 16))) for _ in range(2))
    if draw(st.booleans()):  # without 0, where partial sums pass the final ones
        first = int(rng.integers(1, spec.max - spec.min + 2))
        side = pick(draw, (1, -1))
        spec = between(*sorted((side * first, side * (first + spec.max - spec.min))))
    weights = codes(draw, rng, weight_spec, (1, draw(below(MOST_TAPS + 1))))[0].tolist()
    runs = [
        arith.fold(weights, x, Accumulator(62))
        for x in product({spec.min, spec.max}, repeat=len(weights))
    ]
    low, high = min(run.peak_low for run in runs), max(run.peak_high for run in runs)
    signed = draw(st.booleans()) or low < 0
    registers = (Accumulator(bits, signed=signed) for bits in range(2, 63))
    need = next(register.bits for register in registers if fits(low, high, register))
    if draw(st.booleans()):
        bits = max(2, need + draw(below(3)) - 1)
        return weights, spec, Accumulator(bits, signed=draw(st.booleans())), 0
    register, over = Accumulator(need + 1, signed=signed), draw(below(2))
    up, down = register.max - high + over, register.min - low - over  # just fits, or just not
    bias = pick(draw, (up, down))
    return weights, spec, register, min(max(bias, register.min), register.max)


@st.composite
def real_weights(draw):
    """What a rule is given: weights in units of their scale, on and off the integers."""
    rng = np.random.default_rng(draw(below(2**12)))
    spec = code_range(draw, rng, pick(draw, (1, 2, 3, 4, 8)))
    while not spec.contains_zero or spec.magnitude == 0:  # as budgets require
        spec = code_range(draw, rng, spec.bits)
    weight_bits = pick(draw, (8, 4, 3, 2))
    taps = pick(draw, (1, 2, 3, 4, 5, 8, 16, 33))
    weight_spec = code_range(draw, rng, weight_bits)
    near = pick(draw, (0.0, 0.5, 0.25, 0.6)) * pick(draw, (1, -1))
    v = codes(draw, rng, weight_spec, (1, taps))[0] * pick(draw, (1.0, 0.1, 3.0)) + near
    return v, weight_bits, 2 + draw(below(16)), spec


def unfit(weights, spec, bits):
    """Whether one of the worst inputs of integer weights overflows a register."""
    above = [spec.max if q > 0 else spec.min for q in weights]
    below_ = [spec.min if q > 0 else spec.max for q in weights]
    return any(overflows(weights, x, Accumulator(bits)) for x in (above, below_))


def wrong_decider(decide):
    """Tell whether a decision is not what all inputs of ends say."""
    return lambda case: bool(decide(*case)) != safe(*case)


def wrong_rule(quantize):
    """Tell whether a rule's integers overflow the register they were made for."""
    return lambda case: unfit(quantize(*case), case[3], case[2])


def hunted(cases, wanted):
    """A search of these cases, as `Bug.found`."""

    def found(examples, seed):
        result = hunt(cases, wanted, examples=examples, seed=seed)
        return None if result.found is None else result.examples

    return found


def simulated(function):
    """A search by `check_simulator`, as `Bug.found`."""

    def found(examples, seed):
        disagreement = check_simulator(function, examples=examples, seed=seed)
        return None if disagreement is None else disagreement.example

    return found


def differs(function, case):
    """Whether a simulator is wrong in a case, by the definition."""
    x, weight, register = case
    expected = [[arith.fold(q, v, register).output for q in weight.tolist()] for v in x.tolist()]
    return np.asarray(function(*case)).tolist() != expected


def _bugs():
    for name, (function, case) in SIMULATORS.items():
        yield name, "simulator", simulated(function), lambda f=function, c=case: differs(f, c)
    for kind, bugs, cases, wrong in (
        ("decider", DECIDERS, decisions(), wrong_decider),
        ("quantizer", RULES, real_weights(), wrong_rule),
    ):
        for name, (function, case) in bugs.items():
            wanted = wrong(function)
            yield name, kind, hunted(cases, wanted), lambda w=wanted, c=case: w(c)


SOURCES = {**SIMULATORS, **DECIDERS, **RULES}
BUGS = [Bug(*parts, SOURCES[parts[0]][0].__doc__.splitlines()[0]) for parts in _bugs()]
