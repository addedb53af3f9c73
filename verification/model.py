"""Networks as model files hold them: what is proved of each product, and what data reach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from accsim._check import IntArray
from accsim.datapath import Datapath
from accsim.errors import ModelFileError, SpecError
from accsim.layer import IntLayer
from accsim.network import Network, Register
from accsim.padding import exact_extremes, layer_bits
from accsim.simulate import Run, simulate
from accsim.spec import MAX_BITS, Accumulator
from verification.datapaths import register_of
from verification.decide import Report, Verdict
from verification.products import product_json
from verification.progress import Told
from verification.report import (
    Json,
    ends_json,
    layers_json,
    overall,
    sealed,
    sums_json,
    worst,
)
from verification.starts import decide_start
from verification.sums import Ends, Sums, gather

__all__ = ["model_report", "products_json", "proved_from", "wide_register"]

_WIDE = 48  # bits, of a register that no product here overflows, or the more that one needs

Registers = Mapping[str, Register]


def wide_register(network: Network) -> Accumulator:
    """A register that no layer overflows, and that is far wider than any product of data needs."""
    return Accumulator(min(MAX_BITS, max(_WIDE, *_needs(network), 0)))


def products_json(network: Network) -> list[Json]:
    """The products of activations, and the least register that holds each by its types, if any."""
    return [
        {
            "name": name,
            "left": str(product.left),
            "right": str(product.right),
            "taps": product.taps,
            "least_bits": product.least_bits,
        }
        for name, product in network.matmuls.items()
    ]


def proved_from(network: Network) -> int | None:
    """The least width of a register that is proved for every product; None if no width is.

    That is where a node is not traced, or a product of activations is of unknown length.
    """
    least = [product.least_bits for product in network.matmuls.values()]
    needs = [*_needs(network), *(bits for bits in least if bits is not None)]
    undecided = bool(network.untraced) or None in least
    return None if undecided or not needs else max(2, *needs)


def _needs(network: Network) -> list[int]:
    """Bits of the least register of each layer."""
    return [layer_bits(layer) for layer in network.layers.values()]


def model_report(
    name: str,
    network: Network,
    registers: Registers,
    *,
    inputs: Mapping[str, Any] | None = None,
    digest: str | None = None,
    told: Told = lambda *_: None,
) -> Json:
    """All that is known of a network, each product in its own register; sealed.

    A layer is proved or refuted; a product of activations is proved by its types or not decided,
    and with a node that could not be traced nothing is proved of the network. `inputs` of the
    network, of which `digest` is told, show how far they go in wide registers.

    Raises: ModelFileError for a network that multiplies no matrices, SpecError for a layer without
    a register; as `Network.run`.
    """
    if not (network.layers or network.matmuls or network.untraced):
        raise ModelFileError(f"{name} multiplies no matrices: there is nothing to verify")
    if missing := [layer for layer in network.layers if layer not in registers]:
        raise SpecError(f"registers must have one for each layer, and lack {', '.join(missing)}")
    reports = _decided(network, registers, told)
    products = [
        product_json(node, (found.left, found.right), found.taps, registers.get(node))
        for node, found in network.matmuls.items()
    ]
    verdicts = {Verdict(product["verdict"]) for product in products}
    verdicts |= {overall(reports)} if reports else set()
    verdicts |= {Verdict.UNDECIDED} if network.untraced else set()
    return sealed(
        {
            "name": name,
            "verdict": str(worst(verdicts)),
            "layers": layers_json(network.layers, reports),
            "products": products,
            "untraced": dict(network.untraced),
            "inputs": digest,
            "reached": {} if inputs is None else _reached(network, registers, inputs, told),
        }
    )


def _decided(network: Network, registers: Registers, told: Told) -> dict[str, Report]:
    reports: dict[str, Report] = {}
    for name, layer in network.layers.items():
        told("verifying", len(reports), len(network.layers))
        reports[name] = decide_start(layer, registers[name])
    return reports


def _reached(network: Network, registers: Registers, inputs: Mapping[str, Any], told: Told) -> Json:
    """By name, of the layers that these inputs reach: how far, beside what is proved."""
    found: dict[str, Sums] = {}
    over: Counter[str] = Counter()

    def watch(name: str, layer: IntLayer, x: IntArray, run: Run) -> None:
        if name in network.layers and run.output.size:
            gather(found, name, layer, run)
            over[name] += _leaving(layer, x, run, registers[name])

    network.run(
        inputs,
        wide_register(network),
        watch=watch,
        told=lambda done, of: told("simulating", done, of),
    )
    return {
        name: {
            "data": sums_json(found[name], register_of(registers[name]), over[name]),
            "proved": ends_json(Ends(*exact_extremes(layer)), register_of(registers[name])),
        }
        for name, layer in network.layers.items()
        if name in found
    }


def _leaving(layer: IntLayer, x: IntArray, run: Run, register: Register) -> int:
    """Of how many outputs a register would overflow, by the exact sums of another one's run.

    Or any level of a datapath, in a run of its own.
    """
    if isinstance(register, Datapath):
        return int(np.count_nonzero(simulate(layer, x, register, peaks=False).overflow_count))
    assert run.peak_low is not None
    assert run.peak_high is not None
    outside = (run.peak_low < register.min) | (run.peak_high > register.max)
    return int(np.count_nonzero(outside))
