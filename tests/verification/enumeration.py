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


def totals(products, datapath, bias):
    """Of each level which sequences have a total below, and above, its register.

    Shapes: products (sequences, K) -> for each level two (sequences,). One level after another.
    """
    places = datapath.places(products.shape[1])
    items = [np.where(k < 0, 0, products[:, k]) for k in places]
    found = []
    for i, level in enumerate(datapath.levels):
        start = bias if i == datapath.summing and datapath.bias == "first" else 0
        if i == datapath.summing and datapath.bias == "last":
            items = [*items, np.full(len(products), bias)]
        size = level.terms or max(1, len(items))
        groups = [items[k : k + size] for k in range(0, len(items), size)]
        if level.terms is None and not groups:
            groups = [[]]
        below, above = np.zeros((2, len(products)), bool)
        items = []
        for group in groups:
            held = np.full(len(products), start)
            for k, item in enumerate(group):
                held = held + item
                if str(level.rail) == "step" or k + 1 == len(group):
                    below, above = below | (held < level.min), above | (held > level.max)
                    if str(level.overflow) == "wrap":
                        held = (held - level.min) % 2**level.bits + level.min
                    else:
                        held = np.clip(held, level.min, level.max)
            items.append(held)
        found.append((below, above))
    return found
