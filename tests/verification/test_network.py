"""The report of a network holds what proof, attack, sweep and comparison find by themselves."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from a2qplus import fit, quantize_model, to_integer, to_layers
from a2qplus.train import accuracy
from accsim import Accumulator, Overflow, simulate
from accsim.errors import ShapeError, SpecError
from verification import decide
from verification.compare import compare
from verification.network import network_report, sweep
from verification.page import page
from verification.reach import reach
from verification.report import digest, ends_json


def trained():
    """A small network in registers that are too narrow, inputs and classes."""
    torch.manual_seed(0)
    x = torch.rand(60, 12)
    y = (x[:, 0] > x[:, 1]).long() + (x[:, 2] > 0.8).long()
    model = nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 3))
    model = quantize_model(model, weight_bits=4, act_bits=4, method="base", calibration=x)
    fit(model, x, y, epochs=5, learning_rate=1e-2, seed=0)
    return model, x, y


def test_a_report_is_its_parts():
    """Each layer in a register of its own; the widths asked for; two registers."""
    model, x, y = trained()
    registers = {"0": Accumulator(9, "saturate"), "2": Accumulator(8)}
    both = (Accumulator(8), Accumulator(8, "saturate"))
    told = []
    report = network_report(
        "mine", model, x, y, registers,
        widths=range(7, 9), compared=both, steps=3, seed=4,
        told=lambda *at: told.append(at),
    )  # fmt: skip
    assert report["digest"] == digest(report)
    assert [at[:2] for at in told[:2]] == [("mine: attacking 0", 0), ("mine: attacking 2", 1)]
    assert told[2:] == [("mine: simulating", done, 4) for done in range(4)]
    layers = to_layers(model)
    found = reach(model, x, steps=3, seed=4)
    over = {}

    def watch(name, layer, codes, _):
        over[name] = int(np.count_nonzero(simulate(layer, codes, registers[name]).overflow_count))

    to_integer(model, Accumulator(40), watch=watch)(x)
    assert min(over.values()) > 0
    for name, layer in layers.items():
        decided = decide(layer, registers[name])
        assert report["layers"][name]["verdict"] == str(decided.verdict)
        assert report["layers"][name]["least_bits"] == decided.least_bits
        reached = report["reached"][name]
        for kind, ends in (("attack", found[name].attack), ("proved", found[name].proved)):
            assert reached[kind] == ends_json(ends, registers[name])
        assert reached["data"]["channel_high"] == found[name].data.ends.high.tolist()
        assert reached["data"]["overflowed_outputs"] == over[name]
    difference = compare(model, x, *both)
    assert report["comparison"]["changed"] == list(difference.changed)
    assert report["comparison"]["largest"] == difference.largest > 0
    assert report["comparison"]["samples"] == len(x)
    for name, layer in difference.layers.items():
        expected = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(layer).items()
        }
        assert report["comparison"]["layers"][name] == expected
    assert report["sweep"] == sweep(model, x, y, range(7, 9))


def test_a_sweep_is_every_width_and_rule():
    """Accuracy and overflows, those of the integer network by itself."""
    model, x, y = trained()
    rows = sweep(model, x, y, range(6, 9))
    cases = [(bits, rule) for bits in (6, 7, 8) for rule in Overflow]
    for row, (bits, rule) in zip(rows, cases, strict=True):
        network = to_integer(model, Accumulator(bits, rule))
        assert (row["bits"], row["overflow"]) == (bits, str(rule))
        assert row["accuracy"] == accuracy(network, x, y)
        seen = network.overflow_report()
        own = {name: asdict(each) for name, each in seen.items()}
        assert all(found.pop("level_steps") == () for found in own.values())
        assert row["overflows"] == own
    assert len({row["accuracy"] for row in rows}) > 1


def test_what_a_report_cannot_be_made_of():
    """A layer without a register, classes of other inputs."""
    model, x, y = trained()
    both = (Accumulator(8), Accumulator(8, "saturate"))
    how = {"widths": range(7, 8), "compared": both, "steps": 1, "seed": 0}
    with pytest.raises(SpecError, match=r"^registers must have one for each layer, and lack 2$"):
        network_report("mine", model, x, y, {"0": both[0]}, **how)
    registers = {"0": both[0], "2": Accumulator(8, signed=False)}
    with pytest.raises(SpecError, match=r"^registers must have a sign, and have none for 2$"):
        network_report("mine", model, x, y, registers, **how)
    registers = dict.fromkeys(("0", "2"), both[0])
    with pytest.raises(ShapeError, match=r"^x and y must have one length, not 60 and 59$"):
        network_report("mine", model, x, y[1:], registers, **how)


def test_products_of_activations_are_proved_by_their_types_or_not_at_all():
    """A network that computes such products in registers they may not fit is not proved."""
    torch.manual_seed(0)
    x = torch.rand(8, 5, 16)
    y = torch.zeros(8, dtype=torch.long)

    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0].mean(dim=1)

    how = {"weight_bits": 4, "act_bits": 4, "acc_bits": 9, "method": "budget"}
    model = quantize_model(Attends(), **how, calibration=x)
    names = list(to_layers(model))
    both = (Accumulator(9), Accumulator(9, "saturate"))

    def made(registers):
        return network_report(
            "mine", model, x, y, registers, widths=range(9, 10), compared=both, steps=1, seed=0
        )

    report = made(dict.fromkeys(names, Accumulator(9)))
    assert {layer["verdict"] for layer in report["layers"].values()} == {"proved"}
    products = {product["name"]: product for product in report["products"]}
    assert len(products) == 2
    assert all(product["accumulator"]["bits"] == 9 for product in products.values())
    needed = max(product["least_bits"] for product in products.values())
    assert needed > 9
    assert report["verdict"] == "undecided"
    named = dict.fromkeys(products, Accumulator(needed))
    report = made(dict.fromkeys(names, Accumulator(9)) | named)
    assert report["verdict"] == "proved"
    assert {product["verdict"] for product in report["products"]} == {"proved"}
    assert f"their types need {needed} bits of {needed}: proved" in page("t", [report])
