"""Ten wrong devices: the example device with one fragment of its text replaced."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accsim import Accumulator, IntLayer, signed, unsigned
from verification.vector_files import device_text
from verification.vectors import Vectors, chosen_stimulus, make_vectors

__all__ = ["BUGS", "Bug", "bug_vectors", "with_bug"]


@dataclass(frozen=True, slots=True)
class Bug:
    """What is replaced by what; in which mode it shows; what it is in words."""

    right: str
    wrong: str
    mode: str
    what: str


BUGS = {
    "upper_rail_one_low": Bug(
        "{{(TOTAL-P+1){1'b0}}, {(P-1){1'b1}}}",
        "{{(TOTAL-P+1){1'b0}}, {(P-2){1'b1}}, 1'b0}",
        "saturate",
        "Saturates one below the highest value.",
    ),
    "minus_max_for_min": Bug(
        "{{(TOTAL-P+1){1'b1}}, {(P-1){1'b0}}}",
        "{{(TOTAL-P+1){1'b1}}, {(P-2){1'b0}}, 1'b1}",
        "saturate",
        "A symmetric range: the lowest value is never held.",
    ),
    "rail_of_the_wrong_sign": Bug(
        "above) register <= HIGH[P-1:0]",
        "above) register <= LOW[P-1:0]",
        "saturate",
        "Saturates upwards to the lowest value.",
    ),
    "wraps_at_the_low_rail": Bug(
        "    else if (SATURATE != 0 && below) register <= LOW[P-1:0];\n",
        "",
        "saturate",
        "Saturates upwards only.",
    ),
    "sticky_forgets": Bug(
        "below || (sticky && !start);",
        "below;",
        "wrap",
        "The sticky flag is that of the last step.",
    ),
    "flag_above_only": Bug(
        "overflow <= above || below;",
        "overflow <= above;",
        "wrap",
        "The flag does not see the low rail.",
    ),
    "weight_sign_lost": Bug(
        "wire weight_sign = W_SIGNED != 0 && weight[W_BITS-1];",
        "wire weight_sign = 1'b0;",
        "wrap",
        "The weight is not sign-extended before it is multiplied.",
    ),
    "start_ignored": Bug(
        "start ? bias : register;",
        "register;",
        "wrap",
        "A sum goes on where the last one ended.",
    ),
    "bias_ignored": Bug(
        "start ? bias : register;",
        "start ? {P{1'b0}} : register;",
        "wrap",
        "A sum begins at 0.",
    ),
    "rail_shown_for_a_step": Bug(
        "assign acc = register;",
        "assign acc = SATURATE == 0 && overflow ? HIGH[P-1:0] : register;",
        "wrap",
        "Shows the rail at a step that wraps; the register is right, and so are most final values.",
    ),
}


def with_bug(bug: Bug, text: str | None = None) -> str:
    """The device with the bug. Raises: ValueError unless its text has the fragment just once."""
    text = device_text() if text is None else text
    if text.count(bug.right) != 1:
        raise ValueError(f"the device must have {bug.right!r} once, not {text.count(bug.right)}")
    return text.replace(bug.right, bug.wrong)


def bug_vectors(mode: str) -> Vectors:
    """Vectors on which every bug of a mode shows."""
    rng = np.random.default_rng(0)
    layer = IntLayer(
        rng.integers(-16, 16, (6, 12)),
        weight_spec=signed(5),
        input_spec=unsigned(5),
        bias=rng.integers(-500, 500, 6),
    )
    accumulator = Accumulator(11, mode)
    return make_vectors(layer, accumulator, chosen_stimulus(layer, accumulator, sums=60))
