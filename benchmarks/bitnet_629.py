"""A public report, worked through: 128 results of vpmaddubsw wrap in one 16-bit lane.

python benchmarks/bitnet_629.py [--rows N] [--seed S] [--json FILE]

microsoft/BitNet#629: the AVX2 kernel of BitNet's ternary weights adds 128 sums of two products of
at most 508 each in 16 bits, where 32,767 is the most. The datapath is `ggml-i2s-avx2`, with the
kernel's lane map. Told are: the worst case; a witness, which is replayed; the longest fold that is
safe for all weights and inputs; and how often random ternary weights and 8-bit inputs get there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from accsim import Accumulator, Datapath, IntLayer, datapaths, simulate
from accsim.datapaths import safe_products
from verification import Verdict, decide

TAPS = 4096  # one fold of the kernel: 16 lanes of 256 products each
CHANNELS = 256
LANE = 1  # the level that wraps
KERNEL = datapaths.load("ggml-i2s-avx2")

Array = np.ndarray[Any, Any]
Draw = Callable[[np.random.Generator, tuple[int, int]], Array]


@dataclass(frozen=True, slots=True)
class Sampled:
    """How often one kind of input overflows a lane: outputs of 16 lanes each."""

    outputs: int
    overflowed: int
    wrong: int
    peak_low: int
    peak_high: int


def scaled(values: Array) -> Array:
    """To 8 bits as BitNet does: the largest of each row becomes 127."""
    most = np.abs(values).max(axis=1, keepdims=True)
    return np.rint(values * (127 / np.maximum(most, 1e-30))).astype(np.int8)


INPUTS: dict[str, Draw] = {
    "uniform": lambda rng, shape: rng.integers(-128, 128, shape).astype(np.int8),
    "normal, scaled": lambda rng, shape: scaled(rng.normal(size=shape)),
    "normal, squared ReLU, scaled": lambda rng, shape: scaled(
        np.maximum(rng.normal(size=shape), 0) ** 2
    ),
    "uniform from 0": lambda rng, shape: rng.integers(0, 128, shape).astype(np.int8),
    "uniform from 96": lambda rng, shape: rng.integers(96, 128, shape).astype(np.int8),
    "all 127": lambda _, shape: np.full(shape, 127, np.int8),
    "all -128": lambda _, shape: np.full(shape, -128, np.int8),
}


def layer_of(codes: Array) -> IntLayer:
    """Rows of codes 0, 1, 2, which stand for weights -1, 0, 1."""
    assert KERNEL.weights is not None
    assert KERNEL.inputs is not None
    return IntLayer(codes, weight_spec=KERNEL.weights, input_spec=KERNEL.inputs)


def folded(pairs: int) -> Datapath:
    """The same kernel, its lanes emptied after so many pairs."""
    levels = list(KERNEL.levels)
    levels[LANE] = replace(levels[LANE], terms=pairs)
    return replace(KERNEL, levels=levels)


def worst() -> dict[str, Any]:
    """All weights 1: how far a lane can go, what is proved, and the witness."""
    layer = layer_of(np.full((1, TAPS), 2))
    found = decide(layer, KERNEL)
    assert found.witness is not None
    replayed = found.witness.replay()
    ends = {}
    for name, x in (("high", 127), ("low", -128)):
        run = simulate(layer, np.full((1, TAPS), x), KERNEL)
        level = run.levels[LANE]
        assert level.peak_low is not None
        assert level.peak_high is not None
        ends[name] = int((level.peak_high if x > 0 else level.peak_low)[0, 0])
    lane = KERNEL.levels[LANE]
    safe = safe_products(KERNEL)[LANE]
    assert safe is not None
    return {
        "lane": ends,
        "rails": [lane.min, lane.max],
        "verdict": str(found.verdict),
        "lane_bits": found.levels[LANE].least_bits,
        "witness": {
            "inputs": int(np.count_nonzero(found.witness.x)),
            "line": str(found.witness),
            "exact": found.witness.exact,
            "simulated": found.witness.simulated,
            "replayed": int(replayed.output[0]),
        },
        "safe_pairs": safe // 2,
        "longest_fold": found.levels[LANE].longest_fold,
        "folded": {str(n): str(decide(layer, folded(n)).verdict) for n in (64, 65)},
    }


def sampled(draw: Draw, layer: IntLayer, rows: int, rng: np.random.Generator) -> Sampled:
    """So many inputs, all channels."""
    x = draw(rng, (rows, TAPS))
    run = simulate(layer, x, KERNEL)
    exact = simulate(layer, x, Accumulator(32), peaks=False).output
    lane = run.levels[LANE]
    assert lane.peak_low is not None
    assert lane.peak_high is not None
    return Sampled(
        run.output.size,
        int(np.count_nonzero(lane.overflow_count)),
        int(np.count_nonzero(run.output != exact)),
        int(lane.peak_low.min()),
        int(lane.peak_high.max()),
    )


def report(rows: int, seed: int) -> dict[str, Any]:
    """All of it."""
    rng = np.random.default_rng(seed)
    layer = layer_of(rng.integers(0, 3, (CHANNELS, TAPS)))
    found = decide(layer, KERNEL)
    console = Console(stderr=True)
    kinds = track(
        INPUTS.items(), "sampling", console=console, transient=True,
        disable=not console.is_terminal,
    )  # fmt: skip
    return {
        "seed": seed,
        "worst": worst(),
        "random": {
            "channels": CHANNELS,
            "unsafe_channels": len(found.unsafe_channels),
            "lane_bits": found.levels[LANE].least_bits,
            "longest_fold": found.levels[LANE].longest_fold,
            "inputs": {name: asdict(sampled(draw, layer, rows, rng)) for name, draw in kinds},
        },
    }


def lines(told: dict[str, Any]) -> list[str]:
    """The report in words."""
    case, random = told["worst"], told["random"]
    witness = case["witness"]
    first = next(iter(random["inputs"].values()))
    return [
        f"worst case of a lane: {case['lane']['high']:,}, and {case['lane']['low']:,}; it holds"
        f" {case['rails'][0]:,} to {case['rails'][1]:,}: {case['lane_bits']} bits are needed",
        f"all weights 1: {case['verdict']}, by {witness['inputs']} inputs that are not 0:",
        f"  {witness['line']}",
        f"  exact {witness['exact']:,}, simulated {witness['simulated']:,}, replayed"
        f" {witness['replayed']:,}",
        f"longest safe fold: {case['safe_pairs']} pairs, of any weights and inputs"
        f" (64: {case['folded']['64']}, 65: {case['folded']['65']})",
        f"random ternary weights, {random['channels']} rows of {TAPS}:"
        f" {random['unsafe_channels']} can overflow a lane (some input does);"
        f" longest safe fold {random['longest_fold']} pairs",
        f"sampled, {first['outputs']:,} outputs of 16 lanes for each kind of input, seed"
        f" {told['seed']}:",
        f"  {'inputs':<30}{'overflowed':>11}{'wrong':>8}{'lowest lane':>13}{'highest':>9}",
        *(
            f"  {name:<30}{one['overflowed']:>11,}{one['wrong']:>8,}"
            f"{one['peak_low']:>13,}{one['peak_high']:>9,}"
            for name, one in random["inputs"].items()
        ),
    ]


def main() -> None:
    """Print it; exit code 1 unless the report is borne out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=64, help="inputs of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write all figures here")
    arguments = parser.parse_args()
    told = report(arguments.rows, arguments.seed)
    print("\n".join(lines(told)))
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=1))
    case = told["worst"]
    borne_out = case["verdict"] == str(Verdict.REFUTED) and case["safe_pairs"] == 64
    if not borne_out or case["witness"]["simulated"] != case["witness"]["replayed"]:
        raise SystemExit("the report is not borne out")


if __name__ == "__main__":
    main()
