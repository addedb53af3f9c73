"""A device's reference model on Python ints, and a scoreboard: for cocotb, or any other bench.

Nothing here imports cocotb.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accsim._check import whole
from accsim.arith import check_bias, reduce
from accsim.errors import SpecError
from accsim.spec import Accumulator

__all__ = ["MacModel", "Scoreboard", "Step"]


@dataclass(frozen=True, slots=True)
class Step:
    """What a device must show after a step: its register, and both flags.

    `overflow`: the exact total of this step was outside the register; `sticky`: that of some step
    since the sum began was.
    """

    register: int
    overflow: bool
    sticky: bool


class MacModel:
    """A multiply-accumulate unit of one register, step by step; of several: `DatapathModel`.

    Raises: SpecError for anything but one register.

    >>> model = MacModel(Accumulator(4, "saturate"))
    >>> model.step(7, 1, bias=0)
    Step(register=7, overflow=False, sticky=False)
    >>> model.step(5, 1)
    Step(register=7, overflow=True, sticky=True)
    >>> model.step(-6, 1)
    Step(register=1, overflow=False, sticky=True)
    """

    def __init__(self, accumulator: Accumulator) -> None:
        if not isinstance(accumulator, Accumulator) or not accumulator.alone:
            raise SpecError(f"accumulator must be one Accumulator, no level, not {accumulator!r}")
        self.accumulator = accumulator
        self.register = 0
        self.sticky = False

    def step(self, weight: int, x: int, *, bias: int | None = None) -> Step:
        """Add a product; with `bias` the sum begins anew, from there.

        Raises: DtypeError for anything but integers; RangeError for a bias outside the register.
        """
        if bias is not None:
            check_bias(whole(bias, "bias"), self.accumulator)
            self.register, self.sticky = whole(bias, "bias"), False
        total = self.register + whole(weight, "weight") * whole(x, "x")
        self.register = reduce(total, self.accumulator)
        overflow = self.register != total
        self.sticky = self.sticky or overflow
        return Step(self.register, overflow, self.sticky)


class Scoreboard:
    """Compares a device with the model after every step, and names the first that is wrong.

    `overflowed` counts the steps that overflowed: a check in which it stays 0 shows nothing of
    what the device does then.
    """

    def __init__(self, accumulator: Accumulator) -> None:
        self.model = MacModel(accumulator)
        self.steps = 0
        self.overflowed = 0

    def step(
        self,
        weight: int,
        x: int,
        *,
        register: object,
        overflow: object = None,
        sticky: object = None,
        bias: int | None = None,
    ) -> None:
        """Check what the device shows after adding a product; with `bias` the sum began there.

        `register` and the flags are the device's bits: a text of 0, 1 and whatever else a
        simulator shows, or what `str` makes one of, as cocotb's values; integers are taken for
        the value that they are. A flag that is None is one that the device does not have.

        Raises: AssertionError naming the step, the bits and the values they stand for.
        """
        held = self.model.register if bias is None else bias
        due = self.model.step(weight, x, bias=bias)
        step, self.steps = self.steps, self.steps + 1
        self.overflowed += due.overflow
        right, bits = self._register(due.register), self._register(register)
        if bits != right:
            raise AssertionError(
                f"step {step}: {held} + {weight} * {x} must leave the register at"
                f" {right} ({due.register}), not {bits} ({self._value(bits)})"
            )
        for name, flag in (("overflow", overflow), ("sticky", sticky)):
            right = str(int(getattr(due, name)))
            if flag is not None and _bits(flag, 0, 1) != right:
                told = _bits(flag, 0, 1)
                raise AssertionError(f"step {step}: {name} must be {right}, not {told}")

    def _register(self, value: object) -> str:
        accumulator = self.model.accumulator
        return _bits(value, accumulator.min, accumulator.bits)

    def _value(self, bits: str) -> str:
        """What bits stand for; "unknown" where they are not all 0 or 1."""
        if not bits or not set(bits) <= {"0", "1"}:
            return "unknown"
        value = int(bits, 2)
        negative = self.model.accumulator.signed and bits[0] == "1"
        return str(value - (1 << len(bits)) if negative else value)


def _bits(value: object, least: int, width: int) -> str:
    """The bits that show an integer, told as one if these cannot; other things as they write."""
    if not isinstance(value, (int, np.integer, np.bool_)):
        return str(value)
    number = int(value)
    if not least <= number < least + (1 << width):
        return f"the integer {number}"
    return format(number & ((1 << width) - 1), f"0{width}b")
