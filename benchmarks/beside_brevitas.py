"""A2Q+ beside the authors' own library: accuracy, proofs, and seconds per epoch, in one run.

python benchmarks/beside_brevitas.py [--seeds N] [--bits P ...] [--networks NAME ...]
    [--rounds N] [--out FOLDER]

It needs brevitas, which is no dependency: make an environment of its own for it. The networks,
digits, seeds, epochs, batches and schedule are those of benchmarks/accuracy.py. Both sides start
from the same float network, in two ways each, and choose on held-out images of seed 0: as there
the learning rate, and whether outputs are corrected before training, as their library does it; and
where to start. Depthwise layers take A2Q on both sides. All frozen integers are decided exactly.

Times are of one loop for both sides, which take turns. With BREVITAS_JIT=1 only times are taken:
compiled, their EP-init changes nothing, as its hooks are not called. Every finished run is a line
of runs.jsonl in the folder, and the next call goes on from there. 5 seeds take 30 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import median

import accuracy as ours
import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from their_network import JIT_ENABLED, their_layers, their_penalty, theirs
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from a2qplus import penalty
from accsim import Accumulator
from verification import Verdict, decide
from verification.bench import machine, measure

BITS = (6, 7, 8, 9, 10, 11, 12)
NETWORKS = ("mlp", "cnn")
SIDES = {"brevitas": ("naive", "ep"), "a2q+": ("ep", "fit")}  # the starts of each
PENALTY = 1e-3  # the weight of the norm penalty, in both libraries
TIMED_BITS = 9
RATE = 2e-3  # while times are taken


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    norms: Callable[[nn.Module], Tensor],
    data: tuple[Tensor, Tensor],
    shuffle: torch.Generator,
) -> None:
    """One epoch as `a2qplus.fit` has it, with a penalty of either library."""
    x, y = data
    for rows in torch.split(torch.randperm(len(x), generator=shuffle), 64):
        loss = cross_entropy(model(x[rows]), y[rows]) + PENALTY * norms(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def carry_out(run: ours.Run) -> dict[str, object]:
    """Ours as benchmarks/accuracy.py does it, theirs in the same way."""
    if run.method != "brevitas":
        return ours.carry_out(run)  # which refuses a layer that is not proved
    torch.set_num_threads(1)
    begin = time.perf_counter()
    parts, model = ours.digits(run.seed), theirs(run)
    shuffle = torch.Generator().manual_seed(run.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=run.rate)
    epochs = ours.EPOCHS[run.network]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    model.train()
    for _ in range(epochs):
        train_epoch(model, optimizer, their_penalty, parts["train"], shuffle)
        schedule.step()
    model.eval()
    layers = their_layers(model, parts["held"][0])
    reports = [decide(layer, Accumulator(run.bits)) for layer in layers]
    found = {name: ours.accuracy(model, *parts[name]) for name in ("held", "test")}
    proved = sum(report.verdict is Verdict.PROVED for report in reports)
    least = max(report.least_bits for report in reports)
    found |= {"proved": proved, "layers": len(reports), "least_bits": least}
    return {**asdict(run), **found, "seconds": time.perf_counter() - begin}


def epochs_of(network: str) -> dict[str, Callable[[], None]]:
    """One more epoch of training, for each side and for our method "budget" beside them."""
    data = ours.digits(0)["train"]

    def of(method: str) -> Callable[[], None]:
        run = ours.Run(network, method, TIMED_BITS, "ep", 0, RATE, False)
        theirs_too = method == "brevitas"
        model = (theirs if theirs_too else ours.quantized)(run).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        norms = their_penalty if theirs_too else penalty
        shuffle = torch.Generator().manual_seed(0)
        return lambda: train_epoch(model, optimizer, norms, data, shuffle)

    return {method: of(method) for method in ("brevitas", "a2q+", "budget")}


def times(networks: list[str], rounds: int) -> list[dict[str, object]]:
    """Seconds per epoch, medians, with one thread and with as many as torch takes by itself."""
    found = []
    default = torch.get_num_threads()
    for network in networks:
        for threads in dict.fromkeys((1, default)):
            torch.set_num_threads(threads)
            taken = measure(epochs_of(network), rounds)
            seconds = {name: median(each) for name, each in taken.items()}
            ratio = seconds["a2q+"] / seconds["brevitas"]
            row = {"network": network, "threads": threads, "seconds": seconds, "rounds": rounds}
            found.append({**row, "ratio": ratio, "all": taken})
    torch.set_num_threads(default)
    return found


def summary(all_kinds: list[tuple], done: list[dict]) -> list[dict]:
    """Each kind in its chosen way: test accuracy by seed in %, and how many layers are proved."""
    rows = []
    for kind in all_kinds:
        rate, corrected = ours.best_way(kind, done)
        row = dict(zip(("network", "method", "bits", "start"), kind, strict=True))
        every = [r for r in done if ours.matches(r, kind)]
        row |= {name: sum(r.get(name, 0) for r in every) for name in ("proved", "layers")}
        chosen = [r for r in every if (r["rate"], r["corrected"]) == (rate, corrected)]
        chosen = sorted(chosen, key=lambda r: r["seed"])
        row |= {"rate": rate, "corrected": corrected, "held": 100 * chosen[0]["held"]}
        rows.append({**row, "test": [100 * r["test"] for r in chosen]})
    return rows


def differences(rows: list[dict]) -> list[dict]:
    """Ours minus theirs, seed by seed, each from the start that is better on held-out images."""
    found = []
    for network, bits in dict.fromkeys((row["network"], row["bits"]) for row in rows):
        some = [row for row in rows if (row["network"], row["bits"]) == (network, bits)]
        best = {
            method: max((r for r in some if r["method"] == method), key=lambda r: r["held"])
            for method in SIDES
        }
        each = np.subtract(best["a2q+"]["test"], best["brevitas"]["test"])
        row = {"network": network, "bits": bits, "mean": float(each.mean())}
        row["error"] = float(each.std(ddof=1) / len(each) ** 0.5) if len(each) > 1 else 0.0
        found.append({**row, "starts": {method: best[method]["start"] for method in SIDES}})
    return found


def show(rows: list[dict], timed: list[dict], console: Console) -> None:
    """Times, then one table for each network."""
    for row in timed:
        each = ", ".join(f"{name} {1e3 * value:.0f} ms" for name, value in row["seconds"].items())
        where = f"{row['network']}, {row['threads']} threads, median epoch of {row['rounds']}"
        console.print(f"{where}: {each}; a2q+ / brevitas {row['ratio']:.2f}")
    compared = differences(rows)
    for network in dict.fromkeys(row["network"] for row in rows):
        title = f"{network}: test accuracy in %, mean ± deviation"
        made = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
        names = [f"{method}, {start}" for method in SIDES for start in SIDES[method]]
        for column in ("bits", *names, "a2q+ - brevitas ± error", "theirs proved", "runs"):
            made.add_column(column)
        for difference in compared:
            if difference["network"] != network:
                continue
            line = [r for r in rows if (r["network"], r["bits"]) == (network, difference["bits"])]
            cells = [
                f"{np.mean(row['test']):.1f} ± {np.std(row['test'], ddof=len(row['test']) > 1):.1f}"
                for row in line
            ]
            gap = f"{difference['mean']:+.1f} ± {difference['error']:.1f}"
            proved = f"{sum(r['proved'] for r in line)} of {sum(r['layers'] for r in line)}"
            runs = str(len(line[0]["test"]))
            made.add_row(str(difference["bits"]), *cells, gap, proved, runs)
        console.print(made)


def main() -> None:
    """Times first, then train what is missing, then table and JSON of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=ours.SEEDS, help="runs of each kind")
    parser.add_argument("--bits", type=int, nargs="+", default=list(BITS), help="register widths")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=15, help="epochs of each side that are timed")
    parser.add_argument("--out", type=Path, default=Path("beside-brevitas"), help="folder")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    console = Console(width=110)
    compiled = bool(JIT_ENABLED)
    where = {**machine(), "torch": torch.__version__, "brevitas": version("brevitas")}
    where |= {"compiled": compiled, "load": round(os.getloadavg()[0], 1)}  # of others, at the start
    console.print(", ".join(f"{key} {value}" for key, value in where.items()))
    timed, rows = times(arguments.networks, arguments.rounds), []
    if not compiled:
        kinds = [
            (network, method, bits, start)
            for network, bits in product(arguments.networks, arguments.bits)
            for method in SIDES
            for start in SIDES[method]
        ]
        path = arguments.out / "runs.jsonl"
        try:
            done = ours.train_all(path, kinds, arguments.seeds, work=carry_out)
        except KeyboardInterrupt:
            raise SystemExit(f"interrupted: the runs so far are in {arguments.out}") from None
        rows = summary(kinds, done)
    show(rows, timed, console)
    name = "times-compiled.json" if compiled else "table.json"
    (arguments.out / name).write_text(
        json.dumps(
            {"machine": where, "times": timed, "rows": rows, "differences": differences(rows)},
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
