"""The command on model files: proofs, runs, sweeps, registers written into the file."""

import json
import sys

import numpy as np
import onnx
import pytest
from model_cases import (
    CNN,
    CNN_DATA,
    MLP,
    MLP_DATA,
    MODELS,
    WRONG,
    biased,
    few,
    mixed,
    named,
    narrowed,
    two_inputs,
)

from accsim import Accumulator, Overflow
from accsim.files import DATA, read_arrays
from accsim.network import Network
from accsim.onnx import load
from verification import oracle
from verification.report import digest

LEAST = {  # of each file, as the authors' library made it: tests/data/models/README.md
    "mlp_a2qp_p12_w4a4.as_exported.qonnx.onnx": [13, 13, 11],
    "mlp_a2qp_p12_w4a4.qonnx.onnx": [12, 12, 11],
    "mlp_a2qp_p12_w4a4.qcdq.onnx": [12, 12, 11],
    "cnn_base_w4a4.qonnx.onnx": [10, 10, 10, 14],
    "cnn_base_w4a4.qcdq.onnx": [10, 10, 10, 14],
}


def running_sums(data, layer):
    """Every running sum of one linear layer, from the integers that its authors' library used."""
    with np.load(data) as arrays:
        x, w = (arrays[f"{layer}__{part}"].astype(np.int64) for part in ("x_int", "w_int"))
    return (x[:, None, :] * w).cumsum(axis=-1)


def rows_of(text):
    """The lines of a table, blanks of any number as one."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_wrong_export_is_refuted_at_its_own_width(command, tmp_path):
    """And the right one is proved; each witness is a file that replays, of that layer's weights."""
    assert command("verify", MLP, "--bits", 12)[0] == 0
    code, out, _ = command("verify", WRONG, "--bits", 12, "--witnesses", tmp_path / "seen")
    assert code == 1
    assert "/fcs.0/Gemm 64 UINT4 [-7, 7] 14 13 13 12 50 refuted" in rows_of(out)
    assert "/fcs.2/Gemm 32 UINT4 [-7, 7] 13 12 11 11 32 proved" in rows_of(out)
    files = sorted((tmp_path / "seen").iterdir())
    assert [file.name for file in files] == ["fcs.0_Gemm.json", "fcs.1_Gemm.json"]
    layers = load(WRONG).layers
    for file, name in zip(files, ["/fcs.0/Gemm", "/fcs.1/Gemm"], strict=True):
        code, out, _ = command("explain", file, "--json")
        told = json.loads(out)
        assert code == 0
        assert told["weight"] == layers[name].rows[told["channel"]].tolist()
        answer = oracle.dot(told["weight"], told["x"], 12, "wrap")
        assert (answer.output, answer.first_overflow) == (told["simulated"], told["step"])


@pytest.mark.parametrize("file", LEAST)
def test_least_widths_are_those_of_the_authors(file, command):
    """Proved at the least width of the network, refuted one below."""
    least = LEAST[file]
    code, out, _ = command("verify", MODELS / file, "--bits", max(least), "--json")
    told = json.loads(out)
    assert (code, told["verdict"], told["digest"]) == (0, "proved", digest(told))
    assert [layer["least_bits"] for layer in told["layers"].values()] == least
    assert (told["products"], told["untraced"], told["reached"]) == ([], {}, {})
    code, out, _ = command("verify", MODELS / file, "--bits", max(least) - 1, "--json")
    verdicts = [layer["verdict"] for layer in json.loads(out)["layers"].values()]
    assert (code, verdicts) == (
        1,
        ["refuted" if bits == max(least) else "proved" for bits in least],
    )


@pytest.mark.parametrize(
    ("file", "data", "layers"),
    [(MLP, MLP_DATA, ["fcs_0", "fcs_1", "fcs_2"]), (CNN, CNN_DATA, ["fc"])],
    ids=["mlp", "cnn"],
)
def test_verify_tells_how_far_data_go(file, data, layers, command, tmp_path):
    """The running sums of the library's own integers, whatever the register; and on the page."""
    page = tmp_path / "page.html"
    words = ("verify", file, "--bits", 9, "--inputs", data, "--html", page, "--json")
    code, out, _ = command(*words)
    reached = json.loads(out)["reached"]
    assert (code, list(reached)) == (1, list(load(file).layers))
    for layer in layers:
        name = f"/{layer.replace('_', '.')}/Gemm"
        found, sums = reached[name]["data"], running_sums(data, layer)
        assert (found["low"], found["high"]) == (min(0, sums.min()), max(0, sums.max()))
        assert found["channel_low"] == np.minimum(0, sums.min(axis=(0, 2))).tolist()
        over = int(((sums < -256) | (sums > 255)).any(axis=-1).sum())
        assert (found["overflowed_outputs"], found["outputs"]) == (over, sums[..., 0].size)
        assert over > 0
        assert name in page.read_text()


def test_sums_below_an_unsigned_register_overflow_it(command, tmp_path):
    """Counted by the exact sums, whatever the widths of two's complement say."""
    model = named(tmp_path / "m.onnx", "fc")
    np.save(tmp_path / "x.npy", np.array([[0, 0, 0.25, 0], [0.25, 0, 0, 0]]))
    words = ("verify", model, "--bits", 12, "--unsigned", "--inputs", tmp_path / "x.npy", "--json")
    told = json.loads(command(*words)[1])
    assert (
        told["reached"]["fc"]["data"]["overflowed_outputs"] == 2
    )  # -8 of one input, -3 of another
    assert told["layers"]["fc"]["accumulator"]["signed"] is False


def test_run_gives_the_outputs_and_counts(command, tmp_path):
    """What Network.run gives, into a file and as JSON; the table has the same figures."""
    data = few(CNN_DATA, tmp_path / "x.npz", 12)
    words = ("run", CNN, data, "--bits", 9, "--overflow", "saturate", "--out", tmp_path / "o.npz")
    code, out, _ = command(*words, "--json")
    told = json.loads(out)
    found = load(CNN).run(read_arrays(data, DATA)["x"], Accumulator(9, "saturate"))
    assert (code, told["schema"], told["outputs"]) == (0, "accsim.run/1", {"53": [12, 10]})
    assert told["layers"] == {
        name: {
            "outputs": found.sums[name],
            "overflowed_outputs": found.overflowed[name],
            "overflow_steps": found.overflows[name],
        }
        for name in found.sums
    }
    np.testing.assert_array_equal(np.load(tmp_path / "o.npz")["53"], found.outputs["53"])
    assert found.overflows["/fc/Gemm"] > found.overflowed["/fc/Gemm"] > 0
    _, out, _ = command(*words)
    figures = told["layers"]["/fc/Gemm"].values()
    assert " ".join(["/fc/Gemm", *map(str, figures)]) in rows_of(out)
    assert "output 53: float32 of shape (12, 10)" in out
    command("run", MLP, MLP_DATA, "--bits", 32, "--out", tmp_path / "o.npz")
    with np.load(MLP_DATA) as told:
        logits = np.load(tmp_path / "o.npz")["48"]
        np.testing.assert_array_equal(logits.argmax(1), told["logits"].argmax(1))


def test_batches_are_of_the_given_size(command, tmp_path, monkeypatch):
    """Where the file leaves it open; the outputs are the same."""
    sizes = []
    whole = Network.run

    def counted(self, inputs, accumulator, **how):
        how["watch"] = lambda _, __, x, ___: sizes.append(len(x))
        return whole(self, inputs, accumulator, **how)

    monkeypatch.setattr(Network, "run", counted)
    np.save(tmp_path / "x.npy", np.ones((5, 4)))
    model = named(tmp_path / "m.onnx", "fc")
    command("run", model, tmp_path / "x.npy", "--bits", 12, "--batch", 2)
    assert sizes == [2, 2, 1]
    sizes.clear()
    command("sweep", model, tmp_path / "x.npy", "--bits", "12", "--overflow", "wrap", "--batch", 3)
    assert sizes == [3, 2, 3, 2]


@pytest.mark.parametrize("labels", [True, False])
def test_a_sweep_is_what_the_network_does(labels, command, tmp_path):
    """Each row against Network.run: accuracy with labels, else how far outputs are off."""
    arrays = read_arrays(few(CNN_DATA, tmp_path / "x.npz", 12), DATA)
    arrays["y"] = np.where(np.arange(12) < 3, 9, arrays["y"])  # some are wrong
    data = tmp_path / "x.npz"
    np.savez(data, **arrays)
    if not labels:
        np.save(tmp_path / "x.npy", arrays["x"])
        data = tmp_path / "x.npy"
    words = ("sweep", CNN, data, "--bits", "8,10,14")
    code, out, _ = command(*words, "--json", "--plot", tmp_path / "p.png")
    told = json.loads(out)
    network = load(CNN)
    wide = network.run(arrays["x"], Accumulator(48)).outputs["53"].astype(np.float64)
    cases = [(48, None), *((bits, str(rule)) for bits in (8, 10, 14) for rule in Overflow)]
    assert (code, told["complete"], told["labels"]) == (0, True, "y" if labels else None)
    assert [(row["bits"], row["overflow"]) for row in told["rows"]] == cases
    for row, (bits, rule) in zip(told["rows"], cases, strict=True):
        run = network.run(arrays["x"], Accumulator(bits, rule or "wrap"))
        found = run.outputs["53"].astype(np.float64)
        right = float((found.argmax(1) == arrays["y"]).mean())
        assert row["accuracy"] == (right if labels else None)
        assert row["same"] == (found.argmax(1) == wide.argmax(1)).mean()
        assert row["largest"] == np.abs(found - wide).max()
        assert row["mean"] == pytest.approx(np.abs(found - wide).mean(), rel=1e-12)
        steps = {name: count["overflow_steps"] for name, count in row["overflows"].items()}
        assert steps == run.overflows
    assert len({row["same"] for row in told["rows"]}) > 2
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    shown = rows_of(command(*words)[1])
    row, wide = told["rows"][2], told["rows"][0]
    shares = {
        name: 100 * count["overflowed_outputs"] / count["outputs"]
        for name, count in row["overflows"].items()
    }
    counts = row["overflows"].values()
    over = sum(c["overflowed_outputs"] for c in counts) / sum(c["outputs"] for c in counts)
    figures = [f"{100 * row['same']:.1f}", f"{row['largest']:.4g}", f"{row['mean']:.4g}"]
    figures = [f"{100 * row['accuracy']:.1f}"] if labels else figures
    assert " ".join(["8 saturate", *figures, f"{100 * over:.1f}"]) in shown
    assert any(line.startswith("48 (wide)") for line in shown)
    assert any(line.startswith(f"/fc/Gemm {shares['/fc/Gemm']:.1f} ") for line in shown)


def test_labels_may_have_another_name(command, tmp_path):
    """And y is no input then; of an .npz with one array beside the labels that is the input."""
    x, y = np.load(CNN_DATA)["x"][:3], np.load(CNN_DATA)["y"][:3]
    np.savez(tmp_path / "x.npz", images=x, right=y)
    words = ("sweep", CNN, tmp_path / "x.npz", "--bits", "14", "--overflow", "wrap", "--json")
    told = json.loads(command(*words, "--labels", "right")[1])
    assert (told["labels"], told["rows"][1]["accuracy"]) == ("right", 1.0)
    np.savez(tmp_path / "x.npz", x=x, images=x[::-1], right=y[::-1])
    told = json.loads(command(*words, "--labels", "right")[1])
    assert told["rows"][1]["accuracy"] < 1


def test_ctrl_c_tells_the_widths_that_are_done(command, tmp_path, monkeypatch):
    """As JSON, as tables, and drawn; before the first there is nothing to tell."""
    data = few(CNN_DATA, tmp_path / "x.npz", 2)
    whole, calls, last = Network.run, [], [3]

    def interrupted(self, inputs, accumulator, **how):
        calls.append(accumulator.bits)
        if len(calls) > last[0]:
            raise KeyboardInterrupt
        return whole(self, inputs, accumulator, **how)

    monkeypatch.setattr(Network, "run", interrupted)
    words = ("sweep", CNN, data, "--bits", "8:10", "--plot", tmp_path / "p.png")
    code, out, _ = command(*words, "--json")
    told = json.loads(out)
    assert (code, told["complete"]) == (130, False)
    assert [(row["bits"], row["overflow"]) for row in told["rows"]] == [
        (48, None),
        (8, "wrap"),
        (8, "saturate"),
    ]
    assert (tmp_path / "p.png").exists()
    calls.clear()
    code, out, _ = command(*words)
    assert (code, "interrupted" in out) == (130, True)
    calls.clear()
    last[0] = 0
    assert command(*words) == (130, "", "")


def test_a_bias_that_no_register_holds_ends_nothing(command, tmp_path):
    """Verify refutes that layer without a witness and says why; sweep has a row that says so."""
    model = biased(tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", np.ones((3, 4)))
    page = tmp_path / "page.html"
    words = ("verify", model, "--bits", 10, "--inputs", tmp_path / "x.npy")
    code, out, err = command(*words, "--witnesses", tmp_path / "w", "--html", page)
    line = "channel 0 starts at its bias 1000, outside [-512, 511]: the 10-bit wrap register cannot hold it"
    assert (code, err, f"fc: {line}\n" in out) == (1, "", True)
    assert list((tmp_path / "w").iterdir()) == []
    assert f"<b>fc</b>: {line}" in page.read_text()
    told = json.loads(command(*words, "--json")[1])
    layer = told["layers"]["fc"]
    assert (layer["verdict"], layer["witness"], layer["unsafe_channels"]) == (
        "refuted",
        None,
        [0, 1],
    )
    assert layer["start"] == {"channel": 0, "value": 1000}
    (tmp_path / "r.json").write_text(json.dumps(told))
    code, again, _ = command("report", tmp_path / "r.json")
    assert (code, again) == (1, out)
    for start, text in (
        (
            {"channel": 0, "value": 5},
            "must have a start of layer 'fc' outside its register, or none",
        ),
        (None, "must have a witness of layer 'fc' if refuted, and only then"),
    ):
        layer.pop("start", None)
        layer |= {} if start is None else {"start": start}
        (tmp_path / "r.json").write_text(json.dumps(told | {"digest": digest(told)}))
        assert command("report", tmp_path / "r.json")[2] == f"accsim: r.json {text}\n"
    assert command("verify", model, "--bits", layer["least_bits"])[0] == 0
    assert command("verify", model, "--bits", layer["least_bits"] - 1)[0] == 1
    words = ("sweep", model, tmp_path / "x.npy", "--bits", "10:12", "--overflow", "wrap")
    code, out, _ = command(*words, "--plot", tmp_path / "p.png")
    assert (code, "10 wrap cannot hold the bias of fc" in rows_of(out)) == (0, True)
    rows = json.loads(command(*words, "--json")[1])["rows"]
    assert [(row["bits"], row["unheld"]) for row in rows[1:]] == [
        (10, "fc"),
        (11, None),
        (12, None),
    ]
    assert (rows[1]["same"], rows[1]["overflows"], rows[3]["same"]) == (None, {}, 1.0)
    code, _, err = command("run", model, tmp_path / "x.npy", "--bits", 10)
    text = "fc: bias[0] is 1000, outside the 10-bit wrap register [-512, 511]"
    assert (code, err) == (2, f"accsim: {text}\n")


@pytest.mark.parametrize("file", ["cnn_base_w4a4.qcdq.onnx", "mlp_a2qp_p12_w4a4.qonnx.onnx"])
def test_minimized_registers_are_the_least(file, command, tmp_path):
    """Each product is proved in the register that the file names now; refuted with a bit less."""
    out = tmp_path / "min.onnx"
    code, text, _ = command("minimize", MODELS / file, "-o", out)
    assert code == 0
    code, told, _ = command("minimize", MODELS / file, "--out", out, "--json")
    told = json.loads(told)
    assert (code, told["schema"], told["untraced"]) == (0, "accsim.minimize/1", {})
    assert (told["name"], told["products"]) == (file, [])
    layers = load(MODELS / file).layers
    assert [found["bits"] for found in told["registers"].values()] == LEAST[file]
    for name, found in told["registers"].items():
        assert found["taps"] == layers[name].taps
        assert f"{name} {found['taps']} {found['bits']}" in rows_of(text)
    words = ("--bits-from", "annotations")
    code, text, _ = command("verify", out, *words)
    assert (code, text.startswith("min.onnx, each layer in its own register")) == (0, True)
    shown = json.loads(command("verify", out, *words, "--json")[1])["layers"]
    keys = ("taps", "input", "weight", "data_type_bits", "l1_bits", "least_bits")
    for name, bits in zip(shown, LEAST[file], strict=True):
        cells = [shown[name][key] for key in keys]
        row = [name, *cells, bits, shown[name]["fold_interval"], "proved"]
        assert " ".join(map(str, row)) in rows_of(text)
    less = narrowed(out, tmp_path / "less.onnx")
    code, text, _ = command("verify", less, *words, "--overflow", "saturate", "--json")
    found = json.loads(text)["layers"]
    assert (code, {layer["verdict"] for layer in found.values()}) == (1, {"refuted"})
    assert [layer["accumulator"] for layer in found.values()] == [
        {"bits": bits - 1, "overflow": "saturate", "signed": True} for bits in LEAST[file]
    ]


def test_what_is_not_traced_is_told(command, tmp_path):
    """By name with the reason, in the table, the JSON, the page and the report; and exit code 3."""
    model, page = mixed(tmp_path / "m.onnx"), tmp_path / "page.html"
    code, out, _ = command("verify", model, "--bits", 20, "--html", page)
    reason = "its weight 'f' is no constant of integers: it is a constant of fractions"
    lines = [
        "attention: a product of activations, INT8 and INT8, whose length is not known: undecided",
        f"float: not traced: {reason}",
    ]
    assert code == 3
    assert all(f"{line}\n" in out for line in lines)
    text = page.read_text().replace("&#39;", "'")
    assert f'<b>float</b>: <span class="verdict undecided">not traced</span>: {reason}' in text
    assert f"<p>{lines[0]}</p>" in text
    told = json.loads(command("verify", model, "--bits", 20, "--json")[1])
    assert (told["verdict"], list(told["untraced"])) == ("undecided", ["float", "late"])
    assert told["products"] == [
        {
            "name": "attention", "left": "INT8", "right": "INT8", "taps": None, "least_bits": None,
            "accumulator": {"bits": 20, "overflow": "wrap", "signed": True}, "verdict": "undecided",
        }
    ]  # fmt: skip
    (tmp_path / "r.json").write_text(json.dumps(told))
    assert command("report", tmp_path / "r.json")[:2] == (3, out)
    assert command("verify", model, "--bits", 7)[0] == 1  # refuted, whatever is undecided


def test_a_model_without_integers_is_undecided(command, tmp_path):
    """It has no layer, and says what it has instead; on the page, too."""
    model, page = mixed(tmp_path / "m.onnx", layer=False), tmp_path / "page.html"
    code, out, _ = command("verify", model, "--bits", 20, "--html", page)
    assert (code, "m.onnx, no register" in out, "late: not traced" in out) == (3, True, True)
    assert "<b>late</b>" in page.read_text()
    told = command("verify", model, "--bits", 20, "--json")[1]
    (tmp_path / "r.json").write_text(told)
    assert command("report", tmp_path / "r.json")[:2] == (3, out)
    forged = json.loads(told) | {"verdict": "proved"}
    (tmp_path / "r.json").write_text(json.dumps(forged | {"digest": digest(forged)}))
    text = "accsim: r.json must be undecided, as its parts are, not proved\n"
    assert command("report", tmp_path / "r.json")[2] == text
    assert command("verify", model, "--bits-from", "annotations")[0] == 3


def test_the_others_tell_what_is_not_traced_too(command, tmp_path):
    """Search, run, sweep and minimize leave nothing out silently."""
    model, less = mixed(tmp_path / "m.onnx"), tmp_path / "less.onnx"
    np.save(tmp_path / "x.npy", np.eye(4))
    code, out, _ = command("search", model, "--bits", 20, "--examples", 5)
    assert code == 0
    assert "attention: not searched: a product of activations\nfloat: not searched: its" in out
    told = json.loads(command("search", model, "--bits", 7, "--examples", 99, "--json")[1])
    assert (told["found"], list(told["untraced"])) == (True, ["float", "late"])
    attention = {"name": "attention", "left": "INT8", "right": "INT8"}
    products = [attention | {"taps": None, "least_bits": None}]
    assert (told["name"], told["products"]) == ("m.onnx", products)
    for words in (
        ("run", model, tmp_path / "x.npy", "--bits", 9),
        ("sweep", model, tmp_path / "x.npy", "--bits", "9"),
    ):
        assert "float: not traced, and so in no register: its" in command(*words)[1]
        told = json.loads(command(*words, "--json")[1])
        assert list(told["untraced"]) == ["float", "late"]
        assert (told["name"], told["products"]) == ("m.onnx", products)
    out = command("minimize", model, "-o", less)[1]
    line = "attention: no register: a product of activations of unknown length\nfloat: no register: its"
    assert line in out
    told = json.loads(command("minimize", model, "-o", less, "--json")[1])
    assert (list(told["registers"]), list(told["untraced"])) == (["layer"], ["float", "late"])
    assert (told["name"], told["products"]) == ("m.onnx", products)
    words = ("verify", less, "--bits-from", "annotations", "--inputs", tmp_path / "x.npy")
    assert command(*words)[0] == 3  # a product without a register is no reason to end


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/evil", "evil\x1b[2J\n", "..", ".", "x" * 400, "a\\b:c"]
)
def test_names_of_nodes_stay_inside(name, command, tmp_path):
    """A witness is a file of the folder it is put in, and a name no command to the terminal."""
    model = named(tmp_path / "m.onnx", name)
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    code, out, _ = command("verify", model, "--bits", 6, "--witnesses", folder)
    found = [path for path in tmp_path.rglob("*") if path.is_file() and path != model]
    assert (code, len(found), "\x1b" in out) == (1, 1, False)
    assert (found[0].parent, found[0].suffix) == (folder, ".json")
    assert "…" not in out
    assert command("explain", found[0])[0] == 0


def test_two_registers_are_compared_on_a_model(command, tmp_path):
    """Each layer on the codes of the first network; samples count on over batches of one."""
    data = few(MLP_DATA, tmp_path / "x.npz", 6)
    words = ("compare", MLP, data, "--bits", 12, "--other-bits", 9)
    code, out, _ = command(*words)
    told = json.loads(command(*words, "--json")[1])
    x, codes, network = read_arrays(data, DATA)["x"], {}, load(MLP)
    wide = network.run(
        x, Accumulator(12), watch=lambda n, _, q, __: codes.setdefault(n, []).append(q)
    )
    narrow = network.run(x, Accumulator(9))
    for name, layer in network.layers.items():
        q = np.concatenate(codes[name])
        exact = q.astype(int) @ layer.rows.astype(int).T
        differs = (exact + 256) % 512 - 256 != exact  # wrapping is exact if the end fits
        found = told["layers"][name]
        assert (found["outputs"], found["differing"]) == (differs.size, int(differs.sum()))
        assert found["samples"] == np.flatnonzero(differs.any(axis=1)).tolist()
    assert len(told["layers"]["/fcs.0/Gemm"]["samples"]) > 1
    a, b = wide.outputs["48"], narrow.outputs["48"]
    changed = np.flatnonzero(a.argmax(1) != b.argmax(1)).tolist()
    largest = float(np.abs(a.astype(float) - b.astype(float)).max())
    assert (code, told["changed"], told["largest"]) == (0, changed, largest)
    assert (
        f"outputs differ by at most {largest:.4g}, the class of {len(changed)} inputs of 6" in out
    )


def test_weights_in_another_file(command, tmp_path):
    """Only from the folder that is named."""
    model = onnx.load(MLP)
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    code, _, err = command("verify", path, "--bits", 12)
    assert (code, "name the folder that it is in (external_data, --external-data)" in err) == (
        2,
        True,
    )
    where = ("--external-data", tmp_path / "model")
    np.save(tmp_path / "x.npy", np.load(MLP_DATA)["x"][:2])
    for words in (
        ("verify", path, "--bits", 12),
        ("search", path, "--bits", 12, "--examples", 1),
        ("run", path, tmp_path / "x.npy", "--bits", 12),
        ("sweep", path, tmp_path / "x.npy", "--bits", "12"),
        ("compare", path, tmp_path / "x.npy", "--bits", 12, "--other-bits", 12),
        ("minimize", path, "-o", tmp_path / "model" / "least.onnx"),
        ("verify", tmp_path / "model" / "least.onnx", "--bits-from", "annotations"),
    ):
        assert command(*words, *where)[0] == 0


def test_inputs_by_name(command, tmp_path):
    """Of a network of several, each under its own; integers are numbers, too."""
    model = two_inputs(tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", one=np.ones((3, 4), int), two=np.full((3, 4), 0.5), y=[0, 1, 0])
    words = ("sweep", model, tmp_path / "x.npz", "--bits", "9", "--json")
    code, out, _ = command(*words)
    found = (
        load(model)
        .run({"one": np.ones((3, 4)), "two": np.full((3, 4), 0.5)}, Accumulator(9))
        .outputs["out"]
    )
    right = (found.argmax(1) == [0, 1, 0]).mean()
    assert (code, json.loads(out)["rows"][1]["accuracy"]) == (0, right)


def test_help_fits_one_screen(command):
    """Of the commands that take model files."""
    for word in ("verify", "run", "compare", "search", "sweep", "minimize"):
        code, out, _ = command(word, "--help")
        assert (code, len(out.splitlines()) <= 40) == (0, True)


WRONG_USE = {
    "no file": (["verify", "none.onnx", "--bits", 8], "none.onnx cannot be read: No such file or directory"),
    "no model": (["verify", "junk.onnx", "--bits", 8], "junk.onnx is not an ONNX model"),
    "no bits": (["verify", "m.onnx"], "Missing option '--bits' or '--datapath'. Or '--bits-from annotations'."),
    "both bits": (
        ["verify", "m.onnx", "--bits", 8, "--bits-from", "annotations"],
        "Invalid value: --bits-from takes the place of --bits: not both",
    ),
    "unsigned annotations": (
        ["verify", "m.onnx", "--unsigned", "--bits-from", "annotations"],
        "Invalid value: --unsigned is of --bits: annotations tell which registers have a sign",
    ),
    "annotations of layers": (
        ["verify", "l.npz", "--bits-from", "annotations"],
        "Invalid value: --bits-from is of a model: LAYERS must be an .onnx file",
    ),
    "no annotation": (
        ["verify", "m.onnx", "--bits-from", "annotations"],
        "node 'fc' has no annotation of its register: accsim minimize writes them",
    ),
    "nothing to verify": (["verify", "relu.onnx", "--bits", 8], "relu.onnx multiplies no matrices: there is nothing to verify"),
    "nothing to search": (["search", "relu.onnx", "--bits", 8], "relu.onnx has no integer product: it multiplies no matrices"),
    "zero point": (
        ["verify", "m.onnx", "--bits", 8, "--zero-point", 1],
        "Invalid value: --zero-point and --preload are of layers in files: a model says itself where"
        " its registers start",
    ),
    "preload": (
        ["verify", "m.onnx", "--bits", 8, "--preload"],
        "Invalid value: --zero-point and --preload are of layers in files: a model says itself where"
        " its registers start",
    ),
    "folder of layers": (
        ["verify", "l.npz", "--bits", 8, "--external-data", "."],
        "Invalid value: --external-data is of a model: LAYERS must be an .onnx file",
    ),
    "batch of layers": (
        ["run", "l.npz", "x.npz", "--bits", 8, "--batch", 3],
        "Invalid value: --batch is of a model: LAYERS must be an .onnx file",
    ),
    "plan of a model": (["run", "m.onnx", "x.npy", "--bits", 8, "--plan"], "Invalid value: --plan is of layers in files: not of a model"),
    "data of another kind": (["run", "m.onnx", "x.csv", "--bits", 8], "DATA must be a .npy or .npz file, not x.csv"),
    "no input": (["run", "m.onnx", "no.npz", "--bits", 8], "no.npz lacks the network's input 'x': it has 'a', 'b'"),
    "empty data": (["run", "m.onnx", "empty.npz", "--bits", 8], "empty.npz lacks the network's input 'x': it has no array"),
    "one of two inputs": (["run", "two.onnx", "one.npz", "--bits", 12], "one.npz lacks the network's input 'two': it has 'one', 'x'"),
    "bools": (["run", "m.onnx", "bool.npy", "--bits", 8], "bool.npy must hold integers or floats, not bool"),
    "objects": (["run", "m.onnx", "object.npy", "--bits", 8], "object.npy must hold integers or floats, not object"),
    "wrong shape": (["run", "m.onnx", "wide.npy", "--bits", 12], "input 'x' must be of shape (n, 4), not (2, 5)"),
    "batch 0": (["run", "m.onnx", "x.npy", "--bits", 12, "--batch", 0], "batch must be an integer from 1 to 2147483648, not 0"),
    "labels missing": (
        ["sweep", "m.onnx", "x.npz", "--bits", 8, "--labels", "t"],
        "x.npz lacks the labels 't': it has 'x', 'y'",
    ),
    "labels too few": (
        ["sweep", "m.onnx", "x.npz", "--bits", 8],
        "labels 'y' must be 2 integers, one for each input, not int64 of shape (3,)",
    ),
    "labels of floats": (
        ["sweep", "m.onnx", "f.npz", "--bits", 8],
        "labels 'y' must be 2 integers, one for each input, not float64 of shape (2,)",
    ),
    "rules": (["sweep", "m.onnx", "x.npy", "--bits", 8, "--overflow", "wrap,clip"], "Invalid value: --overflow must be wrap, saturate or wrap,saturate, not 'clip'"),
    "plot of another kind": (["sweep", "m.onnx", "x.npy", "--bits", 8, "--plot", "p.svg"], "Invalid value: --plot must be a .png file, not p.svg"),
    "least register over its model": (["minimize", "m.onnx", "-o", "./m.onnx"], "Invalid value: --out must be another file than those that are read, not m.onnx"),
    "least register nowhere": (["minimize", "m.onnx"], "Missing option '--out' / '-o'."),
    "in no folder": (["minimize", "m.onnx", "-o", "no/m.onnx"], "No such folder: no"),
    **{
        f"widths {text}": (
            ["sweep", "m.onnx", "x.npy", "--bits", text],
            f"Invalid value: --bits must be widths from 2 to 62, as 8:20 or 8,10,16, not {text}",
        )
        for text in ("20:8", "1:8", "8:63", "8,,9", "8:", "eight", "8:9,10", "-3", "1e1")
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models, layers and data to go wrong with."""
    folder = tmp_path_factory.mktemp("wrong")
    named(folder / "m.onnx", "fc")
    two_inputs(folder / "two.onnx")
    load(folder / "m.onnx").layers["fc"].save(folder / "l.npz")
    (folder / "junk.onnx").write_bytes(b"\x00junk")
    relu = onnx.helper.make_node("Relu", ["x"], ["y"], name="relu")
    ends = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "xy"]
    opsets = [onnx.helper.make_opsetid("", 17)]
    graph = onnx.helper.make_graph([relu], "g", ends[:1], ends[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets), folder / "relu.onnx")
    x = np.ones((2, 4))
    np.savez(folder / "x.npz", x=x, y=np.zeros(3, int))
    np.savez(folder / "f.npz", x=x, y=np.zeros(2))
    np.savez(folder / "no.npz", a=x, b=x)
    np.savez(folder / "one.npz", one=x, x=x)
    np.savez(folder / "empty.npz")
    for name, array in (("x", x), ("bool", x > 0), ("wide", np.ones((2, 5)))):
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "object.npy", x.astype(object), allow_pickle=True)
    return folder


@pytest.mark.parametrize("kind", WRONG_USE)
def test_wrong_use_is_one_line(kind, command, folder, monkeypatch):
    """Exit code 2, one line on standard error, nothing on standard output, no traceback."""
    monkeypatch.chdir(folder)
    words, text = WRONG_USE[kind]
    assert command(*words) == (2, "", f"accsim: {text}\n")


def test_labels_need_a_row_of_outputs_each(command, tmp_path):
    """A network that makes one row of many inputs has no class for each."""
    model = onnx.load(named(tmp_path / "m.onnx", "fc"))
    model.graph.node.append(onnx.helper.make_node("ReduceSum", ["out"], ["y"], keepdims=0))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", 1, []))
    onnx.save(model, tmp_path / "m.onnx")
    np.savez(tmp_path / "x.npz", x=np.ones((3, 4)), y=[0, 1, 1])
    text = "accsim: labels need one row of outputs for each of 3 inputs, not 1\n"
    for word in ("sweep", "run"):
        assert command(word, tmp_path / "m.onnx", tmp_path / "x.npz", "--bits", "8") == (
            2,
            "",
            text,
        )


def test_without_onnx_it_is_one_line(command, monkeypatch):
    """What needs it and the pip command."""
    for name in [name for name in sys.modules if name.startswith("accsim.onnx")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, out, err = command("verify", MLP, "--bits", 12)
    text = "accsim: reading model files needs onnx: pip install 'accsim[onnx]'\n"
    assert (code, out, err) == (2, "", text)
