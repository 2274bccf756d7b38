"""Servers that the operator wants nothing to do with."""

from django.db import models


class BlockedServer(models.Model):
    """A server, or all that a glob matches, whose requests are refused and which gets none (`federation.blocking`).

    To block is to add a row and to unblock is to delete it, so Django's own permissions say who may.
    """

    servers = models.TextField(
        primary_key=True,
        db_comment="lower case: a host with all its ports, a glob of hosts with * and ?, or either with one port",
    )
    reason = models.TextField(blank=True, default="", db_comment="for other operators; no server is told")
    blocked_at = models.DateTimeField("blocked since")
    blocked_by = models.TextField(blank=True, default="", db_comment="who did it; empty: the command")

    def __str__(self) -> str:
        return self.servers
