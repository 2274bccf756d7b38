"""What a command answers is read as the promise that it is: no more, and no less."""

import pytest

from linmatrix.stack.driver import Refused
from soak.ledger import Answer, read_answer, read_refusal

ID = "$" + "A" * 43


def test_an_id_is_an_accepted_event():
    assert read_answer([ID]) == (Answer.ACCEPTED, ID)


@pytest.mark.parametrize("lines", [["Done here; the hub is told as soon as it can be reached."], []])
def test_anything_else_promises_no_event(lines):
    assert read_answer(lines) == (Answer.DONE, "")


@pytest.mark.parametrize(
    "reason",
    [
        "rule 7: sending m.room.topic needs 50, has 0",
        "The hub refused it: rule 5.2.4: the user is banned",
        "alpha.localhost:1 refused: HTTP 403 M_FORBIDDEN not invited",
        "This server does not know that room; `rooms` lists those that it knows.",
    ],
)
def test_a_decision_is_a_refusal(reason):
    assert read_refusal(Refused(reason)) == (Answer.REFUSED, "")


@pytest.mark.parametrize(
    "reason",
    [
        "The database is not available: connection refused",
        "alpha.localhost:1: could not be reached",
        "alpha.localhost:1 refused: HTTP 503 M_UNKNOWN",
        "alpha.localhost:1 refused: HTTP 429 M_LIMIT_EXCEEDED The transaction is still processed.",
    ],
)
def test_what_was_cut_off_may_have_happened(reason):
    assert read_refusal(Refused(reason)) == (Answer.UNKNOWN, "")


def test_what_stays_queued_is_promised_by_its_id():
    reason = f"The hub has not answered within 10 s. It will be asked again: {ID} stays queued."
    assert read_refusal(Refused(reason)) == (Answer.QUEUED, ID)


def test_what_only_the_hub_accepts_is_disputed():
    reason = "The hub took it, but it does not pass this server's own checks; it takes no effect here."
    assert read_refusal(Refused(reason)) == (Answer.DISPUTED, "")
