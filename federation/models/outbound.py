"""What we have to send, to whom, and what is under way.

Events of rooms whose hub we are have no row here: the cursor `rooms.RoomServer.sent_position` says what of
the room's line a server has. Only LPDUs wait in a queue of their own, since they are in no line yet.
"""

from typing import ClassVar

from django.db import models
from django.db.models import Q

OPEN = Q(acked_at__isnull=True, split_at__isnull=True, set_aside_at__isnull=True)
"""Transactions that are still to be sent."""


class Destination(models.Model):
    """A server that we send to. `pending` says that there may be something to send: it is what wakes
    workers; whether there is, cursors and queues say (`federation.delivery`).

    The columns after `paused_reason` are how it wants to be spoken to (`federation.wire_profile`).
    """

    server = models.TextField(primary_key=True)
    pending = models.BooleanField(default=False)
    next_attempt = models.DateTimeField(null=True, blank=True, db_comment="not before; NULL: at once")
    failures = models.IntegerField(default=0, db_comment="failed attempts since the last success")
    failing_since = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(default="", blank=True)
    last_success_at = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True, db_comment="a worker delivers until then at most")
    lease_holder = models.TextField(default="", blank=True)
    turn = models.TextField(default="", blank=True, db_comment="room after which the next transaction begins")
    paused_at = models.DateTimeField(
        null=True, blank=True, db_comment="an operator holds transactions back since then; NULL: not paused"
    )
    paused_reason = models.TextField(default="", db_default="", blank=True, db_comment="why, for other operators")
    stable_paths = models.BooleanField(
        null=True,
        blank=True,
        db_comment="whether it serves the stable path of endpoints that have two; NULL: not known",
    )
    signs_without_content = models.BooleanField(
        null=True, blank=True, db_comment="whether signatures of requests without a body omit content; NULL: not known"
    )
    max_body_bytes = models.IntegerField(
        null=True, blank=True, db_comment="largest transaction of several events; NULL: our own limit"
    )
    single_events = models.BooleanField(default=False, db_comment="a transaction for it holds one event only")
    timeline_state = models.BooleanField(
        default=False, db_comment="state in answers to its joins is the whole line; set by an operator"
    )

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(max_body_bytes__isnull=True) | Q(max_body_bytes__gt=0), name="destination_takes_some_bytes"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["next_attempt"], condition=Q(pending=True), name="destination_due")]
        permissions: ClassVar = [
            ("retry_destination", "Can have a server tried again before its time"),
            ("pause_destination", "Can hold back and resume transactions for a server"),
        ]

    def __str__(self) -> str:
        return self.server


class OutboundLpdu(models.Model):
    """An LPDU for a room's hub. It is sent in the order of `id`; its PDU in our copy of the room is its end."""

    class Status(models.TextChoices):
        QUEUED = "queued"
        SENT = "sent"
        REFUSED = "refused"
        SET_ASIDE = "set-aside", "set aside"

    destination = models.ForeignKey(Destination, on_delete=models.PROTECT, related_name="lpdus", db_index=False)
    lpdu_id = models.TextField(unique=True)
    room_id = models.TextField()
    sender = models.TextField()
    json = models.TextField(db_comment="canonical JSON of the LPDU")
    status = models.TextField(choices=Status.choices, default=Status.QUEUED)
    reason = models.TextField(default="", blank=True, db_comment="what the hub said when it refused the LPDU")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "outbound LPDU"
        indexes: ClassVar = [
            models.Index(fields=["destination", "id"], condition=Q(status="queued"), name="lpdu_to_send"),
        ]

    def __str__(self) -> str:
        return self.lpdu_id


class OutboundTransaction(models.Model):
    """A transaction as it is sent, frozen before the first attempt and resent byte for byte until a 200.

    It is open until it is acknowledged, split into parts, or set aside (`federation.isolation`). Parts are
    transactions themselves; of a destination's open ones the first by `branch` is under way, and nothing new is
    frozen before all of them have ended.
    """

    destination = models.ForeignKey(Destination, on_delete=models.PROTECT, related_name="transactions")
    txn_id = models.TextField(unique=True)
    path = models.TextField(db_comment="request target; the signature covers it")
    body = models.BinaryField()
    cursors = models.JSONField(db_comment="[[stay id, position], ...]: how far this brings the receiver")
    lpdus = models.JSONField(db_comment="ids of the outbound LPDUs in the body")
    events = models.IntegerField(db_comment="number of PDUs and LPDUs in the body")
    edus = models.JSONField(
        default=list,
        db_default=models.Value([], models.JSONField()),
        db_comment="of each EDU in the body: id of the outbound EDU, or [cursor, position] of a device list update",
    )
    attempts = models.IntegerField(default=0)
    last_error = models.TextField(default="", blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    acked_at = models.DateTimeField(null=True, blank=True)
    refusals = models.IntegerField(default=0, db_comment="answers that speak against its content; parts inherit them")
    first_refused_at = models.DateTimeField(null=True, blank=True, db_comment="of these answers; parts inherit it")
    lineage = models.TextField(
        default="", blank=True, db_comment="id of the transaction that it was split from, at first"
    )
    branch = models.TextField(
        default="", blank=True, db_comment="place among a transaction's parts: 0 before 1, 00, 01"
    )
    split_at = models.DateTimeField(null=True, blank=True, db_comment="its parts are sent instead")
    set_aside_at = models.DateTimeField(null=True, blank=True, db_comment="not delivered; the queue went on without it")

    class Meta:
        constraints: ClassVar = [
            # At most one under way; parts have branches of their own and wait for those before them.
            models.UniqueConstraint(fields=["destination", "branch"], condition=OPEN, name="outbound_one_in_flight"),
            models.CheckConstraint(
                condition=Q(acked_at__isnull=True, split_at__isnull=True)
                | Q(acked_at__isnull=True, set_aside_at__isnull=True)
                | Q(split_at__isnull=True, set_aside_at__isnull=True),
                name="outbound_one_end",
            ),
        ]
        indexes: ClassVar = [
            # Partial: rows that are still to be sent are in none of these three.
            models.Index(fields=["acked_at"], condition=Q(acked_at__isnull=False), name="outbound_by_ack"),
            models.Index(fields=["split_at"], condition=Q(split_at__isnull=False), name="outbound_by_split"),
            models.Index(
                fields=["set_aside_at"], condition=Q(set_aside_at__isnull=False), name="outbound_by_set_aside"
            ),
            models.Index(fields=["lineage", "branch"], condition=~Q(lineage=""), name="outbound_parts"),
            models.Index(
                fields=["destination", "set_aside_at"],
                condition=Q(set_aside_at__isnull=False),
                name="outbound_set_aside",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.txn_id} to {self.destination_id}"

    @property
    def entries(self) -> int:
        """PDUs, LPDUs and EDUs in the body."""
        return self.events + len(self.edus)
