"""Reports: what they hold, their digest, reading them again; and the page."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from accsim import Accumulator, IntLayer, between, signed, simulate, unsigned
from accsim.errors import ReportError
from verification import decide, report
from verification.page import page
from verification.reading import read_reports
from verification.report import (
    digest,
    layer_digest,
    layers_json,
    sealed,
    sums_json,
)
from verification.sums import sums_of
from verification.widths import widths
from verification.words import percent, rails_line

LAYERS = {
    "first <b>": IntLayer([[7, 7, -7], [1, 0, 0]], weight_spec=signed(4), input_spec=unsigned(4)),
    "second": IntLayer([[5, -5, 5, -5]], weight_spec=signed(4), input_spec=between(4, 5)),
    "third": IntLayer([[1]], weight_spec=signed(4), input_spec=unsigned(4), bias=[3]),
}
REGISTER = Accumulator(7, "saturate")


def content(register=REGISTER, name="net"):
    """A sealed report of three layers, with what some inputs reach."""
    reports = {layer: decide(LAYERS[layer], register) for layer in LAYERS}
    reached = {}
    for layer, found in LAYERS.items():
        x = np.random.default_rng(0).integers(
            found.input_spec.min, found.input_spec.max + 1, (50, found.taps)
        )
        run = simulate(found, x, register)
        over = int(np.count_nonzero(run.overflow_count))
        reached[layer] = {
            "data": sums_json(sums_of(found, run), register, over),
            "proved": report.ends_json(sums_of(found, run).ends, register),
        }
    rows = [
        {"bits": bits, "overflow": rule, "accuracy": bits / 16, "overflows": {}}
        for bits in (6, 7, 8)
        for rule in ("wrap", "saturate")
    ]
    return sealed(
        {
            "name": name,
            "verdict": str(report.overall(reports)),
            "layers": layers_json(LAYERS, reports),
            "reached": reached,
            "sweep": rows,
        }
    )


def test_layers_are_told_channel_by_channel():
    """Widths for every step, the end alone and any order, as `widths` has them."""
    told = content()["layers"]
    for name, layer in LAYERS.items():
        found = widths(layer)
        assert told[name]["channel_bits"] == found.every_step.tolist()
        assert told[name]["channel_final_bits"] == found.final.tolist()
        assert told[name]["channel_any_order_bits"] == found.any_order.tolist()
    # at most 2·(25 - 20), 30 after the third step, 50 in the worst order
    second = told["second"]
    bits = [second[f"{key}_bits"] for key in ("final", "least", "any_order")]
    assert bits == [5, 6, 7]
    assert told["third"]["preloaded_bits"] is None


def test_data_are_told_by_width():
    """Outputs by the bits that they need, and the intervals they lie in, add up."""
    for name, told in content()["reached"].items():
        data = told["data"]
        assert data["outputs"] == sum(data["outputs_by_bits"].values())
        assert 2 * data["outputs"] == sum(count for _, _, count in data["spread"])
        over = sum(n for bits, n in data["outputs_by_bits"].items() if int(bits) > REGISTER.bits)
        assert over == data["overflowed_outputs"], name
        assert all(low < high for low, high, _ in data["spread"])
    assert content()["reached"]["first <b>"]["data"]["overflowed_outputs"] > 0


def test_a_layer_tells_its_weakest_channel():
    """The shortest run of all channels, and which of them can overflow."""
    told = content()["layers"]["first <b>"]
    assert told["unsafe_channels"] == [0]
    assert told["fold_interval"] == 0  # 7·15 alone is too much for the first, not for the second
    second = {name: layer for name, layer in LAYERS.items() if name == "second"}
    told = layers_json(second, {"second": decide(second["second"], Accumulator(6))})["second"]
    assert told["fold_interval"] == 2


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.604, "never came within 39 % of a rail"),
        (0.99, "never came within 1 % of a rail"),
        (0.997, "went to 99 % of a rail, in a"),
        (1, "went to 100 % of a rail, in a"),
        (1.003, "went to >100 % of a rail, in a"),
    ],
)
def test_a_rail_is_not_said_to_be_farther_than_it_is(share, text):
    """Rounded toward the rail."""
    assert rails_line({"a": {"data": {"of_rail": share}}}) == f"the given inputs {text}"
    both = {"": {"data": {"of_rail": 0.5}, "attack": {"of_rail": 2}}}
    assert rails_line(both) == (
        "the given inputs never came within 50 % of a rail; the attack went to 200 % of a rail, in"
        " the network"
    )


def test_a_layer_has_a_digest_of_its_own():
    """Of weights, bias, ranges, shape and geometry, whatever type holds them; nothing else."""
    weight = np.arange(-4, 4)
    specs = {"weight_spec": signed(4), "input_spec": unsigned(4)}
    layer = IntLayer(weight.reshape(2, 4), **specs)
    same = IntLayer(weight.reshape(2, 4).astype(np.int8), **specs)
    assert layer_digest(layer) == layer_digest(same)
    conv = weight.reshape(2, 1, 2, 2)
    others = [
        layer,
        IntLayer(weight.reshape(4, 2), **specs),
        IntLayer(weight[::-1].reshape(2, 4), **specs),
        IntLayer(weight.reshape(2, 4), **specs, bias=[0, 0]),
        IntLayer(weight.reshape(2, 4), **specs, bias=[0, 1]),
        IntLayer(weight.reshape(2, 4), **(specs | {"weight_spec": signed(5)})),
        IntLayer(weight.reshape(2, 4), **(specs | {"input_spec": unsigned(5)})),
        IntLayer(conv, **specs),
        IntLayer(conv, **specs, padding=1),
        IntLayer(conv, **specs, stride=2),
    ]
    assert len({layer_digest(each) for each in others}) == len(others)


def test_the_digest_is_of_what_was_found():
    """Not of the name, nor of versions; anything else changes it, also deep inside."""
    one = content()
    assert one["digest"] == digest(one) == content(name="other")["digest"]
    assert re.fullmatch("sha256:[0-9a-f]{64}", one["digest"])
    assert digest({**one, "made": {"accsim": "9"}}) == one["digest"]
    assert digest(dict(reversed(one.items()))) == one["digest"]
    changed = json.loads(json.dumps(one))
    changed["layers"]["third"]["channel_bits"][0] += 1
    assert digest(changed) != one["digest"]
    assert content(Accumulator(7))["digest"] != one["digest"]


def test_the_digest_is_the_same_in_other_processes(tmp_path):
    """Whatever the processor's kernels, the number of threads and the seed of hashing."""
    folder = tmp_path / "net"
    folder.mkdir()
    for number, layer in enumerate(LAYERS.values()):
        layer.save(folder / f"{number}.npz")
    x = np.random.default_rng(0).integers(4, 6, (300, 4))
    np.savez(folder.parent / "x.npz", **{"0": x[:, :3], "1": x, "2": x[:, :1]})
    command = [
        sys.executable, "-c", "from verification.cli import main; main()", "verify", str(folder), "--bits", "7",
        "--overflow", "saturate", "--inputs", str(tmp_path / "x.npz"), "--json",
    ]  # fmt: skip
    digests = set()
    for extra in (
        {"NUMBA_NUM_THREADS": "1", "PYTHONHASHSEED": "1"},
        {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "PYTHONHASHSEED": "2"},
    ):
        told = subprocess.run(
            command, env=os.environ | extra, capture_output=True, text=True, check=False
        )
        assert told.returncode == 1, told.stderr
        digests.add(json.loads(told.stdout)["digest"])
    assert len(digests) == 1


def test_reports_are_read_as_they_were_written(tmp_path):
    """One, or several under "networks"."""
    one, two = content(), content(name="other")
    (tmp_path / "one.json").write_text(json.dumps(one))
    (tmp_path / "two.json").write_text(json.dumps({"networks": {"a": one, "b": two}}))
    assert read_reports(tmp_path / "one.json") == [one]
    assert read_reports(tmp_path / "two.json") == [one, two]


class Checked(HTMLParser):
    """Tags that are closed in order, and whatever a page would load."""

    VOID = frozenset({"meta", "link", "br", "img", "input"})

    def __init__(self):
        super().__init__()
        self.open, self.texts, self.loads = [], [], []

    def handle_starttag(self, tag, attrs):
        """Open it, and note where it points."""
        if tag not in self.VOID:
            self.open.append(tag)
        where = [value for key, value in attrs if key in ("src", "href", "xlink:href", "data")]
        self.loads += [value for value in where if not value.startswith("#")]
        self.loads += ["script"] if tag == "script" else []

    def handle_startendtag(self, tag, attrs):
        """What SVG closes at once."""
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        """Close the last one that was opened."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """What people read."""
        self.texts.append(data)


def test_the_page_is_whole_and_loads_nothing():
    """Every layer, figure and witness is there; names are text, whatever they hold."""
    one = content()
    text = page("A <i>title</i>", [one])
    parser = Checked()
    parser.feed(text)
    parser.close()
    assert (parser.open, parser.loads) == ([], [])
    assert "url(" not in text.replace("url(#", "")
    assert "@import" not in text
    words = " ".join("".join(parser.texts).split())
    for shown in ("A <i>title</i>", "first <b>", "2 of 3", "refuted", one["digest"]):
        assert shown in words
    for layer in one["layers"].values():
        if layer["witness"]:
            assert f"step {layer['witness']['step']}:" in words
    assert text.count("<svg") == 1 + sum(bool(layer["witness"]) for layer in one["layers"].values())
    assert len(text) < 2_000_000


def test_the_page_shows_the_shares():
    """A heat map's cell is the share of channels, or of outputs, that overflow at that width.

    Columns go from below the least of all channels to where nothing overflows, and past it.
    """
    one = content()
    text = page("t", [one])
    least = min(min(layer["channel_bits"]) for layer in one["layers"].values())
    most = max(layer["least_bits"] for layer in one["layers"].values())
    assert (least, most) == (5, 9)
    assert re.findall(r"<th>([0-9]+)</th>", text) == 2 * [str(n) for n in range(4, 11)]
    assert text.count('<td class="here"><span') == 2 * len(LAYERS)
    assert text.count('class="here"') == text.count('title="7 bits: ')
    for name, layer in one["layers"].items():
        data = one["reached"][name]["data"]
        for width in range(4, 11):
            unsafe = sum(bits > width for bits in layer["channel_bits"])
            total = len(layer["channel_bits"])
            assert f'title="{width} bits: {unsafe} of {total} channels can overflow"' in text
            over = sum(n for bits, n in data["outputs_by_bits"].items() if int(bits) > width)
            assert f'title="{width} bits: {over} of {data["outputs"]} outputs overflow"' in text


def test_pictures_take_the_colours_of_the_page():
    """No colour of their own, so that they can be read in the dark, and no two names alike."""
    pictures = re.findall("<svg.*?</svg>", page("t", [content()]), re.S)
    assert len(pictures) == 2
    for picture in pictures:
        assert re.findall("#[0-9a-f]{6}", picture) == []
        assert "stroke: currentColor" in picture
        assert "var(--bad)" in picture
        assert '<g id="' not in picture


def test_a_heat_map_has_room_for_the_register_and_no_more():
    """Wider than all layers need it is a column, too; of very many widths the highest are shown."""
    text = page("t", [content(Accumulator(12))])
    assert re.findall(r"<th>([0-9]+)</th>", text) == 2 * [str(n) for n in range(4, 14)]
    text = page("t", [content(Accumulator(40))])
    assert re.findall(r"<th>([0-9]+)</th>", text) == 2 * [str(n) for n in range(22, 42)]


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0"), (1e-9, "<1"), (0.005, "<1"), (0.01, "1"), (0.5, "50"), (0.994, "99"),
     (1 - 1e-9, "99"), (1, "100"), (1 + 1e-9, ">100"), (1.01, "101"), (2.5, "250")],
)  # fmt: skip
def test_a_percentage_says_no_more_than_it_knows(share, shown):
    """0 and 100 mean none and all."""
    assert percent(share) == shown


@pytest.mark.parametrize(
    ("low", "high", "span"),
    [
        (-64, 63, "left:0.00%;right:0.00%"),
        (0, 0, "left:50.00%;right:49.22%"),
        (-32, 31, "left:25.00%;right:25.00%"),
        (-65, 0, "left:0.00%;right:49.22%"),
        (0, 64, "left:50.00%;right:0.00%"),
    ],
)
def test_spans_lie_where_the_sums_do(low, high, span):
    """Of the band of a 7-bit register; red where it is left."""
    one = content()
    for ends in one["reached"].values():
        ends["proved"] |= {"low": low, "high": high}
    text = page("t", [one])
    beyond = " below" if low < -64 else " above" if high > 63 else ""
    found = re.findall(f'<div class="span proved{beyond}" [^>]*><i style="({span})">', text)
    assert len(found) == len(LAYERS)


@pytest.mark.parametrize("register", [Accumulator(7), Accumulator(6, signed=False), Accumulator(3)])
def test_the_strip_counts_every_sum(register):
    """Parts of the band and both outer cells, against counting each sum."""
    layer = IntLayer([[3, -2, 1]], weight_spec=signed(4), input_spec=signed(5))
    x = np.random.default_rng(1).integers(-16, 16, (400, 3))
    run = simulate(layer, x, Accumulator(20))
    reports = {"only": decide(layer, register)}
    reached = {"data": sums_json(sums_of(layer, run), register, 0)}
    text = page(
        "t",
        [
            sealed(
                {
                    "name": "net",
                    "verdict": "refuted",
                    "layers": layers_json({"only": layer}, reports),
                    "reached": {"only": reached},
                }
            )
        ],
    )
    ends = np.concatenate([run.peak_low.ravel(), run.peak_high.ravel()])
    below, above = (ends < register.min).sum(), (ends > register.max).sum()
    assert f'title="below the register: {below}"' in text
    assert f'title="above it: {above}"' in text
    size = register.max - register.min + 1
    step = max(1, size // (32 if register.signed else 16))
    for low in range(register.min, register.max + 1, step):
        count = ((ends >= low) & (ends < low + step)).sum()
        assert f'title="{low} to {low + step - 1}: {count}"' in text


def test_a_page_replays_its_witnesses():
    """A report whose witness does not happen has no page, though its digest is right."""
    one = content()
    one["layers"]["first <b>"]["witness"]["exact"] += 1
    with pytest.raises(ReportError, match="must hold witnesses that replay: the witness of 'first"):
        page("t", [sealed(one)])
