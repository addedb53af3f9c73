"""`torch_linear.py FILE ENGINE`: PyTorch's own quantized linear layer, by one of its engines.

FILE is an .npz with inputs, bytes that contain 0 and 255 (so that torch's scale is 1 and its zero point 0), and weight; the
outputs are added to it. What instructions the engine may use is said by its environment, before torch starts.
"""

import sys
import warnings

import numpy as np
import torch


def outputs(inputs, weight, engine):
    """What torch accumulated: integers (rows, channels), exactly, as floats hold them below 2^24."""
    assert inputs.min() == 0
    assert inputs.max() == 255
    assert inputs.shape[1] * 255 * 128 < 2**24
    torch.backends.quantized.engine = engine
    codes = torch._make_per_tensor_quantized_tensor(torch.from_numpy(weight), 1.0, 0)
    packed = torch.ops.quantized.linear_prepack(codes, None)
    floats = torch.from_numpy(inputs.astype(np.float32))
    return torch.ops.quantized.linear_dynamic(floats, packed, False).numpy().astype(np.int64)


if __name__ == "__main__":
    # Quantized tensors are deprecated in torch 2.13 (pytorch#184982).
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    file, name = sys.argv[1:]
    if name not in torch.backends.quantized.supported_engines:
        raise SystemExit(3)
    given = dict(np.load(file))
    given["outputs"] = outputs(given["inputs"], given["weight"], name)
    np.savez(file, **given)
