"""What an operator can do about a server that we send to: each lever with its question, its permission and its verb."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib.admin.utils import quote
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from federation.blocking import block_list
from federation.models import Destination
from federation.pausing import pause, resume
from federation.retrying import forget_failures, retry_now
from keys.refetching import REFETCH, refetch
from linmatrix.pages import StyledForm
from linmatrix.row_levers import NotDone

MAX_REASON = 500
"""Characters of a reason, which is a note for other operators."""


class ReasonForm(StyledForm, forms.Form):
    """A note for other operators."""

    reason = forms.CharField(
        max_length=MAX_REASON, required=False, help_text="For other operators. The server is not told."
    )


@dataclass(frozen=True, slots=True)
class Lever:
    """Something that an operator does. `pull` takes the destination and what the form holds, says what was done, or
    raises `NotDone`. `at_once` is for what needs no question; `useful` says whether it would do anything."""

    name: str
    text: str
    icon: str
    permission: str
    pull: Callable[[Destination, Mapping[str, Any]], str]
    lead: str
    points: tuple[str, ...] = ()
    form: type[forms.Form] | None = None
    at_once: bool = True
    useful: Callable[[Destination], bool] = lambda _destination: True

    def allowed(self, request: HttpRequest) -> bool:
        """Whether the operator may pull it."""
        return request.user.has_perm(self.permission)


@dataclass(frozen=True, slots=True)
class Offer:
    """A lever as a button of a page: a POST to `url` when it is pulled at once, else a link to where it asks first."""

    text: str
    icon: str
    url: str
    at_once: bool = False


def offered(request: HttpRequest, destination: Destination) -> list[Offer]:
    """The levers that would do something and that the operator may pull."""
    return [
        Offer(lever.text, lever.icon, lever_url(destination, lever), lever.at_once)
        for lever in LEVERS
        if lever.allowed(request) and lever.useful(destination)
    ] + _blocking(request, destination)


def lever_url(destination: Destination, lever: Lever) -> str:
    """Where a lever of a destination is pulled."""
    return reverse("admin:federation_destination_lever", args=[quote(destination.pk), lever.name])


def _blocking(request: HttpRequest, destination: Destination) -> list[Offer]:
    if entry := block_list.entry_for(destination.server):
        may_look = request.user.has_perm("federation.view_blockedserver")
        shown = reverse("admin:federation_blockedserver_change", args=[quote(entry)])
        return [Offer("Blocked: see why", "block", shown)] if may_look else []
    if not request.user.has_perm("federation.add_blockedserver"):
        return []
    add = reverse("admin:federation_blockedserver_add")
    return [Offer("Block server", "block", f"{add}?{urlencode({'servers': destination.server})}")]


def _retry(destination: Destination, _given: Mapping[str, Any]) -> str:
    _refuse_held(destination)
    retry_now(destination.server)
    return "Tried again at once."


def _reset(destination: Destination, _given: Mapping[str, Any]) -> str:
    forget_failures(destination.server)
    return "Reset the back-off; what waits is due now."


def _pause(destination: Destination, given: Mapping[str, Any]) -> str:
    if not pause(destination.server, reason=given["reason"], now=timezone.now()):
        raise NotDone(f"{destination} is paused already.")
    return f"Paused. {given['reason']}".strip()


def _resume(destination: Destination, _given: Mapping[str, Any]) -> str:
    if not resume(destination.server):
        raise NotDone(f"{destination} is not paused.")
    return "Resumed."


def _refetch(destination: Destination, _given: Mapping[str, Any]) -> str:
    if block_list.blocks(destination.server):
        raise NotDone(f"{destination} is blocked, and is not asked for anything.")
    if error := refetch({destination.server}).get(destination.server):
        raise NotDone(f"No keys from {destination}: {error}")
    return "Asked for its keys, and got them."


def _refuse_held(destination: Destination) -> None:
    if block_list.blocks(destination.server):
        raise NotDone(f"{destination} is blocked.")
    if destination.paused_at is not None:
        raise NotDone(f"{destination} is paused: resume it first.")


def _waits(destination: Destination) -> bool:
    return destination.paused_at is None and not block_list.blocks(destination.server)


LEVERS = (
    Lever(
        "retry",
        "Retry now",
        "refresh",
        "federation.retry_destination",
        _retry,
        "What waits for the server is tried once, now.",
        ("When that fails, the next wait is as long as it would be anyway.",),
        useful=lambda destination: destination.next_attempt is not None and _waits(destination),
    ),
    Lever(
        "reset",
        "Reset back-off",
        "restart_alt",
        "federation.retry_destination",
        _reset,
        "The server is treated as if it had never failed.",
        ("What waits for it is tried at once.", "Should that fail, waits begin with a second again."),
        useful=lambda destination: destination.failures > 0,
    ),
    Lever(
        "pause",
        "Pause",
        "pause",
        "federation.pause_destination",
        _pause,
        "Transactions for the server are held back from the next one on. One that is under way ends first.",
        (
            "Nothing is lost: what waits is sent when you resume, from where it was left.",
            "The server may send and read as ever. Joins, invites and history are still asked of it.",
        ),
        form=ReasonForm,
        at_once=False,
        useful=lambda destination: destination.paused_at is None,
    ),
    Lever(
        "resume",
        "Resume",
        "play_arrow",
        "federation.pause_destination",
        _resume,
        "Transactions go on where they were left.",
        useful=lambda destination: destination.paused_at is not None,
    ),
    Lever(
        "refetch",
        "Refetch keys",
        "key",
        REFETCH,
        _refetch,
        "The server is asked for its keys now, whenever it was asked last.",
        useful=lambda destination: not block_list.blocks(destination.server),
    ),
)
