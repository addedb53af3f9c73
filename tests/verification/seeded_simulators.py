"""Simulators with one bug each, as they have been built, for `check_simulator` to find.

Each has a docstring that says what it imitates, and a case in which it is wrong.
"""

from functools import wraps

import numpy as np

from accsim import Accumulator
from accsim.arith import reduce, saturate, wrap

SIMULATORS = {}


def folded(x, weight, accumulator, step, start=0):
    """Every output: `start`, and for each tap step(register, q, v, accumulator)."""
    outputs = np.zeros((len(x), len(weight)), object)
    for place in np.ndindex(outputs.shape):
        register = start
        for q, v in zip(weight[place[1]].tolist(), x[place[0]].tolist(), strict=True):
            register = step(register, q, v, accumulator)
        outputs[place] = register
    return outputs.astype(np.int64)


def right(register, q, v, accumulator):
    """One step of the definition."""
    return reduce(register + q * v, accumulator)


def exact(x, weight):
    """The exact sums."""
    return x @ weight.T


def reduced(sums, accumulator):
    """Every sum reduced once."""
    flat = [reduce(int(t), accumulator) for t in np.ravel(sums)]
    return np.array(flat, np.int64).reshape(np.shape(sums))


def blocks(x, weight, accumulator, size):
    """Exact sums of `size` taps, and of the rest, added to a register one by one."""
    total = np.zeros((len(x), len(weight)), np.int64)
    for first in range(0, x.shape[1], size):
        part = slice(first, first + size)
        total = reduced(total + exact(x[:, part], weight[:, part]), accumulator)
    return total


def simulator(x, weight, bits, overflow="wrap", *, signed=True):
    """Keep a simulator, with a case that shows it to be wrong."""
    case = (np.array(x), np.array(weight), Accumulator(bits, overflow, signed=signed))

    def keep(function):
        SIMULATORS[function.__name__] = (function, case)
        return function

    return keep


def stepping(x, weight, bits, overflow="wrap", *, signed=True):
    """The same for a bug in one step."""

    def keep(step):
        @wraps(step)
        def function(x, weight, accumulator):
            return folded(x, weight, accumulator, step)

        return simulator(x, weight, bits, overflow, signed=signed)(function)

    return keep


@stepping([[7, 7]], [[7, 7]], 4, "saturate")
def product_narrowed_plain_add(register, q, v, accumulator):
    """APyTypes #857: overflow is applied to the product, and the sum is plain."""
    return register + reduce(q * v, accumulator)


@stepping([[3, 3]], [[7, -7]], 4, "saturate")
def product_narrowed_first(register, q, v, accumulator):
    """A product register as narrow as the accumulator (hls4ml #324): both overflow."""
    return reduce(register + reduce(q * v, accumulator), accumulator)


@stepping([[3]], [[4]], 4, "saturate")
def product_truncated(register, q, v, accumulator):
    """A saturating adder fed with the low bits of the product."""
    return reduce(register + wrap(q * v, accumulator), accumulator)


@stepping([[1]], [[-9]], 4, "saturate")
def saturates_to_minus_max(register, q, v, accumulator):
    """Rails of -7 and 7: narrow range taken for the register's."""
    total = register + q * v
    if accumulator.overflow == "wrap":
        return wrap(total, accumulator)
    return min(max(total, -accumulator.max), accumulator.max)


@stepping([[1]], [[9]], 4, "saturate")
def upper_rail_one_too_high(register, q, v, accumulator):
    """The edge 2^(n-1) of FINN PR #323, in a clamp."""
    total = register + q * v
    if accumulator.overflow == "wrap":
        return wrap(total, accumulator)
    return min(max(total, accumulator.min), accumulator.max + 1)


@stepping([[1]], [[7]], 4, "saturate")
def overflow_at_the_rail(register, q, v, accumulator):
    """`>=` for `>`: the highest value counts as overflow and is stepped back from."""
    total = register + q * v
    return total - 1 if total == accumulator.max else reduce(total, accumulator)


@stepping([[1]], [[8]], 4)
def wraps_one_too_late(register, q, v, accumulator):
    """`>` for `>=` in the test for wrapping: 2^(P-1) stays."""
    total = register + q * v
    return total if total == accumulator.max + 1 else reduce(total, accumulator)


@stepping([[1]], [[9]], 4)
def wraps_without_sign(register, q, v, accumulator):
    """The mask without sign extension."""
    total = reduce(register + q * v, accumulator)
    return total & ((1 << accumulator.bits) - 1)


@stepping([[1]], [[-9]], 4)
def wraps_with_the_remainder_of_c(register, q, v, accumulator):
    """`%` as in C: the remainder of a negative number is negative."""
    total = register + q * v
    if accumulator.overflow == "saturate":
        return saturate(total, accumulator)
    shifted = total - accumulator.min
    size = 1 << accumulator.bits
    rest = shifted % size if shifted >= 0 else -(-shifted % size)
    return rest + accumulator.min


@stepping([[5]], [[5]], 4)
def wraps_one_turn_at_most(register, q, v, accumulator):
    """One conditional subtraction in place of a remainder."""
    total = register + q * v
    if accumulator.overflow == "saturate":
        return saturate(total, accumulator)
    turns = (total < accumulator.min) - (total > accumulator.max)
    return total + turns * (1 << accumulator.bits)


@stepping([[1]], [[9]], 4, signed=False)
def sign_of_the_register_ignored(register, q, v, accumulator):
    """Every register is two's complement."""
    return reduce(register + q * v, Accumulator(accumulator.bits, accumulator.overflow))


@stepping([[1]], [[9]], 4)
def always_saturates(register, q, v, accumulator):
    """The overflow rule is not looked at."""
    return saturate(register + q * v, accumulator)


@stepping([[1]], [[9]], 4, "saturate")
def always_wraps(register, q, v, accumulator):
    """The saturating path never taken: a mode bit that is not wired."""
    return wrap(register + q * v, accumulator)


@stepping([[1]], [[-9]], 4, "saturate")
def saturates_upwards_only(register, q, v, accumulator):
    """`max(upper, upper)`: one side copied to the other (FINN PR #1324)."""
    total = register + q * v
    if accumulator.overflow == "wrap" or total < accumulator.min:
        return wrap(total, accumulator)
    return saturate(total, accumulator)


@stepping([[1, 1]], [[9, -1]], 4, "saturate")
def sticks_to_the_rail(register, q, v, accumulator):
    """Once saturated always saturated: a sticky flag that also holds the value."""
    at_a_rail = register in (accumulator.min, accumulator.max)
    if accumulator.overflow == "saturate" and at_a_rail and register != 0:
        return register
    return right(register, q, v, accumulator)


@stepping([[1]], [[-8]], 4)
def lowest_weight_missing(register, q, v, accumulator):
    """-128 taken for -127: codes symmetric as XNNPACK's tests draw them."""
    lowest = q < 0 and (-q & (-q - 1)) == 0 and q < -1
    return right(register, q + lowest, v, accumulator)


@stepping([[300]], [[1]], 16)
def inputs_in_eight_bits(register, q, v, accumulator):
    """An unsigned or wide input stored as int8."""
    return right(register, q, (v + 128) % 256 - 128, accumulator)


@stepping([[1]], [[-8]], 4)
def magnitudes_first(register, q, v, accumulator):
    """Sign and magnitude: the magnitude wraps, then the sign is put back."""
    total = register + q * v
    reached = reduce(abs(total), accumulator)
    return -reached if total < 0 else reached


@simulator([[1, 1]], [[9, -9]], 4, "saturate")
def saturates_once_at_the_end(x, weight, accumulator):
    """A wide sum clamped at the end: what frameworks call a narrow accumulator."""
    return reduced(exact(x, weight), accumulator)


@simulator([[1, 1]], [[9, -1]], 4, "saturate")
def overflow_every_second_step(x, weight, accumulator):
    """Two products added exactly before the register's adder."""
    return blocks(x, weight, accumulator, 2)


@simulator([[1, 1]], [[9, -1]], 4, "saturate")
def overflow_every_fourth_step(x, weight, accumulator):
    """A four-way dot product instruction."""
    return blocks(x, weight, accumulator, 4)


@simulator([[1] * 17], [[9] + [-1] * 16], 4, "saturate")
def overflow_once_a_tile(x, weight, accumulator):
    """Exact within a tile of 16: cross-tile accumulation is what overflows (FINN PR #1076)."""
    return blocks(x, weight, accumulator, 16)


@simulator([[255, 255]], [[127, 127]], 32)
def pairs_saturate_in_sixteen_bits(x, weight, accumulator):
    """`vpmaddubsw`: pairs of products saturate to 16 bits (PyTorch #44939, FBGEMM #125)."""
    even = x.shape[1] // 2 * 2
    pairs = [x[:, k : k + 2] @ weight[:, k : k + 2].T for k in range(0, even, 2)]
    pairs += [x[:, even:] @ weight[:, even:].T]
    total = np.zeros((len(x), len(weight)), np.int64)
    for pair in pairs:
        total = reduced(total + pair.clip(-(2**15), 2**15 - 1), accumulator)
    return total


@simulator([[1, 1, 1]], [[9, 0, -1]], 4, "saturate")
def last_first(x, weight, accumulator):
    """Added from the last tap to the first."""
    return folded(x[:, ::-1], weight[:, ::-1], accumulator, right)


@simulator([[1, 1, 1, 1]], [[9, -9, 0, 0]], 4, "saturate")
def two_lanes(x, weight, accumulator):
    """Even and odd taps in lanes of their own, added at the end."""
    lanes = [folded(x[:, i::2], weight[:, i::2], accumulator, right) for i in (0, 1)]
    return reduced(lanes[0] + lanes[1], accumulator)


@simulator([[1] * 34], [[-5] + [0] * 31 + [9, 0]], 4, "saturate")
def long_sums_split(x, weight, accumulator):
    """Split-K: each 32 taps in a register of their own, the registers added."""
    parts = [
        folded(x[:, k : k + 32], weight[:, k : k + 32], accumulator, right)
        for k in range(0, x.shape[1], 32)
    ]
    return reduced(sum(parts, np.zeros((len(x), len(weight)), np.int64)), accumulator)


@simulator([[1] * 65], [[0] * 64 + [1]], 4)
def last_tile_dropped(x, weight, accumulator):
    """Whole tiles of 64 only, from the second on."""
    kept = x.shape[1] if x.shape[1] < 64 else x.shape[1] // 64 * 64
    return folded(x[:, :kept], weight[:, :kept], accumulator, right)


@simulator([[1] * 3], [[0, 0, 1]], 4)
def odd_tap_dropped(x, weight, accumulator):
    """Pairs of taps, and the last of an odd number forgotten."""
    kept = max(1, x.shape[1] // 2 * 2)
    return folded(x[:, :kept], weight[:, :kept], accumulator, right)


@simulator([[1] * 17], [[0] * 15 + [1, 0]], 4)
def last_tile_overlaps(x, weight, accumulator):
    """The last tile of 16 moved back to fit, and taps counted twice."""
    taps = x.shape[1]
    if taps > 16 and taps % 16:
        where = np.r_[: taps // 16 * 16, taps - 16 : taps]
        x, weight = x[:, where], weight[:, where]
    return folded(x, weight, accumulator, right)


@simulator([[1] * 129], [[0] * 128 + [1]], 4)
def index_in_seven_bits(x, weight, accumulator):
    """A counter of 7 bits: the taps beyond 128 are never reached."""
    return folded(x[:, :128], weight[:, :128], accumulator, right)


@simulator(np.zeros((1, 0), int), np.zeros((1, 0), int), 4)
def empty_sum_not_zero(x, weight, accumulator):
    """No taps, and the register is read before it is set."""
    return folded(x, weight, accumulator, right, start=0 if x.shape[1] else accumulator.min or 1)


@simulator([[9]], [[1]], 4)
def first_product_unchecked(x, weight, accumulator):
    """The register is loaded with the first product, which may be too wide."""
    first = folded(x[:, :1], weight[:, :1], Accumulator(62), right)
    if x.shape[1] < 2:
        return first
    return reduced(first + folded(x[:, 1:], weight[:, 1:], accumulator, right), accumulator)


@simulator([[1, 1]], [[7, 1]], 4)
def last_step_unchecked(x, weight, accumulator):
    """Overflow is applied before each addition, not after it."""
    kept = max(0, x.shape[1] - 1)
    before = folded(x[:, :kept], weight[:, :kept], accumulator, right)
    return before + exact(x[:, kept:], weight[:, kept:])


@simulator([[1]], [[1], [1]], 4)
def register_not_cleared(x, weight, accumulator):
    """Each channel starts at what the last one left."""
    outputs = np.zeros((len(x), len(weight)), np.int64)
    for row, taps in enumerate(x):
        register = 0
        for channel in range(len(weight)):
            register = int(
                folded(taps[None], weight[[channel]], accumulator, right, start=register)[0, 0]
            )
            outputs[row, channel] = register
    return outputs


@simulator([[1], [2]], [[1]], 4)
def first_row_for_all(x, weight, accumulator):
    """A stride of 0: every row is the first."""
    return folded(x[:1].repeat(len(x), axis=0), weight, accumulator, right)


@simulator([[1], [2]], [[1], [1]], 4)
def square_outputs_transposed(x, weight, accumulator):
    """Rows and channels exchanged, which shows only where there are as many of each."""
    outputs = folded(x, weight, accumulator, right)
    return outputs.T if len(x) == len(weight) else outputs


@simulator([[2**17]], [[2**17]], 40)
def sums_in_32_bits(x, weight, accumulator):
    """int32 sums, narrowed to the register where that is narrower; numba's promoted the other way."""
    narrow = exact(x, weight).astype(np.int32)
    whole = folded(x, weight, accumulator, right)
    return whole if accumulator.bits < 32 else reduced(narrow, accumulator)


@simulator([[4097]], [[4097]], 40)
def sums_in_float32(x, weight, accumulator):
    """A float32 matrix product: exact to 2^24 only."""
    near = exact(x.astype(np.float32), weight.astype(np.float32)).astype(np.int64)
    whole = folded(x, weight, accumulator, right)
    return whole if accumulator.bits < 25 else reduced(near, accumulator)


@simulator([[1]], [[2**30]], 31, "saturate")
def rails_in_float32(x, weight, accumulator):
    """2^(P-1) - 1 in float32 is 2^(P-1) for wide registers (FINN #1517)."""
    low, high = (int(np.float32(rail)) for rail in (accumulator.min, accumulator.max))

    def step(register, q, v, accumulator):
        if accumulator.overflow == "wrap":
            return wrap(register + q * v, accumulator)
        return min(max(register + q * v, low), high)

    return folded(x, weight, accumulator, step)


@simulator([[2]], [[1]], 33)
def shift_taken_modulo_32(x, weight, accumulator):
    """`1 << bits` in 32 bits, as x86 shifts: registers of 33 bits have one."""
    if accumulator.bits <= 32:
        return folded(x, weight, accumulator, right)
    narrow = Accumulator(max(2, accumulator.bits % 32), accumulator.overflow)
    return folded(x, weight, narrow, right)
