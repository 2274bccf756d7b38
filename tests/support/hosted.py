"""Rooms that we host, as tests look at them."""

from rooms.models import Event, Room, StateEntry

CREATOR = "@creator:hub.example.org"


def snapshot(room_id):
    """All of a room that refused input must not change."""
    head = Room.objects.values_list("head_position", "head_event_id").get(room_id=room_id)
    events = Event.objects.filter(room_id=room_id).order_by("position").values_list("position", "event_id", "json")
    state = StateEntry.objects.filter(room_id=room_id).order_by("id").values_list("event_id", "position", "replaced_at")
    return head, list(events), list(state)
