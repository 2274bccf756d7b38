"""Our side of a conversation with the fakes of other implementations: what workers would do, step by step."""

import json
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from federation import gaps
from federation.client import federation_client
from federation.delivery import Outcome, deliver, over_http, step
from federation.models import Destination
from federation.sending import Sent, send_event
from rooms.models import Event, Finding, Gap
from rooms.state import members

ALICE = "@alice:hub.example.org"
BOB = "@bob:hub.example.org"


def carry(server: str) -> None:
    """Send all that waits for a server, as a worker does that is woken."""
    deliver(server, send=over_http(federation_client()))


class Worker:
    """A worker with a clock that goes to the next attempt."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.now = timezone.now()

    def clock(self) -> datetime:
        return self.now

    def run(self, *, most: int = 200) -> None:
        """Step until nothing waits."""
        for _ in range(most):
            due = Destination.objects.values_list("next_attempt", flat=True).get(server=self.server)
            self.now = max(self.now + timedelta(milliseconds=100), due or self.now)
            send = over_http(federation_client())
            if step(self.server, holder="worker", send=send, clock=self.clock, chance=lambda: 0.0) is Outcome.DRAINED:
                return
        raise AssertionError("it goes on and on")


def say(room_id: str, body: str, *, sender: str = ALICE) -> Sent:
    """Send a message of a user of ours."""
    return send_event(room_id=room_id, sender=sender, type="m.room.message", content={"body": body})


def fill_gaps() -> list[gaps.Progress]:
    """Fetch history, as a worker does that is woken for it."""
    return [gaps.fill_gap(pk) for pk in Gap.objects.values_list("pk", flat=True)]


def our_line(room_id: str, *, accepted: bool = False) -> list[str]:
    """The ids of our copy of a line, or of what of it takes effect."""
    events = Event.objects.filter(room_id=room_id, position__isnull=False).order_by("position")
    return list((events.filter(verdict="accepted") if accepted else events).values_list("event_id", flat=True))


def our_messages(room_id: str) -> list[str]:
    """The texts of the messages in our copy of a line that take effect."""
    return [event["content"].get("body") for event in our_events(room_id) if event["type"] == "m.room.message"]


def our_events(room_id: str) -> list[dict[str, Any]]:
    """The events of our copy of a line that take effect."""
    texts = Event.objects.filter(room_id=room_id, position__isnull=False, verdict="accepted").order_by("position")
    return [json.loads(text) for text in texts.values_list("json", flat=True)]


def findings() -> list[str]:
    """What hubs did wrong."""
    return sorted(Finding.objects.values_list("kind", flat=True))


def membership_here(room_id: str, user_id: str) -> str | None:
    """A membership as we have it."""
    return members(room_id).get(user_id)
