"""Rooms that an operator has blocked: every request is refused, what is sent is dropped (decision 117)."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from rooms.models import Event, Room
from tests.federation.test_server_acl import ENDPOINTS, requests
from tests.support.hosted import is_error, snapshot
from tests.support.peers import Peer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_request_about_a_blocked_room_is_refused(endpoint, peer, joined):
    asked = requests(peer, joined)[endpoint]
    Room.objects.filter(pk=joined.pk).update(blocked=True)
    before = snapshot(joined.room_id)
    answer = asked()
    assert is_error(answer, 403, "M_FORBIDDEN")
    assert "blocked" in answer.json()["error"]
    assert snapshot(joined.room_id) == before
    Room.objects.filter(pk=joined.pk).update(blocked=False)
    assert "blocked" not in asked().content.decode()


def test_what_is_sent_to_a_blocked_room_is_dropped_and_the_rest_is_taken(peer, joined, private):
    Room.objects.filter(pk=private.pk).update(blocked=True)
    before = snapshot(private.room_id)
    blocked, good = peer.lpdu(private.room_id), peer.lpdu(joined.room_id)
    assert peer.send([blocked.event, good.event]).json() == {"failed_pdus": {}}
    assert snapshot(private.room_id) == before
    assert Event.objects.filter(lpdu_id=good.lpdu_id).exists()


def test_a_blocked_room_does_not_exist_for_servers_that_had_nothing_to_do_with_it(joined):
    outsider = Peer("outside.example.org").publish()
    event_id = Event.objects.get(room=joined, position=1).event_id
    Room.objects.filter(pk=joined.pk).update(blocked=True)
    assert is_error(outsider.get("event", event_id), 404, "M_NOT_FOUND")


@pytest.mark.parametrize(("permission", "blocked"), [("change_room", True), ("view_room", False)])
def test_an_operator_who_may_change_rooms_blocks_and_unblocks_them(permission, blocked, joined, private):
    operator = User.objects.create_user("operator", is_staff=True)
    operator.user_permissions.set(Permission.objects.filter(codename__in=["view_room", permission]))
    console = Client()
    console.force_login(operator)

    def act(action):
        data = {"action": action, "_selected_action": [joined.pk]}
        return console.post("/admin/rooms/room/", data, secure=True, follow=True)

    assert act("block").status_code == 200
    rooms = dict(Room.objects.values_list("room_id", "blocked"))
    assert rooms == {joined.room_id: blocked, private.room_id: False}
    assert LogEntry.objects.count() == blocked
    act("unblock")
    assert not Room.objects.filter(blocked=True).exists()
