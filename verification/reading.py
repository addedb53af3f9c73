"""Reports as they come back from a file: checked, and their witnesses replayed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from accsim.errors import AccsimError, ReportError, WitnessError
from accsim.spec import Accumulator
from verification.decide import Verdict
from verification.json_file import accumulator_json, datapath_of, read_json
from verification.report import Json, digest, worst
from verification.schema import NAME, REPORT
from verification.witness import Witness
from verification.witness_file import replayed

__all__ = ["read_reports", "witnesses_of"]


def read_reports(path: Path) -> list[Json]:
    """The reports in a file: one of `sealed`, or all those under "networks".

    Raises: ReportError for a file that is none, of another schema, that was changed since, or
    disagrees with itself; OSError.
    """
    content = read_json(path, "a report", ReportError, parse_constant=_no_number)
    networks = content.get("networks") if isinstance(content, dict) else None
    reports = list(networks.values()) if isinstance(networks, dict) and networks else [content]
    for report in reports:
        with _of(path.name):
            _check(report)
    names = [report["name"] for report in reports]
    if len(set(names)) < len(names):
        raise ReportError(f"{path.name} must have networks of different names")
    return reports


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


@contextmanager
def _of(name: str) -> Iterator[None]:
    """Errors within tell of which file they are."""
    try:
        yield
    except ReportError as error:
        raise ReportError(f"{name} {error}") from None


def _check(report: object) -> None:
    """Raise unless it is a report, unchanged, and one that could have been found."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    schema = report.get("schema") if isinstance(report, dict) else None
    if schema != NAME:
        raise ReportError(f"must be of schema {NAME}, not {schema!r}")
    assert isinstance(report, dict)
    wrong = best_match(Draft202012Validator(REPORT).iter_errors(report))
    if wrong is not None:
        place = ".".join(str(part) for part in wrong.absolute_path) or "it"
        raise ReportError(f"must have the members of {NAME}: {place}: {wrong.message}")
    if report["digest"] != (found := digest(report)):
        raise ReportError(
            f"must be as it was written: its digest is {report['digest']!r}, that of its content"
            f" {found!r}"
        )
    _check_verdicts(report)


def _check_verdicts(report: Json) -> None:
    """Verdicts, widths, registers and witnesses agree."""
    layers = report["layers"]
    parts = [*layers.values(), *report.get("products", [])]
    verdicts = {Verdict(part["verdict"]) for part in parts}
    verdicts |= {Verdict.UNDECIDED} if report.get("untraced") else set()
    if not verdicts:
        raise ReportError("must tell of a layer, a product or a node that was not traced")
    due = worst(verdicts)
    if report["verdict"] != due:
        raise ReportError(f"must be {due}, as its parts are, not {report['verdict']}")
    for name, layer in layers.items():
        register, witness = layer["accumulator"], layer["witness"]
        start = layer.get("start")
        rails = Accumulator(**register)
        if start and rails.min <= start["value"] <= rails.max:
            raise ReportError(f"must have a start of layer {name!r} outside its register, or none")
        if (layer["verdict"] == "refuted") != bool(witness or start):
            raise ReportError(f"must have a witness of layer {name!r} if refuted, and only then")
        started = (report.get("preloads") or {}).get(name)
        fits = layer["least_bits"] <= register["bits"]
        datapath = layer.get("datapath")
        if datapath is not None:
            _check_levels(name, layer)
        elif register["signed"] and started is None and fits != (layer["verdict"] == "proved"):
            raise ReportError(f"must prove layer {name!r} if its least bits fit, and only then")
        own = {"accumulator": register} if datapath is None else {"datapath": datapath}
        if witness and not _is_of(witness, own) and not _is_of(witness, _alone(datapath)):
            raise ReportError(f"must have a witness of layer {name!r} in that layer's register")


def _is_of(witness: Json, how: Json | None) -> bool:
    """Whether it is a witness of this register or datapath."""
    return how is not None and all(witness.get(key) == value for key, value in how.items())


def _alone(datapath: Json | None) -> Json | None:
    """The register that a datapath is, if it is no more than that: its witness is that one's."""
    if datapath is None:
        return None
    try:
        single = datapath_of(datapath).single
    except AccsimError as error:
        raise ReportError(f"must tell of datapaths: {error}") from None
    return None if single is None else {"accumulator": accumulator_json(single)}


def _check_levels(name: str, layer: Json) -> None:
    """Raise unless the levels of a layer are those of its datapath, and bear out its verdict."""
    levels, datapath = layer["levels"], layer["datapath"]
    if layer.get("start"):  # of which nothing more is decided
        return
    if len(levels) != len(datapath["levels"]):
        raise ReportError(f"must tell of every level of layer {name!r}, and of no more")
    refuted = any(level["verdict"] == "refuted" for level in levels)
    if refuted != (layer["verdict"] == "refuted"):
        raise ReportError(f"must refute layer {name!r} if a level of it is, and only then")


def witnesses_of(layers: Json) -> dict[str, Witness]:
    """The witnesses of the refuted layers, replayed. Raises: ReportError."""
    try:
        return {
            name: replayed(layer["witness"], f"the witness of {name!r}")
            for name, layer in layers.items()
            if layer["witness"]
        }
    except WitnessError as error:
        raise ReportError(f"a report must hold witnesses that replay: {error}") from None
