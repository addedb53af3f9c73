"""Overflow found by trying: of a layer in a register, and of a user's simulator in its answers.

Nothing here computes a bound. Both searches are for what proofs assume: that the simulator, and
whatever decides, are right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from hypothesis import target

from accsim._check import IntArray, integer, integer_array
from accsim.arith import fold
from accsim.datapath import Datapath
from accsim.errors import AccsimError, DtypeError, ShapeError, SimulatorError, SpecError
from accsim.layer import IntLayer
from accsim.simulate import LevelRun, Run, simulate
from accsim.spec import Accumulator, between
from accsim.tree import check_takes
from verification import strategies
from verification.datapaths import places_of
from verification.hunting import hunt, smallest
from verification.operands import Operands, edits, operands
from verification.properties import tap_inputs
from verification.witness import Witness, alone_witness
from verification.worst import idle_input

__all__ = ["Disagreement", "Sample", "check_simulator", "sample", "search"]

Simulator = Callable[[IntArray, IntArray, Accumulator], Any]
MOST_EXAMPLES = 10**9
MOST_SEED = 2**64 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The overflow that was found, None if none was, and how many inputs were tried till then."""

    witness: Witness | None
    examples: int


def search(
    layer: IntLayer, accumulator: Accumulator | Datapath, *, examples: int = 2000, seed: int = 0
) -> Witness | None:
    """Look for a legal input that overflows the register, by simulating at most `examples` of them.

    Or any level of a datapath. None means that these inputs do not overflow, never that none does:
    `decide` proves. Half of the inputs are worst by the signs of the weights; the others are near
    those, worst up to a step, of ends of the range, or arbitrary, and Hypothesis climbs from
    whichever comes nearest to a rail. The same seed and `examples` give the same answer. In the
    witness no input can move towards 0 alone.

    Raises: RangeError for a bias outside the register; SpecError for `examples` or `seed`.

    >>> from accsim import IntLayer, signed, unsigned
    >>> layer = IntLayer([[7, 5, -6, 2]], weight_spec=signed(4), input_spec=unsigned(1))
    >>> search(layer, Accumulator(4)).x.tolist()
    [1, 1, 0, 0]
    >>> search(layer, Accumulator(5)) is None
    True
    """
    return sample(layer, accumulator, examples=examples, seed=seed).witness


def sample(
    layer: IntLayer,
    accumulator: Accumulator | Datapath,
    *,
    examples: int = 2000,
    seed: int = 0,
    told: Callable[[int], None] | None = None,
) -> Sample:
    """What `search` does, with the number of inputs tried; `told` is given it as it grows."""
    check_takes(layer, accumulator)
    hunted = hunt(
        strategies.attacks(layer),
        lambda x: overflows(layer, x, accumulator),
        examples=integer(examples, "examples", 1, MOST_EXAMPLES),
        seed=integer(seed, "seed", 0, MOST_SEED),
        told=told,
    )
    witness = None if hunted.found is None else settled_witness(layer, hunted.found, accumulator)
    return Sample(witness, hunted.examples)


def overflows(layer: IntLayer, x: IntArray, accumulator: Accumulator | Datapath) -> bool:
    """Whether any step of any output overflows; tells Hypothesis how near the sums come."""
    run = simulate(layer, x, accumulator)
    if isinstance(accumulator, Accumulator):
        _aim(run, accumulator, "the register")
    else:
        for i, (level, register) in enumerate(zip(run.levels, accumulator.levels, strict=True)):
            _aim(level, register, f"level {i}")
    return bool(run.overflow_count.any())


def _aim(run: Run | LevelRun, register: Accumulator, name: str) -> None:
    """Tell Hypothesis how far exact sums are beyond both rails."""
    assert run.peak_low is not None  # simulated with peaks
    assert run.peak_high is not None
    target(float(int(run.peak_high.max()) - register.max), label=f"above {name}")
    target(float(register.min - int(run.peak_low.min())), label=f"below {name}")


def settled_witness(layer: IntLayer, x: IntArray, accumulator: Accumulator | Datapath) -> Witness:
    """Of an input that overflows: the first output that does, its inputs as near 0 as they go."""
    counts = simulate(layer, x, accumulator).overflow_count
    place = tuple(int(i) for i in np.argwhere(counts)[0])
    channel, taps = next((c, taps) for at, c, taps in tap_inputs(layer, x) if at == place)
    spec = layer.input_spec
    rest = idle_input(spec)
    # a tap on padding reads 0, and stays, where the range lacks it
    rests = [rest if spec.min <= value <= spec.max else value for value in taps]
    alone = IntLayer(
        layer.rows[channel : channel + 1],
        weight_spec=layer.weight_spec,
        input_spec=between(min(spec.min, *taps), max(spec.max, *taps)),
        bias=None if layer.bias is None else layer.bias[channel : channel + 1],
    )
    return alone_witness(alone, channel, _settled(alone, taps, rests, accumulator), accumulator)


def _settled(
    alone: IntLayer, x: list[int], rests: list[int], accumulator: Accumulator | Datapath
) -> list[int]:
    """Inputs of which none can move towards `rests`, the others staying, and still overflow.

    A running sum is linear in one input, so those of its values that do not overflow are one
    interval: where that holds the resting value, whatever lies between its end and x[k] overflows.
    So it is with a datapath, the first overflow of which finds exact sums.
    """

    def still(k: int, value: int) -> bool:
        return bool(simulate(alone, [*x[:k], value, *x[k + 1 :]], accumulator).overflow_count[0])

    step = int(simulate(alone, x, accumulator).first_overflow[0])
    until = set(places_of(accumulator, alone.taps)[: step + 1])
    x = [value if k in until else rests[k] for k, value in enumerate(x)]
    before: list[int] = []
    while before != x:  # an input that moved may let another one move
        before = list(x)
        for k, value in enumerate(x):
            if value != rests[k]:
                x[k] = _nearest(partial(still, k), rests[k], value)
    return x


def _nearest(still: Callable[[int], bool], rest: int, value: int) -> int:
    """The value nearest to `rest`, on the way from `value`, for which `still` holds."""
    if still(rest):
        return rest
    toward = 1 if rest > value else -1
    if not still(value + toward):  # most often
        return value
    fails, holds = rest, value + toward
    while abs(holds - fails) > 1:
        middle = (holds + fails) // 2
        fails, holds = (fails, middle) if still(middle) else (middle, holds)
    return holds


@dataclass(frozen=True, slots=True, eq=False)
class Disagreement:
    """Operands for which a simulator's outputs are not those of the definition.

    `place` (row, channel) is the first output that differs; `example` the number of the example
    that showed it, before it was made small. `str` is Python to paste.
    Shapes: x (B, K), weight (C, K), expected and got (B, C).
    """

    x: IntArray
    weight: IntArray
    accumulator: Accumulator
    expected: IntArray
    got: IntArray
    place: tuple[int, int]
    example: int

    def __str__(self) -> str:
        row, channel = self.place
        register = self.accumulator
        sign = "" if register.signed else ", signed=False"
        return "\n".join(
            [
                f"# output[{row}, {channel}] must be {self.expected[self.place]},"
                f" not {self.got[self.place]}",
                f"x = {_pasted(self.x)}",
                f"weight = {_pasted(self.weight)}",
                f'accumulator = Accumulator({register.bits}, "{register.overflow}"{sign})',
                f"expected = {self.expected.tolist()}",
                f"got = {self.got.tolist()}",
            ]
        )


def check_simulator(
    function: Simulator, *, examples: int = 2000, seed: int = 0
) -> Disagreement | None:
    """Look for operands for which function(x, weight, accumulator) is not what the definition says.

    `function` is anybody's simulator, kernel or model of hardware: given x (B, K), weight (C, K),
    int64 arrays of its own, and an `Accumulator`, it returns the registers after the last step,
    (B, C) integers of any type. None means that it was right for this many examples, no more. What
    is found is made small: without any tap, row or channel, or with a code a step nearer to 0, the
    function is right. The same seed and `examples` give the same operands.

    Raises: SimulatorError if the function raises, with small operands for which it does and its
    own error as the cause; ShapeError or DtypeError if it returns other things than (B, C)
    integers; SpecError for `examples`, `seed`, or something that cannot be called.

    >>> found = check_simulator(lambda x, weight, accumulator: x @ weight.T)
    >>> print(found)
    # output[0, 0] must be -2, not 2
    x = [[-1]]
    weight = [[-2]]
    accumulator = Accumulator(2, "wrap")
    expected = [[-2]]
    got = [[2]]
    """
    if not callable(function):
        raise SpecError(
            f"function must be callable with (x, weight, accumulator), not {function!r}"
        )
    fault: Disagreement | AccsimError | None = None
    tried = 0

    def wrong(case: Operands) -> bool:
        """Whether the function errs; the first time in any way, later in the same way again."""
        nonlocal fault, tried
        tried += fault is None
        now = _judge(function, case, tried)
        if now is None or (fault is not None and _kind(now) != _kind(fault)):
            return False
        fault = now
        return True

    hunted = hunt(
        operands(),
        wrong,
        examples=integer(examples, "examples", 1, MOST_EXAMPLES),
        seed=integer(seed, "seed", 0, MOST_SEED),
    )
    if hunted.found is not None:
        smallest(hunted.found, wrong, edits)
    if isinstance(fault, AccsimError):
        raise fault
    return fault


def _judge(function: Simulator, case: Operands, example: int) -> Disagreement | AccsimError | None:
    """What is wrong with the function's answer, if anything."""
    try:
        answer = function(case.x.copy(), case.weight.copy(), case.accumulator)
    except Exception as error:  # whatever it is
        raised = SimulatorError(
            f"function must return outputs, not raise {error!r}, {_where(case)}"
        )
        raised.__cause__ = error
        return raised
    try:
        got = integer_array(answer, "what function returns")
    except (DtypeError, ShapeError) as error:
        return type(error)(f"{error}, {_where(case)}")
    expected = np.array(
        [
            [fold(q, v, case.accumulator).output for q in case.weight.tolist()]
            for v in case.x.tolist()
        ]
    )
    if got.shape != expected.shape:
        must = f"what function returns must be of shape {expected.shape}"
        return ShapeError(f"{must}, not {got.shape}, {_where(case)}")
    if differing := np.argwhere(got != expected).tolist():
        place = (differing[0][0], differing[0][1])
        return Disagreement(case.x, case.weight, case.accumulator, expected, got, place, example)
    return None


def _where(case: Operands) -> str:
    return f"for x {case.x.tolist()}, weight {case.weight.tolist()}, {case.accumulator}"


def _kind(fault: Disagreement | AccsimError) -> tuple[type, type]:
    return type(fault), type(getattr(fault, "__cause__", None))


def _pasted(array: IntArray) -> str:
    """The array as Python; no list is of shape (B, 0) and of integers."""
    return str(array.tolist()) if array.size else f"np.zeros({array.shape}, dtype=int)"
