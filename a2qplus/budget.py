"""Weights inside the exact safe set of a register: projection, and rounding that spends the budget.

A channel's integers fit a register for every input exactly if the sums α and |β| of its positive
and its negative ones lie in a polygon (`bounds.SignBudgets`; for unsigned inputs a box). Real
weights are projected onto it, the Euclidean way, and rounded by apportionment: down first, then
units go one by one to the largest remainders of at least 1/2, for as long as the sums stay inside:
nearest rounding of the projected weights, as far as the register allows.

All arithmetic is float64 on rows (C, K), one output channel each. Units are granted on exact
integers, so the result is safe whatever the projection's rounding error.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accsim.bounds import SignBudgets

__all__ = ["apportion", "project_budget", "project_zero_centered", "sign_sums", "soften"]

_DOWN = 1 - 2.0**-36  # more than float64 errs in a sum of up to 2^15 weights
_MOST = 2.0**50  # units are whole numbers in float64


def project_budget(y: Tensor, budgets: SignBudgets) -> Tensor:
    """The nearest real rows inside the safe set; rows inside stay as they are.

    Each sign keeps its own soft threshold: θ₊ = λ·up + μ·down for positive entries and
    θ₋ = λ·down + μ·up for negative ones, with λ, μ >= 0 the multipliers of the two half-planes
    (Karush-Kuhn-Tucker). So one of four cases holds: no half-plane binds, the first alone, the
    second alone, or both, where α and |β| are the corner of the polygon. Differentiable: the
    thresholds are functions of the rows.

    Shapes: (C, K) -> (C, K).
    """
    if y.shape[1] == 0:
        return y
    up, down, high, low = budgets.up, budgets.down, budgets.high, budgets.low
    if down == 0:  # a budget for each sign
        return soften(soften(y, 1, 0, high / up), 0, 1, low / up)
    first = soften(y, up, down, high)
    second = soften(y, down, up, low)
    # parallel half-planes have no corner: the tighter one, the first, implies the other
    area = up * up - down * down
    corner = y
    if area:
        alpha, beta = (up * high - down * low) / area, (up * low - down * high) / area
        corner = soften(soften(y, 1, 0, max(alpha, 0)), 0, 1, max(beta, 0))
    out = torch.where(_inside(second, up, down, high), second, corner)
    out = torch.where(_inside(first, down, up, low), first, out)
    return torch.where(_inside(y, up, down, high) & _inside(y, down, up, low), y, out)


def project_zero_centered(y: Tensor, radius: float) -> Tensor:
    """The nearest rows that sum to 0 with an l1-norm of at most `radius`.

    A sum of 0 makes the positive and the negative part radius / 2 each where the norm binds, so
    the answer is max(y - a, 0) - max(b - y, 0), with a and b the thresholds of two projections onto
    a simplex; where it does not bind, the centred row.

    Shapes: (C, K) -> (C, K). Source: the exact form of A2Q+ (arXiv 2401.10432) Eq. 13-15, which
    projects without centring.
    """
    if y.shape[1] == 0:
        return y
    centred = y - y.mean(dim=1, keepdim=True)
    half = radius / 2
    bound = _above(y, half) - _above(-y, half)
    return torch.where(centred.abs().sum(dim=1, keepdim=True) <= radius, centred, bound)


def apportion(target: Tensor, budgets: SignBudgets, *, start: Tensor | None = None) -> Tensor:
    """Integers near the target, of its signs, with every channel inside the safe set.

    From `start` (by default the target rounded toward zero) units go one by one to the entries
    farthest below their target, until none is by 1/2 or more; a unit is granted only if the sums
    stay inside. Ties go to the earlier tap. When one sign has no room left, the other goes on.

    The target itself must lie inside but for rounding error, or `start`, integers of the target's
    signs, no larger in size than it, must.

    Shapes: (C, K) -> (C, K), O(K log K) for each channel.
    """
    q = torch.trunc(target * _DOWN) if start is None else start
    if q.shape[1] == 0:
        return q
    q = _grant(q, target, target != 0, budgets)
    if start is None and budgets.down == 0:
        return q  # the signs do not stand in each other's way
    for side in (target > 0, target < 0):
        q = _grant(q, target, side, budgets)
    return q


def _grant(q: Tensor, target: Tensor, side: Tensor, budgets: SignBudgets) -> Tensor:
    """Units to entries of this side, by the size of what they lack, until one does not fit.

    An entry that lacks h + 1/2 is owed units of sizes h, h - 1, ... down to 0. First all units are
    granted down to the least whole size at which they fit, then one by one in the next size.
    """
    lacks = torch.where(side, target.abs() - q.abs() - 0.5, -1.0).clamp_max(_MOST)
    positive = target > 0
    room = _room(q, budgets)

    def units(size: Tensor) -> Tensor:
        return (lacks.floor() - size + 1).clamp_min(0)

    def fit(granted: Tensor) -> Tensor:
        return _cost(granted, positive, budgets).sum(dim=2).le(room).all(dim=0)[:, None]

    most = lacks.amax(dim=1, keepdim=True).floor().clamp_min(-1) + 1  # no unit is so large
    least = torch.zeros_like(most)
    while bool((least < most).any()):
        middle = ((least + most) / 2).floor()
        fits = fit(units(middle))
        least, most = torch.where(fits, least, middle + 1), torch.where(fits, middle, most)
    granted = units(most)
    lacks = torch.where(lacks.floor() - granted == most - 1, lacks - granted, -1.0)
    order = lacks.sort(dim=1, descending=True, stable=True).indices
    next_units = (lacks >= 0).to(q.dtype)
    left = room - _cost(granted, positive, budgets).sum(dim=2)
    costs = _cost(next_units, positive, budgets).gather(2, order.expand(2, -1, -1))
    fits = ((costs.cumsum(dim=2) <= left[..., None]) | (costs == 0)).all(dim=0)
    granted = granted + next_units * torch.zeros_like(q).scatter(1, order, fits.to(q.dtype))
    return q + granted * target.sign()


def _room(q: Tensor, budgets: SignBudgets) -> Tensor:
    """What is left of both half-planes: (2, C)."""
    most = torch.tensor([[budgets.high], [budgets.low]], dtype=q.dtype, device=q.device)
    return most - _cost(q.abs(), q > 0, budgets).sum(dim=2)


def _cost(units: Tensor, positive: Tensor, budgets: SignBudgets) -> Tensor:
    """What units (C, K) of these signs take from both half-planes: (2, C, K)."""
    up, down = units.new_tensor(budgets.up), units.new_tensor(budgets.down)
    return units * torch.stack([torch.where(positive, a, b) for a, b in ((up, down), (down, up))])


def _inside(y: Tensor, weight: int, other: int, limit: int) -> Tensor:
    """Whether weight·α + other·|β| is within the limit, but for rounding error: (C, 1)."""
    positive, negative = sign_sums(y)
    return (weight * positive + other * negative) * _DOWN <= limit


def sign_sums(y: Tensor) -> tuple[Tensor, Tensor]:
    """α and |β| of rows (C, K): (C, 1) each."""
    positive, negative = y.clamp_min(0), y.clamp_max(0)
    return positive.sum(dim=1, keepdim=True), -negative.sum(dim=1, keepdim=True)


def soften(y: Tensor, weight: int, other: int, limit: Tensor | float) -> Tensor:
    """The nearest rows with weight·α + other·|β| <= limit: thresholds λ·weight and λ·other.

    λ is found as in a projection onto the simplex: entries leave in the order of size / weight.

    Shapes: y (C, K) with at least one tap, limit a number or (C, 1) -> (C, K).
    Source: Duchi et al., ICML 2008, with weights.
    """
    weights = torch.where(y > 0, y.new_tensor(weight), y.new_tensor(other))
    size = y.abs()
    ratio = torch.where(weights > 0, size / weights.clamp_min(1e-300), -1.0)
    order = ratio.detach().sort(dim=1, descending=True).indices
    sums = (weights * size).gather(1, order).cumsum(dim=1)
    squares = (weights * weights).gather(1, order).cumsum(dim=1)
    found = (sums - limit) / squares.clamp_min(1e-300)
    last = (ratio.gather(1, order) > found).sum(dim=1, keepdim=True).clamp_min(1) - 1
    threshold = found.gather(1, last).clamp_min(0)
    return y.sign() * (size - threshold * weights).clamp_min(0)


def _above(y: Tensor, total: float) -> Tensor:
    """max(y - a, 0) with the threshold a, of any sign, for which a row sums to `total`."""
    ordered = y.sort(dim=1, descending=True).values
    count = torch.arange(1, y.shape[1] + 1, dtype=y.dtype, device=y.device)
    found = (ordered.cumsum(dim=1) - total) / count
    last = (ordered > found).sum(dim=1, keepdim=True).clamp_min(1) - 1
    return (y - found.gather(1, last)).clamp_min(0)
