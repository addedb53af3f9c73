"""Untrusted files: each refusal is one typed error that names node and field, its text pinned."""

import os
import re
import tracemalloc

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_graphs import model, node, ours, tensor

from accsim import Accumulator
from accsim.errors import ModelFileError
from accsim.onnx import load, reading
from accsim.onnx.graph import graph_of
from accsim.onnx.reading import array_of, first_line, read_model, shown

F = np.float32
X = np.ones((1, 3), F)
LARGEST = 2**29


def small(*nodes, held=None, **how):
    """A model of x and a constant w."""
    nodes = nodes or (node("Add", ["x", "w"]),)
    return model(list(nodes), {"x": X}, {"w": np.ones(3, F)} if held is None else held, **how)


def written(made, folder, name="m.onnx"):
    """Its file."""
    path = folder / name
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    return path


def refused(made, folder, **how):
    """The text of the error."""
    with pytest.raises(ModelFileError) as raised:
        load(written(made, folder), **how)
    return str(raised.value)


def test_a_good_file(tmp_path):
    """The model that the tests below damage is read."""
    path = written(small(), tmp_path)
    assert read_model(path) == read_model(str(path)) == small()
    assert load(path).run(X, Accumulator(8)).outputs["y"].tolist() == [[2, 2, 2]]


@pytest.mark.parametrize("data", [b"not a model", b"\x08", b"\xff" * 99])
def test_no_model(data, tmp_path):
    """Bytes of other kinds."""
    assert refused(data, tmp_path) == "m.onnx is not an ONNX model"


def test_no_graph(tmp_path):
    """No bytes, and a message without a graph."""
    assert refused(b"", tmp_path) == "m.onnx is empty"
    data = onnx.ModelProto(ir_version=8).SerializeToString()
    assert refused(data, tmp_path) == "m.onnx must hold a graph with nodes"


def test_truncated_at_every_byte(tmp_path):
    """Part of a file is no model, one that is refused, or a smaller one."""
    data, read = small().SerializeToString(), 0
    for size in range(len(data)):
        try:
            load(written(data[:size], tmp_path))
        except ModelFileError:
            continue
        read += 1
    assert read < 5


def test_files_that_cannot_be_read(tmp_path):
    """Missing, or a folder; names without control characters."""
    for path, why in (
        (tmp_path / "none.onnx", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(ModelFileError) as raised:
            load(path)
        assert str(raised.value) == f"{path.name} cannot be read: {why}"
    with pytest.raises(ModelFileError) as raised:
        load(tmp_path / "\x1b[2J")
    assert str(raised.value) == r"'\x1b[2J' cannot be read: No such file or directory"


def test_a_file_too_large_is_not_read(tmp_path):
    """Its size is looked at first: that of a sparse one is only a number."""
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)
    tracemalloc.start()
    with pytest.raises(ModelFileError) as raised:
        load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(raised.value) == f"m.onnx must have at most {LARGEST} bytes, not {LARGEST + 1}"
    assert peak < 2**20


@pytest.mark.parametrize(
    ("what", "field", "limit"),
    [("nodes", "node", "MAX_NODES"), ("initializers", "initializer", "MAX_TENSORS")],
)
def test_too_many(what, field, limit, tmp_path, monkeypatch):
    """Nodes and initializers are counted."""
    assert getattr(reading, limit) == 50_000
    made = small(node("Add", ["x", "w"], "a"), node("Add", ["a", "v"]), held={"w": F(1), "v": F(2)})
    monkeypatch.setattr(reading, limit, 2)
    load(written(made, tmp_path))
    monkeypatch.setattr(reading, limit, 1)
    assert refused(made, tmp_path) == f"the graph must have at most 1 {what}, not 2"


def test_what_is_refused_by_kind(tmp_path):
    """Functions, sparse initializers, subgraphs, sparse tensors."""
    made = small()
    made.functions.add(name="mine\x07")
    assert refused(made, tmp_path) == (
        r"the model must be without functions of its own ('mine\x07'): inline them first"
        " (onnx.inliner)"
    )
    made = small()
    made.graph.sparse_initializer.add()
    assert refused(made, tmp_path) == "the graph must be without sparse initializers"
    branch = helper.make_graph(
        [node("Identity", ["x"])], "g", [], [helper.make_tensor_value_info("y", 1, None)]
    )
    made = small(helper.make_node("If", ["x"], ["y"], "if", then_branch=branch, else_branch=branch))
    text = "must be without subgraphs and sparse tensors: its"
    assert refused(made, tmp_path) == f"node 'if' (If) {text} 'else_branch' is a subgraph"
    sparse = helper.make_sparse_tensor(tensor(X[0], "v"), tensor(np.arange(3), "i"), [3])
    made = small(helper.make_node("Constant", [], ["y"], sparse_value=sparse))
    assert (
        refused(made, tmp_path)
        == f"node 'Constant' (Constant) {text} 'sparse_value' is a sparse tensor"
    )
    made = small()
    made.graph.node[0].attribute.add(name="a").g.CopyFrom(branch)  # of no type that tells it
    assert refused(made, tmp_path) == f"node 'Add of y' (Add) {text} 'a' is a subgraph"


CLAIMS = "initializer 'w' claims"
TENSORS = {
    "raw data, short": ({"raw_data": b"\0" * 11}, f"{CLAIMS} 12 bytes for [3] and has 11"),
    "raw data, long": ({"raw_data": b"\0" * 13}, f"{CLAIMS} 12 bytes for [3] and has 13"),
    "huge": ({"dims": [2**40]}, f"{CLAIMS} {2**42} bytes; at most {LARGEST} are read"),
    "huge product": ({"dims": [2**33, 2**33, 2**33]}, f"{CLAIMS} {2**101} bytes; at most {LARGEST} are read"),
    "just too large": ({"dims": [2**27 + 1]}, f"{CLAIMS} {LARGEST + 4} bytes; at most {LARGEST} are read"),
    "larger than it is": ({"dims": [2**27]}, f"{CLAIMS} {LARGEST} bytes for [{2**27}] and has 12"),
    "negative": ({"dims": [3, -1, -1]}, "initializer 'w' must have no negative dimension, not [3, -1, -1]"),
    "complex": ({"data_type": 14}, "initializer 'w' must hold numbers, not elements of type 14"),
    "text": ({"data_type": 8}, "initializer 'w' must hold numbers, not elements of type 8"),
    "no type": ({"data_type": 0}, "initializer 'w' must hold numbers, not elements of type 0"),
    "unknown type": ({"data_type": 99}, "initializer 'w' must hold numbers, not elements of type 99"),
}  # fmt: skip


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_are_not_what_they_claim(case, tmp_path):
    """Nothing is allocated for what is only claimed."""
    changed, text = TENSORS[case]
    made = small()
    made.graph.initializer[0].CopyFrom(tensor(np.ones(3, F), "w", **changed))
    path = written(made, tmp_path)
    tracemalloc.start()
    with pytest.raises(ModelFileError) as raised:
        load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(raised.value) == text
    assert peak < 2**20


def test_tensors_in_fields_of_their_type():
    """Read as raw data are; too few or too many are damage."""
    good = helper.make_tensor("w", TensorProto.FLOAT, [2, 2], [1, 2, 3, 4])
    assert array_of(good, "w").tolist() == [[1, 2], [3, 4]]
    assert not array_of(good, "w").flags.writeable
    for dims in ([2, 3], [3]):
        del good.dims[:]
        good.dims.extend(dims)
        with pytest.raises(ModelFileError, match=r"^initializer 'w' is damaged: "):
            array_of(good, "initializer 'w'")


@pytest.mark.parametrize("element", sorted(TensorProto.DataType.values()))
def test_every_type_of_elements(element):
    """It is read, at the size that it has, or refused by number."""
    made = TensorProto(dims=[8], data_type=element, name="w")
    dtype = None
    if element not in (0, 8, 14, 15):
        dtype = helper.tensor_dtype_to_np_dtype(element)
        made.CopyFrom(onnx.numpy_helper.from_array(np.ones(8).astype(dtype), "w"))
    if dtype is None:
        with pytest.raises(ModelFileError) as raised:
            array_of(made, "it")
        assert str(raised.value) == f"it must hold numbers, not elements of type {element}"
        return
    assert array_of(made, "it").astype(F).tolist() == [1] * 8
    made.raw_data += b"\0"
    with pytest.raises(ModelFileError, match=r"^it claims \d+ bytes for \[8\] and has \d+$"):
        array_of(made, "it")
    graph_of(small(held={"w": np.ones(3, F)}))


class Outside:
    """A model whose tensor w lies in another file."""

    def __init__(self, folder):
        self.folder = folder / "data"
        self.folder.mkdir()
        (self.folder / "w.bin").write_bytes(np.arange(9, dtype=F).tobytes())

    def model(self, location="w.bin", **entries):
        """The model; entries are those of its external data."""
        made = small()
        one = made.graph.initializer[0]
        one.ClearField("raw_data")
        one.data_location = TensorProto.EXTERNAL
        for key, text in {"location": location, **entries}.items():
            one.external_data.add(key=key, value=text)
        return made

    def text(self, location="w.bin", **entries):
        """The text of the error."""
        with pytest.raises(ModelFileError) as raised:
            graph_of(self.model(location, **entries), external_data=self.folder)
        return str(raised.value)


@pytest.fixture
def outside(tmp_path):
    """A folder with nine numbers in a file."""
    return Outside(tmp_path)


def test_external_data(outside, tmp_path):
    """Only from a folder that is named, at an offset, in folders within it."""
    (outside.folder / "deep").mkdir()
    (outside.folder / "deep" / "v.bin").write_bytes(np.full(3, 7, F).tobytes())
    for location, entries, wanted in (
        ("w.bin", {}, [0, 1, 2]),
        ("w.bin", {"offset": "24"}, [6, 7, 8]),
        ("w.bin", {"offset": "8", "length": "12", "checksum": "unused"}, [2, 3, 4]),
        ("./deep/v.bin", {}, [7, 7, 7]),
    ):
        path = written(outside.model(location, **entries), tmp_path)
        found = load(path, external_data=outside.folder)
        (result,) = found.run(X * 0, Accumulator(8)).outputs.values()
        assert result.tolist() == [wanted]
    assert refused(outside.model(), tmp_path) == (
        "initializer 'w' is kept in another file, 'w.bin': name the folder that it is in"
        " (external_data, --external-data)"
    )


@pytest.mark.parametrize(
    "location", ["", "/etc/passwd", "../data/w.bin", "a/../../w.bin", "w\0.bin", ".."]
)
def test_external_data_elsewhere(location, outside):
    """No way out of the folder is taken, whether or not a file is there."""
    assert outside.text(location) == (
        f"initializer 'w' must lie inside the folder of external data, not at {location!r}"
    )


def test_external_data_behind_links(outside, tmp_path):
    """Symbolic or hard, of files or of folders."""
    (tmp_path / "secret").write_bytes(b"\0" * 36)
    (outside.folder / "soft").symlink_to(tmp_path / "secret")
    (outside.folder / "way").symlink_to(tmp_path)
    os.link(tmp_path / "secret", outside.folder / "hard")
    os.mkfifo(outside.folder / "pipe")
    (outside.folder / "folder").mkdir()
    for name in ("soft", "way/secret"):
        assert outside.text(name) == f"initializer 'w' must not be reached by a link: {name!r}"
    for name in ("hard", "pipe", "folder"):
        assert (
            outside.text(name) == f"initializer 'w' must lie in a plain file of one name: {name!r}"
        )
    assert outside.text("none") == "'none' cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ({"offset": "25"}, "initializer 'w' claims bytes 25 to 37 of 'w.bin', which has 36"),
        (
            {"offset": "9" * 19},
            f"initializer 'w' claims bytes {'9' * 19} to 10000000000000000011 of 'w.bin', which has 36",
        ),
        ({"length": "11"}, "initializer 'w' must have length 12, not 11"),
        ({"length": "13"}, "initializer 'w' must have length 12, not 13"),
        ({"offset": "-4"}, "initializer 'w' must have a plain number as offset, not '-4'"),
        ({"offset": "0x4"}, "initializer 'w' must have a plain number as offset, not '0x4'"),
        (
            {"length": "9" * 20},
            f"initializer 'w' must have a plain number as length, not '{'9' * 20}'",
        ),
        ({"offset": "²"}, "initializer 'w' must have a plain number as offset, not '²'"),
        ({"offset": ""}, "initializer 'w' must have a plain number as offset, not ''"),
        ({"key": "1"}, "initializer 'w' has the unknown entry 'key' of external data"),
    ],
)
def test_external_data_of_other_sizes(entries, text, outside):
    """Offset and length are plain numbers within the file."""
    assert outside.text(**entries) == text


def test_much_external_data(outside):
    """All that tensors claim of other files together is limited, before any is read."""
    made = outside.model()
    one = made.graph.initializer[0]
    one.dims[:] = [2**26]
    for place in range(8):
        made.graph.initializer.add().CopyFrom(one)
        made.graph.initializer[-1].name = f"w{place}"
    with pytest.raises(ModelFileError) as raised:
        reading._check(made)
    assert (
        str(raised.value)
        == f"the model must keep at most {LARGEST} bytes in other files, not {9 * 2**28}"
    )


def test_names_in_errors():
    """No control characters, and not too long."""
    assert shown("a\x1b[2J\n") == r"'a\x1b[2J\n'"
    assert shown("n" * 101) == repr("n" * 100 + "...")
    assert first_line(ValueError("a\x1b[31m\nb")) == r"a\x1b[31m"
    assert first_line(ValueError("n" * 300)) == "n" * 200
    assert first_line(KeyError()) == "KeyError"


def test_errors_of_nodes_show_no_control_characters(tmp_path):
    """Whatever names a file gives to nodes, operators, attributes."""
    for field, text in (("name", "Add"), ("op_type", "A\x1b[2Jdd")):
        made = small(node("Add", ["x", "w"], foo=1))
        setattr(made.graph.node[0], field, "\x1b[2J" if field == "name" else text)
        said = refused(made, tmp_path)
        assert said.isprintable()
        assert re.search(r"\\x1b\[2J", said)


def test_external_data_is_read_in_part(outside):
    """A tensor costs its own bytes, not those of the file that holds it."""
    path = outside.folder / "w.bin"
    with path.open("r+b") as file:
        file.truncate(2**31)
    tracemalloc.start()
    graph = graph_of(outside.model(offset="8"), external_data=outside.folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert graph.constants["w"].tolist() == [2, 3, 4]
    assert peak < 2**20


def test_results_of_small_graphs():
    """The builder of these tests and the evaluator agree."""
    assert ours(small(), {"x": X}).tolist() == [[2, 2, 2]]
