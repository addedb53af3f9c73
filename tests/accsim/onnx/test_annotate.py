"""Registers written into files, and read back from them."""

import numpy as np
import onnx
import pytest
from onnx_graphs import dequantized, model, network, node, quantized

from accsim import Accumulator
from accsim.errors import ModelFileError
from accsim.onnx import annotate, load
from accsim.onnx.annotate import str_of
from accsim.onnx.graph import KEY

F = np.float32


def product(name="p"):
    """A model of one product."""
    nodes, held = quantized("a", "x", 0.5, 0)
    w, more = dequantized("w", np.full((4, 3), 2, np.int8), 0.5)
    return model(
        [*nodes, w, node("MatMul", ["a", "w"], name=name)], {"x": (F, ["N", 4])}, held | more
    )


def annotated(made, value, *pairs):
    """The model with an annotation of a value."""
    entry = made.graph.quantization_annotation.add(tensor_name=value)
    for key, word in pairs:
        entry.quant_parameter_tensor_names.add(key=key, value=word)
    return made


@pytest.mark.parametrize(
    ("word", "register"),
    [
        ("INT12", Accumulator(12)), ("UINT9", Accumulator(9, signed=False)), ("INT62", Accumulator(62)),
        ("INT63", None), ("INT1", None), ("INT02", None), ("INT", None), ("BIPOLAR", None),
        ("FLOAT32", None), ("int12", None), ("INT12 ", None), ("INT999", None), ("", None),
    ],
)  # fmt: skip
def test_words(word, register):
    """Types that are registers are; others are not registers."""
    found = network(annotated(product(), "y", (KEY, word)))
    assert found.registers == ({} if register is None else {"p": register})
    if register is not None:
        assert str_of(register) == word


def test_annotations_of_other_things():
    """Other keys, and values that no product gives."""
    made = annotated(product(), "y", ("SCALE_TENSOR", "INT9"))
    assert network(annotated(made, "a", (KEY, "INT9"))).registers == {}


def test_what_is_written(tmp_path):
    """The least register, beside what was there; an old one is replaced; the file, at once."""
    made = annotated(product(), "y", ("other", "kept"), (KEY, "INT30"))
    annotated(made, "x", (KEY, "FLOAT32"))
    source, out = tmp_path / "m.onnx", tmp_path / "o.onnx"
    source.write_bytes(made.SerializeToString())
    out.write_bytes(b"old")
    least = {"p": Accumulator(12)}  # 4 · 255 · 2 = 2040
    assert annotate(source, out) == least
    assert load(out).registers == least
    after = onnx.load(out)
    words = {
        entry.tensor_name: {pair.key: pair.value for pair in entry.quant_parameter_tensor_names}
        for entry in after.graph.quantization_annotation
    }
    assert words == {"y": {"other": "kept", KEY: "INT12"}, "x": {KEY: "FLOAT32"}}
    del made.graph.quantization_annotation[:], after.graph.quantization_annotation[:]
    assert after.SerializeToString() == made.SerializeToString()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "o.onnx"]
    assert annotate(out, out) == least


def test_what_is_not_written(tmp_path):
    """A file that is refused leaves what was there."""
    source, out = tmp_path / "m.onnx", tmp_path / "o.onnx"
    source.write_bytes(b"no model")
    out.write_bytes(b"old")
    with pytest.raises(ModelFileError):
        annotate(source, out)
    assert out.read_bytes() == b"old"
    source.write_bytes(product().SerializeToString())
    with pytest.raises(OSError, match="No such folder"):
        annotate(source, tmp_path / "none" / "o.onnx")


def test_products_without_a_name(tmp_path):
    """They are called by their output; of activations of unknown length nothing is written."""
    nodes, held = quantized("a", "x", 0.5, 0)
    turn = node("Transpose", ["a"], "t", perm=[0, 2, 1])
    made = model(
        [*nodes, turn, node("MatMul", ["a", "t"], name="")], {"x": (F, ["N", None, "K"])}, held
    )
    source, out = tmp_path / "m.onnx", tmp_path / "o.onnx"
    source.write_bytes(made.SerializeToString())
    assert [*load(source).matmuls] == ["y"]
    assert annotate(source, out) == {}
    assert out.read_bytes() == source.read_bytes()
    source.write_bytes(product("").SerializeToString())
    assert annotate(source, out) == {"y": Accumulator(12)}


def test_data_in_other_files_stay_in_reach(tmp_path):
    """An annotated model with data elsewhere is written beside the model, and loads again."""
    folder, away = tmp_path / "here", tmp_path / "away"
    folder.mkdir(), away.mkdir()
    source = folder / "m.onnx"
    onnx.save_model(
        product(), source, save_as_external_data=True, location="m.data", size_threshold=0
    )
    with pytest.raises(ModelFileError) as refused:
        annotate(source, away / "o.onnx", external_data=folder)
    text = "o.onnx must be written beside m.onnx, whose data are kept in other files"
    assert (str(refused.value), list(away.iterdir())) == (text, [])
    annotate(source, folder / "o.onnx", external_data=folder)
    assert load(folder / "o.onnx", external_data=folder).registers == {"p": Accumulator(12)}
