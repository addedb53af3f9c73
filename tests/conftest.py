"""One torch thread: steps as small as the tests' wait for a second longer than they gain by it."""

import torch

torch.set_num_threads(1)
