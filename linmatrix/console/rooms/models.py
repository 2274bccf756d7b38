"""What staff may be allowed to do in rooms, beyond Django's four permissions of each table."""

from typing import ClassVar

from django.db import models


class Acting(models.Model):
    """No table: a name under which the permissions to act in rooms are kept and given to staff."""

    class Meta:
        managed = False
        default_permissions = ()
        verbose_name = "acting in rooms"
        permissions: ClassVar = [
            ("create_room", "Can create rooms as a local user"),
            ("join_room", "Can have local users join rooms"),
            ("knock_on_room", "Can have local users ask to be let into rooms"),
            ("leave_room", "Can have local users leave rooms, refuse invites and take knocks back"),
            ("invite_user", "Can invite to rooms as a local user"),
            ("kick_user", "Can remove from rooms as a local user"),
            ("ban_user", "Can ban from rooms as a local user"),
            ("unban_user", "Can unban as a local user"),
            ("set_power_level", "Can set power levels as a local user"),
            ("redact_event", "Can redact events as a local user"),
            ("send_notice", "Can send notices as a local user"),
        ]

    def __str__(self) -> str:
        return "acting in rooms"
