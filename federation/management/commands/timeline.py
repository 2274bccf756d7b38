"""`manage.py timeline`: what happened in a room, and with --follow what happens."""

import json
import time
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandParser
from rich.text import Text

from federation.management.acting import InRoom
from rooms.models import Event, Gap, Room
from rooms.timeline import after, latest, number
from rooms.wording import happened, moment, shown

FOLLOW_SECONDS = 0.25
"""How often the room is looked at while it is followed."""

Show = Callable[[Event], None]


class Command(InRoom):
    """Prints a room's line."""

    help = "Show the last events of a room in words: number, time (UTC), sender, what happened."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        start = parser.add_mutually_exclusive_group()
        start.add_argument("--limit", type=int, default=50, help="how many events to begin with (%(default)s)")
        start.add_argument("--all", action="store_true", help="begin with the first event")
        start.add_argument("--after", type=int, metavar="POSITION", help="begin after this position (see --json)")
        parser.add_argument("--follow", action="store_true", help="go on with new events until Ctrl-C")
        parser.add_argument("--json", action="store_true", help="one JSON object per event and line")

    def act(self, **options: Any) -> None:
        room = self.room(options["room"])
        if options["after"] is not None:
            events = list(after(room, position=options["after"]))
        else:
            events = latest(room, limit=None if options["all"] else max(options["limit"], 0))
        show = self._show_json if options["json"] else self._in_words(room)
        for event in events:
            show(event)
        if options["follow"]:
            last = events[-1].position if events else options["after"] or room.head_position
            self._follow(room, last or 0, show)

    def _follow(self, room: Room, position: int, show: Show) -> None:
        try:
            while True:
                for event in after(room, position=position):
                    show(event)
                    position = event.position or position
                time.sleep(FOLLOW_SECONDS)
        except KeyboardInterrupt:
            return

    def _in_words(self, room: Room) -> Show:
        """Prints events as lines for people, numbered as they are in the room."""
        gaps = {gap.before_position: gap.last_error for gap in Gap.objects.filter(room=room)}
        next_number: int | None = None

        def show(event: Event) -> None:
            nonlocal next_number
            next_number = number(room, event) if next_number is None else next_number + 1
            if event.position in gaps:
                reason = f" ({shown(gaps[event.position])})" if gaps[event.position] else ""
                self.screen.print(f"What came before is still to be fetched{reason}.", style="yellow")
            self.screen.print(_line(next_number, event))

        return show

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


def _line(number: int, event: Event) -> Text:
    line = Text()
    line.append(f"{number:>6}  ", "dim")
    made_at = moment(event.origin_server_ts)
    line.append(f"{made_at:%Y-%m-%d %H:%M:%S}  " if made_at else f"{'(no such time)':<19}  ", "dim")
    line.append(f"{event.sender}  ", "cyan")
    line.append(happened(event), "" if event.state_key is None else "italic")
    if event.verdict != Event.Verdict.ACCEPTED:
        line.append(f"  [{event.verdict}{f': {shown(event.reason)}' if event.reason else ''}]", "red")
    return line
