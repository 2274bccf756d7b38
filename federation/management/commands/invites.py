"""`manage.py invites`: invites to rooms elsewhere that local users have not answered yet."""

import json
from typing import Any

from federation.management.acting import Acting
from rooms.models import PendingInvite


class Command(Acting):
    """Lists pending invites."""

    help = "List the invites that users of this server have not answered; `join` and `leave` answer them."

    def act(self, **options: Any) -> None:
        invites = PendingInvite.objects.order_by("-received_at")
        self.table(
            ("room", "name", "invited", "by"),
            [(row.room_id, _name(row), row.user_id, json.loads(row.json)["sender"]) for row in invites],
        )


def _name(invite: PendingInvite) -> object:
    """What the inviting server says the room is called."""
    for event in json.loads(invite.stripped_state):
        if event["type"] == "m.room.name" and isinstance(event["content"], dict):
            return event["content"].get("name", "")
    return ""
