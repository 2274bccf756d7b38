"""Requests with a transaction id, as we received and answered them (draft, "Transaction Identifiers")."""

from typing import ClassVar

from django.db import models
from django.db.models import Q


class InboundTransaction(models.Model):
    """One request per (origin, endpoint, transaction id): processed once, answered the same every time.

    `body_sha256` is part of the key because an existing implementation repeats ids with other bodies
    (decision 74). While `response` is NULL a process holds the request until `lease_until`.
    """

    origin = models.TextField()
    endpoint = models.TextField(db_comment="send, invite, ...; stable and unstable paths share it")
    txn_id = models.TextField()
    body_sha256 = models.BinaryField(max_length=32)
    lease_until = models.DateTimeField(db_comment="a crashed process does not hold the peer up for longer")
    status = models.SmallIntegerField(null=True, blank=True)
    response = models.BinaryField(null=True, blank=True, db_comment="the body that was answered")
    received_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["origin", "endpoint", "txn_id", "body_sha256"], name="inbound_once"),
            # Draft, send: another transaction id while one is processed is M_BAD_STATE (decision 75).
            models.UniqueConstraint(
                fields=["origin"], condition=Q(endpoint="send", status__isnull=True), name="inbound_one_in_flight"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["received_at"], name="inbound_by_age")]

    def __str__(self) -> str:
        return f"{self.endpoint} {self.txn_id} from {self.origin}"
