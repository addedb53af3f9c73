"""The plain loops against the oracle: compiled, and the same source as Python."""

from itertools import product

import numpy as np
import pytest

from accsim import Accumulator, IntLayer, Overflow, between, bounds, signed, unsigned
from accsim import execute as execution
from accsim.execute import execute
from accsim.kernels import portable as compiled
from accsim.kernels.portable import BLOCK, CHANNELS, LANES, TAPS
from accsim.plan import Part, Plan, output_dtype
from verification import oracle
from verification.properties import FIELDS, tap_inputs

RNG = np.random.default_rng(5)


@pytest.fixture(params=["compiled", "as Python"], autouse=True)
def portable(request, monkeypatch, uncompiled):
    """The module under test, which `execute` uses too."""
    module = compiled if request.param == "compiled" else uncompiled(compiled)
    monkeypatch.setattr(execution, "portable", module)
    return module


def run(layer, x, register, fields=FIELDS):
    """What the plain loops find, whatever the plan would choose; what they must write is 99."""
    kinds = (output_dtype(register), np.int32, np.int32, np.int64, np.int64)
    shape = layer.output_shape(x.shape)
    results = {f: np.full(shape, 99, kind) for f, kind in zip(FIELDS, kinds, strict=True)}
    results = {name: results[name] for name in fields}
    work = Part("all" if len(fields) > 1 else "exact", "portable", None, "tried")
    execute(Plan((work,), layer.input_spec, layer.weight_range), layer, x, register, 1, results)
    return results


def assert_right(layer, x, register):
    """Every field of every output equals the oracle's; fewer fields are the same ones."""
    found = run(layer, x, register)
    rows = layer.rows.tolist()
    bias = [0] * len(rows) if layer.bias is None else layer.bias.tolist()
    how = {"bits": register.bits, "overflow": str(register.overflow), "signed": register.signed}
    for place, channel, taps in tap_inputs(layer, x):
        answer = oracle.dot(rows[channel], taps, bias=bias[channel], **how)
        assert {name: int(found[name][place]) for name in FIELDS} == {
            name: getattr(answer, name) for name in FIELDS
        }
    for fields in (FIELDS[:1], FIELDS[:3]):
        for name, some in run(layer, x, register, fields).items():
            np.testing.assert_array_equal(some, found[name])


REGISTERS = [
    Accumulator(5, "wrap"),
    Accumulator(5, "saturate"),
    Accumulator(5, "wrap", signed=False),
    Accumulator(4, "saturate", signed=False),
    Accumulator(40, "wrap"),  # 64-bit lanes
    Accumulator(40, "saturate"),
]


@pytest.mark.parametrize("register", REGISTERS, ids=str)
def test_layers(register):
    """A linear layer with starting values, and a convolution of which nothing is alike twice."""
    flat = IntLayer(
        RNG.integers(-8, 8, (3, 7)), weight_spec=signed(4), input_spec=signed(4), bias=[7, 0, 5]
    )
    assert_right(flat, RNG.integers(-8, 8, (4, 7)), register)
    conv = IntLayer(
        RNG.integers(-8, 8, (6, 3, 2, 3)),
        weight_spec=signed(4),
        input_spec=unsigned(4),
        bias=range(6),
        stride=(2, 3),
        padding=(1, 4),
        dilation=(5, 6),
        groups=2,
    )
    assert_right(conv, RNG.integers(0, 16, (2, 6, 7, 9)), register)
    dense = IntLayer(
        RNG.integers(-8, 8, (1, 2, 3, 2)),
        weight_spec=signed(4),
        input_spec=unsigned(4),
        padding=(2, 3),
    )
    assert_right(dense, RNG.integers(0, 16, (3, 2, 2, 4)), register)


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("per_group", [1, CHANNELS + 1, 2 * CHANNELS + 3])
@pytest.mark.parametrize("positions", [1, LANES, 2 * LANES + 1])
def test_blocks_cover_everything_once(portable, positions, per_group, groups):
    """Of each group's channels, in all positions."""
    count = np.zeros((groups * per_group, positions), int)
    for task in range(portable.tasks(positions, groups * per_group, groups)):
        group, channel, channels, first, lanes = portable._block(task, positions, per_group, groups)
        assert channel // per_group == group == (channel + channels - 1) // per_group
        count[channel : channel + channels, first : first + lanes] += 1
        assert lanes > 0
        assert channels > 0
    assert (count == 1).all()


@pytest.mark.parametrize("rule", list(Overflow))
# of a linear layer with many channels, these are the lanes, and the rows are the channels
@pytest.mark.parametrize(
    ("rows", "channels", "taps", "groups"),
    [(2, 1, 2 * TAPS + 1, 1), (2 * LANES + 1, 2, 2, 1), (1, 2 * CHANNELS + 1, 2, 1),
     (CHANNELS - 1, LANES + 1, 1, 1), (CHANNELS, LANES + 1, 1, 1),
     (1, 2 * (CHANNELS + 1), 1, 2), (1, 1, 0, 1)],
)  # fmt: skip
def test_edges_of_blocks(rows, channels, taps, groups, rule):
    """Beside whole blocks of lanes, channels (also of a group) and taps, and no tap at all."""
    shape = (channels, taps) if groups == 1 else (channels, taps, 1, 1)
    layer = IntLayer(
        RNG.integers(-8, 8, shape),
        weight_spec=signed(4),
        input_spec=signed(4),
        bias=RNG.integers(-4, 4, channels),
        groups=groups,
    )
    x = RNG.integers(-8, 8, (rows, taps) if groups == 1 else (rows, taps * groups, 1, 2))
    assert_right(layer, x, Accumulator(6, rule))


@pytest.mark.parametrize("rule", list(Overflow))
@pytest.mark.parametrize("lane", [31, 63])
def test_sums_at_the_ends_of_lanes(lane, rule):
    """Of the largest register and product that a lane holds, no intermediate is cut."""
    spec = unsigned(lane - 1)
    layer = IntLayer([[-1]], weight_spec=signed(1), input_spec=spec, bias=[-1])
    for is_signed in (True, False):
        one = layer if is_signed else IntLayer([[-1]], weight_spec=signed(1), input_spec=spec)
        assert_right(
            one, np.array([[spec.max], [0]]), Accumulator(lane - 1, rule, signed=is_signed)
        )


def test_how_many_tasks(portable):
    """One for each block of lanes and block of channels of a group, and never none."""
    counted = [
        portable.tasks(positions, channels, groups)
        for positions, channels, groups in product(
            (1, LANES, LANES + 1, 5 * LANES), (6, 6 * CHANNELS, 6 * CHANNELS + 6), (1, 2, 3)
        )
    ]
    blocks = [
        lanes * each * groups
        for lanes, (each, groups) in product(
            (1, 1, 2, 5),
            [(1, 1), (1, 2), (1, 3), (6, 1), (3, 2), (2, 3), (7, 1), (4, 2), (3, 3)],
        )
    ]
    assert counted == blocks


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64])
def test_certified_rows(portable, kind):
    """The rows that `bounds` decides to be safe, of every kind of weights; or none of them."""
    spec = between(-3, 5)
    rows = np.array(list(product((-7, -1, 0, 2, 6), repeat=3)), kind)
    for register in (Accumulator(7), Accumulator(5), Accumulator(6, signed=False)):
        for starts in (np.zeros(0, np.int64), RNG.integers(0, 9, len(rows))):
            bias = starts if len(starts) else None
            safe = bounds.fits(*bounds.extremes(rows, spec, bias=bias), register)
            ends = (spec.min, spec.max, register.min, register.max)
            np.testing.assert_array_equal(portable.certified(rows, starts, *ends, 1), safe)
            for step in (2, len(rows)):
                seen = safe if safe[::step].any() else np.zeros(len(rows), bool)
                np.testing.assert_array_equal(portable.certified(rows, starts, *ends, step), seen)
            assert 0 < safe.sum() < len(rows)


def test_what_is_certified_beyond_32_bits(portable):
    """More of the largest weights of 16 bits than int32 holds the sum of, and of wider ones."""
    most = np.full((1, 2 * BLOCK + 1), -(2**15), np.int16)
    high = 2**15 * (2 * BLOCK + 1)
    wide = np.array([[-(2**40), 2**40]])
    for rows, low in ((most, -high), (wide, -(2**40)), (-wide, -(2**40))):
        ends = (0, 1, low, 2**40)
        assert portable.certified(rows, np.zeros(0, np.int64), *ends, 1).tolist() == [True]
        ends = (0, 1, low + 1, 2**40)
        assert portable.certified(rows, np.zeros(0, np.int64), *ends, 1).tolist() == [False]


def test_sums_of_bytes(portable):
    """Of each row, also of more entries than a block."""
    rows = np.full((2, BLOCK + 3), -128, np.int8)
    rows[1] = 127
    assert portable.byte_sums(rows).tolist() == [-128 * (BLOCK + 3), 127 * (BLOCK + 3)]
    assert portable.byte_sums(np.array([[1, -2, 5]])).tolist() == [4]
    assert portable.byte_sums(rows[:, :0]).tolist() == [0, 0]
