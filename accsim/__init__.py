"""Bit-exact simulation of narrow integer accumulators, and what must hold for them not to overflow.

`docs/semantics.md` says what is exact; `accsim.arith` is that page as code.
"""

from accsim import bounds, datapaths
from accsim.datapath import Datapath
from accsim.errors import AccsimError
from accsim.layer import IntLayer
from accsim.simulate import LevelRun, Run, conv2d, linear, simulate
from accsim.spec import Accumulator, IntSpec, Overflow, between, signed, unsigned

__all__ = [
    "AccsimError",
    "Accumulator",
    "Datapath",
    "IntLayer",
    "IntSpec",
    "LevelRun",
    "Overflow",
    "Run",
    "between",
    "bounds",
    "conv2d",
    "datapaths",
    "linear",
    "signed",
    "simulate",
    "unsigned",
]

__version__ = "0.1.0"
