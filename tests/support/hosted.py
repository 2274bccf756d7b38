"""Rooms that we host, as tests look at them."""

from django.utils import timezone

from keys.local import server_keys
from linmatrix.protocol.encoding import decode_base64
from linmatrix.protocol.signing import VerifyKey
from rooms.hub import append_own, member_event
from rooms.models import Event, Room, StateEntry
from tests.support.peers import Peer

CREATOR = "@creator:hub.example.org"


def snapshot(room_id):
    """All of a room that refused input must not change."""
    head = Room.objects.values_list("head_position", "head_event_id").get(room_id=room_id)
    events = Event.objects.filter(room_id=room_id).order_by("position").values_list("position", "event_id", "json")
    state = StateEntry.objects.filter(room_id=room_id).order_by("id").values_list("event_id", "position", "replaced_at")
    return head, list(events), list(state)


def keys_of(*peers: Peer):
    """Our own keys and those of these peers, for checking events that we made."""
    ours = server_keys(0)["verify_keys"].items()
    keys = {
        ("hub.example.org", key_id): [VerifyKey.from_bytes(decode_base64(key["key"], length=32), valid_until_ts=2**53)]
        for key_id, key in ours
    }
    for peer in peers:
        keys[peer.name, peer.key.key_id] = [VerifyKey.from_bytes(peer.key.public_key, valid_until_ts=2**53)]
    return keys


def membership(room, user_id, membership_, sender=CREATOR):
    event = member_event(
        room_id=room.room_id, sender=sender, user_id=user_id, membership=membership_, now=timezone.now()
    )
    append_own(room.room_id, [event], now=timezone.now())


def is_error(response, status, errcode):
    return (response.status_code, response.json()["errcode"]) == (status, errcode)


def send_join(peer, lpdu, txn_id="txn"):
    return peer.request("POST", f"/_matrix/federation/v3/send_join/{txn_id}", lpdu.event)
