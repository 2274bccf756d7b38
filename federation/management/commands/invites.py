"""`manage.py invites`: invites to rooms elsewhere that local users have not answered yet."""

from typing import Any

from federation.management.acting import Acting
from rooms import pending
from rooms.models import PendingInvite


class Command(Acting):
    """Lists pending invites."""

    help = "List the invites that users of this server have not answered; `join` and `leave` answer them."

    def act(self, **options: Any) -> None:
        rows = [row for row in PendingInvite.objects.order_by("-received_at") if not pending.is_knock(row)]
        self.table(
            ("room", "name", "invited", "by"),
            [(row.room_id, pending.room_name(row), row.user_id, pending.inviter(row)) for row in rows],
        )
