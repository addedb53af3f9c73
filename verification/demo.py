"""The main job on real data: digits trained to fit a narrow register, beside digits that were not.

Needs the extras "train" and "plot". The data are the 1,797 handwritten digits of scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from accsim._check import integer
from accsim.errors import SpecError
from accsim.extras import require
from accsim.files import write_arrays
from accsim.spec import Accumulator, Overflow
from verification import report
from verification.demo_report import print_demo
from verification.network import network_report
from verification.progress import Told, showing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from a2qplus.data import Data
    from accsim.layer import IntLayer

__all__ = ["run_demo"]

SCHEMA = "accsim.demo/1"
OPERAND_BITS = 4  # of weights and activations
SWEEP = range(6, 21)  # register widths
WIDE = 32  # a register that none of these layers can overflow
NETWORKS = ("plain", "a2q+")
STEPS, QUICK_STEPS = 30, 5  # of an attack


def run_demo(out: Path, *, bits: int, seed: int, quick: bool, console: Console) -> dict[str, Any]:
    """Train, prove, simulate, print, and write everything into the folder `out`.

    Returns what it writes to report.json.
    Raises: MissingExtraError without torch, scikit-learn or matplotlib; SpecError for bits.
    """
    for package, extra in (("torch", "train"), ("sklearn", "train"), ("matplotlib", "plot")):
        require(package, extra=extra, purpose="accsim demo")
    if bits not in SWEEP:
        raise SpecError(f"demo bits must be from {SWEEP[0]} to {SWEEP[-1]}, not {bits}")
    integer(seed, "demo seed", 0, 2**63 - 1)
    from a2qplus.data import split_digits

    out.mkdir(parents=True, exist_ok=True)
    digits = split_digits(seed, quick=quick)
    accumulator = Accumulator(bits)
    with showing(console, hidden=False) as told:
        accuracy, models = _train(digits, bits, seed, quick, told)
        frozen = {name: _layers(model) for name, model in models.items()}
        reports = {
            name: network_report(
                name,
                model,
                digits.test_x,
                digits.test_y,
                dict.fromkeys(frozen[name], accumulator),
                widths=SWEEP,
                compared=(accumulator, Accumulator(bits, Overflow.SATURATE)),
                steps=QUICK_STEPS if quick else STEPS,
                seed=seed,
                told=told,
            )
            for name, model in models.items()
        }
    content = {
        "schema": SCHEMA,
        "versions": report.versions("numpy", "numba", "torch", "scikit-learn"),
        "seed": seed,
        "quick": quick,
        "bits": bits,
        "wide_bits": WIDE,
        "operand_bits": OPERAND_BITS,
        "train_images": len(digits.train_x),
        "test_images": len(digits.test_x),
        "float_accuracy": accuracy,
        "identical": {
            name: _identical(model, digits.test_x, bits) for name, model in models.items()
        },
        "networks": reports,
    }
    _write(out, content, frozen, models, digits)
    print_demo(console, content, out)
    return content


def _train(
    digits: Data, bits: int, seed: int, quick: bool, told: Told
) -> tuple[float, dict[str, nn.Module]]:
    """The float network's accuracy, and both quantized networks trained on from it."""
    import torch

    from a2qplus import fit, quantize_model
    from a2qplus.networks import cnn
    from a2qplus.train import accuracy

    epochs = 2 if quick else 15

    def trained(model: nn.Module, doing: str) -> nn.Module:
        fit(
            model,
            digits.train_x,
            digits.train_y,
            epochs=epochs,
            learning_rate=3e-3,
            seed=seed,
            on_epoch=lambda epoch: told(f"training: {doing}", epoch.number, epochs),
        )
        return model

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network: nn.Module = cnn((1, 8, 8), 10, (16, 32, 32))
    network = trained(network, "float")
    methods = {"plain": ("base", None), "a2q+": ("a2q+", bits)}
    models = {}
    for name, (method, acc_bits) in methods.items():
        model = quantize_model(
            network,
            weight_bits=OPERAND_BITS,
            act_bits=OPERAND_BITS,
            acc_bits=acc_bits,
            method=method,
            calibration=digits.train_x,
            edge_bits=None,
        )
        models[name] = trained(model, name)
    return accuracy(network, digits.test_x, digits.test_y), models


def _layers(model: nn.Module) -> dict[str, IntLayer]:
    from a2qplus import to_layers

    return to_layers(model)


def _identical(model: nn.Module, x: Tensor, bits: int) -> report.Json:
    """Whether wrapping, saturating and wide registers give the same logits on every image.

    And the largest difference of the wide logits from the fake-quantized model's.
    """
    import torch

    from a2qplus import to_integer

    wide = to_integer(model, Accumulator(WIDE))(x)
    narrow = [to_integer(model, Accumulator(bits, rule))(x) for rule in Overflow]
    with torch.no_grad():
        difference = float((wide - model(x)).abs().max())
    return {
        "wrap_saturate_wide": all(torch.equal(wide, logits) for logits in narrow),
        "largest_difference_from_fake_quantized": difference,
    }


def _inputs(model: nn.Module, x: Tensor) -> dict[str, Any]:
    """The integer inputs of each layer for the images x, by layer name."""
    import torch

    from a2qplus.layers import QuantLayer

    seen: dict[str, Any] = {}

    def hook(name: str) -> Any:
        def record(layer: QuantLayer, inputs: tuple[Tensor, ...]) -> None:
            seen[name] = layer.input_quantizer(inputs[0])[0].to(torch.int16).numpy()

        return record

    quantized = {n: m for n, m in model.named_modules() if isinstance(m, QuantLayer)}
    handles = [m.register_forward_pre_hook(hook(n)) for n, m in quantized.items()]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return seen


def _write(
    out: Path,
    content: dict[str, Any],
    frozen: Mapping[str, Mapping[str, IntLayer]],
    models: Mapping[str, nn.Module],
    digits: Data,
) -> None:
    from verification.page import write_page
    from verification.plot import accuracy_plot

    for name in NETWORKS:
        folder = out / "layers" / name
        folder.mkdir(parents=True, exist_ok=True)
        for layer_name, layer in frozen[name].items():
            layer.save(folder / f"{layer_name}.npz")
        (out / "inputs").mkdir(exist_ok=True)
        write_arrays(out / "inputs" / f"{name}.npz", _inputs(models[name], digits.test_x[:50]))
    folder = out / "witnesses"
    folder.mkdir(exist_ok=True)
    for layer_name, found in content["networks"]["plain"]["layers"].items():
        if found["witness"]:
            report.write_json(folder / f"{layer_name}.json", found["witness"])
    networks = content["networks"]
    title = f"The same {OPERAND_BITS}-bit network in narrower registers"
    accuracy_plot(out / "accuracy.png", {name: networks[name]["sweep"] for name in networks}, title)
    write_page(out / "report.html", f"Digits in {content['bits']} bits", list(networks.values()))
    report.write_json(out / "report.json", content)
