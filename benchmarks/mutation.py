"""Change the code that decides in every small way that cosmic-ray knows: do the tests notice?

python benchmarks/mutation.py [--only WORD ...] [--fresh] [--sessions FOLDER] [--json FILE]

A mutant is killed if a test of its module fails, or does not end in time. What survives is asked
for all its outcomes over the module's enumeration (benchmarks/enumerations.py): if they are those
of the original, and benchmarks/equivalent.toml says why, it is equivalent by this check. Exit code
1 if any other survives. Goes on where it stopped, with the modules whose text and tests are as
they were: cosmic-ray's sessions are kept in a folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))
import mutants
from mutants import AROUND, FAILED, NOT_COLLECTED, ROOT, TESTS, Mutant, mutant_of

PATIENCE = 5  # times what the tests take of the original, and
LEAST = 10.0  # seconds at least, before a mutant counts as one that does not end
KINDS = ("no program", "killed", "timed out", "annotations", "equivalent", "surviving")


class Campaign:
    """Everything about one module: its session, what the original does, and how long it takes."""

    def __init__(self, path: str, sessions: Path, output: Path) -> None:
        self.path, self.output = path, output
        self.original = Mutant(path, "", "none", "", "", (ROOT / path).read_text())
        tests = {test.split("::")[0] for test in TESTS[path] if test.startswith("tests/")}
        files = [path, *sorted(tests), *AROUND]
        texts = b"".join((ROOT / file).read_bytes() for file in files)
        name = path.removesuffix(".py").replace("/", ".")
        self.session = sessions / f"{name}-{hashlib.sha256(texts).hexdigest()[:12]}.sqlite"
        self.limits = {"tests": 600.0, "outcomes": 600.0}
        self.outcomes = ""

    def prepare(self) -> None:
        """Run tests and enumeration on the original; how long that takes bounds its mutants."""
        start = time.perf_counter()
        if self.tested(self.original) != 0:
            raise SystemExit(f"tests must pass unchanged:\n{self.output.read_text()}")
        middle = time.perf_counter()
        self.outcomes = self.enumerated(self.original)
        if not self.outcomes:
            raise SystemExit(f"outcomes must have an end unchanged:\n{self.output.read_text()}")
        seconds = {"tests": middle - start, "outcomes": time.perf_counter() - middle}
        self.limits = {key: max(LEAST, PATIENCE * spent) for key, spent in seconds.items()}

    def tested(self, mutant: Mutant) -> int | None:
        """Pytest's exit code, None if it does not end in time."""
        return mutants.forked(lambda: mutants.tested(mutant), self.limits["tests"], self.output)

    def enumerated(self, mutant: Mutant) -> str:
        """How many outcomes the enumeration has, and their digest; nothing if it fails."""
        seconds = self.limits["outcomes"]
        code = mutants.forked(lambda: mutants.enumerated(mutant), seconds, self.output)
        return self.output.read_text().splitlines()[-1] if code == 0 else ""

    def judge(self, mutant: Mutant) -> WorkResult:
        """What becomes of one mutant; its kind is the first word of the output."""
        if not mutants.is_python(mutant):
            return WorkResult(WorkerOutcome.NO_TEST, "no program", TestOutcome.INCOMPETENT)
        if mutants.says_the_same(mutant):
            return WorkResult(WorkerOutcome.NO_TEST, "annotations", TestOutcome.SURVIVED)
        if not self.outcomes:
            self.prepare()
        code = self.tested(mutant)
        if code is None:
            return WorkResult(WorkerOutcome.ABNORMAL, "timed out", TestOutcome.KILLED)
        if code > 0 and code not in (FAILED, NOT_COLLECTED):  # a signal is the mutant's doing
            raise SystemExit(f"tests must run, not end with {code}:\n{self.output.read_text()}")
        if code:
            return WorkResult(WorkerOutcome.NORMAL, "killed", TestOutcome.KILLED)
        same = self.enumerated(mutant) == self.outcomes
        kind = f"equivalent {self.outcomes}" if same else "surviving"
        return WorkResult(WorkerOutcome.NORMAL, kind, TestOutcome.SURVIVED)


@dataclass
class Report:
    """Counts of a module's mutants by kind, those that survive, and what the check compared."""

    counts: Counter[str] = field(default_factory=Counter)
    surviving: list[tuple[int, Mutant, str]] = field(default_factory=list)
    used: set[tuple[str, ...]] = field(default_factory=set)
    outcomes: int = 0


def campaign(
    path: str, sessions: Path, reasons: dict[tuple[str, ...], str], *, fresh: bool
) -> Report:
    """All mutants of a module; unless `fresh` those of earlier calls as they were judged then."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        one = Campaign(path, sessions, Path(folder) / "output")
        if fresh:
            one.session.unlink(missing_ok=True)
        with use_db(one.session, WorkDB.Mode.create) as session:
            if not session.num_work_items:
                init([Path(path)], session, {})
            todo = sorted(session.pending_work_items, key=lambda item: item.mutations[0].start_pos)
            for item in track(todo, path, console=console, transient=True):
                session.set_result(item.job_id, one.judge(mutant_of(item.mutations[0])))
            return reported(session, reasons)


def reported(session: WorkDB, reasons: dict[tuple[str, ...], str]) -> Report:
    """A finished session; a survivor whose outcomes are the original's needs a reason besides."""
    report = Report()
    for item, result in session.completed_work_items:
        kind = next(kind for kind in KINDS if result.output.startswith(kind))
        if kind in ("equivalent", "surviving"):
            spec = item.mutations[0]
            mutant = mutant_of(spec)
            if kind == "equivalent" and mutant.key in reasons:
                report.outcomes = int(result.output.split()[1])
                report.used.add(mutant.key)
            else:
                why = "differs" if kind == "surviving" else "no reason is given"
                report.surviving.append((spec.start_pos[0], mutant, why))
                kind = "surviving"
        report.counts[kind] += 1
    return report


def shown(reports: dict[str, Report]) -> Table:
    """The counts as a table."""
    table = Table("module", "mutants", *KINDS, "outcomes", title="Mutants")
    total: Counter[str] = Counter()
    for path, report in reports.items():
        counts = report.counts
        total += counts
        numbers = [counts.total(), *(counts[kind] for kind in KINDS), report.outcomes]
        table.add_row(path, *map(str, numbers))
    table.add_row("all", str(total.total()), *(str(total[kind]) for kind in KINDS))
    return table


def main() -> None:
    """Judge every mutant, and print what survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[""], help="modules with one of these words")
    parser.add_argument("--fresh", action="store_true", help="forget what was judged before")
    parser.add_argument("--sessions", type=Path, default=ROOT / ".mutation")
    parser.add_argument("--json", type=Path, help="write the counts here")
    arguments = parser.parse_args()
    sessions, reasons = arguments.sessions.resolve(), mutants.reasons()
    sessions.mkdir(exist_ok=True)
    os.chdir(ROOT)
    mutants.load_all()
    paths = [path for path in TESTS if any(word in path for word in arguments.only)]
    reports = {path: campaign(path, sessions, reasons, fresh=arguments.fresh) for path in paths}
    console = Console(width=140)
    for path, report in reports.items():
        for line, mutant, why in sorted(report.surviving):
            print(
                f"{path}:{line} {mutant.operator} ({why})\n  - {mutant.before}\n  + {mutant.after}"
            )
    console.print(shown(reports))
    if arguments.json:
        content = {path: dict(report.counts) for path, report in reports.items()}
        arguments.json.write_text(json.dumps(content, indent=1))
    unused = [key for key in reasons if key[0] in paths and key not in reports[key[0]].used]
    for key in unused:
        print("not among the survivors, take it from equivalent.toml:", *key, sep="\n  ")
    if unused or any(report.surviving for report in reports.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
