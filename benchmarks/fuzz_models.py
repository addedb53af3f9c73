"""Damaged model files read under a memory cap: nothing but typed errors, and no hang.

    python benchmarks/fuzz_models.py [--cases 100000] [--run] [--seed 0] [--only SEED]

Each file is loaded, and one that loads is written again with its least registers; with --run a
small batch is run, too. Files are made from those of the tests and of onnxruntime's quantizer.
Cases are done in blocks by processes of 1 GiB; a process that dies, or says nothing for a while,
is a finding. Findings are printed with the seed that makes them again.
"""

import argparse
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
MEMORY = 2**30  # bytes that a process may have
LONGEST = 5  # seconds for one file
BLOCK = 500


class Hang(BaseException):
    """A file took too long."""


def corpus():
    """Bytes of whole models, by name."""
    sys.path.insert(0, str(ROOT / "tests" / "accsim"))
    from onnx_models import KINDS, MODELS, quantized

    stored = sorted((ROOT / "tests/data/models").glob("*.onnx"))
    files = {path.name: path.read_bytes() for path in stored}
    with TemporaryDirectory() as folder:
        for make in MODELS.values():
            for kind in KINDS:
                path = quantized(make(), Path(folder), kind, per_channel=True)
                files[path.name] = path.read_bytes()
    return files


def block(folder, begin, end, run):
    """In a process of its own: a line for each case as it begins, and one for what came of it."""
    from accsim import Accumulator
    from accsim.errors import AccsimError
    from accsim.onnx import annotate, load

    sys.path.insert(0, str(ROOT / "tests" / "accsim"))
    from model_mutations import mutated

    files = [path.read_bytes() for path in sorted(folder.glob("*.onnx"))]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    def late(*_):
        raise Hang

    signal.signal(signal.SIGALRM, late)
    path = folder / f"{begin}.mutated"
    for seed in range(begin, end):
        print("begin", seed, flush=True)
        path.write_bytes(mutated(files[seed % len(files)], seed))
        signal.setitimer(signal.ITIMER_REAL, LONGEST)
        try:
            network = load(path)
            annotate(path, folder / f"{begin}.annotated")
            outcome = "loaded"
            if run:
                network.run(small_inputs(network), Accumulator(20))
                outcome = "ran"
        except AccsimError as error:
            outcome = type(error).__name__
        except Hang:
            outcome = "FOUND took too long"
        except BaseException as error:
            outcome = f"FOUND {type(error).__name__}: {str(error)[:200]!r}"
        signal.setitimer(signal.ITIMER_REAL, 0)
        print("end", seed, outcome, flush=True)


def small_inputs(network):
    """Ones in the declared shapes, as far as they are not large."""
    import numpy as np

    return {
        name: np.ones(
            [size if isinstance(size, int) and 0 <= size <= 64 else 2 for size in one.shape or ()],
            one.dtype or np.float32,
        )
        for name, one in network.inputs.items()
    }


def watched(folder, begin, end, run):
    """Outcomes by seed of one block, whatever becomes of its process."""
    outcomes, start = {}, begin
    while start < end:
        told = [str(folder), str(start), str(end), str(int(run))]
        command = [sys.executable, __file__, "--block", *told]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST * BLOCK)
        lines = [line.split(" ", 2) for line in done.stdout.splitlines()]
        for word, seed, *rest in lines:
            if word == "end":
                outcomes[int(seed)] = rest[0]
        begun = [int(line[1]) for line in lines if line[0] == "begin"]
        if done.returncode and not begun:
            raise SystemExit(done.stderr)
        if done.returncode:
            died = f"FOUND the process died ({done.returncode}): {done.stderr[-300:]!r}"
            outcomes.setdefault(begun[-1], died)
        start = begun[-1] + 1 if begun else end
    return outcomes


def main():
    """Blocks in turn on two processes; a summary at the end."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--only", type=int)
    args = parser.parse_args()
    from concurrent.futures import ThreadPoolExecutor

    first, last = args.seed, args.seed + args.cases
    if args.only is not None:
        first, last = args.only, args.only + 1
    start, outcomes = time.perf_counter(), Counter()
    with TemporaryDirectory() as name, ThreadPoolExecutor(os.cpu_count()) as pool:
        folder = Path(name)
        for file, data in corpus().items():
            (folder / file).write_bytes(data)
        begins = range(first, last, BLOCK)
        blocks = pool.map(lambda b: watched(folder, b, min(b + BLOCK, last), args.run), begins)
        for done, found in enumerate(blocks, 1):
            outcomes.update("FOUND" if o.startswith("FOUND") else o for o in found.values())
            for seed, outcome in found.items():
                if outcome.startswith("FOUND"):
                    print(f"seed {seed}: {outcome}", flush=True)
            if done % 10 == 0:
                seconds = time.perf_counter() - start
                print(f"{outcomes.total()} files, {seconds:.0f} s", flush=True)
    print(f"{outcomes.total()} files in {time.perf_counter() - start:.0f} s")
    for outcome, count in outcomes.most_common():
        print(f"{outcome:20} {count}")
    sys.exit(1 if outcomes["FOUND"] else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--block"]:
        place, begin, end, run = sys.argv[2:]
        block(Path(place), int(begin), int(end), bool(int(run)))
    else:
        main()
