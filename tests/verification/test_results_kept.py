"""What the command writes takes the place of nothing that a model is read from; closed pipes."""

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from model_cases import MLP, WRONG


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model whose weights are beside it, links to these, and inputs."""
    (tmp_path / "net").mkdir()
    onnx.save(
        onnx.load(WRONG),
        tmp_path / "net" / "m.onnx",
        save_as_external_data=True,
        location="e.bin",
        size_threshold=0,
    )
    for ending in ("onnx", "npz", "png"):  # whatever a result must be called
        (tmp_path / "net" / f"other.{ending}").write_bytes(b"of another model")
        (tmp_path / f"soft.{ending}").symlink_to(tmp_path / "net" / "e.bin")
        os.link(tmp_path / "net" / f"other.{ending}", tmp_path / f"hard.{ending}")
        (tmp_path / "net" / f"out.{ending}").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(tmp_path / "net")
    (tmp_path / "net" / "fcs.0_Gemm.json").write_bytes(b"weights, too")
    np.save(tmp_path / "x.npy", np.ones((2, 64)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS = {
    "--out": (("minimize", "net/m.onnx", "--out"), ".onnx"),
    "-o": (("minimize", "net/m.onnx", "-o"), ".onnx"),
    "--html": (("verify", "net/m.onnx", "--bits", 12, "--html"), ".onnx"),
    "--out of run": (("run", "net/m.onnx", "x.npy", "--bits", 12, "--out"), ".npz"),
    "--plot": (("sweep", "net/m.onnx", "x.npy", "--bits", 12, "--plot"), ".png"),
}


@pytest.mark.parametrize("place", ["net/other", "link/other", "soft", "hard", "net/out"])
@pytest.mark.parametrize("option", COMMANDS)
def test_no_result_over_external_data(option, place, command, folder):
    """Nor over any other file of that folder, by its own name or by a link of either kind."""
    words, ending = COMMANDS[option]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, out, err = command(*words, place + ending, "--external-data", "net")
    name = "--out" if option == "-o" else option.split()[0]
    text = f"accsim: Invalid value: {name} must be no file that is in the folder of --external-data"
    assert (code, out, err.startswith(text), err.count("\n")) == (2, "", True, 1)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_page_is_not_written_over_the_weights(command, folder):
    """The file whatever its ending; a new file of that folder is as good as any."""
    words = ("verify", "net/m.onnx", "--bits", 12, "--external-data", "net", "--html")
    before = (folder / "net" / "e.bin").read_bytes()
    assert command(*words, "net/e.bin")[0] == 2
    assert (folder / "net" / "e.bin").read_bytes() == before
    assert command(*words, "net/new.html")[0] == 1
    assert (folder / "net" / "new.html").is_file()


def test_no_witness_over_external_data(command, folder):
    """None of them is written then."""
    words = ("verify", "net/m.onnx", "--bits", 12, "--external-data", "net", "--witnesses")
    code, _, err = command(*words, "net")
    text = "--witnesses must be no file that is in the folder of --external-data, as fcs.0_Gemm.json is"
    assert (code, err) == (2, f"accsim: Invalid value: {text}\n")
    assert (folder / "net" / "fcs.0_Gemm.json").read_bytes() == b"weights, too"
    assert command(*words, "net/seen")[0] == 1
    assert len(list((folder / "net" / "seen").iterdir())) == 2


def test_a_model_is_written_to_a_model_file(command, folder):
    """By its ending; the weights' own is none."""
    words = ("minimize", "net/m.onnx", "--external-data", "net", "-o")
    code, _, err = command(*words, "net/e.bin")
    text = "accsim: Invalid value: --out must be an .onnx file, not net/e.bin\n"
    assert (code, err) == (2, text)
    assert command(*words, "net/least.onnx")[0] == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_is_one_line():
    """However much of the output was there already."""
    code = "from verification.cli import main; main()"
    words = [sys.executable, "-c", code, "verify", str(MLP), "--bits", "12"]
    with open("/dev/full", "w") as full:
        made = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (made.returncode, made.stderr) == (2, b"accsim: No space left on device\n")


@pytest.mark.parametrize(
    "words",
    [
        ["verify", MLP, "--bits", "12"],
        ["verify", WRONG, "--bits", "12"],
        ["verify", MLP, "--bits", "12", "--json"],
        ["--help"],
        ["--version"],
    ],
    ids=str,
)
def test_a_closed_pipe_is_no_verdict(words):
    """Whoever reads has ended: 141, as of other tools, and not a word."""
    read, write = os.pipe()
    os.close(read)
    code = "from verification.cli import main; main()"
    made = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (made.returncode, made.stderr) == (141, b"")
