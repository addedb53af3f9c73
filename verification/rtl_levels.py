"""The reference model of a device of several registers, step by step, on Python ints."""

from __future__ import annotations

from accsim._check import integer, whole
from accsim.arith import check_bias, reduce
from accsim.datapath import Datapath
from accsim.errors import SpecError
from accsim.spec import Accumulator, Rail
from verification.rtl_model import Step

__all__ = ["DatapathModel"]

MAX_TAPS = 2**31 - 1


class DatapathModel:
    """A device as a `Datapath` describes it: one product a step, in the order of its places.

    `taps` is K, the products of a sum: with it the last one is known, at which groups that are not
    full are handed over, a bias that comes last is added, and read-outs are made. Where a product
    of 0 stands in for one that is missing (`Datapath.places`), it is a step as well.

    >>> pairs = Accumulator(4, "saturate", terms=2, rail="sum")
    >>> model = DatapathModel(Datapath([pairs, Accumulator(6)]), taps=3)
    >>> model.step(7, 1)
    (None, None)
    >>> model.step(5, 1)[0]
    Step(register=7, overflow=True, sticky=True)
    >>> model.step(1, 1)[1]
    Step(register=8, overflow=False, sticky=False)
    """

    def __init__(self, datapath: Datapath, *, taps: int) -> None:
        if not isinstance(datapath, Datapath):
            raise SpecError(f"datapath must be a Datapath, not {datapath!r}")
        self.datapath = datapath
        self.steps = len(datapath.places(integer(taps, "taps", 1, MAX_TAPS)))
        self._begin(0)

    def _begin(self, bias: int) -> None:
        levels = len(self.datapath.levels)
        self.place = 0
        self.held, self.sticky = [0] * levels, [False] * levels
        self.bias = bias
        if self.datapath.bias == "first":
            self.held[self.datapath.summing] = bias

    def step(self, weight: int, x: int, *, bias: int | None = None) -> tuple[Step | None, ...]:
        """Add a product; the next sum begins by itself after the last one, or anew with `bias`.

        What each level's register must hold where the level applies its overflow at this step, None
        where it does not. One that hands its sum over still holds it here, and begins its next
        group at 0.

        Raises: DtypeError for anything but integers; RangeError for a bias outside the register.
        """
        if bias is not None:
            check_bias(whole(bias, "bias"), self.datapath.register)
        if bias is not None or self.place == self.steps:
            self._begin(0 if bias is None else whole(bias, "bias"))
        item = whole(weight, "weight") * whole(x, "x")
        self.place += 1
        last = self.place == self.steps
        shown: list[Step | None] = [None] * len(self.held)
        for level, span in enumerate(self.datapath.spans):
            complete = last or self.place % span == 0
            shown[level] = self._add(level, item, settle=complete)
            if not complete:
                return tuple(shown)
            item, self.held[level] = self.held[level], 0
        summing = self.datapath.summing
        at_end = last and self.datapath.bias == "first"
        shown[summing] = self._add(summing, item, settle=at_end)
        if last and self.datapath.bias == "last":
            before = shown[summing]
            after = self._add(summing, self.bias, settle=True)
            assert after is not None
            over = after.overflow or (before is not None and before.overflow)
            shown[summing] = Step(after.register, over, after.sticky)
        if last:
            for level in range(summing + 1, len(self.held)):
                shown[level] = self._add(level, self.held[level - 1], settle=True)
        return tuple(shown)

    def _add(self, level: int, item: int, *, settle: bool) -> Step | None:
        """Another item of a level, and what it holds then, if its overflow is applied."""
        register: Accumulator = self.datapath.levels[level]
        total = self.held[level] = self.held[level] + item
        if not settle and register.rail is not Rail.STEP:
            return None
        self.held[level] = reduce(total, register)
        overflow = self.held[level] != total
        self.sticky[level] = self.sticky[level] or overflow
        return Step(self.held[level], overflow, self.sticky[level])
