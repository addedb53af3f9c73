"""Witnesses: their trajectory, their files, the worst order, and the text of a failed assertion."""

import json
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import nn

from a2qplus import quantize_model
from accsim import Accumulator, IntLayer, between, signed, simulate, unsigned
from accsim.arith import fold
from accsim.errors import SpecError, WitnessError
from verification import Verdict, assert_safe, decide, load_witness, oracle, save_witness
from verification.order import worst_order
from verification.register_witness import find_witness
from verification.widths import widths


def refuted(**how):
    """A witness of a layer of 3 channels."""
    layer = IntLayer(
        [[1, 0, 1, 0], [5, -7, 3, -2], [0, 0, 0, 1]],
        weight_spec=signed(4),
        input_spec=unsigned(4),
        **how,
    )
    return decide(layer, Accumulator(7, "saturate")).witness


def test_a_layer_that_is_safe_has_no_witness():
    """None of its channels passes a rail, whichever comes nearest."""
    layer = IntLayer([[1, 1], [-1, 0]], weight_spec=signed(2), input_spec=unsigned(2))
    assert find_witness(layer, Accumulator(4)) is None
    assert find_witness(layer, Accumulator(3)).channel == 0


def test_the_trajectory_is_the_register_step_by_step():
    """From the bias on; exact until the step that overflows, and on a rail there."""
    witness = refuted(bias=[0, 3, 0])
    exact, register = witness.trajectory()
    row, bias = witness.layer.rows[0].tolist(), 3
    for k in range(5):
        part = fold(row[:k], witness.x[:k].tolist(), Accumulator(7, "saturate"), bias=bias)
        assert register[k] == part.output
        assert exact[k] == bias + int(np.dot(row[:k], witness.x[:k]))
    step = witness.step
    assert register[: step + 1] == exact[: step + 1]
    assert register[step + 1] in (-64, 63)
    assert exact[step + 1] not in range(-64, 64)


def test_a_file_replays(tmp_path):
    """What is saved is loaded, equal in every field, and the oracle agrees."""
    path = tmp_path / "w.json"
    for witness in (refuted(), refuted(bias=[0, -2, 0])):
        save_witness(witness, path)
        found = load_witness(path)
        for field in ("channel", "step", "register", "product", "exact", "simulated"):
            assert getattr(found, field) == getattr(witness, field)
        assert found.x.tolist() == witness.x.tolist()
        assert found.accumulator == witness.accumulator
        told = json.loads(path.read_text())
        answer = oracle.dot(told["weight"], told["x"], 7, "saturate", bias=told["bias"])
        assert (answer.output, answer.first_overflow) == (told["simulated"], told["step"])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"step": 2}, "w.json must tell what happens: step is 0, not 2"),
        ({"step": False}, "w.json must tell what happens: step is 0, not False"),
        ({"simulated": 63.0}, "w.json must tell what happens: simulated is 63, not 63.0"),
        ({"simulated": 0}, "w.json must tell what happens: simulated is 63, not 0"),
        (
            {"schema": "accsim.witness/3"},
            "w.json must be of schema accsim.witness/1 or accsim.witness/2, not 'accsim.witness/3'",
        ),
        ({"more": 1}, "w.json must have the members of a witness: more"),
        (
            {"x": [0, 1, 0, 0]},
            "w.json is not a witness: a witness must overflow the 7-bit saturate register, not end at -7",
        ),
        ({"x": [0, 99, 0, 0]}, "w.json is not a witness: x[1] is 99, outside UINT4 [0, 15]"),
        (
            {"x": [0, 1]},
            "w.json is not a witness: weights and inputs must have one length, not 4 and 2",
        ),
        (
            {"x": [0, 1.5, 0, 0]},
            "w.json is not a witness: x must be integers, not 1.5",
        ),
        (
            {"weight": [9, 9, 9, 9]},
            "w.json is not a witness: weight[0, 0] is 9, outside INT4 [-8, 7]",
        ),
        (
            {"accumulator": {"bits": 99}},
            "w.json is not a witness: Accumulator bits must be an integer from 2 to 62, not 99",
        ),
        (
            {"channel": -1},
            "w.json is not a witness: channel must be an integer from 0 to 1099511627776, not -1",
        ),
    ],
)
def test_a_file_edited_by_hand_is_refused(tmp_path, change, text):
    """One clear error, whatever was edited."""
    path = tmp_path / "w.json"
    save_witness(refuted(), path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(WitnessError) as caught:
        load_witness(path)
    assert str(caught.value) == text


def test_a_file_too_large_to_read(tmp_path):
    """It is refused by its size."""
    with (tmp_path / "w.json").open("wb") as vast:
        vast.truncate(2**28 + 1)  # which takes no room on the disk
    with pytest.raises(WitnessError, match=r"^w.json must be a witness, not of over 268435456 b"):
        load_witness(tmp_path / "w.json")


@pytest.mark.parametrize("content", ["", "[", "[]", "7", "[" * 100_000], ids=range(5))
def test_what_is_no_witness(tmp_path, content):
    """Text, other JSON, and JSON that is too deep."""
    (tmp_path / "w.json").write_text(content)
    with pytest.raises(WitnessError, match=r"^w.json must be (a witness as JSON|of schema)"):
        load_witness(tmp_path / "w.json")
    save_witness(refuted(), tmp_path / "w.json")
    short = json.loads((tmp_path / "w.json").read_text())
    del short["bias"]
    (tmp_path / "w.json").write_text(json.dumps(short))
    with pytest.raises(WitnessError, match=r"^w.json must have the members of a witness: bias$"):
        load_witness(tmp_path / "w.json")


def test_no_order_is_worse():
    """Against all permutations of up to 6 products: the farthest end that any of them has."""
    rng = np.random.default_rng(0)
    register = Accumulator(4, "saturate")
    harmful = 0
    for _ in range(80):
        products = rng.integers(-9, 10, rng.integers(0, 7)).tolist()
        bias = int(rng.integers(-8, 8))
        order = worst_order(products, register, bias=bias)
        assert sorted(order) == list(range(len(products)))
        exact = bias + sum(products)

        def end(some, bias=bias):
            return fold(some, [1] * len(some), register, bias=bias).output

        worst = max(abs(end(list(some)) - exact) for some in permutations(products))
        assert abs(end([products[k] for k in order]) - exact) == worst
        harmful += worst > abs(end(products) - exact)
    assert harmful > 20
    with pytest.raises(
        SpecError, match=r"^accumulator must saturate: one that wraps ends the same"
    ):
        worst_order([1], Accumulator(4))


@pytest.mark.parametrize("spec", [between(2, 9), between(-9, -3), between(-2, 7)], ids=str)
def test_no_entry_of_a_witness_can_move(spec):
    """Each a step nearer to 0, or at rest, the others staying: the register holds every sum."""
    rng = np.random.default_rng(5)
    idle = min(max(0, spec.min), spec.max)
    moved = 0
    for _ in range(60):
        layer = IntLayer(rng.integers(-7, 8, (1, 12)), weight_spec=signed(4), input_spec=spec)
        register = Accumulator(max(2, int(decide(layer, Accumulator(30)).least_bits) - 1))
        witness = decide(layer, register).witness
        if witness is None:
            continue
        assert simulate(layer, witness.x, register).overflow_count[0] > 0
        for k in np.flatnonzero(witness.x != idle).tolist():
            for nearer in (idle, int(witness.x[k]) + (1 if witness.x[k] < idle else -1)):
                x = witness.x.copy()
                x[k] = nearer
                assert simulate(layer, x, register).overflow_count[0] == 0
                moved += 1
    assert moved > 300


def test_assert_safe_needs_layers():
    """An empty mapping would pass whatever it was meant to hold."""
    with pytest.raises(SpecError, match=r"^assert_safe must have at least one layer$"):
        assert_safe({}, Accumulator(8))


def test_assert_safe_tells_the_witness():
    """In a few lines: where, for which input, and what would hold."""
    layer = refuted().layer
    assert_safe(layer, Accumulator(9))
    with pytest.raises(AssertionError) as caught:
        assert_safe({"conv": layer}, Accumulator(7))
    assert str(caught.value).splitlines() == [
        "layer 'conv' can overflow the 7-bit wrap register [-64, 63]",
        "  where: channel 0, step 0 of 4",
        "  there: 0 + 5·13 = 65",
        "  input: x[0] = 13; 0 elsewhere",
        "  range: inputs UINT4, weights INT4",
        "  end:   the register holds -63, the exact sum is 65",
        "  also:  1 of 1 channels can overflow",
        "  needs: 9 bits",
    ]
    with pytest.raises(AssertionError, match=r"^the layer can overflow the 7-bit wrap register"):
        assert_safe(layer, Accumulator(7))
    text = r"^assert_safe takes an IntLayer, a mapping of them or a model, not a int$"
    with pytest.raises(SpecError, match=text):
        assert_safe(7, Accumulator(7))


def test_assert_safe_takes_a_model():
    """Its frozen layers, by name."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 4))
    how = {"weight_bits": 4, "act_bits": 4, "acc_bits": 9, "edge_bits": None}
    model = quantize_model(model, calibration=torch.rand(9, 8), **how)
    assert_safe(model, Accumulator(9))
    with pytest.raises(AssertionError, match=r"^layer '0' can overflow the 4-bit wrap register"):
        assert_safe(model, Accumulator(4))


@pytest.mark.parametrize(
    "spec", [unsigned(2), signed(2), between(1, 3), between(-3, -1), between(0, 0)], ids=str
)
@pytest.mark.parametrize("bias", [None, [5]])
def test_widths_against_enumeration(spec, bias):
    """Every step, the end, any order: each the least width of what the enumeration reaches."""
    rng = np.random.default_rng(1)
    for _ in range(25):
        row = rng.integers(-3, 4, 3)
        layer = IntLayer([row], weight_spec=signed(3), input_spec=spec, bias=bias)
        found = widths(layer)
        codes = np.arange(spec.min, spec.max + 1)
        x = np.stack(np.meshgrid(codes, codes, codes), -1).reshape(-1, 3)
        start = 0 if bias is None else bias[0]
        steps = np.concatenate([np.full((len(x), 1), start), start + (x * row).cumsum(1)], 1)
        subsets = [start + (x * row * mask).sum(1) for mask in np.ndindex(2, 2, 2)]
        for width, sums in (
            (found.every_step, steps),
            (found.final, steps[:, -1]),
            (found.any_order, np.array(subsets)),
        ):
            low, high = int(sums.min()), int(sums.max())
            fitting = [p for p in range(1, 20) if -(2 ** (p - 1)) <= low and high < 2 ** (p - 1)]
            assert width.tolist() == [fitting[0]]
        assert found.final <= found.every_step <= found.any_order
        if bias is None:
            assert found.preloaded <= found.every_step
            assert found.data_type >= found.any_order
            if found.l1 is not None:
                assert found.l1 >= found.any_order
        else:
            assert found.preloaded is None
        assert (found.zero_centered is None) == (not spec.contains_zero or spec.magnitude == 0)
    assert decide(layer, Accumulator(20)).verdict is Verdict.PROVED
