"""Answers that are kept for a repetition, and those that are made again."""

import pytest
from django.utils import timezone

from federation.idempotency import MAX_KEPT_BYTES
from federation.models import InboundTransaction
from linmatrix.protocol.completion import new_event
from rooms.hub import append_own, milliseconds
from rooms.models import Event
from tests.support.hosted import CREATOR, send_join

pytestmark = pytest.mark.django_db(transaction=True)

LARGE_STATE = 60_000


def fill_state(room, number: int) -> None:
    """State events that together are larger than what is kept."""
    now = timezone.now()
    events = [
        new_event(
            room_id=room.room_id,
            sender=CREATOR,
            type="org.example.large",
            content={"text": "x" * LARGE_STATE},
            origin_server_ts=milliseconds(now),
            state_key=str(index),
        )
        for index in range(number)
    ]
    append_own(room.room_id, events, now=now)


def test_a_large_answer_is_made_again_rather_than_kept(peer, hosted):
    fill_state(hosted, MAX_KEPT_BYTES // LARGE_STATE + 1)
    lpdu = peer.join(hosted.room_id)
    first = send_join(peer, lpdu)
    assert (first.status_code, len(first.content) > MAX_KEPT_BYTES) == (200, True)
    assert not InboundTransaction.objects.filter(txn_id="txn").exists()
    assert send_join(peer, lpdu).content == first.content
    assert Event.objects.filter(lpdu_id=lpdu.lpdu_id).count() == 1


def test_a_small_answer_is_kept(peer, hosted):
    fill_state(hosted, 1)
    answer = send_join(peer, peer.join(hosted.room_id))
    assert bytes(InboundTransaction.objects.get(txn_id="txn").response) == answer.content
