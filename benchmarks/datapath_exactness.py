"""Random datapaths of one to four levels: every output beside the oracle, level by level.

python benchmarks/datapath_exactness.py [--cases N] [--seed S]

A case is one output of one layer through one datapath: the value as `linear` or `conv2d` gives it,
by the fastest way, and every field of every level as `simulate` gives it, beside
`oracle.climb` on Python ints. Half of the datapaths are such as vector kernels know.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable

import numpy as np
from exactness import RANGES, conv, draw, layer_in
from rich.progress import Progress

from accsim import Accumulator, Datapath, IntLayer, between, conv2d, linear, simulate
from accsim.route import route
from accsim.spec import MAX_BITS
from verification.properties import assert_exact

TAPS = [0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 40]
BITS = [2, 3, 5, 8, 11, 12, 15, 16, 17, 18, 20, 24, 31, 32, 33, 40]
RULES = ["wrap", "saturate"]
Rng = np.random.Generator


def any_levels(rng: Rng) -> list[Accumulator]:
    """One to four levels of every kind, read-outs among them."""
    count = int(rng.integers(1, 5))
    reads = int(rng.integers(0, count)) if rng.random() < 0.3 else 0
    return [
        Accumulator(
            int(rng.choice(BITS)),
            str(rng.choice(RULES)),
            signed=bool(rng.random() < 0.85),
            terms=int(rng.integers(1, 10)) if i < count - 1 - reads else None,
            rail=str(rng.choice(["step", "sum"])),
        )
        for i in range(count)
    ]


def known_levels(rng: Rng) -> list[Accumulator]:
    """Pairs of bytes in int16, lanes of at most 16 bits that are spilled, and what rests."""
    pair = Accumulator(16, "saturate", terms=2, rail=str(rng.choice(["step", "sum"])))
    lane = Accumulator(
        int(rng.choice([8, 12, 15, 16, 16, 16])),
        str(rng.choice(RULES)),
        signed=bool(rng.random() < 0.9),
        terms=int(rng.integers(1, 20)),
    )
    rest = Accumulator(int(rng.choice([17, 24, 31, 32, 32, 33])), str(rng.choice(RULES)))
    return [[pair, rest], [pair, lane, rest], [lane, rest]][rng.integers(3)]


def datapath(rng: Rng) -> Datapath:
    """Any levels or known ones, in index order or any other."""
    make = any_levels if rng.random() < 0.5 else known_levels
    order = rng.permutation(int(rng.integers(1, 24))).tolist() if rng.random() < 0.4 else None
    late = rng.random() < 0.2
    return Datapath(make(rng), order=order, bias="last" if late else "first")


def case(rng: Rng) -> tuple[IntLayer, np.ndarray, Datapath, Callable[..., np.ndarray], dict]:
    """A layer, inputs for it, a datapath, and how its outputs alone are asked for."""
    through = datapath(rng)
    (low, high), (least, most) = (RANGES[rng.integers(len(RANGES))] for _ in range(2))
    if rng.random() < 0.5:
        (low, high), (least, most) = (0, 255), (-128, 127)
    if rng.random() < 0.25:
        shape, inputs, geometry = conv(rng)
        inputs = (1, *inputs[1:])
        function: Callable[..., np.ndarray] = conv2d
    else:
        taps = int(rng.choice(TAPS))
        shape, inputs, geometry = (
            (int(rng.integers(1, 40)), taps),
            (int(rng.integers(1, 40)), taps),
            {},
        )
        function = linear
    specs = between(least, most), between(low, high)
    layer = layer_in(rng, through.register, specs, shape, geometry)
    return layer, draw(rng, low, high, inputs), through, function, geometry


def compare(
    layer: IntLayer, x: np.ndarray, through: Datapath, values: np.ndarray
) -> tuple[int, int, int]:
    """Every field of every output beside the oracle's; how many, and what overflowed."""
    assert_exact(layer, x, through)
    run = simulate(layer, x, through, peaks=False)
    np.testing.assert_array_equal(values, run.output)
    differ = run.output != simulate(layer, x, Accumulator(MAX_BITS), peaks=False).output
    return values.size, np.count_nonzero(run.overflow_count), np.count_nonzero(differ)


def main() -> None:
    """Compare until so many cases are done; count them by the way that outputs took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    ways: Counter[str] = Counter()
    done: Counter[str] = Counter()
    with Progress() as progress:
        bar = progress.add_task("comparing", total=arguments.cases)
        while done["cases"] < arguments.cases:
            layer, x, through, function, geometry = case(rng)
            threads = int(rng.integers(1, 3))
            how = {"bias": layer.bias, "threads": threads, **geometry}
            values = function(x, layer.weight, through, **how)
            cases, overflowed, differ = compare(layer, x, through, values)
            seen = between(int(x.min(initial=0)), int(x.max(initial=0)))
            chosen = (
                "levels"
                if through.single
                else str(route(layer, seen, through, outputs=values.size))
            )
            ways["one register" if through.single else chosen.partition(":")[0]] += cases
            done.update(
                cases=cases,
                overflowed=overflowed,
                differ=differ,
                **{
                    f"levels {len(through.levels)}": cases,
                    "ordered": cases * (through.order is not None),
                },
            )
            progress.advance(bar, cases)
    print(
        f"{done['cases']} cases, no difference; in {done['overflowed']} something overflowed,"
        f" {done['differ']} are not the exact sum"
    )
    print(f"  in an order of their own {done['ordered']}")
    for count in range(1, 5):
        print(f"  of {count} levels {done[f'levels {count}']}")
    for name, count in ways.most_common():
        print(f"  {name:20} {count}")


if __name__ == "__main__":
    main()
