"""What an operator sees of keys: everything, and nothing of it can be edited. Servers say what their keys are.

Two levers: asking servers for their keys again, and letting a new key sign for this server. Both have a permission of
their own. Our private key is neither shown nor sent anywhere.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString

from keys import leases, local
from keys.clock import at, now_ms
from keys.key_file import NotTheSigningKey
from keys.keyring import keyring
from keys.models import KeyFetch, KeyResponse, ServerKey
from linmatrix.protocol.encoding import encode_base64
from linmatrix.readonly_admin import ReadOnlyAdmin, list_link, pretty_json

ROTATE = "keys.rotate_signing_key"
REFETCH = "keys.refetch_keys"

MAX_REFETCHED = 16
"""Servers asked by one click: all at the same time, so that the page comes back within twenty seconds."""


class RefetchingAdmin(ReadOnlyAdmin):
    """Rows with a `server` that can be asked for its keys again."""

    actions = ("refetch",)  # type: ignore[assignment]  # the base has none, which is not meant for ever

    def has_refetch_permission(self, request: HttpRequest) -> bool:
        """Whether the operator may have servers asked. Named as Django wants it for an action's permission."""
        return request.user.has_perm(REFETCH)

    @admin.action(description="Ask these servers for their keys again", permissions=["refetch"])
    def refetch(self, request: HttpRequest, chosen: QuerySet[Any]) -> None:
        """Ask now, without regard to when they were asked last, and say what came of it."""
        servers = set(chosen.order_by().values_list("server", flat=True).distinct()[: MAX_REFETCHED + 1])
        if len(servers) > MAX_REFETCHED:
            self.message_user(request, f"Choose at most {MAX_REFETCHED} servers at once.", messages.ERROR)
            return
        keyring().refresh(servers, patience=leases.FOR_OPERATOR)
        for fetch in KeyFetch.objects.filter(server__in=servers).order_by("server"):
            if fetch.last_error:
                self.message_user(request, f"No keys from {fetch.server}: {fetch.last_error}", messages.WARNING)
            else:
                self.message_user(request, f"Keys came from {fetch.server}.", messages.SUCCESS)


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
        return self._render(request, "admin/keys/own_keys.html", "Keys of this server")

    def rotate(self, request: HttpRequest) -> HttpResponse:
        """Ask whether to rotate, and on confirmation do so. The key that is replaced stands in the form: a form that is
        sent twice, or by two operators, rotates once."""
        if not request.user.has_perm(ROTATE):
            raise PermissionDenied
        if request.method != "POST":
            return self._render(request, "admin/keys/rotate.html", "Rotate the signing key?")
        try:
            keys = local.rotate(replaced=request.POST.get("key_id", ""), now_ms=now_ms())
        except (NotTheSigningKey, ImproperlyConfigured) as error:
            self.message_user(request, f"The key was not rotated: {error}", messages.ERROR)
        else:
            assert request.user.pk is not None  # who has a permission has logged in
            LogEntry.objects.create(
                user_id=request.user.pk,
                action_flag=CHANGE,
                object_repr=keys.signing.key_id,
                change_message=f"Rotated the signing key {keys.old[0].key_id}.",
            )
            self.message_user(request, f"This server signs with {keys.signing.key_id} now.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:keys_own"))

    def _render(self, request: HttpRequest, template: str, title: str) -> HttpResponse:
        keys = local.own_keys()
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "key_id": keys.signing.key_id,
            "public_key": encode_base64(keys.signing.public_key),
            "old": [(old.key_id, encode_base64(old.public_key), at(old.expired_ts)) for old in keys.old],
            "may_rotate": request.user.has_perm(ROTATE),
        }
        return TemplateResponse(request, template, context)


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
    """How asking servers for their keys went in the last day."""

    list_display = ("server", "asked_at", "failures", "last_error", "lease_until")
    list_filter = ("asked_at",)
    search_fields = ("server", "last_error")
    ordering = ("-failures", "server")
