"""Layers, and the files that hold them."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from accsim import IntLayer, between, signed, unsigned
from accsim.errors import AccsimError, LayerFileError
from accsim.files import atomically, read_array, read_arrays
from accsim.layer import borrowing, storage

LINEAR = IntLayer([[1, -8, 7], [0, 3, 2]], weight_spec=signed(4), input_spec=unsigned(4))
CONV = IntLayer(
    np.arange(-8, 8).reshape(4, 2, 2, 1),
    weight_spec=signed(4),
    input_spec=between(-3, 9),
    bias=[1, -2, 2**40, 0],
    stride=(1, 2),
    padding=(3, 0),
    dilation=2,
    groups=2,
)


def test_a_layer_is_its_own_and_frozen():
    """The weight is a copy in the narrowest dtype that nobody can write to."""
    weight = np.array([[1, 2]])
    layer = IntLayer(weight, weight_spec=signed(4), input_spec=unsigned(4), bias=[5])
    weight[0, 0] = 7
    assert layer.weight.tolist() == [[1, 2]]
    assert layer.weight.dtype == np.int8
    for array in (layer.weight, layer.bias, layer.rows):
        with pytest.raises(ValueError, match="read-only"):
            array[:1] = 0
    assert CONV.geometry == ((1, 2), (3, 0), (2, 2), 2)
    assert (CONV.channels, CONV.taps, CONV.is_conv, LINEAR.is_conv) == (4, 4, True, False)


def test_arrays_of_the_stored_dtype_are_copied_too():
    """Changing them afterwards does not change the layer."""
    weight, bias = np.array([[1, 2]], np.int8), np.array([5])
    layer = IntLayer(weight, weight_spec=signed(4), input_spec=unsigned(4), bias=bias)
    weight[:], bias[:] = 0, 0
    assert (layer.weight.tolist(), layer.bias.tolist()) == ([[1, 2]], [5])


def test_the_range_of_the_weights():
    """That of the weights themselves, beside the declared one; it survives files and pickles."""
    assert (LINEAR.weight_range, LINEAR.weight_spec) == (between(-8, 7), signed(4))
    narrow = IntLayer([[1, 2], [3, -1]], weight_spec=signed(4), input_spec=unsigned(4))
    assert narrow.weight_range == between(-1, 3)
    assert pickle.loads(pickle.dumps(narrow)).weight_range == between(-1, 3)
    empty = IntLayer(np.zeros((2, 0), int), weight_spec=unsigned(4), input_spec=unsigned(4))
    assert empty.weight_range == between(0, 0)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "int64"])
@pytest.mark.parametrize("shape", [(4, 6), (4, 3, 2, 1)])
def test_a_borrowing_layer_is_as_any_other(kind, shape):
    """For one call the weight is read where it is if it can be; all else is the same."""
    weight = np.arange(24).reshape(shape).astype(kind)
    options = {"bias": [3, 0, 1, 2], "groups": 1 if len(shape) == 2 else 2}
    for given in (weight, weight[:, ::2], weight[::-1]):
        weights = between(int(given.min()), int(given.max()))
        found = borrowing(given, weights, signed(4), options)
        kept = IntLayer(given, weight_spec=weights, input_spec=signed(4), **options)
        for name in ("weight", "bias"):
            one, other = getattr(found, name), getattr(kept, name)
            np.testing.assert_array_equal(one, other)
            assert (one.dtype, one.strides) == (other.dtype, other.strides)
            assert (one.flags.writeable, one.flags.c_contiguous) == (False, True)
        for name in ("weight_spec", "input_spec", "weight_range", "geometry", "is_conv", "taps"):
            assert getattr(found, name) == getattr(kept, name)
        shares = given is weight and kind == "int8"
        assert np.shares_memory(found.weight, given) == shares
    assert weight.flags.writeable


@pytest.mark.parametrize(
    "options",
    [{"stride": 2}, {"groups": True}, {"bias": [1]}, {"bias": [0.5] * 4}, {"padding": -1}],
)
def test_a_borrowing_layer_refuses_the_same(options):
    """Geometry and bias are checked alike."""
    weight = np.ones((4, 6), np.int8)
    with pytest.raises(AccsimError) as ours:
        borrowing(weight, between(1, 1), signed(4), options)
    with pytest.raises(AccsimError) as theirs:
        IntLayer(weight, weight_spec=signed(4), input_spec=signed(4), **options)
    assert (type(ours.value), str(ours.value)) == (type(theirs.value), str(theirs.value))


def test_storage_at_its_edges():
    """One past either end of a dtype the next is taken."""
    for bits, wider in ((8, 16), (16, 32), (32, 64)):
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        assert storage(between(low, high)) == np.dtype(f"int{bits}")
        assert storage(between(low - 1, 0)) == storage(between(0, high + 1)) == f"int{wider}"


@pytest.mark.parametrize("bits", [8, 9, 16, 17, 32, 33])
def test_storage_holds_both_ends(bits):
    """The widest codes survive storage, signed and unsigned."""
    for spec in (signed(bits), unsigned(bits)):
        layer = IntLayer([[spec.min, spec.max]], weight_spec=spec, input_spec=unsigned(1))
        assert layer.weight.tolist() == [[spec.min, spec.max]]


@pytest.mark.parametrize("layer", [LINEAR, CONV], ids=["linear", "conv"])
def test_save_and_load(layer, tmp_path):
    """A round trip changes nothing, and the same layer makes the same bytes."""
    for name in ("a.npz", "b.npz"):
        layer.save(tmp_path / name)
    loaded = IntLayer.load(tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert loaded.weight.tolist() == layer.weight.tolist()
    assert (loaded.weight_spec, loaded.input_spec) == (layer.weight_spec, layer.input_spec)
    assert loaded.geometry == layer.geometry
    assert (loaded.bias is None) == (layer.bias is None)
    assert layer.bias is None or loaded.bias.tolist() == layer.bias.tolist()
    assert sorted(os.listdir(tmp_path)) == ["a.npz", "b.npz"]


def good():
    """The arrays of a good layer file."""
    return {
        "format": np.array(1),
        "weight": np.array([[1, 2]], np.int8),
        "weight_spec": np.array([-8, 7]),
        "input_spec": np.array([0, 15]),
        "groups": np.array(1),
        "stride": np.array([1, 1]),
        "padding": np.array([0, 0]),
        "dilation": np.array([1, 1]),
    }


def saved(path, **changes):
    """A layer file with some arrays changed; None leaves one out."""
    np.savez(path, **{k: v for k, v in (good() | changes).items() if v is not None})


def npy(shape="(1, 2)", descr="|i1", body=b"\1\2", version=b"\1\0"):
    """One .npy member, claims and body as given."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    header = header.ljust(117) + "\n"
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header.encode() + body


def member(path, data, name="weight.npy", **how):
    """A good file in which one member's bytes are these."""
    saved(path)
    with zipfile.ZipFile(path) as old:
        kept = {i.filename: old.read(i) for i in old.infolist() if i.filename != name}
    with zipfile.ZipFile(path, "w") as new:
        for other, content in kept.items():
            new.writestr(other, content)
        new.writestr(name, data, **how)


class Canary:
    """Unpickling this writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def pickled(path):
    """An object array whose pickle would leave a file behind."""
    stream = io.BytesIO()
    np.save(stream, np.array([Canary(path.with_name("canary"))], dtype=object), allow_pickle=True)
    member(path, stream.getvalue())


def lying_size(path):
    """The directory claims a terabyte for one member."""
    saved(path)
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\1\2")
    data[at + 20 : at + 28] = b"\xf0\xff\xff\x7f" * 2
    path.write_bytes(bytes(data))


def duplicate(path):
    """Two members of one name."""
    saved(path)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("weight.npy", npy())


HOSTILE = {
    "empty": lambda p: p.write_bytes(b""),
    "text": lambda p: p.write_text("hello"),
    "pickle": lambda p: p.write_bytes(pickle.dumps(LINEAR.weight)),
    "bare npy": lambda p: p.write_bytes(npy()),
    "folder": lambda p: p.mkdir(),
    "missing": lambda p: None,
    "object array": pickled,
    "compressed": lambda p: np.savez_compressed(p, **good()),
    "bomb": lambda p: np.savez_compressed(p, **good() | {"weight": np.zeros((1, 2**24), np.int8)}),
    "lying size": lying_size,
    "duplicate": duplicate,
    "huge claim": lambda p: member(p, npy(shape=f"(1, {2**43})")),
    "negative shape": lambda p: member(p, npy(shape="(-1, -2)")),
    "zero times huge": lambda p: member(p, npy(shape=f"(0, {2**70})", body=b"")),
    "short body": lambda p: member(p, npy(body=b"\1")),
    "long body": lambda p: member(p, npy(body=b"\1\2\3")),
    "code in header": lambda p: member(p, npy(shape="(print(1), 2)")),
    "unknown npy version": lambda p: member(p, npy(version=b"\3\0")),
    "not npy": lambda p: member(p, b"hello"),
    "compressed member": lambda p: member(p, npy(), compress_type=zipfile.ZIP_DEFLATED),
    "floats": lambda p: saved(p, weight=np.array([[1.0, 2.0]])),
    "bools": lambda p: saved(p, weight=np.array([[True]])),
    "text array": lambda p: saved(p, weight=np.array([["1"]])),
    "lacks weight": lambda p: saved(p, weight=None),
    "lacks format": lambda p: saved(p, format=None),
    "extra": lambda p: saved(p, more=np.array(1)),
    "other format": lambda p: saved(p, format=np.array(2)),
    "format array": lambda p: saved(p, format=np.array([1, 1])),
    "spec of three": lambda p: saved(p, input_spec=np.array([0, 1, 2])),
    "spec backwards": lambda p: saved(p, input_spec=np.array([5, 2])),
    "weight outside": lambda p: saved(p, weight=np.array([[1, 8]])),
    "weight of 3 axes": lambda p: saved(p, weight=np.ones((1, 1, 1), np.int8)),
    "stride 0": lambda p: saved(p, stride=np.array([0, 1])),
    "stride of three": lambda p: saved(p, stride=np.array([1, 1, 1])),
    "groups array": lambda p: saved(p, groups=np.array([1, 1])),
    "bias of wrong shape": lambda p: saved(p, bias=np.array([1, 2, 3])),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused(kind, tmp_path):
    """Each is a LayerFileError of one line that names the file; nothing runs, nothing is left."""
    path = tmp_path / "layer.npz"
    HOSTILE[kind](path)
    with pytest.raises(LayerFileError, match=r"^layer\.npz[ :][^\n]*$"):
        IntLayer.load(path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("kind", "text"),
    [("short body", "claims 2 bytes and has 1"), ("long body", "claims 2 bytes and has 3"),
     ("huge claim", "claims 8796093022208 bytes and has 2"),
     ("zero times huge", "claims the impossible shape (0, 1180591620717411303424)")],
)  # fmt: skip
def test_a_false_claim_is_told(kind, text, tmp_path):
    """Both figures, before anything is allocated."""
    HOSTILE[kind](tmp_path / "layer.npz")
    with pytest.raises(LayerFileError) as caught:
        IntLayer.load(tmp_path / "layer.npz")
    assert str(caught.value) == f"layer.npz: weight.npy {text}"


def test_the_canary_works(tmp_path):
    """The object array above does run code where pickle is allowed."""
    path = tmp_path / "layer.npz"
    pickled(path)
    with np.load(path, allow_pickle=True) as arrays, pytest.warns(ResourceWarning):
        arrays["weight"]
        import gc

        gc.collect()
    assert (tmp_path / "canary").exists()


def test_every_truncation_is_refused(tmp_path):
    """A file cut short at any byte is refused."""
    LINEAR.save(tmp_path / "whole.npz")
    data = (tmp_path / "whole.npz").read_bytes()
    path = tmp_path / "layer.npz"
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(LayerFileError):
            IntLayer.load(path)


def test_every_flipped_byte_is_refused_or_harmless(tmp_path):
    """One changed byte gives a LayerFileError or a legal layer, never another error."""
    LINEAR.save(tmp_path / "whole.npz")
    data = (tmp_path / "whole.npz").read_bytes()
    path = tmp_path / "layer.npz"
    refused = 0
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x15]) + data[at + 1 :])
        try:
            IntLayer.load(path)
        except LayerFileError:
            refused += 1
    assert refused > len(data) // 2


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    """After an error or Ctrl-C the target is as before and nothing lies beside it."""
    target = tmp_path / "layer.npz"
    target.write_bytes(b"old")
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), atomically(target) as file:
            file.write(b"half")
            raise error
        assert os.listdir(tmp_path) == ["layer.npz"]
        assert target.read_bytes() == b"old"


def test_arrays_alone(tmp_path):
    """.npy and .npz of integers are read as numpy wrote them, either memory order."""
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    np.save(tmp_path / "x.npy", np.asfortranarray(array))
    assert read_array(tmp_path / "x.npy").tolist() == array.tolist()
    np.savez(tmp_path / "x.npz", a=array)
    assert read_arrays(tmp_path / "x.npz")["a"].tolist() == array.tolist()
    np.save(tmp_path / "x.npy", array / 2)
    with pytest.raises(LayerFileError, match=r"^x\.npy must hold integers, not float64$"):
        read_array(tmp_path / "x.npy")
