"""`manage.py knocks`: rooms elsewhere that local users have asked to be let into, without an answer yet."""

from typing import Any

from federation.management.acting import Acting
from rooms import pending
from rooms.models import PendingInvite


class Command(Acting):
    """Lists pending knocks."""

    help = "List the rooms that users of this server asked to be let into; `leave` takes a knock back."

    def act(self, **options: Any) -> None:
        rows = [row for row in PendingInvite.objects.order_by("-received_at") if pending.is_knock(row)]
        self.table(
            ("room", "name", "asks to be let in", "hub"),
            [(row.room_id, pending.room_name(row), row.user_id, row.hub_server) for row in rows],
        )
