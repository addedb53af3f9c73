"""One network on three datapaths: which outputs differ, and which layers need one bit less.

python benchmarks/digits_datapaths.py [--seed S] [--quick] [--json FILE]

A small convolutional network on scikit-learn's digits, 8-bit weights and activations, trained three
times from the same float network: plainly; with weights of one bit less; and with A2Q+ for 16-bit
registers. Each is run, bit for bit, as an x86 processor with VNNI would (`x86-vnni-u8s8`), as one
with AVX2 alone (`x86-avx2-u8s8`, pairs saturate at 16 bits), and as FBGEMM's 16-bit kernel
(`fbgemm-acc16`, pairs and lanes saturate at 16 bits); and decided for all inputs. A minute.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from a2qplus import fit, quantize_model, to_integer, to_layers
from a2qplus.data import Data, split_digits
from a2qplus.networks import cnn
from accsim import Datapath, IntLayer, datapaths, simulate
from verification import decide
from verification.progress import showing

FLOAT_EPOCHS, EPOCHS = 10, 5
RATE = 3e-3
EXACT = "x86-vnni-u8s8"
NAMES = (EXACT, "x86-avx2-u8s8", "fbgemm-acc16")
TRAINED: dict[str, dict[str, Any]] = {
    "8-bit weights": {"weight_bits": 8, "method": "base"},
    "7-bit weights": {"weight_bits": 7, "method": "base"},
    "A2Q+ for 16 bits": {"weight_bits": 8, "method": "a2q+", "acc_bits": 16},
}
Told = Callable[[str, int, int], object]


def train(digits: Data, seed: int, quick: bool, told: Told) -> dict[str, nn.Module]:
    """The quantized networks, each trained on from the same float one."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network: nn.Module = cnn((1, 8, 8), 10, (16, 32, 32))

    def trained(model: nn.Module, doing: str, epochs: int) -> nn.Module:
        epochs = 1 if quick else epochs
        fit(
            model, digits.train_x, digits.train_y, epochs=epochs, learning_rate=RATE, seed=seed,
            on_epoch=lambda epoch: told(f"training: {doing}", epoch.number, epochs),
        )  # fmt: skip
        return model

    network = trained(network, "float", FLOAT_EPOCHS)
    return {
        name: trained(
            quantize_model(
                network, act_bits=8, calibration=digits.train_x, edge_bits=None, **options
            ),
            name,
            EPOCHS,
        )
        for name, options in TRAINED.items()
    }


def outputs(model: nn.Module, x: Tensor, datapath: Datapath) -> dict[str, Any]:
    """Logits through a datapath; of each layer, on the inputs that reach it, what is not exact."""
    exact, wrong = datapaths.load(EXACT), {}

    def watch(name: str, layer: IntLayer, codes: Any, run: Any) -> None:
        one = simulate(layer, codes, exact, peaks=False).output
        wrong[name] = (int(np.count_nonzero(run.output != one)), one.size)

    network = to_integer(model, datapath, watch=watch)
    logits = network(x)
    steps = {name: list(seen.level_steps) for name, seen in network.overflow_report().items()}
    return {"logits": logits, "layers": wrong, "level_steps": steps}


def measure(model: nn.Module, digits: Data) -> dict[str, Any]:
    """The network on each datapath: accuracy, what differs from the exact one, what is proved."""
    found: dict[str, Any] = {}
    layers = to_layers(model)
    wide = outputs(model, digits.test_x, datapaths.load(EXACT))["logits"]
    for name in NAMES:
        datapath = datapaths.load(name)
        one = outputs(model, digits.test_x, datapath)
        classes = one["logits"].argmax(dim=1)
        decided = {layer: decide(layers[layer], datapath) for layer in layers}
        found[name] = {
            "accuracy": float((classes == digits.test_y).float().mean()),
            "images": int((one["logits"] != wide).any(dim=1).sum()),
            "classes": int((classes != wide.argmax(dim=1)).sum()),
            "layers": {
                layer: {
                    "taps": layers[layer].taps,
                    "wrong": one["layers"][layer][0],
                    "outputs": one["layers"][layer][1],
                    "level_steps": one["level_steps"][layer],
                    "verdict": str(decided[layer].verdict),
                    "too_narrow": [
                        max(0, level.least_bits - register.bits)
                        for level, register in zip(
                            decided[layer].levels, datapath.levels, strict=True
                        )
                    ],
                }
                for layer in layers
            },
        }
    return found


def report(seed: int, quick: bool) -> dict[str, Any]:
    """All of it."""
    digits = split_digits(seed, quick=quick)
    with showing(Console(stderr=True), hidden=False) as told:
        models = train(digits, seed, quick, told)
        networks = {}
        for place, (name, model) in enumerate(models.items()):
            told(f"running: {name}", place, len(models))
            networks[name] = measure(model, digits)
    return {
        "seed": seed,
        "quick": quick,
        "images": len(digits.test_x),
        "networks": networks,
    }


def lines(told: dict[str, Any]) -> list[str]:
    """The report in words."""
    made = [
        f"digits, seed {told['seed']}, {told['images']} test images; differ: images whose logits"
        f" are not those of {EXACT}",
        f"{'network':<18}{'datapath':<15}{'accuracy':>9}{'differ':>8}{'other class':>13}"
        "  layers proved",
    ]
    for network, found in told["networks"].items():
        for name, one in found.items():
            proved = [layer for layer, it in one["layers"].items() if it["verdict"] == "proved"]
            shown = "all" if len(proved) == len(one["layers"]) else ", ".join(proved) or "none"
            made.append(
                f"{network:<18}{name:<15}{100 * one['accuracy']:>7.1f} %{one['images']:>8}"
                f"{one['classes']:>13}  {shown}"
            )
    first = next(iter(told["networks"].values()))
    made += [
        "",
        f"{next(iter(told['networks']))}, each layer on the inputs that reach it; bits less: so"
        " many less prove it",
        f"{'layer':<9}{'taps':>5}  {'datapath':<15}{'wrong':>8} of{'outputs':>9}"
        "   overflows by level   bits less",
    ]
    for layer in first[EXACT]["layers"]:
        for name in NAMES[1:]:
            it = first[name]["layers"][layer]
            steps = ", ".join(map(str, it["level_steps"]))
            made.append(
                f"{layer:<9}{it['taps']:>5}  {name:<15}{it['wrong']:>8} of{it['outputs']:>9}"
                f"   {steps:<19}{max(it['too_narrow']):>9}"
            )
    return made


def main() -> None:
    """Train, run, decide, print; exit code 1 if anything that is proved differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="one epoch each, fewer images")
    parser.add_argument("--json", type=Path, help="write all figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    told = report(arguments.seed, arguments.quick)
    print("\n".join(lines(told)))
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=1))
    for network, found in told["networks"].items():
        for name, one in found.items():
            for layer, it in one["layers"].items():
                if it["verdict"] == "proved" and it["wrong"]:
                    raise SystemExit(f"{network} on {name}: {layer} is proved, and differs")


if __name__ == "__main__":
    main()
