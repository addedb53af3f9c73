"""What the named checks claim, and where they claim nothing."""

import numpy as np
import pytest

from accsim import Accumulator, IntLayer, signed, unsigned
from verification import properties
from verification.properties import assert_bound_tight, assert_kernels_agree


def layer_of(weight, **how):
    """Of int4 weights and uint2 inputs."""
    return IntLayer(weight, weight_spec=signed(4), input_spec=unsigned(2), **how)


def test_kernels_agree_on_no_inputs():
    """Nothing is run, every name is told."""
    tried = assert_kernels_agree(layer_of([[1, 2]]), np.zeros((0, 2), int), Accumulator(4))
    assert tried[:2] == ["as planned", "values"]


@pytest.mark.parametrize("bias", [[3], [4]])
def test_a_bound_below_the_start_claims_nothing(bias, monkeypatch):
    """[3, 6] needs 4 bits, of which one less still holds 3; [4, 7] too, but 3 bits do not hold 4."""
    asked = []
    decide = properties.decide
    monkeypatch.setattr(
        properties, "decide", lambda *both: asked.append(both[1].bits) or decide(*both)
    )
    assert_bound_tight(layer_of([[1]], bias=bias))
    assert asked == ([62, 4, 3] if bias == [3] else [62])
