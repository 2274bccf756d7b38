"""`manage.py backfill`: the history that is missing, and fetching it now."""

from collections.abc import Callable
from typing import Any, TextIO, cast

from django.core.management.base import CommandParser

from federation import gaps
from federation.management.acting import Failed, InRoom
from federation.management.progress import shown_progress
from linmatrix.progress import OnProgress
from rooms.models import Gap, Room


class Command(InRoom):
    """Shows or fetches what is missing of a room's history."""

    help = "Fetch what is missing of a room's history from its hub, now instead of when it is due."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--show", action="store_true", help="only show what is missing, and how asking for it went")

    def act(self, **options: Any) -> None:
        room = self.room(options["room"])
        if options["show"]:
            self._show(room)
            return
        missing = list(Gap.objects.filter(room=room).order_by("-before_position").values_list("pk", flat=True))
        if not missing:
            self.screen.print("Nothing is missing.")
            return
        with shown_progress(cast(TextIO, self.stderr)) as progress:
            fetch = _counting(progress)
            for gap_id in missing:
                self._fill(gap_id, fetch)
        self.screen.print("The history is complete.")

    def _fill(self, gap_id: int, fetch: Callable[[Room, str], gaps.Page]) -> None:
        while (came := gaps.fill_gap(gap_id, fetch=fetch)) is gaps.Progress.MORE:
            pass
        if came is gaps.Progress.LATER:
            error = Gap.objects.filter(pk=gap_id).values_list("last_error", flat=True).first()
            raise Failed(f"The history cannot be fetched now; it will be tried again: {error}")

    def _show(self, room: Room) -> None:
        columns = ("before", "missing event", "next attempt (UTC)", "failures", "last error")
        rows = Gap.objects.filter(room=room).order_by("before_position")
        self.table(
            columns,
            [
                (
                    gap.before_position,
                    gap.missing_event_id,
                    f"{gap.next_attempt:%Y-%m-%d %H:%M:%S}",
                    gap.failures,
                    gap.last_error,
                )
                for gap in rows
            ],
        )


def _counting(progress: OnProgress) -> Callable[[Room, str], gaps.Page]:
    """Fetches pages and tells how many events came; how many are to come is not known."""
    fetched = 0

    def fetch(room: Room, event_id: str) -> gaps.Page:
        nonlocal fetched
        progress("fetching history", fetched)
        page = gaps.fetch_page(room, event_id)
        fetched += len(page.events)
        progress("fetching history", fetched)
        return page

    return fetch
