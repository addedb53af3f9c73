"""Model files, ONNX and QONNX: reading networks, and writing registers. Needs the extra "onnx"."""

from accsim.extras import require

require("onnx", extra="onnx", purpose="reading model files")

from accsim.onnx.annotate import annotate  # noqa: E402
from accsim.onnx.loading import load  # noqa: E402

__all__ = ["annotate", "load"]
