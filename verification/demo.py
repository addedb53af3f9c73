"""The main job on real data: digits trained to fit a narrow register, beside digits that were not.

Needs the extras "train" and "plot". The data are the 1,797 handwritten digits of scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, TaskID

from accsim._check import integer
from accsim.errors import SpecError
from accsim.extras import require
from accsim.files import write_arrays
from accsim.spec import Accumulator, Overflow
from verification import report
from verification.decide import decide
from verification.demo_report import print_demo

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
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        accuracy, models = _train(digits, bits, seed, quick, progress)
        sweeps = {name: _sweep(name, model, digits, progress) for name, model in models.items()}
    frozen = {name: _layers(model) for name, model in models.items()}
    accumulator = Accumulator(bits)
    reports = {
        name: {layer: decide(frozen[name][layer], accumulator) for layer in frozen[name]}
        for name in NETWORKS
    }
    same = {name: _identical(model, digits.test_x, bits) for name, model in models.items()}
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
        "networks": {
            name: {
                "verdict": str(report.overall(reports[name])),
                "layers": report.verdict_json(frozen[name], reports[name]),
                "wrap_saturate_wide_identical": same[name][0],
                "largest_difference_from_fake_quantized": same[name][1],
                "sweep": sweeps[name],
            }
            for name in NETWORKS
        },
    }
    _write(out, content, frozen, models, digits)
    print_demo(console, content, frozen, reports, out)
    return content


def _train(
    digits: Data, bits: int, seed: int, quick: bool, progress: Progress
) -> tuple[float, dict[str, nn.Module]]:
    """The float network's accuracy, and both quantized networks trained on from it."""
    import torch

    from a2qplus import fit, quantize_model
    from a2qplus.networks import cnn
    from a2qplus.train import accuracy

    epochs = 2 if quick else 15
    task = progress.add_task("training", total=3 * epochs)

    def trained(model: nn.Module, doing: str) -> nn.Module:
        progress.update(task, description=f"training: {doing}")
        fit(
            model,
            digits.train_x,
            digits.train_y,
            epochs=epochs,
            learning_rate=3e-3,
            seed=seed,
            on_epoch=lambda _: progress.advance(task),
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


def _sweep(name: str, model: nn.Module, digits: Data, progress: Progress) -> list[dict[str, Any]]:
    """Accuracy and overflows on all test images for each width and overflow rule."""
    from a2qplus import to_integer
    from a2qplus.train import accuracy

    cases = [(bits, rule) for bits in SWEEP for rule in Overflow]
    rows = []
    task: TaskID = progress.add_task(f"simulating: {name}", total=len(cases))
    for bits, rule in cases:
        network = to_integer(model, Accumulator(bits, rule))
        share = accuracy(network, digits.test_x, digits.test_y)
        overflows = {
            layer: {"outputs": seen.outputs, "overflowed_outputs": seen.overflowed_outputs,
                    "overflow_steps": seen.overflow_steps}
            for layer, seen in network.overflow_report().items()
        }  # fmt: skip
        rows.append(
            {"bits": bits, "overflow": str(rule), "accuracy": share, "overflows": overflows}
        )
        progress.advance(task)
    return rows


def _layers(model: nn.Module) -> dict[str, IntLayer]:
    from a2qplus import to_layers

    return to_layers(model)


def _identical(model: nn.Module, x: Tensor, bits: int) -> tuple[bool, float]:
    """Whether wrapping, saturating and wide registers give the same logits on every image.

    And the largest difference of the wide logits from the fake-quantized model's.
    """
    import torch

    from a2qplus import to_integer

    wide = to_integer(model, Accumulator(WIDE))(x)
    narrow = [to_integer(model, Accumulator(bits, rule))(x) for rule in Overflow]
    with torch.no_grad():
        difference = float((wide - model(x)).abs().max())
    return all(torch.equal(wide, logits) for logits in narrow), difference


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
    from verification.plot import accuracy_plot

    for name in NETWORKS:
        folder = out / "layers" / name
        folder.mkdir(parents=True, exist_ok=True)
        for layer_name, layer in frozen[name].items():
            layer.save(folder / f"{layer_name}.npz")
        (out / "inputs").mkdir(exist_ok=True)
        write_arrays(out / "inputs" / f"{name}.npz", _inputs(models[name], digits.test_x[:50]))
    witnesses = {
        layer: found["witness"]
        for layer, found in content["networks"]["plain"]["layers"].items()
        if found["witness"]
    }
    report.write_json(out / "witness.json", {"schema": "accsim.witness/1", "layers": witnesses})
    accuracy_plot(out / "accuracy.png", content)
    report.write_json(out / "report.json", content)
