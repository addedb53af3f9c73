"""Every way to a datapath's outputs: which is taken, and that it gives what plain loops give."""

import sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accsim import (
    Accumulator,
    Datapath,
    IntLayer,
    between,
    conv2d,
    linear,
    route,
    signed,
    simulate,
    unsigned,
)
from accsim.kernels.forms import Target
from accsim.kernels.levels import group_sums
from accsim.stages import stages
from accsim.tree import climb
from verification import strategies

RNG = np.random.default_rng(17)
PAIR = Accumulator(16, "saturate", terms=2, rail="sum")
EXACT18 = Accumulator(18, terms=4, rail="sum")


def lane(bits, rule, terms, **how):
    """A level of products or pairs."""
    return Accumulator(bits, rule, terms=terms, **how)


AVX2 = Datapath([PAIR, Accumulator(32)])
ACC16 = Datapath([PAIR, lane(16, "saturate", 4), Accumulator(32)])
LANES = Datapath([PAIR, lane(16, "wrap", 3), Accumulator(32)])
TILED = Datapath([lane(16, "saturate", 5), Accumulator(20, "saturate")])
VNNI = Datapath([EXACT18, Accumulator(32)])


def way(datapath, inputs, weight, *, bias=None, outputs=1):
    """The work and form for a layer of this weight."""
    weight = np.asarray(weight)
    spec = between(int(weight.min()), int(weight.max()))
    layer = IntLayer(weight, weight_spec=spec, input_spec=inputs, bias=bias)
    found = route.route(layer, inputs, datapath, outputs=outputs)
    return found.work, found.form


WIDE = [[-128] * 9 + [127] * 9]


@pytest.mark.parametrize(
    ("datapath", "inputs", "weight", "expected"),
    [
        (AVX2, unsigned(8), WIDE, ("pairs", "int8x4")),
        (AVX2, signed(8), [[255] * 4], ("pairs", "int8x4")),
        (AVX2, unsigned(8), [[-64, 64]], ("exact", "")),  # no pair of these can saturate
        (AVX2, unsigned(9), WIDE, ("levels", "portable")),  # no bytes
        (AVX2, signed(8), WIDE, ("levels", "portable")),  # neither side is unsigned
        (VNNI, unsigned(8), WIDE, ("exact", "")),
        (ACC16, unsigned(8), WIDE, ("spill", "int8x2")),
        (LANES, unsigned(8), WIDE, ("spill", "int8x2")),
        (LANES, unsigned(8), [[-2, 2] * 9], ("exact", "")),
        (TILED, unsigned(8), WIDE, ("spill", "int16")),
        (TILED, unsigned(4), [[-8, 7] * 9], ("exact", "")),
        (Datapath([lane(8, "wrap", 6), Accumulator(20)]), unsigned(6), WIDE, ("spill", "int8x2")),
        (Datapath([lane(8, "wrap", 5), Accumulator(20)]), unsigned(8), WIDE, ("spill", "int16")),
        # 2^17 is no bit of a register of 16
        (Datapath([lane(8, "saturate", 5), Accumulator(20)]), signed(9), [[512] * 9],
         ("levels", "portable")),
        (Datapath([lane(17, "saturate", 5), Accumulator(20)]), unsigned(8), WIDE,
         ("levels", "portable")),
        (Datapath([lane(16, "saturate", 5), Accumulator(33)]), unsigned(8), WIDE,
         ("spill", "int16")),
        (Datapath([lane(16, "saturate", 5), Accumulator(32, signed=False)]), unsigned(8), WIDE,
         ("levels", "portable")),
        (Datapath([lane(16, "saturate", 5, rail="sum"), Accumulator(32)]), unsigned(8), WIDE,
         ("levels", "portable")),
        (Datapath([lane(16, "saturate", 5), Accumulator(17, "saturate", rail="sum")]), unsigned(8),
         WIDE, ("levels", "portable")),
        # two sums of at most 127 fit 9 bits, whatever they are of
        (Datapath([lane(8, "saturate", 9), Accumulator(9, "saturate", rail="sum")]), unsigned(8),
         WIDE, ("spill", "int16")),
        # but not five of 127, the last of them of two products
        (Datapath([lane(8, "saturate", 4), Accumulator(10, "saturate", rail="sum")]), unsigned(8),
         WIDE, ("levels", "portable")),
        # what wraps may be negative, whatever is summed
        (Datapath([lane(8, "wrap", 9), Accumulator(20, "saturate", signed=False)]), unsigned(8),
         [[1] * 18], ("levels", "portable")),
        # a read-out that cuts what was cut before is a level of its own
        (Datapath([Accumulator(16), Accumulator(20), Accumulator(12, "saturate")]), unsigned(8),
         WIDE, ("levels", "portable")),
        # the sum of all taps is cut once, or stepped through
        (Datapath([Accumulator(30), Accumulator(9, "saturate")]), unsigned(8), WIDE, ("exact", "")),
        (Datapath([Accumulator(9, "saturate", rail="sum")]), unsigned(8), WIDE, ("exact", "")),
        (Datapath([Accumulator(9, "saturate")], order=(1, 0)), unsigned(8), WIDE, ("saturate", "")),
        (Datapath([lane(16, "wrap", 5), Accumulator(12)]), unsigned(8), WIDE, ("exact", "")),
    ],
)  # fmt: skip
def test_which_way_is_taken(datapath, inputs, weight, expected):
    """By the ranges of operands alone."""
    assert way(datapath, inputs, weight) == expected


def test_long_calls_look_at_the_weights():
    """One large weight hides from the ranges that no pair of these weights saturates."""
    weight = np.tile([[127, -127]], (40, 5))
    weight[:, 1::2] = 0
    assert way(AVX2, unsigned(8), weight, outputs=40)[0] == "pairs"
    assert way(AVX2, unsigned(8), weight, outputs=40 * route.MANY)[0] == "exact"
    weight[3, :2] = 127  # no channel that is looked at first
    assert way(AVX2, unsigned(8), weight, outputs=40 * route.MANY)[0] == "pairs"
    weight[0, :2] = 127
    assert way(AVX2, unsigned(8), weight, outputs=40 * route.MANY)[0] == "pairs"


def test_sums_of_weights_are_found_once(monkeypatch):
    """For each number of places, however many levels are left out because of them."""
    spans = []

    def counted(rows, span, least, greatest):
        spans.append((len(rows), span))
        return group_sums(rows, span, least, greatest)

    monkeypatch.setattr(route, "group_sums", counted)
    deep = Datapath([PAIR, lane(17, "wrap", 2), lane(18, "wrap", 2), Accumulator(32)])
    weight = [[127] + [0] * 31] * 20
    assert way(deep, unsigned(8), weight, outputs=20 * route.MANY)[0] == "exact"
    assert len(spans) == len(set(spans)) > 0


def test_a_bias_that_comes_last():
    """It matters to a register that saturates step by step, and to none else."""
    late = {"bias": [5]}
    for levels, expected in (
        ([Accumulator(9, "saturate")], "levels"),
        ([Accumulator(9, "saturate", rail="sum")], "exact"),
        ([Accumulator(9)], "exact"),
        ([Accumulator(30, "saturate")], "exact"),
    ):
        assert way(Datapath(levels, bias="last"), unsigned(8), WIDE, **late)[0] == expected
    assert way(Datapath([Accumulator(9, "saturate")], bias="last"), unsigned(8), WIDE)[0] == (
        "saturate"
    )
    # it is in what is read out already
    twice = Datapath([Accumulator(4), Accumulator(4, "saturate")])
    assert way(twice, unsigned(8), WIDE, bias=[7])[0] == "exact"


def test_stages_that_are_left():
    """A level that wraps below one of no more bits, and those that hold all that they are handed."""
    levels = [PAIR, lane(30, "wrap", 4), lane(28, "wrap", 4), Accumulator(34), Accumulator(40)]
    found = stages(Datapath(levels), 64, (0, 0), lambda span: (0, (span or 64) * 2**20))
    kept = [(stage.register.bits, stage.span, stage.exact) for stage in found]
    assert kept == [(16, 2, False), (40, None, True)]


def layer_of(rng, channels, taps, low=-128, high=127):
    """Weights, mostly at the ends of their range."""
    weight = rng.integers(low, high + 1, (channels, taps))
    ends = rng.choice([low, high], weight.shape)
    return np.where(rng.random(weight.shape) < 0.6, ends, weight)


def slow(layer, x, datapath):
    """Outputs by plain loops."""
    out = np.empty(layer.output_shape(x.shape), np.int64)
    climb(layer, x, datapath, 1, out)
    return out


KNOWN = [
    AVX2,
    Datapath([PAIR, Accumulator(20)]),
    Datapath([PAIR, lane(16, "wrap", 1), Accumulator(32, "saturate")]),
    *(
        Datapath([PAIR, lane(bits, rule, 3), Accumulator(rest, how)])
        for (bits, rule), (rest, how) in product(
            [(16, "saturate"), (16, "wrap"), (11, "saturate"), (11, "wrap")],
            [(18, "wrap"), (17, "saturate")],
        )
    ),
    *(
        Datapath([lane(bits, rule, 7, signed=sign), Accumulator(rest, how)])
        for (bits, rule), (rest, how), sign in product(
            [(16, "saturate"), (10, "saturate"), (10, "wrap")],
            [(32, "wrap"), (17, "saturate")],
            [True, False],
        )
    ),
]


@pytest.mark.parametrize("codes", [(0, 255), (-8, 7)], ids=str)
def test_vector_kernels_are_what_plain_loops_are(codes):
    """Both orientations, ragged tiles and groups, starts, extreme codes, any type of array."""
    rng = np.random.default_rng(codes[1])
    taken = set()
    sizes = [(1, 1, 1), (40, 5, 33), (3, 70, 40), (65, 66, 57)]
    for datapath, (channels, rows, taps) in product(KNOWN, sizes):
        weight = layer_of(rng, channels, taps)
        x = layer_of(rng, rows, taps, *codes)
        bias = rng.integers(-1000, 1000, channels) if rng.random() < 0.5 else None
        layer = IntLayer(weight, weight_spec=signed(8), input_spec=between(*codes), bias=bias)
        found = route.route(layer, layer.input_spec, datapath, outputs=1)
        taken.add((found.work, found.form))
        x = np.asfortranarray(x.astype(rng.choice([np.int16, np.int32, np.int64])))
        got = linear(x, weight, datapath, bias=bias)
        np.testing.assert_array_equal(got, slow(layer, x, datapath), f"{datapath}, {found}")
    assert ("spill", "int16") in taken
    assert {("pairs", "int8x4"), ("spill", "int8x2")} <= taken or codes[0] < 0


@settings(max_examples=100, deadline=None)
@given(
    strategies.int_layers(weight_specs=st.just(signed(8)), input_specs=st.just(unsigned(8))),
    st.sampled_from(KNOWN),
    st.none() | st.permutations(range(7)),
    st.data(),
)
def test_convolutions_and_orders(layer, datapath, order, data):
    """Of any geometry, in any order of products: the outputs of plain loops."""
    datapath = Datapath(datapath.levels, order=order)
    x = data.draw(strategies.inputs(layer))
    names = ("stride", "padding", "dilation", "groups")
    how = {name: getattr(layer, name) for name in names} if layer.is_conv else {}
    got = (conv2d if layer.is_conv else linear)(x, layer.weight, datapath, **how)
    expected = slow(layer, np.asarray(x), datapath)
    np.testing.assert_array_equal(got, expected)


def test_pieces_and_threads(monkeypatch):
    """Operands that are packed in pieces, by two threads, give the same; in index order or not."""
    x, weight = RNG.integers(0, 256, (70, 90)), layer_of(RNG, 50, 90)
    layer = IntLayer(weight, weight_spec=signed(8), input_spec=unsigned(8))
    for levels in (AVX2.levels, ACC16.levels, TILED.levels):
        for order in (None, tuple(RNG.permutation(90).tolist())):
            datapath = Datapath(levels, order=order)
            whole = slow(layer, x, datapath)
            with monkeypatch.context() as patch:
                patch.setattr(route, "SMALL", 0)
                patch.setattr(route, "ENTRIES", 900)
                patch.setattr("accsim.pack.ROW_BYTES", 3000)
                patch.setattr("accsim.pack.LANE_BYTES", 3000)
                got = linear(x, weight, datapath, threads=2)
            np.testing.assert_array_equal(got, whole)


@pytest.mark.parametrize(
    ("features", "form"),
    [("avx2,ssse3", "int8x2"), ("ssse3", "int8x2"), ("", "portable")],
)
def test_other_processors(monkeypatch, features, form):
    """Pairs of bytes are summed by an instruction, or by plain loops where there is none."""
    target = Target("x86_64-unknown-linux-gnu", "generic", frozenset(features.split(",")))
    monkeypatch.setattr(route, "host", lambda: target)
    assert way(ACC16, unsigned(8), WIDE)[1] == form


def test_no_compiler(monkeypatch):
    """Without one plain loops do all that is not an exact sum."""
    monkeypatch.setattr(route, "vectors_run", lambda: False)
    assert way(TILED, unsigned(8), WIDE) == ("levels", "portable")
    assert way(VNNI, unsigned(8), WIDE) == ("exact", "")


def test_read_outs_of_another_type_than_the_sums():
    """Sums of 34 bits that int64 holds are read out as 8 bits, which are int32; and unsigned ones."""
    weight = layer_of(RNG, 4, 40)
    x = RNG.integers(0, 256, (5, 40))
    layer = IntLayer(weight, weight_spec=signed(8), input_spec=unsigned(8))
    for levels in (
        [Accumulator(34), Accumulator(8, "saturate")],
        [PAIR, Accumulator(32), Accumulator(40)],
        [PAIR, Accumulator(30), Accumulator(32, "saturate", signed=False)],
        [Accumulator(40), Accumulator(32, "saturate", signed=False)],
        [Accumulator(40, order) for order in ("wrap", "saturate")],
    ):
        datapath = Datapath(levels)
        got = linear(x, weight, datapath)
        assert got.dtype == (np.int32 if datapath.last.max < 2**31 else np.int64)
        np.testing.assert_array_equal(got, slow(layer, x, datapath))


@pytest.mark.parametrize(
    ("levels", "x", "expected"),
    [
        ([Accumulator(8, "saturate", rail="sum")], 2**30, 127),  # 2^62 is 0 in 62 bits
        # beside 61 bits a sum of nearly 2^63 is too much, but not what each product leaves
        ([lane(61, "wrap", 1), Accumulator(61)], 2**31 - 1, -(2**32)),
    ],
)
def test_sums_that_no_register_holds(levels, x, expected):
    """Sums of more than 62 bits go through the levels themselves, which hand on less."""
    assert linear([[x] * 2], [[2**31] * 2], Datapath(levels)).tolist() == [[expected]]


def test_a_bias_that_is_read_out():
    """Sums from -40 to 40 are in 8 bits, and beside the bias of 100 they are not."""
    layer = IntLayer([[1, 1]], weight_spec=signed(2), input_spec=between(-20, 20), bias=[100])
    datapath = Datapath([Accumulator(32), Accumulator(8, "saturate")])
    for bias in ("first", "last"):
        late = Datapath(datapath.levels, bias=bias)
        run = simulate(layer, [20, 20], late, peaks=False)
        assert run.output.tolist() == [127]
        assert [level.overflow_count.tolist() for level in run.levels] == [[0], [1]]


@pytest.mark.parametrize(
    "where", ["ranges", "weights", "nowhere", "a channel that is looked at late"]
)
def test_counts_of_levels_that_hold_all(monkeypatch, where):
    """Without peaks nothing is counted where no level can overflow; else every level is."""
    weight = np.full((40, 6), 60 if where == "ranges" else 1)
    weight[:, 5] = {"ranges": 60, "weights": 100}.get(where, 1)
    spec = signed(7) if where == "ranges" else signed(8)
    weight[3, :2] = 127 if "late" in where else weight[3, :2]
    weight[0, :2] = 127 if where == "nowhere" else weight[0, :2]
    layer = IntLayer(weight, weight_spec=spec, input_spec=unsigned(8))
    x, counted = np.full((3, 6), 255), []
    monkeypatch.setattr(sys.modules["accsim.simulate"], "climb", counted.append)
    if where in ("ranges", "weights"):
        run = simulate(layer, x, AVX2, peaks=False)
        assert run.output.tolist() == (x @ weight.T).tolist()
        assert not run.overflow_count.any()
        assert (run.first_overflow == -1).all()
        assert [level.overflow_count.shape for level in run.levels] == [(3, 40)] * 2
    else:
        with pytest.raises(TypeError):
            simulate(layer, x, AVX2, peaks=False)
    with pytest.raises(TypeError):  # peaks are of every sum
        simulate(layer, x, AVX2)
