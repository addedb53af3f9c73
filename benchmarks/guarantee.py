"""The guarantee, attacked: whole layers of every kind decided three ways, and broken twins.

python benchmarks/guarantee.py [--layers N] [--seed S] [--first I] [--json FILE]

A case is a quantized layer, linear or convolution, of any bounded method, register, input range,
float type, start and kind of weights, some after steps that move every parameter at random.
Its frozen integers are decided by `a2qplus.to_layers`, by `verification.decide`, and by sums of
Python integers here. Then the same cases with the rule broken, and the quantizer's own decision
switched off: each twin must be caught, by all three alike. Case I of seed S is always the same one:
--first I --layers 1 does it alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from math import floor
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import torch
from random_layers import METHODS, draw
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from a2qplus import functional, integer, methods, to_layers
from a2qplus.layers import QuantLayer
from accsim import Accumulator, IntLayer, IntSpec, bounds
from accsim.errors import RangeError, UnsafeLayerError
from verification import Verdict, decide

DECIDED, ZEROED = "decided in the quantizers, in every call", "made zeros there"


@dataclass(slots=True)
class Tally:
    """What a campaign counts."""

    layers: int = 0
    channels: int = 0
    refuted: list[int] = field(default_factory=list)  # numbers of the cases
    seconds: float = 0.0
    of: dict[str, int] = field(default_factory=dict)  # channels by what holds for them
    kinds: dict[str, int] = field(default_factory=dict)  # layers by what they are


def reach(row: list[int], spec: IntSpec, start: int = 0) -> tuple[int, int]:
    """Lowest and highest sum of any of the products, in any order: Python integers."""
    positive, negative = sum(q for q in row if q > 0), -sum(q for q in row if q < 0)
    up, down = max(0, spec.max), max(0, -spec.min)
    return start - (down * positive + up * negative), start + up * positive + down * negative


def frozen(layer: QuantLayer) -> tuple[IntLayer, bool]:
    """The integers, and whether `to_layers` passes them."""
    try:
        return to_layers(layer)[""], True
    except UnsafeLayerError:
        with patch.object(integer, "_check_safe"):
            return to_layers(layer)[""], False


def decided(layer: IntLayer, register: Accumulator) -> bool:
    """Whether `decide` proves the layer; a witness must overflow when it is replayed."""
    try:
        report = decide(layer, register)
    except RangeError:  # a preload that the register cannot even hold
        return False
    if report.witness is not None and not report.witness.replay().overflow_count.any():
        raise AssertionError(f"a witness must overflow, not {report.witness}")
    return report.verdict is Verdict.PROVED


def attack(number: int, layer: QuantLayer, tally: Tally) -> None:
    """Decide a layer three ways, which must agree, and count."""
    rule = layer.weight_quantizer.quantization
    register = Accumulator(rule.acc_bits or 0)
    integers, passed = frozen(layer)
    proved = decided(integers, register)
    starts = [0] * integers.channels if integers.bias is None else integers.bias.tolist()
    rows = zip(integers.rows.tolist(), starts, strict=True)
    ends = [reach(row, integers.input_spec, start) for row, start in rows]
    fits = all(within(end, register) for end in ends)
    if not passed == proved == fits:
        raise AssertionError(f"{passed}, {proved} and {fits} must agree")
    tally.layers += 1
    tally.channels += len(ends)
    tally.refuted += [] if passed else [number]
    kind = f"conv2d groups={integers.groups}" if integers.is_conv else "linear"
    zero_point = f"zero point {rule.zero_point}" if rule.offset else "zero point 0 or subtracted"
    for word in (rule.method, kind, str(layer.weight.dtype), rule.start, zero_point):
        add(tally.kinds, word, 1)
    add(tally.of, "not zero", sum(end != (0, 0) for end in ends))
    for share in (50, 90):
        used = [100 * low < share * register.min or 100 * high > share * register.max
                for low, high in ends]  # fmt: skip
        add(tally.of, f"use over {share} %", sum(used))
    plain = rows_of(layer).round().clamp(rule.weight_spec.min, rule.weight_spec.max)
    others = [reach(row, rule.bounded_spec) for row in plain.to(torch.int64).tolist()]
    over = sum(not within(end, register) for end in others)
    add(tally.of, "would not fit if rounded to nearest", over)


def within(end: tuple[int, int], register: Accumulator) -> bool:
    """Whether the register holds everything between these ends."""
    return register.min <= end[0] and end[1] <= register.max


def add(counts: dict[str, int], name: str, count: int) -> None:
    """Count on."""
    counts[name] = counts.get(name, 0) + count


@torch.no_grad()
def rows_of(layer: QuantLayer) -> Tensor:
    """The weights in units of their scale, (channels, taps)."""
    scale = layer.weight_quantizer.scale.clamp_min(1e-300)
    return layer.weight.double().flatten(1) / scale[:, None]


def norm_alone(acc_bits: int, input_spec: IntSpec) -> bounds.SignBudgets:
    """A safe set that looks at the l1-norm and not at the signs: what A2Q+ would allow."""
    most = floor(bounds.zero_centered_budget(acc_bits, input_spec))
    return bounds.SignBudgets(1, 1, most, most)


def norm_of_plus(acc_bits: int, input_spec: IntSpec) -> Fraction:
    """The norm that A2Q+ allows, for weights that are not centred."""
    if not input_spec.contains_zero:
        return bounds.l1_budget(acc_bits, input_spec)  # these cases are passed over
    return bounds.zero_centered_budget(acc_bits, input_spec)


@dataclass(frozen=True, slots=True)
class Twin:
    """A quantizer with parts of its modules replaced: (module, name, value)."""

    name: str
    method: str
    parts: tuple[tuple[ModuleType, str, object], ...]


TWINS = (
    Twin(
        "a2q+, rounded to nearest",
        "a2q+",
        ((functional, "round_toward_zero", functional.round_nearest),),
    ),
    Twin("a2q+, not centred", "a2q+", ((functional, "zero_center", lambda rows: rows),)),
    Twin("a2q, with the norm of a2q+", "a2q", ((functional, "l1_budget", norm_of_plus),)),
    Twin(
        "budget, by the l1-norm alone",
        "budget",
        ((functional, "sign_budgets", norm_alone), (methods, "sign_budgets", norm_alone)),
    ),
)


@contextmanager
def broken(twin: Twin) -> Iterator[None]:
    """The quantizers with the twin's parts, and without their own decision."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(functional, "_safe", lambda q, *_: torch.ones_like(q)))
        for module, name, value in twin.parts:
            stack.enter_context(patch.object(module, name, value))
        yield


@contextmanager
def watched(tally: Tally) -> Iterator[None]:
    """Count the channels that the quantizers' own decision looks at, and those it makes zeros."""
    decision = functional._safe

    def counting(q: Tensor, accumulator: Accumulator, input_spec: IntSpec) -> Tensor:
        fits = decision(q, accumulator, input_spec)
        add(tally.of, DECIDED, len(fits))
        add(tally.of, ZEROED, int((fits == 0).sum()))
        return fits

    with patch.object(functional, "_safe", counting):
        yield


def campaign(numbers: range, seed: int, twin: Twin | None, on_case: Callable[[], object]) -> Tally:
    """All cases, or with a twin those of its method whose inputs hold 0."""
    tally, begin = Tally(), time.perf_counter()
    with watched(tally) if twin is None else broken(twin):
        for number in numbers:
            on_case()
            if twin is not None and METHODS[number % len(METHODS)] != twin.method:
                continue
            try:
                layer = draw(seed, number)
                if twin is None or layer.weight_quantizer.quantization.input_spec.contains_zero:
                    attack(number, layer, tally)
            except Exception:
                print(f"case {number} of seed {seed}, twin {twin and twin.name}:", file=sys.stderr)
                raise
    tally.seconds = time.perf_counter() - begin
    return tally


def show(whole: Tally, twins: dict[str, Tally], console: Console) -> None:
    """The counts."""
    console.print(
        f"{whole.layers} layers, {whole.channels} channels: {len(whole.refuted)} refuted, by"
        f" to_layers, decide and Python integers ({whole.seconds:.0f} s)"
    )
    for name in sorted(whole.of.keys() - {DECIDED, ZEROED}):
        count = whole.of[name]
        console.print(f"  {name}: {count} channels ({count / whole.channels:.1%})")
    console.print(f"  {ZEROED}: {whole.of[ZEROED]} of {whole.of[DECIDED]} channels {DECIDED}")
    console.print("  " + ", ".join(f"{kind} {n}" for kind, n in sorted(whole.kinds.items())))
    for name, twin in twins.items():
        console.print(
            f"broken, {name}: {len(twin.refuted)} of {twin.layers} layers refuted by all three"
            f" ({twin.seconds:.0f} s)"
        )


def main() -> None:
    """The campaign, then its twins; exit code 1 for a refuted layer or a twin that passes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--json", type=Path, help="write the counts here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    numbers = range(arguments.first, arguments.first + arguments.layers)
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("deciding", total=(1 + len(TWINS)) * len(numbers))
        whole, *others = (
            campaign(numbers, arguments.seed, twin, lambda: progress.advance(bar))
            for twin in (None, *TWINS)
        )
    twins = {twin.name: tally for twin, tally in zip(TWINS, others, strict=True)}
    show(whole, twins, Console(width=110))
    if arguments.json:
        content = {"whole": asdict(whole), "twins": {name: asdict(t) for name, t in twins.items()}}
        arguments.json.write_text(json.dumps(content, indent=1))
    if whole.refuted:
        raise SystemExit(f"REFUTED: cases {whole.refuted} of seed {arguments.seed}")
    if missed := [name for name, tally in twins.items() if not tally.refuted]:
        raise SystemExit(f"twins must be caught, not pass: {', '.join(missed)}")


if __name__ == "__main__":
    main()
