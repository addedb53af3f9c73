"""Published bounds beside the exact decision: never narrower than safe, and how much wider.

python benchmarks/published_bounds.py [--layers N] [--seed S] [--json FILE]

A layer is one random channel (`random_channels`). A bound errs where it calls a register safe that
some input overflows, at any width; its slack is the bits that it asks for beyond the least that are
safe. The least are those of `bounds.least_bits`; a share of the layers is decided by
`verification.decide`, proved at that width and refuted by a witness one bit below, and by the
oracle. The trap has a table of its own: the norm of frozen integers against the budget of A2Q+.
Ctrl-C ends the campaign early, with the tables of what is done.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import floor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from random_channels import CENTRED, Array, Block, draw
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from accsim import Accumulator, IntLayer, IntSpec, bounds, signed, unsigned
from verification import Verdict, decide, oracle
from verification.bench import machine

TYPES, PUBLISHED_TYPES = "types", "types, Eq. 20"
A2Q, A2Q_PLUS = "A2Q", "A2Q+"
NAMES = (TYPES, PUBLISHED_TYPES, A2Q, A2Q_PLUS)
GROUPS = ("unsigned", "signed", "with 0", "without 0")
LENGTHS = (16, 64, 256, 1024, 4096)
NOT_LONG = 512  # taps of layers of which three in a block are also decided one by one
COLUMNS = 8  # of a slack table; what is beyond goes to the last


@dataclass(slots=True)
class Tally:
    """What a campaign counts."""

    layers: int = 0
    decided: int = 0
    registers: int = 0  # at which the sign budgets were compared with the decision
    seconds: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)  # by bound
    examples: list[str] = field(default_factory=list)
    slack: dict[str, Counter[int]] = field(default_factory=dict)  # by bound and inputs
    kinds: Counter[str] = field(default_factory=Counter)  # layers by weights, inputs, length
    trap: dict[str, Counter[str]] = field(default_factory=dict)  # by kind of weights


def campaign(layers: int, seed: int, tally: Tally, go_on: Callable[[int], bool]) -> None:
    """Blocks of layers until so many are counted; `go_on` is told so after each, and may say no."""
    begin, number = time.perf_counter(), 0
    while tally.layers < layers and go_on(tally.layers):
        block = draw(seed, number)
        if len(block.rows):
            examine(block, f"block {number} of seed {seed}", tally)
        number += 1
        tally.seconds = time.perf_counter() - begin


def examine(block: Block, where: str, tally: Tally) -> None:
    """Every bound on every layer of a block."""
    rows, spec = block.rows, block.input_spec
    least = np.maximum(2, bounds.least_bits(rows, spec))  # no register is narrower
    group = group_of(spec)
    for name, bits in published(block):
        slack = np.maximum(2, bits) - least
        over = np.flatnonzero(slack < 0)
        told(tally, name, over, f"{where}: {name} asks {spec} layers for fewer bits than is safe")
        for key in {f"{name}|{group}", f"{name}|{group}|{(spec.max - spec.min).bit_length()}"}:
            tally.slack.setdefault(key, Counter()).update(slack.tolist())
    budgets_agree(block, least, where, tally)
    if spec.contains_zero:
        trap(block, least, group, tally)
    if rows.shape[1] <= NOT_LONG:
        for index in (0, len(rows) // 2, len(rows) - 1):
            decide_alone(block, index, int(least[index]), where)
            tally.decided += 1
    tally.layers += len(rows)
    length = next(most for most in LENGTHS if rows.shape[1] <= most)
    for word in (block.kind, group, f"K to {length}"):
        tally.kinds[word] += len(rows)


def published(block: Block) -> Iterator[tuple[str, Array]]:
    """The bits that each published bound asks for, where it applies."""
    rows, weights, inputs = block.rows, block.weight_spec, block.input_spec
    count, taps = rows.shape
    yield TYPES, np.full(count, bounds.data_type_bits(taps, weights, inputs))
    if group_of(inputs) in GROUPS[:2]:
        yield PUBLISHED_TYPES, np.full(count, type_bits(taps, weights, inputs))
    yield A2Q, bounds.l1_bits(rows, inputs)
    if block.claimed is not None:
        yield A2Q_PLUS, block.claimed


def type_bits(taps: int, weight_spec: IntSpec, input_spec: IntSpec) -> int:
    """The least P with K·2^(N - signed)·2^(M - 1) <= 2^(P-1) - 1.

    Source: A2Q+ (arXiv 2401.10432) Eq. 20-22, without its logarithms.
    """
    shift = input_spec.bits - input_spec.signed + weight_spec.bits - 1
    return 1 + (taps << shift).bit_length()


def group_of(spec: IntSpec) -> str:
    """What kind of inputs these are."""
    types = unsigned(spec.bits), signed(spec.bits)
    return GROUPS[types.index(spec) if spec in types else 2 if spec.contains_zero else 3]


def told(tally: Tally, name: str, wrong: Array, text: str) -> None:
    """Count what a bound gets wrong, and keep a few examples."""
    if len(wrong):
        tally.errors[name] += len(wrong)
        tally.examples += [f"{text}: layer {wrong[0]}"][: 10 - len(tally.examples)]


def budgets_agree(block: Block, least: Array, where: str, tally: Tally) -> None:
    """At the least register and one bit below: budgets beside bits, and signs beside decision.

    The budget of each sign is the decision itself, so it must say yes at one and no at the other.
    """
    rows, spec = block.rows, block.input_spec
    positive, negative = np.maximum(rows, 0).sum(axis=1), -np.minimum(rows, 0).sum(axis=1)
    norm, asked = positive + negative, np.maximum(2, bounds.l1_bits(rows, spec))
    for bits in range(max(2, int(least.min()) - 1), int(least.max()) + 1):
        near = np.flatnonzero((least == bits) | (least == bits + 1))
        safe = least[near] <= bits
        by_norm = norm[near] <= floor(bounds.l1_budget(bits, spec))
        wrong = near[by_norm != (asked[near] <= bits)]
        told(tally, "A2Q budget", wrong, f"{where}: l1_budget and l1_bits differ at {bits} bits")
        if spec.contains_zero:
            by_signs = bounds.sign_budgets(bits, spec).allow(positive[near], negative[near])
            wrong = near[by_signs.astype(bool) != safe]
            told(tally, "sign budgets", wrong, f"{where}: sign_budgets err at {bits} bits")
            tally.registers += len(near)


def trap(block: Block, least: Array, group: str, tally: Tally) -> None:
    """The norm of the frozen integers against the budget of A2Q+: how often that is wrong."""
    asked = np.maximum(2, bounds.zero_centered_bits(block.rows, block.input_spec))
    counts = tally.trap.setdefault(f"{block.kind}|{group}", Counter())
    counts["layers"] += len(least)
    counts["unsafe"] += int((asked < least).sum())
    counts["most bits missing"] = max(counts["most bits missing"], int((least - asked).max()))


def decide_alone(block: Block, index: int, least: int, where: str) -> None:
    """One layer by `decide`, both ways, and by the oracle. Raises: AssertionError."""
    row, spec = block.rows[index : index + 1], block.input_spec
    layer = IntLayer(row, weight_spec=block.weight_spec, input_spec=spec)
    at = decide(layer, Accumulator(least))
    words = f"{where}, layer {index}"
    assert at.verdict is Verdict.PROVED, f"{words} must be proved at {least} bits"
    assert max(2, oracle.least_bits(row[0].tolist(), spec.min, spec.max)) == least, words
    if least > 2:
        below = decide(layer, Accumulator(least - 1))
        assert below.verdict is Verdict.REFUTED, f"{words} must be refuted at {least - 1} bits"
        assert below.witness is not None, words
        assert below.witness.replay().overflow_count.all(), words


def slack_table(tally: Tally) -> Table:
    """Layers by the bits that a bound asks for beyond the least."""
    heads = ["bound", "inputs", "layers", "errors", *map(str, range(COLUMNS)), f"{COLUMNS}+"]
    table = Table(*heads, "mean", title="layers by slack, in bits")
    for name, group in ((name, group) for name in NAMES for group in GROUPS):
        counts = tally.slack.get(f"{name}|{group}")
        if counts:
            cells = [counts[slack] for slack in range(COLUMNS)]
            cells.append(sum(n for slack, n in counts.items() if slack >= COLUMNS))
            errors = sum(n for slack, n in counts.items() if slack < 0)
            row = [name, group, str(counts.total()), str(errors), *map(str, cells), mean(counts)]
            table.add_row(*row)
    return table


def mean(counts: Counter[int] | None) -> str:
    """The mean slack, for people."""
    if not counts:
        return "-"
    return f"{sum(slack * n for slack, n in counts.items()) / counts.total():.2f}"


def bits_table(tally: Tally) -> Table:
    """Mean slack by the bits of the inputs."""
    table = Table("bound", "inputs", *(f"N={n}" for n in range(1, 9)), title="mean slack, in bits")
    for name, group in ((name, group) for name in NAMES for group in GROUPS[:2]):
        means = (mean(tally.slack.get(f"{name}|{group}|{n}")) for n in range(1, 9))
        table.add_row(name, group, *means)
    return table


def trap_table(tally: Tally) -> Table:
    """How often the norm of frozen integers, and the budget of A2Q+, call unsafe registers safe."""
    title = "the trap: layers that overflow where the norm of their integers says A2Q+ is safe"
    table = Table("weights", *GROUPS[:3], "bits missing", title=title)
    kinds = {key.partition("|")[0] for key in tally.trap}
    for kind in sorted(kinds, key=lambda kind: (kind == CENTRED, kind)):
        found = [tally.trap.get(f"{kind}|{group}", Counter()) for group in GROUPS[:3]]
        cells = [
            f"{counts['unsafe']} of {counts['layers']}"
            + (f" ({counts['unsafe'] / counts['layers']:.1%})" if counts["layers"] else "")
            for counts in found
        ]
        table.add_row(kind, *cells, str(max(counts["most bits missing"] for counts in found)))
    return table


def show(tally: Tally, seed: int, console: Console) -> None:
    """Everything that was counted."""
    console.print(", ".join(f"{key} {value}" for key, value in machine().items()))
    console.print(
        f"{tally.layers} layers of seed {seed} in {tally.seconds:.0f} s, {tally.decided} of them by"
        f" decide and the oracle; sign budgets beside the decision at {tally.registers} registers"
    )
    console.print(", ".join(f"{kind} {count}" for kind, count in sorted(tally.kinds.items())))
    for table in (slack_table(tally), bits_table(tally), trap_table(tally)):
        console.print(table)
    console.print(f"bounds that call an overflowing register safe: {tally.errors.total()} cases")


def content(tally: Tally, seed: int) -> dict[str, Any]:
    """The same for machines."""
    told = {name: getattr(tally, name) for name in Tally.__slots__}
    return {"machine": machine(), "seed": seed, **told}


def main() -> None:
    """The campaign; exit code 1 for a bound that errs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the counts here")
    arguments = parser.parse_args()
    tally, stopped = Tally(), Event()
    signal.signal(signal.SIGINT, lambda *_: stopped.set())  # once the block in hand is done
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("comparing", total=arguments.layers)

        def go_on(done: int) -> bool:
            progress.update(bar, completed=done)
            return not stopped.is_set()

        campaign(arguments.layers, arguments.seed, tally, go_on)
    show(tally, arguments.seed, Console(width=160))
    if arguments.json:
        arguments.json.write_text(json.dumps(content(tally, arguments.seed), indent=1))
    if tally.errors:
        print("\n".join(tally.examples), file=sys.stderr)
        raise SystemExit(f"bounds must not err: {dict(tally.errors)}")


if __name__ == "__main__":
    main()
