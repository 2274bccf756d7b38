"""On a participant: how long until a message that is sent comes back from the hub and stands in our own line."""

import time

from django.conf import settings

from federation.handshakes import join
from federation.sending import outcome, send_event
from rooms.models import Event

ECHO_SECONDS = 30.0
POLL_SECONDS = 0.002
PAUSE_SECONDS = 0.1
"""Between an echo and the next message: acknowledgements are through by then, and both servers are at rest."""

WARM_UP = 5


def enter(room_id: str, via: str) -> None:
    """Join our user to a room of that hub."""
    join(room_id=room_id, user_id=_user(), via=via)


def measure(room_id: str, messages: int) -> list[float]:
    """Seconds from sending to echo, for messages sent one at a time."""
    return [_echo(room_id, number) for number in range(WARM_UP + messages)][WARM_UP:]


def _echo(room_id: str, number: int) -> float:
    time.sleep(PAUSE_SECONDS)
    begun = time.monotonic()
    sent = send_event(
        room_id=room_id,
        sender=_user(),
        type="m.room.message",
        content={"msgtype": "m.text", "body": f"Message {number}"},
    )
    echo = Event.objects.filter(room_id=room_id, lpdu_id=sent.lpdu_id, position__isnull=False)
    while not echo.exists():
        if time.monotonic() - begun > ECHO_SECONDS:
            raise RuntimeError(f"no echo within {ECHO_SECONDS:.0f} s: {outcome(room_id, sent.lpdu_id)}")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - begun


def _user() -> str:
    return f"@user:{settings.SERVER_NAME}"
