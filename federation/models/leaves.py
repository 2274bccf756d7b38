"""Leaves of users whose server is not in the room, on their way to the hub (draft, "Rejecting Invites and Leaves")."""

from typing import ClassVar

from django.db import models
from django.db.models import Q


class PendingLeave(models.Model):
    """A refused invite, a knock that was taken back, or a join that may have to be undone, of which the hub does not
    know yet (decision 93).

    For the user it is done. The row goes when the hub has the leave, when there is nothing left to leave, or
    when nobody expects it any more (`federation.withdrawals`).
    """

    room_id = models.TextField()
    user_id = models.TextField()
    hub_server = models.TextField(db_comment="who sent the invite, or took the knock")
    room_version = models.TextField(db_comment="as the invite said; whether the hub tells it depends")
    reason = models.TextField(default="", blank=True, db_comment="the user's words, empty without any")
    created_at = models.DateTimeField(db_comment="when the user left; given up a while after")
    next_attempt = models.DateTimeField(db_comment="not before")
    lease_until = models.DateTimeField(null=True, blank=True, db_comment="a worker is at it until then at most")
    failures = models.IntegerField(default=0, db_comment="attempts without an end so far")
    refusals = models.IntegerField(default=0, db_comment="of those, answers that forbade it")
    last_error = models.TextField(default="", blank=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["room_id", "user_id"], name="leave_one_per_user")]
        indexes: ClassVar = [
            models.Index(fields=["next_attempt"], name="leave_due"),
            models.Index(fields=["hub_server"], condition=Q(failures__gt=0), name="leave_failed_by_hub"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} from {self.room_id}"
