"""Broken twins of the modules that decide: what they are, and running tests with one in place.

A mutant is one change that cosmic-ray's operators make to one module. It is tested in a forked
process: numpy, numba, torch and pytest are loaded already, so that a mutant takes a fraction of
a second. The compiler is off (NUMBA_DISABLE_JIT): kernels run as Python.
"""

from __future__ import annotations

import ast
import gc
import importlib.abc
import importlib.util
import os
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
FAILED, NOT_COLLECTED = 1, 2  # pytest's exit codes that speak of tests
MEMORY = 4 * 2**30  # bytes that a mutant may take beyond what is loaded

# What tests and enumerations rest on besides: sessions are of one state of all of these.
AROUND = [
    "accsim/_check.py",
    "accsim/datapath.py",
    "accsim/errors.py",
    "accsim/spec.py",
    "benchmarks/enumerations.py",
    "benchmarks/mutants.py",
    "tests/accsim/conftest.py",
    "tests/conftest.py",
    "tests/verification/conftest.py",
    "tests/verification/enumeration.py",
    "verification/properties.py",
    "verification/strategies.py",
]

# The tests that may kill the mutants of each module, those that kill most first.
BOUNDS = "tests/accsim/test_bounds.py::test_"
PORTABLE = "tests/accsim/test_portable.py::test_"
DECIDE = "tests/verification/test_decide.py::test_"
LEVELS = "tests/verification/test_decide_datapaths.py::test_"
DATAPATH = "tests/accsim/test_datapath.py::test_"
ALWAYS = ["tests/test_signatures.py"]
TESTS = {
    "accsim/arith.py": [
        "tests/accsim/test_arith.py",
        DATAPATH + "the_definition_is_what_the_oracle_says",
        *ALWAYS,
    ],
    "accsim/bounds.py": [
        *ALWAYS,
        BOUNDS + "rows_of_nothing",
        BOUNDS + "what_bounds_take",
        BOUNDS + "fold_intervals",
        BOUNDS + "order_matters_without_zero",
        BOUNDS + "a_preload_is_the_least_that_holds",
        BOUNDS + "published_bits_are_the_least_of_their_budgets",
        "tests/accsim/test_bounds.py",
    ],
    "accsim/budgets.py": ["tests/accsim/test_budgets.py", "tests/accsim/test_bounds.py", *ALWAYS],
    "accsim/kernels/portable.py": [
        PORTABLE + "how_many_tasks",
        PORTABLE + "certified_rows",
        PORTABLE + "layers",
        "tests/accsim/test_portable.py",
        "-k",
        "compiled",
    ],
    "verification/decide.py": [
        LEVELS + "nothing_to_sum",
        DECIDE + "padding_without_zero",
        DECIDE + "what_is_refused",
        DECIDE + "decide_equals_enumeration[[1, 1]]",
        DECIDE + "a_report_by_hand",
        LEVELS + "one_level_is_the_register_itself",
        *ALWAYS,
    ],
    "accsim/padding.py": ["tests/accsim/test_padding.py", *ALWAYS],
    "verification/oracle.py": [
        "tests/verification/test_oracle.py",
        DATAPATH + "the_definition_is_what_the_oracle_says",
        *ALWAYS,
    ],
}


class Mutant(NamedTuple):
    """One change: where, by which operator, and the lines before and after."""

    path: str
    place: str  # the function or class that it is in
    operator: str
    before: str
    after: str
    source: str

    @property
    def key(self) -> tuple[str, ...]:
        """What it is called in `equivalent.toml`: lines have no numbers there."""
        return self.path, self.before, self.after


def mutant_of(spec: Any) -> Mutant:
    """The mutant that a mutation of a cosmic-ray session describes."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    path = spec.module_path.as_posix()
    source = (ROOT / path).read_text()
    changed = mutate_code(source, get_operator(spec.operator_name)(), spec.occurrence)
    lines, other = source.splitlines(), changed.splitlines()
    start = 0
    while lines[start] == other[start]:
        start += 1
    end = 1
    while end < min(len(lines), len(other)) - start and lines[-end] == other[-end]:
        end += 1
    before, after = lines[start : len(lines) - end + 1], other[start : len(other) - end + 1]
    return Mutant(
        path,
        spec.definition_name or "",
        spec.operator_name.removeprefix("core/"),
        *(" / ".join(line.strip() for line in part) for part in (before, after)),
        changed,
    )


def is_python(mutant: Mutant) -> bool:
    """Whether its text is a program: operators also change the star of parameters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of `is` beside a literal
        try:
            compile(mutant.source, mutant.path, "exec", dont_inherit=True)
        except SyntaxError:
            return False
    return True


def says_the_same(mutant: Mutant) -> bool:
    """Whether only annotations differ, which nothing evaluates (annotations are postponed)."""
    texts = (ROOT / mutant.path).read_text(), mutant.source
    trees = [ast.dump(_Bare().visit(ast.parse(text))) for text in texts]
    return "from __future__ import annotations" in mutant.source and trees[0] == trees[1]


class _Bare(ast.NodeTransformer):
    """Takes annotations off functions; those of fields stay, which dataclasses look at."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node


class InPlace(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a mutant to whoever imports its module."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        self.name = mutant.path.removesuffix(".py").replace("/", ".")

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        """The module's own place, with the mutant's text."""
        if name != self.name:
            return None
        where = ROOT / self.mutant.path
        return importlib.util.spec_from_file_location(name, where, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        """Run the mutant's text, of which annotations are evaluated unless it says otherwise."""
        where = ROOT / self.mutant.path
        exec(compile(self.mutant.source, where, "exec", dont_inherit=True), module.__dict__)


def load_all() -> None:
    """Load what is slow to load and not mutated; the compiler is off from here on."""
    os.environ |= {"NUMBA_DISABLE_JIT": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for name in ("numpy", "hypothesis.strategies", "llvmlite.binding", "numba", "pytest", "torch"):
        importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)
    drawn = importlib.import_module("hypothesis")
    phases = drawn.Phase.explicit, drawn.Phase.generate  # one failure is enough: none is shrunk
    drawn.settings.register_profile("mutants", database=None, derandomize=True, phases=phases)
    drawn.settings.load_profile("mutants")
    sys.path.insert(0, str(ROOT))
    gc.freeze()  # collections, of which pytest makes some, look at nothing of this
    loaded = [name for name in sys.modules if name.split(".")[0] in ("accsim", "verification")]
    assert not loaded, f"must be loaded by each mutant anew: {loaded}"


def forked(work: Callable[[], int], seconds: float, output: Path) -> int | None:
    """What `work` returns in a process of its own; None if it takes longer."""
    process = os.fork()
    if process == 0:
        code = 99
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, even inside C
            signal.setitimer(signal.ITIMER_REAL, seconds)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            to = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(to, 1)
            os.dup2(to, 2)
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return None if status == -signal.SIGALRM else status


def tested(mutant: Mutant) -> int:
    """Pytest's exit code over the tests of the mutant's module, with the mutant in place."""
    import pytest

    place = InPlace(mutant)
    sys.meta_path.insert(0, place)
    try:
        importlib.import_module(place.name)
    except Exception:  # what it does when loaded is a failure of the mutant's, not of pytest's
        traceback.print_exc()
        return FAILED
    how = ["-x", "-q", "-p", "no:cacheprovider", "--tb=line", "--rootdir", str(ROOT)]
    how += ["-o", "addopts=--import-mode=importlib"]  # no doctests
    return int(pytest.main([*how, *TESTS[mutant.path]]))


def enumerated(mutant: Mutant) -> int:
    """Print how many outcomes the module's enumeration has with the mutant in place, and a hash.

    With the compiler on, if that is what the mutant changes.
    """
    if "njit(" in mutant.before:
        importlib.import_module("numba").config.DISABLE_JIT = False
    sys.meta_path.insert(0, InPlace(mutant))
    enumerations = importlib.import_module("enumerations")
    print(enumerations.digest(getattr(enumerations, Path(mutant.path).stem)))
    return 0


def reasons() -> dict[tuple[str, ...], str]:
    """Why the mutants of `equivalent.toml` are equivalent, by their keys."""
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    groups = toml.loads((ROOT / "benchmarks" / "equivalent.toml").read_text())["group"]
    return {
        (group["file"], group["before"], after): group["why"]
        for group in groups
        for after in group["after"]
    }
