"""Recipes: what is read, what is made of it, and whose fault it is where that fails."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from a2qplus import float_network, quantized_network, read_recipe, recipe, recipe_data, to_layers
from a2qplus.checkpoint import write_tensors
from a2qplus.data import Data, read_data, split_digits
from a2qplus.networks import cnn, mlp
from a2qplus.recipe import Network
from accsim.errors import CheckpointError, MissingExtraError, RecipeError

DIGITS = Path(__file__).parents[2] / "docs" / "digits.toml"
MODULE = """
from torch import nn
made = []
def network():
    made.append(1)
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
def word():
    return "network"
number = 3
"""


@pytest.fixture
def folder(tmp_path):
    """A recipe, its data and a module beside it."""
    (tmp_path / "my_network.py").write_text(MODULE)
    np.savez(tmp_path / "my.npz", **arrays())
    yield tmp_path
    sys.modules.pop("my_network", None)


def arrays(**changes):
    """Ten rows to train on, four to test on, some changed."""
    rng = np.random.default_rng(0)
    x, y = rng.random((10, 5)), np.arange(10) % 3
    return {"x": x, "y": y, "test_x": x[:4], "test_y": y[:4].astype(np.uint8)} | changes


def written(folder, **changes):
    """The recipe of a small network, some lines changed."""
    lines = {
        "seed": "3",
        "data": {"source": '"my.npz"'},
        "network": {"model": '"mlp"', "hidden": "[4]"},
        "float_training": {"epochs": "2", "learning_rate": "1e-2"},
        "quantization": {"weight_bits": "4", "act_bits": "5", "acc_bits": "12"},
        "quantized_training": {"epochs": "1", "learning_rate": "1"},
    } | changes
    text = f"seed = {lines.pop('seed')}\n"
    for name, table in lines.items():
        if table is not None:
            text += f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in table.items())
    (folder / "my.toml").write_text(text)
    return folder / "my.toml"


def test_the_recipe_in_the_docs_is_read():
    """Every table; "none" is None, an array a tuple; what is not there is left to the function."""
    found = read_recipe(DIGITS)
    assert (found.file, found.seed, found.data) == (DIGITS, 0, "digits")
    assert found.network == Network(model="mlp", hidden=(96, 96))
    assert found.quantization == {
        "weight_bits": 4,
        "act_bits": 4,
        "acc_bits": 8,
        "method": "budget",
    }
    assert found.float_training == {"epochs": 15, "learning_rate": 2e-3}
    assert found.quantized_training == {"epochs": 15, "learning_rate": 5e-3}


def test_recipes_are_the_same_wherever_they_lie(tmp_path):
    """A copy is the same recipe, comments are no part of it; another number is another recipe."""
    copy = tmp_path / "copy.toml"
    text = DIGITS.read_text()
    copy.write_text("# mine\n" + text)
    assert read_recipe(copy) == read_recipe(DIGITS)
    copy.write_text(text.replace("seed = 0", "seed = 1"))
    assert read_recipe(copy) != read_recipe(DIGITS)


def test_all_options_are_passed_on(folder):
    """Of both trainings and of the quantization, patterns in their order."""
    training = {"epochs": "1", "learning_rate": "1", "batch": "7", "weight_decay": "0.5"}
    quantization = {
        "weight_bits": "4", "act_bits": "5", "acc_bits": "12", "method": '"a2q"', "edge_bits": "7",
        "start": '"naive"', "overrides": '{"lin*" = {acc_bits = 13}, "linear1" = {weight_bits = 3},'
        ' "linear" = "none"}',
    }  # fmt: skip
    path = written(
        folder,
        float_training=training,
        quantization=quantization,
        quantized_training=training | {"penalty_weight": "0.25"},
    )
    found = read_recipe(path)
    told = {"epochs": 1, "learning_rate": 1.0, "batch": 7, "weight_decay": 0.5}
    assert found.float_training == told
    assert found.quantized_training == told | {"penalty_weight": 0.25}
    overrides = found.quantization["overrides"]
    assert overrides == {"lin*": {"acc_bits": 13}, "linear1": {"weight_bits": 3}, "linear": None}
    assert list(overrides) == ["lin*", "linear1", "linear"]
    assert {name: found.quantization[name] for name in ("method", "edge_bits", "start")} == {
        "method": "a2q",
        "edge_bits": 7,
        "start": "naive",
    }


def test_what_quantize_model_gains_is_a_key(folder, monkeypatch):
    """Its arguments are the keys: their names, types and which are due are looked up in it."""

    def quantize_model(model, *, weight_bits: int, shiny: bool, calibration=None):
        return None

    monkeypatch.setattr(recipe, "quantize_model", quantize_model)
    path = written(folder, quantization={"weight_bits": "4", "shiny": "true"})
    assert read_recipe(path).quantization == {"weight_bits": 4, "shiny": True}
    path = written(folder, quantization={"weight_bits": "4", "shiny": "1"})
    with pytest.raises(
        RecipeError, match=r"^my.toml: \[quantization\] shiny must be true or false, not 1$"
    ):
        read_recipe(path)
    path = written(folder, quantization={"weight_bits": "4"})
    text = r"^my.toml: \[quantization\] must have shiny; its keys are weight_bits, shiny$"
    with pytest.raises(RecipeError, match=text):
        read_recipe(path)


def test_networks_come_from_the_seed(folder):
    """The same weights again, others from another seed; the caller's generator is left alone."""
    data = read_data(folder / "my.npz")
    state = torch.get_rng_state()
    first, again = (float_network(read_recipe(written(folder)), data) for _ in range(2))
    other = float_network(read_recipe(written(folder, seed="4")), data)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.linear.weight, again.linear.weight)
    assert not torch.equal(first.linear.weight, other.linear.weight)
    quantized = quantized_network(read_recipe(written(folder)), first, data)
    specs = {name: str(layer.input_spec) for name, layer in to_layers(quantized).items()}
    assert specs == {"linear1": "UINT5", "linear": "UINT5"}  # x is never negative
    assert bool(quantized.linear1.input_quantizer.calibrated)


def test_networks_of_ones_own(folder, monkeypatch):
    """ "module:function" is found beside the recipe, wherever the command runs."""
    monkeypatch.chdir("/")
    path = written(folder, network={"model": '"my_network:network"'})
    before = list(sys.path)
    found = float_network(read_recipe(path), recipe_data(read_recipe(path)))
    assert isinstance(found, nn.Sequential)
    assert sys.path == before
    assert sys.modules["my_network"].made == [1]


def test_a_checkpoint_instead_of_training(folder):
    """Its weights; a state of other layers, and other files, are refused by name."""
    network = {"model": '"mlp"', "hidden": "[4]", "checkpoint": '"float.pt"'}
    path = written(folder, network=network, float_training=None)
    data = read_data(folder / "my.npz")
    source = mlp((5,), 3, (4,))
    write_tensors(folder / "float.pt", source.state_dict())
    found = float_network(read_recipe(path), data)
    assert torch.equal(found.linear.weight, source.linear.weight)
    for state in (mlp((5,), 3, (6,)).state_dict(), {"a": torch.ones(1)}, {"linear.weight": 3}):
        write_tensors(folder / "float.pt", state)
        with pytest.raises(
            CheckpointError, match=r"^float.pt must hold this network's state: [^\n]*$"
        ):
            float_network(read_recipe(path), data)
    (folder / "float.pt").write_text("weights")
    with pytest.raises(CheckpointError, match=r"^float.pt must be a complete file of named"):
        float_network(read_recipe(path), data)


WRONG_NETWORKS = {
    "missing module": ('"not_there:f"', "model must be of a module that can be imported, not 'not_there'"),
    "missing function": ('"my_network:f"', "model my_network:f must name a function of the module"),
    "a number": ('"my_network:number"', "model my_network:number must name a function of the module"),
    "returns a word": ('"my_network:word"', "model my_network:word must return a torch.nn.Module"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG_NETWORKS)
def test_networks_that_are_none(kind, folder):
    """One line that names the recipe, the table and the word."""
    model, text = WRONG_NETWORKS[kind]
    path = written(folder, network={"model": model})
    with pytest.raises(RecipeError) as caught:
        float_network(read_recipe(path), read_data(folder / "my.npz"))
    assert str(caught.value) == f"my.toml: [network] {text}"


def test_a_module_that_lacks_another_says_so(folder):
    """What a user's own module needs is not the recipe's fault."""
    (folder / "my_network.py").write_text("import not_there_at_all")
    path = written(folder, network={"model": '"my_network:network"'})
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        float_network(read_recipe(path), read_data(folder / "my.npz"))


def test_networks_that_do_not_fit_the_data(folder):
    """Inputs of another shape, fewer logits than classes, images where none are."""
    path = written(folder, network={"model": '"my_network:network"'})
    text = r"^my.toml: \[network\] my_network:network must map inputs \(2, 5\) to logits \(2, 4\)"
    np.savez(folder / "my.npz", **arrays(test_y=np.array([0, 1, 2, 3])))
    with pytest.raises(RecipeError, match=text + r", not \(2, 3\)$"):
        float_network(read_recipe(path), read_data(folder / "my.npz"))
    np.savez(folder / "my.npz", **arrays(x=np.ones((10, 6)), test_x=np.ones((4, 6))))
    text = text.replace("5", "6").replace("4", "3")
    with pytest.raises(RecipeError, match=text + r": mat1 and mat2 shapes cannot be multiplied"):
        float_network(read_recipe(path), read_data(folder / "my.npz"))
    path = written(folder, network={"model": '"cnn"', "hidden": "[4]"})
    text = r"^my.toml: \[network\] cnn takes inputs \(B, channels, height, width\), not \(B, \*\(6,\)\)$"
    with pytest.raises(RecipeError, match=text):
        float_network(read_recipe(path), read_data(folder / "my.npz"))


def test_quantization_is_blamed_by_its_table(folder):
    """What `quantize_model` says, with the recipe and the table before it."""
    data = read_data(folder / "my.npz")
    for changes, text in (
        ({"acc_bits": "63"}, "acc_bits must be an integer from 2 to 62, not 63"),
        ({"overrides": "{conv = {}}"}, "overrides 'conv' must match a layer, one of linear1, linear"),
    ):  # fmt: skip
        quantization = {"weight_bits": "4", "act_bits": "4", "acc_bits": "9"} | changes
        found = read_recipe(written(folder, quantization=quantization))
        with pytest.raises(RecipeError) as caught:
            quantized_network(found, float_network(found, data), data)
        assert str(caught.value) == f"my.toml: [quantization] {text}"


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 5), (2, 1, 9)])
def test_the_cnn_takes_images_of_any_size(shape):
    """Each convolution but the first halves the image, rounding up."""
    model = cnn(shape, 7, (4, 6, 5))
    assert model(torch.ones(2, *shape)).shape == (2, 7)
    height, width = (-(-side // 4) for side in shape[1:])
    assert model.linear.in_features == 5 * height * width


def test_digits_are_split_by_seed():
    """360 to test on, the others to train on; each once; another seed, another order."""
    data, other = split_digits(0), split_digits(1)
    assert (len(data.train_x), len(data.test_x), data.classes) == (1437, 360, 10)
    assert data.train_x.shape[1:] == (1, 8, 8)
    assert not torch.equal(data.test_y, other.test_y)
    total = sum(float(x.sum()) for x in (data.train_x, data.test_x))
    assert total == sum(float(x.sum()) for x in (other.train_x, other.test_x))


def test_digits_need_scikit_learn(monkeypatch):
    """One line with the pip command."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r"^the digits needs sklearn: pip install"):
        split_digits(0)


def test_arrays_of_ones_own(folder):
    """As float32 and int64; integers are taken as they are."""
    pixels = np.arange(50, dtype=np.uint8).reshape(10, 5)
    np.savez(folder / "my.npz", **arrays(x=pixels))
    data = read_data(folder / "my.npz")
    assert isinstance(data, Data)
    assert (data.train_x.dtype, data.test_y.dtype) == (torch.float32, torch.int64)
    assert data.train_x.tolist() == pixels.tolist()
    assert (data.train_y.tolist(), data.classes) == ([0, 1, 2, 0, 1, 2, 0, 1, 2, 0], 3)
    assert data.test_x.tolist() == arrays()["test_x"].astype(np.float32).tolist()


def stored(**changes):
    """The bytes of an .npz file."""
    file = io.BytesIO()
    np.savez(file, **{k: v for k, v in arrays(**changes).items() if v is not None})
    return file.getvalue()


WRONG_DATA = {
    "missing": (stored(y=None), "my.npz must hold the arrays x, y, test_x, test_y; it lacks y"),
    "not finite": (stored(x=np.full((10, 5), np.nan)), "my.npz: x must be finite in float32"),
    "beyond float32": (stored(x=np.full((10, 5), 1e300)), "my.npz: x must be finite in float32"),
    "words": (
        stored(x=np.full((10, 5), "a")),
        "my.npz: x must hold numbers (B, ...), at least one, not <U1 (10, 5)",
    ),
    "one axis": (
        stored(test_x=np.ones(4)),
        "my.npz: test_x must hold numbers (B, ...), at least one, not float64 (4,)",
    ),
    "empty": (
        stored(test_x=np.ones((0, 5)), test_y=np.ones(0, int)),
        "my.npz: test_x must hold numbers (B, ...), at least one, not float64 (0, 5)",
    ),
    "float classes": (
        stored(y=np.ones(10)), "my.npz: y must hold integers (B,), at least one, not float64 (10,)",
    ),
    "one-hot classes": (
        stored(y=np.ones((10, 3), int)),
        "my.npz: y must hold integers (B,), at least one, not int64 (10, 3)",
    ),
    "class below 0": (stored(y=np.full(10, -1)), "my.npz: y must be from 0 to 65535, not [-1, -1]"),
    "vast class": (stored(y=np.full(10, 2**63, np.uint64)),
        f"my.npz: y must be from 0 to 65535, not [{2**63}, {2**63}]"),
    "lengths": (stored(y=np.arange(9)), "my.npz: x and y must hold as many, not 10 and 9"),
    "shapes": (
        stored(test_x=np.ones((4, 6))),
        "my.npz: inputs of x and test_x must be of one shape, not (5,) and (6,)",
    ),
    "cut off": (stored()[:-30], "my.npz must be a complete .npz file of plain arrays"),
    "pickles": (
        stored(x=np.array([{}], object)), "my.npz must be a complete .npz file of plain arrays",
    ),
    "text": (b"x = 1", "my.npz must be a complete .npz file of plain arrays"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG_DATA)
def test_wrong_data_is_one_line(kind, tmp_path):
    """What must hold, and in which array."""
    content, text = WRONG_DATA[kind]
    (tmp_path / "my.npz").write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        read_data(tmp_path / "my.npz")
    assert str(caught.value) == text


def test_a_changed_byte_is_found(tmp_path):
    """In the numbers, too: what is read is what was written, or nothing."""
    content, path = stored(), tmp_path / "my.npz"
    place = content.index(arrays()["x"].tobytes())
    for at in (place, place + 100, place + 399):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(RecipeError, match=r"^my.npz must be a complete"):
            read_data(path)
    with pytest.raises(RecipeError, match=r"^none.npz cannot be read: No such file or directory$"):
        read_data(tmp_path / "none.npz")
