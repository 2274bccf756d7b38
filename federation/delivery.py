"""Sending to other servers: one transaction at a time, until it is acknowledged.

*What there is to send* nobody writes down per server. Of the rooms whose hub we are, the log itself is the
queue: a stay of a server in a room (`rooms.RoomServer`) has a cursor, and the events after it, up to the end
of the stay, are what the server has still to get. LPDUs for other hubs wait in `OutboundLpdu`. A destination's
row has one mark, `pending`: there may be something. `federation.outbound` sets it, in the transaction that
made the something, and `federation.gathering` finds out what it is.

*Frozen transactions.* The draft wants the exact same request again and again until a 200 comes, and no other
before. So what is sent next is first stored as `OutboundTransaction`, id and body, and from then on only
sent: what happens in the rooms meanwhile goes into the one after it. A process may die at any point. Before
the row is committed, nothing has happened; after that, whoever comes next sends the same bytes, and the
receiver knows the id if it has processed them. Only HTTP 200 with a JSON object acknowledges; cursors and
queue move in the database transaction that notes it. Nothing is skipped, whatever else a peer answers, with one
exception that has limits of its own: `federation.isolation` splits what a peer refuses again and again, and sets a
single such event aside.

*One worker per destination.* A worker takes a lease on the destination's row for every transaction that it
sends, longer than the request can take. Others leave the destination alone meanwhile; when the worker dies,
the lease runs out. A worker that comes back from a request to find its lease gone leaves the acknowledging to
the new holder, which sends the same transaction and gets the same answer.

*No database transaction is open while a request is under way.* One short one takes the lease and loads or
freezes, one short one acknowledges or notes the failure. In between the connection is back in the pool, so a
slow peer costs one waiting thread and nothing that another delivery needs; how many threads slow peers may have
together, `federation.places` says.

*Failure* is stored on the destination: how often, since when, the last reason, and when to try again
(`federation.backoff`). Workers are woken by messages (`federation.wake`) and by a periodic sweep over
destinations that are due, so that no message has to arrive.

*Holding back.* To a server that is paused (`federation.pausing`) or blocked (`federation.blocking`) nothing is sent,
from the next transaction on; one that is under way ends first. What waits goes on waiting, with the mark set.

*Clearing the mark* is the one delicate step: `federation.outbound` explains the locks. A worker that finds
nothing but cannot have the row's lock at once goes away for a moment instead of waiting behind a room that is
being appended to: there is probably something to send when it is back.
"""

import enum
import random
import secrets
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from federation import backoff, delivery_log, paths
from federation.acknowledgement import Failure, acknowledge, record_failure
from federation.blocking import block_list
from federation.client import Answer, FederationClient
from federation.isolation import Verdict, fault_of, open_transaction
from federation.models import Destination, OutboundTransaction
from federation.outbound import next_transaction
from federation.wire_profile import profiles
from linmatrix import prepared
from linmatrix.transport.errors import TransportError

SEND_SECONDS: float = settings.SEND_TIMEOUT
"""Patience for a 200; a minute, unless the settings say otherwise. A receiver answers when it has processed all
events, and an existing hub sends them on to every participant before it does; one without idempotency must not be
made to process them twice."""

LEASE = timedelta(seconds=1.5 * SEND_SECONDS)
"""The request and, with a wide margin, the database transactions around it and clocks that differ. A peer whose
worker died waits for as long."""

LONGEST_LEASE = 2 * LEASE
"""A lease that ends later was taken by a clock that was wrong."""

TURN_SECONDS = 1.0
"""After that a worker gives the destination back and queues up again, so that long backlogs of more servers than there
are threads do not keep others waiting for a thread: a few transactions, beside which queueing up costs next to nothing.
"""

TURN_OVER = 0.0
"""What `deliver` returns when there is more to send."""

PAUSE_SECONDS = 0.05
MAX_PAUSES = 20
"""How a worker waits for an append that is under way: most take milliseconds."""

BUSY_SECONDS = 1.0
"""When to come back to a destination whose rooms were being appended to for longer than that."""

SOON_SECONDS = 5.0
"""A wait up to here is ended by a message of its own; the sweep, which comes as often, ends longer ones."""

Send = Callable[[OutboundTransaction], Answer]
"""Sends a transaction; raises `TransportError` when there is no answer."""


class Outcome(enum.Enum):
    """What became of one step."""

    DELIVERED = "a transaction was acknowledged"
    ISOLATED = "a transaction was refused for good, and split or set aside; what is next may be sent at once"
    FAILED = "a transaction was not acknowledged; the destination is backed off from"
    DRAINED = "nothing is left to send"
    BUSY = "nothing is left to send, but an append is under way"
    NOT_OURS = "another worker has the destination, or it is not due, paused or blocked"


# The parts of a turn, once for each transaction that is sent.
_UNLESS_LOCKED = "WHERE server = %s FOR NO KEY UPDATE SKIP LOCKED"
_WHEN_FREE = "WHERE server = %s FOR NO KEY UPDATE"
_COUNT_ATTEMPT = "UPDATE federation_outboundtransaction SET attempts = %s WHERE id = %s"
_LOCK_AGAINST_APPENDS = "SELECT 1 FROM federation_destination WHERE server = %s FOR UPDATE SKIP LOCKED"
_LEASE = "UPDATE federation_destination SET lease_until = %s, lease_holder = %s, turn = %s WHERE server = %s"
# The lease too, or a worker that the next append wakes would still find it and go away again.
_CLEAR = "UPDATE federation_destination SET pending = false, lease_until = NULL, lease_holder = '' WHERE server = %s"
_FREE = """
    UPDATE federation_destination SET lease_until = NULL, lease_holder = '' WHERE server = %s AND lease_holder = %s
"""

_GOES_ON = (Outcome.DELIVERED, Outcome.ISOLATED)

_RECORDED = {
    Outcome.DELIVERED: delivery_log.DELIVERED,
    Outcome.FAILED: delivery_log.FAILED,
    Outcome.ISOLATED: delivery_log.ISOLATED,
    Outcome.NOT_OURS: delivery_log.SUPERSEDED,
}
"""How the end of an attempt is counted and logged."""


def over_http(client: FederationClient, *, seconds: float = SEND_SECONDS) -> Send:
    """Sends with `PUT send/:txnId` and waits so long for an answer."""

    def send(row: OutboundTransaction) -> Answer:
        both = paths.send(row.txn_id)
        return client.call(
            row.destination_id,
            "PUT",
            both,
            stable=row.path == both.stable,
            content=bytes(row.body),
            timeout=seconds,
            max_response_bytes=settings.LIMITS.send_answer_bytes,
        )

    return send


def deliver(
    server: str,
    *,
    send: Send,
    clock: Callable[[], datetime] = timezone.now,
    chance: Callable[[], float] = random.random,
    sleep: Callable[[float], None] = time.sleep,
) -> float | None:
    """Send what waits for a server, transaction by transaction, until nothing is left, one fails, or the turn is over.

    Returns in how many seconds it should be called again; None when somebody else will see to it: another
    worker, the next append, or the sweep.
    """
    holder = secrets.token_hex(8)
    end = clock() + timedelta(seconds=TURN_SECONDS)
    pauses, goes_on = 0, False
    try:
        while True:
            outcome = step(server, holder=holder, send=send, clock=clock, chance=chance, goes_on=goes_on)
            goes_on = True
            if outcome in _GOES_ON and clock() < end:
                pauses = 0
            elif outcome is Outcome.BUSY and pauses < MAX_PAUSES:
                pauses += 1
                sleep(PAUSE_SECONDS)
            else:
                break
    finally:
        prepared.execute(_FREE, [server, holder])
    if outcome in _GOES_ON:
        return TURN_OVER
    if outcome is Outcome.BUSY:
        return BUSY_SECONDS
    return _soon(server, clock()) if outcome is Outcome.FAILED else None


def step(
    server: str,
    *,
    holder: str,
    send: Send,
    clock: Callable[[], datetime] = timezone.now,
    chance: Callable[[], float] = random.random,
    goes_on: bool = False,
) -> Outcome:
    """Send one transaction, or find out that there is none. The lease stays with `holder` unless the same transaction
    is to be sent again.

    A worker that begins goes away from a row that somebody has locked: whoever sends marked it when it appended, or
    has the lease. One that `goes_on` waits, since those it would leave the row to go away because of it.
    """
    if block_list.blocks(server):
        return Outcome.NOT_OURS
    taken = _take(server, holder=holder, now=clock(), lock=_WHEN_FREE if goes_on else _UNLESS_LOCKED)
    if isinstance(taken, Outcome):
        return taken
    connection.close()  # to the pool
    with delivery_log.about(taken):
        begun = time.perf_counter()
        outcome, error = _attempt(taken, holder=holder, send=send, clock=clock, chance=chance)
        delivery_log.record(taken, _RECORDED[outcome], seconds=time.perf_counter() - begun, error=error)
    return outcome


def _attempt(
    taken: OutboundTransaction,
    *,
    holder: str,
    send: Send,
    clock: Callable[[], datetime],
    chance: Callable[[], float],
) -> tuple[Outcome, str]:
    """Send a transaction and store what came of it; what that is, and why it was not acknowledged."""
    try:
        answer = send(taken)
    except TransportError as error:
        failure = Failure(error.reason)
    else:
        if answer.status == 200:
            done = acknowledge(taken, answer.content or {}, holder=holder, now=clock())
            return (Outcome.DELIVERED if done else Outcome.NOT_OURS), ""
        fault = fault_of(answer, size=len(bytes(taken.body)))
        failure = Failure(str(answer), fault, answer.retry_after_seconds)
    verdict = record_failure(taken, failure, holder=holder, now=clock(), chance=chance())
    if verdict is None:
        return Outcome.NOT_OURS, failure.reason
    return (Outcome.FAILED if verdict is Verdict.SEND_AGAIN else Outcome.ISOLATED), failure.reason


def _take(server: str, *, holder: str, now: datetime, lock: str) -> OutboundTransaction | Outcome:
    """Take the lease and load or freeze the transaction to send; clear the mark when there is none."""
    with transaction.atomic(durable=True):
        destination = prepared.first(Destination, lock, [server])
        if destination is None or not _is_free(destination, holder, now):
            return Outcome.NOT_OURS
        if not destination.pending:
            return Outcome.DRAINED
        profiles.note(destination)  # the request needs it, and this spares it a statement
        row = open_transaction(destination)
        if row is not None:
            row.attempts += 1
            prepared.execute(_COUNT_ATTEMPT, [row.attempts, row.pk])
        else:
            row = next_transaction(destination)
        if row is None:
            if not prepared.execute(_LOCK_AGAINST_APPENDS, [server]):
                return Outcome.BUSY
            # What was committed before that lock was ours is visible now, and nothing else counts on the mark.
            row = next_transaction(destination)
        if row is None:
            prepared.execute(_CLEAR, [server])
            return Outcome.DRAINED
        prepared.execute(_LEASE, [now + LEASE, holder, destination.turn, server])
        return row


def _is_free(destination: Destination, holder: str, now: datetime) -> bool:
    """Whether the destination is due, not paused, and nobody else has it. Times that only a wrong clock can have set
    are over."""
    if destination.paused_at is not None:
        return False
    due, leased_until = destination.next_attempt, destination.lease_until
    if due is not None and now < due <= now + backoff.longest():
        return False
    leased = leased_until is not None and now < leased_until <= now + LONGEST_LEASE
    return not leased or destination.lease_holder == holder


def _soon(server: str, now: datetime) -> float | None:
    """The seconds until a server is tried again, if that is too soon for the sweep."""
    due = Destination.objects.filter(server=server).values_list("next_attempt", flat=True).first()
    seconds = (due - now).total_seconds() if due is not None else 0.0
    return max(seconds, 0.0) if seconds <= SOON_SECONDS else None
