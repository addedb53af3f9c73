"""`hls_model.py FILE FOLDER`: one dense layer compiled by hls4ml for its C simulation.

FILE is an .npz with inputs, weight, bias and accum, the accumulator's type; the outputs are added to it.
"""

import contextlib
import sys

import numpy as np
import torch


def layer(weight, bias):
    """The layer as a model of torch's."""
    dense = torch.nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        dense.weight.copy_(torch.from_numpy(weight.astype(np.float32)))
        dense.bias.copy_(torch.from_numpy(bias.astype(np.float32)))
    return torch.nn.Sequential(dense).eval()


def outputs(inputs, weight, bias, accum, folder):
    """Integers (rows, channels)."""
    import hls4ml  # here, so that pytest can look at this file without it

    model = layer(weight, bias)
    taps = (weight.shape[1],)
    options = {"granularity": "name", "default_precision": "ap_fixed<16,16>"}
    config = hls4ml.utils.config_from_pytorch_model(model, taps, **options)
    types = {"weight": "ap_fixed<6,6>", "bias": "ap_fixed<10,10>", "result": "ap_fixed<10,10>"}
    config["LayerName"]["_0"]["Precision"] = {**types, "accum": accum}
    how = {"hls_config": config, "output_dir": folder, "backend": "Vitis", "io_type": "io_parallel"}
    compiled = hls4ml.converters.convert_from_pytorch_model(model, **how)
    compiled.compile()
    found = compiled.predict(inputs.astype(np.float32)).reshape(len(inputs), -1)
    assert (found == found.astype(np.int64)).all()
    return found.astype(np.int64)


if __name__ == "__main__":
    file, made_in = sys.argv[1:]
    given = dict(np.load(file))
    operands = given["inputs"], given["weight"], given["bias"]
    with contextlib.redirect_stdout(sys.stderr):
        given["outputs"] = outputs(*operands, str(given["accum"]), made_in)
    np.savez(file, **given)
