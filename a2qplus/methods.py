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
from accsim.spec import MAX_BITS, IntSpec, signed

__all__ = ["METHODS", "STARTS", "Method", "Quantization"]

STARTS = ("fit", "ep", "naive")


@dataclass(frozen=True, slots=True)
class Quantization:
    """How one layer is quantized: what its register sums, and whether the weights must fit it.

    `method` is "base" (no bound; acc_bits None), "a2q", "a2q+" or "budget" (weights fit acc_bits).
    `start` tells where training starts from float weights: "naive" leaves them to the quantizer,
    "ep" moves them to the nearest that the method represents (EP-init), and "fit" does so at the
    scale whose integers are then nearest to them, where the others take max|w|.

    Raises: SpecError for an unknown word or bits out of range.
    """

    method: str
    weight_bits: int
    input_spec: IntSpec
    acc_bits: int | None = None
    start: str = "fit"

    def __post_init__(self) -> None:
        _check_method(self.method, self.acc_bits)
        integer(self.weight_bits, "weight_bits", 2, 16)
        if self.start not in STARTS:
            raise SpecError(f"start must be one of {', '.join(STARTS)}, not {self.start!r}")
        if not isinstance(self.input_spec, IntSpec) or self.input_spec.max < 1:
            raise SpecError(
                f"input_spec must be an IntSpec that holds a positive input, not {self.input_spec}"
            )

    @property
    def weight_spec(self) -> IntSpec:
        """The symmetric range of the integer weights."""
        return signed(self.weight_bits, narrow=True)

    @property
    def register(self) -> dict[str, Any]:
        """What the quantizers of bounded methods are told."""
        return {
            "weight_bits": self.weight_bits,
            "acc_bits": self.acc_bits,
            "input_spec": self.input_spec,
        }

    @property
    def budget(self) -> Fraction | None:
        """Largest l1-norm of a channel's integers, where the method learns a norm; else None."""
        rule = METHODS[self.method].budget
        return (
            None if rule is None or self.acc_bits is None else rule(self.acc_bits, self.input_spec)
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


def _budget(rule: Quantization) -> float:
    assert rule.budget is not None, "of methods that learn a norm"
    return float(rule.budget)


def _nearest_safe(rows: Tensor, rule: Quantization) -> Tensor:
    assert rule.acc_bits is not None, "checked when the rule was made"
    return project_budget(rows, sign_budgets(rule.acc_bits, rule.input_spec))


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
