"""The command's reports: how far inputs go, pages, reading again, two registers compared."""

import json

import numpy as np
import pytest

from accsim import Accumulator, IntLayer, between, signed, simulate, unsigned
from verification import json_file
from verification.report import digest

SAFE = IntLayer([[1, -1], [2, 0]], weight_spec=signed(4), input_spec=unsigned(4))
UNSAFE = IntLayer([[7, 7], [0, -7]], weight_spec=signed(4), input_spec=unsigned(4))
X = np.array([[15, 15], [0, 1], [3, 0]])


@pytest.fixture
def folder(tmp_path):
    """Two layers in a folder, and inputs of both."""
    (tmp_path / "net").mkdir()
    SAFE.save(tmp_path / "net" / "a.npz")
    UNSAFE.save(tmp_path / "net" / "b.npz")
    np.savez(tmp_path / "x.npz", a=X, b=X[:, ::-1])
    return tmp_path


def test_verify_tells_how_far_inputs_go(command, folder):
    """Beside the proof: bits, the share of the way to a rail, and the outputs that overflow."""
    words = ("verify", folder / "net", "--bits", 7, "--inputs", folder / "x.npz")
    code, out, _ = command(*words)
    assert code == 1
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert "a 7 6 (48 %) 6 (48 %) 0 of 6" in rows
    assert "b 7 9 (333 %) 9 (333 %) 2 of 6" in rows
    assert "net: the given inputs went to 333 % of a rail, in b" in rows
    safe = command("verify", folder / "net" / "a.npz", *words[2:])[1]
    assert "a.npz: the given inputs never came within 52 % of a rail" in safe
    told = json.loads(command(*words, "--json")[1])
    assert told["digest"] == digest(told)
    for name, layer, x in (("a", SAFE, X), ("b", UNSAFE, X[:, ::-1])):
        run = simulate(layer, x, Accumulator(7))
        data = told["reached"][name]["data"]
        assert data["channel_low"] == run.peak_low.min(axis=0).tolist()
        assert data["channel_high"] == run.peak_high.max(axis=0).tolist()
        assert data["overflowed_outputs"] == int(np.count_nonzero(run.overflow_count))
    empty = np.zeros((0, 2), int)
    np.savez(folder / "none.npz", a=empty, b=X)
    told = json.loads(command(*words[:-1], folder / "none.npz", "--json")[1])
    assert list(told["reached"]) == ["b"]


def test_a_report_is_shown_again(command, folder):
    """The same tables, lines and page from the JSON; exit codes as for verify."""
    words = ("verify", folder / "net", "--bits", 7, "--inputs", folder / "x.npz")
    code, out, _ = command(*words, "--html", folder / "one.html")
    assert code == 1
    (folder / "r.json").write_text(command(*words, "--json")[1])
    code, again, _ = command("report", folder / "r.json", "--html", folder / "two.html")
    assert (code, again) == (1, out)
    one, two = ((folder / f"{name}.html").read_text() for name in ("one", "two"))
    assert one.replace("net, 7-bit wrap register", "net") == two
    told = json.loads(command("report", folder / "r.json", "--json")[1])
    assert told["networks"]["net"] == json.loads((folder / "r.json").read_text())
    proved = command("verify", folder / "net", "--bits", 9, "--json")[1]
    (folder / "p.json").write_text(proved)
    assert command("report", folder / "p.json")[0] == 0


def test_a_changed_report_is_refused(command, folder, monkeypatch):
    """Another schema, another number, no report at all, one that lacks a part: a line each."""
    told = json.loads(command("verify", folder / "net", "--bits", 7, "--json")[1])
    path = folder / "r.json"

    def refusal(text):
        path.write_text(text)
        code, out, err = command("report", path)
        assert (code, out) == (2, "")
        assert err.startswith("accsim: ")
        assert err.count("\n") == 1
        return err[len("accsim: ") : -1]

    assert refusal("{") == "r.json must be a report as JSON"
    monkeypatch.setattr(json_file, "MOST_BYTES", 10)
    assert refusal('"not too little"') == "r.json must be a report, not of over 10 bytes"
    monkeypatch.undo()
    for other in ("[]", "3", "{}", '{"networks": {}}', '{"networks": {"a": 5}}'):
        assert refusal(other) == "r.json must be of schema accsim.report/1, not None"
    text = refusal(json.dumps(told | {"schema": "accsim.report/2"}))
    assert text == "r.json must be of schema accsim.report/1, not 'accsim.report/2'"
    changed = told | {"verdict": "proved"}
    assert refusal(json.dumps(changed)) == (
        f"r.json must be as it was written: its digest is '{told['digest']}', that of its content"
        f" '{digest(changed)}'"
    )
    told["layers"]["b"]["witness"]["step"] = 1
    text = refusal(json.dumps(told | {"digest": digest(told)}))
    assert text == (
        "a report must hold witnesses that replay: the witness of 'b' must tell what happens: step"
        " is 0, not 1"
    )
    code, _, err = command("report", folder / "absent.json")
    assert (code, err) == (2, f"accsim: No such file or directory: {folder / 'absent.json'}\n")


def test_two_registers_are_compared(command, folder):
    """By layer: how many outputs differ, where, and the first step of any of them."""
    words = ("compare", folder / "net", folder / "x.npz", "--bits", 7, "--other-bits", 7)
    words += ("--other-overflow", "saturate")
    code, out, _ = command(*words)
    assert code == 0
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert "b 6 2 0 0, 1 0" in rows
    assert "a 6 0" in rows
    told = json.loads(command(*words, "--json")[1])
    one, two = (simulate(UNSAFE, X[:, ::-1], Accumulator(7, rule)) for rule in ("wrap", "saturate"))
    differs = one.output != two.output
    assert told["layers"]["b"] == {
        "outputs": 6,
        "differing": int(differs.sum()),
        "channels": sorted(set(np.nonzero(differs)[1].tolist())),
        "samples": sorted(set(np.nonzero(differs)[0].tolist())),
        "first_step": 0,
    }
    assert told["registers"][1] == {"bits": 7, "overflow": "saturate", "signed": True}


def test_explain_tells_the_worst_order(command, folder):
    """Of a register that saturates, where it makes a difference; one that wraps ends the same."""
    layer = IntLayer([[-7, 7, 7, -7]], weight_spec=signed(4), input_spec=between(1, 2))
    layer.save(folder / "one.npz")
    for rule in ("saturate", "wrap"):
        words = ("--overflow", rule, "--witnesses", folder)
        assert command("verify", folder / "one.npz", "--bits", 4, *words)[0] == 1
        told = json.loads(command("explain", folder / "one.json", "--json")[1])
        out = command("explain", folder / "one.json")[1]
        if rule == "saturate":
            assert (told["exact"], told["simulated"]) == (-7, -1)
            assert told["worst_order"] == {"simulated": 6, "order": [0, 3, 1, 2]}
            assert "in its worst order the register ends at 6\n" in out
        else:
            assert told["worst_order"] is None
            assert "worst" not in out
    UNSAFE.save(folder / "one.npz")  # whose witness has products of one sign
    words = ("--overflow", "saturate", "--witnesses", folder)
    command("verify", folder / "one.npz", "--bits", 7, *words)
    assert "worst" not in command("explain", folder / "one.json")[1]


def test_a_zero_point_is_told_in_three_lowerings(command, folder):
    """Beside each other; the one that is asked for is verified, and decides the exit code."""
    layer = IntLayer([[7, 7, 7, -1]], weight_spec=signed(4), input_spec=unsigned(4))
    layer.save(folder / "codes.npz")
    words = ("verify", folder / "codes.npz", "--bits", 9, "--zero-point", 5)
    codes = {}
    for name in ("subtract", "outside", "preload"):
        codes[name], out, _ = command(*words, "--lowering", name)
        told = json.loads(command(*words, "--lowering", name, "--json")[1])
        assert (
            told["layers"]["codes"]["least_bits"] == told["lowerings"]["codes"][name]["least_bits"]
        )
        assert told["verdict"] == told["lowerings"]["codes"][name]["verdict"]
    bits = {name: found["least_bits"] for name, found in told["lowerings"]["codes"].items()}
    assert bits == {"subtract": 9, "outside": 10, "preload": 9}
    assert codes == {"subtract": 0, "outside": 1, "preload": 0}
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert "codes 9 proved 10 refuted 9 proved" in rows
    command(*words, "--html", folder / "page.html")
    assert "The zero point in each lowering" in (folder / "page.html").read_text()


def test_a_preload_saves_a_bit(command, folder):
    """Where a register may start where it likes; a layer whose bias says where is left alone."""
    layer = IntLayer([[7, 7, 7, -1]], weight_spec=signed(4), input_spec=unsigned(4))
    layer.save(folder / "one.npz")
    assert command("verify", folder / "one.npz", "--bits", 9)[0] == 1
    words = ("verify", folder / "one.npz", "--preload")
    assert [command(*words, "--bits", bits)[0] for bits in (9, 8)] == [0, 1]
    started = json.loads(command(*words, "--bits", 9, "--json")[1])["layers"]["one"]
    assert (started["least_bits"], started["preloaded_bits"]) == (10, 9)
    told = json.loads(command(*words, "--bits", 9, "--json")[1])
    assert told["preloads"] == {"one": [-256 + 15]}
    (folder / "r.json").write_text(json.dumps(told))
    code, out, _ = command("report", folder / "r.json")
    assert (code, "preloaded where a start fits" in out) == (0, True)
    assert "one: started from -241 to -241" in command(*words, "--bits", 9)[1]
    assert "one: no start" in command(*words, "--bits", 8)[1]
    IntLayer(
        layer.weight, weight_spec=layer.weight_spec, input_spec=layer.input_spec, bias=[0]
    ).save(folder / "two.npz")
    assert command("verify", folder / "two.npz", "--bits", 9, "--preload")[0] == 1
    assert "two: no start" in command("verify", folder / "two.npz", "--bits", 9, "--preload")[1]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--zero-point", 1, "--preload"), "Invalid value: --zero-point is for codes as they are stored: not with"
         " --preload or --inputs"),
        (("--zero-point", 1, "--inputs", "x.npz"), "Invalid value: --zero-point is for codes as they are stored:"
         " not with --preload or --inputs"),
        (("--preload", "--unsigned"), "Invalid value: --preload is for registers of both signs, and"
         " their proof alone: not with --unsigned, --datapath, --inputs or --html"),
        (("--preload", "--html", "x.html"), "Invalid value: --preload is for registers of both signs,"
         " and their proof alone: not with --unsigned, --datapath, --inputs or --html"),
        (("--lowering", "outside"), "Invalid value: --lowering is of a zero point: only with"
         " --zero-point"),
        (("--zero-point", 16), "a: zero_point must be an integer from 0 to 15, not 16"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_one_line(command, folder, words, text):
    """Before anything is verified."""
    code, out, err = command("verify", folder / "net", "--bits", 8, *words)
    assert (code, out, err) == (2, "", f"accsim: {text}\n")


def test_a_report_must_agree_with_itself(command, folder):
    """Whoever remakes the digest: members, verdicts, widths and witnesses are held together."""
    words = ("verify", folder / "net", "--bits", 7, "--inputs", folder / "x.npz", "--json")
    told = json.loads(command(*words)[1])
    witness = told["layers"]["b"]["witness"]

    def refusal(change):
        broken = json.loads(json.dumps(told))
        change(broken)
        (folder / "r.json").write_text(json.dumps(broken | {"digest": digest(broken)}))
        for more in ((), ("--json",), ("--html", folder / "never.html")):
            code, out, err = command("report", folder / "r.json", *more)
            assert (code, out) == (2, "")
        return err[len("accsim: r.json must ") : -1]

    def a(**members):
        return lambda r: r["layers"]["a"].update(members)

    assert (
        refusal(lambda r: r.update(verdict="proved")) == "be refuted, as its parts are, not proved"
    )
    text = "have a witness of layer 'a' if refuted, and only then"
    assert refusal(a(witness=witness)) == text
    assert refusal(lambda r: r["layers"]["b"].update(witness=None)) == text.replace("'a'", "'b'")
    text = "tell of a layer, a product or a node that was not traced"
    assert refusal(lambda r: r.update(layers={}, reached={})) == text
    text = "prove layer 'a' if its least bits fit, and only then"
    assert refusal(a(least_bits=8)) == text
    text = "have a witness of layer 'b' in that layer's register"
    assert refusal(lambda r: r["layers"]["b"]["witness"]["accumulator"].update(bits=8)) == text
    members = "have the members of accsim.report/1: "
    for change, text in (
        (a(taps=-5), "layers.a.taps: -5 is less than the minimum of 0"),
        (a(taps="many"), "layers.a.taps: 'many' is not of type 'integer'"),
        (a(taps=True), "layers.a.taps: True is not of type 'integer'"),
        (a(channel_bits=[]), "layers.a.channel_bits: [] should be non-empty"),
        (a(more=1), "layers.a: Additional properties are not allowed ('more' was unexpected)"),
        (lambda r: r["layers"]["a"].pop("final_bits"), "layers.a: 'final_bits' is a required property"),
        (lambda r: r.pop("name"), "it: 'name' is a required property"),
        (lambda r: r.update(name=5), "name: 5 is not of type 'string'"),
        (lambda r: r["reached"]["a"].pop("data"), "reached.a: 'data' is a required property"),
        (lambda r: r["reached"]["a"]["data"].update(outputs=0),
         "reached.a.data.outputs: 0 is less than the minimum of 1"),
        (lambda r: r["reached"]["a"]["data"].update(of_rail=10**400),
         f"reached.a.data.of_rail: {10**400} is greater than the maximum of 1e+300"),
    ):  # fmt: skip
        assert refusal(change) == members + text
    (folder / "r.json").write_text(json.dumps(told).replace('"of_rail": ', '"of_rail": NaN, "x": '))
    text = "accsim: r.json must be a report as JSON\n"
    assert command("report", folder / "r.json")[2] == text
    (folder / "r.json").write_text(json.dumps({"networks": {"a": told, "b": told}}))
    text = "accsim: r.json must have networks of different names\n"
    assert command("report", folder / "r.json")[2] == text


def test_results_are_not_written_over_what_is_read(command, folder):
    """A layer, inputs, a report, a witness: each is still there."""
    words = ("verify", folder / "net", "--bits", 7, "--witnesses", folder)
    (folder / "r.json").write_text(command(*words, "--json")[1])
    for words, place, option in (
        (("verify", folder / "net", "--bits", 7), folder / "net" / "a.npz", "--html"),
        (("verify", folder / "net" / "a.npz", "--bits", 7), folder / "net" / "a.npz", "--html"),
        (("verify", folder / "net", "--bits", 7, "--inputs", folder / "x.npz"), folder / "x.npz", "--html"),
        (("report", folder / "r.json"), folder / "r.json", "--html"),
    ):  # fmt: skip
        before = place.read_bytes()
        code, out, err = command(*words, option, place)
        assert (code, out, place.read_bytes()) == (2, "", before)
        assert err == (
            f"accsim: Invalid value: {option} must be another file than those that are read, not"
            f" {place.name}\n"
        )
    (folder / "b.json").rename(folder / "w.png")
    assert command("explain", folder / "w.png", "--plot", folder / "w.png")[0] == 2


def test_what_layers_and_inputs_were_is_in_the_report(command, folder):
    """So the digest is another one for other weights, or inputs, with the same figures."""
    words = ("verify", folder / "net", "--bits", 7, "--inputs", folder / "x.npz", "--json")
    one = json.loads(command(*words)[1])
    IntLayer(SAFE.weight[::-1], weight_spec=SAFE.weight_spec, input_spec=SAFE.input_spec).save(
        folder / "net" / "a.npz"
    )
    two = json.loads(command(*words)[1])
    np.savez(folder / "x.npz", a=X[::-1], b=X[::-1, ::-1])
    three = json.loads(command(*words)[1])
    assert len({each["digest"] for each in (one, two, three)}) == 3
    assert one["layers"]["a"]["digest"] != two["layers"]["a"]["digest"]
    assert two["layers"] == three["layers"]
    assert two["inputs"] != three["inputs"]


def test_witnesses_are_those_of_the_last_register(command, folder):
    """Of a layer that is proved now none is left, of others the new one."""
    out = folder / "seen"
    assert command("verify", folder / "net", "--bits", 5, "--witnesses", out)[0] == 1
    assert sorted(file.name for file in out.iterdir()) == ["a.json", "b.json"]
    assert command("verify", folder / "net", "--bits", 7, "--witnesses", out)[0] == 1
    assert [file.name for file in out.iterdir()] == ["b.json"]
    (out / "a.json").write_text('{"mine": 1}')  # which is none of these, and stays
    assert command("verify", folder / "net", "--bits", 9, "--witnesses", out)[0] == 0
    assert [file.name for file in out.iterdir()] == ["a.json"]
    command("verify", folder / "net", "--bits", 7, "--witnesses", out)
    code, _, err = command("explain", out / "b.json", "--plot", folder / "b.svg")
    text = f"accsim: Invalid value: --plot must be a .png file, not {folder / 'b.svg'}\n"
    assert (code, err) == (2, text)


def test_a_register_without_a_sign_ends_at_0(command, folder):
    """Sums below it are beyond a rail; what is said of widths of two's complement is left out."""
    words = ("verify", folder / "net", "--bits", 9, "--unsigned", "--inputs", folder / "x.npz")
    code, out, _ = command(*words, "--html", folder / "page.html")
    assert code == 1
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert "b 9 9 (121 %) 9 (121 %) 2 of 6" in rows
    text = (folder / "page.html").read_text()
    assert 'class="span data below"' in text
    assert "by register width" not in text
