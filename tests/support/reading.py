"""Rooms as a server reads them: every endpoint that serves events, and what its answer shows of one of them."""

from urllib.parse import quote

from django.utils import timezone

from linmatrix.protocol.state import JOIN_RULES
from rooms.append import open_line
from rooms.creation import create_room
from rooms.hub import append_own, complete_lpdu
from rooms.models import Event, StateEntry
from tests.support.hosted import CREATOR, is_error, membership

SECRET = {"body": "secret"}
NAME = {"name": "Secret name"}

FULL, REDACTED, NOTHING = "full", "redacted", "404"


def reading(peer, room, event_id, *, limit=100):
    """Every endpoint that reads a room, asked about one event."""
    quoted = quote(event_id, safe="")
    return {
        "event": peer.get("event", event_id),
        "backfill": peer.get("backfill", room.room_id, query=f"v={quoted}&limit={limit}"),
        "state": peer.get("state", room.room_id, version="v1", query=f"event_id={quoted}"),
        "state_ids": peer.get("state_ids", room.room_id, version="v1", query=f"event_id={quoted}"),
    }


def last_event(room):
    return Event.objects.filter(room=room, position__isnull=False).order_by("-position").first()


def text_of(event_id):
    return Event.objects.values_list("json", flat=True).get(event_id=event_id)


def append_state(room, type_, content, *, sender=CREATOR, state_key=""):
    """A state event of a user of ours, as hub."""
    return append_event(room, type_, content, sender=sender, state_key=state_key)


def append_event(room, type_="m.room.message", content=None, *, sender=CREATOR, **fields):
    """An event of a user of ours, as hub; its id."""
    event = {
        "room_id": room.room_id,
        "type": type_,
        "sender": sender,
        "origin_server_ts": int(timezone.now().timestamp() * 1000),
        "content": SECRET if content is None else content,
        **fields,
    }
    return append_own(room.room_id, [event], now=timezone.now())[0].event_id


def room_with_visibility(visibility, *, join_rule="public"):
    """A room that we host, with a secret name; `visibility` None takes the event out, as a room may be without."""
    known = visibility in ("world_readable", "shared", "invited", "joined")
    room = create_room(
        creator=CREATOR,
        now=timezone.now(),
        join_rule=join_rule,
        name=NAME["name"],
        history_visibility=visibility if known else "shared",
    )
    if visibility is None:
        StateEntry.objects.filter(room=room, type="m.room.history_visibility").delete()
    elif not known:
        append_state(room, "m.room.history_visibility", {"history_visibility": visibility})
    return room


def act(peer, room, step, localpart="user"):
    """One step in the memberships of a peer's user."""
    user = peer.user(localpart)
    if step in ("join", "leave", "knock"):
        lpdu = peer.lpdu(
            room.room_id, localpart=localpart, type="m.room.member", content={"membership": step}, state_key=user
        )
        with open_line(room.room_id, now=timezone.now()) as line:
            line.load_state([JOIN_RULES])
            line.load_state_for([lpdu.event])
            line.append(complete_lpdu(line, lpdu))
    else:
        membership(room, user, "leave" if step == "kick" else step)


def shown(answers, event_id):
    """What each endpoint shows: of the event itself, and for `state` of the room's name."""
    result = {}
    for endpoint, answer in answers.items():
        if answer.status_code == 404:
            assert is_error(answer, 404, "M_NOT_FOUND")
            result[endpoint] = NOTHING
            continue
        assert answer.status_code == 200, (endpoint, answer.content)
        result[endpoint] = _shown(endpoint, answer, event_id)
    return result


def _shown(endpoint, answer, event_id):
    body = answer.json()
    if endpoint == "state_ids":
        return FULL
    if endpoint == "state":
        (event,) = [event for event in body["pdus"] if event["type"] == "m.room.name"]
        return FULL if event["content"] == NAME else REDACTED
    if endpoint == "backfill":
        body = body["pdus"][-1]
    stored = Event.objects.get(event_id=event_id)
    if answer.content == stored.json.encode() or stored.json.encode() in answer.content:
        return FULL
    assert body["content"] == {}
    assert body["origin_server_ts"] == stored.origin_server_ts
    return REDACTED
