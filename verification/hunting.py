"""Search by Hypothesis for the first case that is wanted, and make a case that was found small."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

import hypothesis
import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, Verbosity

__all__ = ["Edit", "Hunt", "below", "hunt", "smallest"]

Case = TypeVar("Case")
Edit = Callable[[Case], Case | None]  # a simpler case, or None where there is nothing to simplify


@dataclass(frozen=True, slots=True)
class Hunt(Generic[Case]):
    """The first case that was wanted, None if none was, and how many cases were tried."""

    found: Case | None
    examples: int


class _Found(BaseException):
    """Ends a hunt. Not an Exception: Hypothesis would run the case again and report it."""


def hunt(
    cases: st.SearchStrategy[Case],
    wanted: Callable[[Case], bool],
    *,
    examples: int,
    seed: int,
    targeted: bool = True,
    told: Callable[[int], None] | None = None,
) -> Hunt[Case]:
    """Try at most `examples` cases, the same ones for one seed and number, until one is wanted.

    Fewer where the strategy has no more. What `wanted` tells to `hypothesis.target` is followed
    if `targeted`; `told` is given the number of each case. Nothing is shrunk, printed or kept, and
    no profile of the caller's is read.
    """
    tried = 0
    found: Case | None = None

    def attempt(case: Case) -> None:
        nonlocal tried, found
        tried += 1
        if told is not None:
            told(tried)
        if wanted(case):
            found = case
            raise _Found

    how = hypothesis.settings(
        max_examples=examples,
        phases=(Phase.generate, Phase.target) if targeted else (Phase.generate,),
        database=None,
        deadline=None,
        derandomize=False,
        report_multiple_bugs=False,
        print_blob=False,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
        backend="hypothesis",
    )

    def run() -> None:
        with suppress(_Found):
            hypothesis.seed(seed)(how(hypothesis.given(cases)(attempt)))()

    if hypothesis.currently_in_test_context():
        with ThreadPoolExecutor(1) as other:  # where Hypothesis takes no offence at nested tests
            other.submit(run).result()
    else:
        run()
    return Hunt(found, tried)


def smallest(
    case: Case, still: Callable[[Case], bool], edits: Callable[[Case], Iterable[Edit[Case]]]
) -> Case:
    """Simplify a case until no single edit leaves one for which `still` holds.

    `edits` lists those of a case; each must lower something that cannot fall for ever.
    """
    changed = True
    while changed:
        changed = False
        for edit in edits(case):
            simpler = edit(case)
            if simpler is not None and still(simpler):
                case, changed = simpler, True
    return case


@lru_cache(maxsize=1024)
def below(n: int) -> st.SearchStrategy[int]:
    """An integer from 0 to n - 1, made of booleans alone.

    Hypothesis mixes constants of whatever modules are loaded into the integers it draws; a seed
    would then give other cases in another program.
    """
    bits = [st.booleans()] * (n - 1).bit_length()
    return st.tuples(*bits).map(lambda drawn: sum(bit << i for i, bit in enumerate(drawn)) % n)
