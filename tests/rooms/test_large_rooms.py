"""A room's state is read and answered piece by piece, whatever its size, and requests leave nothing behind."""

import gc
import json
import tracemalloc

import pytest
from django.utils import timezone

from rooms.hub import append_own, member_event
from rooms.models import Event, Room
from rooms.state import TEXTS_AT_ONCE, auth_chain, events_before, with_auth_chain

MEMBERS = 1500


def populate(room: Room, members: int) -> None:
    now = timezone.now()
    users = [f"@user{number}:hub.example.org" for number in range(members)]
    events = [
        member_event(room_id=room.room_id, sender=user, user_id=user, membership="join", now=now) for user in users
    ]
    append_own(room.room_id, events, now=now)


@pytest.mark.parametrize("members", [1, TEXTS_AT_ONCE - 1, 2 * TEXTS_AT_ONCE])
def test_the_state_and_its_auth_chain_are_complete_in_however_many_pieces_they_come(members, hosted):
    populate(hosted, members)
    texts = events_before(hosted, Room.objects.get().head_position + 1)
    stored = list(Event.objects.filter(state_key__isnull=False).order_by("position").values_list("json", flat=True))
    assert len(stored) > members
    assert list(texts) == list(texts) == stored
    state, chain = with_auth_chain(texts)
    assert list(state) == stored
    assert sorted(chain) == sorted(auth_chain(texts).values())


def test_the_auth_chain_goes_back_to_the_create_event_and_names_each_event_once(hosted):
    populate(hosted, 3)
    (join,) = Event.objects.filter(state_key="@user0:hub.example.org").values_list("json", flat=True)
    state, chain = with_auth_chain([join])
    assert list(state) == [join]
    types = [json.loads(text)["type"] for text in chain]
    # The creator's membership is in nobody's auth events but in those of the power levels and the join rules.
    assert sorted(types) == ["m.room.create", "m.room.join_rules", "m.room.member", "m.room.power_levels"]


@pytest.fixture
def _traced():
    """Memory is counted, and only the count of references frees any."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


@pytest.mark.usefixtures("_traced")
def test_the_answer_to_a_join_is_held_once_while_it_is_made_and_not_at_all_afterwards(peer, hosted):
    populate(hosted, MEMBERS)

    def send_join(localpart):
        lpdu = peer.join(hosted.room_id, localpart)
        return peer.through_bridge("POST", f"/_matrix/federation/v3/send_join/{localpart}", lpdu.event)

    send_join("first")  # what is kept once per process is kept now
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    answer = send_join("second")
    after, peak = tracemalloc.get_traced_memory()
    size = len(answer.body)
    assert answer.status == 200
    assert len(json.loads(answer.body)["state"]) > MEMBERS
    assert peak - before < 2 * size
    assert after - before < 1.5 * size
    del answer
    assert tracemalloc.get_traced_memory()[0] - before < size / 2


@pytest.mark.usefixtures("_traced")
def test_a_transaction_is_not_held_after_its_answer(peer, joined):
    def send(number):
        lpdus = [peer.lpdu(joined.room_id, content={"body": f"{number} {'x' * 10_000}"}) for _ in range(10)]
        content = {"pdus": [lpdu.event for lpdu in lpdus], "edus": []}
        return peer.through_bridge("PUT", f"/_matrix/federation/v2/send/{number}", content).status

    assert [send(number) for number in range(10)] == [200] * 10
    before, _ = tracemalloc.get_traced_memory()
    assert [send(number) for number in range(10, 20)] == [200] * 10
    after, _ = tracemalloc.get_traced_memory()
    assert after - before < 10 * 100_000
