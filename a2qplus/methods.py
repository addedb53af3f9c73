"""The ways to make weights fit a register, by word: what differs between them, and nothing else.

A method maps float weights to integers in the forward pass (`quantize`), and says where training
starts (`nearest`): the real weights that it represents without loss but for rounding, nearest to
the float ones. Real rows are float64 in units of the scale, (C, K).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from torch import Tensor

from a2qplus.budget import project_budget, project_zero_centered
from a2qplus.functional import (
    project_l1,
    quantize_a2q,
    quantize_a2q_plus,
    quantize_budget,
    quantize_nearest,
)
from accsim._check import integer
from accsim.bounds import l1_budget, sign_budgets, zero_centered_budget
from accsim.errors import SpecError
from accsim.spec import MAX_BITS, IntSpec, between, signed

__all__ = ["METHODS", "STARTS", "ZERO_POINTS", "Method", "Quantization"]

STARTS = ("fit", "ep", "naive")
ZERO_POINTS = ("subtract", "outside", "preload")


@dataclass(frozen=True, slots=True)
class Quantization:
    """How one layer is quantized: what its register sums, and whether the weights must fit it.

    `method` is "base" (no bound; acc_bits None), "a2q", "a2q+" or "budget" (weights fit acc_bits).
    `start` tells where training starts from float weights: "naive" leaves them to the quantizer,
    "ep" moves them to the nearest that the method represents (EP-init), and "fit" does so at the
    scale whose integers are then nearest to them, where the others take max|w|.

    `input_spec` is the range of the inputs less their zero point z. `zero_point` tells where it is
    subtracted from the stored codes: "subtract" before they are multiplied; "outside", where the
    register sums raw codes and z·Σq is taken off the result; "preload", where it sums raw codes
    from -z·Σq on. In the last two a padded tap is the code z.

    Raises: SpecError for an unknown word or bits out of range.
    Source: the three lowerings are derived in docs/methods.md.
    """

    method: str
    weight_bits: int
    input_spec: IntSpec
    acc_bits: int | None = None
    start: str = "fit"
    zero_point: str = "subtract"

    def __post_init__(self) -> None:
        _check_method(self.method, self.acc_bits)
        integer(self.weight_bits, "weight_bits", 2, 16)
        if self.start not in STARTS:
            raise SpecError(f"start must be one of {', '.join(STARTS)}, not {self.start!r}")
        if self.zero_point not in ZERO_POINTS:
            raise SpecError(
                f"zero_point must be one of {', '.join(ZERO_POINTS)}, not {self.zero_point!r}"
            )
        if not isinstance(self.input_spec, IntSpec) or self.input_spec.max < 1:
            raise SpecError(
                f"input_spec must be an IntSpec that holds a positive input, not {self.input_spec}"
            )

    @property
    def weight_spec(self) -> IntSpec:
        """The symmetric range of the integer weights."""
        return signed(self.weight_bits, narrow=True)

    @property
    def offset(self) -> int:
        """The zero point of the codes that the register multiplies; 0 where it is subtracted."""
        return 0 if self.zero_point == "subtract" else max(0, -self.input_spec.min)

    @property
    def code_spec(self) -> IntSpec:
        """The range of the codes that the register multiplies."""
        return between(self.input_spec.min + self.offset, self.input_spec.max + self.offset)

    @property
    def bounded_spec(self) -> IntSpec:
        """The range of inputs whose exact sums are the register's.

        A preloaded register that sums raw codes ends where one ends that sums inputs, and no
        partial sum of either leaves what its final sums can reach.
        """
        return self.code_spec if self.zero_point == "outside" else self.input_spec

    @property
    def register(self) -> dict[str, Any]:
        """What the quantizers of bounded methods are told."""
        return {
            "weight_bits": self.weight_bits,
            "acc_bits": self.acc_bits,
            "input_spec": self.bounded_spec,
        }

    @property
    def budget(self) -> Fraction | None:
        """Largest l1-norm of a channel's integers, where the method learns a norm; else None."""
        rule = METHODS[self.method].budget
        if rule is None or self.acc_bits is None:
            return None
        return rule(self.acc_bits, self.bounded_spec)

    @property
    def least_acc_bits(self) -> int | None:
        """The least register in which the method has weights other than 0; None without one."""
        if self.acc_bits is None:
            return None
        method, spec = METHODS[self.method], self.bounded_spec
        return next(bits for bits in range(2, MAX_BITS + 1) if method.has_room(bits, spec))

    def check_room(self) -> None:
        """Raise SpecError, with the least width, if the only weight that fits is 0."""
        least = self.least_acc_bits
        if self.acc_bits is not None and least is not None and self.acc_bits < least:
            raise SpecError(
                f'acc_bits must be at least {least} for method "{self.method}" to have weights'
                f" other than 0 with {self.bounded_spec.describe()} inputs, not {self.acc_bits}"
            )


def _check_method(method: str, acc_bits: int | None) -> None:
    """Raise SpecError unless this is a known method with the register it needs."""
    if not isinstance(method, str) or method not in METHODS:
        raise SpecError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    if METHODS[method].bounded:
        integer(acc_bits, "acc_bits", 2, MAX_BITS)
    elif acc_bits is not None:
        raise SpecError(f'method "{method}" bounds nothing, so acc_bits must be None')


@dataclass(frozen=True, slots=True)
class Method:
    """One way. Rows are real, float64, in units of the scale, (C, K).

    quantize: float weights, scale, norm and rule to integers, float64, with straight-through
    gradients. nearest: rows to the nearest that the method represents but for rounding. budget: of
    the norm that is learned for each channel, from acc_bits and input_spec; None: none is learned.
    """

    quantize: Callable[[Tensor, Tensor, Tensor, Quantization], Tensor]
    nearest: Callable[[Tensor, Quantization], Tensor]
    budget: Callable[[int, IntSpec], Fraction] | None = None
    centred: bool = False  # the norm is that of centred weights
    bounded: bool = True  # the integers fit a register

    def has_room(self, acc_bits: int, spec: IntSpec) -> bool:
        """Whether some weight of one unit fits a register of this width."""
        if self.budget is not None:  # a unit of centred weights needs one of the other sign
            return self.budget(acc_bits, spec) >= (2 if self.centred else 1)
        budgets = sign_budgets(acc_bits, spec)
        return bool(budgets.allow(1, 0) or budgets.allow(0, 1))


def _budget(rule: Quantization) -> float:
    assert rule.budget is not None, "of methods that learn a norm"
    return float(rule.budget)


def _nearest_safe(rows: Tensor, rule: Quantization) -> Tensor:
    assert rule.acc_bits is not None, "checked when the rule was made"
    return project_budget(rows, sign_budgets(rule.acc_bits, rule.bounded_spec))


METHODS = {
    "base": Method(
        lambda v, scale, _, rule: quantize_nearest(v, scale, weight_bits=rule.weight_bits)[0],
        lambda rows, rule: rows,
        bounded=False,
    ),
    # Source: A2Q (arXiv 2308.13504); start: A2Q+ paper Eq. 13-15
    "a2q": Method(
        lambda v, scale, norm, rule: quantize_a2q(v, scale, norm, **rule.register)[0],
        lambda rows, rule: project_l1(rows, _budget(rule)),
        budget=l1_budget,
    ),
    # Source: A2Q+ (arXiv 2401.10432); start: exact, where the paper takes that of A2Q
    "a2q+": Method(
        lambda v, scale, norm, rule: quantize_a2q_plus(v, scale, norm, **rule.register)[0],
        lambda rows, rule: project_zero_centered(rows, _budget(rule)),
        budget=zero_centered_budget,
        centred=True,
    ),
    "budget": Method(
        lambda v, scale, _, rule: quantize_budget(v, scale, **rule.register)[0],
        _nearest_safe,
    ),
}
