"""All codes, all products and what registers make of them: what is enumerated beside a decision."""

from itertools import count

import numpy as np


def every(spec, k):
    """All k-tuples of codes. Shapes: (codes^k, k)."""
    codes = np.arange(spec.min, spec.max + 1)
    if k == 0:
        return np.zeros((1, 0), codes.dtype)
    return np.stack(np.meshgrid(*[codes] * k, indexing="ij"), axis=-1).reshape(-1, k)


def distinct(weights, inputs):
    """The distinct product sequences of all pairs, and which of them each (input, weight) has.

    Shapes: (sequences, K), (inputs, weights).
    """
    products = inputs[:, None, :] * weights[None, :, :]
    offset = products - products.min(initial=0)
    place = (int(offset.max(initial=0)) + 1) ** np.arange(weights.shape[1])
    key = (offset * place).sum(axis=-1)
    _, first, inverse = np.unique(key.ravel(), return_index=True, return_inverse=True)
    return products.reshape(key.size, -1)[first], inverse.reshape(key.shape)


def folded(products, register, start):
    """The five fields of every sequence, by the definition: steps of exact integers.

    Shapes: products (sequences, K) -> (sequences,) each.
    """
    held = exact = low = high = np.full(len(products), start)
    steps, first = np.zeros_like(held), np.full_like(held, -1)
    for k, product in enumerate(products.T):
        exact, reached = exact + product, held + product
        low, high = np.minimum(low, exact), np.maximum(high, exact)
        outside = (reached < register.min) | (reached > register.max)
        steps, first = steps + outside, np.where(outside & (first < 0), k, first)
        if str(register.overflow) == "wrap":
            held = (reached - register.min) % 2**register.bits + register.min
        else:
            held = np.minimum(np.maximum(reached, register.min), register.max)
    fields = {"output": held, "overflow_count": steps, "first_overflow": first}
    return {**fields, "peak_low": low, "peak_high": high}


def holding(low, high):
    """The first width whose two's complement register holds [low, high], tried one by one."""
    return next(b for b in count(1) if -(2**b) <= 2 * low and 2 * high < 2**b)


def holdings(lows, highs):
    """The same of each pair."""
    return [holding(low, high) for low, high in zip(lows.tolist(), highs.tolist(), strict=True)]
