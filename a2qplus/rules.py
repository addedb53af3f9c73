"""Which layer is quantized how: one rule for all, the edges' rule, the paper's, and overrides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from a2qplus.methods import ZERO_POINTS, Quantization
from accsim._check import integer
from accsim.errors import ModelError, SpecError
from accsim.spec import IntSpec, between, signed, unsigned

__all__ = ["Overrides", "Range", "Rule", "left_in_float", "overridden"]

Range = tuple[float, float]  # the lowest and highest input seen
Overrides = Mapping[str, Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """How a layer is quantized, but for the range of its inputs."""

    method: str
    weight_bits: int
    act_bits: int
    acc_bits: int | None
    start: str
    zero_point: str | None

    def __post_init__(self) -> None:
        integer(self.act_bits, "act_bits", 1, 16)
        if self.zero_point is not None and self.zero_point not in ZERO_POINTS:
            raise SpecError(
                f"zero_point must be None or one of {', '.join(ZERO_POINTS)},"
                f" not {self.zero_point!r}"
            )
        self.of(unsigned(self.act_bits))

    def replaced(self, changes: Mapping[str, Any]) -> Rule:
        """The rule with some members changed; to "base" also without a register."""
        names = [item.name for item in fields(self)]
        if not isinstance(changes, Mapping):
            raise SpecError(f"changes must be a mapping or None, not {changes!r}")
        for name in changes:
            if name not in names:
                raise SpecError(f"changes must be of {', '.join(names)}, not {name!r}")
        more = {"acc_bits": None} if changes.get("method") == "base" else {}
        return replace(self, **{**more, **changes})

    def of(self, inputs: IntSpec) -> Quantization:
        """For inputs of this range."""
        lowering = self.zero_point or "subtract"
        return Quantization(
            self.method, self.weight_bits, inputs, self.acc_bits, self.start, lowering
        )

    def inputs(self, seen: Range | None, *, positive: bool) -> IntSpec:
        """The range of integer inputs, their zero point subtracted.

        `positive`: they are never negative. `seen` are the ends of their range, if known.
        Raises: ModelError for a zero point without these.
        """
        if positive:
            return unsigned(self.act_bits)
        if self.act_bits < 2:
            raise SpecError(
                f"act_bits must be at least 2 for inputs that can be negative, not {self.act_bits}"
            )
        if self.zero_point is None:
            return signed(self.act_bits)
        if seen is None:
            raise ModelError("a zero point must come from calibration data that reach the layer")
        low, high = seen[0], max(seen[1], 0.0)
        codes = 2**self.act_bits - 1
        zero = min(round(-low / (high - low) * codes), codes - 1)  # a positive code stays
        return between(-zero, codes - zero)


def left_in_float(names: Iterable[str], overrides: Overrides) -> set[str]:
    """Those of the names whose last matching pattern says None."""
    if not isinstance(overrides, Mapping):
        raise SpecError(f"overrides must be a mapping of patterns, not {overrides!r}")
    left: set[str] = set()
    for name in names:
        for pattern, changes in overrides.items():
            if fnmatchcase(name, str(pattern)):
                (left.add if changes is None else left.discard)(name)
    return left


def overridden(rules: Mapping[str, Rule], overrides: Overrides) -> dict[str, Rule]:
    """The rules with the changes of every pattern that matches a name, the later ones winning.

    A layer whose last pattern says None has no rule any more.
    """
    found: dict[str, Rule | None] = dict(rules)
    for pattern, changes in overrides.items():
        matching = [name for name in found if fnmatchcase(name, str(pattern))]
        if not matching:
            raise SpecError(f"overrides {pattern!r} must match a layer, one of {', '.join(found)}")
        for name in matching:
            if changes is None:
                found[name] = None
                continue
            try:
                found[name] = (found[name] or rules[name]).replaced(changes)
            except SpecError as error:
                raise SpecError(f"overrides {pattern!r}, layer {name!r}: {error}") from None
    return {name: rule for name, rule in found.items() if rule is not None}
