"""Networks: what their registers reach, by proof, data and attack; and two registers compared."""

import numpy as np
import pytest
import torch
from torch import nn

from a2qplus import fit, quantize_model, to_integer, to_layers
from accsim import Accumulator, IntLayer, arith, bounds, signed, simulate
from accsim.errors import ModelError, ShapeError, SpecError
from verification.compare import Difference, _together, compare, compare_layer
from verification.properties import tap_inputs
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


class Odd(nn.Module):
    """A layer used twice on rows of sequences, one on four axes, a constant one, one for some."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.still, self.some = (nn.Linear(6, 6) for _ in range(4))
        self.register_buffer("table", torch.linspace(0, 1, 6))

    def forward(self, x):
        """(B, T, K) -> (T, K)."""
        h = self.one(self.one(x[:, :, None]).relu())[:, :, 0]
        h = self.two(h[:, :, None, :].transpose(0, 1)).sum(dim=(0, 2))
        h = h + self.still(self.table.expand(len(x), 6)).sum()
        return h + self.some(h) if len(x) % 2 else h


def odd():
    """Sequences (B, T, K): an even number of them does not go through all layers."""
    torch.manual_seed(1)
    x = torch.rand(9, 3, 6)
    model = quantize_model(Odd(), weight_bits=4, act_bits=4, method="base", calibration=x)
    return model, x


def test_a_network_of_any_shape_is_attacked_or_left():
    """Layers whose rows are not the inputs', or do not depend on them, keep what data reach."""
    model, x = odd()
    with torch.no_grad():  # whatever holds outside
        found = reach(model, x, steps=3)
    for name, again in reach(model, x, steps=3).items():
        assert (again.attack.high == found[name].attack.high).all()
    frozen = reach(model.requires_grad_(False), x, steps=3)
    assert (frozen["one"].attack.high == found["one"].attack.high).all()
    assert list(found) == ["one", "two", "still", "some"]
    for name, ends in found.items():
        assert (ends.data.ends.high <= ends.attack.high).all(), name
        assert (ends.attack.high <= ends.proved.high).all(), name
        assert ends.inputs.shape == (2, 3, 6)
    assert (found["still"].attack.high == found["still"].data.ends.high).all()
    assert (found["one"].attack.high > found["one"].data.ends.high).any()
    alone = reach(model, x[:2], steps=0)  # which do not reach the last layer
    assert list(alone) == ["one", "two", "still"]


def test_an_attack_stays_inside_the_range_of_x():
    """Where larger inputs would go farther, also in a layer that takes any number."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3))
    x = torch.rand(20, 4) / 2
    model = quantize_model(model, weight_bits=4, act_bits=4, method="base", calibration=2 * x)
    found = reach(model, x, steps=20)["0"]
    assert found.inputs.min() >= x.min()
    assert found.inputs.max() <= x.max()
    assert (found.attack.high < found.proved.high).all()


class Waves(nn.Module):
    """What climbs here soon falls again."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(24, 3)

    def forward(self, x):
        """(B, 24) -> (B, 3)."""
        return self.linear(torch.sin(37 * x) + 1)


def test_an_attack_keeps_the_best_of_its_steps():
    """Not the last ones, which come to 3,475 together."""
    torch.manual_seed(0)
    x = torch.rand(12, 24)
    model = quantize_model(Waves(), weight_bits=4, act_bits=4, method="base", calibration=x)
    highest = [int(reach(model, x, steps=12, seed=n)["linear"].attack.high.max()) for n in range(4)]
    assert sum(highest) > 3570


def test_an_attack_leaves_the_model_as_it_was():
    """Statistics of batches and dropout, too, where the model is being trained."""
    torch.manual_seed(0)
    x = torch.rand(20, 6)
    layers = [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 3)]
    how = {"weight_bits": 4, "act_bits": 4, "method": "base"}
    model = quantize_model(nn.Sequential(*layers), calibration=x, **how).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one, two = (reach(model, x, steps=3) for _ in range(2))
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name in one:
        assert (one[name].attack.high == two[name].attack.high).all()


def test_what_an_attack_cannot_start_from():
    """No input, no number of steps."""
    model, x = network()
    with pytest.raises(ShapeError, match=r"^x must have at least one input$"):
        reach(model, x[:0])
    with pytest.raises(SpecError, match=r"^steps must be an integer from 0 to 1000000, not -1$"):
        reach(model, x, steps=-1)


def test_registers_may_agree_after_both_have_overflowed():
    """Then they differ from a later step on, which is found by following them."""
    layer = IntLayer([[-4, -4]], weight_spec=signed(3), input_spec=signed(3))
    one, two = Accumulator(3), Accumulator(2)
    found = compare_layer(layer, [[-4, -3], [0, 0]], one, two)
    assert (found.first_step, found.differing, found.samples) == (1, 1, (0,))
    pair = IntLayer([[0, 0], [-4, -4]], weight_spec=signed(3), input_spec=signed(3))
    found = compare_layer(pair, [-4, -3], one, two)
    assert (found.channels, found.samples) == ((1,), (0,))


@pytest.mark.parametrize("seed", range(6))
def test_the_first_step_against_following_every_output(seed):
    """Large products, so that registers often agree again; linear and convolution, and a bias."""
    rng = np.random.default_rng(seed)
    missed = 0
    for _ in range(40):
        specs = {"weight_spec": signed(4), "input_spec": signed(4)}
        bias = rng.integers(-2, 2, 2)
        if seed % 2:
            layer = IntLayer(rng.integers(-8, 8, (2, 1, 2, 2)), **specs, bias=bias, padding=1)
            x = rng.integers(-8, 8, (2, 1, 2, 3))
        else:
            layer = IntLayer(rng.integers(-8, 8, (2, 4)), **specs, bias=bias)
            x = rng.integers(-8, 8, (3, 4))
        rules = rng.choice(["wrap", "saturate"], 2)
        one, two = (Accumulator(int(rng.integers(2, 6)), str(rule)) for rule in rules)
        found = compare_layer(layer, x, one, two)
        steps, overflows = [], []
        for _, channel, taps in tap_inputs(layer, x):
            held = [int(bias[channel])] * 2
            products = [int(q) * v for q, v in zip(layer.rows[channel], taps, strict=True)]
            step, over = None, None
            for k, product in enumerate(products):
                over = (
                    k
                    if over is None and held[0] + product not in range(one.min, one.max + 1)
                    else over
                )
                held = [arith.reduce(held[i] + product, (one, two)[i]) for i in (0, 1)]
                step = k if step is None and held[0] != held[1] else step
            if held[0] != held[1]:
                steps.append(step)
                overflows.append(over)
        assert found.differing == len(steps)
        assert found.first_step == min(steps, default=-1)
        missed += bool(steps) and min(steps) not in overflows
    assert missed > 0 or seed


def test_calls_of_one_layer_are_told_together():
    """The first step of all calls, and every channel and row that differs in any."""
    torch.manual_seed(3)
    layer = nn.Linear(6, 6)
    model, x = nn.Sequential(layer, nn.ReLU(), layer), torch.rand(12, 6)
    model = quantize_model(model, weight_bits=4, act_bits=4, method="base", calibration=x)
    registers = Accumulator(8), Accumulator(7, "saturate")
    names = to_layers(model)
    parts = {name: [] for name in names}

    def watch(name, frozen, codes, _):
        parts[name].append(compare_layer(frozen, codes, *registers))

    to_integer(model, registers[0], watch=watch)(x)
    found = compare(model, x, *registers).layers
    assert _together([Difference(4, 0, (), (), -1), Difference(4, 1, (2,), (3,), 5)]) == (
        Difference(8, 1, (2,), (3,), 5)
    )
    for name, calls in parts.items():
        steps = [part.first_step for part in calls if part.first_step >= 0]
        assert found[name].first_step == min(steps, default=-1)
        assert found[name].outputs == sum(part.outputs for part in calls)
        assert set(found[name].channels) == {c for part in calls for c in part.channels}


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
