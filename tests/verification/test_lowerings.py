"""Zero points in three lowerings and preloads, against all inputs and the lowering of a2qplus."""

from itertools import product

import numpy as np
import pytest
import torch
from enumeration import every, holdings
from torch import nn

from a2qplus import QuantConv2d, Quantization, QuantLinear, to_layers
from a2qplus.methods import ZERO_POINTS
from accsim import Accumulator, IntLayer, between, bounds, signed, simulate, unsigned
from accsim.errors import RangeError, SpecError
from verification import Verdict, decide, widths
from verification.lowerings import lowerings, preloaded

LOWERINGS = ("subtract", "outside", "preload")
CODES = [unsigned(2), signed(2), between(2, 4), between(-3, -2), between(3, 3)]
WIDE = Accumulator(30)
LAYER = IntLayer([[3, -2], [1, 1]], weight_spec=signed(3), input_spec=unsigned(8), bias=[5, 0])


def operands(name, codes, zero):
    """What is multiplied."""
    return codes - zero if name == "subtract" else codes


def corrected(name, layer, run, zero):
    """The results, once what belongs outside the register is taken off."""
    sums = layer.rows.sum(axis=1, dtype=np.int64).reshape(1, -1, *[1] * (run.output.ndim - 2))
    return run.output - zero * sums if name == "outside" else run.output


@pytest.mark.parametrize("codes", CODES, ids=str)
@pytest.mark.parametrize("start", [None, 4, -3])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_all_inputs(codes, start, k):
    """One exact result in three ways, and each is decided as all inputs show."""
    weights, inputs = every(signed(2), k), every(codes, k)
    layer = IntLayer(
        weights,
        weight_spec=signed(2),
        input_spec=codes,
        bias=None if start is None else [start] * len(weights),
    )
    for zero in range(codes.min, codes.max + 1):
        made = lowerings(layer, zero)
        assert tuple(made) == LOWERINGS
        exact = (start or 0) + (inputs - zero) @ weights.T
        for name, lowered in made.items():
            x = operands(name, inputs, zero)
            run = simulate(lowered, x, WIDE)
            np.testing.assert_array_equal(corrected(name, lowered, run, zero), exact)
            needed = holdings(run.peak_low.min(axis=0), run.peak_high.max(axis=0))
            for bits in range(4, max(needed) + 2):
                register = Accumulator(bits, "saturate")
                starts = 0 if lowered.bias is None else lowered.bias
                if not np.all(bounds.fits(starts, starts, register)):
                    continue
                report = decide(lowered, register)
                overflows = (simulate(lowered, x, register).overflow_count > 0).any(axis=0)
                assert report.unsafe_channels == tuple(np.flatnonzero(overflows).tolist())
                assert (report.verdict is Verdict.PROVED) == (not overflows.any())
                assert report.channel_bits.tolist() == needed


@pytest.mark.parametrize("codes", [unsigned(1), between(2, 3), between(-2, -1)], ids=str)
def test_all_images(codes):
    """Beside padding: subtracted it adds 0; raw codes are padded with the zero point before."""
    for kernel, stride, padding in product(((1, 2), (2, 1)), (1, 2), (1, (1, 0), (0, 1))):
        weights = every(signed(2), 2).reshape(-1, 1, *kernel)
        layer = IntLayer(
            weights, weight_spec=signed(2), input_spec=codes, stride=stride, padding=padding
        )
        vertical, horizontal = layer.padding
        around = ((0, 0), (0, 0), (vertical,) * 2, (horizontal,) * 2)
        for zero in (codes.min, codes.max):
            made = lowerings(layer, zero)
            ends = {name: [] for name in LOWERINGS}
            for size in product((2, 3), repeat=2):
                images = every(codes, size[0] * size[1]).reshape(-1, 1, *size)
                results = []
                for name, lowered in made.items():
                    x = images - zero
                    if name != "subtract":
                        x = np.pad(images, around, constant_values=zero)
                    run = simulate(lowered, x, WIDE)
                    ends[name].append((run.peak_low.min((0, 2, 3)), run.peak_high.max((0, 2, 3))))
                    results.append(corrected(name, lowered, run, zero))
                assert all(np.array_equal(results[0], other) for other in results[1:])
            for name, lowered in made.items():
                lows, highs = zip(*ends[name], strict=True)
                needed = holdings(np.minimum.reduce(lows), np.maximum.reduce(highs))
                assert decide(lowered, WIDE).channel_bits.tolist() == needed


@pytest.mark.parametrize("zero_point", ZERO_POINTS)
def test_as_training_does(zero_point):
    """The layers that `to_layers` hands over, from the codes and the zero point alone."""
    torch.manual_seed(0)
    rule = Quantization("budget", 4, between(-3, 12), 9, "ep", zero_point)
    geometry = {"stride": (2, 1), "padding": (2, 1), "dilation": (1, 2), "groups": 2}
    for module in (
        QuantLinear(5, 6, quantization=rule),
        QuantConv2d(4, 6, 3, quantization=rule, **geometry),
    ):
        trained = to_layers(nn.Sequential(module))["0"]
        layer = IntLayer(
            trained.weight,
            weight_spec=signed(4, narrow=True),
            input_spec=unsigned(4),
            **(geometry if trained.is_conv else {}),
        )
        lowered = lowerings(layer, 3)[zero_point]
        assert (lowered.weight_spec, lowered.geometry) == (trained.weight_spec, trained.geometry)
        assert lowered.input_spec == trained.input_spec
        assert lowered.weight.tolist() == trained.weight.tolist()
        assert (lowered.bias is None) == (trained.bias is None) == (zero_point != "preload")
        assert lowered.bias is None or lowered.bias.tolist() == trained.bias.tolist()
    assert LOWERINGS == ZERO_POINTS


@pytest.mark.parametrize("codes", CODES, ids=str)
def test_preloaded(codes):
    """As `bounds.preload`, channel by channel; proved wherever it can be, and lower starts fail."""
    weights = every(signed(2), 3)
    layer = IntLayer(weights, weight_spec=signed(2), input_spec=codes)
    least = int(widths(layer).preloaded.max())
    for bits in (least, least + 1):
        made = preloaded(layer, bits)
        assert made.bias.tolist() == bounds.preload(weights, codes, bits).tolist()
        assert decide(made, Accumulator(bits)).verdict is Verdict.PROVED
        lower = IntLayer(
            weights,
            weight_spec=signed(2),
            input_spec=codes,
            bias=np.maximum(made.bias - 1, -(2 ** (bits - 1))),
        )
        unsafe = decide(lower, Accumulator(bits)).unsafe_channels
        assert unsafe == tuple(np.flatnonzero(made.bias > -(2 ** (bits - 1))).tolist())
    with pytest.raises(RangeError, match=f"acc_bits must be at least {least} for a preload, not"):
        preloaded(layer, least - 1)


@pytest.mark.parametrize("span", range(1, 20))
def test_preloaded_at_powers_of_2(span):
    """Sums from 0 to span are span + 1 numbers: 2^P - 1 fits P bits, 2^P does not."""
    layer = IntLayer([[1]], weight_spec=signed(2), input_spec=between(0, span))
    for bits in range(2, 7):
        if span < 2**bits:
            assert preloaded(layer, bits).bias.tolist() == [-(2 ** (bits - 1))]
        else:
            with pytest.raises(RangeError):
                preloaded(layer, bits)


def test_preloaded_beside_padding():
    """Inputs 2..5 and padding that adds 0: the start leaves room for what overflows only there."""
    layer = IntLayer([[[[1, -2]]]], weight_spec=signed(3), input_spec=between(2, 5), padding=(0, 1))
    images = [every(layer.input_spec, n).reshape(-1, 1, 1, n) for n in (1, 2, 3)]
    assert widths(layer).preloaded.tolist() == [4]  # -10..5
    made = preloaded(layer, 4)
    assert made.bias.tolist() == [2]
    assert made.padding == (0, 1)
    assert decide(made, Accumulator(4)).verdict is Verdict.PROVED
    assert not any(simulate(made, x, Accumulator(4)).overflow_count.any() for x in images)
    unpadded = bounds.preload(layer.rows, layer.input_spec, 4)
    assert unpadded.tolist() == [0]  # which the images overflow
    wrong = IntLayer(
        layer.weight, weight_spec=signed(3), input_spec=between(2, 5), padding=(0, 1), bias=unpadded
    )
    assert any(simulate(wrong, x, Accumulator(4)).overflow_count.any() for x in images)


HUGE = IntLayer([[1], [-(2**40)]], weight_spec=signed(41), input_spec=unsigned(40))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: lowerings([[1]], 0), SpecError, "layer must be an IntLayer, not list"),
        (lambda: preloaded([[1]], 8), SpecError, "layer must be an IntLayer, not list"),
        (
            lambda: lowerings(LAYER, 256),
            SpecError,
            "zero_point must be an integer from 0 to 255, not 256",
        ),
        (
            lambda: lowerings(LAYER, -1),
            SpecError,
            "zero_point must be an integer from 0 to 255, not -1",
        ),
        (
            lambda: lowerings(LAYER, 1.0),
            SpecError,
            "zero_point must be an integer from 0 to 255, not 1.0",
        ),
        (
            lambda: lowerings(LAYER, True),
            SpecError,
            "zero_point must be an integer from 0 to 255, not True",
        ),
        (
            lambda: lowerings(HUGE, 2**40 - 1),
            RangeError,
            f"preload of channel 1 must fit 62 bits, not be {2**40 * (2**40 - 1)}",
        ),
        (
            lambda: preloaded(LAYER, 12),
            SpecError,
            "layer must have no bias for a preload, which says where registers start",
        ),
        (
            lambda: preloaded(HUGE, 63),
            SpecError,
            "acc_bits must be an integer from 2 to 62, not 63",
        ),
        (
            lambda: preloaded(HUGE, 62),
            RangeError,
            "acc_bits must be at least 80 for a preload, not 62",
        ),
    ],
)
def test_what_is_refused(call, error, text):
    """One typed error each, the whole text."""
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == text
