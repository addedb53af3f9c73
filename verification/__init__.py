"""Proofs, witnesses, properties and the command line for narrow integer accumulators."""

from verification.decide import Report, Verdict, decide
from verification.witness import Witness, worst_inputs

__all__ = ["Report", "Verdict", "Witness", "decide", "worst_inputs"]
