"""Named datapaths: every file loads and is simulated exactly; what is no such file is refused."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accsim import Accumulator, Datapath, IntLayer, IntSpec, datapaths, signed, simulate, unsigned
from accsim.datapath import lanes
from accsim.datapaths import CHECKS, describe, load, names, safe_products
from accsim.datapaths.description import FOLDER
from accsim.errors import DatapathFileError, SpecError
from verification.properties import assert_exact

# A level, and how many products of full range it takes, as published; None: it never overflows.
PUBLISHED = {
    "x86-avx2-u8s8": (0, 1),
    "x86-vnni-u8s8": (1, 65793),  # 16,448 groups of 4
    "x86-vnni-u8s8-sat": (1, 65793),
    "fbgemm-acc16": (0, 1),
    "ggml-i2s-avx2": (1, 128),  # 64 pairs
    "ggml-i2s-neon": (0, 128),
    "arm-sdot": (1, 131071),  # 32,767 groups of 4
    "gemmlowp-l7r5": (0, None),  # 16 is a whole group
    "xilinx-wp486-int8x2": (0, 7),
    "gemmini-ws": (0, None),  # 31 is more than a pass
    "gemmini-os": (0, 31),
    "esp32s3-qacc-s8": (0, 31),
    "esp32s3-qacc-u8": (0, 16),
    "cuda-mma-s8": (1, 131071),
}
# Where what is published is not so: the level, what is published, what is so, and why.
CORRECTED = {
    "neon-mull-mlal": (0, 2, 1, "two products of (-128) * (-128) are 1 too many"),
    "neon-sqadd16": (0, 2, 1, "two products of (-128) * (-128) are 1 too many"),
    "cmsisnn-s16x8": (0, 512, 511, "512 products of 2^22 are 2^31, 1 too many"),
    "dsp56k-acc56": (0, 256, 255, "256 products of 2^46 are 2^54, 1 too many"),
    "versal-aie-acc48": (0, 2**16, 2**17 - 1, "that is for items of 32 bits; products have 31"),
    "nvdla-int8": (1, 4095 * 64, 2**19 - 1, "that is for items of 22 bits; 64 products have 21"),
}


def operands(datapath):
    """Ranges that the datapath takes, bytes where it takes any."""
    return datapath.inputs or signed(8), datapath.weights or signed(8)


def drawn(spec, shape, rng):
    """Codes of which half are at an end of the range or 0."""
    ends = rng.choice([spec.min, spec.max, min(max(0, spec.min), spec.max)], shape)
    return np.where(rng.random(shape) < 0.5, ends, rng.integers(spec.min, spec.max + 1, shape))


@pytest.mark.parametrize("name", names())
def test_every_datapath_is_what_the_oracle_says(name):
    """Random and extreme operands of its ranges, lengths about its groups, with a bias."""
    datapath, rng = load(name), np.random.default_rng(len(name))
    inputs, weights = operands(datapath)
    group = max((span for span in datapath.spans if span < 1000), default=8)
    for taps in (1, group - 1, group, 2 * group + 3, 300):
        layer = IntLayer(
            drawn(weights, (2, taps), rng),
            weight_spec=weights,
            input_spec=inputs,
            bias=[0, datapath.register.max // 3],
        )
        x = drawn(inputs, (4, taps), rng)
        x[:2] = [[inputs.max], [inputs.min]]
        assert_exact(layer, x, datapath)


def test_what_is_said_of_each():
    """Every file says where it is from and how far it was checked; levels say what they are."""
    kinds = Counter()
    for name in names():
        one = describe(name)
        assert one.datapath.name == name
        assert one.datapath == load(FOLDER / f"{name}.toml")
        assert one.title
        assert one.checked
        assert all(one.what)
        assert len(one.what) == len(one.datapath.levels)
        assert one.datapath.source
        kinds[one.check] += 1
    assert kinds == {"ran": 15, "source": 14, "documented": 15}
    assert CHECKS.keys() > kinds.keys()


def overflows(datapath, level, taps):
    """Whether products at the ends of their range overflow a level, in index order."""
    inputs, weights = operands(datapath)
    pairs = [(x, q) for x in (inputs.min, inputs.max) for q in (weights.min, weights.max)]
    for x, q in (max(pairs, key=np.prod), min(pairs, key=np.prod)):
        layer = IntLayer(np.full((1, taps), q), weight_spec=weights, input_spec=inputs)
        run = simulate(layer, np.full(taps, x), replace(datapath, order=None))
        if run.levels[level].overflow_count[0]:
            return True
    return False


def test_safe_products():
    """As told of the hardware, or corrected; so many do not overflow, and one more does."""
    for name in names():
        datapath = load(name)
        if datapath.inputs is None or datapath.weights is None:
            with pytest.raises(SpecError, match=r"^a datapath must name its inputs and weights"):
                safe_products(datapath)
            continue
        counts = safe_products(datapath)
        if name in PUBLISHED:
            level, published = PUBLISHED[name]
            assert counts[level] == published
        if name in CORRECTED:
            level, published, true, _ = CORRECTED[name]
            assert counts[level] == true != published
        for level, count in enumerate(counts):
            if count is not None and count < 2**18:
                assert not overflows(datapath, level, count), (name, level)
                wraps = name == "neon-mull-mlal" and level == 2  # a lane of 2 products below it
                assert overflows(datapath, level, count + (2 if wraps else 1)), (name, level)


def test_safe_products_above_a_level_that_wraps():
    """A lane hands over the other end of its register, of products none of which has that sign."""
    lane = Accumulator(4, signed=False, terms=2, rail="sum")
    datapath = Datapath([lane, Accumulator(5)], inputs=unsigned(1), weights=IntSpec(-1, 0))
    assert safe_products(datapath) == (0, 2)
    assert [overflows(datapath, 1, taps) for taps in (1, 2, 3)] == [False, False, True]
    assert safe_products(load("neon-mull-mlal"))[2] == 131072


def test_safe_products_of_other_operands():
    """Narrower operands: pairs of bytes in smlad, weights of 7 bits, weights without -128."""
    bytes_ = {"inputs": signed(8), "weights": signed(8)}
    assert safe_products(replace(load("cortexm-smlad"), **bytes_)) == (None, 131071)
    assert safe_products(replace(load("x86-avx2-u8s8"), weights=signed(7)))[0] is None
    assert safe_products(replace(load("neon-mull-mlal"), weights=IntSpec(-127, 127)))[0] is None
    assert safe_products(replace(load("x86-avx2-u8s8"), weights=IntSpec(0, 1)))[2] == 8421504


LEVEL = "[[levels]]\nbits = 16\noverflow = 'wrap'\n"
WHOLE = f"name = 'mine'\ntitle = 'Mine'\nsource = 'my notes'\n{LEVEL}"


def written(folder, text):
    """A file of this text."""
    path = folder / "mine.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_file_of_ones_own(tmp_path):
    """The least that is due; all that may be said; orders in both forms."""
    one = describe(written(tmp_path, WHOLE))
    assert (one.check, one.checked, one.notes, one.what) == ("none", "", "", ("",))
    assert (one.datapath.order, one.datapath.inputs, one.datapath.bias) == (None, None, "first")
    text = (
        "name = 'mine'\ntitle = 'Mine'\nsource = \"my\\u001b[31m notes\"\ninputs = 'UINT8'\n"
        "weights = '[-7, 7]'\nbias = 'last'\nnotes = '''\none\ntwo\n\nthree\n'''\nORDER\n"
        "[[levels]]\nbits = 20\noverflow = 'saturate'\nterms = 3\nrail = 'sum'\nsigned = false\n"
        "what = 'lane'\n[[levels]]\nbits = 24\noverflow = 'wrap'\n"
        "[checked]\nkind = 'ran'\nhow = 'on my desk'\n"
    )
    one = describe(str(written(tmp_path, text.replace("ORDER", "order = [2, 0, 1]"))))
    assert (one.check, one.checked, one.notes) == ("ran", "on my desk", "one two\nthree")
    assert one.what == ("lane", "")
    assert (one.datapath.order, one.datapath.source) == ((2, 0, 1), "my[31m notes")
    assert str(one.datapath.levels[0]) == "unsigned 20-bit saturate register"
    assert (one.datapath.inputs, one.datapath.weights) == (unsigned(8), IntSpec(-7, 7))
    shaped = text.replace("ORDER", "[order]\nshape = [2, 3]\naxes = [1, 0]")
    assert load(written(tmp_path, shaped)).order == lanes((2, 3), (1, 0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "mine.toml must be a TOML file: Invalid value (at end of document)"),
        (
            b"\xff",
            "mine.toml must be a TOML file: 'utf-8' codec can't decode byte 0xff in position 0:"
            " invalid start byte",
        ),
        ("#" * (2**20 + 1), "mine.toml must be a TOML file of at most 1048576 bytes"),
        (".".join("a" * 1002) + " = 1", "mine.toml must have at most 1000 dots in a line"),
        (
            f"wires = 3\n{WHOLE}",
            "mine.toml: keys of the file must be of name, title, source, levels, inputs, weights,"
            " order, bias, checked, notes, not 'wires'",
        ),
        (
            WHOLE.replace("source = 'my notes'\n", ""),
            "mine.toml: the file must have source; its keys are name, title, source, levels,"
            " inputs, weights, order, bias, checked, notes",
        ),
        (
            WHOLE.replace("my notes", "  "),
            "mine.toml: source must say where this is known from",
        ),
        (f"bias = 1\n{WHOLE}", "mine.toml: the file bias must be a string, not 1"),
        (
            f"bias = 'middle'\n{WHOLE}",
            'mine.toml: Datapath bias must be "first" or "last", not \'middle\'',
        ),
        (
            WHOLE.replace("'mine'", "'My path'"),
            "mine.toml: name must be 1 to 64 of a-z, 0-9, '.', '_' and '-', a letter or digit"
            " first, not 'My path'",
        ),
        (
            f"inputs = 'byte'\n{WHOLE}",
            'mine.toml: IntSpec text must be like "INT4", "UINT8" (1 to 62 bits) or "[-7, 8]",'
            " not 'byte'",
        ),
        (
            WHOLE.replace("bits = 16", "bits = 64"),
            "mine.toml: levels[0]: Accumulator bits must be an integer from 2 to 62, not 64",
        ),
        (
            WHOLE.replace("bits = 16", "bits = true"),
            "mine.toml: levels[0] bits must be an integer, not True",
        ),
        (
            WHOLE.replace("'wrap'", "'clip'"),
            'mine.toml: levels[0]: Accumulator overflow must be "wrap" or "saturate", not \'clip\'',
        ),
        (
            f"{WHOLE}lanes = 2\n",
            "mine.toml: keys of levels[0] must be of bits, overflow, terms, rail, signed, what,"
            " not 'lanes'",
        ),
        (
            f"{WHOLE}terms = 2\n",
            "mine.toml: the last level sums all that is left: terms must be None, not 2",
        ),
        (
            "name = 'mine'\ntitle = 'Mine'\nsource = 'my notes'\nlevels = [16]",
            "mine.toml: levels[0] must be a table, not 16",
        ),
        (
            "name = 'mine'\ntitle = 'Mine'\nsource = 'my notes'\nlevels = []",
            "mine.toml: Datapath levels must be Accumulators, inner to outer, not []",
        ),
        (
            f"order = [0, 0]\n{WHOLE}",
            "mine.toml: Datapath order must be a permutation: 0 is there more than once",
        ),
        (
            f"{WHOLE}[order]\nshape = [2, 2]\n",
            "mine.toml: [order] must have axes; its keys are shape, axes",
        ),
        (
            f"{WHOLE}[order]\nshape = [2, 2]\naxes = [0, 2]\n",
            "mine.toml: lanes axes must be an integer from 0 to 1, not 2",
        ),
        (
            f"{WHOLE}[order]\nshape = {[1] * 65}\naxes = {list(range(65))}\n",
            "mine.toml: lanes must be of at most 64 axes, not 65",
        ),
        (
            f"{WHOLE}[checked]\nkind = 'seen'\nhow = 'once'\n",
            'mine.toml: [checked] kind must be one of "ran", "source", "documented", "none", not'
            " 'seen'",
        ),
        (
            f"inputs = {'[' * 5000}\n{WHOLE}",
            None,
        ),
    ],
)
def test_what_is_no_description(tmp_path, text, message):
    """One line says what must hold."""
    with pytest.raises(DatapathFileError) as caught:
        load(written(tmp_path, text))
    if message is None:  # the parser's own words
        assert str(caught.value).startswith("mine.toml must be a TOML file: ")
    else:
        assert str(caught.value) == message


def test_what_is_not_there(tmp_path):
    """Unknown names, files that are missing, and folders."""
    for given_, message in (
        (
            "x86",
            "'x86' is no named datapath (accsim datapaths lists them) and no .toml file",
        ),
        (tmp_path / "none.toml", "none.toml cannot be read: No such file or directory"),
        (
            "../datapaths/x86-avx2-u8s8",
            "'../datapaths/x86-avx2-u8s8' is no named datapath (accsim datapaths lists them) and"
            " no .toml file",
        ),
    ):
        with pytest.raises(DatapathFileError) as caught:
            load(given_)
        assert str(caught.value) == message
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(DatapathFileError) as caught:
        load(tmp_path / "folder.toml")
    assert str(caught.value) == "folder.toml cannot be read: Is a directory"


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(names()), st.integers(0, 3000), st.binary(max_size=6), st.integers(0, 40))
def test_damaged_files(tmp_path_factory, name, at, planted, cut):
    """A file with bytes planted and cut out is a datapath, or refused in one line."""
    data = (FOLDER / f"{name}.toml").read_bytes()
    path = written(tmp_path_factory.getbasetemp(), data[:at] + planted + data[at + cut :])
    try:
        found = str(load(path))
    except DatapathFileError as error:
        found = str(error)
    assert re.fullmatch(r"mine\.toml.*|[a-z0-9._-]+", found)


def test_they_come_with_the_package():
    """The module is part of the package's names."""
    assert datapaths.names() == names()
    assert "x86-avx2-u8s8" in names()


@pytest.mark.parametrize(
    ("name", "lane", "others"),
    [
        ("ggml-i2s-avx2", [0, 1, 32, 33, 64, 65, 96, 97, 128], {256: 2, 257: 3, 4095: 4095}),
        ("ggml-i2s-neon", [0, 8, 16, 24, 32, 40, 48, 56, 64], {256: 1, 2047: 2047}),
        ("neon-mull-mlal", [0, 8, 1, 9], {14: 7, 15: 15}),
        ("gemmlowp-l7r5", [0, 2, 4], {15: 30, 16: 1, 31: 31}),
    ],
)
def test_lane_maps(name, lane, others):
    """Which products the first lane adds, and where others begin and end."""
    order = load(name).order
    assert list(order[: len(lane)]) == lane
    assert {place: order[place] for place in others} == others


def test_safe_products_above_a_register_that_wraps():
    """Past its highest value it hands over its lowest, which the one above may not hold."""
    lane = Accumulator(4, terms=4)
    two = {"inputs": unsigned(2), "weights": unsigned(2)}  # products of at most 9
    assert safe_products(Datapath([lane, Accumulator(16, signed=False)], **two)) == (0, 0)
    small = {"inputs": unsigned(1), "weights": unsigned(2)}  # two of 3 fit
    assert safe_products(Datapath([lane, Accumulator(16, signed=False)], **small)) == (2, 2)
    # and -1 is the highest value of one without a sign
    without = Datapath([Accumulator(8, signed=False, terms=4), Accumulator(8)], **small)
    assert safe_products(without) == (None, 42)
    turned = replace(without, weights=signed(2))
    assert safe_products(turned) == (0, 0)
    neon = load("neon-mull-mlal")  # a pair of (-128)·(-128) is -32768
    assert safe_products(neon)[2] == 131072
    assert not overflows(neon, 2, 131072)
    assert overflows(neon, 2, 131074)
