"""Doing something in a room: a form, where needed a confirmation, the verb, and what came of it.

A form acts once (`once`). What refuses is told at the form, in words, and nothing has changed then. What was done is in
the admin log. What is sent to a hub elsewhere is not decided yet: a page waits for it.
"""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.admin.utils import unquote
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from federation.acting_in_rooms import REFUSALS, reason_of
from federation.sending import Sent, outcome
from linmatrix.console.rooms import once
from linmatrix.console.rooms.actions import ELSEWHERE, IN_ROOM, Action, Done
from linmatrix.console.rooms.frame import MAX_QUERY_LENGTH, crumbs, room_or_404, room_page, show, title_of, url
from linmatrix.pages import Crumb, ask
from linmatrix.protocol.identifiers import is_event_id
from rooms.models import Event, Room
from rooms.wording import shown

CONFIRMED = "confirmed"
"""The hidden field that says that what cannot be taken back was confirmed."""

LOG_LENGTH = 200
"""Characters of an object's name in the admin log."""


def _act_in_room(request: HttpRequest, key: str, name: str) -> HttpResponse:
    """An action in a room that we know."""
    action = IN_ROOM.get(unquote(name))
    if action is None:
        raise Http404
    if not request.user.has_perm("rooms.view_room") or not action.allowed(request):
        raise PermissionDenied
    room = room_or_404(key)
    return _Attempt(request, action, room).answer()


def _enter(request: HttpRequest, name: str) -> HttpResponse:
    """An action about a room that we need not know."""
    action = ELSEWHERE.get(name)
    if action is None:
        raise Http404
    if not action.allowed(request):
        raise PermissionDenied
    return _Attempt(request, action, None).answer()


act_in_room = admin.site.admin_view(_act_in_room)
enter = admin.site.admin_view(_enter)


class _Attempt:
    """One request for an action's form."""

    def __init__(self, request: HttpRequest, action: Action, room: Room | None) -> None:
        self.request, self.action, self.room = request, action, room
        data = request.POST if request.method == "POST" else None
        given = {name: value[:MAX_QUERY_LENGTH] for name, value in request.GET.items()}
        self.form = action.form(data, room=room, initial=given)

    def answer(self) -> HttpResponse:
        """The form, the confirmation, or a redirection to what came of it."""
        if self.request.method != "POST" or not self.form.is_valid():
            return self._ask()
        if self.action.final and CONFIRMED not in self.request.POST:
            return self._confirm()
        token = self.request.POST.get(once.FIELD, "")[: once.MAX_LENGTH]
        if not token:
            self.form.add_error(None, "The form was sent incomplete. Send it again.")
            return self._ask()
        if not once.claim(self.request, token):
            messages.warning(self.request, "This form was sent already. Nothing was done a second time.")
            return HttpResponseRedirect(self._back())
        return self._do()

    def _do(self) -> HttpResponse:
        fields = self.form.cleaned_data
        about = {"room_id": self.room.room_id} if self.room else {}
        try:
            done = self.action.act(**about, **fields)
        except Room.DoesNotExist:
            self.form.add_error(None, "This server does not know that room.")
        except REFUSALS as refusal:
            self.form.add_error(None, f"Not done: {reason_of(refusal)}")
        else:
            room_id = done.room_id if isinstance(done, Room) else about.get("room_id") or fields["room_id"]
            self._log(room_id, done)
            return HttpResponseRedirect(self._told(room_id, done))
        return self._ask()

    def _told(self, room_id: str, done: Done) -> str:
        """Tell what came of it; where to go then."""
        known = Room.objects.filter(pk=room_id).exists()
        there = url("room", room_id) if known else reverse("admin:rooms_pendinginvite_changelist")
        if isinstance(done, str):
            messages.success(self.request, done)
        elif isinstance(done, Sent) and done.lpdu_id and not done.event_id and not done.taken:
            return url("sent", room_id, done.lpdu_id)
        elif isinstance(done, Sent) and done.taken:
            later = "" if done.lpdu_id else " It counts here; the hub is told as soon as it can be reached."
            messages.success(self.request, f"{self._words()}.{later}")
        else:
            messages.success(self.request, f"{self._words()}.")
        return there

    def _words(self) -> str:
        return self.action.told.format(**{name: shown(value) for name, value in self.form.cleaned_data.items()})

    def _log(self, room_id: str, done: Done) -> None:
        message = done if isinstance(done, str) else f"{self._words()}."
        if isinstance(done, Sent) and (sent := done.event_id or done.lpdu_id):
            message += f" {sent}"
        assert self.request.user.pk is not None  # who has a permission has logged in
        LogEntry.objects.create(
            user_id=self.request.user.pk,
            content_type=ContentType.objects.get_for_model(Room),
            object_id=room_id,
            object_repr=room_id[:LOG_LENGTH],
            action_flag=ADDITION if isinstance(done, Room) else CHANGE,
            change_message=message,
        )

    def _back(self) -> str:
        return url("room", self.room.room_id) if self.room else reverse("admin:rooms_room_changelist")

    def _crumbs(self) -> list[Crumb]:
        return crumbs(self.room) if self.room else [Crumb("Rooms", reverse("admin:rooms_room_changelist"))]

    def _ask(self) -> HttpResponse:
        return self._page(form=self.form, lead=self.action.lead, points=self._points(), hidden={})

    def _confirm(self) -> HttpResponse:
        """The same once more, with nothing left to fill in."""
        hidden = {bound.html_name: str(bound.value()) for bound in self.form if bound.value() is not None}
        told = [(bound.label, shown(self.form.cleaned_data[bound.name])) for bound in self.form]
        points = [f"{label}: {value}" for label, value in told if value]
        final = [self.action.final, *points, *self._points()]
        return self._page(form=None, lead="Do it?", points=final, hidden={**hidden, CONFIRMED: "yes"}, danger=True)

    def _points(self) -> list[str]:
        if self.room is None or self.room.role == Room.Role.HUB or "sender" not in self.form.fields:
            return []
        return [f"{shown(self.room.hub_server)} hosts the room: what you send goes there, and it decides."]

    def _page(self, *, hidden: dict[str, str], danger: bool = False, **more: Any) -> HttpResponse:
        title = f"{self.action.title}: {title_of(self.room)}" if self.room else self.action.title
        return ask(
            self.request,
            title=title,
            submit=self.action.title,
            back=self._back(),
            hidden={once.FIELD: once.token(), **hidden},
            danger=danger,
            crumbs=self._crumbs(),
            **more,
        )


@room_page("rooms.view_event")
def sent(request: HttpRequest, room: Room, lpdu_key: str) -> HttpResponse:
    """What became of something that was sent to the room's hub; the page looks again until that is decided."""
    lpdu_id = unquote(lpdu_key)
    if not is_event_id(lpdu_id):
        raise Http404
    result = outcome(room.room_id, lpdu_id)
    rejected = result.verdict == Event.Verdict.REJECTED
    return show(
        request,
        room,
        "sent",
        tab="timeline",
        lpdu_id=lpdu_id,
        refused=shown(result.refused, limit=500),
        set_aside=shown(result.set_aside, limit=500),
        settled=result.settled,
        rejected=rejected,
        event_url=url("event", room.room_id, result.event_id) if result.event_id else "",
    )
