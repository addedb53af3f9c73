"""`accsim train`: a recipe carried out in a folder, where it goes on if it was interrupted.

Needs the extra "train".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from accsim import bounds
from accsim.errors import RecipeError
from accsim.extras import require
from accsim.files import atomically
from accsim.spec import MAX_BITS, Accumulator, Overflow
from verification import report, tables
from verification.console import show
from verification.decide import Report, Verdict, decide
from verification.network import network_report
from verification.page import write_page
from verification.progress import showing

if TYPE_CHECKING:
    from torch import nn

    from a2qplus import Product
    from a2qplus.data import Data
    from a2qplus.recipe import Recipe
    from a2qplus.train import Epoch
    from accsim.layer import IntLayer

__all__ = ["print_result", "train"]

SCHEMA = "accsim.train/1"
RECIPE = "recipe.toml"
UNBOUND = 32  # bits of the register that a layer without one is decided for
SWEPT = 12  # widths whose accuracy a report has
STEPS = 30  # of an attack


def train(
    path: Path, out: Path, *, with_report: bool, quiet: bool
) -> tuple[report.Json, Verdict | None]:
    """Train, decide each layer at its own register, and write everything into the folder `out`.

    Returns what it writes to result.json, and the verdict: None where no layer has a register.
    `with_report`: writes `network_report`, too, as report.json and report.html.
    A progress bar is on standard error, where that is a terminal.

    Raises: RecipeError, CheckpointError for what cannot be carried out, or not in this folder;
    MissingExtraError; KeyboardInterrupt, after which the same call goes on.
    """
    require("torch", extra="train", purpose="accsim train")
    from a2qplus import (
        float_network,
        matmuls,
        quantized_network,
        read_recipe,
        recipe_data,
        to_layers,
    )
    from a2qplus.train import accuracy

    recipe = read_recipe(path)
    data = recipe_data(recipe)
    source = float_network(recipe, data)
    quantized_network(recipe, source, data)  # what is wrong with it shows before the training
    _claim(out, path, recipe)
    model = _trained(recipe, source, data, out, quiet=quiet)
    layers = to_layers(model)
    products = matmuls(model, data.test_x[:1])
    registers = _registers(model)
    reports = {
        name: decide(layers[name], Accumulator(bits))
        for name, bits in registers.items()
        if bits is not None
    }
    verdict = report.overall(reports) if reports else None
    content = {
        "schema": SCHEMA,
        "versions": report.versions("numpy", "numba", "torch"),
        "recipe": {name: value for name, value in asdict(recipe).items() if name != "file"},
        "train_inputs": len(data.train_x),
        "test_inputs": len(data.test_x),
        "float_accuracy": accuracy(source, data.test_x, data.test_y),
        "quantized_accuracy": accuracy(model, data.test_x, data.test_y),
        "verdict": None if verdict is None else str(verdict),
        "layers": _layers_json(layers, registers, reports),
        "products": [_product_json(product) for product in products],
    }
    _write(out, content, source, model, layers)
    if with_report:
        _report(out, model, data, registers, recipe.seed, quiet=quiet)
    return content, verdict


def _report(
    out: Path,
    model: nn.Module,
    data: Data,
    registers: Mapping[str, int | None],
    seed: int,
    *,
    quiet: bool,
) -> None:
    """The network's own report; of layers without a register it says so, and takes `UNBOUND`."""
    bits = {name: UNBOUND if width is None else width for name, width in registers.items()}
    unbound = [name for name, width in registers.items() if width is None]
    narrowest = min(bits.values())
    first = min(max(2, narrowest - SWEPT // 2), MAX_BITS + 1 - SWEPT)
    with showing(Console(stderr=True), hidden=quiet) as told:
        content = network_report(
            out.resolve().name,
            model,
            data.test_x,
            data.test_y,
            {name: Accumulator(width) for name, width in bits.items()},
            widths=range(first, first + SWEPT),
            compared=(Accumulator(narrowest), Accumulator(narrowest, Overflow.SATURATE)),
            steps=STEPS,
            seed=seed,
            unbound=unbound,
            told=told,
        )
    report.write_json(out / "report.json", content)
    write_page(out / "report.html", content["name"], [content])


def print_result(content: report.Json, out: Path, console: Console) -> None:
    """Accuracy, and one row for each matrix product: operands, register, and what is known."""
    title = f"{escape(str(out))}: proof for every input, each layer in its own register"
    made = tables.table(title, "product", "taps", "input", "weight", "register", "least", "verdict")
    for product in content["products"]:
        operands = product["operands"] or ("float", "float")
        figures = (product[key] for key in ("acc_bits", "least_bits"))
        register, least = ("-" if figure is None else str(figure) for figure in figures)
        made.add_row(
            escape(product["name"] or "(the network)"),
            str(product["taps"] or ""),
            *operands,
            register,
            least,
            _verdict(product, content["layers"]),
        )
    show(console, made)
    loose = [name for name, layer in content["layers"].items() if layer["acc_bits"] is None]
    if loose:
        console.print(
            f"{len(loose)} of {len(content['layers'])} layers have no register, by edge_bits,"
            " method or overrides: nothing is proved of them",
        )
    float_share, share = (100 * content[f"{kind}_accuracy"] for kind in ("float", "quantized"))
    console.print(
        f"Accuracy on {content['test_inputs']} test inputs: float {float_share:.1f} %,"
        f" quantized {share:.1f} %"
    )
    written = ["result.json", "model.pt", "float.pt", "layers"]
    written += sorted(file.name for file in out.glob("report.*"))
    console.print(f"Written: {out}/ ({', '.join(written)})", markup=False)


def _claim(out: Path, path: Path, recipe: Recipe) -> None:
    """Make the folder this recipe's, or see that it is. Raises: RecipeError."""
    from a2qplus import read_recipe

    kept = out / RECIPE
    if kept.exists():
        other = read_recipe(kept)
        names = [item.name for item in fields(recipe) if item.compare]
        differing = [name for name in names if getattr(other, name) != getattr(recipe, name)]
        if differing:
            raise RecipeError(
                f"{out} must be the folder of this recipe's run, not of another's: they differ in"
                f" {', '.join(differing)}"
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    if any(not file.name.startswith(".") for file in out.iterdir()):
        raise RecipeError(f"{out} must be a new or empty folder, or that of this recipe's run")
    with atomically(kept) as file:
        file.write(path.read_bytes())


def _trained(recipe: Recipe, source: nn.Module, data: Data, out: Path, *, quiet: bool) -> nn.Module:
    """The quantized network, trained from `source`, which is trained first if the recipe says."""
    from a2qplus import fit, quantized_network

    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    with Progress(console=console, transient=True, disable=hidden) as progress:

        def told(name: str) -> Callable[[Epoch], None]:
            task = progress.add_task(name, total=None)

            def tell(epoch: Epoch) -> None:
                words = f"{name}, loss {epoch.loss:.4f}"
                progress.update(task, description=words, total=epoch.epochs, completed=epoch.number)

            return tell

        def carry_out(model: nn.Module, options: Mapping[str, Any], name: str) -> None:
            fit(
                model,
                data.train_x,
                data.train_y,
                **options,
                seed=recipe.seed,
                checkpoint=out / f"{name}.checkpoint",
                on_epoch=told(name),
            )

        if recipe.float_training is not None:
            carry_out(source, recipe.float_training, "float")
        source.eval()
        model = quantized_network(recipe, source, data)
        carry_out(model, recipe.quantized_training, "quantized")
    return model


def _registers(model: nn.Module) -> dict[str, int | None]:
    """The width that each layer was trained for, by name; None: no register."""
    from a2qplus.layers import quantized_layers

    return {
        name: layer.weight_quantizer.quantization.acc_bits
        for name, layer in quantized_layers(model).items()
    }


def _verdict(product: report.Json, layers: report.Json) -> str:
    """What is known of a product's sums, in a word or two."""
    if product["known"] == "weights":
        return layers[product["name"]]["verdict"] or "not asked"
    return "by types" if product["known"] == "types" else "in float"


def _product_json(product: Product) -> report.Json:
    """A matrix product as plain values."""
    operands = None if product.operands is None else [str(spec) for spec in product.operands]
    return asdict(product) | {"known": str(product.known), "operands": operands}


def _layers_json(
    layers: Mapping[str, IntLayer],
    registers: Mapping[str, int | None],
    reports: Mapping[str, Report],
) -> report.Json:
    """By layer name: the register and the verdict; without a register, what the layer needs."""
    decided = report.layers_json(layers, reports)
    return {
        name: {"acc_bits": registers[name]}
        | decided.get(
            name,
            {
                "verdict": None,
                "taps": layer.taps,
                "channels": layer.channels,
                "input": str(layer.input_spec),
                "weight": str(layer.weight_spec),
                "least_bits": int(
                    bounds.least_bits(layer.rows, layer.input_spec, bias=layer.bias).max()
                ),
            },
        )
        for name, layer in layers.items()
    }


def _write(
    out: Path,
    content: report.Json,
    source: nn.Module,
    model: nn.Module,
    layers: Mapping[str, IntLayer],
) -> None:
    from a2qplus.checkpoint import write_tensors

    folder = out / "layers"
    folder.mkdir(exist_ok=True)
    for name, layer in layers.items():
        # a network that is one layer has no name for it
        layer.save(folder / f"{quote(name, safe='') or 'layer'}.npz")
    write_tensors(out / "float.pt", source.state_dict())
    write_tensors(out / "model.pt", model.state_dict())
    report.write_json(out / "result.json", content)
