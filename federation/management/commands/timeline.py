"""`manage.py timeline`: what happened in a room, and with --follow what happens."""

import json
import time
from typing import Any

from django.core.management.base import CommandParser
from rich.text import Text

from federation.management.acting import InRoom
from rooms.models import Event, Gap, Room
from rooms.timeline import after, latest
from rooms.wording import happened, moment, shown

FOLLOW_SECONDS = 0.25
"""How often the room is looked at while it is followed."""


class Command(InRoom):
    """Prints a room's line."""

    help = "Show the last events of a room in words: position, time (UTC), sender, what happened."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        start = parser.add_mutually_exclusive_group()
        start.add_argument("--limit", type=int, default=50, help="how many events to begin with (%(default)s)")
        start.add_argument("--all", action="store_true", help="begin with the first event")
        start.add_argument("--after", type=int, metavar="POSITION", help="begin after this position")
        parser.add_argument("--follow", action="store_true", help="go on with new events until Ctrl-C")
        parser.add_argument("--json", action="store_true", help="one JSON object per event and line")

    def act(self, **options: Any) -> None:
        room = self.room(options["room"])
        show = self._show_json if options["json"] else self._show
        if options["after"] is not None:
            events = list(after(room, position=options["after"]))
        else:
            events = latest(room, limit=None if options["all"] else max(options["limit"], 0))
        if not options["json"]:
            self._tell_of_gaps(room, events)
        for event in events:
            show(event)
        if options["follow"]:
            last = events[-1].position if events else options["after"] or room.head_position
            self._follow(room, last or 0, show)

    def _follow(self, room: Room, position: int, show: Any) -> None:
        try:
            while True:
                for event in after(room, position=position):
                    show(event)
                    position = event.position or position
                time.sleep(FOLLOW_SECONDS)
        except KeyboardInterrupt:
            return

    def _tell_of_gaps(self, room: Room, events: list[Event]) -> None:
        first = events[0].position if events else None
        for gap in Gap.objects.filter(room=room, before_position__gte=first or 0).order_by("before_position"):
            reason = f" ({shown(gap.last_error)})" if gap.last_error else ""
            self.screen.print(f"What came before {gap.before_position} is still to be fetched{reason}.", style="yellow")

    def _show(self, event: Event) -> None:
        line = Text()
        line.append(f"{event.position:>6}  ", "dim")
        made_at = moment(event.origin_server_ts)
        line.append(f"{made_at:%Y-%m-%d %H:%M:%S}  " if made_at else f"{'(no such time)':<19}  ", "dim")
        line.append(f"{event.sender}  ", "cyan")
        line.append(happened(event), "" if event.state_key is None else "italic")
        if event.verdict != Event.Verdict.ACCEPTED:
            line.append(f"  [{event.verdict}{f': {shown(event.reason)}' if event.reason else ''}]", "red")
        self.screen.print(line)

    def _show_json(self, event: Event) -> None:
        self.screen.print(
            json.dumps(
                {
                    "position": event.position,
                    "event_id": event.event_id,
                    "verdict": event.verdict,
                    "happened": happened(event),
                    "event": json.loads(event.json),
                }
            )
        )
