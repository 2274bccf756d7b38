"""What an operator sees of keys: everything, and nothing can be changed. Servers say what their keys are."""

from datetime import datetime

from django.contrib import admin
from django.utils.safestring import SafeString

from keys.clock import at
from keys.models import KeyFetch, ServerKey
from linmatrix.protocol.encoding import encode_base64
from linmatrix.readonly_admin import ReadOnlyAdmin, pretty_json


@admin.register(ServerKey)
class ServerKeyAdmin(ReadOnlyAdmin):
    """Other servers' keys, with the answer that a key came with."""

    list_display = ("server", "key_id", "public_key_base64", "current", "valid_until", "expired", "fetched_at")
    list_filter = ("current", "fetched_at")
    search_fields = ("server", "key_id")
    ordering = ("server", "-current", "key_id")
    fields = (*list_display, "response_json")

    @admin.display(description="public key")
    def public_key_base64(self, key: ServerKey) -> str:
        return encode_base64(bytes(key.public_key))

    @admin.display(description="valid until", ordering="valid_until_ts")
    def valid_until(self, key: ServerKey) -> datetime:
        return at(key.valid_until_ts)

    @admin.display(description="expired", ordering="expired_ts")
    def expired(self, key: ServerKey) -> datetime | None:
        return None if key.expired_ts is None else at(key.expired_ts)

    @admin.display(description="the server's answer")
    def response_json(self, key: ServerKey) -> SafeString | str:
        return pretty_json(key.response.json)


@admin.register(KeyFetch)
class KeyFetchAdmin(ReadOnlyAdmin):
    """How asking servers for their keys went in the last day."""

    list_display = ("server", "asked_at", "failures", "last_error", "lease_until")
    list_filter = ("asked_at",)
    search_fields = ("server", "last_error")
    ordering = ("-failures", "server")
