"""Proofs, witnesses, properties and the command line for narrow integer accumulators."""

from verification.decide import Report, Verdict, decide
from verification.search import Disagreement, check_simulator, search
from verification.witness import Witness, worst_inputs

__all__ = [
    "Disagreement",
    "Report",
    "Verdict",
    "Witness",
    "check_simulator",
    "decide",
    "search",
    "worst_inputs",
]
