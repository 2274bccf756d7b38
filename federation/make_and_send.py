"""Finding the hub of a room that we are not in, and asking it for a template (draft, "Make and Send Handshake").

Decisions 88 to 90, 98. Nothing tells where a room is hosted, so servers are asked in turn: one that a person
named, the one that sent an invite, the hub of a room that we knew, the one in the room's id; each may point to
another. The hub's template tells whether it would take the membership and which room version it is; the event
that we sign is made here, from nothing else of it (threat T73).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils import timezone

from federation import paths
from federation.client import Answer, federation_client
from keys.local import signing_key
from linmatrix.protocol.completion import make_lpdu
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.events import Lpdu
from linmatrix.protocol.identifiers import domain_of, is_server_name
from linmatrix.protocol.room_versions import ROOM_VERSIONS
from linmatrix.transport.errors import TransportError
from rooms.hub import member_event
from rooms.models import PendingInvite, Room


class HandshakeFailed(Exception):
    """A membership that was not reached; the message is for the person who asked.

    `status` is the HTTP status of the refusal, 0 where no server gave an answer that could be used.
    """

    def __init__(self, reason: str, *, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Wish:
    """A membership that a user of ours wants in a room that we are not in.

    `version` is the room's version as far as we know it, for hubs whose templates do not tell (decision 88).
    """

    membership: str
    room_id: str
    user_id: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Template:
    """A hub's yes to a wish: where it came from, and the version of the room."""

    hub: str
    version: str


def find_template(wish: Wish, *, via: str = "") -> Template:
    """Ask wherever the room's hub may be; `via` names a server to ask first.

    Raises `Malformed` when `via` is no server name, `HandshakeFailed` with what every server said.
    """
    if via and not is_server_name(via):
        raise Malformed(f"{via[:60]!r} is not a server name")
    seen = {settings.SERVER_NAME}
    failures: list[HandshakeFailed] = []
    for server in _candidates(wish, via):
        if server not in seen:
            try:
                return template_of(server, wish, seen=seen)
            except HandshakeFailed as failure:
                failures.append(failure)
    if not failures:
        raise HandshakeFailed(f"no server is known that may host {wish.room_id}")
    raise HandshakeFailed("; ".join(map(str, failures)), status=max(failure.status for failure in failures))


def _candidates(wish: Wish, via: str) -> Iterator[str]:
    """Servers that may be the room's hub, likeliest first (decision 98)."""
    invited = PendingInvite.objects.filter(room_id=wish.room_id, user_id=wish.user_id)
    known = Room.objects.filter(room_id=wish.room_id)
    yield from (via,) if via else ()
    yield from invited.values_list("hub_server", flat=True)
    yield from known.values_list("hub_server", flat=True)
    yield domain_of(wish.room_id)


def template_of(server: str, wish: Wish, *, seen: set[str] | None = None) -> Template:
    """Ask one server, and where that names another one as hub, that one.

    `seen` are servers that have been asked, or are not to be; those asked now are added. Raises `HandshakeFailed`.
    """
    seen = {settings.SERVER_NAME} if seen is None else seen
    for hints_left in range(settings.LIMITS.hub_hints, -1, -1):  # decision 98, threat T75
        seen.add(server)
        answer = _ask(server, wish, versions=ROOM_VERSIONS)
        if answer.status == 200:
            return Template(server, _checked_version(answer.content or {}, server, wish))
        hint = (answer.content or {}).get("hub_server")
        if not hints_left or answer.errcode != "M_WRONG_SERVER" or not is_server_name(hint) or hint in seen:
            break
        server = str(hint)
    raise HandshakeFailed(f"{server} refused: {answer}", status=answer.status)


def _ask(server: str, wish: Wish, *, versions: Iterable[str]) -> Answer:
    match wish.membership:
        case "join":
            target = paths.make_join(wish.room_id, wish.user_id, versions=versions)
        case "knock":
            target = paths.make_knock(wish.room_id, wish.user_id, versions=versions)
        case _:
            target = paths.make_leave(wish.room_id, wish.user_id)
    try:
        return federation_client().call(
            server,
            "GET",
            target,
            stable=True,
            timeout=settings.LIMITS.handshake_seconds,
            max_response_bytes=settings.LIMITS.handshake_answer_bytes,
        )
    except TransportError as error:
        raise HandshakeFailed(f"{server}: {error.reason}") from None


def _checked_version(content: dict[str, Any], server: str, wish: Wish) -> str:
    """The room's version, from a template that is for what was asked for (decisions 88, 89).

    Bare and wrapped templates are taken. A version that is named nowhere is found by asking for one at a time.
    """
    event = content["event"] if isinstance(content.get("event"), dict) else content
    inner = event.get("content")
    expected = {"type": "m.room.member", "sender": wish.user_id, "state_key": wish.user_id}
    matches = all(event.get(field) == value for field, value in expected.items())
    if not matches or not isinstance(inner, dict) or inner.get("membership") != wish.membership:
        raise HandshakeFailed(f"{server} answered with a template for something else")
    if event.get("room_id", wish.room_id) != wish.room_id:
        raise HandshakeFailed(f"{server} answered with a template for another room")
    version = content.get("room_version")
    if version is None:
        version = wish.version or _version_by_asking(server, wish)
    if not isinstance(version, str) or version not in ROOM_VERSIONS:
        raise HandshakeFailed(f"{server} hosts a room of version {str(version)[:60]!r}, which is not supported here")
    return version


def _version_by_asking(server: str, wish: Wish) -> str:
    """The version with which alone the server gives a template; an empty string when there is none, and for a leave,
    which is asked for without any."""
    if wish.membership == "leave":
        return ""
    for version in ROOM_VERSIONS:
        if _ask(server, wish, versions=[version]).status == 200:
            return version
    return ""


def lpdu_for(template: Template, wish: Wish, *, reason: str = "") -> Lpdu:
    """The signed event that a template is asked for. Raises `TooLarge` for a `reason` that no event can hold."""
    event = member_event(
        room_id=wish.room_id,
        sender=wish.user_id,
        user_id=wish.user_id,
        membership=wish.membership,
        now=timezone.now(),
        reason=reason,
    )
    return make_lpdu(event, hub_server=template.hub, key=signing_key())


def post(
    template: Template,
    target: paths.Paths,
    content: dict[str, Any],
    *,
    timeout: float | None = None,
    max_response_bytes: int | None = None,
) -> dict[str, Any]:
    """The second half of a handshake; the hub's answer. Raises `HandshakeFailed`.

    The limits `handshake_seconds` and `handshake_answer_bytes` hold where no others are given.
    """
    try:
        answer = federation_client().call(
            template.hub,
            "POST",
            target,
            stable=paths.uses_stable_paths(template.version),
            content=content,
            timeout=timeout or settings.LIMITS.handshake_seconds,
            max_response_bytes=max_response_bytes or settings.LIMITS.handshake_answer_bytes,
        )
    except TransportError as error:
        raise HandshakeFailed(f"{template.hub}: {error.reason}") from None
    if answer.status != 200:
        raise HandshakeFailed(f"{template.hub} refused: {answer}", status=answer.status)
    return answer.content or {}
