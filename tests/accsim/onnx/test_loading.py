"""Whole files: those of other tools give the layers, sums and outputs that these tools have."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_graphs import equal, network
from onnx_models import KINDS, MODELS, OPTIONS, inputs, quantized, session

from accsim import Accumulator, IntSpec, arith, bounds, signed, simulate, unsigned
from accsim.network import least_registers
from accsim.onnx import annotate, load
from verification import decide
from verification.decide import Verdict

FOLDER = Path(__file__).parents[2] / "data" / "models"
MLP = {"fcs_0": (64, 12, 14), "fcs_1": (64, 12, 14), "fcs_2": (32, 11, 13)}
CNN = {"conv": (9, 10, 11), "dw": (9, 10, 11), "pw": (8, 10, 11), "fc": (256, 14, 16)}
SHARED = {  # taps, least bits, bits by the types alone, in the order of the layers
    "mlp_a2qp_p12_w4a4.qonnx": MLP,
    "mlp_a2qp_p12_w4a4.qcdq": MLP,
    "cnn_base_w4a4.qonnx": CNN,
    "cnn_base_w4a4.qcdq": CNN,
}
WRONG = FOLDER / "mlp_a2qp_p12_w4a4.as_exported.qonnx.onnx"


def recorded(name):
    """What the library itself computed of a model."""
    with np.load(FOLDER / f"{name.partition('.')[0]}.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("name", SHARED)
def test_layers_of_shared_files(name):
    """Integers and types, least widths, and verdicts there and one below, with replayed witnesses."""
    found, wanted = load(FOLDER / f"{name}.onnx"), recorded(name)
    assert (len(found.layers), dict(found.matmuls), dict(found.untraced)) == (
        len(SHARED[name]),
        {},
        {},
    )
    registers = least_registers(found)
    for (node, layer), (key, (taps, least, by_type)) in zip(
        found.layers.items(), SHARED[name].items(), strict=True
    ):
        assert np.array_equal(layer.weight, wanted[f"{key}__w_int"])
        narrow = layer.weight_spec == signed(4, narrow=True)
        assert narrow or layer.weight_spec == signed(4)
        assert (layer.input_spec, layer.taps) == (unsigned(4), taps)
        assert bounds.data_type_bits(taps, layer.weight_spec, unsigned(4)) == by_type
        assert registers[node] == Accumulator(least)
        assert decide(layer, Accumulator(least)).verdict is Verdict.PROVED
        report = decide(layer, Accumulator(least - 1))
        assert (report.verdict, report.least_bits) == (Verdict.REFUTED, least)
        run = report.witness.replay()
        assert run.overflow_count.sum() > 0


@pytest.mark.parametrize("name", SHARED)
def test_sums_of_shared_files(name):
    """What goes in and what comes out of every layer is what the library recorded."""
    found, wanted = load(FOLDER / f"{name}.onnx"), recorded(name)
    seen = {node: [] for node in found.layers}

    def watch(node, layer, x, run):
        assert layer is found.layers[node]
        seen[node].append((x, run.output))

    (x,) = (wanted["x"],)
    result = found.run(x.reshape(len(x), *x.shape[1:]), Accumulator(32), watch=watch)
    (logits,) = result.outputs.values()
    np.testing.assert_allclose(logits, wanted["logits"], rtol=0, atol=1e-5)
    assert (logits.argmax(1) == wanted["logits"].argmax(1)).all()
    assert result.overflows == dict.fromkeys(found.layers, 0)
    for (node, calls), key in zip(seen.items(), SHARED[name], strict=True):
        codes, sums = (np.concatenate(parts) for parts in zip(*calls, strict=True))
        assert np.array_equal(codes, wanted[f"{key}__x_int"].reshape(codes.shape))
        assert np.array_equal(sums[:20], wanted[f"{key}__acc_first20"].reshape(sums[:20].shape))
        assert result.sums[node] == sums.size


def test_the_wrong_export_is_refuted():
    """Weights before the constraint do not fit the register that they were trained for."""
    found, right = load(WRONG), load(FOLDER / "mlp_a2qp_p12_w4a4.qonnx.onnx")
    assert [r.bits for r in least_registers(found).values()] == [13, 13, 11]
    verdicts = [decide(layer, Accumulator(12)).verdict for layer in found.layers.values()]
    assert verdicts == [Verdict.REFUTED, Verdict.REFUTED, Verdict.PROVED]
    for wrong, layer in zip(found.layers.values(), right.layers.values(), strict=True):
        assert 0.5 < (wrong.weight != layer.weight).mean() < 0.7
    wanted = recorded("mlp_a2qp_p12_w4a4")
    (logits,) = found.run(wanted["x"], Accumulator(32)).outputs.values()
    assert (logits.argmax(1) == wanted["y"]).mean() == 0.775


@pytest.mark.parametrize("name", SHARED)
def test_annotations_are_read_back(name, tmp_path):
    """By qonnx as the types of tensors, and by us as registers; nothing else of the file changes."""
    from qonnx.core.modelwrapper import ModelWrapper

    path, out = FOLDER / f"{name}.onnx", tmp_path / "out.onnx"
    registers = annotate(path, out)
    assert registers == least_registers(load(path))
    assert load(out).registers == registers
    assert load(path).registers == {}
    read, before = ModelWrapper(str(out)), onnx.load(path)
    tensors = {node.name: node.output[0] for node in before.graph.node}
    for node, register in registers.items():
        output = tensors.get(node, node)  # nodes without a name are called by their output
        assert read.get_tensor_datatype(output).name == f"INT{register.bits}"
    after = onnx.load(out)
    del after.graph.quantization_annotation[:], before.graph.quantization_annotation[:]
    assert after.SerializeToString() == before.SerializeToString()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Every file that onnxruntime's quantizer makes, its network, inputs and true outputs."""
    folder, made = tmp_path_factory.mktemp("quantized"), {}

    def get(name, kind, per_channel, symmetric):
        key = name, kind, per_channel, symmetric
        if key not in made:
            model = MODELS[name]()
            path = quantized(model, folder, kind, per_channel=per_channel, symmetric=symmetric)
            x = inputs(model)
            made[key] = load(path), x, session(path).run(None, {"x": x})[0]
        return made[key]

    return get


FILES = [(name, kind, *options) for name in MODELS for kind in KINDS for options in OPTIONS]
PRODUCTS = {"mlp": (3, 0), "cnn": (4, 0), "attention": (6, 2), "transposed": (2, 0)}
EXACT = {"mlp", "cnn", "transposed"}  # no float operation after the last product


@pytest.mark.parametrize("file", FILES, ids=str)
def test_quantized_files(file, files):
    """All integer products and no others, and onnxruntime's outputs."""
    name, kind, *_ = file
    found, x, wanted = files(*file)
    floats = name == "transposed" and kind != "qdq"  # which the quantizer leaves as they are
    both = kind == "dynamic" and name == "attention"
    layers, matmuls = PRODUCTS[name]
    assert len(found.layers) == (0 if floats else layers)
    assert len(found.matmuls) == (0 if both else matmuls)
    assert len(found.untraced) == (layers if floats else matmuls if both else 0)
    for reason in found.untraced.values():
        assert reason.startswith("its weight 'held" if floats else "its input '")
    (result,) = found.run(x, Accumulator(32)).outputs.values()
    if name in EXACT and not floats:
        assert equal(result, wanted)
    else:
        np.testing.assert_allclose(result, wanted, rtol=0, atol=4e-6)


@pytest.mark.parametrize("file", [f for f in FILES if f[0] in EXACT and f[3]], ids=str)
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
def test_narrow_registers(file, overflow, files):
    """Runs of layers are those of the definition, and their overflows are all that are counted."""
    found, x, _ = files(*file)
    register, seen = Accumulator(16, overflow), {node: [] for node in found.layers}
    result = found.run(x, register, watch=lambda node, *call: seen[node].append(call))
    random = np.random.default_rng(3)
    for node, calls in seen.items():
        counts = [simulate(layer, codes, register).overflow_count for layer, codes, _ in calls]
        assert result.overflows[node] == sum(int(count.sum()) for count in counts)
        assert result.overflowed[node] == sum(int((count > 0).sum()) for count in counts)
        assert result.sums[node] == sum(count.size for count in counts)
        layer, codes, run = calls[0]
        for _ in range(20):
            at = tuple(random.integers(size) for size in run.output.shape)
            end = arith.fold(
                _reads(layer, codes, at),
                layer.rows[_channel(layer, at)].tolist(),
                register,
                **_start(layer, at),
            )
            assert (run.output[at], run.overflow_count[at]) == (end.output, end.overflow_count)


def _channel(layer, at):
    return at[1] if layer.is_conv else at[-1]


def _start(layer, at):
    return {} if layer.bias is None else {"bias": int(layer.bias[_channel(layer, at)])}


def _reads(layer, codes, at):
    """What the taps of one output read, by the definition of a convolution."""
    if not layer.is_conv:
        return codes[at[:-1]].tolist()
    (sy, sx), (py, px), (dy, dx), groups = layer.geometry
    inputs, height, width = layer.weight.shape[1:]
    image, channel, row, column = at
    first = channel // (layer.channels // groups) * inputs
    return [
        int(codes[image, first + i, y, x])
        if 0 <= y < codes.shape[2] and 0 <= x < codes.shape[3]
        else 0
        for i in range(inputs)
        for y in (row * sy - py + dy * k for k in range(height))
        for x in (column * sx - px + dx * k for k in range(width))
    ]


@pytest.mark.parametrize("file", [f for f in FILES if f[:2] == ("attention", "qdq")], ids=str)
def test_matmuls_of_activations(file, files):
    """Each matrix is a layer of its right side; one-sided registers bound nothing before the run."""
    found, x, _ = files(*file)
    seen = {node: [] for node in found.matmuls}

    def watch(node, layer, codes, run):
        if node in seen:
            seen[node].append((layer, codes, run))

    register = Accumulator(12, "saturate")
    result = found.run(x[:3], register, watch=watch)
    for node, calls in seen.items():
        assert len(calls) == 3 * 2  # inputs, heads
        matmul = found.matmuls[node]
        for layer, codes, run in calls:
            assert (layer.weight_spec, layer.input_spec) == (matmul.right, matmul.left)
            again = simulate(layer, codes, register)
            assert np.array_equal(run.output, again.output)
        assert result.overflows[node] == sum(int(run.overflow_count.sum()) for *_, run in calls)
        assert result.sums[node] == sum(run.output.size for *_, run in calls)


def test_input_ranges_of_quantized_files(files):
    """Codes are less their zero point, as registers see them."""
    found, *_ = files("mlp", "qdq", False, False)
    first, second, _ = found.layers.values()
    assert first.input_spec.bits == 9 or first.input_spec.max - first.input_spec.min == 255
    assert second.input_spec == unsigned(8)  # behind a Relu
    assert first.weight_spec == IntSpec(-128, 127)


def test_layers_of_a_file_are_those_of_its_message(tmp_path):
    """`load` is `network_of` of what is read."""
    path = FOLDER / "cnn_base_w4a4.qcdq.onnx"
    one, other = load(path), network(onnx.load(path))
    assert [*one.layers] == [*other.layers]
    for layer, same in zip(one.layers.values(), other.layers.values(), strict=True):
        assert np.array_equal(layer.weight, same.weight)
