"""How a peer wants to be spoken to, where implementations differ: its wire profile.

Decisions 3 and 65, and what existing implementations do. Most of it is learnt from a peer's answers at the price of
one refused request, and stands on the peer's `Destination` row, so that a restart does not forget it and one process
tells the others. The timeline form of a join's state cannot be learnt, because the peer that needs it fails without
saying so: an operator sets it.

Every request asks for the profile, so each process remembers profiles for a while and reads the row only when what it
remembers is older than `STALE_SECONDS`. A worker that delivers reads the row anyway and passes it on (`note`).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction

from federation.models import Destination

STALE_SECONDS = 60.0
"""What another process has learnt, or an operator has set, is known everywhere after a minute. Meanwhile a request
in the old form costs a second one, and nothing else."""

FIELDS = ("stable_paths", "signs_without_content", "max_body_bytes", "single_events", "timeline_state")
"""The columns of `Destination` that are the profile."""


@dataclass(frozen=True, slots=True)
class WireProfile:
    """What is known of a peer; None where nothing is known yet.

    `stable_paths` says which of two path forms it serves (decision 3), `signs_without_content` how requests without
    a body are signed (decision 65). `max_body_bytes` is the largest body for it, `single_events` that a transaction
    may hold one event only, `timeline_state` that `state` in an answer to its join holds the room's whole line.
    """

    stable_paths: bool | None = None
    signs_without_content: bool | None = None
    max_body_bytes: int | None = None
    single_events: bool = False
    timeline_state: bool = False


UNKNOWN = WireProfile()


class Profiles:
    """Profiles as one process remembers them. Safe for any number of threads.

    By itself it forgets with the process, which is for tools without a database; servers use `StoredProfiles`.
    `clock` gives seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, tuple[WireProfile, float]] = {}

    def of(self, server: str) -> WireProfile:
        """What is known of a server."""
        known = self._known.get(server)
        return known[0] if known else UNKNOWN

    def learn(self, server: str, **learnt: Any) -> None:
        """Remember some fields of a server's profile as they have turned out to be."""
        self._remember(server, replace(self.of(server), **learnt))

    def forget(self, server: str) -> None:
        """Look again when the server's profile is needed next."""
        self._known.pop(server, None)

    def _remember(self, server: str, profile: WireProfile) -> None:
        if len(self._known) >= settings.LIMITS.cached_profiles and server not in self._known:
            self._known.clear()
        self._known[server] = (profile, self._clock())


class StoredProfiles(Profiles):
    """Profiles that all processes share by means of `Destination`."""

    def of(self, server: str) -> WireProfile:
        known = self._known.get(server)
        if known and self._clock() - known[1] < STALE_SECONDS:
            return known[0]
        row = Destination.objects.filter(server=server).values(*FIELDS).first()
        profile = WireProfile(**row) if row else UNKNOWN
        self._remember(server, profile)
        return profile

    def learn(self, server: str, **learnt: Any) -> None:
        """Store what was learnt, after the transaction that is under way: no row is locked while others wait for a
        room, and the order of locks stays as it is. What cannot be stored is learnt again."""
        super().learn(server, **learnt)
        transaction.on_commit(partial(_store, server, learnt), robust=True)

    def note(self, destination: Destination) -> None:
        """Take the profile from a row that was read for another purpose."""
        profile = WireProfile(**{name: getattr(destination, name) for name in FIELDS})
        self._remember(destination.server, profile)


def _store(server: str, learnt: dict[str, Any]) -> None:
    """One statement; a peer that nothing was sent to so far gets its row."""
    Destination.objects.bulk_create(
        [Destination(server=server, **learnt)],
        update_conflicts=True,
        unique_fields=["server"],
        update_fields=list(learnt),
    )


profiles = StoredProfiles()
"""The process's own."""
