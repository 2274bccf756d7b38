"""Servers that the operator has blocked: what they ask is refused, and we ask nothing of them.

*What stops.* Requests that they have signed are answered 403 M_FORBIDDEN as soon as the signature has been checked
(`federation.authentication`), whatever the endpoint: events, joins, knocks, reads, invites. Nothing is delivered to
them (`federation.delivery`, `federation.sweeping`), no request of ours goes to them, nor does their name reach the
resolver (`federation.client`, which every request passes). We invite nobody who is a user of theirs, and take no
invite by one.

*What goes on.* The endpoints about keys ask nobody who they are, so they stay open to all, as the draft wants them.
Rooms stay as they are: nothing is rewritten and nobody is removed. In a room that we host, their users stay members
until somebody bans them, and no event reaches their server or comes from it. A room that a blocked server hosts stands
still here; what our users say in it waits. In a room of another hub, events of their users are taken as that hub
places them in the line, which has no holes. For those their keys are needed, and fetched if they are not known: from
the server itself, or from notaries when it does not answer. That, and the same on behalf of whoever asks us about
their keys, is the one request that a blocked server may still get. docs/decisions/0010-what-blocking-a-server-stops.md
says why.

*What is kept.* Whatever waits for a blocked server waits on: cursors, queued LPDUs, frozen transactions, leaves.
When it is unblocked, they go on from there.

Every request asks, so each process remembers the list and reads it anew when it is older than `STALE_SECONDS`.
"""

import logging
import re
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import BooleanField, F, Func, Q

from federation.errors import ApiError
from federation.models import BlockedServer
from federation.retrying import retry_matching
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import is_server_name
from linmatrix.protocol.server_acl import Glob

logger = logging.getLogger(__name__)

STALE_SECONDS = 5.0
"""Until every process of this server knows what was blocked or unblocked."""

MAX_BLOCKED = 1000
"""Entries: each name that is met for the first time is compared with all of them."""

MAX_LENGTH = 253 + len(":65535")

MAX_REMEMBERED = 10_000
"""Names whose answer a process remembers between two looks at a list that has not changed."""

_GLOB = re.compile(r"[a-z0-9.*?-]+(:[0-9]{1,5})?")


class BlockList:
    """The blocked servers as one process remembers them. Safe for any number of threads. `clock` gives seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._globs: tuple[tuple[str, Glob], ...] = ()
        self._known: dict[str, str] = {}
        self._read_at = float("-inf")

    def blocks(self, server: str) -> bool:
        """Whether a server is blocked, as of `STALE_SECONDS` ago at the most."""
        return bool(self.entry_for(server))

    def entry_for(self, server: str) -> str:
        """The entry that blocks a server; empty when none does."""
        self._refresh()
        known = self._known  # a refresh replaces it as a whole
        entry = known.get(server)
        if entry is None:
            entry = next((entry for entry, glob in self._globs if matches(entry, glob, server)), "")
            if len(known) >= MAX_REMEMBERED:
                known.clear()
            known[server] = entry
        return entry

    def among(self, column: str) -> Q:
        """Those rows of a query of which `column` names a blocked server."""
        self._refresh()
        if not self._globs:
            return Q(pk__in=[])
        return Q(Func(F(column), template=blocked_sql("%(expressions)s"), output_field=BooleanField()))

    def forget(self) -> None:
        """Read the list again when it is needed next."""
        self._read_at = float("-inf")

    def _refresh(self) -> None:
        now = self._clock()
        if now - self._read_at < STALE_SECONDS:
            return
        entries = tuple(BlockedServer.objects.order_by("servers").values_list("servers", flat=True))
        self._read_at = now
        if entries != tuple(entry for entry, _ in self._globs):
            # In this order: an answer that is remembered is never older than the list.
            self._globs = tuple((entry, Glob.parse(entry)) for entry in entries)
            self._known = {}


block_list = BlockList()
"""The process's own."""


def matches(entry: str, glob: Glob, server: str) -> bool:
    """Whether an entry, whose glob is given, means a server: with a port its whole name, else its host."""
    name = server.lower()
    return glob.matches(name if ":" in entry else name.partition(":")[0])


def blocked_sql(server: str) -> str:
    """`matches` as a condition of SQL's: whether the column `server` names a server that is on the list now.

    All entries made into one regular expression would take PostgreSQL seconds to compile, in every connection.
    """
    return (
        "EXISTS (SELECT FROM federation_blockedserver blocked WHERE"
        f" CASE WHEN strpos(blocked.servers, ':') > 0 THEN lower({server}) ELSE split_part(lower({server}), ':', 1) END"
        " LIKE translate(blocked.servers, '*?', chr(37) || '_'))"
    )


def pattern_of(entry: str) -> str:
    """`matches` for one entry as a regular expression of PostgreSQL's, to be compared without regard to case."""
    expression = re.escape(entry).replace(r"\*", "[^:]*").replace(r"\?", "[^:]")
    return f"^{expression}$" if ":" in entry else f"^{expression}(:[0-9]+)?$"


def block(servers: str, *, reason: str, by: str, now: datetime) -> BlockedServer:
    """Block a server, or all that a glob matches; `by` names who did it.

    Raises `Malformed` for what is neither, for what would block ourselves, and for what is blocked already.
    """
    entry = checked_entry(servers)
    if BlockedServer.objects.count() >= MAX_BLOCKED:
        raise Malformed(f"{MAX_BLOCKED} entries are blocked already; a glob can stand for several")
    try:
        with transaction.atomic():
            row = BlockedServer.objects.create(servers=entry, reason=reason, blocked_at=now, blocked_by=by)
    except IntegrityError:
        raise Malformed(f"{entry} is blocked already") from None
    transaction.on_commit(block_list.forget)
    logger.warning("blocked %s (by %s)", entry, by or "command")
    return row


def checked_entry(servers: str) -> str:
    """An entry as it is stored. Raises `Malformed` for what is none, and for what would block ourselves."""
    entry = servers.strip().lower()
    is_glob = "*" in entry or "?" in entry
    if len(entry) > MAX_LENGTH or not (_GLOB.fullmatch(entry) if is_glob else is_server_name(entry)):
        raise Malformed(f"{servers[:60]!r} is neither a server name nor a glob of host names, such as *.example.org")
    if matches(entry, Glob.parse(entry), settings.SERVER_NAME):
        raise Malformed(f"{entry} would block this server itself, {settings.SERVER_NAME}")
    return entry


def unblock(servers: str) -> None:
    """Take up again with what an entry of the list blocked, where no other does. Raises `Malformed` for no entry."""
    entry = servers.strip().lower()
    with transaction.atomic():
        deleted, _ = BlockedServer.objects.filter(servers=entry).delete()
        if not deleted:
            raise Malformed(f"{servers[:60]!r} is not on the list of blocked servers")
        transaction.on_commit(block_list.forget)
        transaction.on_commit(partial(retry_matching, pattern_of(entry)))
    logger.warning("unblocked %s", entry)


def check_not_blocked(server: str) -> None:
    """Raise `ApiError` 403, for the user of ours or the participant who wants something of a blocked server."""
    if block_list.blocks(server):
        raise ApiError(403, "M_FORBIDDEN", f"{server} is blocked on this server.")
