"""Deciders, bounds and quantizer rules with one bug each, as they have been written.

A decider (weights, input_spec, accumulator, bias) tells whether no step overflows for any input. A
rule (weights, weight_bits, acc_bits, input_spec) turns real weights, in units of their scale, into
integers that are to fit a register. Each has a docstring that says what it imitates, and a case.
"""

from fractions import Fraction
from math import ceil, log2

import numpy as np

from accsim import Accumulator, arith, between, bounds, signed, unsigned

DECIDERS, RULES = {}, {}


def decider(weights, spec, register, bias=0):
    """Keep a decider, with a case in which it is wrong."""

    def keep(function):
        DECIDERS[function.__name__] = (function, (weights, spec, register, bias))
        return function

    return keep


def rule(weights, weight_bits, acc_bits, spec):
    """Keep a quantizer's rule, with a case in which its integers do not fit."""

    def keep(function):
        RULES[function.__name__] = (function, (np.array(weights), weight_bits, acc_bits, spec))
        return function

    return keep


def within(low, high, register):
    """Whether the register holds both ends."""
    return register.min <= low and high <= register.max


def reach(weights, spec, bias):
    """Lowest and highest running sum."""
    low, high = bounds.running_extremes(np.array(weights, np.int64), spec)
    return bias + low, bias + high


def halves(weights):
    """The sums of the positive and of the negative weights."""
    return sum(q for q in weights if q > 0), sum(q for q in weights if q < 0)


@decider([4, 4, 4, 4], unsigned(4), Accumulator(8))
def l1_norm_only(weights, spec, register, bias):
    """Brevitas's test of A2Q+: the norm, whatever the signs."""
    span = spec.max - spec.min
    return sum(map(abs, weights)) * span <= register.max - register.min - 1


@decider([1], between(0, 2**31), Accumulator(32))
def width_by_float32_log2(weights, spec, register, bias):
    """FINN #1517: 32 bits for what needs 33."""
    low, high = reach(weights, spec, bias)
    if not register.signed:
        return within(low, high, register)
    most = np.float32(max(high + 1, -low))
    return ceil(float(np.log2(most))) + 1 <= register.bits if most > 0 else True


@decider([2**15], between(0, 2**10), Accumulator(26))
def norm_by_float32_log2(weights, spec, register, bias):
    """The width of Brevitas's test: P = ceil(log2(l1 * max + 1)) + 1 in float32."""
    if not register.signed:
        return within(*reach(weights, spec, bias), register)
    most = np.float32(sum(map(abs, weights))) * np.float32(spec.magnitude) + np.float32(abs(bias))
    return int(np.ceil(np.log2(most + np.float32(1)))) + 1 <= register.bits


@decider([-9], unsigned(1), Accumulator(4))
def upper_side_twice(weights, spec, register, bias):
    """FINN PR #1324: max(max(upper), max(upper)), and the lower side nowhere."""
    _, high = reach(weights, spec, bias)
    return high <= register.max


@decider([9], unsigned(1), Accumulator(4))
def lower_side_twice(weights, spec, register, bias):
    """The same the other way."""
    low, _ = reach(weights, spec, bias)
    return register.min <= low


@decider([1], unsigned(1), Accumulator(4), 7)
def bias_forgotten(weights, spec, register, bias):
    """The register is taken to start at 0."""
    return within(*reach(weights, spec, 0), register)


@decider([-1], unsigned(1), Accumulator(4), -8)
def bias_above_only(weights, spec, register, bias):
    """The bias is added to the highest sum only."""
    low, _ = reach(weights, spec, 0)
    _, high = reach(weights, spec, bias)
    return within(low, high, register)


@decider([1, -1], between(3, 10), Accumulator(4))
def final_sum_only(weights, spec, register, bias):
    """qonnx: extremes of the final sum; partial sums reach 10."""
    low, high = bounds.extremes(np.array(weights, np.int64), spec)
    return within(bias + low, bias + high, register)


@decider([8], unsigned(1), Accumulator(4))
def edge_included(weights, spec, register, bias):
    """FINN PR #323: wrong at the edge 2^(n-1)."""
    low, high = reach(weights, spec, bias)
    return register.min <= low and high <= register.max + 1


@decider([-8], unsigned(1), Accumulator(4))
def lowest_value_unused(weights, spec, register, bias):
    """Rails of -7 and 7: a bit too many for what reaches -8."""
    low, high = reach(weights, spec, bias)
    return -register.max <= low and high <= register.max


@decider([1], unsigned(1), Accumulator(2))
def by_data_types(weights, spec, register, bias):
    """From the length and the types alone: safe layers are refused."""
    most = len(weights) * 128 * spec.magnitude
    return within(bias - most, bias + most, register)


@decider([1, -1], between(3, 7), Accumulator(4), -4)
def zero_taken_for_legal(weights, spec, register, bias):
    """The range widened to hold 0: sums that no input reaches."""
    wider = between(min(0, spec.min), max(0, spec.max))
    return within(*reach(weights, wider, bias), register)


@decider([-1], unsigned(1), Accumulator(4, signed=False))
def register_always_signed(weights, spec, register, bias):
    """The sign of the register is not looked at."""
    return within(*reach(weights, spec, bias), Accumulator(register.bits))


@decider([2**16], between(0, 2**15), Accumulator(32))
def sums_in_int32(weights, spec, register, bias):
    """numpy's int32 products wrap without a word."""
    rows = np.array(weights, np.int32)
    ends = [rows * np.int32(spec.min), rows * np.int32(spec.max)]
    low = bias + min(0, int(np.minimum(*ends).cumsum(dtype=np.int32).min(initial=0)))
    high = bias + max(0, int(np.maximum(*ends).cumsum(dtype=np.int32).max(initial=0)))
    return within(low, high, register)


@decider([1, 1, 1], signed(2), Accumulator(3))
def inputs_never_negative(weights, spec, register, bias):
    """hi = max * α, lo = max * β: right for unsigned inputs only."""
    positive, negative = halves(weights)
    return within(bias + spec.max * negative, bias + spec.max * positive, register)


@decider([1, 1], between(-8, 1), Accumulator(5))
def inputs_taken_for_symmetric(weights, spec, register, bias):
    """max|x| on both sides: sums that no input reaches."""
    positive, negative = halves(weights)
    most = spec.magnitude * (positive - negative)
    return within(bias - most, bias + most, register)


@decider([1, 0, 7], unsigned(1), Accumulator(4))
def last_tap_dropped(weights, spec, register, bias):
    """A loop that ends one tap early."""
    return within(*reach(weights[:-1], spec, bias), register)


@decider([3, 3, 3, 3, 3, 3], unsigned(6), Accumulator(11))
def by_sampling(weights, spec, register, bias):
    """A hundred random inputs that do not overflow, called a proof."""
    rng = np.random.default_rng(0)
    inputs = rng.integers(spec.min, spec.max, (100, len(weights)), endpoint=True).tolist()
    runs = (arith.fold(weights, x, register, bias=bias) for x in inputs)
    return all(run.overflow_count == 0 for run in runs)


def centred(v):
    """Weights that sum to 0."""
    return v - v.mean() if len(v) else v


def shrunk(v, budget):
    """Weights scaled down to a norm, where they exceed it."""
    norm = np.abs(v).sum()
    return v * min(1.0, float(budget) / norm) if norm else v


def clipped(v, bits):
    """Integers of a narrow range, as Python ints."""
    return [int(q) for q in v.clip(1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1)]


def a2q(v, weight_bits, acc_bits, spec):
    """The right rule of A2Q."""
    return clipped(np.trunc(shrunk(v, bounds.l1_budget(acc_bits, spec))), weight_bits)


def a2q_plus(v, weight_bits, acc_bits, spec):
    """The right rule of A2Q+."""
    budget = bounds.zero_centered_budget(acc_bits, spec)
    return clipped(np.trunc(shrunk(centred(v), budget)), weight_bits)


@rule([0.6] * 12, 4, 6, signed(3))
def a2q_rounded_to_nearest(v, weight_bits, acc_bits, spec):
    """Rounding that adds to the norm."""
    return clipped(np.rint(shrunk(v, bounds.l1_budget(acc_bits, spec))), weight_bits)


@rule([0.1] * 32, 4, 6, unsigned(2))
def a2q_rounded_away(v, weight_bits, acc_bits, spec):
    """ceil of the magnitude, a sign error in round toward zero."""
    near = shrunk(v, bounds.l1_budget(acc_bits, spec))
    return clipped(np.sign(near) * np.ceil(np.abs(near)), weight_bits)


@rule([4.0, 4.0, 4.0, 4.0], 4, 8, unsigned(4))
def a2q_with_the_budget_of_a2q_plus(v, weight_bits, acc_bits, spec):
    """The wider budget without its condition."""
    return clipped(np.trunc(shrunk(v, bounds.zero_centered_budget(acc_bits, spec))), weight_bits)


@rule([15.0], 8, 8, unsigned(4))
def a2q_takes_inputs_for_signed(v, weight_bits, acc_bits, spec):
    """2^(N-1) in place of 2^N for unsigned inputs."""
    budget = Fraction(2 ** (acc_bits - 1) - 1, 2 ** (spec.bits - 1))
    return clipped(np.trunc(shrunk(v, budget)), weight_bits)


@rule([18.0], 8, 8, signed(4))
def a2q_by_the_highest_input(v, weight_bits, acc_bits, spec):
    """max(x) for max|x|: the lowest input of two's complement is larger."""
    budget = Fraction(2 ** (acc_bits - 1) - 1, max(1, spec.max))
    return clipped(np.trunc(shrunk(v, budget)), weight_bits)


@rule([20.0, -20.0, 20.0, -20.0], 8, 8, signed(4))
def a2q_norm_without_magnitudes(v, weight_bits, acc_bits, spec):
    """The sum where the norm is meant."""
    budget = float(bounds.l1_budget(acc_bits, spec))
    total = abs(v.sum())
    return clipped(np.trunc(v * min(1.0, budget / total) if total else v), weight_bits)


@rule([20.0, 20.0, 20.0], 8, 8, unsigned(4))
def a2q_each_weight_by_itself(v, weight_bits, acc_bits, spec):
    """The largest magnitude where the sum of all is meant."""
    budget = float(bounds.l1_budget(acc_bits, spec))
    return clipped(np.trunc(v.clip(-budget, budget)), weight_bits)


@rule([20.0], 8, 8, unsigned(4))
def a2q_register_one_bit_wider(v, weight_bits, acc_bits, spec):
    """2^P - 1 for 2^(P-1) - 1: the sign bit of the register forgotten."""
    budget = 2 * bounds.l1_budget(acc_bits, spec)
    return clipped(np.trunc(shrunk(v, budget)), weight_bits)


@rule([16.0, 0.0], 8, 8, unsigned(4))
def a2q_plus_not_centred(v, weight_bits, acc_bits, spec):
    """The budget that holds for centred weights only."""
    budget = bounds.zero_centered_budget(acc_bits, spec)
    return clipped(np.trunc(shrunk(v, budget)), weight_bits)


@rule([0.6] * 16 + [-9.6], 8, 6, unsigned(2))
def a2q_plus_rounded_to_nearest(v, weight_bits, acc_bits, spec):
    """Rounding that adds to the norm, and to one sign more than to the other."""
    budget = bounds.zero_centered_budget(acc_bits, spec)
    return clipped(np.rint(shrunk(centred(v), budget)), weight_bits)


@rule([0.25] * 4 + [-0.25] * 4, 4, 2, unsigned(1))
def a2q_plus_rounded_down(v, weight_bits, acc_bits, spec):
    """floor for truncation: an arithmetic shift of negative numbers."""
    budget = bounds.zero_centered_budget(acc_bits, spec)
    return clipped(np.floor(shrunk(centred(v), budget)), weight_bits)


@rule([100.0, 0.0, 0.0, 0.0], 8, 6, unsigned(1))
def a2q_plus_centred_last(v, weight_bits, acc_bits, spec):
    """Shrunk first and centred after: the norm grows again."""
    budget = bounds.zero_centered_budget(acc_bits, spec)
    return clipped(np.trunc(centred(shrunk(v, budget))), weight_bits)


@rule([40.0, -40.0], 8, 8, signed(4))
def a2q_plus_by_the_highest_input(v, weight_bits, acc_bits, spec):
    """(2^P - 2) / max for (2^P - 2) / (max - min): wrong as soon as inputs are signed."""
    budget = Fraction(2**acc_bits - 2, max(1, spec.max))
    return clipped(np.trunc(shrunk(centred(v), budget)), weight_bits)


@rule([64.0, 64.0, -64.0, -64.0], 8, 8, unsigned(1))
def a2q_plus_budget_of_two_to_the_p(v, weight_bits, acc_bits, spec):
    """2^P for 2^P - 2: one more than the highest value, where weights are whole."""
    budget = Fraction(2**acc_bits, spec.max - spec.min)
    return clipped(np.trunc(shrunk(centred(v), budget)), weight_bits)


@rule([11.0, 0.0, 0.0], 8, 4, unsigned(1))
def budgets_by_float_log2(v, weight_bits, acc_bits, spec):
    """Bits of the norm by a rounded logarithm: half a bit too many."""
    allowed = acc_bits - 1 - log2(max(1, spec.magnitude))
    norm = float(np.abs(v).sum())
    over = max(0, round(log2(norm) - allowed)) if norm else 0
    return clipped(np.trunc(v / 2**over), weight_bits)
