"""Bad input: each class is one typed error, its whole text pinned."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from a2qplus import (
    MatMul,
    Quantization,
    QuantMatMul,
    fit,
    functional,
    parameter_groups,
    quantize_model,
    read_recipe,
    to_integer,
    to_layers,
)
from accsim import (
    Accumulator,
    IntLayer,
    IntSpec,
    arith,
    between,
    bounds,
    conv2d,
    linear,
    signed,
    simulate,
    unsigned,
)
from accsim.errors import (
    AccsimError,
    CheckpointError,
    DtypeError,
    HostWidthError,
    ModelError,
    RangeError,
    RecipeError,
    ShapeError,
    SimulatorError,
    SpecError,
)
from accsim.simulate import most_threads
from verification import check_simulator, decide, search, worst_inputs

REGISTER = Accumulator(8)
W = np.array([[1, 2], [3, 4]])
X = np.array([[1, 2]])
IMAGE = np.ones((1, 2, 3, 3), np.int64)
KERNEL = np.ones((2, 2, 2, 2), np.int64)


def layer(weight=W, weight_spec=signed(4), input_spec=unsigned(4), **how):
    """A small layer, one thing changed."""
    return IntLayer(weight, weight_spec=weight_spec, input_spec=input_spec, **how)


def quantized(model, **how):
    """A quantized model, one thing changed."""
    return quantize_model(model, **{"weight_bits": 4, "act_bits": 4, "acc_bits": 12} | how)


V = torch.ones(2, 3)
S = torch.ones(2)


class Exponential(nn.Module):
    """A float operation that leaves the range of floats."""

    def forward(self, x):
        """Like x."""
        return x.exp()


def not_finite():
    """A layer with a NaN."""
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight[0, 0] = torch.nan
    return layer


def even():
    """A layer of zeros."""
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    return layer


def hooked():
    """A model of a layer with a hook."""
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].register_forward_hook(lambda *_: None)
    return model


def a2q(v=V, scale=S, norm=S, weight_bits=4, acc_bits=12, input_spec=unsigned(4)):
    """Quantized ones, one thing changed."""
    return functional.quantize_a2q_plus(
        v, scale, norm, weight_bits=weight_bits, acc_bits=acc_bits, input_spec=input_spec
    )


def trained(model=None, x=None, y=None, **how):
    """A model trained on two rows, one thing changed."""
    x = torch.ones(2, 2) if x is None else x
    y = torch.zeros(2, dtype=torch.int64) if y is None else y
    model = nn.Linear(2, 2) if model is None else model
    fit(model, x, y, **{"epochs": 1, "learning_rate": 0.1, "seed": 0} | how)


RECIPE = (Path(__file__).parents[1] / "docs" / "digits.toml").read_text()


def recipe(old="", new="", text=None):
    """The recipe of the docs read, one line of it changed."""
    assert text is not None or RECIPE.count(old) == 1, "the line to change must be there once"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.toml"
        path.write_text(RECIPE.replace(old, new) if text is None else text, encoding="latin-1")
        read_recipe(path)


QUANTIZATION_KEYS = (
    "weight_bits, act_bits, acc_bits, method, edge_bits, start, zero_point, overrides"
)
TRAINING_KEYS = "epochs, learning_rate, batch, penalty_weight, weight_decay"

SMALLEST = "for x [[]], weight [[]], 2-bit wrap register"

CASES = [
    (
        "x floats",
        lambda: linear(X * 1.0, W, REGISTER),
        DtypeError,
        "x must be an array of integers, not of float64",
    ),
    (
        "x bools",
        lambda: linear(X > 0, W, REGISTER),
        DtypeError,
        "x must be an array of integers, not of bool",
    ),
    (
        "x NaN",
        lambda: linear([[np.nan, 1]], W, REGISTER),
        DtypeError,
        "x must be an array of integers, not of float64",
    ),
    (
        "x objects",
        lambda: linear(np.array([[1, 2]], dtype=object), W, REGISTER),
        DtypeError,
        "x must be an array of integers, not of object",
    ),
    (
        "x beyond 64 bits",
        lambda: linear([[2**70, 1]], W, REGISTER),
        DtypeError,
        "x must be an array of integers, not of object",
    ),
    (
        "x complex",
        lambda: linear([[1j, 1]], W, REGISTER),
        DtypeError,
        "x must be an array of integers, not of complex128",
    ),
    (
        "x text",
        lambda: linear([["1", "2"]], W, REGISTER),
        DtypeError,
        "x must be an array of integers, not of <U1",
    ),
    (
        "x None",
        lambda: linear(None, W, REGISTER),
        DtypeError,
        "x must be an array of integers, not of object",
    ),
    (
        "x empty list",
        lambda: linear([], W, REGISTER),
        DtypeError,
        "x must be an array of integers, not of float64",
    ),
    (
        "x ragged",
        lambda: linear([[1, 2], [3]], W, REGISTER),
        ShapeError,
        "x must be a rectangular array of integers, not ragged",
    ),
    ("x number", lambda: linear(3, W, REGISTER), ShapeError, "x must be (..., 2), not of shape ()"),
    (
        "x bfloat16 tensor",
        lambda: linear(torch.ones(1, 2, dtype=torch.bfloat16), W, REGISTER),
        DtypeError,
        "x must be an array of integers: Got unsupported ScalarType BFloat16",
    ),
    (
        "x wrong K",
        lambda: linear([[1, 2, 3]], W, REGISTER),
        ShapeError,
        "x must be (..., 2), not of shape (1, 3)",
    ),
    (
        "x no K",
        lambda: linear(np.zeros((2, 0), int), W, REGISTER),
        ShapeError,
        "x must be (..., 2), not of shape (2, 0)",
    ),
    (
        "x above its spec",
        lambda: simulate(layer(), [[0, 16]], REGISTER),
        RangeError,
        "x[0, 1] is 16, outside UINT4 [0, 15]",
    ),
    (
        "x below its spec",
        lambda: simulate(layer(), [[3, 2], [-1, 0]], REGISTER),
        RangeError,
        "x[1, 0] is -1, outside UINT4 [0, 15]",
    ),
    (
        "no threads",
        lambda: simulate(layer(), X, REGISTER, threads=0),
        SpecError,
        f"threads must be an integer from 1 to {most_threads()}, not 0",
    ),
    (
        "threads a float",
        lambda: linear(X, W, REGISTER, threads=1.0),
        SpecError,
        f"threads must be an integer from 1 to {most_threads()}, not 1.0",
    ),
    (
        "too many threads",
        lambda: conv2d(IMAGE, KERNEL, REGISTER, threads=10**6),
        SpecError,
        f"threads must be an integer from 1 to {most_threads()}, not 1000000",
    ),
    (
        "x unsigned 64 above",
        lambda: simulate(layer(), np.array([[1, 2**63]], np.uint64), REGISTER),
        RangeError,
        "x[0, 1] is 9223372036854775808, outside UINT4 [0, 15]",
    ),
    (
        "x wider than 62 bits",
        lambda: linear([[2**62, 1]], W, REGISTER),
        RangeError,
        "x[0, 0] is 4611686018427387904, outside UINT62 [0, 4611686018427387903]",
    ),
    (
        "weight floats",
        lambda: linear(X, W / 2, REGISTER),
        DtypeError,
        "weight must be an array of integers, not of float64",
    ),
    (
        "weight bools",
        lambda: layer(W > 1),
        DtypeError,
        "weight must be an array of integers, not of bool",
    ),
    (
        "weight ragged",
        lambda: layer([[1], [2, 3]]),
        ShapeError,
        "weight must be a rectangular array of integers, not ragged",
    ),
    (
        "weight empty",
        lambda: layer([]),
        DtypeError,
        "weight must be an array of integers, not of float64",
    ),
    (
        "weight 1-d",
        lambda: linear(X, [1, 2], REGISTER),
        ShapeError,
        "weight must be (C, K), not of shape (2,)",
    ),
    (
        "weight 3-d",
        lambda: layer(np.ones((1, 1, 1), int)),
        ShapeError,
        "weight must be (C, K) or (O, I, kh, kw), not of shape (1, 1, 1)",
    ),
    (
        "weight no channels",
        lambda: layer(np.ones((0, 2), int)),
        ShapeError,
        "weight must have at least one channel and tap, not shape (0, 2)",
    ),
    (
        "weight empty kernel",
        lambda: layer(np.ones((2, 0, 3, 3), int)),
        ShapeError,
        "weight must have at least one channel and tap, not shape (2, 0, 3, 3)",
    ),
    (
        "weight above its spec",
        lambda: layer([[1, 2], [3, 8]]),
        RangeError,
        "weight[1, 1] is 8, outside INT4 [-8, 7]",
    ),
    (
        "weight below its spec",
        lambda: layer([[-9, 2]]),
        RangeError,
        "weight[0, 0] is -9, outside INT4 [-8, 7]",
    ),
    (
        "weight below narrow",
        lambda: layer([[-8, 2]], weight_spec=signed(4, narrow=True)),
        RangeError,
        "weight[0, 0] is -8, outside [-7, 7]",
    ),
    (
        "weight spec a word",
        lambda: layer(weight_spec="INT4"),
        SpecError,
        "weight_spec must be an IntSpec, not 'INT4'",
    ),
    (
        "input spec a width",
        lambda: layer(input_spec=4),
        SpecError,
        "input_spec must be an IntSpec, not 4",
    ),
    (
        "image of 3 axes",
        lambda: conv2d(IMAGE[0], KERNEL, REGISTER),
        ShapeError,
        "x must be (N, 2, H, W), not of shape (2, 3, 3)",
    ),
    (
        "image channels",
        lambda: conv2d(IMAGE[:, :1], KERNEL, REGISTER),
        ShapeError,
        "x must be (N, 2, H, W), not of shape (1, 1, 3, 3)",
    ),
    (
        "image too small",
        lambda: conv2d(IMAGE, KERNEL, REGISTER, dilation=3),
        ShapeError,
        "x must be at least 4 by 4 for this kernel, not 3 by 3",
    ),
    (
        "kernel 2-d",
        lambda: conv2d(IMAGE, W, REGISTER),
        ShapeError,
        "weight must be (O, I, kh, kw), not of shape (2, 2)",
    ),
    (
        "groups do not divide",
        lambda: conv2d(IMAGE, np.ones((3, 1, 2, 2), int), REGISTER, groups=2),
        ShapeError,
        "groups must divide the 3 output channels, not 2",
    ),
    (
        "groups 0",
        lambda: conv2d(IMAGE, KERNEL, REGISTER, groups=0),
        SpecError,
        "groups must be an integer from 1 to 1048576, not 0",
    ),
    (
        "stride 0",
        lambda: conv2d(IMAGE, KERNEL, REGISTER, stride=0),
        SpecError,
        "stride must be an integer from 1 to 1048576, not 0",
    ),
    (
        "stride float",
        lambda: conv2d(IMAGE, KERNEL, REGISTER, stride=1.5),
        SpecError,
        "stride must be an integer from 1 to 1048576, not 1.5",
    ),
    (
        "padding negative",
        lambda: conv2d(IMAGE, KERNEL, REGISTER, padding=(0, -1)),
        SpecError,
        "padding must be an integer from 0 to 1048576, not -1",
    ),
    (
        "padding word",
        lambda: conv2d(IMAGE, KERNEL, REGISTER, padding="same"),
        SpecError,
        "padding must be an integer from 0 to 1048576, not 'same'",
    ),
    (
        "dilation of three",
        lambda: conv2d(IMAGE, KERNEL, REGISTER, dilation=(1, 1, 1)),
        SpecError,
        "dilation must be one integer or two, not (1, 1, 1)",
    ),
    (
        "stride of a linear layer",
        lambda: layer(stride=2),
        ShapeError,
        "a linear weight (C, K) takes no stride, padding, dilation or groups",
    ),
    (
        "bits 0",
        lambda: Accumulator(0),
        SpecError,
        "Accumulator bits must be an integer from 2 to 62, not 0",
    ),
    (
        "bits 1",
        lambda: Accumulator(1),
        SpecError,
        "Accumulator bits must be an integer from 2 to 62, not 1",
    ),
    (
        "bits 63",
        lambda: Accumulator(63),
        SpecError,
        "Accumulator bits must be an integer from 2 to 62, not 63",
    ),
    (
        "bits 64",
        lambda: Accumulator(64),
        SpecError,
        "Accumulator bits must be an integer from 2 to 62, not 64",
    ),
    (
        "bits negative",
        lambda: Accumulator(-8),
        SpecError,
        "Accumulator bits must be an integer from 2 to 62, not -8",
    ),
    (
        "bits float",
        lambda: Accumulator(8.0),
        SpecError,
        "Accumulator bits must be an integer from 2 to 62, not 8.0",
    ),
    (
        "bits bool",
        lambda: Accumulator(True),
        SpecError,
        "Accumulator bits must be an integer from 2 to 62, not True",
    ),
    (
        "bits text",
        lambda: Accumulator("8"),
        SpecError,
        "Accumulator bits must be an integer from 2 to 62, not '8'",
    ),
    (
        "bits None",
        lambda: Accumulator(None),
        SpecError,
        "Accumulator bits must be an integer from 2 to 62, not None",
    ),
    (
        "bits NaN",
        lambda: Accumulator(float("nan")),
        SpecError,
        "Accumulator bits must be an integer from 2 to 62, not nan",
    ),
    (
        "bits huge",
        lambda: Accumulator(10**30),
        SpecError,
        "Accumulator bits must be an integer from 2 to 62, not 1000000000000000000000000000000",
    ),
    (
        "overflow word",
        lambda: Accumulator(8, "clip"),
        SpecError,
        'Accumulator overflow must be "wrap" or "saturate", not \'clip\'',
    ),
    (
        "overflow None",
        lambda: Accumulator(8, None),
        SpecError,
        'Accumulator overflow must be "wrap" or "saturate", not None',
    ),
    (
        "signed a number",
        lambda: Accumulator(8, signed=1),
        SpecError,
        "Accumulator signed must be True or False, not 1",
    ),
    (
        "register an int",
        lambda: linear(X, W, 8),
        SpecError,
        "accumulator must be an Accumulator or a Datapath, not 8",
    ),
    (
        "decide register None",
        lambda: decide(layer(), None),
        SpecError,
        "accumulator must be an Accumulator or a Datapath, not None",
    ),
    (
        "decide a weight",
        lambda: decide(W, REGISTER),
        SpecError,
        "layer must be an IntLayer, not ndarray",
    ),
    (
        "bias floats",
        lambda: linear(X, W, REGISTER, bias=[0.5, 1]),
        DtypeError,
        "bias must be an array of integers, not of float64",
    ),
    (
        "bias wrong shape",
        lambda: linear(X, W, REGISTER, bias=[1, 2, 3]),
        ShapeError,
        "bias must have shape (2,), not (3,)",
    ),
    (
        "bias a number",
        lambda: linear(X, W, REGISTER, bias=3),
        ShapeError,
        "bias must have shape (2,), not ()",
    ),
    (
        "bias above the register",
        lambda: linear(X, W, REGISTER, bias=[0, 128]),
        RangeError,
        "bias[1] is 128, outside the 8-bit wrap register [-128, 127]",
    ),
    (
        "bias below the register",
        lambda: linear(X, W, REGISTER, bias=[-129, 0]),
        RangeError,
        "bias[0] is -129, outside the 8-bit wrap register [-128, 127]",
    ),
    (
        "bias negative, unsigned register",
        lambda: linear(X, W, Accumulator(8, signed=False), bias=[-1, 0]),
        RangeError,
        "bias[0] is -1, outside the unsigned 8-bit wrap register [0, 255]",
    ),
    (
        "bias beyond 62 bits",
        lambda: layer(bias=np.array([0, 2**63], np.uint64)),
        RangeError,
        "bias[1] is 9223372036854775808, outside UINT62 [0, 4611686018427387903]",
    ),
    (
        "bias in decide",
        lambda: decide(layer(bias=[0, 128]), REGISTER),
        RangeError,
        "bias[1] is 128, outside the 8-bit wrap register [-128, 127]",
    ),
    (
        "sum beyond 64 bits",
        lambda: simulate(layer([[1] * 2], signed(40), signed(40)), [[1, 1]], Accumulator(62)),
        HostWidthError,
        "2^62 + 604462909807314587353088, the register's span plus the largest sum of 2 products of INT40 and INT40, must not exceed 2^63",
    ),
    (
        "spec backwards",
        lambda: between(5, 2),
        SpecError,
        "IntSpec min must not exceed max, not [5, 2]",
    ),
    (
        "spec float",
        lambda: between(0.0, 2),
        SpecError,
        "IntSpec min must be an integer from -2305843009213693952 to 4611686018427387903, not 0.0",
    ),
    (
        "spec bool",
        lambda: between(False, True),
        SpecError,
        "IntSpec min must be an integer from -2305843009213693952 to 4611686018427387903, not False",
    ),
    (
        "spec too high",
        lambda: between(0, 2**62),
        SpecError,
        "IntSpec max must be an integer from -2305843009213693952 to 4611686018427387903, not 4611686018427387904",
    ),
    (
        "spec too wide",
        lambda: between(-1, 2**62 - 1),
        SpecError,
        "IntSpec [-1, 4611686018427387903] needs 63 bits; at most 62 are simulated",
    ),
    (
        "signed 0 bits",
        lambda: signed(0),
        SpecError,
        "signed bits must be an integer from 1 to 62, not 0",
    ),
    (
        "signed narrow 1 bit",
        lambda: signed(1, narrow=True),
        SpecError,
        "signed bits must be an integer from 2 to 62, not 1",
    ),
    (
        "unsigned 63 bits",
        lambda: unsigned(63),
        SpecError,
        "unsigned bits must be an integer from 1 to 62, not 63",
    ),
    (
        "word INT0",
        lambda: IntSpec.parse("INT0"),
        SpecError,
        'IntSpec text must be like "INT4", "UINT8" (1 to 62 bits) or "[-7, 8]", not \'INT0\'',
    ),
    (
        "word FIXED",
        lambda: IntSpec.parse("FIXED<4,2"),
        SpecError,
        'IntSpec text must be like "INT4", "UINT8" (1 to 62 bits) or "[-7, 8]", not \'FIXED<4,2\'',
    ),
    (
        "bounds of 3-d weight",
        lambda: bounds.extremes(np.ones((1, 1, 1), int), unsigned(4)),
        ShapeError,
        "weight must be (K,), (C, K) or (O, I, kh, kw), not of shape (1, 1, 1)",
    ),
    (
        "bounds bias shape",
        lambda: bounds.least_bits(W, unsigned(4), bias=[1, 2, 3]),
        ShapeError,
        "bias must have one entry per channel, 2, not shape (3,)",
    ),
    (
        "bounds of floats",
        lambda: bounds.least_bits([0.5], unsigned(4)),
        DtypeError,
        "weight must be an array of integers, not of float64",
    ),
    (
        "bounds k negative",
        lambda: bounds.data_type_bits(-1, signed(4), unsigned(4)),
        SpecError,
        "k must be an integer from 0 to 1099511627776, not -1",
    ),
    (
        "budget bits 64",
        lambda: bounds.l1_budget(64, unsigned(4)),
        SpecError,
        "acc_bits must be an integer from 2 to 62, not 64",
    ),
    (
        "budget of zero inputs",
        lambda: bounds.l1_budget(8, between(0, 0)),
        SpecError,
        "input_spec must hold an input other than 0 for a weight budget",
    ),
    (
        "centred budget without 0",
        lambda: bounds.zero_centered_budget(8, between(2, 5)),
        SpecError,
        "input_spec must hold 0 and another input for the zero-centred budget, not [2, 5]",
    ),
    (
        "sign budgets without 0",
        lambda: bounds.sign_budgets(8, between(2, 5)),
        SpecError,
        "input_spec must hold 0 and another input for the sign budgets, not [2, 5]",
    ),
    (
        "model start",
        lambda: quantized(nn.Linear(2, 2), start="warm"),
        SpecError,
        "start must be one of fit, ep, naive, not 'warm'",
    ),
    (
        "override of no layer",
        lambda: quantized(nn.Sequential(nn.Linear(2, 2)), overrides={"1*": {"acc_bits": 9}}),
        SpecError,
        "overrides '1*' must match a layer, one of 0",
    ),
    (
        "override of an unknown member",
        lambda: quantized(nn.Sequential(nn.Linear(2, 2)), overrides={"*": {"bits": 9}}),
        SpecError,
        "overrides '*', layer '0': changes must be of method, weight_bits, act_bits, acc_bits, start,"
        " zero_point, not 'bits'",
    ),
    (
        "override of bits",
        lambda: quantized(nn.Linear(2, 2), overrides={"*": {"acc_bits": 9}}, edge_bits=8),
        SpecError,
        "overrides '*', layer '': method \"base\" bounds nothing, so acc_bits must be None",
    ),
    (
        "model zero point",
        lambda: quantized(nn.Linear(2, 2), zero_point="add"),
        SpecError,
        "zero_point must be None or one of subtract, outside, preload, not 'add'",
    ),
    (
        "model zero point without data",
        lambda: quantized(nn.Sequential(nn.Linear(2, 2)), zero_point="outside"),
        ModelError,
        "layer '0': a zero point must come from calibration data that reach the layer",
    ),
    (
        "model layer of an unknown type",
        lambda: quantized(nn.Sequential(nn.Linear(2, 2), nn.Conv1d(1, 1, 2))),
        ModelError,
        "layer '1' must be a plain Linear or Conv2d, not Conv1d; overrides={'1': None} leaves it in"
        " float",
    ),
    (
        "model recurrent layer",
        lambda: quantized(nn.LSTM(2, 2)),
        ModelError,
        "the model must be a plain Linear or Conv2d, not LSTM",
    ),
    (
        "register without room",
        lambda: quantized(
            nn.Sequential(nn.Linear(2, 2)), acc_bits=5, method="a2q", act_bits=6, edge_bits=None
        ),
        SpecError,
        "layer '0': acc_bits must be at least 7 for method \"a2q\" to have weights other than 0 with"
        " INT6 [-32, 31] inputs, not 5",
    ),
    (
        "calibration with NaN",
        lambda: quantized(nn.Linear(2, 2), calibration=[V[:, :2], V[:, :2] / 0 * 0]),
        ModelError,
        "calibration batch 1 must hold finite numbers only",
    ),
    (
        "calibration of a wrong shape",
        lambda: quantized(nn.Linear(2, 2), calibration=V),
        ShapeError,
        "calibration batch 0, of shape (2, 3), must run through the model: mat1 and mat2 shapes"
        " cannot be multiplied (2x3 and 2x2)",
    ),
    (
        "calibration that is no tensor",
        lambda: quantized(nn.Linear(2, 2), calibration=[[1.0, 2.0]]),
        DtypeError,
        "calibration batch 0 must be a tensor of inputs, not a list; of a loader of pairs take (x for"
        " x, y in loader)",
    ),
    (
        "inputs that become infinite",
        lambda: quantized(
            nn.Sequential(Exponential(), nn.Linear(2, 2)), calibration=V[:, :2] * 1e9
        ),
        ModelError,
        "inputs of layer '1' to calibrate with must be finite",
    ),
    (
        "inputs that are integers",
        lambda: quantized(nn.Linear(2, 2))(torch.ones(3, 2, dtype=torch.int64)),
        DtypeError,
        "inputs of a quantized layer must be floats, not torch.int64",
    ),
    (
        "float weights that are not finite",
        lambda: quantized(nn.Sequential(not_finite(), nn.Linear(2, 2)), calibration=V[:, :2]),
        ModelError,
        "layer '0' has weights that are not finite",
    ),
    (
        "overrides that are a list",
        lambda: quantized(nn.Linear(2, 2), overrides=[1]),
        SpecError,
        "overrides must be a mapping of patterns, not [1]",
    ),
    (
        "overrides that leave nothing",
        lambda: quantized(nn.Sequential(nn.Linear(2, 2)), overrides={"*": None}),
        ModelError,
        "the model must hold a torch.nn.Linear or torch.nn.Conv2d to quantize",
    ),
    (
        "overrides of a product of activations",
        lambda: quantized(
            nn.Sequential(nn.Linear(2, 2), MatMul()), overrides={"1": {"acc_bits": 9}}
        ),
        SpecError,
        "overrides '1' must be of act_bits and zero_point, for a product of activations, not 'acc_bits'",
    ),
    (
        "layer with a hook",
        lambda: quantized(hooked()),
        ModelError,
        "layer '0' must be without hooks, which it would lose",
    ),
    (
        "fit on lists",
        lambda: fit(nn.Linear(2, 2), [[1.0]], [0], epochs=1, learning_rate=1.0, seed=0),
        DtypeError,
        "x must be a tensor, not a list",
    ),
    (
        "fit on float classes",
        lambda: trained(y=torch.ones(2)),
        DtypeError,
        "y must be the numbers of classes, integers, not torch.float32",
    ),
    (
        "fit on classes that are not there",
        lambda: trained(y=torch.tensor([0, 7])),
        ShapeError,
        "the model must give logits (B, classes), with class 7 among them, not (2, 2)",
    ),
    (
        "fit on negative classes",
        lambda: trained(y=torch.tensor([0, -1])),
        ShapeError,
        "y must be (B,) class numbers from 0 on",
    ),
    (
        "fit on NaN",
        lambda: trained(x=torch.full((2, 2), torch.nan)),
        ModelError,
        "x to train on must hold finite numbers only",
    ),
    (
        "fit that diverges",
        lambda: trained(even(), x=torch.full((2, 2), 1e38), epochs=3, learning_rate=1e30),
        ModelError,
        "training must keep its loss finite: in epoch 2 it is nan; try a smaller learning_rate",
    ),
    (
        "fit on another width",
        lambda: trained(x=torch.ones(2, 3)),
        ModelError,
        "the model must train on a batch of shape (2, 3): mat1 and mat2 shapes cannot be multiplied"
        " (2x3 and 2x2)",
    ),
    (
        "fit with a checkpoint nowhere",
        lambda: trained(checkpoint="nowhere/run.pt"),
        CheckpointError,
        "nowhere/run.pt must lie in a folder that is there",
    ),
    (
        "product of vectors",
        lambda: QuantMatMul(unsigned(4), signed(4))(V[0], V),
        ShapeError,
        "operands of a matrix product must have two dimensions or more",
    ),
    (
        "rule zero point",
        lambda: Quantization("base", 4, unsigned(4), zero_point="add"),
        SpecError,
        "zero_point must be one of subtract, outside, preload, not 'add'",
    ),
    (
        "override that is no mapping",
        lambda: quantized(nn.Linear(2, 2), overrides={"*": 8}),
        SpecError,
        "overrides '*', layer '': changes must be a mapping or None, not 8",
    ),
    (
        "channel not there",
        lambda: worst_inputs(layer(), 2),
        SpecError,
        "channel must be an integer from 0 to 1, not 2",
    ),
    (
        "fold lengths",
        lambda: arith.fold([1, 2], [1], REGISTER),
        ShapeError,
        "weights and inputs must have one length, not 2 and 1",
    ),
    (
        "fold bias",
        lambda: arith.fold([1], [1], REGISTER, bias=200),
        RangeError,
        "bias is 200, outside the 8-bit wrap register [-128, 127]",
    ),
    (
        "quantize integer tensor",
        lambda: a2q(v=torch.ones(2, 3, dtype=torch.int64)),
        DtypeError,
        "weights to quantize must be floats, not torch.int64",
    ),
    (
        "quantize 1-d",
        lambda: a2q(v=torch.ones(3)),
        ShapeError,
        "weights must be (C, ...), not of shape (3,)",
    ),
    (
        "quantize scale shape",
        lambda: a2q(scale=torch.ones(3)),
        ShapeError,
        "scale and norm must have one entry per channel, 2, not 3",
    ),
    (
        "quantize 1-bit weights",
        lambda: a2q(weight_bits=1),
        SpecError,
        "weight_bits must be an integer from 2 to 16, not 1",
    ),
    (
        "quantize register 1",
        lambda: a2q(acc_bits=1),
        SpecError,
        "acc_bits must be an integer from 2 to 62, not 1",
    ),
    (
        "quantize without 0",
        lambda: a2q(input_spec=between(1, 4)),
        SpecError,
        "input_spec must hold 0 and another input for the zero-centred budget, not [1, 4]",
    ),
    (
        "quantize beyond 53 bits",
        lambda: a2q(v=torch.ones(2, 99), weight_bits=16, input_spec=unsigned(40)),
        HostWidthError,
        "99 products of 16-bit weights and UINT40 must stay below 2^53 to be decided exactly",
    ),
    (
        "model without layers",
        lambda: quantized(nn.ReLU()),
        ModelError,
        "the model must hold a torch.nn.Linear or torch.nn.Conv2d to quantize",
    ),
    (
        "model quantized twice",
        lambda: quantized(quantized(nn.Sequential(nn.Linear(2, 2)))),
        ModelError,
        "layer '0' is quantized already",
    ),
    (
        "model method",
        lambda: quantized(nn.Linear(2, 2), method="a2q++"),
        SpecError,
        "method must be one of base, a2q, a2q+, budget, not 'a2q++'",
    ),
    (
        "model without acc_bits",
        lambda: quantized(nn.Linear(2, 2), acc_bits=None),
        SpecError,
        "acc_bits must be an integer from 2 to 62, not None",
    ),
    (
        "model base with acc_bits",
        lambda: quantized(nn.Linear(2, 2), method="base"),
        SpecError,
        'method "base" bounds nothing, so acc_bits must be None',
    ),
    (
        "model weight bits",
        lambda: quantized(nn.Linear(2, 2), weight_bits=1),
        SpecError,
        "weight_bits must be an integer from 2 to 16, not 1",
    ),
    (
        "model act bits",
        lambda: quantized(nn.Linear(2, 2), act_bits=0),
        SpecError,
        "act_bits must be an integer from 1 to 16, not 0",
    ),
    (
        "model reflect padding",
        lambda: quantized(nn.Sequential(nn.Conv2d(1, 1, 3, padding_mode="reflect"))),
        ModelError,
        "layer '0' must pad with zeros, not 'reflect'",
    ),
    (
        "model same padding",
        lambda: quantized(nn.Sequential(nn.Conv2d(1, 1, 2, padding="same"))),
        ModelError,
        "layer '0': padding \"same\" must be equal on both sides, as of an odd kernel",
    ),
    (
        "freeze a float model",
        lambda: to_layers(nn.Linear(2, 2)),
        ModelError,
        "the model must hold quantized layers; quantize_model makes them",
    ),
    (
        "empty calibration",
        lambda: quantized(nn.Linear(2, 2), calibration=torch.zeros(0, 2)),
        ShapeError,
        "calibration must hold at least one input",
    ),
    (
        "empty calibration list",
        lambda: quantized(nn.Linear(2, 2), calibration=[]),
        ShapeError,
        "calibration must hold at least one input",
    ),
    (
        "integer network register",
        lambda: to_integer(quantized(nn.Linear(2, 2)), 12),
        SpecError,
        "accumulator must be an Accumulator or a Datapath, not 12",
    ),
    (
        "edge bits",
        lambda: quantized(nn.Linear(2, 2), edge_bits=1),
        SpecError,
        "edge_bits must be an integer from 2 to 16, not 1",
    ),
    (
        "fold floats",
        lambda: arith.fold([1.5], [1], REGISTER),
        DtypeError,
        "weights must be integers, not 1.5",
    ),
    (
        "fold bool",
        lambda: arith.fold([1], [True], REGISTER),
        DtypeError,
        "inputs must be integers, not True",
    ),
    (
        "signed inputs of one bit",
        lambda: quantized(nn.Sequential(nn.Linear(2, 2)), act_bits=1),
        SpecError,
        "layer '0': act_bits must be at least 2 for inputs that can be negative, not 1",
    ),
    (
        "bits vast",
        lambda: Accumulator(10**5000),
        SpecError,
        "Accumulator bits must be an integer from 2 to 62, not one of over 1000 bits",
    ),
    (
        "word dotless",
        lambda: IntSpec.parse("\u0131NT4"),
        SpecError,
        'IntSpec text must be like "INT4", "UINT8" (1 to 62 bits) or "[-7, 8]", not \'\u0131NT4\'',
    ),
    (
        "word padded",
        lambda: IntSpec.parse("[-0, 007]"),
        SpecError,
        'IntSpec text must be like "INT4", "UINT8" (1 to 62 bits) or "[-7, 8]", not \'[-0, 007]\'',
    ),
    (
        "epochs",
        lambda: trained(epochs=-1),
        SpecError,
        "epochs must be an integer from 0 to 2147483647, not -1",
    ),
    (
        "batch",
        lambda: trained(batch=0),
        SpecError,
        "batch must be an integer from 1 to 2147483647, not 0",
    ),
    (
        "learning rate a word",
        lambda: trained(learning_rate="fast"),
        SpecError,
        "learning_rate must be a finite number of at least 0, not 'fast'",
    ),
    (
        "learning rate NaN",
        lambda: trained(learning_rate=float("nan")),
        SpecError,
        "learning_rate must be a finite number of at least 0, not nan",
    ),
    (
        "learning rate vast",
        lambda: trained(learning_rate=10**5000),
        SpecError,
        "learning_rate must be a finite number of at least 0, not one of over 1000 bits",
    ),
    (
        "penalty weight a bool",
        lambda: trained(penalty_weight=True),
        SpecError,
        "penalty_weight must be a finite number of at least 0, not True",
    ),
    (
        "weight decay below 0",
        lambda: parameter_groups(nn.Linear(2, 2), weight_decay=-0.1),
        SpecError,
        "weight_decay must be a finite number of at least 0, not -0.1",
    ),
    (
        "training seed",
        lambda: trained(seed=-1),
        SpecError,
        "seed must be an integer from 0 to 9223372036854775807, not -1",
    ),
    (
        "nothing to train",
        lambda: trained(nn.Flatten()),
        ModelError,
        "the model must hold parameters to train",
    ),
    (
        "classes of other images",
        lambda: trained(y=torch.zeros(3, dtype=torch.int64)),
        ShapeError,
        "x and y must hold as many, at least one, not 2 and 3",
    ),
    (
        "no images",
        lambda: trained(x=torch.ones(0, 2), y=torch.zeros(0, dtype=torch.int64)),
        ShapeError,
        "x and y must hold as many, at least one, not 0 and 0",
    ),
    (
        "recipe no file",
        lambda: read_recipe("none.toml"),
        RecipeError,
        "none.toml cannot be read: No such file or directory",
    ),
    (
        "recipe not TOML",
        lambda: recipe(text="seed 0"),
        RecipeError,
        "r.toml must be a TOML file: Expected '=' after a key in a key/value pair (at line 1, column 6)",
    ),
    (
        "recipe not UTF-8",
        lambda: recipe(text="# \xff"),
        RecipeError,
        "r.toml must be a TOML file: 'utf-8' codec can't decode byte 0xff in position 2: invalid start byte",
    ),
    (
        "recipe key unknown",
        lambda: recipe("seed = 0", "seed = 0\nsede = 1"),
        RecipeError,
        "r.toml: keys of the recipe must be of seed, data, network, quantization,"
        " quantized_training, float_training, not 'sede'",
    ),
    (
        "recipe seed missing",
        lambda: recipe("seed = 0", ""),
        RecipeError,
        "r.toml: the recipe must have seed; its keys are seed, data, network, quantization,"
        " quantized_training, float_training",
    ),
    (
        "recipe seed",
        lambda: recipe("seed = 0", "seed = -1"),
        RecipeError,
        "r.toml: seed must be an integer from 0 to 9223372036854775807, not -1",
    ),
    (
        "recipe seed a bool",
        lambda: recipe("seed = 0", "seed = true"),
        RecipeError,
        "r.toml: the recipe seed must be an integer, not True",
    ),
    (
        "recipe table a number",
        lambda: recipe(
            text="seed = 0\nnetwork = 3\n"
            + RECIPE[RECIPE.index("[float") :]
            + "[data]\nsource = 'digits'"
        ),
        RecipeError,
        "r.toml: the recipe network must be a table, not 3",
    ),
    (
        "recipe data key",
        lambda: recipe("source =", "sauce ="),
        RecipeError,
        "r.toml: keys of [data] must be of source, not 'sauce'",
    ),
    (
        "recipe data of another kind",
        lambda: recipe('"digits"', '"my.csv"'),
        RecipeError,
        "r.toml: [data] source must be \"digits\" or an .npz file, not 'my.csv'",
    ),
    (
        "recipe network key",
        lambda: recipe("hidden =", "layers ="),
        RecipeError,
        "r.toml: keys of [network] must be of model, hidden, checkpoint, not 'layers'",
    ),
    (
        "recipe network missing",
        lambda: recipe('model = "mlp"', ""),
        RecipeError,
        "r.toml: [network] must have model; its keys are model, hidden, checkpoint",
    ),
    (
        "recipe network word",
        lambda: recipe('"mlp"', '"resnet"'),
        RecipeError,
        'r.toml: [network] model must be "mlp", "cnn" or "module:function", not \'resnet\'',
    ),
    (
        "recipe network function",
        lambda: recipe('"mlp"', '"resnet:18"'),
        RecipeError,
        'r.toml: [network] model must be "mlp", "cnn" or "module:function", not \'resnet:18\'',
    ),
    (
        "recipe network without layers",
        lambda: recipe("hidden = [96, 96]", ""),
        RecipeError,
        "r.toml: [network] hidden must hold the sizes of the hidden layers of mlp",
    ),
    (
        "recipe network size",
        lambda: recipe("[96, 96]", "[96, 0.5]"),
        RecipeError,
        "r.toml: [network] sizes in hidden must be an integer from 1 to 1048576, not 0.5",
    ),
    (
        "recipe network size alone",
        lambda: recipe("[96, 96]", "96"),
        RecipeError,
        "r.toml: [network] hidden must be an array, not 96",
    ),
    (
        "recipe network of one's own with sizes",
        lambda: recipe('"mlp"', '"a:b"'),
        RecipeError,
        "r.toml: [network] hidden must be absent where a:b makes the network",
    ),
    (
        "recipe trained and loaded",
        lambda: recipe("hidden =", 'checkpoint = "a.pt"\nhidden ='),
        RecipeError,
        "r.toml: the recipe must have either [float_training] or checkpoint in [network]",
    ),
    (
        "recipe penalty in float",
        lambda: recipe("learning_rate = 2e-3", "learning_rate = 2e-3\npenalty_weight = 1"),
        RecipeError,
        "r.toml: keys of [float_training] must be of epochs, learning_rate, batch, weight_decay,"
        " not 'penalty_weight'",
    ),
    (
        "recipe training key",
        lambda: recipe("learning_rate = 5e-3", "lr = 5e-3"),
        RecipeError,
        f"r.toml: keys of [quantized_training] must be of {TRAINING_KEYS}, not 'lr'",
    ),
    (
        "recipe training missing",
        lambda: recipe("learning_rate = 5e-3", ""),
        RecipeError,
        f"r.toml: [quantized_training] must have learning_rate; its keys are {TRAINING_KEYS}",
    ),
    (
        "recipe training a word",
        lambda: recipe("2e-3", '"fast"'),
        RecipeError,
        "r.toml: [float_training] learning_rate must be a number, not 'fast'",
    ),
    (
        "recipe training not finite",
        lambda: recipe("2e-3", "nan"),
        RecipeError,
        "r.toml: [float_training] learning_rate must be a finite number of at least 0, not nan",
    ),
    (
        "recipe batch",
        lambda: recipe("5e-3", "5e-3\nbatch = 0"),
        RecipeError,
        "r.toml: [quantized_training] batch must be an integer from 1 to 2147483647, not 0",
    ),
    (
        "recipe quantization key",
        lambda: recipe("acc_bits =", "acc_bit ="),
        RecipeError,
        f"r.toml: keys of [quantization] must be of {QUANTIZATION_KEYS}, not 'acc_bit'",
    ),
    (
        "recipe quantization calibration",
        lambda: recipe("acc_bits =", "calibration ="),
        RecipeError,
        f"r.toml: keys of [quantization] must be of {QUANTIZATION_KEYS}, not 'calibration'",
    ),
    (
        "recipe quantization missing",
        lambda: recipe("weight_bits = 4", ""),
        RecipeError,
        f"r.toml: [quantization] must have weight_bits; its keys are {QUANTIZATION_KEYS}",
    ),
    (
        "recipe quantization a word",
        lambda: recipe("acc_bits = 8", 'acc_bits = "eight"'),
        RecipeError,
        "r.toml: [quantization] acc_bits must be an integer or \"none\", not 'eight'",
    ),
    (
        "recipe quantization none",
        lambda: recipe("act_bits = 4", 'act_bits = "none"'),
        RecipeError,
        "r.toml: [quantization] act_bits must be an integer, not 'none'",
    ),
    (
        "recipe overrides",
        lambda: recipe("acc_bits = 8", "overrides = 8"),
        RecipeError,
        'r.toml: [quantization] overrides must be a table or "none", not 8',
    ),
    (
        "search layer",
        lambda: search([[1]], REGISTER),
        SpecError,
        "layer must be an IntLayer, not list",
    ),
    (
        "search register",
        lambda: search(layer(), 8),
        SpecError,
        "accumulator must be an Accumulator or a Datapath, not 8",
    ),
    (
        "search bias",
        lambda: search(layer(bias=[0, 900]), REGISTER),
        RangeError,
        "bias[1] is 900, outside the 8-bit wrap register [-128, 127]",
    ),
    (
        "search examples",
        lambda: search(layer(), REGISTER, examples=0),
        SpecError,
        "examples must be an integer from 1 to 1000000000, not 0",
    ),
    (
        "search examples a float",
        lambda: search(layer(), REGISTER, examples=1e3),
        SpecError,
        "examples must be an integer from 1 to 1000000000, not 1000.0",
    ),
    (
        "search seed",
        lambda: search(layer(), REGISTER, seed=-1),
        SpecError,
        "seed must be an integer from 0 to 18446744073709551615, not -1",
    ),
    (
        "simulator not callable",
        lambda: check_simulator([1]),
        SpecError,
        "function must be callable with (x, weight, accumulator), not [1]",
    ),
    (
        "simulator examples",
        lambda: check_simulator(linear, examples=-3),
        SpecError,
        "examples must be an integer from 1 to 1000000000, not -3",
    ),
    (
        "simulator seed",
        lambda: check_simulator(linear, seed=None),
        SpecError,
        "seed must be an integer from 0 to 18446744073709551615, not None",
    ),
    (
        "simulator raises",
        lambda: check_simulator(lambda x, weight, accumulator: 1 // 0),
        SimulatorError,
        "function must return outputs, not raise ZeroDivisionError('integer division or modulo by"
        f" zero'), {SMALLEST}",
    ),
    (
        "simulator shape",
        lambda: check_simulator(lambda x, weight, accumulator: x.sum(axis=0)),
        ShapeError,
        f"what function returns must be of shape (1, 1), not (0,), {SMALLEST}",
    ),
    (
        "simulator ragged",
        lambda: check_simulator(lambda x, weight, accumulator: [[1], [1, 2]]),
        ShapeError,
        "what function returns must be a rectangular array of integers, not ragged, " + SMALLEST,
    ),
    (
        "simulator floats",
        lambda: check_simulator(lambda x, weight, accumulator: x @ weight.T * 1.0),
        DtypeError,
        "what function returns must be an array of integers, not of float64, " + SMALLEST,
    ),
    (
        "simulator nothing",
        lambda: check_simulator(lambda x, weight, accumulator: None),
        DtypeError,
        "what function returns must be an array of integers, not of object, " + SMALLEST,
    ),
]


def test_there_are_at_least_sixty():
    """The table is not cut short, and no class is in it twice."""
    assert len({label for label, *_ in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize(
    ("call", "error", "text"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_bad_input(call, error, text):
    """One leaf of AccsimError that is also the builtin a caller expects, with this very text."""
    with pytest.raises(AccsimError) as caught:
        call()
    assert (type(caught.value), str(caught.value)) == (error, text)
    assert isinstance(caught.value, ValueError | TypeError | OverflowError)
