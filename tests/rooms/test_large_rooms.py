"""A room's state is read and answered piece by piece, whatever its size."""

import gc
import json
import tracemalloc

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.utils import timezone

from linmatrix.bridge import build_environ, call_wsgi
from linmatrix.protocol import canonical_json
from rooms import state as reading
from rooms.hub import append_own, member_event
from rooms.models import Event, Room
from rooms.state import auth_chain, events_before, with_auth_chain

MEMBERS = 1500


def populate(room: Room, members: int) -> None:
    now = timezone.now()
    users = [f"@user{number}:hub.example.org" for number in range(members)]
    events = [
        member_event(room_id=room.room_id, sender=user, user_id=user, membership="join", now=now) for user in users
    ]
    append_own(room.room_id, events, now=now)


def test_the_state_and_its_auth_chain_are_the_same_in_pieces_of_any_size(hosted, monkeypatch):
    populate(hosted, 7)
    end = Room.objects.get().head_position + 1
    stored = list(Event.objects.filter(state_key__isnull=False).order_by("position").values_list("json", flat=True))
    for size in (1, 3, 100):
        monkeypatch.setattr(reading, "TEXTS_AT_ONCE", size)
        texts = events_before(hosted, end)
        assert list(texts) == list(texts) == stored
        state, chain = with_auth_chain(texts)
        assert list(state) == list(texts)
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
    application = WSGIHandler()

    def send_join(localpart):
        target = f"/_matrix/federation/v3/send_join/{localpart}"
        body = canonical_json.dumps(peer.join(hosted.room_id, localpart).event)
        headers = [(b"host", b"hub.example.org"), (b"authorization", peer.headers("POST", target, body).encode())]
        scope = {
            "method": "POST",
            "http_version": "1.1",
            "raw_path": target.encode(),
            "path": target,
            "query_string": b"",
            "headers": [*headers, (b"content-type", b"application/json")],
        }
        return call_wsgi(application, build_environ(scope, body))

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
