"""The oracle against hand-worked cases and against a naive step loop over every input."""

from collections.abc import Iterator, Sequence
from dataclasses import FrozenInstanceError
from itertools import product

import pytest

from verification import oracle
from verification.oracle import Answer

RANGES = [(0, 0), (0, 2), (-2, 1), (-1, 1), (2, 5), (-4, -3), (3, 3)]
WEIGHTS = [w for length in range(4) for w in product((-2, 0, 1, 3), repeat=length)]
RULES = ["wrap", "saturate"]


def naive(products: Sequence[int], bits: int, overflow: str, signed: bool, bias: int) -> Answer:
    """Follow the definition one step at a time, wrapping by repeated subtraction."""
    span = 2**bits
    low = -(span // 2) if signed else 0
    high = low + span - 1
    register, exact, steps, seen = bias, bias, [], [bias]
    for k, p in enumerate(products):
        register, exact = register + p, exact + p
        seen.append(exact)
        if register < low or register > high:
            steps.append(k)
            if overflow == "saturate":
                register = low if register < low else high
        while register < low:
            register += span
        while register > high:
            register -= span
    first = steps[0] if steps else -1
    return Answer(register, len(steps), first, min(seen), max(seen))


def every_run(
    weights: Sequence[int], inputs: tuple[int, int], bits: int, signed: bool, bias: int
) -> Iterator[tuple[int, Answer]]:
    """Yield the exact sum and the naive wrapped run of every legal input vector."""
    for x in product(range(inputs[0], inputs[1] + 1), repeat=len(weights)):
        products = [q * v for q, v in zip(weights, x, strict=True)]
        yield bias + sum(products), naive(products, bits, "wrap", signed, bias)


# Worked by hand: "12>-4" means that t = 12 lies outside the register, which then holds -4.
# 4 bits signed is [-8, 7] with 16 values; 3 bits unsigned is [0, 7] with 8 values.
# The columns of Answer are output, count, first, peak_low, peak_high.
HAND = [
    # 7, 12>-4, -10>6, 8>-8; exact sums 0 7 12 6 8
    ([7, 5, -6, 2], 4, "wrap", True, 0, Answer(-8, 3, 1, 0, 12)),
    # 7, 12>7, 1, 3; the exact sum 8 is lost at step 1
    ([7, 5, -6, 2], 4, "saturate", True, 0, Answer(3, 1, 1, 0, 12)),
    # the same products reordered: 7, 1, 6, 8>7; saturation depends on the order
    ([7, -6, 5, 2], 4, "saturate", True, 0, Answer(7, 1, 3, 0, 8)),
    # transient that cancels: 7, 12>-4, -10>6; right at the end, two overflows all the same
    ([7, 5, -6], 4, "wrap", True, 0, Answer(6, 2, 1, 0, 12)),
    # the low side: -8 fits, -9>7, 8>-8; exact sums 0 -8 -9 -8
    ([-8, -1, 1], 4, "wrap", True, 0, Answer(-8, 2, 1, -9, 0)),
    # the low side: -8 fits, -9>-8, -7; exact sums 0 -8 -9 -8
    ([-8, -1, 1], 4, "saturate", True, 0, Answer(-7, 1, 1, -9, 0)),
    # both rails are inside: 7, -8, 7; exact sums the same
    ([7, -15, 15], 4, "wrap", True, 0, Answer(7, 0, -1, -8, 7)),
    ([7, -15, 15], 4, "saturate", True, 0, Answer(7, 0, -1, -8, 7)),
    # several turns in one step: 40 = 2 * 16 + 8 > -8, one overflow; -8 - 1 = -9 > 7
    ([40, -1], 4, "wrap", True, 0, Answer(-8 + 15, 2, 0, 0, 40)),
    # unsigned: 5, 9>1, -1>7; the exact sum 7 comes back
    ([5, 4, -2], 3, "wrap", False, 0, Answer(7, 2, 1, 0, 9)),
    # unsigned: 5, 9>7, -2>0, 1; exact sums 0 5 9 0 1
    ([5, 4, -9, 1], 3, "saturate", False, 0, Answer(1, 2, 1, 0, 9)),
    # bias: -3 - 5 = -8 fits; the start itself is the upper peak
    ([-5], 4, "wrap", True, -3, Answer(-8, 0, -1, -8, -3)),
    # bias: -3 - 6 = -9 does not fit
    ([-6], 4, "wrap", True, -3, Answer(7, 1, 0, -9, -3)),
    ([-6], 4, "saturate", True, -3, Answer(-8, 1, 0, -9, -3)),
    # unsigned with a bias: 6 + 3 = 9 > 1; 1 - 1 = 0
    ([3, -1], 3, "wrap", False, 6, Answer(0, 1, 0, 6, 9)),
    # K = 0: the bias, untouched
    ([], 4, "wrap", True, -8, Answer(-8, 0, -1, -8, -8)),
    ([], 3, "saturate", False, 7, Answer(7, 0, -1, 7, 7)),
    # a product of 0 is a step that cannot overflow, but keeps its index: 0, 8>7, 7
    ([0, 8, 0], 4, "saturate", True, 0, Answer(7, 1, 1, 0, 8)),
]


@pytest.mark.parametrize(("products", "bits", "overflow", "signed", "bias", "expected"), HAND)
def test_run_by_hand(
    products: list[int], bits: int, overflow: str, signed: bool, bias: int, expected: Answer
) -> None:
    """The hand-worked runs come out as written in the table."""
    assert oracle.run(products, bits, overflow, signed=signed, bias=bias) == expected


@pytest.mark.parametrize("overflow", RULES)
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [2, 3])
def test_run_is_the_step_loop(bits: int, signed: bool, overflow: str) -> None:
    """Every short product sequence, from every start, agrees with the naive step loop."""
    low = -(2 ** (bits - 1)) if signed else 0
    for bias in range(low, low + 2**bits):
        for length in range(4):
            for p in product(range(-9, 10, 2 if length == 3 else 1), repeat=length):
                expected = naive(p, bits, overflow, signed, bias)
                assert oracle.run(p, bits, overflow, signed=signed, bias=bias) == expected


def test_run_is_exact_at_the_widest_register() -> None:
    """At 62 bits the rail fits, one more wraps to the opposite rail, and one less wraps back."""
    top = 2305843009213693951  # 2^61 - 1
    assert oracle.run([top, 1], 62, "wrap") == Answer(-top - 1, 1, 1, 0, top + 1)
    assert oracle.run([top, 1, -1], 62, "wrap") == Answer(top, 2, 1, 0, top + 1)


@pytest.mark.parametrize("overflow", RULES)
def test_dot_runs_the_products(overflow: str) -> None:
    """The dot product of [7, -5, 3, 2] and [1, -1, -2, 1] folds the products [7, 5, -6, 2]."""
    got = oracle.dot([7, -5, 3, 2], (1, -1, -2, 1), 4, overflow, bias=-1)
    # wrap: 6, 11>-5, -11>5, 7; saturate: 6, 11>7, 1, 3; exact sums -1 6 11 5 7
    wrapped, saturated = Answer(7, 2, 1, -1, 11), Answer(3, 1, 1, -1, 11)
    assert got == (wrapped if overflow == "wrap" else saturated)


def test_many_turns_and_many_steps() -> None:
    """A sum of 500 turns is kept without overflow; 600 steps are folded, from 0 on."""
    assert oracle.run([8000, 0, 1], 4, "wrap") == Answer(0 + 1, 1, 0, 0, 8001)
    answer = oracle.dot([1] * 600, [1] * 600, 4, "saturate")
    assert answer == Answer(7, 593, 7, 0, 600)


def test_dot_passes_the_register_on() -> None:
    """An unsigned register stays unsigned: 4 + 2 * 2 = 8 saturates at 7 in 3 bits."""
    assert oracle.dot([2], [2], 3, "saturate", signed=False, bias=4) == Answer(7, 1, 0, 4, 8)


def test_answer_cannot_change() -> None:
    """An answer is frozen, and holds nothing else."""
    answer = oracle.run([], 4, "wrap")
    assert not hasattr(answer, "__dict__")
    with pytest.raises(FrozenInstanceError):
        answer.output = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("overflow", "signed", "bias"),
    [
        ("clip", True, 0),
        ("saturated", True, 0),
        ("wrapped", True, 0),
        ("wrap", True, 8),
        ("wrap", True, -9),
        ("saturate", False, -1),
    ],
)
def test_run_refuses_what_the_contract_excludes(overflow: str, signed: bool, bias: int) -> None:
    """An unknown rule or a start outside the 4-bit register is an error."""
    with pytest.raises(ValueError, match=r"overflow must be|outside the register"):
        oracle.run([1], 4, overflow, signed=signed, bias=bias)


def test_a_rule_is_what_its_letters_say() -> None:
    """Whichever string holds them."""
    for rule in ("wrap", "saturate"):
        spelt = "".join(list(rule))
        assert oracle.run([9], 4, spelt) == oracle.run([9], 4, rule)


def test_other_impossible_arguments_are_refused() -> None:
    """Unequal lengths and an empty input range are errors."""
    with pytest.raises(ValueError, match="2 weights, but 1 inputs"):
        oracle.dot([1, 2], [1], 4, "wrap")
    with pytest.raises(ValueError, match="1 weights, but 2 inputs"):
        oracle.dot([1], [1, 2], 4, "wrap")
    with pytest.raises(ValueError, match="empty input range"):
        oracle.running_range([1], 1, 0)


# Weights [3, -2], by hand.
# Inputs [2, 5]: 3x in [6, 15], then less 2y in [4, 10]: [-4, 11]. All sums: [0, 15] and [-4, 11].
# Inputs [-1, 1]: 3x in [-3, 3], then [-5, 5]. Bias 4 moves everything up by 4.
@pytest.mark.parametrize(
    ("inputs", "bias", "expected", "width"),
    [
        ((2, 5), 0, (-4, 15), 5),  # 15 needs 5 bits: 4 bits end at 7
        ((-1, 1), 0, (-5, 5), 4),  # -5 needs 4 bits: 3 bits start at -4
        ((-1, 1), 4, (-1, 9), 5),  # 9 needs 5 bits
        ((0, 0), 0, (0, 0), 1),
        ((0, 0), -1, (-1, -1), 1),  # 1 bit is [-1, 0]
        ((0, 0), 1, (1, 1), 2),
        ((0, 0), -2, (-2, -2), 2),
    ],
)
def test_range_and_width_by_hand(
    inputs: tuple[int, int], bias: int, expected: tuple[int, int], width: int
) -> None:
    """The hand-worked running ranges and widths come out as written."""
    assert oracle.running_range([3, -2], *inputs, bias=bias) == expected
    assert oracle.least_bits([3, -2], *inputs, bias=bias) == width


@pytest.mark.parametrize(
    ("weights", "inputs", "bits", "signed", "expected"),
    [
        # sums [0, 7] then [-7, 7]: fits 4 bits signed, not unsigned, not 3 bits
        ([7, -7], (0, 1), 4, True, (True, True)),
        ([7, -7], (0, 1), 4, False, (False, False)),
        ([7, -7], (0, 1), 3, True, (False, False)),
        # input always 2: 0, 10, 4; 10 leaves [-8, 7], the final 4 does not
        ([5, -3], (2, 2), 4, True, (False, True)),
        # input always 2: 0, -10, -4
        ([-5, 3], (2, 2), 4, True, (False, True)),
        # a final sum of exactly one rail, and one past it
        ([-8], (0, 1), 4, True, (True, True)),
        ([8], (0, 1), 4, True, (False, False)),
        ([8], (0, 1), 4, False, (True, True)),
    ],
)
def test_verdicts_by_hand(
    weights: list[int],
    inputs: tuple[int, int],
    bits: int,
    signed: bool,
    expected: tuple[bool, bool],
) -> None:
    """The hand-worked verdicts (safe, wrap_exact) come out as written."""
    safe = oracle.safe(weights, *inputs, bits, signed=signed)
    assert (safe, oracle.wrap_exact(weights, *inputs, bits, signed=signed)) == expected


def test_a_start_outside_the_register_is_not_safe() -> None:
    """A start of 8 does not fit 4 bits, even where the only step leads back inside."""
    assert not oracle.safe([-1], 1, 1, 4, bias=8)


@pytest.mark.parametrize("inputs", RANGES)
@pytest.mark.parametrize("bias", [-3, 0, 2])
def test_range_and_width_by_enumeration(inputs: tuple[int, int], bias: int) -> None:
    """Running range and least width are those of the sums that all inputs really reach."""
    for weights in WEIGHTS:
        answers = [answer for _, answer in every_run(weights, inputs, 6, True, bias)]
        lowest = min(answer.peak_low for answer in answers)
        highest = max(answer.peak_high for answer in answers)
        assert oracle.running_range(weights, *inputs, bias=bias) == (lowest, highest)
        width = oracle.least_bits(weights, *inputs, bias=bias)
        assert -(2**width) <= 2 * lowest
        assert 2 * highest < 2**width
        # one bit less must not do, unless there is none to take away
        assert width == 1 or 4 * lowest < -(2**width) or 4 * highest >= 2**width


@pytest.mark.parametrize("inputs", RANGES)
@pytest.mark.parametrize(
    ("bits", "signed", "bias"),
    [(3, True, 0), (4, True, -3), (5, True, 2), (3, False, 0), (4, False, 2)],
)
def test_verdicts_by_enumeration(
    inputs: tuple[int, int], bits: int, signed: bool, bias: int
) -> None:
    """Both verdicts say what the naive loop finds when it tries every input."""
    for weights in WEIGHTS:
        runs = list(every_run(weights, inputs, bits, signed, bias))
        safe = all(answer.overflow_count == 0 for _, answer in runs)
        right = all(answer.output == exact for exact, answer in runs)
        assert oracle.safe(weights, *inputs, bits, signed=signed, bias=bias) == safe
        assert oracle.wrap_exact(weights, *inputs, bits, signed=signed, bias=bias) == right


def test_what_is_not_said_is_a_signed_register_from_0() -> None:
    """Every function that has a start or a sign: 3 bits, from -4 to 3."""
    assert oracle.run([3, 1], 3, "saturate") == Answer(3, 1, 1, 0, 4)
    assert oracle.dot([3, 1], [1, 1], 3, "wrap") == Answer(-4, 1, 1, 0, 4)
    assert oracle.running_range([3], 0, 1) == (0, 3)
    assert oracle.running_range([-3], 0, 1) == (-3, 0)
    for weight, fits in ((3, True), (4, False), (-4, True), (-5, False)):
        assert oracle.safe([weight], 0, 1, 3) is fits
        assert oracle.wrap_exact([weight], 0, 1, 3) is fits
        assert (oracle.least_bits([weight], 0, 1) <= 3) is fits


def test_what_is_not_said_of_a_datapath_is_a_start_at_0() -> None:
    """A climb starts at no bias, and at one that is given unless it comes last."""
    level = [oracle.Level(5, "wrap", True, None, False)]
    assert oracle.climb([3], level)[0] == Answer(3, 0, -1, 0, 3)
    assert oracle.climb([3], level, bias=2)[0] == Answer(5, 0, -1, 2, 5)
    assert oracle.climb([3], level, bias=2, bias_last=True)[0] == Answer(5, 0, -1, 0, 5)


def test_a_level_ends_at_its_last_item() -> None:
    """Each level's answer has what its last group hands over, 0 where there is none."""
    levels = [oracle.Level(5, "wrap", True, 2, False), oracle.Level(6, "wrap", True, None, True)]
    for products, ends in (([], [0, 0]), ([1], [1, 1]), ([1, 2, 4, 5, 7], [7, 19])):
        assert [one.output for one in oracle.climb(products, levels)[1]] == ends


def test_a_level_reads_the_letters_of_its_rule() -> None:
    """Whatever string they are in."""
    level = oracle.Level(3, "".join(list("wrap")), True, None, False)
    assert oracle.climb([5, -5, 1], [level])[0] == Answer(1, 2, 0, 0, 5)
