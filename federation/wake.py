"""Waking workers by messages, which may be lost: what there is to do stands in the database.

Messages are taken in their order, but for those of work that goes on and on: a worker that has sent a server what fits
into its turn, and has more, queues up again behind everybody who has just begun to wait. So a hundred servers that
catch up for hours hold up nobody else's message by more than a turn.

A message that cannot be published is logged and forgotten; the sweep finds the destination within seconds.
"""

import logging
import time
from collections.abc import Sequence

from celery import Celery
from kombu.exceptions import OperationalError

from linmatrix import celery

logger = logging.getLogger(__name__)

MAX_MESSAGES = 10
"""Messages that a process publishes itself; for more destinations one message has a worker wake them, so that a
request does not wait for thousands of them."""

QUIET_SECONDS = 5.0
"""After a failure nothing is published for as long as the sweep needs anyway: with a message broker that hangs,
every request would wait for its timeout."""


FIRST, BEHIND = 0, 9
"""Priorities of messages, as the Redis transport numbers them."""

QUEUES = ("celery", f"celery\x06\x16{BEHIND}")
"""The lists in Redis that messages wait in, one for each priority."""


class AlarmClock:
    """Publishes the wake-ups of one process."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._quiet_until = 0.0

    def wake(
        self, servers: Sequence[str], *, after: float = 0.0, expires: float | None = None, priority: int = FIRST
    ) -> None:
        """Have workers deliver to these servers, in `after` seconds; pointless and dropped after `expires` seconds.
        Never raises for a broker that cannot be reached."""
        if len(servers) > MAX_MESSAGES:
            self.publish("federation.tasks.wake_all", [list(servers)], after=after, expires=expires, priority=priority)
        else:
            self.publish("federation.tasks.deliver", servers, after=after, expires=expires, priority=priority)

    def publish(
        self,
        task: str,
        arguments: Sequence[object],
        *,
        after: float = 0.0,
        expires: float | None = None,
        priority: int = FIRST,
    ) -> None:
        """Have a task run for each of its arguments, unless the message is lost. Otherwise as `wake`."""
        if time.monotonic() < self._quiet_until:
            return
        try:
            for argument in arguments:
                self._app.send_task(task, args=[argument], countdown=after or None, expires=expires, priority=priority)
        except (OperationalError, OSError) as error:
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            logger.warning("cannot wake workers, the sweep will: %s", error)


alarm_clock = AlarmClock(celery.app)
"""The process's own."""
