"""The example device beside the definition, step by step, in Icarus Verilog and Verilator.

    python benchmarks/rtl_campaign.py [--steps 1000000] [--widths 4:48] [--seed 0]
        [--simulators icarus,verilator] [--json FILE]

Every register width, wrapping and saturating, with and without a sign: layers of random operand
types and biases, their vectors as `accsim vectors` makes them, and the bench of all widths in one
design. Then ten devices with a bug each, all of which must be caught, the first wrong step named.
Exits with 1 for a device that is right and fails, or one that is wrong and passes.
"""

import argparse
import json
import sys
import time
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "verification"))
from rtl_bugs import BUGS, bug_vectors, with_bug
from simulators import SIMULATORS, missing

from accsim import Accumulator, IntLayer, signed, unsigned
from verification.vector_files import parameters, write_vectors
from verification.vectors import chosen_stimulus, make_vectors

RULES = ("wrap", "saturate")


def random_layer(rng, accumulator):
    """Operands whose products are about as wide as the register, and a bias anywhere in it."""
    bits = accumulator.bits
    weight_bits = int(rng.integers(2, max(3, bits - 1)))
    input_bits = int(np.clip(bits - weight_bits + rng.integers(-2, 3), 1, 40))
    weight_spec = signed(weight_bits) if rng.random() < 0.8 else unsigned(weight_bits)
    input_spec = signed(input_bits) if rng.random() < 0.4 else unsigned(input_bits)
    channels, taps = rng.integers(4, 12), rng.integers(8, 40)
    shape = (int(channels), int(taps))
    return IntLayer(
        rng.integers(weight_spec.min, weight_spec.max, shape, endpoint=True),
        weight_spec=weight_spec,
        input_spec=input_spec,
        bias=rng.integers(accumulator.min, accumulator.max, shape[0], endpoint=True),
    )


def some_vectors(rng, accumulator, steps):
    """Vectors of a random layer: whole sums, at least so many steps."""
    layer = random_layer(rng, accumulator)
    sums = -(-steps // layer.taps)
    seed = int(rng.integers(2**31))
    return make_vectors(
        layer, accumulator, chosen_stimulus(layer, accumulator, sums=sums, seed=seed)
    )


def design(vectors):
    """A module with a bench for each width, which reads the folder of that name."""
    benches = []
    for bits, one in vectors.items():
        given = ", ".join(f".{name}({value})" for name, value in parameters(one).items())
        benches.append(f'  bench #({given}, .FOLDER("p{bits}")) p{bits} ();\n')
    return f"`timescale 1ns / 1ps\nmodule every_width;\n{''.join(benches)}endmodule\n"


def right_devices(rng, widths, steps, names):
    """Steps and overflows of each rule and sign, and whether each simulator finds them right."""
    for rule, is_signed in product(RULES, (True, False)):
        registers = {bits: Accumulator(bits, rule, signed=is_signed) for bits in widths}
        vectors = {bits: some_vectors(rng, one, steps) for bits, one in registers.items()}
        row = {
            "rule": rule,
            "signed": is_signed,
            "steps": sum(one.steps for one in vectors.values()),
            "overflow_steps": sum(int(one.overflow.sum()) for one in vectors.values()),
            "least_overflow_steps": min(int(one.overflow.sum()) for one in vectors.values()),
            "passed": {},
        }
        counts = [row["steps"], row["overflow_steps"], len(widths)]
        for name in names:
            start = time.perf_counter()
            text = simulated(vectors, name)
            row["passed"][name] = passed = told(text) == counts
            kind = f"{name}, {rule}, {'signed' if is_signed else 'unsigned'}"
            print(
                f"{kind}: {row['steps']} steps, {row['overflow_steps']} overflow:"
                f" {'passed' if passed else text} ({time.perf_counter() - start:.0f} s)",
                flush=True,
            )
        yield row


def simulated(vectors, name):
    """What the benches of all widths print in one simulator; each ends well or all do not."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        for bits, one in vectors.items():
            write_vectors(folder / f"p{bits}", one, ("hex",))
        (folder / "every_width.sv").write_text(design(vectors))
        first = next(iter(vectors))
        sources = ("every_width.sv", f"p{first}/bench.sv", f"p{first}/mac.sv")
        outcome = SIMULATORS[name](folder, {}, *sources, top="every_width")
        return outcome.text if outcome.passed else f"exit code {outcome.code}: {outcome.text}"


def told(text):
    """Steps, steps that overflow and benches that passed, by their own words."""
    words = [line.split() for line in text.splitlines() if line.startswith("passed: ")]
    return [sum(int(line[1]) for line in words), sum(int(line[3]) for line in words), len(words)]


def wrong_devices(names):
    """By bug and simulator the first wrong step, as the bench names it; None if it passes."""
    for bug in BUGS:
        mode = BUGS[bug].mode
        found = {}
        with TemporaryDirectory() as place:
            folder = Path(place) / "vectors"
            vectors = bug_vectors(mode)
            write_vectors(folder, vectors, ("hex",))
            (folder / "mac.sv").write_text(with_bug(BUGS[bug]))
            for name in names:
                outcome = SIMULATORS[name](folder, parameters(vectors), "bench.sv", "mac.sv")
                found[name] = None if outcome.code == 0 else first_wrong(outcome.text)
                print(f"{bug}, {name}: {found[name] or 'NOT CAUGHT'}", flush=True)
        yield {"bug": bug, "mode": mode, "first_wrong": found}


def first_wrong(text):
    """The line that names a step."""
    return next((line for line in text.splitlines() if line.startswith("step ")), None)


def main():
    """Counts as lines, at the end their sum."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--widths", default="4:48")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--simulators", default=",".join(SIMULATORS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    names = args.simulators.split(",")
    if lacking := [why for name in names if (why := missing(name))]:
        sys.exit(f"benchmarks/rtl_campaign.py {lacking[0]}")
    first, last = map(int, args.widths.split(":"))
    widths = list(range(first, last + 1))
    each = -(-args.steps // (4 * len(widths)))
    rows = list(right_devices(np.random.default_rng(args.seed), widths, each, names))
    bugs = list(wrong_devices(names))
    caught = [one for one in bugs if all(one["first_wrong"].values())]
    steps, over = (sum(row[what] for row in rows) for what in ("steps", "overflow_steps"))
    passed = all(all(row["passed"].values()) for row in rows)
    verdict = "every step right" if passed else "NOT RIGHT"
    print(
        f"{steps} steps in registers of {first} to {last} bits, {over}"
        f" ({100 * over / steps:.0f} %) overflow: {verdict} in {', '.join(names)}"
    )
    print(f"seeded bugs caught, the first wrong step named: {len(caught)} of {len(bugs)}")
    if args.json:
        args.json.write_text(json.dumps({"rows": rows, "bugs": bugs}, indent=1))
    sys.exit(0 if passed and len(caught) == len(bugs) else 1)


if __name__ == "__main__":
    main()
