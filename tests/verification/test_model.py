"""Reports of networks: products of activations, registers that cannot start, outputs compared."""

from dataclasses import replace

import numpy as np
import pytest
from model_cases import MLP, mixed, named

from accsim import Accumulator, IntLayer, IntSpec, between, signed, simulate, unsigned
from accsim.errors import ModelFileError, SpecError
from accsim.layer import unheld_start
from accsim.network import MatMul
from accsim.onnx import load
from verification import decide
from verification.model import model_report, wide_register
from verification.outputs import classes, differences, finite
from verification.plot import _accuracy
from verification.registers import registers_for
from verification.starts import decide_start
from verification.sweeping import overflows_table, sweep_table
from verification.witness_file import file_names
from verification.words import printable, product_line, registers_of

BIASED = IntLayer(
    [[1, 2], [-3, 0], [0, 1]], weight_spec=signed(4), input_spec=unsigned(2), bias=[9, -9, 0]
)


def activations(left, right, taps, register):
    """The report of a network of one product of activations."""
    network = load(MLP)
    network = replace(network, layers={}, matmuls={"m": MatMul(left, right, taps)})
    return model_report("net", network, {} if register is None else {"m": register})


@pytest.mark.parametrize(
    "left", [signed(3), unsigned(2), between(-3, 1), between(2, 5), between(-4, -1)]
)
@pytest.mark.parametrize("right", [signed(3), unsigned(3), between(1, 2)])
@pytest.mark.parametrize("is_signed", [True, False])
def test_products_of_activations_are_proved_by_their_types(left, right, is_signed):
    """At the least register that holds every sum of some terms, starting at 0, and not below."""
    taps = 5
    products = [
        a * b for a in range(left.min, left.max + 1) for b in range(right.min, right.max + 1)
    ]
    low, high = min(0, taps * min(products)), max(0, taps * max(products))
    for bits in range(2, 10):
        register = Accumulator(bits, signed=is_signed)
        told = activations(left, right, taps, register)
        holds = register.min <= low and high <= register.max
        assert told["verdict"] == ("proved" if holds else "undecided")
        assert told["products"][0]["verdict"] == told["verdict"]
        if is_signed:
            assert (told["products"][0]["least_bits"] <= bits) == holds


def test_what_is_not_known_of_a_product_is_said():
    """Its length, or its register."""
    told = activations(signed(4), unsigned(4), 10, Accumulator(12))["products"][0]
    assert product_line(told) == (
        "m: a product of activations, INT4 and UINT4; their types need 12 bits of 12: proved"
    )
    for taps, register, unknown in ((None, Accumulator(12), "length"), (10, None, "register")):
        told = activations(signed(4), unsigned(4), taps, register)
        assert told["verdict"] == "undecided"
        assert product_line(told["products"][0]) == (
            f"m: a product of activations, INT4 and UINT4, whose {unknown} is not known: undecided"
        )
    assert registers_of(told["products"]) == "no register"


def test_every_layer_needs_a_register():
    """Those that lack one are named."""
    registers = {"/fcs.1/Gemm": Accumulator(12)}
    with pytest.raises(SpecError) as caught:
        model_report("net", load(MLP), registers)
    text = "registers must have one for each layer, and lack /fcs.0/Gemm, /fcs.2/Gemm"
    assert str(caught.value) == text


def test_annotations_are_asked_of_products_of_known_length():
    """Of another no register can be proved; it may go without one."""
    network = replace(load(MLP), layers={}, registers={})
    unknown = replace(network, matmuls={"m": MatMul(signed(4), signed(4))})
    assert registers_for(unknown, None, "wrap", to_run=False) == {}
    known = replace(network, matmuls={"m": MatMul(signed(4), signed(4), 3)})
    with pytest.raises(ModelFileError, match=r"^node 'm' has no annotation of its register: "):
        registers_for(known, None, "wrap", to_run=False)


def test_verdicts_of_the_parts_make_that_of_the_network(tmp_path):
    """Refuted if a layer is, else undecided if a part is, else proved."""
    network = load(mixed(tmp_path / "m.onnx"))
    assert (len(network.layers), len(network.matmuls), len(network.untraced)) == (1, 1, 2)
    safe, unsafe = Accumulator(20), Accumulator(4)
    known = {"attention": MatMul(signed(8), signed(8), 4)}
    for register, changes, verdict in (
        (unsafe, {}, "refuted"),
        (unsafe, {"untraced": {}, "matmuls": {}}, "refuted"),
        (safe, {"matmuls": {}}, "undecided"),
        (safe, {"untraced": {}}, "undecided"),
        (safe, {"untraced": {}, "matmuls": known}, "proved"),
        (safe, {"untraced": {}, "matmuls": {}}, "proved"),
    ):
        changed = replace(network, **changes)
        registers = dict.fromkeys([*changed.layers, *changed.matmuls], register)
        assert model_report("net", changed, registers)["verdict"] == verdict


def test_the_wide_register_holds_every_layer(tmp_path):
    """48 bits, or what a layer needs beyond, as far as registers go."""
    network = load(named(tmp_path / "m.onnx", "fc"))
    assert wide_register(network).bits == 48
    for largest, bits in ((2**40, 52), (2**45, 57), (2**50, 62), (2**51, 62)):
        layer = IntLayer(
            [[1000, 1000]], weight_spec=signed(12), input_spec=IntSpec(-largest, largest)
        )
        assert wide_register(replace(network, layers={"fc": layer})).bits == bits


def test_a_register_that_cannot_start_is_refuted():
    """With the same widths as where it can; at wider registers it is the decision."""
    for bits, start in ((4, (0, 9)), (5, None), (6, None)):
        register = Accumulator(bits)
        assert unheld_start(BIASED, register) == start
        found = decide_start(BIASED, register)
        wide = decide(BIASED, Accumulator(30))
        assert found.least_bits == wide.least_bits == 6
        assert found.channel_bits.tolist() == wide.channel_bits.tolist()
        assert (found.verdict.value, found.accumulator) == (
            ("proved" if bits == 6 else "refuted"),
            register,
        )
    assert unheld_start(BIASED, Accumulator(8, signed=False)) == (1, -9)
    ends = replace(BIASED, bias=np.array([7, -8, 0]))
    assert unheld_start(ends, Accumulator(4)) is None
    assert unheld_start(ends, Accumulator(3)) == (0, 7)
    found = decide_start(BIASED, Accumulator(4))
    assert (found.unsafe_channels, found.witness, found.wrap_exact) == ((0, 1), None, False)
    assert decide_start(BIASED, Accumulator(5)).witness.channel in (0, 1)
    run = simulate(BIASED, [[3, 3]], Accumulator(6))
    assert run.overflow_count.sum() == 0
    no_bias = IntLayer([[1]], weight_spec=signed(4), input_spec=unsigned(4))
    assert unheld_start(no_bias, Accumulator(2)) is None


def test_outputs_are_compared():
    """The largest number of each row; differences, none where both are the same thing."""
    one = {"a": np.array([[1.0, 5.0], [7.0, 7.0]]), "b": np.array([250], np.uint8)}
    two = {"a": np.array([[4.0, 5.0], [7.0, 6.0]]), "b": np.array([3], np.uint8)}
    assert classes(one).tolist() == [1, 0]
    assert differences(one, two).tolist() == differences(two, one).tolist() == [3, 0, 0, 1, 247]
    odd = {"a": np.array([np.inf, np.nan, -np.inf, 1.0, np.inf])}
    other = {"a": np.array([np.inf, np.nan, np.inf, np.nan, 1.0])}
    found = differences(odd, other)
    assert found[:3].tolist() == [0, 0, np.inf]
    assert [finite(number) for number in found] == [0, 0, None, None, None]
    for shape, rows in (((), 1), ((3,), 1), ((0, 4), 0), ((4, 0), 4), ((2, 3, 2), 2)):
        assert classes({"a": np.zeros(shape)}).shape == (rows,)


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["a", "A", "a"[:1] + "-2"], ["a", "A-2", "a-2-2"]),
        (["a", "A", "b"], ["a", "A-2", "b"]),
        (["..", ".", ""], ["layer", "layer-2", "layer-3"]),
        (["conv[bold]", "_x", "ä/ö"], ["conv[bold]", "_x", "ä_ö"]),
        (["é" * 300, "x\n\x1b\x7fy", "c:\\d"], ["é" * 100, "x_y", "c_d"]),
    ],
)
def test_names_of_files(names, files):
    """Inside the folder, whole, and no two the same on a system that knows no capitals."""
    found = file_names(dict.fromkeys(names))
    assert list(found.values()) == files
    assert all(len(file.encode()) <= 250 for file in files)


def test_printable_names_are_left_alone():
    """Others lose what commands a terminal."""
    assert printable("/fcs.0/Gemm ä") == "/fcs.0/Gemm ä"
    assert printable("a\x1b[2J\nb\u202e") == "a\\x1b[2J\\nb\\u202e"


def cells(made):
    """Of the columns of a table, without the first."""
    return [list(column.cells) for column in made.columns[1:]]


def test_a_share_that_is_not_0_does_not_look_like_it():
    """Nor one that is not all, in the tables of a sweep; what is not finite is said."""
    count = {"outputs": 10**6, "overflowed_outputs": 1, "overflow_steps": 3}
    row = {
        "bits": 8,
        "overflow": "wrap",
        "accuracy": None,
        "unheld": None,
        "overflows": {"a": count},
    }
    for over, share in (
        (0, "0.0"),
        (1, "<0.1"),
        (500, "0.1"),
        (999_999, ">99.9"),
        (10**6, "100.0"),
    ):
        count["overflowed_outputs"] = over
        row |= {"same": over / 10**6, "largest": None, "mean": 12345.678}
        assert cells(sweep_table("", [row], None)) == [
            [share],
            ["not finite"],
            ["1.235e+04"],
            [share],
        ]
        assert cells(sweep_table("", [row | {"accuracy": 0.5}], "y")) == [["50.0"], [share]]
        assert cells(overflows_table("", [row])) == [[share]]
    row["overflows"] = {"a": dict.fromkeys(count, 0)}
    assert cells(sweep_table("", [row | {"accuracy": 0.5}], "y"))[-1] == ["0.0"]
    assert cells(overflows_table("", [row])) == [["0.0"]]
    assert cells(overflows_table("", [row | {"unheld": "a", "overflows": {}}])) == []


def test_a_plot_names_what_it_draws():
    """A rule that was not run is not in its legend."""
    rows = [{"bits": bits, "overflow": "saturate", "accuracy": 0.5} for bits in (8, 9)]
    axes = _accuracy({"net": rows}).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["saturate, net"]
    assert axes.get_ylabel() == "accuracy (%)"
    assert axes.lines[0].get_ydata().tolist() == [50, 50]
