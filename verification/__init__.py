"""Proofs, witnesses, searches, properties and the command line for narrow integer accumulators."""

from verification.decide import LevelReport, Report, Verdict, decide
from verification.order import worst_order
from verification.safety import assert_safe
from verification.search import Disagreement, check_simulator, search
from verification.widths import Widths, widths
from verification.witness import Witness
from verification.witness_file import load_witness, save_witness
from verification.worst import worst_inputs

__all__ = [
    "Disagreement",
    "LevelReport",
    "Report",
    "Verdict",
    "Widths",
    "Witness",
    "assert_safe",
    "check_simulator",
    "decide",
    "load_witness",
    "save_witness",
    "search",
    "widths",
    "worst_inputs",
    "worst_order",
]
