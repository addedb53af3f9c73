"""Products of two activations: what their types alone prove of the register that sums them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from accsim import bounds
from accsim.datapath import Datapath
from accsim.datapaths import safe_products
from accsim.layer import IntLayer
from accsim.network import Register
from accsim.spec import IntSpec
from accsim.tree import check_takes
from verification.datapaths import register_of
from verification.json_file import accumulator_json, how_json
from verification.verdict import Verdict

__all__ = ["product_json"]

Json = dict[str, Any]


def product_json(
    name: str,
    operands: tuple[IntSpec, IntSpec],
    taps: int | None,
    accumulator: Register | None,
) -> Json:
    """A product of activations: proved by its types and its length, or not decided.

    Raises: RangeError for operands that a datapath does not take.
    """
    left, right = operands
    register = None if accumulator is None else accumulator_json(register_of(accumulator))
    datapath = how_json(accumulator) if isinstance(accumulator, Datapath) else {}
    return {
        "name": name,
        "left": str(left),
        "right": str(right),
        "taps": taps,
        "accumulator": register,
        "least_bits": None if taps is None else bounds.data_type_bits(taps, right, left),
        "verdict": str(_by_types(operands, taps, accumulator)),
        **datapath,
    }


def _by_types(
    operands: tuple[IntSpec, IntSpec], taps: int | None, accumulator: Register | None
) -> Verdict:
    if taps is None or accumulator is None:
        return Verdict.UNDECIDED
    if isinstance(accumulator, Datapath):
        return _through(operands, taps, accumulator)
    left, right = ((spec.min, spec.max) for spec in operands)
    ends = [taps * a * b for a in left for b in right]  # 0, where sums start, is in any register
    fits = bounds.fits(min(ends), max(ends), accumulator)
    return Verdict.PROVED if fits else Verdict.UNDECIDED


def _through(operands: tuple[IntSpec, IntSpec], taps: int, datapath: Datapath) -> Verdict:
    """Of a datapath: proved where every level takes so many products of these types."""
    left, right = operands
    check_takes(IntLayer(np.array([[right.min]]), weight_spec=right, input_spec=left), datapath)
    counts = safe_products(replace(datapath, inputs=left, weights=right))
    fits = all(count is None or count >= taps for count in counts)
    return Verdict.PROVED if fits else Verdict.UNDECIDED
