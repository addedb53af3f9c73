"""Accuracy of every method at every register width: trained, and after training in float alone.

python benchmarks/accuracy.py [--seeds N] [--bits P ...] [--networks NAME ...] [--out FOLDER]

Three networks on scikit-learn's digits with 4-bit weights and activations, every layer in a
register of P bits: an MLP, the same with tanh (signed inputs), and a CNN with a depthwise
convolution. For each method at each width the learning rate, and whether outputs are corrected
before training, are the best of four ways on images held out from training with seed 0 (each seed
splits anew: some 40 of these 200 images are among the 360 that another seed tests on). "Rounded"
and "refilled" are networks that were not trained, their outputs corrected. Every finished run is a
line of runs.jsonl in the folder: Ctrl-C loses the runs in progress only, and the next call goes on
from there. With 5 seeds it takes about 40 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from itertools import product
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

from a2qplus import correct_outputs, fit, quantize_model, refill_model, to_layers
from a2qplus.data import split_digits
from a2qplus.train import accuracy
from accsim import Accumulator
from verification import Verdict, decide

METHODS = ("a2q", "a2q+", "budget")
BITS = (6, 7, 8, 9, 10, 11, 12)
NETWORKS = ("mlp", "signed", "cnn")
WAYS = tuple(product((2e-3, 5e-3), (False, True)))  # learning rate, outputs corrected
EPOCHS = {"mlp": 30, "signed": 30, "cnn": 15}  # in float, and as many quantized
OPERAND_BITS = 4
HELD_OUT = 200
SEEDS = 5


@dataclass(frozen=True, slots=True)
class Run:
    """One network trained in one way; `bits` None: no register."""

    network: str
    method: str
    bits: int | None
    start: str
    seed: int
    rate: float
    corrected: bool  # outputs are fitted to the float network's before training


@cache
def digits(seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Images (B, 1, 8, 8) from 0 to 1 and their digits: to train on, held out, to test on."""
    all_of = split_digits(seed)
    x, y = all_of.train_x, all_of.train_y
    return {
        "train": (x[HELD_OUT:], y[HELD_OUT:]),
        "held": (x[:HELD_OUT], y[:HELD_OUT]),
        "test": (all_of.test_x, all_of.test_y),
    }


@cache
def trained(network: str, seed: int) -> nn.Module:
    """The float network."""
    torch.manual_seed(seed)
    if network in ("mlp", "signed"):
        kind = nn.ReLU if network == "mlp" else nn.Tanh
        layers = [nn.Flatten(), nn.Linear(64, 96), kind(), nn.Linear(96, 96), kind()]
        model = nn.Sequential(*layers, nn.Linear(96, 10))
    else:
        first, depthwise = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, 2, 1, groups=16)
        pointwise = nn.Conv2d(16, 32, 1)
        layers = [first, nn.ReLU(), depthwise, nn.ReLU(), pointwise, nn.ReLU(), nn.Flatten()]
        model = nn.Sequential(*layers, nn.Linear(512, 10))
    x, y = digits(seed)["train"]
    fit(model, x, y, epochs=EPOCHS[network], learning_rate=2e-3, seed=seed)
    return model


def quantized(run: Run) -> nn.Module:
    """The network before training with quantization."""
    return quantize_model(
        trained(run.network, run.seed),
        weight_bits=OPERAND_BITS,
        act_bits=OPERAND_BITS,
        acc_bits=run.bits,
        method=run.method,
        calibration=digits(run.seed)["train"][0],
        edge_bits=None,
        start=run.start,
    )


def carry_out(run: Run) -> dict[str, object]:
    """Train, decide every layer, measure."""
    torch.set_num_threads(1)
    begin = time.perf_counter()
    parts, source = digits(run.seed), trained(run.network, run.seed)
    found: dict[str, object] = {"float": accuracy(source, *parts["test"])}
    for name, refilled in (("rounded", False), ("refilled", True)):
        model = quantized(run)
        if refilled:
            refill_model(model, source)
        correct_outputs(model, source, parts["train"][0])
        found[name] = accuracy(model, *parts["test"])
        check(model, run.bits)
    model = quantized(run)
    if run.corrected:
        correct_outputs(model, source, parts["train"][0])
    epochs = EPOCHS[run.network]
    fit(model, *parts["train"], epochs=epochs, learning_rate=run.rate, seed=run.seed)
    found["least_bits"] = check(model, run.bits)
    found |= {name: accuracy(model, *parts[name]) for name in ("held", "test")}
    return {**asdict(run), **found, "seconds": time.perf_counter() - begin}


def check(model: nn.Module, bits: int | None) -> int:
    """The least register that holds every layer; refuse a layer that does not fit its own."""
    reports = [decide(layer, Accumulator(bits or 32)) for layer in to_layers(model).values()]
    if any(report.verdict is not Verdict.PROVED for report in reports):
        raise SystemExit(f"a layer is not proved at {bits} bits: nothing is reported")
    return max(report.least_bits for report in reports)


def kinds(networks: list[str], bits: list[int]) -> list[tuple[str, str, int | None, str]]:
    """Network, method, width and start of every row of the table."""
    found: list[tuple[str, str, int | None, str]] = []
    for network in networks:
        found.append((network, "base", None, "fit"))
        found += [(network, m, p, s) for p in bits for m in METHODS for s in ("ep", "fit")]
    return found


def remaining(all_kinds: list[tuple], done: list[dict], seeds: int) -> Iterator[Run]:
    """Seed 0 in every way, then the others in the best one on held-out images."""
    have = {Run(**{item.name: record[item.name] for item in fields(Run)}) for record in done}
    for kind in all_kinds:
        runs = [Run(*kind, 0, *way) for way in WAYS]
        if have.issuperset(runs):
            runs = [Run(*kind, seed, *best_way(kind, done)) for seed in range(1, seeds)]
        yield from (run for run in runs if run not in have)


def best_way(kind: tuple, done: list[dict]) -> tuple[float, bool]:
    """Of the ways tried with seed 0, that with the best held-out accuracy; the first of equals."""
    held = {(r["rate"], r["corrected"]): r["held"] for r in done if matches(r, kind, seed=0)}
    return max(WAYS, key=lambda way: held[way])


def matches(record: dict, kind: tuple, **other: object) -> bool:
    """Whether a record is of this network, method, width and start."""
    wanted = dict(zip(("network", "method", "bits", "start"), kind, strict=True)) | other
    return all(record[name] == value for name, value in wanted.items())


def read(path: Path) -> list[dict]:
    """The runs so far; a line that was cut off is done again."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def train_all(
    path: Path,
    all_kinds: list[tuple],
    seeds: int,
    *,
    work: Callable[[Run], dict[str, object]] = carry_out,
) -> list[dict]:
    """Every run that is not in the file yet, by all cores."""
    total = len(all_kinds) * (len(WAYS) + seeds - 1)
    workers = min(os.cpu_count() or 1, 8)
    with (
        multiprocessing.get_context("spawn").Pool(workers) as pool,
        Progress(console=Console(stderr=True)) as progress,
        path.open("a") as file,
    ):
        task = progress.add_task("training", total=total, completed=len(read(path)))
        while runs := list(remaining(all_kinds, read(path), seeds)):
            for record in pool.imap_unordered(work, sorted(runs, key=lambda r: r.seed)):
                file.write(json.dumps(record) + "\n")
                file.flush()
                progress.advance(task)
    return read(path)


def summary(all_kinds: list[tuple], done: list[dict]) -> list[dict]:
    """Mean and deviation over the seeds, in %, at the chosen learning rate."""
    rows = []
    for kind in all_kinds:
        rate, corrected = best_way(kind, done)
        chosen = [r for r in done if matches(r, kind, rate=rate, corrected=corrected)]
        row = dict(zip(("network", "method", "bits", "start"), kind, strict=True))
        for name in ("rounded", "refilled", "test"):
            values = 100 * np.array([r[name] for r in chosen])
            deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
            row[name] = {"mean": float(values.mean()), "deviation": deviation, "runs": len(values)}
        least = max(r["least_bits"] for r in chosen)
        rows.append({**row, "rate": rate, "corrected": corrected, "least_bits": least})
    return rows


def show(rows: list[dict], console: Console) -> None:
    """One table for each network."""
    for network in dict.fromkeys(row["network"] for row in rows):
        title = f"{network}: test accuracy in %, mean ± deviation"
        made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
        for column in ("method", "start", "bits", "trained", "rounded", "refilled", "rate", "runs"):
            made.add_column(column)
        for row in rows:
            if row["network"] == network:
                cells = [
                    f"{row[name]['mean']:.1f} ± {row[name]['deviation']:.1f}"
                    for name in ("test", "rounded", "refilled")
                ]
                bits = str(row["bits"] or f"none ({row['least_bits']})")
                runs = str(row["test"]["runs"])
                made.add_row(row["method"], row["start"], bits, *cells, f"{row['rate']:g}", runs)
        console.print(made)


def plot(rows: list[dict], path: Path) -> None:
    """Accuracy against width: trained, and refilled without training."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    networks = list(dict.fromkeys(row["network"] for row in rows))
    figure, axes = plt.subplots(2, len(networks), figsize=(5.5 * len(networks), 8), squeeze=False)
    for column, network in enumerate(networks):
        for line, (name, title) in enumerate((("test", "trained"), ("refilled", "not trained"))):
            axis = axes[line][column]
            for method in METHODS:
                for start, style in (("ep", "--"), ("fit", "-")):
                    some = [r for r in rows if (r["network"], r["method"]) == (network, method)]
                    some = [r for r in some if r["start"] == start]
                    means = [r[name]["mean"] for r in some]
                    spread = [r[name]["deviation"] for r in some]
                    label = f"{method}, {start}"
                    color = f"C{METHODS.index(method)}"
                    at = [r["bits"] for r in some]
                    axis.errorbar(at, means, spread, fmt=f"o{style}", color=color, label=label)
            axis.set(title=f"{network}, {title}", xlabel="register bits", ylabel="accuracy, %")
            axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train what is missing, then table, JSON and plot of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"runs of each kind ({SEEDS})")
    parser.add_argument("--bits", type=int, nargs="+", default=list(BITS), help="register widths")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--out", type=Path, default=Path("accuracy"), help="folder of the results")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    all_kinds = kinds(arguments.networks, arguments.bits)
    try:
        done = train_all(arguments.out / "runs.jsonl", all_kinds, arguments.seeds)
    except KeyboardInterrupt:
        raise SystemExit(f"interrupted: the runs so far are in {arguments.out}") from None
    rows = summary(all_kinds, done)
    show(rows, Console(width=110))
    (arguments.out / "table.json").write_text(json.dumps(rows, indent=1))
    plot(rows, arguments.out / "accuracy.png")


if __name__ == "__main__":
    main()
