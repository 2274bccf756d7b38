"""A message broker in memory: what is published to workers can be read, and no worker reads it.

It takes effect on import, which is at collection, before any test publishes something.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty

from linmatrix.celery import app

app.conf.broker_url = "memory://"

Messages = Callable[[], list[tuple[str, object]]]


@contextmanager
def published() -> Iterator[Messages]:
    """Gives the messages that were published since it was last asked, as (task, argument)."""
    with app.connection_for_read() as connection, connection.SimpleQueue("celery") as queue:
        queue.clear()

        def drain() -> list[tuple[str, object]]:
            messages: list[tuple[str, object]] = []
            while True:
                try:
                    message = queue.get(block=False)
                except Empty:
                    return messages
                message.ack()
                messages.append((message.headers["task"].removeprefix("federation.tasks."), message.payload[0][0]))

        yield drain
