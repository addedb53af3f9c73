"""Products of two activations: what their types alone prove of the register that sums them."""

from __future__ import annotations

from typing import Any

from accsim import bounds
from accsim.spec import Accumulator, IntSpec
from verification.json_file import accumulator_json
from verification.verdict import Verdict

__all__ = ["product_json"]

Json = dict[str, Any]


def product_json(
    name: str,
    operands: tuple[IntSpec, IntSpec],
    taps: int | None,
    accumulator: Accumulator | None,
) -> Json:
    """A product of activations: proved by its types and its length, or not decided."""
    left, right = operands
    return {
        "name": name,
        "left": str(left),
        "right": str(right),
        "taps": taps,
        "accumulator": None if accumulator is None else accumulator_json(accumulator),
        "least_bits": None if taps is None else bounds.data_type_bits(taps, right, left),
        "verdict": str(_by_types(operands, taps, accumulator)),
    }


def _by_types(
    operands: tuple[IntSpec, IntSpec], taps: int | None, accumulator: Accumulator | None
) -> Verdict:
    if taps is None or accumulator is None:
        return Verdict.UNDECIDED
    left, right = ((spec.min, spec.max) for spec in operands)
    ends = [taps * a * b for a in left for b in right]  # 0, where sums start, is in any register
    fits = bounds.fits(min(ends), max(ends), accumulator)
    return Verdict.PROVED if fits else Verdict.UNDECIDED
