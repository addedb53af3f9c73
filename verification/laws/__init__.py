"""The laws of docs/semantics.md and of the weight budgets, for a solver. Needs the extra "smt".

docs/proofs.md lists them. A law is a few claims for fixed widths, or steps of an induction over
taps, so that the solver decides each at once; whole folds it does not.
"""

from verification.laws import registers, sums, weights, widths
from verification.laws.law import Claim, Decision, Law, Outcome, prove, refute

__all__ = ["LAWS", "Claim", "Decision", "Law", "Outcome", "prove", "refute"]

LAWS = (*registers.LAWS, *widths.LAWS, *sums.LAWS, *weights.LAWS)
