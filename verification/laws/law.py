"""A law as formulas, its false twin, and the solver that must tell them apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from typing import Any

from accsim.extras import require

__all__ = ["Claim", "Decision", "Law", "Outcome", "prove", "refute"]

Z3 = Any  # the module z3, which is handed to whatever writes formulas; it has no types
Formula = Any  # a z3.BoolRef
Number = Any  # a z3.ArithRef
Value = int | bool | Fraction

SECONDS = 10.0  # for each question to the solver; the slowest needs a tenth of one


class Decision(str, Enum):
    """What the solver says of a claim."""

    PROVED = "proved"
    """It holds for all values of its variables."""
    REFUTED = "refuted"
    """It fails for the values that come with this word."""
    VACUOUS = "vacuous"
    """Nothing satisfies what it assumes, so that it says nothing."""
    UNKNOWN = "unknown"
    """The solver gave up, or its time ran out."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Claim:
    """`then` holds wherever `given` does, for all values of the variables in both."""

    given: Formula
    then: Formula


@dataclass(frozen=True, slots=True)
class Law:
    """One law of the register, and a false one that looks like it.

    `statement` and `twin` write claims with the module z3; the law is all claims of its statement.
    `fails`, called with the values of the twin's variables, tells whether the twin's claim is
    false there: by the plain integers of `accsim.arith` and `accsim.bounds`, without a formula.
    """

    name: str
    words: str
    statement: Callable[[Z3], Iterable[Claim]]
    twin_words: str
    twin: Callable[[Z3], Claim]
    fails: Callable[..., bool]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The decision on `claims` claims, or on the last of these, where one was not proved.

    `values`: by name, the variables of the claim that was refuted.
    """

    decision: Decision
    claims: int
    values: Mapping[str, Value] = field(default_factory=dict)


def prove(law: Law, *, seconds: float = SECONDS) -> Outcome:
    """Decide every claim of a law, with so many seconds for each question to the solver.

    Raises: MissingExtraError without z3.
    """
    z3 = _solver()
    outcome = Outcome(Decision.UNKNOWN, 0)
    for number, claim in enumerate(law.statement(z3), 1):
        decision, values = _decide(z3, claim, seconds)
        outcome = Outcome(decision, number, values)
        if decision is not Decision.PROVED:
            break
    return outcome


def refute(law: Law, *, seconds: float = SECONDS) -> Outcome:
    """Decide the false twin of a law, which must be refuted.

    Raises: MissingExtraError without z3.
    """
    z3 = _solver()
    decision, values = _decide(z3, law.twin(z3), seconds)
    return Outcome(decision, 1, values)


def _solver() -> Z3:
    return require("z3", extra="smt", purpose="a proof by solver")


def _decide(z3: Z3, claim: Claim, seconds: float) -> tuple[Decision, Mapping[str, Value]]:
    """Whether an exception to the claim exists; before that, whether it has a case at all."""
    # two solvers, since one that is asked twice drops its faster ways
    cases, exceptions = z3.Solver(), z3.Solver()
    cases.add(claim.given)
    exceptions.add(claim.given, z3.Not(claim.then))
    for solver in (cases, exceptions):
        solver.set("timeout", round(1000 * seconds))
    if (answer := cases.check()) != z3.sat:
        return (Decision.VACUOUS if answer == z3.unsat else Decision.UNKNOWN), {}
    if (answer := exceptions.check()) == z3.sat:
        return Decision.REFUTED, _values(z3, claim, exceptions.model())
    return (Decision.PROVED if answer == z3.unsat else Decision.UNKNOWN), {}


def _values(z3: Z3, claim: Claim, model: Any) -> dict[str, Value]:
    """Every variable of the claim, those too that the model leaves open."""
    variables = z3.z3util.get_vars(z3.And(claim.given, claim.then))
    return {str(v): _value(z3, model.eval(v, model_completion=True)) for v in variables}


def _value(z3: Z3, value: Any) -> Value:
    if z3.is_bv_value(value):
        return int(value.as_signed_long())
    if z3.is_int_value(value):
        return int(value.as_long())
    if z3.is_rational_value(value):
        return Fraction(value.numerator_as_long(), value.denominator_as_long())
    return bool(z3.is_true(value))


def least(z3: Z3, first: Number, second: Number) -> Number:
    """The lesser of two."""
    return z3.If(first <= second, first, second)


def greatest(z3: Z3, first: Number, second: Number) -> Number:
    """The greater of two."""
    return z3.If(first >= second, first, second)


def size(z3: Z3, number: Number) -> Number:
    """The absolute value."""
    return z3.If(number >= 0, number, -number)


def inside(z3: Z3, low: Any, high: Any, *numbers: Number) -> Formula:
    """Whether every number lies in the closed range [low, high]."""
    return z3.And(*[z3.And(low <= number, number <= high) for number in numbers])
