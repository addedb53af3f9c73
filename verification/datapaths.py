"""What is asked of registers and datapaths alike, and what is to be said of a datapath."""

from __future__ import annotations

from itertools import pairwise

from accsim.datapath import Datapath
from accsim.spec import Accumulator

__all__ = ["datapath_remarks", "places_of", "plain", "register_of"]


def plain(accumulator: Accumulator | Datapath) -> Accumulator | Datapath:
    """The register itself where a datapath is no more than that."""
    single = accumulator.single if isinstance(accumulator, Datapath) else None
    return single or accumulator


def register_of(accumulator: Accumulator | Datapath) -> Accumulator:
    """The register, or the one that adds up all that is left, and holds the bias."""
    return accumulator.register if isinstance(accumulator, Datapath) else accumulator


def places_of(accumulator: Accumulator | Datapath, taps: int) -> list[int]:
    """The taps in the order in which they are added; -1 where a product of 0 stands in."""
    if isinstance(accumulator, Accumulator):
        return list(range(taps))
    places: list[int] = accumulator.places(taps).tolist()
    return places


def datapath_remarks(datapath: Datapath) -> list[str]:
    """A line for each level that is too narrow for a single item of the level below it.

    Such a datapath is simulated, and decided, as it is; read-outs are meant to be narrow.

    >>> from accsim import Accumulator
    >>> print(*datapath_remarks(Datapath([Accumulator(16, terms=2), Accumulator(12)])))
    level 1 (12-bit wrap register) is narrower than what level 0 hands over: [-32768, 32767]
    """
    inner = datapath.levels[: datapath.summing + 1]
    return [
        f"level {i} ({level}) is narrower than what level {i - 1} hands over:"
        f" [{below.min}, {below.max}]"
        for i, (below, level) in enumerate(pairwise(inner), 1)
        if below.min < level.min or below.max > level.max
    ]
