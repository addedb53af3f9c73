"""What of a datapath matters to its outputs, given the products that it is fed: stages.

Levels that no sum can leave, and that nobody's rounding to groups depends on, are left out, so that
few kinds of datapath are left, which kernels know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from accsim.datapath import Datapath
from accsim.spec import Accumulator, Overflow, Rail

__all__ = ["Range", "Stage", "Sums", "never_overflows", "stages"]

Range = tuple[int, int]
Sums = Callable[[int | None], Range]


@dataclass(frozen=True, slots=True)
class Stage:
    """A level as outputs see it: `span` places in a group, None for all of them.

    `steps`: its overflow is applied after every addition. `sums`: between what the sums of the
    items that it is handed lie.
    """

    register: Accumulator
    span: int | None
    steps: bool
    sums: Range = (0, 0)

    @property
    def exact(self) -> bool:
        """Whether no sum leaves the register."""
        return self.register.min <= self.sums[0] and self.sums[1] <= self.register.max

    @property
    def wraps(self) -> bool:
        """Whether it keeps sums modulo 2^bits."""
        return self.register.overflow is Overflow.WRAP


def stages(datapath: Datapath, places: int, bias: Range, sums: Sums) -> tuple[Stage, ...]:
    """The stages through which any products of these sums give the datapath's outputs.

    `sums` tells of groups of so many places, or of all, between what their exact sums and all of
    the partial sums lie, 0 included; `bias` the same of starting values. None are told where the
    bias comes last and it matters.
    """
    found = _all(datapath)
    while True:
        told = _told(found, max(places, 1), bias, sums)
        needless = next((i for i in range(len(told)) if _needless(told, i)), None)
        if needless is None:
            break
        found.pop(needless)
    summing = next(stage for stage in told if stage.span is None)
    late = datapath.bias == "last" and bias != (0, 0) and summing.steps
    return () if late and not (summing.exact or summing.wraps) else tuple(told)


def never_overflows(datapath: Datapath, places: int, bias: Range, sums: Sums) -> bool:
    """Whether no level can overflow, whatever the products of these sums are. As `stages`."""
    return all(stage.exact for stage in _told(_all(datapath), max(places, 1), bias, sums))


def _all(datapath: Datapath) -> list[Stage]:
    """Every level."""
    spans: list[int | None] = [*datapath.spans]
    spans += [None] * (len(datapath.levels) - len(spans))
    return [
        # a read-out takes one item: when it is cut does not matter
        Stage(level, span, level.rail is Rail.STEP and i <= datapath.summing)
        for i, (level, span) in enumerate(zip(datapath.levels, spans, strict=True))
    ]


def _told(found: list[Stage], places: int, bias: Range, sums: Sums) -> list[Stage]:
    """The same, each with the sums of what it is handed."""
    told: list[Stage] = []
    below, item = 1, sums(1)
    exact = True  # so far
    for stage in found:
        if exact:
            low, high = sums(stage.span)
        else:
            items = -(-(stage.span or places) // below)
            low, high = min(0, items * item[0]), max(0, items * item[1])
        if stage.span is None and (exact or not any(one.span is None for one in told)):
            # cut sums have it in them; exact ones are told without
            low, high = low + min(0, bias[0]), high + max(0, bias[1])
        register, stage = stage.register, replace(stage, sums=(low, high))
        told.append(stage)
        exact = exact and stage.exact
        item = max(low, register.min), min(high, register.max)
        if stage.wraps and not stage.exact:
            item = register.min, register.max
        below = stage.span or places
    return told


def _needless(told: list[Stage], i: int) -> bool:
    """Whether a stage can be left out: the next one gives the same without it."""
    stage = told[i]
    if i + 1 == len(told):  # the one that outputs are read from: another may hold them as well
        return stage.exact and i > 0 and told[i - 1].span is None
    above = told[i + 1]
    if stage.exact:
        return above.exact or above.wraps or not above.steps
    return stage.wraps and above.wraps and above.register.bits <= stage.register.bits
