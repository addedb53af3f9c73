"""PyTorch's own int8 linear layer, held to AVX2: it saturates pairs of products, as accsim says.

Each engine runs in a process of its own, since its library reads once, when it starts, what instructions it may use.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import silicon

ROWS = CHANNELS = 1024
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2"}
NO_ENGINE = 3


def operands(taps):
    """Bytes and signed bytes; the inputs contain 0 and 255. Half of the weights are small."""
    rng = np.random.default_rng(taps)
    inputs = rng.integers(0, 256, (ROWS, taps), np.uint8)
    inputs[0, :2] = 0, 255
    weight = rng.integers(-128, 128, (CHANNELS, taps), np.int8)
    weight[::2] //= 2
    return inputs, weight


@pytest.mark.parametrize("engine", ["onednn", "fbgemm", "x86"])
def test_linear(record_property, tmp_path, engine):
    """`torch.ops.quantized.linear_dynamic`, of taps that are no multiple of the kernels' groups."""
    oracle = f"PyTorch, engine {engine}, as AVX2"
    silicon.needs(record_property, oracle, silicon.has("avx2"), "needs a processor with avx2")
    inputs, weight = operands(127)
    file = tmp_path / "linear.npz"
    np.savez(file, inputs=inputs, weight=weight)
    done = subprocess.run(
        [sys.executable, silicon.FOLDER / "torch_linear.py", file, engine],
        env={**os.environ, **AVX2},
        capture_output=True,
        text=True,
        check=False,
    )
    there = done.returncode != NO_ENGINE
    silicon.needs(record_property, oracle, there, "needs a torch that is built with this engine")
    assert done.returncode == 0, done.stderr
    real = np.load(file)["outputs"]
    silicon.agree(record_property, oracle, "x86-avx2-u8s8", real, weight, inputs)
