"""How many examples the searches need: for every seeded bug, and for the only input that overflows.

python benchmarks/search_power.py [--seeds N] [--examples N] [--bugs N] [--taps N ...] [--json FILE]

Every bug of tests/verification/seeded_bugs.py, each seed: the number of the example that shows it.
Then tight instances, one channel of K int4 weights, 4-bit unsigned inputs and a register that the
worst input alone overflows, by 1: searched by inputs of random ends, by the same with targets, and
as `verification.search` does. Exit code 1 if a bug is missed, or a tight instance by the last.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from accsim import Accumulator, IntLayer, signed, unsigned
from verification import strategies
from verification.hunting import hunt
from verification.search import overflows
from verification.tables import table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "verification"))
from seeded_bugs import BUGS, Bug

CORNER_EXAMPLES = 50
WAYS = ("plain", "targeted", "corners")
LONG = 256  # taps; beyond, a search of single ends takes most of a minute, and finds nothing
FEW = 2  # seeds that are spent on such

Numbers = list[int | None]


def numbers_of(bug: Bug, seeds: range, examples: int) -> Numbers:
    """The number of the example that shows a bug, for each seed; None where none does."""
    if not bug.matters():
        raise AssertionError(f"{bug.name} must give a wrong answer in its own case")
    return [bug.found(examples, seed) for seed in seeds]


def tight(taps: int) -> tuple[IntLayer, Accumulator]:
    """A layer and a register that exactly one input overflows."""
    weight = np.random.default_rng(taps).choice([-7, -5, -3, 3, 5, 7], (1, taps))
    top = int(15 * weight.clip(min=0).sum())
    register = Accumulator(max(16, top.bit_length() + 2))
    bias = [register.max - top + 1]
    return IntLayer(weight, weight_spec=signed(4), input_spec=unsigned(4), bias=bias), register


def tight_numbers(taps: int, way: str, seeds: range, examples: int) -> Numbers:
    """The number of the example that overflows a tight instance, for each seed."""
    layer, register = tight(taps)
    corners = way == "corners"
    cases = strategies.attacks(layer) if corners else strategies.ends(layer, free=taps)
    found: Numbers = []
    for seed in seeds if corners or taps <= LONG else seeds[:FEW]:
        result = hunt(
            cases,
            lambda x: overflows(layer, x, register),
            examples=min(examples, CORNER_EXAMPLES) if corners else examples,
            seed=seed,
            targeted=way != "plain",
        )
        found.append(None if result.found is None else result.examples)
    return found


def shown(numbers: Numbers) -> tuple[str, str, str]:
    """Of how many seeds it is found, the median and the worst number; - where it is missed."""
    # a miss is worse than any number
    ranked = sorted(numbers, key=lambda number: (number is None, number))
    median, worst = (str(ranked[i] or "-") for i in (len(ranked) // 2, len(ranked) - 1))
    return f"{sum(n is not None for n in numbers)} of {len(numbers)}", median, worst


def main() -> None:
    """Both campaigns, as tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--bugs", type=int, default=len(BUGS), help="only the first of them")
    parser.add_argument("--taps", type=int, nargs="+", default=[4, 8, 16, 64, 256, 1024])
    parser.add_argument("--json", type=Path, help="write the numbers here")
    arguments = parser.parse_args()
    seeds, examples = range(arguments.seeds), arguments.examples
    start, progress = time.perf_counter(), Console(stderr=True)
    bugs = {
        bug: numbers_of(bug, seeds, examples)
        for bug in track(BUGS[: arguments.bugs], "bugs", console=progress, transient=True)
    }
    pairs = [(taps, way) for taps in arguments.taps for way in WAYS]
    tights = {
        (taps, way): tight_numbers(taps, way, seeds, examples)
        for taps, way in track(pairs, "tight", console=progress, transient=True)
    }
    console = Console(width=150)
    columns = ("found", "median", "worst")
    made = table(f"Seeded bugs, {examples} examples", "bug", "kind", *columns, "imitates")
    for bug, numbers in bugs.items():
        made.add_row(bug.name, bug.kind, *shown(numbers), bug.imitates)
    console.print(made)
    made = table("Tight instances", "taps", "search", *columns)
    for (taps, way), numbers in tights.items():
        made.add_row(str(taps), way, *shown(numbers))
    console.print(made)
    missed = [bug.name for bug, numbers in bugs.items() if None in numbers]
    missed += [
        f"{k} taps" for (k, way), found in tights.items() if way == "corners" and None in found
    ]
    seconds = time.perf_counter() - start
    console.print(f"{len(bugs)} bugs, {len(seeds)} seeds: {len(missed)} missed ({seconds:.0f} s)")
    if arguments.json:
        content = {
            "examples": examples,
            "bugs": {bug.name: numbers for bug, numbers in bugs.items()},
            "tight": {f"{taps} {way}": numbers for (taps, way), numbers in tights.items()},
        }
        arguments.json.write_text(json.dumps(content, indent=1))
    if missed:
        raise SystemExit(f"must be found: {', '.join(missed)}")


if __name__ == "__main__":
    main()
