"""`assert_safe`: for the tests of those who have a layer or a model and a register."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accsim.datapath import Datapath
from accsim.errors import SpecError
from accsim.layer import IntLayer
from accsim.spec import Accumulator
from verification.decide import Report, decide
from verification.witness import Witness
from verification.words import where_of

__all__ = ["assert_safe"]

_SHOWN = 8  # entries of an input that are printed


def assert_safe(layer_or_model: Any, accumulator: Accumulator | Datapath) -> None:
    """Raise AssertionError, whose text is the witness, unless no input overflows the register.

    Or any level of a datapath.

    Takes an `IntLayer`, a mapping of names to them, or a quantized torch model, whose layers are
    frozen first (`a2qplus.to_layers`).

    Raises: SpecError for anything else; as `decide`.

    >>> from accsim import signed, unsigned
    >>> layer = IntLayer([[7, -7, 7]], weight_spec=signed(4), input_spec=unsigned(4))
    >>> assert_safe(layer, Accumulator(9))
    """
    layers = _layers(layer_or_model)
    if not layers:
        raise SpecError("assert_safe must have at least one layer")
    for name, layer in layers.items():
        report = decide(layer, accumulator)
        if report.witness is not None:
            raise AssertionError(_text(name, layer, report, report.witness))


def _layers(layer_or_model: Any) -> Mapping[str, IntLayer]:
    if isinstance(layer_or_model, IntLayer):
        return {"": layer_or_model}
    if isinstance(layer_or_model, Mapping):
        return layer_or_model
    if hasattr(layer_or_model, "named_modules"):
        from a2qplus import to_layers

        return to_layers(layer_or_model)
    kind = type(layer_or_model).__name__
    raise SpecError(f"assert_safe takes an IntLayer, a mapping of them or a model, not a {kind}")


def _text(name: str, layer: IntLayer, report: Report, witness: Witness) -> str:
    """The witness in lines: what overflows, where, for which input, and what would hold."""
    register, k = witness.rails, witness.step
    taps = [i for i, value in enumerate(witness.x.tolist()) if value]
    entries = ", ".join(f"x[{i}] = {witness.x[i]}" for i in taps[:_SHOWN])
    more = f", and {len(taps) - _SHOWN} more" if len(taps) > _SHOWN else ""
    total = witness.register + witness.product
    ends = "the register holds" if witness.level is None else "the datapath ends at"
    return "\n".join(
        [
            f"{f'layer {name!r}' if name else 'the layer'} can overflow {where_of(witness)}"
            f" [{register.min}, {register.max}]",
            f"  where: channel {witness.channel}, step {k} of {_steps(witness)}",
            f"  there: {witness.register} + {_added(witness)} = {total}",
            f"  input: {entries or 'all 0'}{more}; 0 elsewhere",
            f"  range: inputs {layer.input_spec}, weights {layer.weight_spec}",
            f"  end:   {ends} {witness.simulated}, the exact sum is {witness.exact}",
            f"  also:  {len(report.unsafe_channels)} of {layer.channels} channels can overflow",
            f"  needs: {_needs(report)}",
        ]
    )


def _added(witness: Witness) -> str:
    """What the register is handed: a product as its factors, or an item of the level below."""
    if witness.level is not None:
        return str(witness.product)
    k = witness.step
    return f"{int(witness.layer.rows[0, k])}·{int(witness.x[k])}"


def _steps(witness: Witness) -> int:
    """How many products are summed, those of 0 that stand in included."""
    how, taps = witness.accumulator, witness.layer.taps
    return taps if isinstance(how, Accumulator) else len(how.places(taps))


def _needs(report: Report) -> str:
    """The least bits; of each level, inner to outer."""
    if not report.levels:
        return f"{report.least_bits} bits"
    bits = ", ".join(str(level.least_bits) for level in report.levels)
    return f"{bits} bits, by level from the products on"
