"""Random layers through every vector kernel, beside the plain loops and the oracle.

python benchmarks/exactness.py [--cases N] [--seed S]

A case is one output of one kernel, in all the fields that the kernel finds. Each kernel that
accepts a layer computes it, not only the one that the plan would choose, and is compared with the
plain loops (`accsim/kernels/portable.py`); one output of each layer is compared with the oracle.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
from rich.progress import Progress

from accsim import Accumulator, IntLayer, IntSpec, between, simulate
from verification import oracle
from verification.properties import FIELDS, assert_kernels_agree, tap_inputs

BITS = [2, 3, 7, 8, 9, 11, 12, 14, 15, 16, 17, 18, 20, 24, 30, 31, 32, 33, 40, 51, 52, 62]
TAPS = [0, 1, 2, 3, 15, 16, 17, 63, 64, 65, 130, 300, 700]
RANGES = [(-1, 0), (0, 1), (-8, 7), (0, 15), (-7, 7), (-16, 15), (0, 31), (-25, 6), (-8, 9),
          (-128, 127), (-127, 127), (0, 255), (3, 250),
          (-300, -45), (-2048, 2047), (-32768, 32767), (0, 32767), (-40000, 40000)]  # fmt: skip


def draw(rng: np.random.Generator, low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
    """Codes of a range: its two ends, mostly one end, or uniform."""
    kind = rng.integers(4)
    if kind == 0:
        return rng.choice([low, high], shape)
    codes = rng.integers(low, high + 1, shape)
    return np.where(rng.random(shape) < 0.05, codes, high) if kind == 1 else codes


def linear(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, object]]:
    """Shapes of weights and inputs of a linear layer."""
    taps = int(rng.choice(TAPS))
    return (int(rng.integers(1, 80)), taps), (int(rng.integers(1, 80)), taps), {}


def conv(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, object]]:
    """Shapes of weights and inputs of a convolution, and its geometry."""
    groups, each = int(rng.choice([1, 1, 1, 2, 3])), int(rng.integers(1, 10))
    tiny = rng.random() < 0.1  # single pixels are laid out in their own way
    kernel, stride, dilation = (rng.integers(1, 2 if tiny else 4, 2).tolist() for _ in range(3))
    padding = rng.integers(0, 1 if tiny else 3, 2).tolist()
    least = [dilation[i] * (kernel[i] - 1) + 1 - 2 * padding[i] for i in (0, 1)]
    size = [max(1, least[i]) + int(rng.integers(0, 2 if tiny else 12)) for i in (0, 1)]
    weight = (groups * int(rng.integers(1, 9)), each, *kernel)
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return weight, (int(rng.integers(1, 4)), each * groups, *size), geometry


def case(rng: np.random.Generator) -> tuple[IntLayer, np.ndarray, Accumulator]:
    """A layer of any geometry and operands, inputs for it, and a register."""
    rule = ("wrap", "saturate")[rng.integers(2)]
    bits = int(rng.choice(BITS))
    register = Accumulator(bits, rule, signed=bool(rng.random() < 0.8))
    (low, high), (least, most) = (RANGES[rng.integers(len(RANGES))] for _ in range(2))
    shape, inputs, geometry = (linear, conv)[rng.integers(2)](rng)
    specs = between(least, most), between(low, high)
    return layer_in(rng, register, specs, shape, geometry), draw(rng, low, high, inputs), register


def layer_in(
    rng: np.random.Generator,
    register: Accumulator,
    specs: tuple[IntSpec, IntSpec],
    shape: tuple[int, ...],
    geometry: dict[str, object],
) -> IntLayer:
    """A layer of weights and inputs of these ranges, half of the time with a bias that fits."""
    weights, inputs = specs
    ends = max(register.min, -(2**40)), min(register.max, 2**40)
    bias = rng.integers(ends[0], ends[1] + 1, shape[0]) if rng.random() < 0.5 else None
    return IntLayer(
        draw(rng, weights.min, weights.max, shape),
        weight_spec=weights,
        input_spec=inputs,
        bias=bias,
        **geometry,  # type: ignore[arg-type]
    )


def check_oracle(
    rng: np.random.Generator, layer: IntLayer, x: np.ndarray, register: Accumulator
) -> None:
    """One output by the oracle, with every field."""
    run = simulate(layer, x, register)
    if run.output.size == 0:
        return
    wanted = int(rng.integers(min(run.output.size, 200)))
    place, channel, taps = next(
        found for i, found in enumerate(tap_inputs(layer, x)) if i == wanted
    )
    answer = oracle.dot(
        layer.rows[channel].tolist(),
        taps,
        register.bits,
        str(register.overflow),
        signed=register.signed,
        bias=0 if layer.bias is None else int(layer.bias[channel]),
    )
    for field in FIELDS:
        assert int(getattr(run, field)[place]) == getattr(answer, field), (field, layer, register)


def main() -> None:
    """Compare until so many cases are done; count them by kernel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    done: Counter[str] = Counter()
    layers = 0
    with Progress() as progress:
        bar = progress.add_task("comparing", total=arguments.cases)
        while sum(done.values()) < arguments.cases:
            layer, x, register = case(rng)
            outputs = int(np.prod(layer.output_shape(x.shape)))
            threads = int(rng.integers(1, 3))
            for name in assert_kernels_agree(layer, x, register, threads=threads):
                done[name] += outputs
                progress.advance(bar, outputs)
            check_oracle(rng, layer, x, register)
            layers += 1
    print(f"{sum(done.values())} cases in {layers} layers, no difference")
    for name, count in done.most_common():
        print(f"  {name:20} {count}")


if __name__ == "__main__":
    main()
