"""Networks: what their registers reach, by proof, data and attack; and two registers compared."""

import numpy as np
import pytest
import torch
from torch import nn

from a2qplus import fit, quantize_model, to_integer, to_layers
from accsim import Accumulator, bounds, simulate
from accsim.errors import ModelError
from verification.compare import compare
from verification.reach import reach


def network(acc_bits=None, method="base", **how):
    """Two convolutions and a linear layer, somewhat trained; and images."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 4, 3, stride=2), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(36, 3))
    x, y = torch.rand(40, 1, 8, 8), torch.arange(40) % 3
    settings = {"weight_bits": 4, "act_bits": 4, "edge_bits": None, "method": method} | how
    model = quantize_model(model, acc_bits=acc_bits, calibration=x, **settings)
    fit(model, x, y, epochs=1, learning_rate=1e-3, seed=0)
    return model, x


@pytest.mark.parametrize("zero_point", [None, "outside", "preload"])
def test_data_attack_and_proof_are_nested(zero_point):
    """In every channel of every layer; data are what the simulator holds; the attack goes beyond."""
    model, x = network(zero_point=zero_point)
    named = []
    found = reach(model, x, steps=8, on_layer=named.append)
    layers = to_layers(model)
    assert named == list(found) == list(layers)
    gained = 0
    for name, ends in found.items():
        layer = layers[name]
        low, high = bounds.running_extremes(layer.rows, layer.input_spec, bias=layer.bias)
        assert (ends.proved.low.tolist(), ends.proved.high.tolist()) == (
            low.tolist(),
            high.tolist(),
        )
        for inner, outer in ((ends.data.ends, ends.attack), (ends.attack, ends.proved)):
            assert (inner.low >= outer.low).all()
            assert (inner.high <= outer.high).all()
        gained += int(ends.attack.high.max() > ends.data.ends.high.max())
        gained += int(ends.attack.low.min() < ends.data.ends.low.min())
        alone = {"low": [], "high": []}
        for one in ends.inputs:
            sums = reach(model, one[None], steps=1)[name].data
            alone["low"].append(int(sums.ends.low.min()))
            alone["high"].append(int(sums.ends.high.max()))
        assert alone["low"][0] == ends.attack.low.min()
        assert alone["high"][1] == ends.attack.high.max()
    assert gained >= 4
    seen = {}

    def watch(name, layer, codes, run):
        again = simulate(layer, codes, Accumulator(20))
        axes = (0, 2, 3) if layer.is_conv else 0
        seen[name] = again.peak_low.min(axis=axes), again.peak_high.max(axis=axes)

    to_integer(model, Accumulator(32), watch=watch)(x)
    for name, (low, high) in seen.items():
        assert (found[name].data.ends.low == low).all()
        assert (found[name].data.ends.high == high).all()


def test_an_attack_reaches_the_rail_of_the_first_layer():
    """Whose inputs are free but for their range: nothing is left between attack and proof."""
    model, x = network(9, "budget")
    found = reach(model, x, steps=30)["0"]
    assert found.attack.bits == found.proved.bits == 9
    assert found.proved.of_rails(Accumulator(9)) <= 1 < found.proved.of_rails(Accumulator(8))
    assert found.attack.of_rails(Accumulator(9)) > 0.95
    up, down = int(found.proved.high.argmax()), int(found.proved.low.argmin())
    assert (up, down) != (0, 0)
    assert found.attack.high[up] > 0.95 * found.proved.high[up]
    assert found.attack.low[down] < 0.95 * found.proved.low[down]


def test_the_same_seed_reaches_the_same():
    """And neither the model's mode nor torch's own generator is changed."""
    model, x = network()
    model.train()
    state = torch.get_rng_state()
    one, two = (reach(model, x, steps=4, seed=5) for _ in range(2))
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    for name in one:
        assert (one[name].attack.high == two[name].attack.high).all()
        assert (one[name].attack.low == two[name].attack.low).all()


def test_an_attack_needs_floats():
    """Tokens cannot be moved."""
    model, _ = network()
    with pytest.raises(ModelError, match=r"^x must be floats for an attack to change them, not"):
        reach(model, torch.zeros(2, 1, 8, 8, dtype=torch.int64))


def test_equal_registers_do_not_differ():
    """A layer that fits both: nothing differs, in no layer and not at the end."""
    model, x = network(9, "budget")
    found = compare(model, x, Accumulator(9), Accumulator(32, "saturate"))
    assert (found.largest, found.changed) == (0.0, ())
    for difference in found.layers.values():
        assert difference.outputs > 0
        assert (difference.differing, difference.first_step) == (0, -1)
        assert difference.channels == difference.samples == ()


@pytest.mark.parametrize("registers", [("wrap", "saturate"), ("saturate", "wrap")])
def test_where_two_registers_differ(registers):
    """Counts, channels, samples and steps, against both simulators on the first one's codes."""
    model, x = network()
    one, two = (Accumulator(9, rule) for rule in registers)
    found = compare(model, x, one, two)
    told = {}

    def watch(name, layer, codes, _):
        a, b = (simulate(layer, codes, register) for register in (one, two))
        differs = a.output != b.output
        step = -1
        for k in range(1, layer.taps + 1):  # the first prefix after which they hold other numbers
            rows = layer.rows.copy()
            rows[:, k:] = 0
            part = type(layer)(
                rows.reshape(layer.weight.shape),
                weight_spec=layer.weight_spec,
                input_spec=layer.input_spec,
                stride=layer.stride,
                padding=layer.padding,
            )
            ends = [simulate(part, codes, register).output for register in (one, two)]
            if ((ends[0] != ends[1]) & differs).any():
                step = k - 1
                break
        axes = np.nonzero(differs)
        told[name] = (
            int(differs.sum()),
            set(axes[1 if layer.is_conv else -1].tolist()),
            set(axes[0].tolist()),
            step,
        )

    outputs = to_integer(model, one, watch=watch)(x), to_integer(model, two)(x)
    differing = 0
    for name, difference in found.layers.items():
        count, channels, samples, step = told[name]
        assert difference.differing == count
        assert (set(difference.channels), set(difference.samples)) == (channels, samples)
        assert difference.first_step == step
        differing += count > 0
    assert differing >= 2
    assert found.largest == float((outputs[0] - outputs[1]).abs().max()) > 0
    argmax = [one.argmax(dim=1) for one in outputs]
    assert found.changed == tuple((argmax[0] != argmax[1]).nonzero().flatten().tolist())
