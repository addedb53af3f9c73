"""Tests of the tester: every seeded bug is found, each matters, and what is right passes.

`make search-power` is the whole campaign: 20 seeds, with the number of examples that each needs.
"""

import numpy as np
import pytest
from seeded_bugs import BUGS, decisions, hunted, real_weights, wrong_decider, wrong_rule
from seeded_rules import a2q, a2q_plus

from accsim import IntLayer, between
from verification import Verdict, decide

pytestmark = pytest.mark.unmeasured
SEEDS = range(2)


def test_there_are_at_least_forty():
    """Of each kind some, none twice, all with the name of what they imitate."""
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 40
    kinds = [bug.kind for bug in BUGS]
    assert min(kinds.count(kind) for kind in ("simulator", "decider", "quantizer")) >= 12
    assert all(len(bug.imitates) > 20 for bug in BUGS)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_bug_is_found(bug):
    """Within 2,000 examples, for every seed; and in its own case it gives a wrong answer."""
    assert bug.matters()
    for seed in SEEDS:
        number = bug.found(2000, seed)
        assert number is not None
        assert number <= 2000


def decided(weights, spec, register, bias):
    """What `decide` says of one channel."""
    row = np.array([weights], np.int64)
    own = between(int(row.min(initial=0)), int(row.max(initial=0)))
    layer = IntLayer(row, weight_spec=own, input_spec=spec, bias=[bias])
    return decide(layer, register).verdict is Verdict.PROVED


def test_what_is_right_passes():
    """`decide`, and both rules without a bug: the same searches find nothing."""
    assert hunted(decisions(), wrong_decider(decided))(700, 0) is None
    for rule in (a2q, a2q_plus):
        assert hunted(real_weights(), wrong_rule(rule))(400, 0) is None
