"""The schema of a report, as JSON Schema: every member, its type and its bounds."""

from __future__ import annotations

from typing import Any

from accsim.datapath import MAX_ORDER
from accsim.spec import MAX_BITS, MAX_TERMS

__all__ = ["NAME", "REPORT"]

NAME = "accsim.report/1"
_FAR = 2**64  # no running sum goes as far
_LONG = 1000  # letters of a name
Schema = dict[str, Any]


def _record(required: Schema, optional: Schema | None = None) -> Schema:
    return {
        "type": "object",
        "required": list(required),
        "properties": required | (optional or {}),
        "additionalProperties": False,
    }


def _by_name(values: Schema) -> Schema:
    names = {"maxLength": _LONG}
    return {"type": "object", "propertyNames": names, "additionalProperties": values}


def _list(items: Schema, least: int = 0) -> Schema:
    return {"type": "array", "items": items, "minItems": least}


def _integer(least: int, most: int) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


def _or_null(values: Schema) -> Schema:
    return {"anyOf": [values, {"type": "null"}]}


_TEXT = {"type": "string", "maxLength": _LONG}
_REASON = {"type": "string"}
_FLAG = {"type": "boolean"}
_BITS = _integer(1, 2 * MAX_BITS)
_COUNT = _integer(0, 2**MAX_BITS)
_SUM = _integer(-_FAR, _FAR)
_SIZE = {"type": "number", "minimum": 0, "maximum": 1e300}
_VERDICT = {"enum": ["proved", "refuted", "undecided"]}
_RULE = {"enum": ["wrap", "saturate"]}
_REGISTER = _record({"bits": _integer(2, MAX_BITS), "overflow": _RULE, "signed": _FLAG})
_RAIL = {"enum": [True, False, None]}
_BETWEEN = _or_null(_TEXT)
_DATAPATH = _record(
    {
        "levels": _list(
            _record(
                {
                    "bits": _integer(2, MAX_BITS),
                    "overflow": _RULE,
                    "signed": _FLAG,
                    "terms": _or_null(_integer(1, MAX_TERMS)),
                    "rail": {"enum": ["step", "sum"]},
                }
            ),
            1,
        ),
        "order": _or_null(_list(_integer(0, MAX_ORDER), 1)),
        "bias": {"enum": ["first", "last"]},
        "inputs": _BETWEEN,
        "weights": _BETWEEN,
        "name": {"type": "string"},
        "source": {"type": "string"},
    }
)
_LEVEL = _record(
    {
        "verdict": _VERDICT,
        "rails": {"type": "array", "items": _RAIL, "minItems": 2, "maxItems": 2},
        "least_bits": _BITS,
        "channel_bits": _list(_BITS, 1),
        "longest_fold": _or_null(_COUNT),
        "unsafe_channels": _list(_COUNT),
        "undecided_channels": _list(_COUNT),
    }
)
_ENDS = {"low": _SUM, "high": _SUM, "bits": _BITS, "of_rail": _SIZE}

_LAYER = _record(
    {
        "verdict": _VERDICT,
        "accumulator": _REGISTER,
        "digest": _TEXT,
        **dict.fromkeys(("taps", "channels", "weights"), _COUNT),
        **dict.fromkeys(("input", "weight"), _TEXT),
        **dict.fromkeys(("data_type_bits", "least_bits", "final_bits", "any_order_bits"), _BITS),
        **dict.fromkeys(("l1_bits", "zero_centered_bits", "preloaded_bits"), _or_null(_BITS)),
        "fold_interval": _or_null(_COUNT),
        "channel_bits": _list(_BITS, 1),
        "channel_final_bits": _list(_BITS, 1),
        "channel_any_order_bits": _list(_BITS, 1),
        "unsafe_channels": _list(_COUNT),
        "wrap_exact": _FLAG,
        "witness": _or_null({"type": "object"}),  # replayed, which says more than a schema
    },
    {
        "start": _record({"channel": _COUNT, "value": _SUM}),  # a bias beyond the register
        "datapath": _DATAPATH,  # then "accumulator" is its summing register
        "levels": _list(_LEVEL),  # none where it cannot even start
        "remarks": _list(_REASON),
    },
)
_DATA = _record(
    {
        **_ENDS,
        "outputs": _integer(1, 2**MAX_BITS),
        "overflowed_outputs": _COUNT,
        "channel_low": _list(_SUM, 1),
        "channel_high": _list(_SUM, 1),
        "outputs_by_bits": {
            "type": "object",
            "patternProperties": {"^[1-9][0-9]?$": _COUNT},
            "additionalProperties": False,
        },
        "spread": _list({"type": "array", "items": _SUM, "minItems": 3, "maxItems": 3}),
    }
)
_REACHED = _record({"data": _DATA, "proved": _record(_ENDS)}, {"attack": _record(_ENDS)})
_LOWERING = _record({"verdict": _VERDICT, "least_bits": _BITS, "input": _TEXT})
_PRODUCT = _record(
    {
        **dict.fromkeys(("name", "left", "right"), _TEXT),
        "taps": _or_null(_COUNT),
        "accumulator": _or_null(_REGISTER),
        "least_bits": _or_null(_BITS),
        "verdict": _VERDICT,
    },
    {"datapath": _DATAPATH},  # then "accumulator" is its summing register
)
_OVERFLOWS = _record(dict.fromkeys(("outputs", "overflowed_outputs", "overflow_steps"), _COUNT))
_POINT = _record(
    {
        "bits": _BITS,
        "overflow": _RULE,
        "accuracy": {"type": "number", "minimum": 0, "maximum": 1},
        "overflows": _by_name(_OVERFLOWS),
    }
)
_DIFFERENCE = _record(
    {
        **dict.fromkeys(("outputs", "differing"), _COUNT),
        **dict.fromkeys(("channels", "samples"), _list(_COUNT)),
        "first_step": _integer(-1, 2**MAX_BITS),
    }
)
_COMPARISON = _record(
    {
        **dict.fromkeys(("first", "second"), _TEXT),
        "registers": _list({"anyOf": [_REGISTER, _DATAPATH]}, 2),
        "samples": _COUNT,
        "largest": _SIZE,
        "changed": _list(_COUNT),
        "layers": _by_name(_DIFFERENCE),
    }
)

REPORT = _record(
    {
        "schema": {"const": NAME},
        "digest": _TEXT,
        "made": _by_name(_TEXT),
        "name": _TEXT,
        "verdict": _VERDICT,
        "layers": _by_name(_LAYER),
    },
    {
        "accumulator": _REGISTER,
        "datapath": _DATAPATH,
        "inputs": _or_null(_TEXT),
        "reached": _by_name(_REACHED),
        "zero_point": _or_null(_SUM),
        "lowering": _or_null(_TEXT),
        "lowerings": _by_name(_by_name(_LOWERING)),
        "preloads": _by_name(_or_null(_list(_SUM, 1))),
        "products": _list(_PRODUCT),
        "untraced": _by_name(_REASON),
        "unbound": _list(_TEXT),
        "sweep": _list(_POINT),
        "comparison": _COMPARISON,
    },
)
