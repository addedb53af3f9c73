"""The laws proved, their false twins refuted and replayed; a second opinion without the solver."""

import random
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import floor
from pathlib import Path
from types import SimpleNamespace

import pytest
import z3

from accsim import Accumulator, arith, between, bounds, signed, unsigned
from accsim.spec import bits_to_hold
from verification.laws import LAWS, Claim, Decision, prove, refute, registers, sums, weights, widths

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/proofs.md").read_text()
CLAIMS = 763


def by_name(law):
    """A law's name, for test ids."""
    return law.name


@pytest.mark.parametrize("law", LAWS, ids=by_name)
def test_a_law_is_proved_and_its_twin_is_not(law):
    """No claim has an exception; the twin has one, and plain integers agree that it is one."""
    assert prove(law).decision is Decision.PROVED
    twin = refute(law)
    assert (twin.decision, law.fails(**twin.values)) == (Decision.REFUTED, True)


@pytest.mark.parametrize("law", LAWS, ids=by_name)
def test_a_broken_law_is_refuted(law):
    """The test above can fail: a law that claims what its twin claims, and a twin that is true."""
    broken = replace(law, statement=lambda z3: [law.twin(z3), *law.statement(z3)])
    outcome = prove(broken)
    assert (outcome.decision, law.fails(**outcome.values)) == (Decision.REFUTED, True)
    true = replace(law, twin=lambda z3: next(iter(law.statement(z3))))
    assert refute(true).decision is Decision.PROVED


def test_the_words_are_kept_apart():
    """What nothing satisfies is vacuous, what takes too long unknown: neither is proved."""
    v, s, p, modulus = z3.Ints("v s p modulus")
    vacuous = Claim(z3.And(v > 0, v < 0), v == 0)
    hard = Claim(modulus > 0, ((s % modulus) + p) % modulus == (s + p) % modulus)
    for claim, decision in ((vacuous, Decision.VACUOUS), (hard, Decision.UNKNOWN)):
        law = replace(LAWS[0], statement=lambda _, claim=claim: [claim])
        outcome = prove(law, seconds=0.2)
        assert (outcome.decision, outcome.claims, outcome.values) == (decision, 1, {})
        assert str(outcome.decision) == decision.value
    last = replace(LAWS[2], statement=lambda z3: [*LAWS[3].statement(z3), LAWS[2].twin(z3)])
    assert (prove(last).decision, prove(last).claims) == (Decision.REFUTED, 123)


def test_exceptions_are_plain_values():
    """Integers, signed bits, fractions and truth values, each as Python's own."""
    n, half, bits, truth = z3.Int("n"), z3.Real("half"), z3.BitVec("bits", 4), z3.Bool("truth")
    found = z3.And(n == -3, half == z3.Q(-1, 2), bits == 9, truth)
    outcome = refute(replace(LAWS[0], twin=lambda _: Claim(z3.BoolVal(True), z3.Not(found))))
    values = {"n": -3, "half": Fraction(-1, 2), "bits": -7, "truth": True}
    assert (outcome.decision, outcome.values) == (Decision.REFUTED, values)
    nothing = replace(LAWS[0], statement=lambda _: [])
    assert prove(nothing).decision is Decision.UNKNOWN


def table(heading):
    """The rows of the page's table under a heading, cells stripped, without its first two lines."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[2:]]


def test_the_page_lists_these_laws_and_no_others():
    """Name, words, number of claims and twin, in the order of the tuple; and their sum."""
    told = [(row[0].strip("`"), row[1], row[3], row[4]) for row in table("Proved by the solver")]
    claims = [sum(1 for _ in law.statement(z3)) for law in LAWS]
    expected = [
        (law.name, law.words, str(n), law.twin_words) for law, n in zip(LAWS, claims, strict=True)
    ]
    assert told == [tuple(cell.replace("|", r"\|") for cell in row) for row in expected]
    assert sum(claims) == CLAIMS
    assert f"{len(LAWS)} laws, {CLAIMS} claims" in PAGE
    assert max(Counter(law.name for law in LAWS).values()) == 1


def plain(draw):
    """As much of the module z3 as the laws use, on Python numbers: variables are drawn, formulas
    are bools, and no solver is near.
    """
    lane = 64

    def bit_vector(_, bits):
        nonlocal lane
        lane = bits
        return draw()

    def sign_extend(more, number):
        top = 2 ** (lane - more - 1)
        return number - 2 * top if number & top else number

    return SimpleNamespace(
        Int=lambda _: draw(),
        Ints=lambda names: [draw() for _ in names.split()],
        Reals=lambda names: [Fraction(draw(), 2) for _ in names.split()],
        Bool=lambda _: draw() % 2 == 0,
        BitVec=bit_vector,
        BitVecs=lambda names, bits: [bit_vector(name, bits) for name in names.split()],
        BitVecVal=lambda value, _: value,
        IntVal=lambda value: value,
        Q=Fraction,
        And=lambda *parts: all(parts),
        Or=lambda *parts: any(parts),
        Not=lambda part: not part,
        Implies=lambda given, then: then or not given,
        If=lambda test, then, other: then if test else other,
        ToInt=floor,
        Extract=lambda high, low, number: (number >> low) & (2 ** (high - low + 1) - 1),
        ZeroExt=lambda _, number: number,
        SignExt=sign_extend,
    )


def sampled(statement, least):
    """How often each claim had a case among random numbers, until all had `least`; and failures.

    In every other round a sixth of the numbers is near a power of two, in all others none; the
    rest is from -6 to 6.
    """
    chance = random.Random(0)

    def small():
        return chance.randint(-6, 6)

    def mixed():
        large = chance.choice((-1, 1)) * 2 ** chance.randrange(63)
        return small() + (large if chance.randrange(6) == 0 else 0)

    cases, failures = Counter(), 0
    for number in range(100_000):
        claims = list(statement(plain(mixed if number % 2 else small)))
        cases.update(k for k, claim in enumerate(claims) if claim.given)
        failures += any(claim.given and not claim.then for claim in claims)
        if len(cases) == len(claims) and min(cases.values()) >= least:
            break
    return cases, failures


@pytest.mark.parametrize("law", LAWS, ids=by_name)
def test_random_numbers_agree_with_the_solver(law):
    """Every claim has at least 100 cases among random numbers in plain Python; none is false."""
    cases, failures = sampled(law.statement, 100)
    assert len(cases) == sum(1 for _ in law.statement(z3))
    assert (min(cases.values()) >= 100, failures) == (True, 0)


def test_random_numbers_see_false_claims():
    """The test above can fail: most twins fail among 1,000 random cases."""
    quick = [law for law in LAWS if law.name != "round-toward-zero"]  # a case needs Σu = 0
    failures = [sampled(lambda z3, law=law: [law.twin(z3)], 1000)[1] for law in quick]
    assert sum(n > 0 for n in failures) > len(LAWS) / 2


def test_formulas_are_those_of_the_code():
    """What laws take for wrap, saturate, mask, products, least width and budgets, on integers."""
    z = plain(int)
    for bits, sign, v in [
        (b, s, v) for b in range(2, 6) for s in (True, False) for v in range(-70, 71)
    ]:
        register = Accumulator(bits, signed=sign)
        kept = arith.wrap(v, register)
        solved = z3.simplify(registers.wrap(z3.IntVal(v), register)).as_long()
        assert (registers.wrap(v, register), registers.mask(v, register), solved) == (kept,) * 3
        clamped = registers.saturate(z, v, register.min, register.max)
        assert clamped == arith.saturate(v, register)
    for low, high in [(a, b) for a in range(-70, 71) for b in range(a, 71)]:
        assert widths.least_width(z, low, high, -low - 1) == bits_to_hold(low, high)
    for q, c, d in product(range(-4, 5), repeat=3):
        assert c > d or sums.ends(z, q, c, d) == bounds.extremes([q], between(c, d))
    for inputs in (signed(2), unsigned(3), between(-3, 1)):
        for alpha, beta in [(a, b) for a in range(40) for b in range(40)]:
            told = weights.allowed(z, alpha, beta, inputs.min, inputs.max, 2**5)
            assert told == bounds.sign_budgets(6, inputs).allow(alpha, beta)


def test_without_the_solver_there_is_one_line():
    """The laws can be read; to prove one is a MissingExtraError with the pip command."""
    code = """
import sys
sys.modules["z3"] = None
from accsim.errors import MissingExtraError
from verification.laws import LAWS, prove, refute
for decide in (prove, refute):
    try:
        decide(LAWS[0])
    except MissingExtraError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout == "a proof by solver needs z3: pip install 'accsim[smt]'\n" * 2
