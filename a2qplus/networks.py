"""Two small networks to start with, by word."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import nn

from accsim.errors import ShapeError

__all__ = ["NETWORKS", "cnn", "mlp"]


def mlp(shape: Sequence[int], classes: int, hidden: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU between them; `hidden` has the outputs of all but the last.

    Shapes: (B, *shape) -> (B, classes).
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(flat=nn.Flatten())
    inputs = 1
    for size in shape:
        inputs *= size
    for i, outputs in enumerate(hidden, 1):
        layers[f"linear{i}"], layers[f"relu{i}"] = nn.Linear(inputs, outputs), nn.ReLU()
        inputs = outputs
    layers["linear"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)


def cnn(shape: Sequence[int], classes: int, hidden: Sequence[int]) -> nn.Sequential:
    """3 by 3 convolutions with batch norm and ReLU, each but the first halving the image; linear.

    `hidden` has the output channels of each convolution.

    Shapes: (B, *shape) -> (B, classes), with shape (channels, height, width).
    Raises: ShapeError for other inputs.
    """
    if len(shape) != 3:
        raise ShapeError(f"cnn takes inputs (B, channels, height, width), not (B, *{tuple(shape)})")
    inputs, height, width = shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, outputs in enumerate(hidden, 1):
        stride = 1 if i == 1 else 2
        layers[f"conv{i}"] = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        layers[f"norm{i}"], layers[f"relu{i}"] = nn.BatchNorm2d(outputs), nn.ReLU()
        inputs, height, width = outputs, -(-height // stride), -(-width // stride)
    layers["flat"] = nn.Flatten()
    layers["linear"] = nn.Linear(inputs * height * width, classes)
    return nn.Sequential(layers)


NETWORKS: dict[str, Callable[[Sequence[int], int, Sequence[int]], nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
}
