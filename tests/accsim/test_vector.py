"""Vector kernels, their source run as Python: the answers of the compiled plain loops.

What is machine code by other means, a tile and a copy in memory, is called through ctypes.
"""

import ctypes

import numpy as np
import pytest

from accsim import Accumulator, IntLayer, Overflow, execute, launch, pack, signed
from accsim.kernels import vector
from verification.properties import assert_kernels_agree

RNG = np.random.default_rng(11)
CALL = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


@pytest.fixture
def as_python(monkeypatch, uncompiled):
    """Vector kernels run as Python from here on; the plain loops that they are compared with not."""
    copy = uncompiled(vector)
    called = []

    def invoke(address, arguments):
        called.append(address)
        return CALL(address)(arguments)

    monkeypatch.setattr(copy, "_invoke", invoke)
    monkeypatch.setattr(copy, "_move", lambda *where: ctypes.memmove(*map(int, where)))
    monkeypatch.setattr(execute, "vector", copy)
    monkeypatch.setattr(pack, "excursions", copy.excursions)
    yield
    assert called


def layer_of(bits, *shape, **options):
    """Weights and inputs of so many bits."""
    spec = signed(bits)
    weight = RNG.integers(spec.min, spec.max + 1, shape)
    return IntLayer(weight, weight_spec=spec, input_spec=spec, **options)


def inputs_of(layer, *shape):
    """Codes of the whole range."""
    return RNG.integers(layer.input_spec.min, layer.input_spec.max + 1, shape)


@pytest.mark.parametrize("rule", list(Overflow))
@pytest.mark.parametrize("bits", [8, 16, 20, 40])
def test_layers(as_python, bits, rule):
    """Both orientations, ragged ends, starting values; convolutions of every step and padding."""
    for rows, channels, taps in ((5, 40, 33), (70, 3, 20)):
        layer = layer_of(8, channels, taps, bias=RNG.integers(-9, 9, channels))
        assert_kernels_agree(layer, inputs_of(layer, rows, taps), Accumulator(bits, rule))
    for stride, padding, dilation in ((1, 1, 1), ((2, 1), (0, 2), (1, 2))):
        how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": 2}
        conv = layer_of(8, 6, 3, 3, 2, **how)
        assert_kernels_agree(conv, inputs_of(conv, 2, 6, 7, 9), Accumulator(bits, rule))


def test_what_a_register_forgets(as_python):
    """Where the last steps decide; where a lane of some tile remembers; and after a rest."""
    for still in (False, True):
        layer = layer_of(8, 64, 600)
        x = inputs_of(layer, 70, 600)
        if still:
            x[5, 1:] = 0
        assert_kernels_agree(layer, x, Accumulator(12, "saturate"))


def test_segments_near_a_rail(as_python):
    """Registers that creep toward a rail and stay there; by rows and by lanes."""
    for channels in (3, 40):
        layer = IntLayer(
            np.full((channels, 100), -128), weight_spec=signed(8), input_spec=signed(8)
        )
        x = np.full((40, 100), 127)
        x[:, 70:] = -1
        assert_kernels_agree(layer, x, Accumulator(20, "saturate"))


def test_pieces_and_bands(as_python, monkeypatch):
    """Blocks of a few images, and of a few rows of one."""
    monkeypatch.setattr(launch, "BLOCK_BYTES", 700)
    monkeypatch.setattr(launch, "LONGEST", 0)  # remember nothing of these limits
    flat = layer_of(4, 40, 33)
    assert_kernels_agree(flat, inputs_of(flat, 300, 33), Accumulator(20))
    conv = layer_of(4, 6, 2, 3, 3, padding=1)
    assert_kernels_agree(conv, inputs_of(conv, 3, 2, 11, 9), Accumulator(18, "saturate"))
