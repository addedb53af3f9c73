"""A2Q and A2Q+: weights that provably fit a narrow accumulator, trained in torch."""

from accsim.extras import require

require("torch", extra="train", purpose="a2qplus")

from a2qplus import functional  # noqa: E402
from a2qplus.account import Product as Product  # noqa: E402  # what matmuls lists: here, unlisted
from a2qplus.account import matmuls  # noqa: E402
from a2qplus.attention import MatMul  # noqa: E402
from a2qplus.brevitas_layers import from_brevitas  # noqa: E402
from a2qplus.convert import quantize_model  # noqa: E402
from a2qplus.export import export_onnx  # noqa: E402
from a2qplus.fold import fold_batch_norm  # noqa: E402
from a2qplus.integer import IntegerNetwork, to_integer, to_layers  # noqa: E402
from a2qplus.layers import QuantConv2d, QuantLinear, QuantMatMul  # noqa: E402
from a2qplus.methods import Quantization  # noqa: E402
from a2qplus.post import correct_outputs, refill_model  # noqa: E402
from a2qplus.prepare import float_network, quantized_network, recipe_data  # noqa: E402
from a2qplus.recipe import Recipe, read_recipe  # noqa: E402
from a2qplus.train import Epoch, fit, parameter_groups, penalty  # noqa: E402

__all__ = [
    "Epoch",
    "IntegerNetwork",
    "MatMul",
    "QuantConv2d",
    "QuantLinear",
    "QuantMatMul",
    "Quantization",
    "Recipe",
    "correct_outputs",
    "export_onnx",
    "fit",
    "float_network",
    "fold_batch_norm",
    "from_brevitas",
    "functional",
    "matmuls",
    "parameter_groups",
    "penalty",
    "quantize_model",
    "quantized_network",
    "read_recipe",
    "recipe_data",
    "refill_model",
    "to_integer",
    "to_layers",
]
