"""Changed MLS messages are taken or refused. `python -m tests.fuzz.mls` tries more, and measures."""

from collections import Counter

import pytest

from linmatrix.protocol.mls import Rule
from tests.fuzz.mls import ACCEPTED, outcome_of
from tests.fuzz.mls_inputs import Inputs

ATTEMPTS = 800


@pytest.mark.parametrize("seed", [1, 2])
def test_a_changed_message_is_taken_or_refused_and_nothing_else(seed):
    inputs, outcomes = Inputs(seed), Counter()
    for _ in range(ATTEMPTS):
        outcomes[outcome_of(inputs.attempt())] += 1
    # They get behind the signatures: most rules refuse something.
    assert outcomes.keys() <= {ACCEPTED, *Rule}
    assert len(outcomes) >= 20, outcomes
