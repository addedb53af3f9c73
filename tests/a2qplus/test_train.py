"""Training: the loop is the plain one, one seed decides all, and an interruption changes nothing."""

import pickle
import signal
import threading
from contextlib import suppress

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from a2qplus import Epoch, fit, parameter_groups, penalty, quantize_model
from a2qplus.checkpoint import describe_model, interrupts_wait, read_tensors, write_tensors
from a2qplus.train import accuracy
from accsim.errors import CheckpointError

HOW = {"epochs": 3, "learning_rate": 1e-2, "seed": 4, "batch": 16, "weight_decay": 0.1}
STEPS = 7  # of an epoch


def data():
    """Rows and three classes."""
    x = torch.randn(100, 6, generator=torch.Generator().manual_seed(1))
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def network(seed=0, acc_bits=8, dropout=0.3):
    """Quantized, with dropout and batch norm, its input scales not set yet."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inner = [nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(dropout), nn.ReLU()]
        model = nn.Sequential(*inner, nn.Linear(16, 3))
    return quantize_model(model, weight_bits=4, act_bits=4, acc_bits=acc_bits, edge_bits=None)


def weights(model):
    """All of its state, as comparable values."""
    return {name: value.tolist() for name, value in model.state_dict().items()}


@pytest.fixture(scope="module")
def uninterrupted():
    """What `fit` makes of the network, in one go."""
    model = network()
    fit(model, *data(), **HOW)
    return weights(model)


@pytest.fixture
def ctrl_c():
    """Python's own handler of Ctrl-C, whatever the test runner has set."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def at_step(model, number, act):
    """The model, which acts in the forward pass of one step, counted from 0."""
    count = iter(range(10**6))
    model.register_forward_hook(lambda *_: act() if next(count) == number else None)
    return model


def interrupted():
    """What Ctrl-C does where nothing waits for it."""
    raise KeyboardInterrupt


def test_fit_is_the_plain_loop(uninterrupted):
    """As a user writes it with `penalty` and `parameter_groups`: the same bits."""
    model, (x, y) = network(), data()
    groups = parameter_groups(model, weight_decay=0.1)
    optimizer = torch.optim.AdamW(groups, lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
    order = torch.Generator().manual_seed(4)
    model.train()
    with torch.random.fork_rng():
        torch.manual_seed(4)
        for _ in range(3):
            for rows in torch.randperm(100, generator=order).split(16):
                optimizer.zero_grad()
                loss = cross_entropy(model(x[rows]), y[rows]) + 1e-3 * penalty(model)
                loss.backward()
                optimizer.step()
            schedule.step()
    assert weights(model) == uninterrupted


def test_only_what_inputs_are_multiplied_by_decays():
    """Matrices and kernels; no bias, norm or scale, of any shape; each trainable one once."""
    shared = nn.Linear(8, 8)
    layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.LayerNorm((2, 2)), nn.Flatten()]
    layers += [nn.Linear(16, 8), shared, shared]
    model = quantize_model(
        nn.Sequential(*layers), weight_bits=4, act_bits=4, acc_bits=12, edge_bits=None
    )
    model[4].weight.requires_grad_(False)
    decayed, spared = parameter_groups(model, weight_decay=0.1)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    names = {id(value): name for name, value in model.named_parameters()}
    assert [names[id(value)] for value in decayed["params"]] == ["0.weight", "5.weight"]
    found = [names[id(value)] for value in decayed["params"] + spared["params"]]
    assert sorted(found) == sorted(set(names.values()) - {"4.weight"})
    scale = nn.Parameter(torch.zeros(4, 4))  # as of groups of channels
    model[0].weight_quantizer.log2_scale = scale
    assert scale in set(parameter_groups(model, weight_decay=0.1)[1]["params"])
    (alone,) = parameter_groups(model, weight_decay=0)
    assert (len(alone["params"]), alone["weight_decay"]) == (len(found), 0)


def test_one_seed_decides(uninterrupted):
    """Dropout too, whatever was drawn before, and nothing is drawn from the caller's generator."""
    torch.manual_seed(99)
    state = torch.get_rng_state()
    model = network()
    fit(model, *data(), **HOW, on_epoch=lambda _: torch.rand(3))
    assert weights(model) == uninterrupted
    other = network()
    torch.set_rng_state(state)
    fit(other, *data(), **HOW)
    assert torch.equal(torch.get_rng_state(), state)
    other = network()
    fit(other, *data(), **HOW | {"seed": 5})
    assert weights(other) != uninterrupted


def test_epochs_are_told():
    """Number, of how many, the mean loss over the images, the rate that was used."""
    seen = []
    fit(network(), *data(), **HOW, on_epoch=seen.append)
    assert [(epoch.number, epoch.epochs) for epoch in seen] == [(1, 3), (2, 3), (3, 3)]
    assert seen[0].learning_rate == 1e-2 > seen[1].learning_rate > seen[2].learning_rate > 0
    model, (x, y) = network()[4], data()  # the last layer, of 16 inputs, with a norm to penalize
    x = torch.cat([x, x, x], dim=1)[:, :16]
    with torch.no_grad():
        model.weight_quantizer.log2_norm.add_(5)
        model(x)  # sets the input scale
        expected = cross_entropy(model(x), y) + 1e-3 * penalty(model)
    fit(model, x, y, epochs=2, learning_rate=0, seed=0, on_epoch=seen.append)  # 64 and 36 rows
    assert seen[-1] == Epoch(2, 2, pytest.approx(float(expected)), 0)
    assert penalty(model) > 1


@pytest.mark.parametrize("number", [1, 2, 3])
def test_interrupted_after_an_epoch(number, uninterrupted, tmp_path):
    """It goes on with the next epoch, from any weights, to the very same end."""

    def stop(epoch):
        if epoch.number == number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(network(), *data(), **HOW, checkpoint=tmp_path / "run.pt", on_epoch=stop)
    model, seen = network(seed=1), []
    fit(model, *data(), **HOW, checkpoint=tmp_path / "run.pt", on_epoch=seen.append)
    assert weights(model) == uninterrupted
    assert [epoch.number for epoch in seen] == list(range(number + 1, 4))
    assert not model.training


@pytest.mark.parametrize("number", [0, 3, STEPS - 1, STEPS, 2 * STEPS + 2, 3 * STEPS - 1])
def test_ctrl_c_waits_for_the_step(number, uninterrupted, tmp_path, ctrl_c):
    """In the middle of a step: the step is finished, kept, and not done again."""
    path, seen, steps = tmp_path / "run.pt", [], []
    stopped = at_step(network(), number, ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, *data(), **HOW, checkpoint=path, on_epoch=seen.append)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    state = read_tensors(path)
    assert state["epoch"] * STEPS + state["step"] == number + 1
    assert {name: value.tolist() for name, value in state["model"].items()} == weights(stopped)
    model = network(seed=1)
    model.register_forward_hook(lambda *_: steps.append(1))
    fit(model, *data(), **HOW, checkpoint=path, on_epoch=seen.append)
    assert weights(model) == uninterrupted
    assert len(steps) == 3 * STEPS - number - 1
    assert [epoch.number for epoch in seen] == [1, 2, 3]
    whole = []
    fit(network(), *data(), **HOW, on_epoch=whole.append)
    assert seen == whole


def test_a_second_ctrl_c_does_not_wait(uninterrupted, tmp_path, ctrl_c):
    """The step is torn, so the epoch is done again from the last whole one."""
    path, steps = tmp_path / "run.pt", []

    def twice():
        ctrl_c()
        steps.append("waits")
        ctrl_c()
        steps.append("goes on")

    with pytest.raises(KeyboardInterrupt):
        fit(at_step(network(), STEPS + 3, twice), *data(), **HOW, checkpoint=path)
    assert steps == ["waits"]
    state = read_tensors(path)
    assert (state["epoch"], state["step"]) == (1, 0)
    model = network()
    fit(model, *data(), **HOW, checkpoint=path)
    assert weights(model) == uninterrupted


def test_interrupted_many_times(uninterrupted, tmp_path, ctrl_c):
    """At every other step, and once where an exception of its own tears the step."""
    path = tmp_path / "run.pt"
    for number in (1, 1, 1, 1, 1, 1, 1):
        with pytest.raises(KeyboardInterrupt):
            fit(at_step(network(), number, ctrl_c), *data(), **HOW, checkpoint=path)
    with pytest.raises(KeyboardInterrupt):
        fit(at_step(network(), 2, interrupted), *data(), **HOW, checkpoint=path)
    model = network()
    fit(model, *data(), **HOW, checkpoint=path)
    assert weights(model) == uninterrupted


def test_a_finished_run_is_read(uninterrupted, tmp_path, ctrl_c):
    """Nothing is trained again, nothing is told, nothing is written; Ctrl-C is as it was."""
    path = tmp_path / "run.pt"
    fit(network(), *data(), **HOW, checkpoint=path)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    content = path.read_bytes()
    model = at_step(network(seed=1), 0, interrupted)
    fit(model, *data(), **HOW, checkpoint=path, on_epoch=lambda _: interrupted())
    assert weights(model) == uninterrupted
    assert path.read_bytes() == content
    assert not model.training


def test_without_a_checkpoint_ctrl_c_ends_the_step(ctrl_c):
    """KeyboardInterrupt, and nothing is written anywhere."""
    steps = []
    model = at_step(network(), 3, lambda: (ctrl_c(), steps.append("finished"))[0])
    with pytest.raises(KeyboardInterrupt):
        fit(model, *data(), **HOW)
    assert steps == ["finished"]


def test_other_handlers_are_left_alone(ctrl_c):
    """A program that handles Ctrl-C in its own way, and threads that it does not reach."""
    seen = []
    signal.signal(signal.SIGINT, lambda *_: seen.append("handled"))
    with interrupts_wait() as pressed:
        ctrl_c()
        assert (seen, pressed()) == (["handled"], False)
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def elsewhere():
        with interrupts_wait() as pressed:
            seen.append(pressed())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == ["handled", False]


def frozen():
    """The network with one parameter that is not trained."""
    model = network()
    model[0].bias.requires_grad_(False)
    return model


X, Y = data()


def test_descriptions_hold_in_every_process():
    """No address is in them; the rest of what a module says is."""
    module = nn.Module()
    module.extra_repr = lambda: f"by {object()} of 0.5"
    described = describe_model(nn.Sequential(module))
    assert described["module '0'"] == "Module(by <object object at 0x> of 0.5)"


OTHERS = {
    "epochs": (network, X, Y, {"epochs": 4}, "epochs is 4, and was 3"),
    "rate": (network, X, Y, {"learning_rate": 1}, "learning_rate is 1.0, and was 0.01"),
    "seed": (network, X, Y, {"seed": 5}, "seed is 5, and was 4"),
    "batch": (network, X, Y, {"batch": 17}, "batch is 17, and was 16"),
    "penalty": (network, X, Y, {"penalty_weight": 0}, "penalty_weight is 0.0, and was 0.001"),
    "decay": (network, X, Y, {"weight_decay": 0.2}, "weight_decay is 0.2, and was 0.1"),
    "data": (network, X + 1, Y, {}, "x is float32 (100, 6) "),
    "classes": (network, X, Y.flip(0), {}, "y is int64 (100,) "),
    "register": (lambda: network(acc_bits=9), X, Y, {}, "module '0.weight_quantizer' is "),
    "dropout": (
        lambda: network(dropout=0.2), X, Y, {},
        "module '2' is Dropout(p=0.2, inplace=False), and was Dropout(p=0.3, inplace=False)",
    ),
    "frozen": (
        frozen, X, Y, {},
        "tensor '0.bias' is float32 (16,), and was float32 (16,), trained",
    ),
    "fewer layers": (
        lambda: network()[:4], X, Y, {},
        "module '4' is absent, and was QuantLinear(in_features=16, out_features=3, bias=True)",
    ),
    "wider": (
        lambda: network().append(nn.Linear(3, 3)), X, Y, {},
        "module '5' is Linear(in_features=3, out_features=3, bias=True), and was absent",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_the_checkpoint_of_another_run(kind, tmp_path):
    """One line that names the first difference; the model is left as it was."""
    path = tmp_path / "run.pt"
    fit(network(), X, Y, **HOW, checkpoint=path)
    make, x, y, changes, text = OTHERS[kind]
    model = make()
    before = weights(model)
    with pytest.raises(CheckpointError) as caught:
        fit(model, x, y, **HOW | changes, checkpoint=path)
    assert str(caught.value).startswith(f"run.pt must be a checkpoint of this run: {text}")
    assert weights(model) == before


def test_a_damaged_checkpoint_is_refused(tmp_path):
    """Any byte that is changed is found or means nothing; cut off, other files: one line."""
    path = tmp_path / "some.pt"
    write_tensors(path, {"w": torch.arange(3.0), "n": 5, "words": {"a": "b"}})
    content = path.read_bytes()
    text = r"^some.pt must be a complete file of named tensors \(torch.save\)$"
    read = 0
    for place in range(0, len(content), 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        with suppress(CheckpointError):
            found = read_tensors(path)
            read += 1
            assert found["w"].tolist() == [0, 1, 2]
            assert (found["n"], found["words"]) == (5, {"a": "b"})
    assert 0 < read < len(content) / 4  # some bytes only fill gaps
    for other in (content[:-1], content[:500], b"", b"some text", pickle.dumps({"w": 1})):
        path.write_bytes(other)
        with pytest.raises(CheckpointError, match=text):
            read_tensors(path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match=text):
        read_tensors(path)
    with pytest.raises(CheckpointError, match=r"^none.pt cannot be read: No such file or dir"):
        read_tensors(tmp_path / "none.pt")


def test_a_checkpoint_is_never_half_written(tmp_path):
    """The last whole one stays where a new one cannot be written."""
    write_tensors(tmp_path / "some.pt", {"n": 1})
    with pytest.raises(AttributeError, match="pickle"):
        write_tensors(tmp_path / "some.pt", {"n": lambda: 2})
    assert read_tensors(tmp_path / "some.pt") == {"n": 1}


class Code:
    """What runs code when it is read by pickle."""

    def __reduce__(self):
        return exec, ("ran.append(1)", {"ran": RAN})


RAN = []


def test_no_code_in_a_checkpoint_is_run(tmp_path):
    """Read as data alone."""
    torch.save({"w": Code()}, tmp_path / "some.pt")
    with pytest.raises(CheckpointError, match=r"^some.pt must be a complete file"):
        read_tensors(tmp_path / "some.pt")
    torch.save({"w": torch.ones(1)}, tmp_path / "some.pt")
    assert RAN == []
    text = r"^some.pt must be a checkpoint that fit wrote, of format 1$"
    with pytest.raises(CheckpointError, match=text):
        fit(network(), *data(), **HOW, checkpoint=tmp_path / "some.pt")


def test_accuracy_of_many_images():
    """More than are computed at once count as one by one; images and classes must be as many."""
    x = torch.randn(2500, 6, generator=torch.Generator().manual_seed(2))
    model = nn.Linear(6, 3)
    with torch.no_grad():
        y = torch.stack([model(row).argmax() for row in x])
    y[[5, 1500, 2400]] += 1
    assert accuracy(model, x, y) == pytest.approx(1 - 3 / 2500)


def test_who_is_told_may_evaluate():
    """Each epoch trains in training mode, whatever `on_epoch` left."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    x, y = torch.randn(32, 3), torch.arange(32) % 2
    seen = []
    model.register_forward_pre_hook(lambda module, _: seen.append(module.training))
    how = {"epochs": 3, "learning_rate": 1e-3, "seed": 0}
    fit(model, x, y, **how, on_epoch=lambda _: model.eval())
    assert seen == [True] * 3
    assert not model.training
