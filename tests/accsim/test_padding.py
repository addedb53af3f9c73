"""Which taps fall on padding together, and how far sums reach beside it."""

from itertools import accumulate, product

import numpy as np
import pytest

from accsim import IntLayer, between, bounds, signed, unsigned
from accsim.padding import exact_extremes, masked_extremes, padding_masks
from verification.properties import tap_inputs


def ones(kernel, **geometry):
    """A convolution of one input and one output channel."""
    return IntLayer(
        np.ones((1, 1, *kernel), int), weight_spec=signed(4), input_spec=between(1, 5), **geometry
    )


def test_padding_masks_are_those_of_images():
    """Every set of taps inside an image, enumerated over 336 geometries and all sizes that matter."""
    seen_some = 0
    for k, stride, padding, dilation in product(range(1, 5), range(1, 5), range(7), range(1, 4)):
        layer = IntLayer(
            np.ones((1, 1, k, 1), int),
            weight_spec=signed(4),
            input_spec=between(1, 5),
            stride=(stride, 1),
            padding=(padding, 0),
            dilation=(dilation, 1),
        )
        span, seen = dilation * (k - 1) + 1, set()
        for size in range(max(1, span - 2 * padding), span + 2 * padding + 2 * stride + 2):
            taps = tap_inputs(layer, np.ones((1, 1, size, 1), int))
            seen |= {tuple(values) for _, _, values in taps}
        masks = padding_masks(layer).astype(int).tolist()
        assert {tuple(mask) for mask in masks} == seen
        assert len(masks) == len(seen)
        assert all(masks[0])
        seen_some += len(seen) > 1
    assert seen_some > 200


def test_long_kernels_can_fall_on_padding_alone():
    """300 taps beside as much padding: none of them, all of them, and many sets between."""
    masks = padding_masks(ones((300, 1), stride=(7, 1), padding=(304, 0)))
    assert masks[0].all()
    assert not masks[-1].any()


def test_masks_of_both_axes():
    """Rows and columns each of their own, over all input channels of a group."""
    layer = IntLayer(
        np.ones((4, 2, 2, 3), int),
        weight_spec=signed(4),
        input_spec=between(1, 5),
        stride=(2, 1),
        padding=(1, 2),
        dilation=(1, 2),
        groups=2,
    )
    down = padding_masks(ones((2, 1), stride=(2, 1), padding=(1, 0))).tolist()
    across = padding_masks(ones((1, 3), stride=(1, 1), padding=(0, 2), dilation=(1, 2))).tolist()
    both = [[r and c for r in rows for c in columns] * 2 for rows in down for columns in across]
    assert (len(down), len(across)) == (3, 4)
    assert padding_masks(layer).tolist() == both


@pytest.mark.parametrize("spec", [between(2, 3), between(-3, -1), between(-1, 2)], ids=str)
@pytest.mark.parametrize("padding", [0, 1])
def test_extremes_are_those_of_every_input(spec, padding):
    """Of final and of running sums, over every image of up to three columns."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        weight, bias = rng.integers(-3, 4, (2, 1, 1, 2)), rng.integers(-2, 3, 2)
        how = {"weight_spec": signed(3), "input_spec": spec, "padding": (0, padding)}
        layer = IntLayer(weight, bias=bias, **how)
        sums = ([], [])
        for columns in range(2 - padding, 4):
            for x in product(range(spec.min, spec.max + 1), repeat=columns):
                for _, channel, taps in tap_inputs(layer, np.reshape(x, (1, 1, 1, -1))):
                    pairs = zip(layer.rows[channel].tolist(), taps, strict=True)
                    running = accumulate((q * v for q, v in pairs), initial=int(bias[channel]))
                    sums[channel].append(list(running))
        for c, seen in enumerate(sums):
            low, high = exact_extremes(layer)
            assert (low[c], high[c]) == (min(map(min, seen)), max(map(max, seen)))
            low, high = exact_extremes(layer, final=True)
            assert (low[c], high[c]) == (min(s[-1] for s in seen), max(s[-1] for s in seen))


def test_padding_adds_nothing_to_inputs_that_may_be_0():
    """Only the full set is looked at there, and without padding."""
    for spec, padding, sets in ((unsigned(2), 1, 1), (between(1, 3), 0, 1), (between(1, 3), 1, 3)):
        layer = IntLayer(
            [[[[1, -2]]]], weight_spec=signed(3), input_spec=spec, padding=(0, padding)
        )
        found = list(masked_extremes(layer))
        assert len(found) == sets
        mask, low, high = found[0]
        assert mask.tolist() == [True, True]
        ends = bounds.running_extremes(layer.rows, spec)
        assert (low.tolist(), high.tolist()) == tuple(side.tolist() for side in ends)
