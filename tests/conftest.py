"""One torch thread: steps as small as the tests' wait for a second longer than they gain by it.

And a run ends with the oracles that accsim was compared with (silicon/oracles.py).
"""

import torch
from oracles import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]

torch.set_num_threads(1)
