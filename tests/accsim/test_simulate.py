"""The simulator against the oracle, over every edge of the compiled kernels."""

import os
import subprocess
import sys
import threading
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accsim import (
    Accumulator,
    IntLayer,
    Overflow,
    between,
    conv2d,
    execute,
    launch,
    linear,
    pack,
    signed,
    simulate,
    unsigned,
)
from accsim.errors import HostWidthError
from accsim.kernels.portable import CHANNELS, LANES, TAPS
from accsim.plan import check_host
from verification import oracle
from verification.properties import FIELDS, assert_exact, assert_kernels_agree
from verification.strategies import accumulators, inputs, int_layers, int_specs

GOLDEN = Path(__file__).parents[1] / "data" / "golden_mac.npz"
RNG = np.random.default_rng(0)


def test_golden_vectors():
    """100 dot products by independent C++ and Python: value, count, first step, exact sum."""
    with np.load(GOLDEN) as golden:
        data = dict(golden)
    assert len(data["P"]) == 100
    for i in range(100):
        part = slice(data["offset"][i], data["offset"][i + 1])
        x, w = data["x"][part], data["w"][part]
        word = {"wrap": "wrap", "sat": "saturate"}[str(data["mode"][i])]
        register = Accumulator(int(data["P"][i]), word, signed=bool(data["acc_signed"][i]))
        layer = IntLayer(
            w[None],
            weight_spec=(signed if data["w_signed"][i] else unsigned)(int(data["w_bits"][i])),
            input_spec=(signed if data["x_signed"][i] else unsigned)(int(data["x_bits"][i])),
        )
        run = simulate(layer, x, register)
        assert run.output[0] == data["expected"][i]
        assert run.overflow_count[0] == data["overflow_steps"][i]
        assert run.first_overflow[0] == data["first_overflow"][i]
        sums = np.concatenate([[0], np.cumsum(x.astype(object) * w)])
        assert sums[-1] == data["exact_sum"][i]
        assert (run.peak_low[0], run.peak_high[0]) == (sums.min(), sums.max())
        assert linear(x, w[None], register)[0] == data["expected"][i]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_random_layers_equal_the_oracle(data):
    """Linear and convolution layers of every geometry, near-worst inputs, widths 2 to 62."""
    layer = data.draw(int_layers(max_taps=20))
    register = data.draw(accumulators())
    assert_exact(layer, data.draw(inputs(layer)), register)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_wide_operands_equal_the_oracle(data):
    """Operands to 24 bits, in 64-bit lanes."""
    specs = int_specs(max_bits=24)
    layer = data.draw(int_layers(max_taps=8, weight_specs=specs, input_specs=specs))
    assert_exact(layer, data.draw(inputs(layer)), data.draw(accumulators(min_bits=20)))


def case(rows, channels, taps, bits, rule, *, bias=False, spec=signed):
    """A linear layer, inputs and register that overflow now and then."""
    register = Accumulator(bits, rule)
    layer = IntLayer(
        RNG.integers(-8, 8, (channels, taps)),
        weight_spec=signed(4),
        input_spec=spec(4),
        bias=RNG.integers(register.min, register.max + 1, channels) if bias else None,
    )
    x = RNG.integers(layer.input_spec.min, layer.input_spec.max + 1, (rows, taps))
    return layer, x, register


def answers(layer, x, register):
    """All five fields by the oracle, as arrays."""
    bias = [0] * layer.channels if layer.bias is None else layer.bias.tolist()
    rule = str(register.overflow)
    found = [
        [
            oracle.dot(q, v, register.bits, rule, bias=b)
            for q, b in zip(layer.rows.tolist(), bias, strict=True)
        ]
        for v in x.tolist()
    ]
    return [np.array([[getattr(a, f) for a in line] for line in found]) for f in FIELDS]


@pytest.mark.parametrize("rule", list(Overflow))
@pytest.mark.parametrize(
    ("rows", "channels", "taps"),
    [(1, 1, 0), (1, 1, 1), (3, 2, TAPS - 1), (2, 3, TAPS), (3, 3, TAPS + 1), (2, 1, 3 * TAPS + 5),
     (LANES - 1, 2, 9), (LANES, 2, 9), (LANES + 1, 2, 9), (2, LANES + 1, 9), (2 * LANES + 3, 1, 5),
     (CHANNELS + 9, CHANNELS - 1, 3), (CHANNELS + 9, CHANNELS, 3), (CHANNELS + 9, CHANNELS + 1, 3)],
)  # fmt: skip
def test_tile_edges(rows, channels, taps, rule):
    """One below, at and above each tile size, both orientations, with bias: all five fields."""
    layer, x, register = case(rows, channels, taps, 8, rule, bias=True)
    run = simulate(layer, x, register)
    for field, expected in zip(FIELDS, answers(layer, x, register), strict=True):
        np.testing.assert_array_equal(getattr(run, field), expected)
    values = linear(x, layer.weight, register, bias=layer.bias)
    np.testing.assert_array_equal(values, run.output)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_every_input_dtype(dtype):
    """Any integer dtype gives the same run."""
    layer, x, register = case(5, 3, 20, 7, "saturate", spec=lambda n: unsigned(n - 1))
    expected = simulate(layer, x, register)
    run = simulate(layer, x.astype(dtype), register)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(run, field), getattr(expected, field))


def layouts(x):
    """The same numbers in memory layouts that people have."""
    wide = np.zeros((2 * len(x), 2 * x.shape[1]), x.dtype)
    wide[::2, ::2] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    unaligned = np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1).reshape(x.shape)
    return {
        "strided": wide[::2, ::2],
        "reversed": x[::-1, ::-1].copy()[::-1, ::-1],
        "fortran": np.asfortranarray(x),
        "big-endian": x.astype(">i8"),
        "read-only": frozen,
        "unaligned": unaligned,
        "list": x.tolist(),
        "torch": torch.from_numpy(x.copy()),
        "torch transposed": torch.from_numpy(np.ascontiguousarray(x.T)).T,
    }


def test_operands_far_from_zero():
    """Beside zeros alone, operands of any size simulate."""
    far = -(2**60)
    register = Accumulator(16)
    assert linear([[far]], [[0]], register).tolist() == [[0]]
    assert linear([[0]] * 3, [[far]], register).tolist() == [[0]] * 3
    layer = IntLayer([[0, 0]], weight_spec=signed(2), input_spec=signed(60))
    assert simulate(layer, [[-(2**58), 1]], register).output.tolist() == [[0]]


def test_every_layout_and_no_input_changes():
    """Views, orders, bytes orders, torch tensors: same run, and the inputs stay as they were."""
    layer, x, register = case(6, 4, 10, 6, "wrap")
    before, expected = x.copy(), simulate(layer, x, register)
    for label, view in layouts(x).items():
        np.testing.assert_array_equal(
            simulate(layer, view, register).output, expected.output, label
        )
        np.testing.assert_array_equal(np.asarray(view), before, label)
    np.testing.assert_array_equal(x, before)


def test_leading_dimensions_and_empty_batches():
    """x (..., K) keeps its leading dimensions, also when they are 0 or absent."""
    layer, x, register = case(6, 4, 10, 6, "wrap")
    flat = simulate(layer, x, register).output
    np.testing.assert_array_equal(
        simulate(layer, x.reshape(2, 3, 10), register).output, flat.reshape(2, 3, 4)
    )
    np.testing.assert_array_equal(simulate(layer, x[0], register).output, flat[0])
    assert simulate(layer, x[:0], register).output.shape == (0, 4)
    image = np.zeros((0, 2, 5, 5), np.int64)
    assert conv2d(image, np.ones((3, 2, 3, 3), np.int64), register).shape == (0, 3, 3, 3)


@pytest.mark.parametrize(
    ("bits", "is_signed", "dtype"),
    [(2, True, np.int32), (31, False, np.int32), (32, True, np.int32), (32, False, np.int64),
     (33, True, np.int64), (62, False, np.int64)],
)  # fmt: skip
def test_output_dtypes(bits, is_signed, dtype):
    """int32 where the register fits in one, else int64; the extremes come through."""
    register = Accumulator(bits, "saturate", signed=is_signed)
    out = linear([[2**30] * 2] * 2, [[2**31] * 2, [-(2**31)] * 2], register)
    assert out.dtype == dtype
    exact = 2**62
    assert out[0].tolist() == [min(exact, register.max), max(-exact, register.min)]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_wide_convolutions_equal_torch(groups):
    """In a register that holds every sum, conv2d is torch's, depthwise included."""
    weight = RNG.integers(-8, 8, (8, 4 // groups, 3, 2))
    x = RNG.integers(-8, 8, (3, 4, 9, 11))
    for stride, padding, dilation in product([1, (2, 3)], [0, (2, 1)], [1, (1, 2)]):
        how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        ours = conv2d(x, weight, Accumulator(20), **how)
        theirs = torch.conv2d(torch.tensor(x).double(), torch.tensor(weight).double(), **how)
        np.testing.assert_array_equal(ours, theirs.numpy())


@pytest.mark.parametrize("rule", list(Overflow))
@pytest.mark.parametrize(("lane", "beyond"), [(31, np.int64), (63, None)])
def test_host_limit(lane, beyond, rule):
    """2^bits + total of exactly 2^31 and 2^63, with extreme inputs; then one more."""
    spec, register = unsigned(lane - 1), Accumulator(lane - 1, rule)
    at_limit, over = (
        IntLayer([[-1]], weight_spec=signed(1), input_spec=spec, bias=[bias]) for bias in (-1, -2)
    )
    assert check_host(at_limit, register) is {31: np.int32, 63: np.int64}[lane]
    assert_exact(at_limit, np.array([[spec.max], [0]]), register)
    if beyond is None:
        with pytest.raises(HostWidthError):
            simulate(over, [[0]], register)
    else:
        assert check_host(over, register) is beyond
        assert_exact(over, np.array([[spec.max], [0]]), register)


@pytest.mark.parametrize("rule", list(Overflow))
@pytest.mark.parametrize("bits", [12, 20, 60])
def test_any_number_of_threads(bits, rule, monkeypatch):
    """Several threads share a call and give the same run; convolutions too."""
    asked, share = [], execute.share
    monkeypatch.setattr(execute, "SMALL", 0)  # else one thread does calls of this size
    monkeypatch.setattr(execute, "share", lambda n, *task: asked.append(n) or share(n, *task))
    layer, x, register = case(700, 70, 65, bits, rule, bias=True)
    conv = IntLayer(RNG.integers(-8, 8, (12, 9, 3, 3)), weight_spec=signed(4), input_spec=signed(4))
    images = RNG.integers(-8, 8, (8, 9, 21, 19))
    for one, inputs_of_it in ((layer, x), (conv, images)):
        first, second = (simulate(one, inputs_of_it, register, threads=n) for n in (1, 2))
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(first, field), getattr(second, field))
    assert 2 in asked


def test_threads_are_those_of_numba():
    """NUMBA_NUM_THREADS is the most and what is used if nothing is said."""
    code = """
from accsim import Accumulator, linear
from accsim.simulate import most_threads
print(most_threads())
try: linear([[1]], [[1]], Accumulator(4), threads=2)
except ValueError as error: print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"NUMBA_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == ["1", "threads must be an integer from 1 to 1, not 2"]


@pytest.mark.parametrize("rule", list(Overflow))
@pytest.mark.parametrize("limit", [1, 700, 5000])
def test_any_size_of_pieces(limit, rule, monkeypatch):
    """Rows, images and bands of large operands are packed piece by piece; every kernel, any cut."""
    monkeypatch.setattr(pack, "ROW_BYTES", limit)
    monkeypatch.setattr(pack, "LANE_BYTES", limit)
    monkeypatch.setattr(launch, "BLOCK_BYTES", limit)
    monkeypatch.setattr(launch, "LONGEST", 0)  # remember nothing of these limits
    layer, x, register = case(300, 40, 33, 20, rule, bias=True)
    assert_kernels_agree(layer, x, register)
    for stride, padding, dilation in product((1, 3), (0, 2), (1, 2)):
        conv = IntLayer(
            RNG.integers(-8, 8, (6, 2, 3, 2)),
            weight_spec=signed(4),
            input_spec=signed(4),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=2,
        )
        images = RNG.integers(-8, 8, (3, 4, 11, 9))
        for bits in (8, 18, 40):
            assert_kernels_agree(conv, images, Accumulator(bits, rule))


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize(
    ("size", "padding", "stride"), [(1, 0, 1), (1, 1, 3), (1, 1, 1), (2, 0, 2)]
)
def test_images_of_a_pixel(size, padding, stride, groups):
    """Kernels of one pixel on tiny images: with groups, and where only padding is read."""
    for each, count in product((1, 3, 8), (1, 7, 40)):
        conv = IntLayer(
            RNG.integers(-8, 8, (groups * 5, each, 1, 1)),
            weight_spec=signed(4),
            input_spec=unsigned(4),
            stride=stride,
            padding=padding,
            groups=groups,
        )
        x = RNG.integers(0, 16, (count, groups * each, size, size))
        for bits in (7, 20, 40):
            assert_kernels_agree(conv, x, Accumulator(bits, "saturate"))
            assert_exact(conv, x[:2], Accumulator(bits))


@pytest.mark.parametrize("sign", [1, -1])
def test_segments_stop_before_the_rail(sign):
    """Registers that creep toward a rail, and touch it in the last step of a segment."""
    register = Accumulator(20, "saturate")
    for most in (127, 128):
        weight = np.full((3, 100), -128)
        weight[1] = 1
        layer = IntLayer(weight, weight_spec=signed(8), input_spec=between(-128, 128))
        x = np.full((40, 100), -sign * most)
        x[:, 90:] *= -1
        x[np.arange(40), np.arange(40) + 20] = sign
        assert_exact(layer, x, register)
        for field, expected in zip(FIELDS, answers(layer, x, register), strict=True):
            np.testing.assert_array_equal(getattr(simulate(layer, x, register), field), expected)
        np.testing.assert_array_equal(linear(x, weight, register), answers(layer, x, register)[0])


def test_what_a_register_forgets():
    """Values alone, where the last steps decide; where only one lane remembers; where all do."""
    register = Accumulator(12, "saturate")
    x = RNG.integers(-128, 128, (70, 600)).astype(np.int8)
    weight = RNG.integers(-128, 128, (64, 600)).astype(np.int8)  # tiles of several rows
    for remembering in ([], [5], range(70)):
        x[list(remembering), 1:] = 0
        x[list(remembering), 0] = 1
        run = simulate(IntLayer(weight, weight_spec=signed(8), input_spec=signed(8)), x, register)
        np.testing.assert_array_equal(linear(x, weight, register), run.output)
        assert (run.output[list(remembering)] == weight[:, 0]).all()


def test_two_threads_at_once():
    """Callers in several threads get right results."""
    layer, x, register = case(200, 50, 64, 8, "saturate")
    expected, wrong = simulate(layer, x, register).output, []

    def work():
        for _ in range(20):
            if (simulate(layer, x, register).output != expected).any():
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
