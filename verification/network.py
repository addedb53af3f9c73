"""The report of a quantized network: proof, data, attack, accuracy by width, registers compared.

Needs the extra "train".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from accsim.errors import ShapeError, SpecError
from accsim.extras import require
from accsim.spec import Accumulator, Overflow
from verification.compare import Comparison, How, compare
from verification.decide import Verdict, decide
from verification.json_file import one_json
from verification.products import product_json
from verification.progress import Told
from verification.reach import Reach, reach
from verification.report import (
    Json,
    difference_json,
    ends_json,
    layers_json,
    overall,
    sealed,
    sums_json,
    worst,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from a2qplus import Product

__all__ = ["comparison_json", "network_report", "sweep"]


def network_report(
    name: str,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    registers: Mapping[str, Accumulator],
    *,
    widths: range,
    compared: tuple[How, How],
    steps: int,
    seed: int,
    unbound: Sequence[str] = (),
    told: Told = lambda *_: None,
) -> Json:
    """All that is known of a quantized model, each layer in its own register; sealed.

    A product of activations is in the register under its name, or in the narrowest of the layers';
    proved if its types fit, and else not decided.

    x (B, ...) are inputs of the network, y (B,) their classes.
    `widths`: of the registers that accuracy is told for. `compared`: two registers for the whole
    network. `unbound`: layers whose register is none of their own, which is said. `steps` (of each
    climb of the attack), `seed`: as `reach`. `told` is given what is being done, and how far it is.

    Raises: SpecError without a signed register for each layer, ShapeError for x and y of other
    lengths; as `decide` and `a2qplus.to_integer`.
    """
    require("torch", extra="train", purpose="the report of a network")
    from a2qplus import matmuls, to_layers

    layers = to_layers(model)
    if missing := [layer for layer in layers if layer not in registers]:
        raise SpecError(f"registers must have one for each layer, and lack {', '.join(missing)}")
    if unsigned := [layer for layer in layers if not registers[layer].signed]:
        raise SpecError(f"registers must have a sign, and have none for {', '.join(unsigned)}")
    if len(x) != len(y):
        raise ShapeError(f"x and y must have one length, not {len(x)} and {len(y)}")
    reports = {layer: decide(layers[layer], registers[layer]) for layer in layers}
    narrowest = min((registers[layer] for layer in layers), key=lambda register: register.bits)
    products = [
        _product_json(product, registers.get(product.name, narrowest))
        for product in matmuls(model, x[:1])
        if product.known == "types"
    ]
    names = list(layers)

    def attacking(layer: str) -> None:
        told(f"{name}: attacking {layer}", names.index(layer), len(names))

    reached = reach(model, x, steps=steps, seed=seed, on_layer=attacking)
    found = compare(model, x, *compared)
    return sealed(
        {
            "name": name,
            "verdict": str(worst({overall(reports), *(Verdict(p["verdict"]) for p in products)})),
            "layers": layers_json(layers, reports),
            "products": products,
            "unbound": list(unbound),
            "reached": {
                layer: _reached_json(ends, registers[layer]) for layer, ends in reached.items()
            },
            "sweep": sweep(model, x, y, widths, lambda *at: told(f"{name}: simulating", *at)),
            "comparison": comparison_json(found, *compared, samples=len(x)),
        }
    )


def _product_json(product: Product, register: Accumulator) -> Json:
    assert product.operands is not None  # known by its types
    return product_json(product.name, product.operands, product.taps, register)


def _reached_json(found: Reach, register: Accumulator) -> Json:
    over = int(found.data.needs[register.bits + 1 :].sum())
    return {
        "data": sums_json(found.data, register, over),
        "attack": ends_json(found.attack, register),
        "proved": ends_json(found.proved, register),
    }


def comparison_json(
    found: Comparison,
    first: How,
    second: How,
    *,
    samples: int,
) -> Json:
    """What `compare` found, as plain values."""
    return {
        "first": str(first),
        "second": str(second),
        "registers": [one_json(first), one_json(second)],
        "samples": samples,
        "largest": found.largest,
        "changed": list(found.changed),
        "layers": {name: difference_json(layer) for name, layer in found.layers.items()},
    }


def sweep(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    widths: range,
    told: Callable[[int, int], object] = lambda *_: None,
) -> list[Json]:
    """Accuracy and overflows of the integer network for each width and overflow rule."""
    from a2qplus import to_integer
    from a2qplus.train import accuracy

    cases = [(bits, rule) for bits in widths for rule in Overflow]
    rows = []
    for done, (bits, rule) in enumerate(cases):
        told(done, len(cases))
        network = to_integer(model, Accumulator(bits, rule))
        share = accuracy(network, x, y)
        overflows = {
            layer: {key: value for key, value in asdict(seen).items() if key != "level_steps"}
            for layer, seen in network.overflow_report().items()
        }
        rows.append(
            {"bits": bits, "overflow": str(rule), "accuracy": share, "overflows": overflows}
        )
    return rows
