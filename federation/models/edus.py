"""What travels outside of rooms: EDUs that wait for another server, messages that wait for our users' devices, and
what other servers have been told of our users' devices.
"""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from federation.models.outbound import Destination


class OutboundEdu(models.Model):
    """A to-device message for a device of another server's user. The row goes when the server has it, or when it was
    set aside, where the transaction's body keeps it.

    Device list updates have no rows here: `DeviceListCursor` says what is due, and the content is made when it is sent.
    """

    destination = models.ForeignKey(Destination, on_delete=models.PROTECT, related_name="edus", db_index=False)
    sender = models.TextField()
    json = models.TextField(db_comment="canonical JSON of the EDU")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name, verbose_name_plural = "outbound EDU", "outbound EDUs"
        indexes: ClassVar = [models.Index(fields=["destination", "id"], name="edu_to_send")]

    def __str__(self) -> str:
        return f"EDU {self.pk} to {self.destination_id}"


class DeviceListCursor(models.Model):
    """How much of the list of a local user's devices another server has been told, as a position in the list's stream.

    There is a row for a server and a user that share a room; it goes when they do not any more.
    """

    # Without a constraint, whose check would lock the destination after the cursors.
    destination = models.ForeignKey(
        Destination, on_delete=models.CASCADE, related_name="device_lists", db_index=False, db_constraint=False
    )
    user_id = models.TextField()
    told = models.BigIntegerField(default=0, db_comment="0: nothing, so that it gets the whole list")
    wanted = models.BigIntegerField(db_comment="more is due while this is above told")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["destination", "user_id"], name="device_list_one_per_pair")
        ]
        indexes: ClassVar = [
            models.Index(fields=["destination", "user_id"], condition=Q(told__lt=F("wanted")), name="device_list_due")
        ]

    def __str__(self) -> str:
        return f"devices of {self.user_id} to {self.destination_id}"


class DeviceListNotice(models.Model):
    """Something happened after which other servers are to be told of devices, or no longer: which, is worked out by a
    worker (`federation.edus.spreading`).

    An empty `user_id` stands for all local users of the room, an empty `room_id` for all rooms of the user, an empty
    `server` for all servers of the room.
    """

    user_id = models.TextField(default="", blank=True)
    room_id = models.TextField(default="", blank=True)
    server = models.TextField(default="", blank=True)
    since_position = models.BigIntegerField(
        default=0, db_comment="servers in the room at any event from here on are concerned"
    )
    done_user = models.TextField(default="", blank=True, db_comment="all pairs up to this one have been looked at")
    done_server = models.TextField(default="", blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.user_id or 'all users'}, {self.room_id or 'all rooms'}, {self.server or 'all servers'}"


class ToDeviceInbox(models.Model):
    """The messages that a device of a local user gets, numbered from 1 in the order in which they were stored.

    Whoever adds or removes one holds the row's lock, so that no smaller number appears after a larger one was read.
    """

    user_id = models.TextField()
    device_id = models.TextField()
    last_position = models.BigIntegerField(default=0)
    waiting = models.IntegerField(default=0, db_comment="messages that the device has not acknowledged")
    waiting_bytes = models.BigIntegerField(default=0, db_comment="of their contents")

    class Meta:
        verbose_name, verbose_name_plural = "to-device inbox", "to-device inboxes"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user_id", "device_id"], name="inbox_one_per_device"),
            models.CheckConstraint(
                condition=Q(waiting__gte=0, waiting_bytes__gte=0), name="inbox_counts_what_there_is"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.device_id} of {self.user_id}"


class ToDeviceMessage(models.Model):
    """A message for a device (draft, "To-Device Messaging"), which never leaves its inbox twice.

    An acknowledged one of another server loses its content and stays for as long as that server may repeat its
    transaction, since `source` is how a repetition is known.
    """

    inbox = models.ForeignKey(ToDeviceInbox, on_delete=models.CASCADE, related_name="messages", db_index=False)
    position = models.BigIntegerField()
    sender = models.TextField()
    type = models.TextField()
    json = models.TextField(blank=True, db_comment="canonical JSON of the content; empty once acknowledged")
    origin = models.TextField(db_comment="the server that sent it; our own for messages among our users")
    txn_id = models.TextField(default="", blank=True, db_comment="its transaction, for people")
    source = models.BinaryField(
        max_length=32, db_comment="SHA-256 of its place in its transaction, or of the id that its sender gave it"
    )
    received_at = models.DateTimeField()
    acknowledged_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "to-device message"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["inbox", "source"], name="to_device_once"),
            models.UniqueConstraint(fields=["inbox", "position"], name="to_device_in_order"),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["received_at"], condition=Q(acknowledged_at__isnull=False), name="to_device_acknowledged"
            ),
            # How much of an inbox one server has filled.
            models.Index(
                fields=["inbox", "origin"], condition=Q(acknowledged_at__isnull=True), name="to_device_by_origin"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} of {self.sender}"
