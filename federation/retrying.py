"""Trying servers again before their time: what a request of theirs brings about, and an operator's levers.

Three things wait for a server that did not answer: transactions (`Destination`), history that we want of it (`Gap`) and
leaves that it has not heard of (`PendingLeave`). Each has a time for its next attempt, and that is what is changed
here; leases are not, so nobody is disturbed who delivers or tells right now.
"""

import time
from functools import partial

from django.db import transaction
from django.utils import timezone

from federation.models import Destination, PendingLeave
from federation.wake import alarm_clock
from rooms.models import Gap

RESET_SECONDS = 5.0
"""A process looks at most this often whether a peer that sends us requests is being backed off from."""

MAX_RETRIED = 500
"""Servers taken up at once when a glob is unblocked; the sweep takes up the others in their time."""

_last_reset_check: dict[str, float] = {}
_MAX_RESET_CHECKS = 10_000  # peers remembered; forgetting them costs one statement each


def reset_backoff(server: str) -> None:
    """Try a server again that was not reachable: an authenticated request of its has arrived.

    Cheap enough for every request: mostly it does nothing, and every few seconds it is three conditional UPDATEs.
    """
    now = time.monotonic()
    if now - _last_reset_check.get(server, -RESET_SECONDS) < RESET_SECONDS:
        return
    if len(_last_reset_check) >= _MAX_RESET_CHECKS:
        _last_reset_check.clear()
    _last_reset_check[server] = now
    forget_failures(server)


def forget_failures(server: str) -> None:
    """Begin anew with a server, as if it had never failed: whatever waits is due, and further failures are counted
    from one."""
    failing = Destination.objects.filter(server=server, failures__gt=0, next_attempt__isnull=False)
    if failing.update(failures=0, next_attempt=None):
        transaction.on_commit(partial(alarm_clock.wake, [server]))
    # The sweep takes these up: history that a hub did not give while it was away, and leaves that it did not hear of.
    Gap.objects.filter(room__hub_server=server, failures__gt=0).update(failures=0, next_attempt=timezone.now())
    PendingLeave.objects.filter(hub_server=server, failures__gt=0).update(failures=0, next_attempt=timezone.now())


def retry_now(server: str) -> None:
    """Have what waits for a server tried once, now. When that fails, the wait after it is as long as it would be
    anyway."""
    Destination.objects.filter(server=server, next_attempt__isnull=False).update(next_attempt=None)
    Gap.objects.filter(room__hub_server=server, failures__gt=0).update(next_attempt=timezone.now())
    PendingLeave.objects.filter(hub_server=server, failures__gt=0).update(next_attempt=timezone.now())
    transaction.on_commit(partial(alarm_clock.wake, [server]))


def retry_matching(pattern: str) -> None:
    """Begin anew with all servers whose names fit a regular expression of PostgreSQL's."""
    waiting = Destination.objects.filter(server__iregex=pattern, pending=True).values_list("server", flat=True)
    hubs = Gap.objects.filter(room__hub_server__iregex=pattern).values_list("room__hub_server", flat=True)
    leaves = PendingLeave.objects.filter(hub_server__iregex=pattern).values_list("hub_server", flat=True)
    servers = sorted({*waiting[:MAX_RETRIED], *hubs.distinct()[:MAX_RETRIED], *leaves.distinct()[:MAX_RETRIED]})
    for server in servers[:MAX_RETRIED]:
        forget_failures(server)
    alarm_clock.wake(servers[:MAX_RETRIED])
