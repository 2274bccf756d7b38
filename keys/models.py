"""Other servers' signing keys and how asking for them went. Our own key is a file, never a row."""

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
