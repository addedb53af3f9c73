"""`accsim train`: a recipe becomes proved layers in a folder, however often it is interrupted."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

import a2qplus
from a2qplus import (
    fit,
    float_network,
    quantize_model,
    quantized_network,
    read_recipe,
    recipe_data,
)
from a2qplus.checkpoint import read_tensors
from a2qplus.train import accuracy
from accsim import Accumulator, IntLayer
from accsim.errors import UnsafeLayerError
from verification import Verdict, decide, training
from verification.reading import read_reports

ROOT = Path(__file__).parents[2]
RECIPE = """
seed = 3
[data]
source = "my.npz"
[network]
model = "my_network:network"
[float_training]
epochs = 3
learning_rate = 1e-2
batch = 16
[quantization]
weight_bits = 4
act_bits = 4
acc_bits = 8
method = "budget"
edge_bits = "none"
[quantized_training]
epochs = 3
learning_rate = 1e-2
batch = 16
"""
STEPS = 7  # of an epoch
NETWORK = """
import os, signal, torch
from torch import nn

steps = []

class Watched(nn.Module):
    def forward(self, x):
        if self.training and torch.is_grad_enabled() and isinstance(x, torch.Tensor):
            steps.append(1)
            if len(steps) == int(os.environ.get("CTRL_C_IN_STEP", 0)):
                os.kill(os.getpid(), signal.SIGINT)
                print("the step goes on")
        return x

def network():
    hidden = [nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.ReLU()]
    return nn.Sequential(*hidden, Watched(), nn.Linear(16, 3))
"""


@pytest.fixture
def folder(tmp_path):
    """A recipe, its data and its network."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((140, 6))
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    np.savez(tmp_path / "my.npz", x=x[:100], y=y[:100], test_x=x[100:], test_y=y[100:])
    (tmp_path / "my_network.py").write_text(NETWORK)
    (tmp_path / "my.toml").write_text(RECIPE)
    yield tmp_path
    sys.modules.pop("my_network", None)


def changed(folder, *changes):
    """The recipe with some text replaced."""
    text = RECIPE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "my.toml").write_text(text)
    return folder / "my.toml"


def content(folder):
    """All files below the folder, by name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_written_is_what_was_told(command, folder):
    """result.json, the layers decided again, and both networks' states give the same figures."""
    out = folder / "run"
    code, text, err = command("train", folder / "my.toml", "--out", out, "--json")
    told = json.loads(text)
    assert (code, err, told["schema"], told["verdict"]) == (0, "", "accsim.train/1", "proved")
    assert json.loads((out / "result.json").read_text()) == told
    assert sorted(p.name for p in out.iterdir()) == [
        "float.checkpoint", "float.pt", "layers", "model.pt", "quantized.checkpoint",
        "recipe.toml", "result.json",
    ]  # fmt: skip
    assert (told["train_inputs"], told["test_inputs"]) == (100, 40)
    assert (told["recipe"]["seed"], told["recipe"]["quantization"]["acc_bits"]) == (3, 8)
    assert {"accsim", "python", "torch"} <= told["versions"].keys()
    assert list(told["layers"]) == ["0", "5"]
    for name, layer in told["layers"].items():
        found = decide(IntLayer.load(out / "layers" / f"{name}.npz"), Accumulator(8))
        assert (layer["acc_bits"], layer["verdict"]) == (8, str(found.verdict))
        assert layer["least_bits"] == found.least_bits
    recipe = read_recipe(folder / "my.toml")
    data = recipe_data(recipe)
    source = float_network(recipe, data).eval()
    source.load_state_dict(read_tensors(out / "float.pt"))
    model = quantized_network(recipe, source, data).eval()
    model.load_state_dict(read_tensors(out / "model.pt"))
    figures = [accuracy(each, data.test_x, data.test_y) for each in (source, model)]
    assert figures == [told["float_accuracy"], told["quantized_accuracy"]]
    assert min(figures) > 0.4  # chance is 0.33


def test_the_command_is_the_plain_calls(command, folder):
    """The same bits as `fit` and `quantize_model` give with the recipe's arguments."""
    assert command("train", folder / "my.toml", "--out", folder / "run")[0] == 0
    recipe = read_recipe(folder / "my.toml")
    data = recipe_data(recipe)
    how = {"epochs": 3, "learning_rate": 1e-2, "batch": 16, "seed": 3}
    source = float_network(recipe, data)
    fit(source, data.train_x, data.train_y, **how)
    bits = {"weight_bits": 4, "act_bits": 4, "acc_bits": 8, "edge_bits": None}
    model = quantize_model(source, **bits, method="budget", calibration=data.train_x)
    fit(model, data.train_x, data.train_y, **how)
    for name, network in (("float", source), ("model", model)):
        written = read_tensors(folder / "run" / f"{name}.pt")
        for key, value in network.state_dict().items():
            assert torch.equal(written[key], value)


def test_the_same_command_again_trains_nothing(command, folder):
    """It prints the same, as a table or as JSON, and every file stays as it was."""
    out = folder / "run"
    words = ("train", folder / "my.toml", "--out", out)
    _, first, _ = command(*words, "--json")
    before = content(out)
    stamp = (out / "quantized.checkpoint").stat().st_mtime_ns
    _, again, _ = command(*words, "--json")
    assert again == first
    assert content(out) == before
    assert (out / "quantized.checkpoint").stat().st_mtime_ns == stamp
    code, text, err = command(*words)
    assert (code, err) == (0, "")
    told = json.loads(first)
    rows = {line.split()[0]: line.split()[-3:] for line in text.splitlines() if "INT4" in line}
    assert rows == {
        name: ["8", str(layer["least_bits"]), "proved"] for name, layer in told["layers"].items()
    }
    shares = [f"{100 * told[f'{kind}_accuracy']:.1f} %" for kind in ("float", "quantized")]
    assert f"Accuracy on 40 test inputs: float {shares[0]}, quantized {shares[1]}" in text


def test_the_docs(command, tmp_path, monkeypatch, capsys):
    """The recipe, but for the number of epochs; the code, which reads its results at last."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "digits.toml").read_text()
    assert text.count("epochs = 15") == 2
    Path("docs").mkdir()
    Path("docs/digits.toml").write_text(text.replace("epochs = 15", "epochs = 2"))
    code, printed, _ = command("train", "docs/digits.toml", "--out", "digits", "--json")
    told = json.loads(printed)
    assert (code, told["verdict"], told["test_inputs"]) == (0, "proved", 360)
    assert {layer["acc_bits"] for layer in told["layers"].values()} == {8}
    assert told["float_accuracy"] > 0.7
    page = (ROOT / "docs" / "training.md").read_text()
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.S):
        exec(block, names)
    assert capsys.readouterr().out.count("Epoch(number=") == 3
    data = names["data"]
    share = accuracy(names["model"].eval(), data.test_x, data.test_y)
    assert share == told["quantized_accuracy"]


def run(folder, **environment):
    """The command in a process of its own: exit code, standard output, standard error."""
    # a process that was started in the background ignores Ctrl-C, and so do those that it starts
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    code += "from verification.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "my.toml", "--out", "run", "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("step", [STEPS + 3, 4 * STEPS + 2], ids=["float", "quantized"])
def test_ctrl_c_in_a_step(step, command, folder):
    """One line and 130; the same command ends with the bits of a run without interruption."""
    stopped = run(folder, CTRL_C_IN_STEP=str(step))
    line = "accsim: interrupted; the same command goes on\n"
    assert stopped == (130, "the step goes on\n", line)
    assert not (folder / "run" / "result.json").exists()
    name = "float" if step < 3 * STEPS else "quantized"
    state = read_tensors(folder / "run" / f"{name}.checkpoint")
    assert state["epoch"] * STEPS + state["step"] == step - (0 if name == "float" else 3 * STEPS)
    for out in ("run", "whole"):
        sys.modules.pop("my_network", None)
        assert command("train", folder / "my.toml", "--out", folder / out)[0] == 0
        trained = len(sys.modules["my_network"].steps)
        assert trained == 6 * STEPS - (step if out == "run" else 0)
    for file in ("float.pt", "model.pt"):
        ends = [read_tensors(folder / out / file) for out in ("run", "whole")]
        assert ends[0].keys() == ends[1].keys()
        assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    assert content(folder / "run" / "layers") == content(folder / "whole" / "layers")


def test_a_checkpoint_in_place_of_the_float_training(command, folder):
    """The float network is that of another run; nothing else is trained."""
    assert command("train", folder / "my.toml", "--out", folder / "run")[0] == 0
    table = RECIPE[RECIPE.index("[float_training]") : RECIPE.index("[quantization]")]
    checkpoint = ('"my_network:network"', '"my_network:network"\ncheckpoint = "run/float.pt"')
    path = changed(folder, (table, ""), checkpoint)
    code, printed, _ = command("train", path, "--out", folder / "other", "--json")
    first = json.loads((folder / "run" / "result.json").read_text())
    told = json.loads(printed)
    assert (code, told["float_accuracy"]) == (0, first["float_accuracy"])
    assert (told["layers"], told["quantized_accuracy"]) == (
        first["layers"],
        first["quantized_accuracy"],
    )
    assert not (folder / "other" / "float.checkpoint").exists()


def test_a_report_of_what_was_trained(command, folder, monkeypatch):
    """Also after the training: each layer in its own register, what is reached, every width."""
    monkeypatch.setattr(training, "STEPS", 4)
    out = folder / "run"
    assert command("train", folder / "my.toml", "--out", out)[0] == 0
    before = content(out)
    code, text, _ = command("train", folder / "my.toml", "--out", out, "--report")
    assert (code, "report.html" in text) == (0, True)
    written = {"report.html", "report.json"}
    assert {name: data for name, data in content(out).items() if name not in written} == before
    (found,) = read_reports(out / "report.json")
    assert (found["name"], found["verdict"]) == ("run", "proved")
    assert found["digest"] in (out / "report.html").read_text()
    assert [row["bits"] for row in found["sweep"][::2]] == list(range(2, 2 + training.SWEPT))
    assert (
        found["sweep"][-1]["accuracy"]
        == json.loads((out / "result.json").read_text())["quantized_accuracy"]
    )
    for name, layer in found["layers"].items():
        assert layer["accumulator"]["bits"] == 8
        ends = found["reached"][name]
        assert ends["proved"]["high"] >= ends["attack"]["high"] >= ends["data"]["high"]
    assert command("report", out / "report.json")[0] == 0


def test_a_report_says_what_it_takes_for_layers_without_a_register(command, folder, monkeypatch):
    """They are decided, attacked and drawn in a wide one."""
    monkeypatch.setattr(training, "STEPS", 1)
    hidden = ("nn.Linear(16, 3)", "nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)")
    (folder / "my_network.py").write_text(NETWORK.replace(*hidden))
    path = changed(folder, ('edge_bits = "none"', "edge_bits = 6"))
    assert command("train", path, "--out", folder / "run", "--report")[0] == 0
    (found,) = read_reports(folder / "run" / "report.json")
    bits = [layer["accumulator"]["bits"] for layer in found["layers"].values()]
    assert bits == [training.UNBOUND, 8, training.UNBOUND]
    text = (folder / "run" / "report.html").read_text()
    assert "each layer in its own register" in text
    assert found["unbound"] == ["0", "7"]
    assert "Without a register of their own, taken in this one: 0, 7" in text
    out = command("report", folder / "run" / "report.json")[1]
    assert "without a register of their own: 0, 7" in out


def test_a_report_of_the_widest_registers(command, folder, monkeypatch):
    """No wider ones are swept."""
    monkeypatch.setattr(training, "STEPS", 1)
    path = changed(folder, ("acc_bits = 8", "acc_bits = 60"))
    assert command("train", path, "--out", folder / "run", "--report")[0] == 0
    (found,) = read_reports(folder / "run" / "report.json")
    assert found["sweep"][-1]["bits"] == 62


def test_layers_without_a_register_are_not_decided(command, folder):
    """The first and last layer as in the paper: what they need, and no verdict; the others'."""
    hidden = ("nn.Linear(16, 3)", "nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)")
    (folder / "my_network.py").write_text(NETWORK.replace(*hidden))
    path = changed(folder, ('edge_bits = "none"', "edge_bits = 6"))
    code, printed, _ = command("train", path, "--out", folder / "run", "--json")
    told = json.loads(printed)
    assert (code, told["verdict"]) == (0, "proved")
    found = {name: (each["acc_bits"], each["verdict"]) for name, each in told["layers"].items()}
    assert found == {"0": (None, None), "5": (8, "proved"), "7": (None, None)}
    _, text, _ = command("train", path, "--out", folder / "run")
    assert text.count("not asked") == 2
    first = decide(IntLayer.load(folder / "run" / "layers" / "0.npz"), Accumulator(30))
    assert told["layers"]["0"]["least_bits"] == first.least_bits
    assert told["layers"]["0"]["channels"] == 16
    path = changed(folder, ('method = "budget"', 'method = "base"'), ("acc_bits = 8", ""))
    code, printed, _ = command("train", path, "--out", folder / "base", "--json")
    assert (code, json.loads(printed)["verdict"]) == (0, None)


def test_a_refuted_layer_is_exit_code_1(command, folder, monkeypatch):
    """Whoever finds it: the decision, in each layer's own register, or before it the freezing."""
    path = changed(folder, ("acc_bits = 8", 'acc_bits = 8\noverrides = {"5" = {acc_bits = 9}}'))
    words, asked = ("train", path, "--out", folder / "run"), []

    def refuted(layer, accumulator):
        asked.append(accumulator.bits)
        return replace(decide(layer, accumulator), verdict=Verdict.REFUTED)

    monkeypatch.setattr(training, "decide", refuted)
    assert command(*words)[0] == 1
    assert asked == [8, 9]

    def unsafe(_):
        raise UnsafeLayerError("layer '0' must fit")

    monkeypatch.setattr(a2qplus, "to_layers", unsafe)
    assert command(*words) == (1, "", "accsim: layer '0' must fit\n")


PRODUCTS = """
from torch import nn
from a2qplus import MatMul

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.product = nn.Linear(3, 3), MatMul()

    def forward(self, x):
        pair = self.layer(x.reshape(-1, 2, 3))
        return (self.product(pair.transpose(1, 2), pair).softmax(-1) @ pair.mT).mean(-1)

def network():
    return Network()
"""


def test_every_product_is_in_the_report(command, folder):
    """Those of layers, those of activations, and those left in float, each with what is known."""
    (folder / "my_network.py").write_text(PRODUCTS)
    words = ("train", folder / "my.toml", "--out", folder / "run")
    found = json.loads(command(*words, "--json")[1])["products"]
    assert [(p["name"], p["known"], p["taps"]) for p in found] == [
        ("layer", "weights", 3),
        ("product", "types", 2),
        ("", "float", None),
    ]
    assert found[1]["operands"] == ["INT4", "INT4"]
    text = command(*words)[1]
    lines = [
        line for line in text.splitlines() if line.strip().endswith(("proved", "types", "float"))
    ]
    assert [line.split() for line in lines] == [
        ["layer", "3", "INT4", "[-7,", "7]", "8", str(found[0]["least_bits"]), "proved"],
        ["product", "2", "INT4", "INT4", "-", "9", "by", "types"],
        ["(the", "network)", "float", "float", "-", "-", "in", "float"],
    ]


def test_every_layer_has_a_file(command, folder):
    """Also where names differ in what a file's name cannot hold."""
    (folder / "my_network.py").write_text(
        "from torch import nn\n"
        "def network():\n"
        "    model = nn.Sequential()\n"
        "    model.add_module('a/b', nn.Linear(6, 4))\n"
        "    model.add_module('a_b', nn.Linear(4, 3))\n"
        "    return model\n"
    )
    assert command("train", folder / "my.toml", "--out", folder / "run")[0] == 0
    assert sorted(content(folder / "run" / "layers")) == ["a%2Fb.npz", "a_b.npz"]


def test_a_bare_layer_has_a_file(command, folder):
    """A network that is one layer has no name for it."""
    (folder / "my_network.py").write_text(
        "from torch import nn\ndef network():\n    return nn.Linear(6, 3)\n"
    )
    assert command("train", folder / "my.toml", "--out", folder / "run")[0] == 0
    assert list(content(folder / "run" / "layers")) == ["layer.npz"]


def test_a_folder_is_for_one_recipe(command, folder):
    """Another recipe, or other files, are refused in one line, and left as they are."""
    out = folder / "run"
    assert command("train", folder / "my.toml", "--out", out)[0] == 0
    before = content(out)
    path = changed(folder, ("acc_bits = 8", "acc_bits = 9"))
    text = (
        f"accsim: {out} must be the folder of this recipe's run, not of another's: they differ in"
    )
    text += " quantization\n"
    assert command("train", path, "--out", out) == (2, "", text)
    assert content(out) == before
    (folder / "full").mkdir()
    (folder / "full" / "mine.txt").write_text("mine")
    text = (
        f"accsim: {folder / 'full'} must be a new or empty folder, or that of this recipe's run\n"
    )
    assert command("train", path, "--out", folder / "full") == (2, "", text)
    assert content(folder / "full") == {"mine.txt": b"mine"}


def test_other_data_are_another_run(command, folder):
    """Arrays that changed under the same name are seen."""
    words = ("train", folder / "my.toml", "--out", folder / "run")
    assert command(*words)[0] == 0
    with np.load(folder / "my.npz") as arrays:
        np.savez(folder / "my.npz", **{**arrays, "x": arrays["x"] + 1})
    code, out, err = command(*words)
    assert (code, out) == (2, "")
    assert err.startswith("accsim: float.checkpoint must be a checkpoint of this run: x is float32")
    assert err.count("\n") == 1


WRONG = {
    "no recipe": ((), ["none.toml"], "none.toml cannot be read: No such file or directory"),
    "key": ([("acc_bits", "acc_bit")], ["my.toml"], "my.toml: keys of [quantization] must be of "),
    "late in the recipe": (
        [("acc_bits = 8", "acc_bits = 99")], ["my.toml"],
        "my.toml: [quantization] acc_bits must be an integer from 2 to 62, not 99",
    ),
    "pattern": (
        [("acc_bits = 8", "acc_bits = 8\noverrides = {conv = {}}")], ["my.toml"],
        "my.toml: [quantization] overrides 'conv' must match a layer, one of 0, 5",
    ),
    "data": ([("my.npz", "none.npz")], ["my.toml"], "none.npz cannot be read: No such file or"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_use_is_one_line(kind, command, folder, monkeypatch):
    """Exit code 2 before anything is trained or written."""
    changes, words, text = WRONG[kind]
    monkeypatch.chdir(folder)
    changed(folder, *changes)
    code, out, err = command("train", *words, "--out", "run")
    assert (code, out) == (2, "")
    assert err.startswith(f"accsim: {text}")
    assert err.count("\n") == 1
    assert not (folder / "run").exists()


def test_torch_is_an_extra(command, folder, monkeypatch):
    """One line with the pip command."""
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, err = command("train", folder / "my.toml", "--out", folder / "run")
    assert (code, err) == (
        2,
        "accsim: accsim train needs torch: pip install 'accsim[train]'\n",
    )


def test_progress_is_shown_on_a_terminal(command, folder, monkeypatch):
    """Which network, its loss; nothing of it on standard output, nor with --json."""
    monkeypatch.setattr(training, "Console", lambda stderr: Console(stderr=stderr, force_terminal=True))  # fmt: skip
    _, out, err = command("train", folder / "my.toml", "--out", folder / "run")
    assert "quantized, loss 0." in err or "quantized, loss 1." in err
    assert "loss" not in out
    assert command("train", folder / "my.toml", "--out", folder / "new", "--json")[2] == ""
