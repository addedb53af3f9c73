"""What is made of decisions on datapaths: files, reports, pages, searches, comparisons, remarks."""

import inspect
import json
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from torch import nn

from a2qplus import quantize_model, to_integer
from accsim import Accumulator, Datapath, IntLayer, arith, between, signed, simulate, unsigned
from accsim.errors import RangeError, ReportError, SpecError, WitnessError
from verification import (
    Verdict,
    assert_safe,
    decide,
    load_witness,
    report,
    save_witness,
    search,
    strategies,
)
from verification.compare import compare, compare_layer
from verification.datapaths import datapath_remarks
from verification.folds import type_folds
from verification.json_file import datapath_json, datapath_of
from verification.network import comparison_json
from verification.order import bad_order, worst_order
from verification.page import page
from verification.plot import trajectory_plot
from verification.properties import oracle_answers, tap_inputs
from verification.reading import read_reports
from verification.report import layers_json, sealed
from verification.schema import REPORT
from verification.search import overflows
from verification.starts import decide_start
from verification.tables import levels_table, witness_table
from verification.tiles import tile_widths
from verification.traces import trace
from verification.witness import witness_of
from verification.words import rails_word

PAIR = Accumulator(16, "saturate", terms=2, rail="sum")
AVX2 = Datapath([PAIR, Accumulator(32)], name="avx2")
LANE = Datapath([PAIR, Accumulator(16, terms=128), Accumulator(32)], order=(2, 0, 1))
LAYER = IntLayer([[127, 1, 127, 2], [1, 1, 1, 1]], weight_spec=signed(8), input_spec=unsigned(8))


def refuted(datapath=AVX2, layer=LAYER):
    """A witness of the pairs, which saturate."""
    return decide(layer, datapath).witness


def test_a_witness_names_the_level():
    """One line for people; the place, what the register held, and the item that was added."""
    layer = IntLayer([[127, 127, 127, 127]], weight_spec=signed(8), input_spec=unsigned(8))
    witness = refuted(layer=layer)
    assert str(witness) == (
        "channel 0, step 1: 508 + 32385 = 32893, outside [-32768, 32767] of level 0 (16-bit saturate"
        " register); the datapath ends at 32767, the exact sum is 32893"
    )
    assert (witness.level, witness.rails, witness.added) == (0, PAIR, 1)
    assert witness.trajectory() == ([0, 508, 32893], [0, 508, 32767])


def test_a_witness_of_the_level_above():
    """The register of the level that overflows over the items of its group, some of them idle."""
    tree = Datapath([Accumulator(12, terms=2), Accumulator(6, "saturate", terms=2), Accumulator(9)])
    layer = IntLayer([[1, 2, 3, 4, 5, 6]], weight_spec=signed(4), input_spec=unsigned(2))
    witness = refuted(tree, layer)
    assert (witness.level, witness.step, witness.x.tolist()) == (1, 5, [0, 0, 0, 0, 3, 3])
    assert witness.trajectory() == ([0, 33], [0, 31])


@pytest.mark.parametrize("datapath", [AVX2, LANE, Datapath([Accumulator(9)], bias="last")])
def test_files_replay(datapath, tmp_path):
    """A witness of a datapath is read as it was written, and one of a register as ever."""
    layer = IntLayer([[127] * 4], weight_spec=signed(8), input_spec=unsigned(8), bias=[3])
    witness = refuted(datapath, layer)
    path = tmp_path / "w.json"
    save_witness(witness, path)
    told = json.loads(path.read_text())
    assert told["schema"] == "accsim.witness/2"
    found = load_witness(path)
    for name in ("level", "channel", "step", "register", "product", "exact", "simulated"):
        assert getattr(found, name) == getattr(witness, name)
    assert found.accumulator == datapath
    save_witness(refuted(Datapath([Accumulator(9)]), layer), path)
    assert json.loads(path.read_text())["schema"] == "accsim.witness/1"
    assert load_witness(path).accumulator == Accumulator(9)


def test_a_witness_without_taps(tmp_path):
    """A bias alone can be too much for what is read out."""
    layer = IntLayer(np.zeros((1, 0), int), weight_spec=signed(2), input_spec=signed(2), bias=[9])
    witness = refuted(Datapath([Accumulator(8), Accumulator(4)]), layer)
    save_witness(witness, tmp_path / "w.json")
    assert str(load_witness(tmp_path / "w.json")) == str(witness)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"level": 1}, "w.json must tell what happens: level is 0, not 1"),
        ({"level": False}, "w.json must tell what happens: level is 0, not False"),
        ({"step": 0}, "w.json must tell what happens: step is 1, not 0"),
        (
            {"weight": [127, 127, True, 0]},
            "w.json is not a witness: weight must be integers, not True",
        ),
        ({"schema": []}, "w.json must be of schema accsim.witness/1 or accsim.witness/2, not []"),
        ({"register": 4}, "w.json must tell what happens: register is 508, not 4"),
        ({"accumulator": {}}, "w.json must have the members of a witness: accumulator"),
        (
            {"datapath": {"levels": []}},
            "w.json is not a witness: 'inputs'",
        ),
        (
            {"x": [0, 0, 0, 0]},
            "w.json is not a witness: a witness must overflow some level, not end at 0",
        ),
    ],
)
def test_files_that_claim_too_much(change, text, tmp_path):
    """One line says what is wrong."""
    layer = IntLayer([[127, 127, 127, 127]], weight_spec=signed(8), input_spec=unsigned(8))
    path = tmp_path / "w.json"
    save_witness(refuted(layer=layer), path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(WitnessError) as caught:
        load_witness(path)
    assert str(caught.value) == text


def test_a_level_is_no_register(tmp_path):
    """A file of a register with terms or a rail is refused: it would not be simulated so."""
    path = tmp_path / "w.json"
    save_witness(decide(LAYER, Accumulator(9)).witness, path)
    content = json.loads(path.read_text())
    content["accumulator"]["terms"] = 2
    path.write_text(json.dumps(content))
    with pytest.raises(WitnessError) as caught:
        load_witness(path)
    assert str(caught.value) == (
        "w.json is not a witness: accumulator must be a register, not a level of a datapath"
    )


def sealed_report(datapath=AVX2, layers=None):
    """A report of layers in a datapath."""
    layers = layers or {"fc": LAYER}
    reports = {name: decide_start(layer, datapath) for name, layer in layers.items()}
    return sealed(
        {
            "name": "net",
            "verdict": str(report.overall(reports)),
            "layers": layers_json(layers, reports),
        }
    )


def reread(content, tmp_path):
    """As it comes back from a file, its digest that of what it says."""
    path = tmp_path / "r.json"
    path.write_text(json.dumps({**content, "digest": report.digest(content)}))
    return read_reports(path)


@pytest.mark.parametrize("datapath", [AVX2, LANE, Datapath([Accumulator(9)])], ids=str)
def test_reports_tell_of_levels(datapath, tmp_path):
    """The datapath, and each level as it was decided; read again, and drawn."""
    ends = IntLayer([[5, -5]], weight_spec=signed(4), input_spec=between(4, 5))
    content = sealed_report(datapath, {"fc": LAYER, "ends": ends})
    layer = content["layers"]["ends"]
    assert layer["channel_bits"] == decide(ends, datapath).channel_bits.tolist()
    layer = content["layers"]["fc"]
    found = decide(LAYER, datapath)
    assert layer["accumulator"] == {"bits": found.accumulator.register.bits} | {
        "overflow": "wrap",
        "signed": True,
    }
    assert layer["least_bits"] == found.least_bits
    assert layer["channel_bits"] == found.channel_bits.tolist()
    for told, level in zip(layer["levels"], found.levels, strict=True):
        assert told["verdict"] == str(level.verdict)
        assert told["rails"] == list(level.rails)
        assert (told["least_bits"], told["longest_fold"]) == (level.least_bits, level.longest_fold)
        assert told["channel_bits"] == level.channel_bits.tolist()
        assert told["unsafe_channels"] == list(level.unsafe_channels)
        assert told["undecided_channels"] == list(level.undecided_channels)
    assert reread(content, tmp_path) == [content]
    assert str(datapath) in page("t", [content])
    assert levels_table("t", content["layers"]).row_count == 2 * len(datapath.levels)


def test_reports_of_registers_have_no_levels():
    """Their members are what they were."""
    layer = sealed_report(Accumulator(9))["layers"]["fc"]
    assert {"datapath", "levels", "remarks"}.isdisjoint(layer)
    assert "Each level" not in page("t", [sealed_report(Accumulator(9))])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"levels": []},
            "r.json must tell of every level of layer 'fc', and of no more",
        ),
        (
            {"verdict": "proved", "witness": None},
            "r.json must refute layer 'fc' if a level of it is, and only then",
        ),
    ],
)
def test_reports_that_disagree_with_themselves(change, text, tmp_path):
    """What levels say, and what is said of the layer."""
    content = sealed_report()
    content["layers"]["fc"].update(change)
    content["verdict"] = content["layers"]["fc"]["verdict"]
    with pytest.raises(ReportError) as caught:
        reread(content, tmp_path)
    assert str(caught.value) == text


def test_a_witness_of_another_datapath(tmp_path):
    """Is not one of this layer."""
    content = sealed_report()
    other = sealed_report(replace(AVX2, name="other"))
    content["layers"]["fc"]["witness"] = other["layers"]["fc"]["witness"]
    with pytest.raises(ReportError) as caught:
        reread(content, tmp_path)
    assert str(caught.value) == "r.json must have a witness of layer 'fc' in that layer's register"


def test_a_bias_that_cannot_be_held(tmp_path):
    """Refutes a layer, of whose levels nothing more is told."""
    layer = IntLayer([[1, 1]], weight_spec=signed(8), input_spec=unsigned(8), bias=[2**20])
    tree = Datapath([PAIR, Accumulator(16)])
    content = sealed_report(tree, {"fc": layer})
    told = content["layers"]["fc"]
    assert (told["verdict"], told["levels"], told["start"]["value"]) == ("refuted", [], 2**20)
    assert reread(content, tmp_path) == [content]


def test_a_picture_of_a_level(tmp_path):
    """Drawn over the items of the group that overflows."""
    trajectory_plot(tmp_path / "w.png", refuted(LANE, tall()))
    assert (tmp_path / "w.png").stat().st_size > 1000


def test_a_table_of_a_level():
    """Each item of the group, the places and taps that it comes from; and a bias that is last."""
    layer = IntLayer([[1, 2, 3, 7, 5]], weight_spec=signed(4), input_spec=unsigned(2), bias=[4])
    tree = Datapath([Accumulator(8, terms=2), Accumulator(5)], order=(0, 2, 1), bias="last")
    made = witness_table("t", refuted(tree, layer))
    cells = [list(column.cells) for column in made.columns]
    assert [column.header for column in made.columns] == [
        "places", "taps", "item", "exact sum", "register",
    ]  # fmt: skip
    assert cells == [
        ["0 to 1", "2 to 3", "4 to 5", "bias"],
        ["0, 2", "1, 3", "4", ""],
        ["0", "14", "0", "4"],
        ["0", "14", "14", "18"],
        ["0", "14", "14", "[red]-14[/] (not 18)"],
    ]


def tall():
    """BitNet's codes: pairs never saturate, lanes of 128 pairs wrap."""
    return IntLayer([[2] * 512], weight_spec=between(0, 2), input_spec=signed(8))


def test_the_report_on_bitnet():
    """128 pairs of at most 508 in an int16 lane: 65,024; 64 pairs always fit."""
    tree = replace(LANE, order=None)
    found = decide(tall(), tree)
    assert [level.verdict for level in found.levels] == [
        Verdict.PROVED, Verdict.REFUTED, Verdict.PROVED,
    ]  # fmt: skip
    assert [level.longest_fold for level in found.levels] == [128, 64, None]
    assert type_folds(tree, between(0, 2), signed(8)) == (128, 64, 32768)
    assert (found.witness.level, found.witness.register + found.witness.product) == (1, 32768)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_folds_by_types_are_longest(level):
    """So many items of worst weights and inputs fit each register, one more does not."""
    tree = Datapath(
        [Accumulator(8, terms=2), Accumulator(9, terms=3), Accumulator(10, signed=False)]
    )
    for weights, inputs in product(
        (between(0, 2), between(-1, 2), between(-3, 1)), (between(0, 5), between(-3, 2))
    ):
        corners = [q * x for q in (weights.min, weights.max) for x in (inputs.min, inputs.max)]
        register, unit = tree.levels[level], (1, 2, 6)[level]
        most = type_folds(tree, weights, inputs)[level]
        for n, fits in ((most, True), (most + 1, False)):
            ends = (min(0, *corners) * unit * n, max(0, *corners) * unit * n)
            assert (register.min <= ends[0] and ends[1] <= register.max) == fits
    assert type_folds(tree, between(0, 0), signed(4)) == (None, None, None)


@pytest.mark.parametrize("spec", [unsigned(3), signed(3), between(2, 4)], ids=str)
def test_searches_find_what_decisions_refute(spec):
    """Overflow of any level, its input as near 0 as it goes; nothing where it is proved."""
    rng = np.random.default_rng(3)
    found = 0
    for order in (None, (1, 3, 0, 2)):
        layer = IntLayer(rng.integers(-4, 4, (2, 7)), weight_spec=signed(3), input_spec=spec)
        for bits in ((5, 7), (6, 6), (9, 6), (12, 12)):
            inner = Accumulator(bits[0], "saturate", terms=3, rail="sum")
            tree = Datapath([inner, Accumulator(bits[1])], order=order)
            witness = search(layer, tree, examples=300)
            assert (witness is None) == (decide(layer, tree).verdict is Verdict.PROVED)
            if witness is None:
                continue
            found += 1
            x, rest = witness.x.tolist(), min(max(0, spec.min), spec.max)
            assert str(search(layer, tree, examples=300)) == str(witness)
            for k, value in enumerate(x):
                nearer = value + (1 if value < rest else -1)
                moved = [*x[:k], nearer, *x[k + 1 :]]
                if value != rest:
                    assert simulate(witness.layer, moved, tree).overflow_count.tolist() == [0]
    assert found == 6


def test_comparisons_on_either_side():
    """How many outputs differ, and the first place at which either overflows."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (40, 6))
    layer = IntLayer(rng.integers(-128, 128, (3, 6)), weight_spec=signed(8), input_spec=unsigned(8))
    exact = Accumulator(32)
    found = compare_layer(layer, x, AVX2, exact)
    run = simulate(layer, x, AVX2)
    differs = run.output != simulate(layer, x, exact).output
    assert found.differing == int(differs.sum()) > 0
    assert found.first_step == int(run.first_overflow[differs].min())
    assert compare_layer(layer, x, exact, AVX2).first_step == found.first_step
    other = replace(AVX2, order=(1, 0, 2))
    turned = compare_layer(layer, x, AVX2, other)
    assert turned.differing > 0
    assert turned.first_step == -1
    assert compare_layer(layer, x, AVX2, replace(AVX2, order=tuple(range(3)))).differing == 0
    again = IntLayer([[-4, -4]], weight_spec=signed(3), input_spec=signed(3))
    narrow = (Accumulator(3), Accumulator(2))  # both overflow at step 0, and agree until step 1
    plain = compare_layer(again, [[-4, -3]], *narrow)
    assert plain.first_step == 1
    assert compare_layer(again, [[-4, -3]], Datapath([narrow[0]]), narrow[1]) == plain


def test_assert_safe_names_the_level():
    """The lines of a register, of the level that overflows; and what each level needs."""
    layer = IntLayer([[127, 127, 127, 127]], weight_spec=signed(8), input_spec=unsigned(8))
    with pytest.raises(AssertionError) as caught:
        assert_safe({"fc": layer}, replace(AVX2, order=(0, 2, 1, 3, 4)))
    assert str(caught.value).splitlines() == [
        "layer 'fc' can overflow level 0 (16-bit saturate register) [-32768, 32767]",
        "  where: channel 0, step 1 of 5",
        "  there: 508 + 32385 = 32893",
        "  input: x[0] = 4, x[2] = 255; 0 elsewhere",
        "  range: inputs UINT8, weights INT8",
        "  end:   the datapath ends at 32767, the exact sum is 32893",
        "  also:  1 of 1 channels can overflow",
        "  needs: 17, 18 bits, by level from the products on",
    ]
    assert_safe(layer, Datapath([replace(PAIR, bits=17), Accumulator(32)]))


def test_levels_that_do_not_nest_are_said():
    """Registers that a single item can overflow; read-outs are meant to."""
    tree = Datapath([Accumulator(8, signed=False, terms=2), Accumulator(8), Accumulator(4)])
    assert datapath_remarks(tree) == [
        "level 1 (8-bit wrap register) is narrower than what level 0 hands over: [0, 255]"
    ]
    assert datapath_remarks(LANE) == []
    content = sealed_report(tree)
    assert content["layers"]["fc"]["remarks"] == datapath_remarks(tree)
    assert datapath_remarks(tree)[0] in page("t", [content])


@pytest.mark.parametrize("seed", range(3))
def test_tiles(seed):
    """Widths of tiles and of their sum by all inputs; what AXE asks is never less."""
    rng = np.random.default_rng(seed)
    for tile, spec in product((1, 2, 3, 8), (between(0, 3), between(-2, 1), between(1, 2))):
        layer = IntLayer(rng.integers(-4, 4, (2, 5)), weight_spec=signed(3), input_spec=spec)
        found = tile_widths(layer, tile)
        for inner, outer in ((0, 0), (-1, 0), (0, -1)):
            bits = (found.inner + inner, found.outer + outer)
            if min(bits) < 2:
                continue
            tree = Datapath([Accumulator(bits[0], terms=tile), Accumulator(bits[1])])
            levels = [level.verdict for level in decide(layer, tree).levels]
            assert (Verdict.REFUTED in levels) == (bits != (found.inner, found.outer)), (
                found,
                bits,
            )
        assert found.axe_outer >= found.outer
        assert (found.axe_inner is None) == (spec.min > 0)
        assert found.axe_inner is None or found.axe_inner >= found.inner


def test_what_axe_asks():
    """Its figures by its own formulas: 16-bit tiles of 128 of 4,096 products take 21 bits."""
    layer = IntLayer([[1] * 4096], weight_spec=signed(2), input_spec=unsigned(8))
    found = tile_widths(layer, 128)
    assert (found.inner, found.outer, found.axe_inner, found.axe_outer) == (16, 21, 16, 21)
    with pytest.raises(SpecError) as caught:
        tile_widths(layer, 0)
    assert str(caught.value) == "tile must be an integer from 1 to 1099511627776, not 0"


def test_bad_orders():
    """Of few products the worst of all; of many as bad as it says, and no better than as given."""
    rng = np.random.default_rng(1)
    inner = Accumulator(6, "saturate", terms=2)
    for order in (None, (2, 0, 1)):
        tree = Datapath([inner, Accumulator(7, "saturate")], order=order)
        for count in (1, 5, 6, 12, 30):
            products = rng.integers(-40, 41, count).tolist()
            found = bad_order(products, tree, bias=3)
            assert sorted(found.order) == list(range(count))

            def harm(order, products=products, tree=tree):
                moved = [products[k] for k in order]
                return abs(oracle_answers(moved, tree, 3)[0].output - 3 - sum(products))

            ends = arith.fold([products[k] for k in found.order], [1] * count, tree, bias=3)
            assert ends.output == found.simulated
            assert found.worst == (count <= 7)
            assert harm(found.order) >= harm(range(count))
            if count <= 6:
                assert harm(found.order) == max(map(harm, permutations(range(count))))
    products = rng.integers(-40, 41, 20).tolist()
    register = Accumulator(7, "saturate")
    proved = worst_order(products, register)
    bad = bad_order(products, Datapath([register]))
    assert bad.simulated == arith.fold([products[k] for k in proved], [1] * 20, register).output


def test_witnesses_of_padded_convolutions_replay():
    """A tap on padding has the weight 0; the image of the search reads just these taps."""
    layer = IntLayer(
        [[[[3, -3], [2, 3]]]], weight_spec=signed(3), input_spec=between(1, 3), padding=1
    )
    tree = Datapath([Accumulator(4, terms=2), Accumulator(5, "saturate")], order=(0, 2, 1))
    for witness in (decide(layer, tree).witness, search(layer, tree)):
        run = witness.replay()
        assert (int(run.output[0]), int(run.first_overflow[0])) == (witness.simulated, witness.step)
    assert tap_inputs(layer, np.ones((1, 1, 1, 1), int))[0][2] == [0, 0, 0, 1]


def test_what_search_refuses():
    """Operands that the datapath does not take."""
    with pytest.raises(RangeError) as caught:
        search(LAYER, replace(AVX2, inputs=signed(8)))
    assert str(caught.value) == "avx2 takes inputs of INT8 [-128, 127], not UINT8 [0, 255]"


def test_networks_are_compared():
    """Each layer on the same codes, as by itself; the report names a datapath as one."""
    torch.manual_seed(1)
    model, x = nn.Sequential(nn.Linear(9, 6), nn.ReLU(), nn.Linear(6, 4)), torch.rand(30, 9)
    model = quantize_model(model, weight_bits=4, act_bits=4, method="base", calibration=x)
    tree = Datapath([Accumulator(6, "saturate", terms=3, rail="sum"), Accumulator(16)])
    alone = {}

    def watch(name, layer, codes, _):
        alone[name] = compare_layer(layer, codes, tree, Accumulator(16))

    to_integer(model, tree, watch=watch)(x)
    found = compare(model, x, tree, Accumulator(16))
    assert found.layers == alone
    assert max(one.differing for one in alone.values()) > 0
    assert found.largest > 0
    told = comparison_json(found, tree, Accumulator(16), samples=30)
    assert told["registers"] == [datapath_json(tree), report.accumulator_json(Accumulator(16))]
    assert told["first"] == str(tree)
    assert datapath_of(told["registers"][0]) == tree
    assert Draft202012Validator(REPORT["properties"]["comparison"]).is_valid(told)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(strategies.datapaths(max_bits=7), st.lists(st.integers(-60, 60), max_size=20), st.data())
def test_traces_are_what_levels_hand_over(datapath, products, data):
    """Group by group: what one level ends with is an item of the next, and the last is the output.

    Whatever overflows on the way; exact sums beside it.
    """
    datapath = replace(datapath, order=None)
    register = datapath.register
    bias = data.draw(st.integers(register.min, register.max))
    items = exact = products
    for level in range(len(datapath.levels)):
        starts = datapath.starts(level, len(products)).tolist()
        if level >= datapath.summing:  # one group, even of nothing
            starts = [0]
        groups = [trace(products, datapath, level, place, bias=bias) for place in starts]
        handed = [item for group in groups for item in group.items]
        if level == datapath.summing and datapath.bias == "last":
            items, exact = [*items, bias], [*exact, bias]
        assert handed == list(items)
        assert [item for group in groups for item in group.exact_items] == list(exact)
        items = [group.held[-1] for group in groups]
        exact = [group.exact[-1] for group in groups]
    assert items == [oracle_answers(products, datapath, bias)[0].output]
    assert exact == [bias + sum(products)]


def test_searches_climb_toward_every_level(monkeypatch):
    """Hypothesis is told how far the exact sums of each level are beyond both ends."""
    told = {}
    module = inspect.getmodule(overflows)  # the package has a function of its name
    monkeypatch.setattr(module, "target", lambda far, label: told.update({label: far}))
    layer = IntLayer([[2, -3, 5]], weight_spec=signed(4), input_spec=unsigned(3))
    tree = Datapath([Accumulator(7, terms=2), Accumulator(8, signed=False)])
    assert overflows(layer, np.array([7, 2, 4]), tree) is False
    assert told == {
        "above level 0": 20 - 63,
        "below level 0": -64 - 0,
        "above level 1": 28 - 255,
        "below level 1": 0 - 0,
    }


@pytest.mark.parametrize(
    ("rails", "text"),
    [
        ((False, False), "none"),
        ((True, False), "low"),
        ((False, True), "high"),
        ((True, True), "both"),
        ((None, False), "?"),
        ((None, None), "?"),
        ((None, True), "high, ?"),
        ((True, None), "low, ?"),
    ],
)
def test_ends_in_words(rails, text):
    """Which ends of a register can be passed, and what is not known."""
    assert rails_word(list(rails)) == text


@pytest.mark.parametrize(("taps", "which"), [(4, "its worst order"), (9, "a bad order, of a few")])
def test_explain_tells_a_bad_order(taps, which, command, tmp_path):
    """Of few products the worst, of many the worst that was tried; as JSON with its order."""
    weights = [3, -4] * (taps // 2) + [1] * (taps % 2)
    layer = IntLayer([weights], weight_spec=signed(3), input_spec=unsigned(3))
    tree = Datapath([Accumulator(5, "saturate", terms=2), Accumulator(8)])
    x = [7] * taps
    witness = witness_of(
        layer, 0, x, replace(tree, levels=[replace(tree.levels[0], bits=4), tree.last])
    )
    save_witness(witness, tmp_path / "w.json")
    code, out, _ = command("explain", tmp_path / "w.json")
    told = json.loads(command("explain", tmp_path / "w.json", "--json")[1])
    products = [q * 7 for q in weights]
    found = bad_order(products, witness.accumulator)
    assert code == 0
    assert told["worst_order"] == {
        "simulated": found.simulated,
        "order": found.order,
        "worst": taps < 8,
    }
    assert f"in {which}" in out
    assert f"the datapath ends at {found.simulated}\n" in out
