"""The `accsim` command. Exit codes: 0 proved or done, 1 refuted, 2 wrong use, 3 undecided."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.progress import track

import accsim
from accsim import spec
from accsim.errors import AccsimError, LayerFileError, UnsafeLayerError
from accsim.files import read_array, read_arrays, write_arrays
from accsim.layer import IntLayer
from accsim.simulate import plan_for, simulate
from accsim.spec import Accumulator, Overflow
from verification import report, searching
from verification.decide import Verdict, decide
from verification.plot import trajectory_plot
from verification.witness_file import load_witness, save_witness, witness_json

__all__ = ["app", "main"]

app = typer.Typer(
    help=(
        "Narrow integer accumulators: simulate them bit-exactly, prove that they cannot overflow,"
        " or see the input that does it."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

EXIT = {Verdict.PROVED: 0, Verdict.REFUTED: 1, Verdict.UNDECIDED: 3}
WRONG_USE = 2
CRASHED = 70
INTERRUPTED = 130


Layers = Annotated[
    Path, typer.Argument(metavar="LAYERS", help="A layer file, or a folder of layer files.")
]
Bits = Annotated[int, typer.Option(help="Width of the register, 2 to 62.")]
Rule = Annotated[Overflow, typer.Option(help="What the register does on overflow.")]
Unsigned = Annotated[bool, typer.Option("--unsigned", help="A register without negative values.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(accsim.__version__)  # noqa: T201
        raise typer.Exit


@app.command()
def verify(
    layers: Layers,
    bits: Bits,
    overflow: Rule = Overflow.WRAP,
    unsigned: Unsigned = False,
    witnesses: Annotated[
        Path | None, typer.Option(help="Write the witness of each refuted layer to this folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove for every layer that no input overflows the register, or show one that does."""
    accumulator = Accumulator(bits, overflow, signed=not unsigned)
    loaded = _load(layers)
    reports = _each(loaded, "verifying", lambda _, layer: decide(layer, accumulator), quiet=as_json)
    if witnesses is not None:
        witnesses.mkdir(parents=True, exist_ok=True)
        for name, found in reports.items():
            if found.witness:
                save_witness(found.witness, witnesses / f"{name}.json")
    verdict = report.overall(reports)
    if as_json:
        _print_json(
            {
                "schema": "accsim.verify/1",
                "accumulator": report.accumulator_json(accumulator),
                "verdict": str(verdict),
                "layers": report.verdict_json(loaded, reports),
            }
        )
    else:
        console = Console()
        console.print(report.verdict_table(f"{layers.name}, {accumulator}", loaded, reports))
        for name, found in reports.items():
            if found.witness:
                console.print(
                    f"{name}: {found.witness}", highlight=False, markup=False, soft_wrap=True
                )
    raise typer.Exit(EXIT[verdict])


@app.command()
def explain(
    witness: Annotated[
        Path, typer.Argument(metavar="WITNESS", help="A file of verify --witnesses.")
    ],
    plot: Annotated[
        Path | None, typer.Option(help="Draw sum and register over the steps into this .png file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replay a witness: the register step by step around the one that overflows."""
    found = load_witness(witness)
    if plot is not None:
        trajectory_plot(plot, found)
    if as_json:
        exact, register = found.trajectory()
        _print_json({**witness_json(found), "exact_sums": exact, "registers": register})
    else:
        Console().print(report.witness_table(witness.name, found))
        print(found)  # noqa: T201


@app.command()
def run(
    layers: Layers,
    inputs: Annotated[
        Path,
        typer.Argument(
            metavar="INPUTS",
            help="Integer inputs: a .npy file for one layer, or an .npz with one array per layer.",
        ),
    ],
    bits: Bits,
    overflow: Rule = Overflow.WRAP,
    unsigned: Unsigned = False,
    out: Annotated[
        Path | None, typer.Option(help="Write every layer's outputs to this .npz file.")
    ] = None,
    show_plan: Annotated[
        bool, typer.Option("--plan", help="Print which kernels would run and why; run nothing.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(help="Threads; NUMBA_NUM_THREADS if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate layers bit-exactly on given inputs, and count what overflows."""
    accumulator = Accumulator(bits, overflow, signed=not unsigned)
    if out is not None:
        _check_out(out, show_plan, {inputs, layers, *layers.glob("*")})
    loaded = _load(layers)
    arrays = _inputs(inputs, loaded)
    if show_plan:
        plans = _each(
            loaded,
            "planning",
            lambda name, layer: plan_for(layer, arrays[name], accumulator),
            quiet=as_json,
        )
        if as_json:
            _print_json({"schema": "accsim.plan/1", "layers": report.plan_json(plans)})
        else:
            print("\n".join(f"{name}: {chosen}" for name, chosen in plans.items()))  # noqa: T201
        return
    runs = _each(
        loaded,
        "simulating",
        lambda name, layer: simulate(layer, arrays[name], accumulator, threads=threads),
        quiet=as_json,
    )
    if out is not None:
        write_arrays(out, {name: result.output for name, result in runs.items()})
    if as_json:
        _print_json(
            {
                "schema": "accsim.run/1",
                "accumulator": report.accumulator_json(accumulator),
                "layers": report.run_json(runs),
            }
        )
    else:
        Console().print(report.run_table(f"{layers.name}, {accumulator}", runs))


@app.command()
def search(
    layers: Layers,
    bits: Bits,
    overflow: Rule = Overflow.WRAP,
    unsigned: Unsigned = False,
    examples: Annotated[int, typer.Option(help="Inputs to try, of each layer.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the inputs.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Try inputs until one overflows the register. Finding none proves nothing: see verify."""
    accumulator = Accumulator(bits, overflow, signed=not unsigned)
    loaded = _load(layers)
    samples = searching.sample_layers(
        loaded, accumulator, examples=examples, seed=seed, quiet=as_json
    )
    found = any(sample.witness for sample in samples.values())
    if as_json:
        _print_json(
            {
                "schema": "accsim.search/1",
                "accumulator": report.accumulator_json(accumulator),
                "seed": seed,
                "found": found,
                "layers": searching.sample_json(loaded, samples),
            }
        )
    else:
        console = Console()
        title = f"{layers.name}, {accumulator}, seed {seed}"
        console.print(searching.sample_table(title, loaded, samples))
        for line in searching.summary(samples):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(EXIT[Verdict.REFUTED] if found else 0)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("accsim-demo"),
    bits: Annotated[int, typer.Option(help="Register width to train A2Q+ for.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of weights, split and shuffling.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Little training, few images.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train digits to fit a narrow register, prove it, simulate it; beside a plain network."""
    from verification.demo import run_demo

    result = run_demo(
        out, bits=bits, seed=seed, quick=quick, console=Console(quiet=as_json, highlight=False)
    )
    if as_json:
        _print_json(result)


@app.command()
def train(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="A .toml file; docs/digits.toml is one.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of this run: new, or to go on in.")],
    as_json: AsJson = False,
) -> None:
    """Train as a recipe says, and prove each layer. After Ctrl-C the same command goes on."""
    from verification import training

    try:
        content, verdict = training.train(recipe, out, quiet=as_json)
    except KeyboardInterrupt:
        print("accsim: interrupted; the same command goes on", file=sys.stderr)  # noqa: T201
        raise
    if as_json:
        _print_json(content)
    else:
        training.print_result(content, out, Console(highlight=False))
    raise typer.Exit(0 if verdict is None else EXIT[verdict])


@app.command()
def bench(
    m: Annotated[int, typer.Option(help="Inputs.")] = 256,
    n: Annotated[int, typer.Option(help="Output channels.")] = 256,
    k: Annotated[int, typer.Option(help="Taps.")] = 1024,
    bits: Bits = 16,
    overflow: Rule = Overflow.SATURATE,
    unsigned: Unsigned = False,
    weight_bits: Annotated[int, typer.Option(help="Width of the signed weights.")] = 8,
    input_bits: Annotated[int, typer.Option(help="Width of the inputs.")] = 8,
    unsigned_inputs: Annotated[
        bool, typer.Option("--unsigned-inputs", help="Inputs without negative values.")
    ] = False,
    threads: Annotated[int, typer.Option(help="Threads of the simulator.")] = 1,
    repeats: Annotated[int, typer.Option(help="Rounds, at least 7.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Check the simulator on random operands, then time it beside numpy."""
    from verification import bench as timing

    inputs = spec.unsigned(input_bits) if unsigned_inputs else spec.signed(input_bits)
    register = Accumulator(bits, overflow, signed=not unsigned)
    setup = timing.Setup(m, n, k, register, spec.signed(weight_bits), inputs, threads, repeats)
    with Console(stderr=True).status("checking, then timing"):  # shown on a terminal only
        content = timing.bench(setup)
    if as_json:
        _print_json(content)
    else:
        Console().print(timing.bench_table(content))


def main() -> None:
    """Run the command; whatever goes wrong in its use is one line and exit code 2."""
    try:
        code = app(standalone_mode=False) or 0
    except typer.TyperException as error:
        code = _complain(error.format_message())
    except UnsafeLayerError as error:  # a layer that was to fit its register, refuted
        _complain(str(error))
        code = EXIT[Verdict.REFUTED]
    except AccsimError as error:
        code = _complain(str(error))
    except OSError as error:
        code = _complain(": ".join(str(part) for part in (error.strerror, error.filename) if part))
    except MemoryError as error:
        code = _complain(f"not enough memory: {error}")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception:  # a defect of ours must not look like a verdict
        traceback.print_exc()
        code = CRASHED
    sys.exit(code)


def _complain(text: str) -> int:
    if text:  # the help is enough where nothing was asked
        print("accsim: " + " ".join(text.split()), file=sys.stderr)  # noqa: T201
    return WRONG_USE


def _load(path: Path) -> dict[str, IntLayer]:
    """The layers at `path`, by file name without its ending."""
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
        raise LayerFileError(f"{path.name} must hold layer files (*.npz)")
    return {file.stem: IntLayer.load(file) for file in files}


def _check_out(out: Path, show_plan: bool, read: set[Path]) -> None:
    """Refuse results that would be lost, or that would take the place of what is read."""
    if show_plan:
        raise typer.BadParameter("--plan runs nothing: there is nothing to write to --out")
    if out.suffix.lower() != ".npz":
        raise typer.BadParameter(f"--out must be an .npz file, not {out}")
    if out.resolve() in {path.resolve() for path in read}:
        raise typer.BadParameter(
            f"--out must be another file than those that are read, not {out.name}"
        )


def _inputs(path: Path, layers: dict[str, IntLayer]) -> dict[str, object]:
    """One array of inputs for each layer."""
    if path.suffix.lower() == ".npy":
        if len(layers) > 1:
            raise LayerFileError(
                f"{path.name} holds one array; {len(layers)} layers need an .npz with one for each"
            )
        return {name: read_array(path) for name in layers}
    if path.suffix.lower() != ".npz":
        raise typer.BadParameter(f"INPUTS must be a .npy or .npz file, not {path}")
    arrays: dict[str, object] = dict(read_arrays(path))
    if missing := sorted(layers.keys() - arrays.keys()):
        raise LayerFileError(f"{path.name} lacks inputs for {', '.join(missing)}")
    return arrays


Result = TypeVar("Result")


def _each(
    layers: dict[str, IntLayer],
    doing: str,
    work: Callable[[str, IntLayer], Result],
    *,
    quiet: bool,
) -> dict[str, Result]:
    """`work` on each layer, with a progress bar on a terminal; an error names its layer."""
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    results = {}
    for name in track(list(layers), doing, console=console, transient=True, disable=hidden):
        try:
            results[name] = work(name, layers[name])
        except AccsimError as error:
            raise type(error)(f"{name}: {error}") from error
    return results


def _print_json(content: report.Json) -> None:
    print(json.dumps(content, indent=1))  # noqa: T201
