"""Deleting rows that nothing needs any more, so that nobody has to wait for it.

Rows go in batches, each a short transaction of its own. A row that somebody else holds is left for the next time
instead of being waited for. What is left over when the time is up is for the next time as well.
"""

import time
from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

BATCH = 500
"""Rows of one transaction: some milliseconds, and few locks."""

SECONDS = 120.0
"""How long one kind of rows is deleted at a stretch: a worker's thread has other things to do."""


def prune(
    rows: "QuerySet[Any]",
    *,
    oldest_first: str,
    along: "Callable[[list[Any]], object] | None" = None,
    seconds: float = SECONDS,
) -> int:
    """Delete the rows of a queryset, those first that are lowest in the field `oldest_first`; how many there were.

    `along` is called with each batch's primary keys before it is deleted, in its transaction. RuntimeError inside of a
    transaction, where the locks of all batches would be held to its end.
    """
    ends = time.monotonic() + seconds
    deleted = 0
    while True:
        with transaction.atomic(durable=True):
            unlocked = rows.select_for_update(skip_locked=True, of=("self",)).order_by(oldest_first)
            batch = list(unlocked.values_list("pk", flat=True)[:BATCH])
            if along is not None:
                along(batch)
            rows.model._default_manager.filter(pk__in=batch).delete()
        deleted += len(batch)
        if len(batch) < BATCH or time.monotonic() > ends:
            return deleted
