"""Rooms and their lines of events, in tables.

Only whoever holds the lock of a room's row writes its events, state and audience: `rooms.append` at the end of the
line, `rooms.adoption` and `rooms.history` what a participant learns of before, `rooms.redactions` over what is there,
`rooms.importing` a whole line out of a file.
Every table carries the room as the first column of its keys, so that the schema can be distributed
by room. Positions count events of one room from 1; a room that we take part in counts from where we joined,
with room for the history before (`rooms.participant`).
"""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import F, Q, Value
from django.db.models.functions import StrIndex, Substr


class Room(models.Model):
    """A room that we host or take part in; the row whose lock makes its line one line."""

    class Role(models.TextChoices):
        HUB = "hub"
        PARTICIPANT = "participant"

    room_id = models.TextField(primary_key=True)
    version = models.TextField(db_comment="room version, from the create event")
    role = models.TextField(choices=Role.choices)
    hub_server = models.TextField(db_comment="server of the create event's sender")
    head_position = models.BigIntegerField(default=0, db_comment="position of the last event; 0 before the first")
    head_event_id = models.TextField(default="", blank=True)
    blocked = models.BooleanField(default=False, db_comment="requests for the room are refused")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(role__in=["hub", "participant"]), name="room_role_known"),
            models.CheckConstraint(
                condition=Q(head_position=0, head_event_id="") | Q(head_position__gt=0) & ~Q(head_event_id=""),
                name="room_head_is_an_event",
            ),
        ]
        # The console's list, and its counts. An append changes none of these, so that its update of the row touches no
        # index.
        indexes: ClassVar = [
            models.Index(fields=["-created_at", "room_id"], name="room_newest"),
            models.Index(fields=["role", "-created_at", "room_id"], name="room_by_role"),
        ]

    def __str__(self) -> str:
        return self.room_id


class Event(models.Model):
    """One event. Immutable, but for redaction and for an event that first was known outside of the line.

    `position` is NULL for a state or auth event learnt on joining whose place in the line is not known yet.
    `json` is the canonical JSON that hashes and signatures are about; it is never parsed to be sent again.
    """

    class Verdict(models.TextChoices):
        ACCEPTED = "accepted"
        SOFT_FAILED = "soft-failed"
        REJECTED = "rejected"
        REDACTED = "redacted", "accepted as its redacted copy"

    event_id = models.TextField(primary_key=True)
    room = models.ForeignKey(Room, on_delete=models.PROTECT, related_name="events", db_index=False)
    position = models.BigIntegerField(null=True)
    lpdu_id = models.TextField(null=True, db_comment="id of the LPDU within; NULL for a hub's own event")  # noqa: DJ001  NULL is outside of the unique constraint
    type = models.TextField()
    state_key = models.TextField(null=True, db_comment="NULL: not a state event")  # noqa: DJ001  '' is a state key
    sender = models.TextField()
    origin_server_ts = models.BigIntegerField(db_comment="milliseconds since the epoch, as its sender said")
    json = models.TextField(db_comment="canonical JSON of the PDU; text, since jsonb would change it")
    verdict = models.TextField(choices=Verdict.choices, default=Verdict.ACCEPTED)
    reason = models.TextField(default="", blank=True, db_comment="why it was not accepted")
    received_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["room", "position"], name="event_one_per_position"),
            models.UniqueConstraint(fields=["room", "lpdu_id"], name="event_one_per_lpdu"),
            models.CheckConstraint(
                condition=Q(verdict__in=["accepted", "soft-failed", "rejected", "redacted"]), name="event_verdict_known"
            ),
        ]
        indexes: ClassVar = [
            # For operators, who ask for few of many: nearly all events are accepted messages, which are in neither.
            models.Index(
                fields=["verdict", "room", "position"], condition=~Q(verdict="accepted"), name="event_not_accepted"
            ),
            models.Index(
                fields=["type", "room", "position"], condition=Q(state_key__isnull=False), name="event_state_by_type"
            ),
            # Figures over time. Events come in the order of their times, so that this one has next to no size and costs
            # an append next to nothing.
            BrinIndex(fields=["received_at"], autosummarize=True, pages_per_range=32, name="event_by_time"),
        ]

    def __str__(self) -> str:
        return self.event_id


class StateEntry(models.Model):
    """That a state event was the room's state for its (type, state_key), and from where to where.

    In force after `position` up to and including `replaced_at`, the position of what replaced it; NULL is
    current. State before position p: `position < p AND (replaced_at IS NULL OR replaced_at >= p)`.
    """

    room = models.ForeignKey(Room, on_delete=models.PROTECT, related_name="state", db_index=False)
    type = models.TextField()
    state_key = models.TextField()
    event = models.ForeignKey(Event, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False)
    position = models.BigIntegerField()
    replaced_at = models.BigIntegerField(null=True)

    class Meta:
        verbose_name_plural = "state entries"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["room", "type", "state_key"],
                condition=Q(replaced_at__isnull=True),
                include=["event"],
                name="state_one_current",
            ),
            models.CheckConstraint(
                condition=Q(replaced_at__isnull=True) | Q(replaced_at__gt=F("position")), name="state_interval_ordered"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["room", "position"], name="state_by_position"),
            models.Index(fields=["room", "replaced_at", "position"], name="state_by_replacement"),
            # What a server that is not in the room had to do with it: invites and knocks of its users.
            models.Index(
                "room",
                Substr("state_key", StrIndex("state_key", Value(":")) + 1),
                "position",
                condition=Q(type="m.room.member"),
                name="state_members_by_server",
            ),
            # The rooms of a user (`rooms.audience`).
            models.Index(
                fields=["state_key", "room"],
                include=["event"],
                condition=Q(type="m.room.member", replaced_at__isnull=True),
                name="state_rooms_of_user",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.state_key}"


class Redaction(models.Model):
    """A redaction in a room's line and the event that it names, which we may not have yet (`rooms.redactions`)."""

    room = models.ForeignKey(Room, on_delete=models.PROTECT, related_name="+", db_index=False)
    event_id = models.TextField(db_comment="the redaction")
    sender = models.TextField()
    redacts = models.TextField(db_comment="the event that it names")
    for_all = models.BooleanField(db_comment="whether its sender may redact what users of other servers sent")
    applied = models.BooleanField(default=False)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["room", "event_id"], name="redaction_once")]
        indexes: ClassVar = [
            # What waits for an event.
            models.Index(fields=["room", "redacts"], condition=Q(applied=False), name="redaction_by_target"),
        ]

    def __str__(self) -> str:
        return f"{self.event_id} of {self.redacts}"


class RoomServer(models.Model):
    """One stay of a server in a room: from the event that brought its first user to the one that ended it.

    The audience of every event between, what the server may ask for later, and the delivery cursor: events
    after `sent_position`, up to `left_position` (included), are still to be sent to it by the room's hub.
    """

    room = models.ForeignKey(Room, on_delete=models.PROTECT, related_name="servers", db_index=False)
    server = models.TextField()
    joined_position = models.BigIntegerField()
    left_position = models.BigIntegerField(null=True, blank=True)
    sent_position = models.BigIntegerField()
    joined_users = models.IntegerField(db_comment="joined users of the server; the stay ends when none is left")

    class Meta:
        verbose_name, verbose_name_plural = "server in a room", "servers in rooms"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["room", "server"], condition=Q(left_position__isnull=True), name="stay_one_current"
            ),
            models.CheckConstraint(
                condition=Q(left_position__isnull=True, joined_users__gt=0)
                | Q(left_position__isnull=False, joined_users=0),
                name="stay_ends_with_its_last_user",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["room", "server", "joined_position"], name="stay_by_room"),
            # The console's list.
            models.Index(fields=["server", "room", "-joined_position"], name="stay_by_server"),
            # The audience of an event: besides current stays, those that ended with it.
            models.Index(fields=["room", "left_position"], name="stay_by_end"),
            # What is left to send to a server: its current stays and those not yet sent to their end.
            models.Index(
                fields=["server", "room"],
                condition=Q(left_position__isnull=True) | Q(sent_position__lt=F("left_position")),
                name="stay_to_send",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.server} in {self.room_id}"


class LocalUser(models.Model):
    """A user of the messaging provider that we serve; not a staff account of this console."""

    localpart = models.TextField(primary_key=True)
    display_name = models.TextField(default="", blank=True)
    deactivated = models.BooleanField(default=False)
    refuses_invites = models.BooleanField(
        "refuses invites", default=False, db_comment="invites by users of other servers are refused"
    )

    def __str__(self) -> str:
        return self.localpart


class PendingInvite(models.Model):
    """An invite or a knock of a local user: membership in a room that we do not take part in.

    For showing and for answering it; nothing in it is trusted when the room's events are checked.
    """

    room_id = models.TextField()
    user_id = models.TextField()
    hub_server = models.TextField()
    room_version = models.TextField()
    event_id = models.TextField()
    json = models.TextField(db_comment="the invite event, canonical JSON")
    stripped_state = models.TextField(db_comment="stripped state events, JSON list")
    received_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name, verbose_name_plural = "invite or knock", "invites and knocks"
        constraints: ClassVar = [models.UniqueConstraint(fields=["room_id", "user_id"], name="invite_one_per_user")]

    def __str__(self) -> str:
        return f"{self.user_id} to {self.room_id}"


class PendingJoin(models.Model):
    """A join that is under way: the hub may send us the room's events before its answer is stored.

    Those requests wait for the join's end, instead of being dropped as events of a room that is not ours.
    """

    room_id = models.TextField()
    user_id = models.TextField()
    lease_until = models.DateTimeField(db_comment="a crashed join does not hold the room's events up for longer")

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["room_id", "user_id"], name="join_one_per_user")]

    def __str__(self) -> str:
        return f"{self.user_id} to {self.room_id}"


class Gap(models.Model):
    """A place in a participant's line whose predecessor is missing: history to be fetched from the hub."""

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="gaps", db_index=False)
    before_position = models.BigIntegerField(db_comment="the position whose predecessor is missing")
    missing_event_id = models.TextField(db_comment="that predecessor's event id")
    next_attempt = models.DateTimeField(auto_now_add=True)
    failures = models.IntegerField(default=0)
    last_error = models.TextField(default="", blank=True)

    class Meta:
        verbose_name = verbose_name_plural = "missing history"
        constraints: ClassVar = [models.UniqueConstraint(fields=["room", "before_position"], name="gap_one_per_place")]
        indexes: ClassVar = [models.Index(fields=["next_attempt"], name="gap_due")]

    def __str__(self) -> str:
        return f"{self.room_id} before {self.before_position}"


class Finding(models.Model):
    """Something a hub or peer did that the protocol forbids, with the signed evidence."""

    class Kind(models.TextChoices):
        EDIT = "edit", "content does not match its hash"
        REPLAY = "replay", "an LPDU was used twice"
        FORK = "fork", "an event does not follow the last one"
        EQUIVOCATION = "equivocation", "history other than what was sent before"
        REJECTED = "rejected", "an event that the authorization rules refuse"
        CITATION = "citation", "auth events other than the current ones"
        STATE = "state", "state in the answer to a join that does not hold"
        INVALID = "invalid", "an event in the line that is none"
        UNVERIFIABLE = "unverifiable", "an event in the line whose keys cannot be had"
        GAP = "gap", "history that the hub does not give"
        COMMIT = "commit", "an MLS commit that the group or the room does not allow"

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="findings", db_index=False)
    server = models.TextField(db_comment="the server at fault")
    kind = models.TextField(choices=Kind.choices)
    event_id = models.TextField(default="", blank=True)
    evidence = models.TextField(db_comment="why it is wrong, and from the second line on the events as a JSON list")
    predecessor = models.TextField(
        default="", blank=True, db_comment="of an event that is passed over in the line: the one before it"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["room", "kind", "event_id"], name="finding_once"),
        ]
        indexes: ClassVar = [models.Index(fields=["-created_at"], name="finding_newest")]

    def __str__(self) -> str:
        return f"{self.kind} by {self.server}"


class MlsGroup(models.Model):
    """The MLS group of an encrypted room, as far as somebody outside of it can know it (`rooms.mls`).

    `state` is what the next commit is checked against; secrets are not in it, for none come here.
    """

    class Standing(models.TextChoices):
        FIRST = "first", "followed since its first commit"
        LATER = "later", "taken from a later commit and followed since"
        LOST = "lost", "not known: waits for a commit that carries the group's tree"

    room = models.OneToOneField(Room, primary_key=True, on_delete=models.CASCADE, related_name="mls_group")
    standing = models.TextField(choices=Standing.choices)
    epoch = models.BigIntegerField(db_comment="of the group in state; 0 where there is none")
    digest = models.BinaryField(db_comment="names the group in state; empty where there is none")
    state = models.BinaryField(db_comment="the group as a public observer keeps it; empty where it was never known")
    devices = models.IntegerField(db_comment="members of the group")
    event_id = models.TextField(db_comment="the commit that led here, or that lost it")
    changed_at = models.DateTimeField()

    class Meta:
        verbose_name = "MLS group"
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(standing__in=["first", "later", "lost"]), name="group_standing_known"),
            models.CheckConstraint(condition=Q(epoch__gte=0, devices__gte=0), name="group_counts_from_zero"),
            models.CheckConstraint(condition=Q(standing="lost") | ~Q(state=b"", digest=b""), name="group_has_a_state"),
        ]

    def __str__(self) -> str:
        return f"{self.room_id} in epoch {self.epoch}"


class MlsCommit(models.Model):
    """What became of a commit to a room's group: the last ones of each room, refused ones too.

    Devices are named by user and device id with a space between.
    """

    class Verdict(models.TextChoices):
        ACCEPTED = "accepted"
        REFUSED = "refused"
        NOT_CHECKED = "not checked", "in the line, but the group before it is not known"

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="mls_commits", db_index=False)
    event_id = models.TextField(blank=True, db_comment="of a refused one the LPDU's id; empty for one of our own users")
    sender = models.TextField()
    epoch = models.BigIntegerField(null=True, db_comment="that the commit ends; NULL when it could not be read")
    added = ArrayField(models.TextField(), default=list, db_comment="devices, the first of them")
    removed = ArrayField(models.TextField(), default=list, db_comment="devices, the first of them")
    verdict = models.TextField(choices=Verdict.choices)
    reason = models.TextField(default="", blank=True, db_comment="why it was not accepted, or what it left undone")
    at = models.DateTimeField()

    class Meta:
        verbose_name = "MLS commit"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(verdict__in=["accepted", "refused", "not checked"]), name="commit_verdict_known"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["room", "-id"], name="commit_newest")]

    def __str__(self) -> str:
        return f"{self.verdict} commit of {self.sender}"
