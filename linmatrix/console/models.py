"""What the dashboard draws: a row per minute, so that a plot of a week costs the same on a server with any history."""

from typing import ClassVar

from django.db import models


class Minute(models.Model):
    """What happened in one minute, and how things stood at its end.

    Written once by `linmatrix.console.figures` and kept for `KEPT`. What happened is counted from the rows' own times,
    also for minutes in which no worker ran; how things stood is only known of minutes that a worker saw end.
    """

    begins = models.DateTimeField(primary_key=True)
    accepted = models.IntegerField(default=0, db_comment="events that became part of a room, redacted copies too")
    redacted = models.IntegerField(default=0, db_comment="of those, as their redacted copies")
    soft_failed = models.IntegerField(default=0)
    rejected = models.IntegerField(default=0)
    delivered = models.IntegerField(default=0, db_comment="events that other servers acknowledged")
    half_within_ms = models.IntegerField(
        null=True, db_comment="of acknowledged transactions, half took at most that long from being made; NULL: none"
    )
    most_within_ms = models.IntegerField(null=True, db_comment="19 of 20 took at most that long")
    findings = models.IntegerField(default=0)
    waiting = models.IntegerField(null=True, db_comment="servers that something waits for")
    failing = models.IntegerField(null=True, db_comment="servers that were not reached at the last attempt")
    oldest_seconds = models.FloatField(null=True, db_comment="age of the oldest event that waits; 0: none does")

    class Meta:
        db_table_comment = "figures of the console's dashboard"
        default_permissions: ClassVar = []

    def __str__(self) -> str:
        return f"{self.begins:%Y-%m-%d %H:%M}"
