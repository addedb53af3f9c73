"""How a part of a plan is carried out: which side is shifted, and that it does not matter."""

from itertools import product

import numpy as np
import pytest

from accsim import Accumulator, IntLayer, between, signed, unsigned
from accsim.kernels import forms, portable
from accsim.launch import LONGEST, launch_of
from accsim.pack import Geometry
from accsim.plan import exact_shift
from accsim.setting import Setting, setting_of
from verification.properties import assert_kernels_agree

RNG = np.random.default_rng(8)
RANGES = [
    (signed(8), signed(8)),
    (unsigned(8), signed(8)),
    (between(-5, 250), signed(8)),
    (between(-128, 100), between(-3, 4)),
    (signed(8), unsigned(7)),
    (between(-9, -2), between(-128, -100)),
]


def within(spec, *shape):
    """Random integers that reach both ends of a range."""
    made = RNG.integers(spec.min, spec.max + 1, shape)
    made.flat[0], made.flat[-1] = spec.min, spec.max
    return made.astype(np.int8 if spec.min >= -128 and spec.max < 128 else np.int16)


@pytest.mark.parametrize(("inputs", "weights"), RANGES, ids=str)
@pytest.mark.parametrize("biased", [False, True])
def test_bytes_shifted_on_either_side(inputs, weights, biased):
    """Whole tiles and ragged ones, many channels and few: every kernel against plain loops."""
    for count, taps, channels in product((7, 48), (12, 13), (3, 40)):
        layer = IntLayer(
            within(weights, channels, taps),
            weight_spec=weights,
            input_spec=inputs,
            bias=RNG.integers(-99, 99, channels) if biased else None,
        )
        assert_kernels_agree(layer, within(inputs, count, taps), Accumulator(12, "wrap"), threads=1)


def side(inputs, weights, lanes_are_inputs):
    """Whether the lanes are unsigned, and what is taken from rows and lanes."""
    how = {"lanes_are_inputs": lanes_are_inputs, "pixels": True}
    made = setting_of.__wrapped__("exact", "int8x4", inputs, weights, Accumulator(16), **how)
    return made.kernel.lanes_unsigned, made.take_rows, made.take_lanes


@pytest.mark.parametrize(
    ("inputs", "weights", "lanes_are_inputs", "expected"),
    [
        (signed(8), signed(8), False, (True, 0, -128)),  # the weights: they are copied anyway
        (signed(8), signed(8), True, (True, 0, -128)),
        (unsigned(8), signed(8), False, (False, 0, 0)),
        (unsigned(8), signed(8), True, (True, 0, 0)),
        (signed(8), between(-7, 7), False, (True, 0, -7)),
        (signed(8), unsigned(7), False, (True, 0, 0)),
        (between(-5, 250), signed(8), False, (False, -5, 0)),
    ],
)
def test_which_side_is_unsigned(monkeypatch, inputs, weights, lanes_are_inputs, expected):
    """The lanes, unless only the rows can be, or are without a shift."""
    features = frozenset(["avx512f", "avx512bw", "avx512vl", "avx512vnni"])
    monkeypatch.setattr(forms, "host", lambda: forms.Target("x86_64", "znver4", features))
    assert side(inputs, weights, lanes_are_inputs) == expected


def test_pairs_of_bytes_fit_16_bits(monkeypatch):
    """Where two products are added in int16, only ranges for which that is exact are taken."""
    pairs = forms.Target("x86_64-unknown-linux-gnu", "x86-64", frozenset(["ssse3"]))
    monkeypatch.setattr(forms, "host", lambda: pairs)
    assert exact_shift(between(-128, 0), between(-70, 70)) == -128
    assert exact_shift(between(-70, 70), between(-128, 0)) is None  # 2 * 140 * 128 >= 2^15
    assert side(between(-128, 0), between(-70, 70), False) == (False, -128, 0)
    assert side(between(-60, 60), between(-60, 60), False) == (True, 0, -60)
    monkeypatch.setattr(forms, "host", lambda: forms.Target("aarch64", "generic", frozenset()))
    assert exact_shift(unsigned(1), signed(1)) is None


def test_sums_of_bytes():
    """Longer rows than int16 or a block could take."""
    for rows in (np.full((3, 70001), -128, np.int8), within(signed(8), 5, 33)):
        assert portable.byte_sums(rows).tolist() == rows.astype(int).sum(axis=1).tolist()


def test_settings_of_other_ranges_are_others():
    """What is remembered of one call serves the same ranges and registers alone."""
    how = {"lanes_are_inputs": False, "pixels": True}
    one = setting_of("saturate", "int16", signed(4), signed(4), Accumulator(12, "saturate"), **how)
    same = setting_of("saturate", "int16", signed(4), signed(4), Accumulator(12, "saturate"), **how)
    wide = setting_of("saturate", "int16", signed(8), signed(4), Accumulator(12, "saturate"), **how)
    assert one is same
    assert (one.register[3], wide.register[3]) == (4, 4)
    assert (one.largest, wide.largest) == (8, 128)
    with pytest.raises(ValueError, match="read-only"):
        one.register[0] = 0


def geometry(taps):
    """A linear layer of 40 channels on 9 inputs."""
    pair = (1, 1)
    return Geometry((9, taps, 1, 1), (40, taps, 1, 1), pair, pair, (0, 0), pair, 1, 1, 40, False)


def test_a_launch_is_computed_once_for_each_geometry():
    """The same shapes give the same launch, which nobody can change; other shapes another."""
    kernel, register = forms.Kernel("saturate", "int16", pixels=True), Accumulator(16, "saturate")
    setting = Setting(kernel, np.empty(0, np.int64), 0)
    first, again, longer = (
        launch_of(geometry(taps), setting, register, 1) for taps in (12, 12, 13)
    )
    assert first is again
    assert longer.offsets.tolist() != first.offsets.tolist()
    with pytest.raises(ValueError, match="read-only"):
        first.offsets[0] = 1
    huge = geometry(LONGEST + 1)
    one, other = (launch_of(huge, setting, register, 1) for _ in range(2))
    assert one is not other  # its offsets are not kept
    assert one.offsets.tolist() == other.offsets.tolist()
