"""Other servers' signing keys and how asking for them went; devices, our users' and others', and one-time keys.

Our own signing key is a file, never a row. Devices' keys are public: nothing here is a secret of anybody's.
"""

from typing import ClassVar

from django.db import models
from django.db.models import Q


class KeyResponse(models.Model):
    """What a server answered when asked for its keys, kept for as long as it is the last to list one of them."""

    server = models.TextField()
    json = models.TextField(db_comment="canonical JSON, which its signatures are about")
    notary = models.TextField(blank=True, default="", db_comment="who passed it on; empty: the server itself sent it")
    fetched_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["server"], name="key_response_by_server"),
            models.Index(fields=["fetched_at"], name="key_response_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.server} at {self.fetched_at:%Y-%m-%d %H:%M:%S}"


class ServerKey(models.Model):
    """A public key of another server, as the server itself published it or as a notary says that it did.

    Never overwritten but for its validity: old events need old keys, and a key id that suddenly means
    another key is a second row (decision 103). What a notary says has rows of its own, which are never current
    and so never good for a request (decision 68).
    """

    server = models.TextField()
    key_id = models.TextField()
    public_key = models.BinaryField(max_length=32)
    notary = models.TextField(blank=True, default="", db_comment="who vouches for it; empty: the server itself")
    valid_until_ts = models.BigIntegerField(db_comment="ms; the lesser of what was published and a week from fetching")
    expired_ts = models.BigIntegerField(null=True, blank=True, db_comment="ms; set for a key under old_verify_keys")
    current = models.BooleanField(db_comment="whether the last answer of the server listed it under verify_keys")
    fetched_at = models.DateTimeField(db_comment="when an answer last listed it")
    response = models.ForeignKey(
        KeyResponse, on_delete=models.PROTECT, related_name="keys", db_comment="the last answer that listed it"
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["server", "key_id", "public_key", "notary"], name="key_once_per_source"),
            models.UniqueConstraint(
                fields=["server", "key_id"], condition=Q(current=True), name="key_one_current_per_id"
            ),
            models.CheckConstraint(
                condition=Q(current=False) | Q(expired_ts__isnull=True), name="key_current_is_not_expired"
            ),
            models.CheckConstraint(condition=Q(current=False) | Q(notary=""), name="key_of_a_notary_is_not_current"),
        ]
        indexes: ClassVar = [models.Index(fields=["fetched_at"], name="key_by_age")]
        permissions: ClassVar = [
            ("rotate_signing_key", "Can let a new key sign for this server"),
            ("refetch_keys", "Can ask servers for their keys again"),
        ]

    def __str__(self) -> str:
        return f"{self.server} {self.key_id}"


class KeyFetch(models.Model):
    """That a server's keys are being asked for, or may not be asked for again yet: one row per server.

    All processes share it, so that many waiters make one request, and a server that is down is not asked
    again by every event that needs it. Written by `keys.leases` alone.
    """

    server = models.TextField(primary_key=True)
    asked_at = models.DateTimeField(null=True, blank=True, db_comment="when the last request began, or ended")
    lease_until = models.DateTimeField(null=True, blank=True, db_comment="a request is under way until then at most")
    failures = models.IntegerField(default=0, db_comment="failed requests since the last usable answer")
    last_error = models.TextField(default="", blank=True)

    class Meta:
        verbose_name_plural = "key fetches"
        indexes: ClassVar = [models.Index(fields=["asked_at"], name="key_fetch_by_age")]

    def __str__(self) -> str:
        return self.server


class DeviceList(models.Model):
    """How often a local user's devices have changed; the row whose lock puts the changes in their order."""

    user_id = models.TextField(primary_key=True)
    stream_id = models.BigIntegerField(default=0, db_comment="number of the last change; never goes back")

    def __str__(self) -> str:
        return self.user_id


class Device(models.Model):
    """A local user's device. One that was removed leaves its id behind, until every server that heard of it must
    have been told (`keys.devices.housekeeping`)."""

    user_id = models.TextField()
    device_id = models.TextField()
    json = models.TextField(blank=True, db_comment="the object that it signed, canonical JSON; empty: it was removed")
    display_name = models.TextField(blank=True, default="")
    stream_id = models.BigIntegerField(db_comment="number of its last change among those of its user's devices")
    deleted = models.BooleanField(default=False)
    changed_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user_id", "device_id"], name="device_once"),
            models.UniqueConstraint(fields=["user_id", "stream_id"], name="device_changes_in_order"),
            models.CheckConstraint(
                condition=Q(deleted=False) & ~Q(json="") | Q(deleted=True, json="", display_name=""),
                name="device_removed_is_empty",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["changed_at"], condition=Q(deleted=True), name="device_removed_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.device_id} of {self.user_id}"


class OneTimeKey(models.Model):
    """A key of a local user's device that others may claim, in the order of upload.

    A key that was given away stays for a while, without content: so it cannot come back, and its claims can be counted.
    Its id is free for another. One that may be given more than once is never claimed.
    """

    id = models.BigAutoField(primary_key=True, db_comment="the order of upload, in which keys are given away")
    user_id = models.TextField()
    device_id = models.TextField()
    algorithm = models.TextField()
    key_id = models.TextField()
    json = models.TextField(blank=True, db_comment="its value, canonical JSON; empty: it was given away")
    identity = models.BinaryField(
        max_length=64, db_comment="the same for the same key, whatever its id and however it is written"
    )
    reusable = models.BooleanField(default=False, db_comment="a last-resort or fallback key")
    expires_at = models.DateTimeField(null=True, blank=True)
    claimed_at = models.DateTimeField(null=True, blank=True)
    claimed_by = models.TextField(blank=True, default="", db_comment="the server that it was given to")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["user_id", "device_id", "algorithm", "key_id"],
                condition=Q(claimed_at__isnull=True),
                name="one_time_key_id_once",
            ),
            models.UniqueConstraint(fields=["user_id", "device_id", "algorithm", "identity"], name="one_time_key_once"),
            models.CheckConstraint(
                condition=Q(claimed_at__isnull=True, claimed_by="") & ~Q(json="")
                | Q(claimed_at__isnull=False, json="", reusable=False) & ~Q(claimed_by=""),
                name="one_time_key_given_once",
            ),
        ]
        indexes: ClassVar = [
            # What a claim looks for, in the order of upload.
            models.Index(
                fields=["user_id", "device_id", "algorithm", "reusable", "id"],
                condition=Q(claimed_at__isnull=True),
                name="one_time_key_to_give",
            ),
            # What a server has had of a device lately.
            models.Index(
                fields=["claimed_by", "user_id", "device_id", "claimed_at"],
                condition=Q(claimed_at__isnull=False),
                name="one_time_key_given",
            ),
            models.Index(
                fields=["claimed_at"], condition=Q(claimed_at__isnull=False), name="one_time_key_given_by_age"
            ),
            models.Index(
                fields=["expires_at"],
                condition=Q(expires_at__isnull=False, claimed_at__isnull=True),
                name="one_time_key_expiring",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.key_id} of {self.user_id} {self.device_id}"


class RemoteDeviceList(models.Model):
    """What we know of a user of another server: how their devices came to us, and whether to ask again."""

    user_id = models.TextField(primary_key=True)
    revision = models.BigIntegerField(default=0, db_comment="counts updates, so that an older answer is known as such")
    fetched_at = models.DateTimeField(null=True, blank=True, db_comment="when the whole list came; NULL: never yet")
    stale = models.BooleanField(default=False, db_comment="an update could not be taken: the list is to be fetched")
    changed_at = models.DateTimeField(db_comment="the last answer or update")
    next_attempt = models.DateTimeField(null=True, blank=True, db_comment="a stale list is not fetched before")
    failures = models.IntegerField(default=0, db_comment="attempts to fetch it since the last that succeeded")
    last_error = models.TextField(blank=True, default="")

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(stale=True, next_attempt__isnull=False)
                | Q(stale=False, next_attempt__isnull=True, failures=0, last_error=""),
                name="remote_devices_stale_are_due",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["next_attempt"], condition=Q(stale=True), name="remote_devices_due"),
            models.Index(fields=["changed_at"], name="remote_devices_by_age"),
        ]

    def __str__(self) -> str:
        return self.user_id


class RemoteDevice(models.Model):
    """A device of another server's user, as its server gave it and with valid signatures."""

    user = models.ForeignKey(RemoteDeviceList, on_delete=models.CASCADE, related_name="devices", db_index=False)
    device_id = models.TextField()
    json = models.TextField(db_comment="the object that it signed, canonical JSON")

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["user", "device_id"], name="remote_device_once")]

    def __str__(self) -> str:
        return f"{self.device_id} of {self.user_id}"
