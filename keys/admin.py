"""What an operator sees of keys: everything, and nothing of it can be edited. Servers say what their keys are.

The levers: asking servers for their keys again, forgetting that they did not answer, and letting a new key sign for
this server. The first two share a permission, the last has its own. Our private key is neither shown nor sent anywhere.
Devices of our users are in `keys.device_admin`.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from keys import leases, local, refetching
from keys.asking_again import RefetchingAdmin, log
from keys.clock import at, now_ms
from keys.device_admin import DeviceAdmin
from keys.key_file import NotTheSigningKey
from keys.models import KeyFetch, KeyResponse, ServerKey
from linmatrix.pages import Button, Crumb, ask, page
from linmatrix.protocol.encoding import encode_base64
from linmatrix.readonly_admin import ReadOnlyAdmin, list_link, pretty_json

__all__ = ["DeviceAdmin", "KeyFetchAdmin", "KeyResponseAdmin", "ServerKeyAdmin"]

ROTATE = "keys.rotate_signing_key"

MAX_FORGOTTEN = 200
"""Servers of one click whose failures are forgotten: a page of the list."""


@admin.register(ServerKey)
class ServerKeyAdmin(RefetchingAdmin):
    """Other servers' keys, current and past, with the answer that a key came with; and beside them our own."""

    list_display = (
        "server",
        "key_id",
        "public_key_base64",
        "current",
        "valid_until",
        "expired",
        "fetched_at",
        "source",
    )
    list_filter = ("current", ("notary", admin.EmptyFieldListFilter), "fetched_at")
    search_fields = ("server", "key_id")
    ordering = ("server", "-current", "key_id")
    fields = (*list_display, "answers", "response_json")

    @admin.display(description="public key")
    def public_key_base64(self, key: ServerKey) -> str:
        return encode_base64(bytes(key.public_key))

    @admin.display(description="valid until", ordering="valid_until_ts")
    def valid_until(self, key: ServerKey) -> datetime:
        return at(key.valid_until_ts)

    @admin.display(description="expired", ordering="expired_ts")
    def expired(self, key: ServerKey) -> datetime | None:
        return None if key.expired_ts is None else at(key.expired_ts)

    @admin.display(description="from", ordering="notary")
    def source(self, key: ServerKey) -> str:
        return f"the notary {key.notary}" if key.notary else "the server"

    @admin.display(description="see")
    def answers(self, key: ServerKey) -> SafeString:
        return list_link(KeyResponse, "all answers of the server that are kept", server=key.server)

    @admin.display(description="the server's answer")
    def response_json(self, key: ServerKey) -> SafeString | str:
        return pretty_json(key.response.json)

    def get_urls(self) -> list[URLPattern]:
        """The pages about our own keys besides those about others'."""
        own = [
            path("own/", self._page(self.own), name="keys_own"),
            path("own/rotate/", self._page(self.rotate), name="keys_rotate"),
        ]
        return [*own, *super().get_urls()]

    def _page(self, view: Callable[[HttpRequest], HttpResponse]) -> Callable[..., Any]:
        return self.admin_site.admin_view(view)

    def own(self, request: HttpRequest) -> HttpResponse:
        """Our own keys, current and old."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        keys = local.own_keys()
        may_rotate = request.user.has_perm(ROTATE)
        rows = [[old.key_id, _public(old.public_key), f"{at(old.expired_ts):%Y-%m-%d %H:%M:%S}"] for old in keys.old]
        signing = [keys.signing.key_id, _public(keys.signing.public_key), "signs now"]
        return page(
            request,
            "admin/keys/own_keys.html",
            title="Keys of this server",
            crumbs=[_keys()],
            buttons=[Button("Rotate the signing key", reverse("admin:keys_rotate"), icon="autorenew")] * may_rotate,
            table={"headers": ["Key", "Public key", "Signed until (UTC)"], "rows": [signing, *rows]},
        )

    def rotate(self, request: HttpRequest) -> HttpResponse:
        """Ask whether to rotate, and on confirmation do so. The key that is replaced stands in the form: a form that is
        sent twice, or by two operators, rotates once."""
        if not request.user.has_perm(ROTATE):
            raise PermissionDenied
        if request.method != "POST":
            return self._ask_to_rotate(request)
        try:
            keys = local.rotate(replaced=request.POST.get("key_id", ""), now_ms=now_ms())
        except (NotTheSigningKey, ImproperlyConfigured) as error:
            self.message_user(request, f"The key was not rotated: {error}", messages.ERROR)
        else:
            log(request, keys.signing.key_id, f"Rotated the signing key {keys.old[0].key_id}.")
            self.message_user(request, f"This server signs with {keys.signing.key_id} now.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:keys_own"))

    def _ask_to_rotate(self, request: HttpRequest) -> HttpResponse:
        key_id = local.own_keys().signing.key_id
        return ask(
            request,
            title="Rotate the signing key?",
            lead=f"A new key signs from then on. {key_id} signs nothing more, and its private half is deleted: this "
            "cannot be undone.",
            points=(
                f"{key_id} stays published as an old key, so that events that it has signed stay valid.",
                "All processes of this server take the new key at once, without a restart.",
                "Other servers ask for it when they first meet it: nothing is to be done there.",
                "The key file changes. Back it up anew.",
            ),
            hidden={"key_id": key_id},
            submit=f"Rotate {key_id}",
            danger=True,
            back=reverse("admin:keys_own"),
            crumbs=[_keys(), Crumb("Keys of this server", reverse("admin:keys_own"))],
        )


def _keys() -> Crumb:
    return Crumb("Server keys", reverse("admin:keys_serverkey_changelist"))


def _public(key: bytes) -> SafeString:
    return format_html('<code class="lm-wrap">{}</code>', encode_base64(key))


@admin.register(KeyResponse)
class KeyResponseAdmin(ReadOnlyAdmin):
    """What servers answered, kept for as long as no later answer lists the same keys. We pass it on as a notary."""

    list_display = ("server", "fetched_at", "source", "key_ids")
    list_filter = (("notary", admin.EmptyFieldListFilter), "fetched_at")
    search_fields = ("server",)
    ordering = ("server", "-fetched_at")
    fields = (*list_display, "pretty")

    def get_queryset(self, request: HttpRequest) -> QuerySet[KeyResponse]:
        # Up to 64 KiB each, which a list does not show; a single page fetches its own.
        return super().get_queryset(request).defer("json").prefetch_related("keys")

    @admin.display(description="from", ordering="notary")
    def source(self, response: KeyResponse) -> str:
        return f"the notary {response.notary}" if response.notary else "the server"

    @admin.display(description="last to list")
    def key_ids(self, response: KeyResponse) -> str:
        return ", ".join(sorted(key.key_id for key in response.keys.all()))

    @admin.display(description="answer")
    def pretty(self, response: KeyResponse) -> SafeString | str:
        return pretty_json(response.json)


@admin.register(KeyFetch)
class KeyFetchAdmin(RefetchingAdmin):
    """How asking servers for their keys went in the last day: who did not answer is left alone for a while."""

    list_display = ("server", "asked_at", "failures", "left_alone_until", "last_error", "lease_until")
    list_filter = ("asked_at",)
    search_fields = ("server", "last_error")
    ordering = ("-failures", "server")
    fields = list_display
    readonly_fields = ("left_alone_until",)
    actions = (*RefetchingAdmin.actions, "forget")  # type: ignore[assignment]  # typed by the base

    @admin.display(description="left alone until")
    def left_alone_until(self, row: KeyFetch) -> datetime | None:
        """For events, whose keys are asked for most patiently."""
        if not row.asked_at or not row.failures:
            return None
        return row.asked_at + leases.FOR_EVENTS.pause(row.failures)

    @admin.action(description="Forget that they did not answer", permissions=["refetch"])
    def forget(self, request: HttpRequest, chosen: QuerySet[Any]) -> None:
        """Let the next who needs keys of these servers ask them."""
        servers = set(chosen.order_by().exclude(failures=0).values_list("server", flat=True)[:MAX_FORGOTTEN])
        number = refetching.forget_failures(servers)
        for server in sorted(servers):
            log(request, server, "Forgot that it did not answer when asked for its keys.")
        text = f"Of {number} servers it is forgotten that they did not answer. The next who needs their keys asks them."
        self.message_user(request, text, messages.SUCCESS)
