"""The paper's weight quantizers as pure tensor functions, one output channel per row of dim 0.

Source: A2Q (arXiv 2308.13504) and A2Q+ (arXiv 2401.10432); letters as there: v float weights, s
scale, g norm, T budget, q integers. All arithmetic is float64 whatever the parameters' type, and
the integers are decided exactly before they are returned.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from a2qplus.budget import apportion, project_budget, sign_sums, soften
from accsim._check import integer
from accsim.bounds import SignBudgets, l1_budget, sign_budgets, zero_centered_budget
from accsim.errors import DtypeError, HostWidthError, ShapeError
from accsim.spec import Accumulator, IntSpec, signed

__all__ = [
    "project_l1",
    "quantize_a2q",
    "quantize_a2q_plus",
    "quantize_budget",
    "quantize_nearest",
    "refill",
    "round_nearest",
    "round_toward_zero",
    "zero_center",
]


def round_toward_zero(y: Tensor) -> Tensor:
    """y without its fraction; the gradient is that of y (straight-through)."""
    return y + (torch.trunc(y) - y).detach()


def round_nearest(y: Tensor) -> Tensor:
    """The nearest integers, ties to even; the gradient is that of y (straight-through)."""
    return y + (torch.round(y) - y).detach()


def quantize_a2q(
    v: Tensor,
    scale: Tensor,
    norm: Tensor,
    *,
    weight_bits: int,
    acc_bits: int,
    input_spec: IntSpec,
) -> tuple[Tensor, Tensor]:
    """A2Q: each channel's l1-norm bounded, so that no input of `input_spec` overflows `acc_bits`.

    q = clip(trunc(v / ‖v‖₁ · min(g / s, T))), w = s·q, with T = `bounds.l1_budget`. The integers
    always fit the register; a channel of zeros stays zeros. Finite parameters give no NaN, neither
    in values nor in gradients, as long as float64 holds the sum of a channel's |v|.

    Shapes: v (C, ...), scale and norm C entries -> q like v, float64, integer-valued; w like v in
    v's dtype (q is exact, w is rounded to that dtype).
    Raises: SpecError for bits, ShapeError for shapes, HostWidthError for sums beyond float64.
    Source: A2Q+ paper Eq. 4-6.
    """
    budget = l1_budget(acc_bits, input_spec)
    return _normalize(v, _rows(v), scale, norm, budget, weight_bits, acc_bits, input_spec)


def quantize_a2q_plus(
    v: Tensor,
    scale: Tensor,
    norm: Tensor,
    *,
    weight_bits: int,
    acc_bits: int,
    input_spec: IntSpec,
) -> tuple[Tensor, Tensor]:
    """A2Q+: as `quantize_a2q` on zero-centred weights, with about twice the budget.

    T = `bounds.zero_centered_budget`; the mean is taken over exactly the taps of one register. A
    channel without spread (all equal, or of one tap) becomes zeros.

    Shapes, raises: as `quantize_a2q`; SpecError also for inputs that exclude 0.
    Source: A2Q+ paper Prop. 3.1 and 3.2, Eq. 7.
    """
    budget = zero_centered_budget(acc_bits, input_spec)
    rows = zero_center(_rows(v))
    return _normalize(v, rows, scale, norm, budget, weight_bits, acc_bits, input_spec)


def quantize_budget(
    v: Tensor,
    scale: Tensor,
    *,
    weight_bits: int,
    acc_bits: int,
    input_spec: IntSpec,
) -> tuple[Tensor, Tensor]:
    """Weights in the exact safe set of a register: no norm, no centring.

    q = apportion(project(clip(v / s))), w = s·q (`a2qplus.budget`): v is moved to the nearest real
    weights that fit, and those are rounded to nearest as far as the register allows. Units are
    granted only while the sums of positive and negative integers stay inside `bounds.sign_budgets`,
    which is necessary and sufficient. The projection is differentiated as it is, rounding straight
    through.

    Shapes, raises: as `quantize_a2q_plus`.
    """
    rows, top = _rows(v), _top(weight_bits)
    _check_exact(rows, weight_bits, input_spec)
    budgets = sign_budgets(acc_bits, input_spec)
    y = project_budget((rows / _column(scale, rows)).clamp(-top, top), budgets)
    q = y + (apportion(y.detach(), budgets) - y).detach()
    return _shaped(q * _safe(q, Accumulator(acc_bits), input_spec), v, scale)


def quantize_nearest(v: Tensor, scale: Tensor, *, weight_bits: int) -> tuple[Tensor, Tensor]:
    """Plain quantization without a bound: q = clip(round(v / s)), w = s·q.

    Shapes: as `quantize_a2q`. Source: A2Q+ paper Eq. 1, symmetric weights.
    """
    rows = _rows(v)
    top = _top(weight_bits)
    q = round_nearest(rows / _column(scale, rows)).clamp(-top, top)
    return _shaped(q, v, scale)


def refill(
    q: Tensor, target: Tensor, *, weight_bits: int, acc_bits: int, input_spec: IntSpec
) -> Tensor:
    """Integers nearer to their real targets, spending what a register has left: trained or not.

    Units go one by one to the integers farthest below their target, until none is by 1/2 or more,
    while every channel stays inside the exact safe set (`a2qplus.budget.apportion`). Integers of
    another sign than their target, or beyond it, stay; so does a channel that does not fit.

    Shapes: q integer-valued and target, in units of the scale, both (C, ...) -> like q, float64.
    Raises: as `quantize_budget`; ShapeError for a target of another shape.
    """
    if q.shape != target.shape:
        raise ShapeError(
            f"target must have the shape of q, {tuple(q.shape)}, not {tuple(target.shape)}"
        )
    top = _top(weight_bits)
    goal = _rows(target).clamp(-top, top)
    rows = q.double().flatten(1)
    _check_exact(rows, weight_bits, input_spec)
    below = (rows * goal >= 0) & (rows.abs() < goal.abs())
    filled = apportion(
        torch.where(below, goal, rows), sign_budgets(acc_bits, input_spec), start=rows
    )
    safe = _safe(rows, Accumulator(acc_bits), input_spec)
    return torch.where(safe > 0, filled, rows).reshape(q.shape)


def zero_center(rows: Tensor) -> Tensor:
    """Each row minus its mean; exactly zeros for a row whose entries are all equal.

    Shapes: (C, K) float64 -> (C, K).
    """
    if rows.shape[1] == 0:
        return rows
    centred = rows - rows.mean(dim=1, keepdim=True)
    # The mean's rounding is a few units in the last place, whose own mean is then exact.
    return centred - centred.mean(dim=1, keepdim=True)


def project_l1(w: Tensor, radius: Tensor | float) -> Tensor:
    """Euclidean projection of each row onto the l1 ball of `radius`; rows inside stay as they are.

    Shapes: w (C, ...), radius a number or C entries, not negative -> like w.
    Source: Duchi et al., ICML 2008; A2Q+ paper Eq. 13-15.
    """
    rows = _rows(w)
    limit = torch.as_tensor(radius, dtype=rows.dtype, device=rows.device)
    limit = limit.reshape(-1, 1).expand(len(rows), 1)
    if rows.shape[1] == 0:
        return w
    return soften(rows, 1, 1, limit).reshape(w.shape).to(w.dtype)


def _normalize(
    v: Tensor,
    rows: Tensor,
    scale: Tensor,
    norm: Tensor,
    budget: Fraction,
    weight_bits: int,
    acc_bits: int,
    input_spec: IntSpec,
) -> tuple[Tensor, Tensor]:
    """Rows scaled to the smaller of norm and budget, rounded toward zero, clipped, decided."""
    top = _top(weight_bits)
    _check_exact(rows, weight_bits, input_spec)
    l1 = rows.abs().sum(dim=1, keepdim=True)
    length = (_column(norm, rows) / _column(scale, rows)).clamp_max(float(budget))
    y = rows / torch.where(l1 > 0, l1, 1.0) * length
    q = round_toward_zero(y).clamp(-top, top)
    return _shaped(q * _safe(q, Accumulator(acc_bits), input_spec), v, scale)


def _check_exact(rows: Tensor, weight_bits: int, input_spec: IntSpec) -> None:
    """Raise HostWidthError unless float64 holds every sum of these weights and inputs."""
    if rows.shape[1] * _top(weight_bits) * input_spec.magnitude >= 2**53:
        raise HostWidthError(
            f"{rows.shape[1]} products of {weight_bits}-bit weights and {input_spec} must stay"
            " below 2^53 to be decided exactly"
        )


def _safe(q: Tensor, accumulator: Accumulator, input_spec: IntSpec) -> Tensor:
    """1 for each channel of integers that fits the register for every input in any order, else 0.

    Decided on the positive and negative sums, exactly: all numbers are integers below 2^53. Exact
    arithmetic would never give a 0 here; rounding error in float64 is not trusted to agree.
    """
    up, down = max(0, input_spec.max), max(0, -input_spec.min)
    budgets = SignBudgets(up, down, accumulator.max, -accumulator.min)
    fits: Tensor = budgets.allow(*sign_sums(q.detach()))
    return fits.to(q.dtype)


def _rows(v: Tensor) -> Tensor:
    if not v.is_floating_point():
        raise DtypeError(f"weights to quantize must be floats, not {v.dtype}")
    if v.ndim < 2:
        raise ShapeError(f"weights must be (C, ...), not of shape {tuple(v.shape)}")
    return v.double().flatten(1)


def _column(parameter: Tensor, rows: Tensor) -> Tensor:
    """A positive per-channel parameter as a float64 column."""
    if parameter.numel() != len(rows):
        raise ShapeError(
            f"scale and norm must have one entry per channel, {len(rows)}, not {parameter.numel()}"
        )
    return parameter.double().reshape(-1, 1).clamp_min(torch.finfo(torch.float64).tiny)


def _top(weight_bits: int) -> int:
    """The largest integer weight: the symmetric range without the lowest code."""
    return signed(integer(weight_bits, "weight_bits", 2, 16), narrow=True).max


def _shaped(q: Tensor, v: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    w = q * _column(scale, q)
    return q.reshape(v.shape), w.reshape(v.shape).to(v.dtype)
