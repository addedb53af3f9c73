"""What a report says in words, on a page and in a terminal alike."""

from __future__ import annotations

from collections.abc import Iterable
from math import floor
from typing import Any

from accsim.spec import Accumulator
from verification.json_file import datapath_of
from verification.witness import Witness

__all__ = [
    "how_lowered",
    "kinds_of",
    "percent",
    "printable",
    "product_line",
    "rails_line",
    "rails_word",
    "register_word",
    "registers_of",
    "remarks_of",
    "start_line",
    "where_of",
]

Json = dict[str, Any]


def registers_of(parts: Iterable[Json]) -> str:
    """The register of all layers and products, in words."""
    found = {register_word(part) for part in parts if part["accumulator"]}
    if not found:
        return "no register"
    return found.pop() if len(found) == 1 else "each layer in its own register"


def register_word(part: Json) -> str:
    """The register or the datapath of a layer or a product."""
    if "datapath" in part:
        return str(datapath_of(part["datapath"]))
    return str(Accumulator(**part["accumulator"]))


def where_of(witness: Witness) -> str:
    """The register that a witness overflows, as it is called in a sentence."""
    rails = witness.rails
    return f"the {rails}" if witness.level is None else f"level {witness.level} ({rails})"


def kinds_of(reached: Json) -> list[str]:
    """Of what is told how far it goes in every layer, the least far first."""
    return [
        kind
        for kind in ("data", "attack", "proved")
        if all(kind in ends for ends in reached.values())
    ]


def rails_line(reached: Json) -> str:
    """In words how near to a rail data, and an attack, come in any layer."""
    said = []
    for kind, who in (("data", "the given inputs"), ("attack", "the attack")):
        shares = {name: ends[kind]["of_rail"] for name, ends in reached.items() if kind in ends}
        if shares:
            layer = max(shares, key=lambda name: shares[name])
            there = f"went to {percent(shares[layer])} % of a rail, in {layer or 'the network'}"
            left = max(0, floor(100 * (1 - shares[layer])))
            said.append(f"{who} {there if left == 0 else f'never came within {left} % of a rail'}")
    return "; ".join(said)


def rails_word(rails: list[bool | None]) -> str:
    """Which ends of a register can be passed: "low", "high", "both", "none"; "?" if not known."""
    ends = [end for end, passed in zip(("low", "high"), rails, strict=True) if passed]
    if None in rails:
        return f"{ends[0]}, ?" if ends else "?"
    return "both" if len(ends) == 2 else "".join(ends) or "none"


def remarks_of(layers: Json) -> list[str]:
    """What is to be said of the layers' datapaths, each once."""
    return list(dict.fromkeys(said for one in layers.values() for said in one.get("remarks", [])))


def how_lowered(report: Json) -> str:
    """How the layers met their registers, if not as they are."""
    if report.get("preloads"):
        return ", preloaded where a start fits"
    lowering = report.get("lowering")
    return f", zero point {report['zero_point']}, {lowering}" if lowering else ""


def product_line(product: Json) -> str:
    """In words what is known of a product of activations."""
    said = f"{product['name']}: a product of activations, {product['left']} and {product['right']}"
    needed, register = product["least_bits"], product["accumulator"]
    if needed is None or register is None:
        unknown = "length" if needed is None else "register"
        return f"{said}, whose {unknown} is not known: {product['verdict']}"
    if "datapath" in product:
        return f"{said}, in {register_word(product)}, by their types: {product['verdict']}"
    return f"{said}; their types need {needed} bits of {register['bits']}: {product['verdict']}"


def start_line(layer: Json) -> str:
    """In words where a layer starts that its register cannot even start at."""
    start, register = layer["start"], Accumulator(**layer["accumulator"])
    return (
        f"channel {start['channel']} starts at its bias {start['value']}, outside"
        f" [{register.min}, {register.max}]: the {register} cannot hold it"
    )


def percent(share: float) -> str:
    """Without digits that say nothing; 0 is none, 100 is just all."""
    if 0 < share < 0.01:
        return "<1"
    if 0.99 < share < 1:
        return "99"
    return ">100" if 1 < share < 1.01 else f"{100 * share:.0f}"


def printable(text: str) -> str:
    """A name from a file as a terminal may be given it: no control characters."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
