"""Datapaths: what they are, what is refused, and that the simulator does what the oracle says."""

import tracemalloc
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accsim import (
    Accumulator,
    Datapath,
    IntLayer,
    arith,
    between,
    conv2d,
    linear,
    signed,
    simulate,
    unsigned,
)
from accsim.datapath import lanes
from accsim.errors import HostWidthError, RangeError, SpecError
from accsim.kernels import levels as kernels
from accsim.simulate import plan_for
from accsim.tree import reach
from verification import strategies
from verification.properties import FIELDS, assert_exact, oracle_answers

PAIR = Accumulator(16, "saturate", terms=2, rail="sum")
AVX2 = Datapath([PAIR, Accumulator(32)])


ONE_TAP = IntLayer([[1]], weight_spec=signed(8), input_spec=unsigned(8))


def told(fold):
    """What a fold says, as the oracle would."""
    fields = [getattr(fold, field) for field in FIELDS]
    return fields, [list(astuple(level)) for level in fold.levels]


@settings(max_examples=500, deadline=None)
@given(strategies.datapaths(max_bits=9), st.data())
def test_the_definition_is_what_the_oracle_says(datapath, data):
    """Every field of every level, of any products and start."""
    products = data.draw(st.lists(st.integers(-150, 150), max_size=30))
    register = datapath.register
    bias = data.draw(st.integers(register.min, register.max))
    fold = arith.fold(products, [1] * len(products), datapath, bias=bias)
    whole, levels = oracle_answers(products, datapath, bias)
    assert told(fold) == (list(astuple(whole)), [list(astuple(one))[1:] for one in levels])


@settings(max_examples=150, deadline=None)
@given(strategies.int_layers(max_taps=40), strategies.datapaths(max_bits=12), st.data())
def test_the_simulator_is_what_the_oracle_says(layer, datapath, data):
    """Linear layers and convolutions of every geometry, with biases; outputs alone, too."""
    register = datapath.register
    bias = data.draw(
        st.none()
        | st.lists(
            st.integers(register.min, register.max),
            min_size=layer.channels,
            max_size=layer.channels,
        )
    )
    names = ("stride", "padding", "dilation", "groups")
    how = {} if not layer.is_conv else {name: getattr(layer, name) for name in names}
    layer = IntLayer(
        layer.weight,
        weight_spec=layer.weight_spec,
        input_spec=layer.input_spec,
        bias=bias,
        **how,
    )
    x = data.draw(strategies.inputs(layer))
    assert_exact(layer, x, datapath)
    values = (conv2d if layer.is_conv else linear)(x, layer.weight, datapath, bias=bias, **how)
    np.testing.assert_array_equal(values, simulate(layer, x, datapath).output)


@settings(max_examples=200, deadline=None)
@given(strategies.int_layers(), strategies.accumulators(max_bits=40), st.booleans(), st.data())
def test_one_level_is_the_register_itself(layer, accumulator, in_order, data):
    """One level, in index order or in the order that leaves all as it is, equals the register."""
    x = data.draw(strategies.inputs(layer))
    datapath = Datapath([accumulator], order=(0, 1, 2) if in_order else None)
    one, other = simulate(layer, x, accumulator), simulate(layer, x, datapath)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    for field in FIELDS[1:]:
        np.testing.assert_array_equal(getattr(one, field), getattr(other.levels[0], field))


@pytest.mark.parametrize("bits", [16, 40])
@pytest.mark.parametrize("count", [1, kernels.CHANNELS, kernels.CHANNELS + 1])
def test_ragged_tiles(bits, count):
    """Places, channels and positions about the sizes of the kernels' tiles; both lane types."""
    rng = np.random.default_rng(bits * count)
    for taps, rows in ((kernels.PLACES - 1, 1), (kernels.PLACES + 1, kernels.LANES + 1)):
        datapath = Datapath(
            [Accumulator(bits, "saturate", terms=5), Accumulator(bits + 1, terms=7), PAIR_END],
            order=tuple(rng.permutation(11).tolist()),
        )
        weight = rng.integers(-128, 128, (count, taps))
        x = rng.integers(0, 256, (rows, taps))
        x[:] = np.where(rng.random(x.shape) < 0.5, x, 255)
        got = linear(x, weight, datapath)
        for row, channel in ((0, 0), (rows - 1, count - 1), (rows // 2, count // 2)):
            fold = arith.fold(weight[channel].tolist(), x[row].tolist(), datapath)
            assert got[row, channel] == fold.output
            layer = IntLayer(weight[[channel]], weight_spec=signed(8), input_spec=unsigned(8))
            assert_exact(layer, x[row], datapath)


PAIR_END = Accumulator(17, "saturate", rail="sum")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_few_inputs_of_many_channels(rows, late):
    """The channels are the lanes: biases by lane, results the other way round."""
    rng = np.random.default_rng(rows)
    layer = IntLayer(
        rng.integers(-128, 128, (kernels.LANES + 9, 21)),
        weight_spec=signed(8),
        input_spec=unsigned(8),
        bias=rng.integers(-900, 900, kernels.LANES + 9),
    )
    levels = [Accumulator(11, "saturate", terms=4), Accumulator(12, "saturate")]
    datapath = Datapath(levels, order=(3, 1, 0, 2, 4), bias="last" if late else "first")
    x = rng.integers(0, 256, (rows, 21))
    assert_exact(layer, x, datapath)
    values = linear(x, layer.weight, datapath, bias=layer.bias)
    np.testing.assert_array_equal(values, simulate(layer, x, datapath).output)


def test_several_threads_and_pieces_give_the_same(monkeypatch):
    """Convolutions in bands and images of a few at a time."""
    rng = np.random.default_rng(5)
    x, weight = rng.integers(0, 256, (3, 4, 9, 7)), rng.integers(-128, 128, (6, 2, 3, 2))
    how = {"stride": (2, 1), "padding": (1, 2), "groups": 2}
    whole = conv2d(x, weight, AVX2, **how)
    assert (whole != conv2d(x, weight, Accumulator(32), **how)).any()
    for most in (1, 100, 700):
        monkeypatch.setattr("accsim.tree.ENTRIES", most)
        for threads in (1, 2):
            monkeypatch.setattr("accsim.tree.SMALL", 0)
            np.testing.assert_array_equal(conv2d(x, weight, AVX2, threads=threads, **how), whole)


def test_the_fields_that_are_asked_for():
    """Without peaks there are none, of no level."""
    layer = IntLayer([[127] * 4], weight_spec=signed(8), input_spec=unsigned(8))
    run = simulate(layer, [255] * 4, AVX2, peaks=False)
    assert run.output.tolist() == [2 * 32767]
    assert run.overflow_count.tolist() == [2]
    assert run.first_overflow.tolist() == [1]
    assert [level.overflow_count.tolist() for level in run.levels] == [[2], [0]]
    assert (run.peak_low, run.peak_high, run.levels[0].peak_high) == (None, None, None)
    assert simulate(layer, [255] * 4, AVX2).levels[0].peak_high.tolist() == [2 * 127 * 255]


def test_products_may_be_cast_first():
    """A bottom level of one term is a tool that casts each product to the register's type."""
    cast = Datapath([Accumulator(8, "saturate", terms=1), Accumulator(8, "saturate")])
    assert linear([[100, -100]], [[2, 1]], cast).tolist() == [[27]]
    assert linear([[100, -100]], [[2, 1]], Accumulator(8, "saturate")).tolist() == [[27]]
    assert linear([[100, 100, -100]], [[-1, 2, 2]], cast).tolist() == [[-101]]
    assert linear([[100, 100, -100]], [[-1, 2, 2]], Accumulator(8, "saturate")).tolist() == [[-100]]


@pytest.mark.parametrize(("when", "expected"), [("first", 6), ("last", 7)])
def test_where_the_bias_enters(when, expected):
    """A register of 4 bits that starts at 6 saturates at once; one that gets it last does later."""
    datapath = Datapath([Accumulator(4, "saturate")], bias=when)
    assert linear([[1, 1, -1]], [[3, 3, 1]], datapath, bias=[6]).tolist() == [[expected]]


def test_a_read_out_saturates_once():
    """The sum leaves the range of the read-out and comes back: nothing is lost."""
    datapath = Datapath([Accumulator(20), Accumulator(8, "saturate")])
    assert linear([[100, 100, -100]], [[1, 1, 1]], datapath).tolist() == [[100]]
    assert linear([[100, 100]], [[1, 1]], datapath).tolist() == [[127]]


def test_lanes_are_transposed_axes():
    """The lane map of a register of sixteen int16 over four planes of 32 bytes."""
    order = lanes((2, 4, 16, 2), (2, 0, 1, 3))
    assert order[:10] == (0, 1, 32, 33, 64, 65, 96, 97, 128, 129)
    assert sorted(order) == list(range(256))


def test_datapaths_are_values():
    """Equal if all is equal; hashed; of tuples, whatever they were made of."""
    one = Datapath([PAIR, Accumulator(32)], order=[1, 0])
    assert one == Datapath((PAIR, Accumulator(32)), order=(1, 0))
    assert one != Datapath((PAIR, Accumulator(32)))
    assert len({one, Datapath((PAIR, Accumulator(32)), order=range(1, -1, -1))}) == 1
    assert (one.levels, one.order) == ((PAIR, Accumulator(32)), (1, 0))
    assert str(Datapath([PAIR, Accumulator(32), Accumulator(8, "saturate")])) == (
        "2 products: 16-bit saturate register, all: 32-bit wrap register, read out: 8-bit saturate"
        " register"
    )
    assert str(Datapath([PAIR, Accumulator(32)], name="two")) == "two"


def test_places_and_groups():
    """Blocks that are not full; groups of each level, of no place too; spans that never end."""
    inner = [Accumulator(8, terms=2), Accumulator(9, terms=3)]
    tree = Datapath([*inner, Accumulator(9), Accumulator(5)], order=(1, 2, 0))
    assert (tree.spans, tree.summing, tree.register, tree.last) == (
        (2, 6), 2, Accumulator(9), Accumulator(5)
    )  # fmt: skip
    assert tree.places(4).tolist() == [1, 2, 0, -1, -1, 3]
    assert tree.places(3).tolist() == [1, 2, 0]
    assert tree.places(0).tolist() == []
    assert Datapath([Accumulator(8)]).places(3).tolist() == [0, 1, 2]
    found = [[tree.starts(i, places).tolist() for i in range(4)] for places in (0, 1, 9)]
    assert found == [
        [[], [], [], []],
        [[0], [0], [0], [0]],
        [[0, 2, 4, 6, 8], [0, 6], [0], [0]],
    ]
    long = Datapath([Accumulator(8, terms=2**39)] * 2 + [Accumulator(8)])
    assert long.spans == (2**39, 2**40)


def test_what_is_a_single_register():
    """One level that steps in index order from its bias, and nothing else."""
    one = Accumulator(8)
    assert Datapath([one]).single is one
    assert Datapath([one], order=(0,)).single is None
    assert Datapath([one], bias="last").single is None
    assert Datapath([one, one]).single is None
    assert Datapath([Accumulator(8, rail="sum")]).single is None


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Datapath([]), "Datapath levels must be Accumulators, inner to outer, not []"),
        (lambda: Datapath(8), "Datapath levels must be Accumulators, inner to outer, not 8"),
        (
            lambda: Datapath([Accumulator(8, terms=2)]),
            "the last level sums all that is left: terms must be None, not 2",
        ),
        (
            lambda: Datapath([Accumulator(8), Accumulator(8, terms=2), Accumulator(8)]),
            "levels[1] follows levels[0], which sums all that is left: terms must be None, not 2",
        ),
        (
            lambda: Datapath([Accumulator(8)], order=[0, 2, 2]),
            "Datapath order must be a permutation: 2 is there more than once",
        ),
        (
            lambda: Datapath([Accumulator(8)], order=[1, 2]),
            "Datapath order must be an integer from 0 to 1, not 2",
        ),
        (
            lambda: Datapath([Accumulator(8)], order=[]),
            "Datapath order must be 1 to 1048576 integers, or None",
        ),
        (
            lambda: Datapath([Accumulator(8)], bias="middle"),
            'Datapath bias must be "first" or "last", not \'middle\'',
        ),
        (
            lambda: Datapath([Accumulator(8)], inputs="INT8"),
            "Datapath inputs must be an IntSpec or None, not 'INT8'",
        ),
        (
            lambda: Datapath([Accumulator(8)], source=None),
            "Datapath source must be text, not None",
        ),
        (
            lambda: Accumulator(8, terms=0),
            "Accumulator terms must be an integer from 1 to 1099511627776, not 0",
        ),
        (
            lambda: Accumulator(8, rail="end"),
            'Accumulator rail must be "step" or "sum", not \'end\'',
        ),
        (
            lambda: linear([[1]], [[1]], Accumulator(8, terms=4)),
            "accumulator with terms or rail is a level: give Datapath([...]) of all levels",
        ),
        (
            lambda: linear([[1]], [[1]], "x86-avx2-u8s8"),
            "accumulator must be an Accumulator or a Datapath, not 'x86-avx2-u8s8'",
        ),
        (
            lambda: plan_for(ONE_TAP, [1], AVX2),
            "accumulator must be one Accumulator here, not a Datapath, 2 products: 16-bit saturate"
            " register, all: 32-bit wrap register",
        ),
        (
            lambda: Datapath([Accumulator(8, terms=1)] * 64 + [Accumulator(8)]),
            "a Datapath must have at most 64 levels, not 65",
        ),
        (
            lambda: Datapath([Accumulator(8)], bias="m" * 9000),
            f'Datapath bias must be "first" or "last", not \'{"m" * 499}...',
        ),
        (
            lambda: linear([[1]], [[1]], PAIR_END),
            "accumulator with terms or rail is a level: give Datapath([...]) of all levels",
        ),
        (
            lambda: lanes((2, 3), (0, 0)),
            "lanes axes must be a permutation of 0..1, not [0, 0]",
        ),
        (
            lambda: lanes((2**11, 2**10), (0, 1)),
            "lanes must be of at most 1048576 products, not 2097152",
        ),
    ],
)
def test_what_is_no_datapath(make, text):
    """One line says what must hold."""
    with pytest.raises(SpecError) as caught:
        make()
    assert str(caught.value) == text


def test_operands_that_the_hardware_lacks():
    """Ranges beyond those of the datapath are refused, whatever the codes are."""
    takes = Datapath([Accumulator(32)], inputs=unsigned(8), weights=signed(8), name="u8s8")
    layer = IntLayer([[1]], weight_spec=signed(9), input_spec=unsigned(8))
    with pytest.raises(RangeError) as caught:
        simulate(layer, [1], takes)
    assert str(caught.value) == ("u8s8 takes weights of INT8 [-128, 127], not INT9 [-256, 255]")
    with pytest.raises(RangeError) as caught:
        linear([[-1]], [[1]], takes)
    assert str(caught.value) == "u8s8 takes inputs of UINT8 [0, 255], not [-1, -1]"


def test_starts_and_host_integers():
    """The bias must fit the summing register; sums of more than 64 bits are refused."""
    with pytest.raises(RangeError) as caught:
        linear([[1]], [[1]], Datapath([Accumulator(8), Accumulator(20)], bias="last"), bias=[128])
    assert str(caught.value) == ("bias[0] is 128, outside the 8-bit wrap register [-128, 127]")
    wide = IntLayer([[1] * 6], weight_spec=signed(31), input_spec=between(-(2**30), 2**30))
    with pytest.raises(HostWidthError) as caught:
        simulate(wide, [0] * 6, Datapath([Accumulator(62, terms=2), Accumulator(62)]))
    assert str(caught.value) == (
        f"{2**62 + 3 * 2**61}, the largest register's span plus the largest sum it is handed, or 1"
        " plus the largest exact sum, must not exceed 2^63"
    )
    # what a narrow register hands over is narrow, however large the sums that it is handed
    narrow = Datapath([Accumulator(8, terms=6), Accumulator(62)])
    assert simulate(wide, [2**30] * 6, narrow).output.tolist() == [0]


@pytest.mark.parametrize("bits", [31, 63])
def test_exact_sums_at_the_end_of_a_lane(bits):
    """An exact sum of 2^31 is no int32, and one of 2^63 no int64, though registers are narrow."""
    weight, x = -(2 ** (bits // 2)), -(2 ** (bits // 2))
    narrow = Datapath([Accumulator(8, terms=1), Accumulator(8)])
    layer = IntLayer([[weight] * 2], weight_spec=between(weight, 0), input_spec=between(x, 0))
    if bits == 31:
        assert_exact(layer, np.array([x, x]), narrow)
    else:
        with pytest.raises(HostWidthError):
            simulate(layer, [x, x], narrow)


@pytest.mark.parametrize("bits", [30, 61])
def test_small_negative_sums_are_large_without_a_sign(bits):
    """-1 is 2^30 - 1 in a register that wraps and has no sign, and three of these no int32."""
    small = {"weight_spec": signed(2), "input_spec": unsigned(1)}
    plain = {"weight_spec": unsigned(2), "input_spec": unsigned(3)}
    lane = Accumulator(bits, signed=False, terms=1)
    layer = IntLayer([[-1] * 3], **small)
    assert_exact(layer, np.array([1] * 3), Datapath([lane, Accumulator(16, "saturate")]))
    once = Datapath([lane, Accumulator(16, "saturate", rail="sum")])
    assert_exact(layer, np.array([1] * 3), once)
    # also where a level below makes the sums negative
    turns = Datapath([Accumulator(4, terms=1), lane, once.last])
    assert_exact(IntLayer([[2] * 3], **plain), np.array([7] * 3), turns)
    # or a bias
    read = Datapath([Accumulator(8), Accumulator(bits, signed=False), Accumulator(bits)])
    assert reach(IntLayer([[1]], bias=[-1], **plain), read) == 2**bits + 2**bits
    if bits == 61:
        with pytest.raises(HostWidthError):
            simulate(IntLayer([[-1] * 4], **small), [1] * 4, once)


def test_groups_longer_than_any_sum():
    """Of 2^40 terms, in lanes of 32 bits: the one group of all."""
    datapath = Datapath([Accumulator(5, "saturate", terms=2**40), Accumulator(9)])
    layer = IntLayer([[1, 1, -1]], weight_spec=signed(2), input_spec=unsigned(4))
    assert_exact(layer, np.array([15, 15, 15]), datapath)
    assert linear([[15, 15, 15]], [[1, 1, -1]], datapath).tolist() == [[0]]


@pytest.mark.parametrize("peaks", [None, False], ids=["outputs", "counts"])
def test_memory_beside_inputs_and_outputs(monkeypatch, peaks):
    """Images are padded and laid out, and levels joined, without copies of all of them."""
    monkeypatch.setattr("accsim.tree.ENTRIES", 2**12)
    monkeypatch.setattr("accsim.route.ENTRIES", 2**12)
    datapath = Datapath([Accumulator(39, "saturate", terms=2), Accumulator(5, rail="sum")])
    how = {"weight_spec": signed(2), "input_spec": signed(40), "padding": 1}
    layer = IntLayer(np.ones((1, 1, 1, 1), int), **how)
    x = np.full((100, 1, 40, 40), -(2**39))

    def run():
        if peaks is None:
            return [conv2d(x, layer.weight, datapath, padding=1)]
        run = simulate(layer, x, datapath, peaks=peaks)
        levels = [(one.overflow_count, one.first_overflow) for one in run.levels]
        return [run.output, run.overflow_count, run.first_overflow, *sum(levels, ())]

    run()
    tracemalloc.start()
    kept = sum(each.nbytes for each in run())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < kept + x.nbytes // 4
