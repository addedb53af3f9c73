"""The demo, quick: everything it writes agrees with the library."""

import json

import numpy as np
import pytest
from rich.console import Console

from accsim import Accumulator, IntLayer, simulate
from verification import decide, oracle
from verification.demo import NETWORKS, SWEEP, run_demo
from verification.reading import read_reports
from verification.witness_file import load_witness

BITS = 9


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One quick run: its folder, its report, what it printed."""
    out = tmp_path_factory.mktemp("demo") / "results"
    console = Console(record=True, width=100, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    content = run_demo(out, bits=BITS, seed=1, quick=True, console=console)
    console.file.close()
    return out, content, console.export_text()


def test_the_report_is_what_was_returned(demo):
    """report.json is the content, versioned, with seed and versions."""
    out, content, _ = demo
    assert json.loads((out / "report.json").read_text()) == content
    assert (content["schema"], content["seed"], content["bits"]) == ("accsim.demo/1", 1, BITS)
    assert {"accsim", "numpy", "torch", "python"} <= content["versions"].keys()
    assert sorted(p.name for p in out.iterdir()) == [
        "accuracy.png", "inputs", "layers", "report.html", "report.json", "witnesses",
    ]  # fmt: skip
    assert (out / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_saved_layers_give_the_reported_verdicts(demo):
    """Each layer file, decided again; the A2Q+ network is proved, the plain one refuted."""
    out, content, _ = demo
    for name in NETWORKS:
        told = content["networks"][name]["layers"]
        assert len(told) == 4
        for layer, figures in told.items():
            report = decide(
                IntLayer.load(out / "layers" / name / f"{layer}.npz"), Accumulator(BITS)
            )
            assert (str(report.verdict), report.least_bits) == (
                figures["verdict"],
                figures["least_bits"],
            )
    verdicts = {name: content["networks"][name]["verdict"] for name in NETWORKS}
    assert verdicts == {"plain": "refuted", "a2q+": "proved"}


def test_witnesses_replay(demo):
    """Every file of a refuted layer: it overflows by the oracle, at the step it tells."""
    out, content, text = demo
    layers = content["networks"]["plain"]["layers"]
    refuted = [name for name, layer in layers.items() if layer["verdict"] == "refuted"]
    assert refuted
    assert sorted(file.stem for file in (out / "witnesses").iterdir()) == sorted(refuted)
    for name in refuted:
        found = load_witness(out / "witnesses" / f"{name}.json")
        told = json.loads((out / "witnesses" / f"{name}.json").read_text())
        answer = oracle.dot(told["weight"], told["x"], BITS, "wrap", bias=told["bias"])
        assert (answer.output, answer.first_overflow) == (told["simulated"], told["step"])
        assert found.replay().first_overflow[0] == told["step"]
    assert f"step {found.step}:" in text


def test_data_attack_and_proof_are_nested(demo):
    """In each layer of both networks; the page shows both, the command reads the report again."""
    out, content, text = demo
    for network in read_reports(out / "report.json"):
        for name, ends in network["reached"].items():
            data, attack, proved = (ends[kind] for kind in ("data", "attack", "proved"))
            assert proved["low"] <= attack["low"] <= data["low"], name
            assert data["high"] <= attack["high"] <= proved["high"], name
            assert proved["bits"] == network["layers"][name]["least_bits"]
            assert data["channel_low"]
            over = network["layers"][name]["verdict"] == "refuted" and data["overflowed_outputs"]
            assert bool(over) == (data["of_rail"] > 1)
        assert network["comparison"]["samples"] == content["test_images"]
    assert "how far the sums go" in text
    html = (out / "report.html").read_text()
    for network in content["networks"].values():
        assert network["digest"] in html


def test_the_sweep_covers_every_width_and_rule(demo):
    """6 to 20 bits, both rules; at its width nothing of the A2Q+ network overflows."""
    _, content, text = demo
    for name in NETWORKS:
        network = content["networks"][name]
        assert [(r["bits"], r["overflow"]) for r in network["sweep"]] == [
            (bits, rule) for bits in SWEEP for rule in ("wrap", "saturate")
        ]
        assert content["identical"][name]["largest_difference_from_fake_quantized"] == 0
        wide = network["sweep"][-1]["accuracy"]
        assert f"{100 * wide:.1f}" in text
    safe = content["networks"]["a2q+"]
    assert content["identical"]["a2q+"]["wrap_saturate_wide"]
    for row in safe["sweep"]:
        if row["bits"] >= BITS:
            assert all(seen["overflow_steps"] == 0 for seen in row["overflows"].values())
            assert row["accuracy"] == safe["sweep"][-1]["accuracy"]
    assert not content["identical"]["plain"]["wrap_saturate_wide"]


def test_saved_inputs_run(demo):
    """The recorded inputs are legal and overflow the plain network's layers."""
    out, _, _ = demo
    steps = 0
    with np.load(out / "inputs" / "plain.npz") as inputs:
        for layer in inputs.files:
            loaded = IntLayer.load(out / "layers" / "plain" / f"{layer}.npz")
            steps += simulate(loaded, inputs[layer], Accumulator(BITS)).overflow_count.sum()
    assert steps > 0
