"""What the graph of a model tells before it runs: the order of its layers, and signs.

A model that torch.fx cannot trace (data-dependent control flow) tells nothing; its layers then
keep the order of registration, and their signs come from calibration data.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812
from torch import fx, nn

__all__ = ["graph_of", "never_negative", "order_of_calls"]

# What never gives a negative number, whatever comes in.
_POSITIVE: set[object] = {
    nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Softmax, nn.Hardsigmoid,
    F.relu, F.relu6, F.sigmoid, F.softmax, torch.relu, torch.sigmoid, torch.softmax, torch.abs,
    "relu", "relu_", "sigmoid", "softmax", "abs", "square",
}  # fmt: skip
# What gives no negative number if none comes in.
_KEEPS_SIGN: set[object] = {
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten,
    nn.Unflatten, nn.Dropout, nn.Dropout2d, nn.Identity, nn.PixelShuffle,
    F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.dropout, torch.flatten, torch.reshape,
    operator.getitem, torch.cat,
    torch.mean, torch.permute, torch.transpose, torch.squeeze, torch.unsqueeze,
    "flatten", "view", "reshape", "mean", "permute", "transpose", "contiguous", "squeeze",
    "unsqueeze", "clone",
}  # fmt: skip
# The same, if no constant is negative either.
_ARITHMETIC: set[object] = {
    operator.add, operator.iadd, operator.mul, operator.imul, torch.add, torch.mul,
    "add", "add_", "mul", "mul_",
}  # fmt: skip
_WRITES: set[object] = {
    operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow, operator.setitem,
}  # fmt: skip


def order_of_calls(model: nn.Module, layers: Mapping[str, nn.Module]) -> list[str]:
    """The layers' names in the order of their calls, or of registration if not all are seen.

    Those of a module that torch.fx does not look into, such as attention, in that of registration.
    """
    graph = graph_of(model) or []
    modules = [str(node.target) for node in graph if node.op == "call_module"]
    calls = [n for module in modules for n in layers if f"{n}.".startswith(f"{module}.")]
    return calls if set(calls) == set(layers) else list(layers)


def never_negative(model: nn.Module, layers: Mapping[str, nn.Module]) -> set[str]:
    """The names of those `layers` whose every input the graph shows to be never negative."""
    graph = graph_of(model)
    positive: set[fx.Node] = set()
    signs: dict[str, bool] = {}
    for node in graph or []:
        if not node.op.startswith("call_"):
            continue
        inputs = [item in positive for item in node.all_input_nodes]
        if node.op == "call_module":
            kind: object = type(model.get_submodule(str(node.target)))
        else:
            kind = node.target
        keeps = kind in _KEEPS_SIGN or (kind in _ARITHMETIC and _constants_positive(node))
        if kind in _POSITIVE or (keeps and inputs and all(inputs)):
            positive.add(node)
        elif _in_place(node) and node.args:
            positive.discard(node.args[0])
        if node.target in layers and inputs:
            name = str(node.target)
            signs[name] = signs.get(name, True) and all(inputs)
    return {name for name, sign in signs.items() if sign}


def _in_place(node: fx.Node) -> bool:
    """Whether the operation writes into its first argument."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name.endswith("_") or node.target in _WRITES


def _constants_positive(node: fx.Node) -> bool:
    """Whether arithmetic on this node has no negative constant and no factor like `alpha`."""
    numbers = [value for value in node.args if isinstance(value, int | float)]
    return min(numbers, default=0) >= 0 and not node.kwargs


def graph_of(model: nn.Module) -> list[fx.Node] | None:
    """The operations of a model in order; None if torch.fx cannot trace it."""
    try:
        return list(_Tracer().trace(model).nodes)
    except Exception:  # tracing runs the model's own code, which may fail in any way
        return None


class _Tracer(fx.Tracer):
    """One that does not look into our own modules, as it does not into torch's."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        ours = type(module).__module__.partition(".")[0] == __package__
        return ours or bool(super().is_leaf_module(module, name))
