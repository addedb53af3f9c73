"""The same as in `enumerations`, of what only accumulators of several levels have."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from enumerations import SPECS, TREES, outcome, rows_of

from accsim import Accumulator, IntLayer, between, signed


def ends_of(places: int) -> tuple[Any, Any, Any]:
    """The least and greatest products of many channels, and their biases."""
    pairs = [(-4, -1), (-2, 3), (0, 0), (1, 5)]
    rows = np.array(list(product(pairs, repeat=places)), np.int64).reshape(4**places, places, 2)
    return rows[..., 0], rows[..., 1], np.arange(len(rows)) % 5 - 2


def small_layers() -> Iterator[IntLayer]:
    """Channels of up to 3 taps, all of them, and convolutions beside their padding."""
    for spec, taps in product((between(-1, 1), between(1, 2), between(0, 1)), (0, 1, 3)):
        rows = rows_of(taps)
        start = np.arange(len(rows)) % 3 - 1
        yield IntLayer(rows, weight_spec=signed(3), input_spec=spec, bias=start)
        yield IntLayer(rows, weight_spec=signed(3), input_spec=spec)
    rows = rows_of(3).reshape(-1, 1, 1, 3)
    yield IntLayer(rows, weight_spec=signed(3), input_spec=between(1, 2), padding=(0, 1))


def datapath() -> Iterator[Any]:
    """What is read of trees, in words too; orders, lanes, and what is none of these."""
    from accsim.datapath import Datapath, lanes

    level, inner = Accumulator(4), Accumulator(4, terms=2)
    many = Accumulator(4, terms=2**39)
    trees = [*TREES, Datapath([many] * 3 + [level]), Datapath([level], order=range(3), name="it")]
    for tree in trees:
        yield outcome(lambda tree=tree: [tree, str(tree), tree.summing, tree.register, tree.last])
        yield outcome(lambda tree=tree: [tree.spans, str(tree.single)])
        for places in range(8):
            yield outcome(tree.places, places)
            for i in range(len(tree.levels)):
                yield outcome(tree.starts, i, places)
    for levels in ([], [inner], [level, inner, level], [inner, inner, level, level], 3, "ab", [3]):
        yield outcome(Datapath, levels)
    for order in ([], [0], [1], [1, 0], [0, 0], [1, 1, 0], [0.5], 3, None, range(2**20 + 1)):
        yield outcome(Datapath, [level], order=order)
    for name, value in product(
        ("bias", "inputs", "name", "source"), ("first", "", signed(3), None)
    ):
        yield outcome(Datapath, [level], **{name: value})
    for shape in product((0, 1, 2, 3, 2**10), repeat=2):
        for axes in ((0, 1), (1, 0), (0, 0), (1,), (2, 0), (-1, 0)):
            yield outcome(lanes, shape, axes)
    for shape, axes in (((), ()), ((), (0,)), ((4,), (0,)), ((2, 3, 2), (2, 0, 1))):
        yield outcome(lanes, shape, axes)


def climbing() -> Iterator[Any]:
    """All channels of up to 4 places, whose products lie between ends of four kinds."""
    from verification import climbing

    yield climbing.FALSE, climbing.UNKNOWN, climbing.TRUE
    for tree, places in product(TREES, range(5)):
        low, high, bias = ends_of(places)
        yield outcome(climbing.climbed, low, high, bias, tree)
        for row in range(len(low)):
            own = slice(row, row + 1)
            yield outcome(climbing.climbed, low[own], high[own], bias[own], tree)
        kinds = [each.astype(object) for each in (low, high, bias)]
        yield outcome(climbing.climbed, *kinds, tree)


def reachable() -> Iterator[Any]:
    """All rows of up to 3 weights, with budgets that end on the way."""
    from verification.reachable import Budget, passed

    for tree, spec, taps in product(TREES, SPECS[:6], range(4)):
        for row in rows_of(taps).tolist():
            for left in (2**30, 40) if taps == 3 else (2**30,):
                for bias in (-1, 0, 2):
                    count = len(tree.levels)
                    yield outcome(passed, row, spec, bias, tree, Budget(left), levels=count)


def folds() -> Iterator[Any]:
    """All channels of up to 5 places, whose products lie between ends of four kinds; types."""
    from verification import folds

    for tree, places in product(TREES, range(5)):
        low, high, _ = ends_of(places)
        yield outcome(folds.safe_folds, low, high, tree)
        for row in range(len(low)):
            found = outcome(folds.safe_folds, low[row : row + 1], high[row : row + 1], tree)
            yield found
    for size in range(5):
        for flags in product((False, True), repeat=size):
            yield outcome(folds.longest, np.array(flags, bool))
    for tree, weights, inputs in product(TREES, SPECS, SPECS):
        yield outcome(folds.type_folds, tree, weights, inputs)


def moments() -> Iterator[Any]:
    """Of every tree up to 8 places, and the sums that stand there; pieces of small layers."""
    from verification import moments

    for tree, places in product(TREES, range(9)):
        for at in moments.moments(tree, places):
            yield outcome(lambda at=at: [at, at.complete])
            products = np.arange(3 * places).reshape(3, places) * 7 % 5
            yield outcome(at.sums, products, np.array([-1, 0, 4]))
    for layer, tree in product(small_layers(), TREES):
        yield outcome(lambda pair=(layer, tree): list(moments.pieces(*pair)))


def levels() -> Iterator[Any]:
    """Reports of small layers in every tree, whole and by level; as plain values, too."""
    from verification import levels

    for layer, tree in product(small_layers(), TREES):
        yield outcome(levels.level_reports, layer, tree)
        yield outcome(
            lambda pair=(layer, tree): levels.levels_json(levels.level_reports(*pair).reports)
        )
        for i in range(len(tree.levels)):
            yield outcome(levels.level_ends, layer, tree, i)
