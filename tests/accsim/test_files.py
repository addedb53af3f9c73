"""Arrays in files: what is read back, what is refused, and writes that fail half way."""

import io
import os
import stat
import tracemalloc
import zipfile

import numpy as np
import pytest

from accsim import IntLayer, files, signed, unsigned
from accsim.errors import LayerFileError
from accsim.files import DATA, MAX_MEMBERS, atomically, read_array, read_arrays, write_arrays

LAYER = IntLayer([[1, -8], [0, 7]], weight_spec=signed(4), input_spec=unsigned(4))


def npy(header: str, body: bytes = b"", version: bytes = b"\1\0") -> bytes:
    """The bytes of a .npy file with this header text, true or not."""
    text = header.encode("latin1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    size = len(text).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + size + text + body


def claim(shape: str, descr: str = "'<i8'", order: str = "False") -> str:
    """A header of numpy's form."""
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


@pytest.mark.parametrize("kind", ["i1", "u1", "<i2", ">u2", "<i4", ">i4", "<u8", ">i8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (6,), (2, 3), (1, 2, 3, 1)])
def test_arrays_come_back_as_written(tmp_path, kind, order, shape):
    """Every integer dtype, byte order, memory order and shape, empty ones too."""
    size = int(np.prod(shape))
    array = np.asarray((np.arange(size) + 120).astype(kind).reshape(shape), order=order)
    np.save(tmp_path / "x.npy", array)
    write_arrays(tmp_path / "x.npz", {"first": array, "second": array.T})
    alone, both = read_array(tmp_path / "x.npy"), read_arrays(tmp_path / "x.npz")
    assert list(both) == ["first", "second"]
    for found, expected in ((alone, array), (both["first"], array), (both["second"], array.T)):
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("kind", ["<f2", ">f4", "<f4", "<f8", "|i1", "<u8"])
def test_data_may_be_floats_and_deflated(tmp_path, kind):
    """Where it is asked for; the files of layers and their inputs stay integers, uncompressed."""
    array = np.array([[0.5, 3, 120], [0, 7, 100]]).astype(kind)
    np.save(tmp_path / "x.npy", array)
    np.savez_compressed(tmp_path / "x.npz", a=array, b=array.T)
    alone, both = read_array(tmp_path / "x.npy", DATA), read_arrays(tmp_path / "x.npz", DATA)
    for found, expected in ((alone, array), (both["a"], array), (both["b"], array.T)):
        assert (found.dtype, found.tolist()) == (expected.dtype, expected.tolist())
    with pytest.raises(LayerFileError, match=r"^x\.npz: a\.npy must be stored uncompressed$"):
        read_arrays(tmp_path / "x.npz")
    if array.dtype.kind == "f":
        with pytest.raises(LayerFileError, match=r"^x\.npy must hold integers, not "):
            read_array(tmp_path / "x.npy")


@pytest.mark.parametrize("kind", ["|b1", "<c8", "<f16", "<U1"])
def test_data_are_integers_or_floats(tmp_path, kind):
    """Of at most 8 bytes each: no bools, no complex numbers, no text."""
    np.save(tmp_path / "x.npy", np.zeros(2).astype(kind))
    with pytest.raises(LayerFileError, match=r"^x\.npy must hold integers or floats, not "):
        read_array(tmp_path / "x.npy", DATA)


def deflated(path, body, claimed=None, method=zipfile.ZIP_DEFLATED):
    """An archive of one member, which may claim another size than it has."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.npy", body)
        archive.infolist()[0].file_size = len(body) if claimed is None else claimed
    return path


def test_deflated_data_within_limits(tmp_path, monkeypatch):
    """As much as deflate can stand for, but no more than the limit; and no other compression."""
    body = npy(claim("(100000,)"), bytes(800000))
    path = deflated(tmp_path / "x.npz", body)
    there = path.stat().st_size
    assert len(body) > 400 * there
    assert read_arrays(path, DATA)["a"].shape == (100000,)
    for limit, most in ((len(body), None), (len(body) - 1, len(body) - 1)):
        monkeypatch.setattr(files, "MAX_BYTES", limit)
        if most is None:
            read_arrays(path, DATA)
            continue
        with pytest.raises(LayerFileError) as caught:
            read_arrays(path, DATA)
        assert str(caught.value) == (
            f"x.npz claims {len(body)} bytes of deflated arrays; at most {most} are read from its"
            f" {there}"
        )
    monkeypatch.undo()
    most = 1032 * there
    with pytest.raises(LayerFileError, match=f"; at most {most} are read from its {there}$"):
        read_arrays(deflated(path, body, claimed=2**29), DATA)
    deflated(path, body, method=zipfile.ZIP_BZIP2)
    with pytest.raises(LayerFileError, match=r"a\.npy must be stored uncompressed or deflated$"):
        read_arrays(path, DATA)


def test_no_more_is_inflated_than_is_claimed(tmp_path):
    """A member that holds far more than it says is damaged, and costs no memory."""
    body = npy(claim("(10,)"), bytes(80)) + bytes(2**28)
    path = deflated(tmp_path / "x.npz", body, claimed=208)
    tracemalloc.start()
    with pytest.raises(LayerFileError, match=r"^x\.npz is not a complete \.npz file: Bad CRC-32"):
        read_arrays(path, DATA)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


@pytest.mark.parametrize("change", [lambda d: d[:60] + b"\xff" * 20 + d[80:], lambda d: d[:200]])
def test_damaged_deflated_data_are_refused(tmp_path, change):
    """Whatever inflating meets is one typed error."""
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.random.default_rng(0).random(100))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(LayerFileError, match=r"^x\.npz is not a complete \.npz file: "):
        read_arrays(path, DATA)


def test_second_header_version_is_read(tmp_path):
    """Numpy's version 2 header, which has a longer length field, is as good as version 1."""
    (tmp_path / "x.npy").write_bytes(npy(claim("(2,)"), bytes(range(16)), version=b"\2\0"))
    assert read_array(tmp_path / "x.npy").tolist() == [0x0706050403020100, 0x0F0E0D0C0B0A0908]


BAD_NPY = [
    ("nothing", b"", "does not start with a numpy header"),
    ("magic alone", b"\x93NUMPY", "does not start with a numpy header"),
    ("version 3", npy(claim("(0,)"), version=b"\3\0"), "does not start with a numpy header"),
    ("length beyond the end", b"\x93NUMPY\1\0\xff\xff{", "does not start with a numpy header"),
    ("not a dictionary", npy("[1, 2]"), "does not start with a numpy header"),
    ("a call", npy("__import__('os')"), "does not start with a numpy header"),
    ("other keys", npy("{'descr': '<i8'}"), "does not start with a numpy header"),
    ("bad order", npy(claim("(0,)", order="3")), "does not start with a numpy header"),
    (
        "endless shape",
        npy(claim(f"({'9' * 5000},)"), bytes(8)),
        "does not start with a numpy header",
    ),
    ("float shape", npy(claim("(1.0,)"), bytes(8)), "does not start with a numpy header"),
    ("leading zero", npy(claim("(01,)"), bytes(8)), "does not start with a numpy header"),
    ("float", npy(claim("(1,)", "'<f8'"), bytes(8)), "must hold integers, not float64"),
    ("bool", npy(claim("(1,)", "'|b1'"), b"\1"), "must hold integers, not bool"),
    ("object", npy(claim("(1,)", "'|O'"), bytes(8)), "must hold integers, not object"),
    ("time", npy(claim("(1,)", "'<M8[s]'"), bytes(8)), "does not start with a numpy header"),
    ("three-byte integers", npy(claim("(1,)", "'<i3'"), bytes(3)), "must hold integers, not <i3"),
    ("one too few", npy(claim("(3,)"), bytes(16)), "claims 24 bytes and has 16"),
    ("one too many", npy(claim("(1,)"), bytes(16)), "claims 8 bytes and has 16"),
    ("one byte too many", npy(claim("(1,)"), bytes(9)), "claims 8 bytes and has 9"),
    ("terabyte", npy(claim(f"({2**40},)")), f"claims {2**43} bytes and has 0"),
    ("beyond 64 bits", npy(claim(f"({2**70}, 2)")), f"claims {2**74} bytes and has 0"),
    ("negative", npy(claim("(-1,)"), bytes(8)), "does not start with a numpy header"),
    ("twice negative", npy(claim("(-1, -1)"), bytes(8)), "does not start with a numpy header"),
    ("0 and vast", npy(claim(f"({2**70}, 0)")), f"claims the impossible shape ({2**70}, 0)"),
    ("65 axes", npy(claim(f"({'1, ' * 64}1)"), bytes(8)), "claims the impossible shape ("),
]


@pytest.mark.parametrize(("data", "text"), [c[1:] for c in BAD_NPY], ids=[c[0] for c in BAD_NPY])
def test_bad_array_files_are_refused(tmp_path, data, text):
    """Each is one sentence with the file's name, alone and as a member of an archive."""
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(LayerFileError) as caught:
        read_array(tmp_path / "x.npy")
    assert str(caught.value).startswith(f"x.npy {text}")
    assert "\n" not in str(caught.value)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", data)
    with pytest.raises(LayerFileError) as caught:
        read_arrays(tmp_path / "x.npz")
    assert str(caught.value).startswith(f"x.npz: a.npy {text}")


LEAKS = [
    ("open bracket", claim("(")),
    ("open string", claim("'''")),
    ("empty dtype tuple", claim("(1,)", "()")),
    ("bool shape", claim("(True,)")),
    ("deep", "-" * 9000 + "1"),
    ("long of Python 2", claim("(1L,)")),
]


@pytest.mark.parametrize("header", [c[1] for c in LEAKS], ids=[c[0] for c in LEAKS])
def test_headers_that_break_the_parser_are_refused(tmp_path, header):
    """A header that numpy cannot even tokenize is a LayerFileError like any other."""
    (tmp_path / "x.npy").write_bytes(npy(header, bytes(8)))
    with pytest.raises(LayerFileError, match=r"^x\.npy does not start with a numpy header$"):
        read_array(tmp_path / "x.npy")


def test_member_names_that_are_no_text_are_refused(tmp_path):
    """A name marked as UTF-8 that is not UTF-8 is damage, not another error."""
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("naïve.npy", npy(claim("(1,)"), bytes(8)))
    path.write_bytes(path.read_bytes().replace("ï".encode(), b"\xff\xff"))
    with pytest.raises(LayerFileError):
        read_arrays(path)


def test_one_array_has_one_member(tmp_path):
    """Members "a" and "a.npy" are both the array a: refused, not decided by their order."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for name in ("a", "a.npy"):
            archive.writestr(name, npy(claim("(1,)"), bytes(8)))
    with pytest.raises(LayerFileError, match=r"^x\.npz must name each array once$"):
        read_arrays(tmp_path / "x.npz")


@pytest.mark.parametrize("extra", [0, 1])
def test_the_number_of_members_is_bounded(tmp_path, extra):
    """The largest allowed number of arrays is read; one more is refused unread."""
    data = npy(claim("(0,)"))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for i in range(MAX_MEMBERS + extra):
            archive.writestr(f"{i}.npy", data)
    if not extra:
        assert len(read_arrays(tmp_path / "x.npz")) == MAX_MEMBERS
        return
    with pytest.raises(LayerFileError) as caught:
        read_arrays(tmp_path / "x.npz")
    assert str(caught.value) == f"x.npz must hold at most {MAX_MEMBERS} arrays, not 1025"


def test_members_that_share_bytes_are_refused(tmp_path):
    """An archive whose directory lists one member's bytes many times claims more than it has."""
    path, body = tmp_path / "x.npz", bytes(8000)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", npy(claim("(1000,)"), body))
        first = archive.infolist()[0]
        for name in ("b.npy", "c.npy"):
            other = zipfile.ZipInfo(name)
            for field in ("CRC", "file_size", "compress_size", "header_offset"):
                setattr(other, field, getattr(first, field))
            archive.filelist.append(other)
    claimed = 3 * len(npy(claim("(1000,)"), body))
    with pytest.raises(LayerFileError) as caught:
        read_arrays(path)
    assert str(caught.value) == (
        f"x.npz claims {claimed} bytes of arrays and has {path.stat().st_size}"
    )


def test_an_encrypted_member_is_refused(tmp_path):
    """A member that wants a password is a LayerFileError."""
    path = tmp_path / "x.npz"
    write_arrays(path, {"a": np.arange(3)})
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.find(mark) + offset] |= 1
    path.write_bytes(bytes(data))
    with pytest.raises(LayerFileError, match=r"^x\.npz is not a complete \.npz file: "):
        read_arrays(path)


def test_a_wrong_checksum_is_refused(tmp_path):
    """One flipped bit inside an array's own bytes does not pass for another number."""
    path = tmp_path / "x.npz"
    LAYER.save(path)
    data = path.read_bytes()
    at = data.find(b"weight.npy") + data[data.find(b"weight.npy") :].find(b"\n") + 1
    assert data[at : at + 4] == LAYER.weight.tobytes()
    path.write_bytes(data[:at] + bytes([data[at] ^ 2]) + data[at + 1 :])
    with pytest.raises(LayerFileError, match="CRC"):
        IntLayer.load(path)


@pytest.mark.parametrize("reader", [read_array, read_arrays, IntLayer.load])
def test_what_cannot_be_opened_is_refused(tmp_path, reader):
    """A missing file and a folder are errors of the file, with the system's own reason."""
    with pytest.raises(LayerFileError) as caught:
        reader(tmp_path / "none.npz")
    assert str(caught.value) == "none.npz cannot be read: No such file or directory"
    (tmp_path / "folder").mkdir()
    with pytest.raises(LayerFileError) as caught:
        reader(str(tmp_path / "folder"))
    assert str(caught.value) == "folder cannot be read: Is a directory"


def test_a_finished_write_replaces_the_target(tmp_path):
    """The old bytes stay until the block ends; then the new ones are there, readable by all."""
    target = tmp_path / "x.bin"
    target.write_bytes(b"old")
    with atomically(target) as file:
        file.write(b"new")
        file.flush()
        assert target.read_bytes() == b"old"
        assert len(os.listdir(tmp_path)) == 2  # the other lies beside it, on the same file system
    assert target.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["x.bin"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


def test_a_failed_save_leaves_the_old_layer(tmp_path, monkeypatch):
    """A disk that fills up after some bytes costs the new file, never the old one."""
    path = tmp_path / "x.npz"
    LAYER.save(path)
    before = path.read_bytes()

    def full(file: io.BufferedWriter, *_: object, **__: object) -> None:
        file.write(before[:99])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(OSError, match="No space left on device"):
        LAYER.save(path)
    assert os.listdir(tmp_path) == ["x.npz"]
    assert path.read_bytes() == before


def test_a_target_that_is_a_folder_survives(tmp_path):
    """A folder is not replaced by a file, and nothing is left beside it."""
    (tmp_path / "x.npz").mkdir()
    with pytest.raises(OSError, match="A folder, not a file"):
        LAYER.save(tmp_path / "x.npz")
    assert os.listdir(tmp_path) == ["x.npz"]
    assert os.listdir(tmp_path / "x.npz") == []


@pytest.mark.parametrize("read", [read_array, read_arrays], ids=["npy", "npz"])
def test_a_pipe_is_no_file(tmp_path, read):
    """Opening one would wait for somebody to write."""
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(LayerFileError, match=r"^pipe.npz cannot be read: Not a plain file$"):
        read(tmp_path / "pipe.npz")
