"""Transaction ids: a request is processed once and answered the same every time.

Draft section "Transaction Identifiers"; decisions 74, 75. A row is taken with a lease before processing, so
that a crash cannot hold a peer up; it then keeps the answer. All web processes share the rows.
"""

import hashlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from django.conf import settings
from django.http import HttpResponse
from django.utils import timezone

from federation.claims import LEASE, claims
from federation.errors import ApiError, as_api_error
from federation.models import InboundTransaction
from federation.responses import CONTENT_TYPE
from federation.waiting import waiting_room
from linmatrix import prepared

POLL_INTERVAL = 0.02
"""Seconds between looks at whether the other request is done."""

MAX_TXN_ID_LENGTH = 255
"""Characters of a transaction id (decision 74)."""

KEPT_STATUSES = frozenset((200, 400, 403, 404))
"""Answers that would be the same again, and are kept. Others say that a repetition may fare better."""

UNKEPT_ERRCODES = frozenset(("M_NOT_JSON", "M_BAD_STATE"))
"""Refusals that are about the moment, whatever their status: an invited server may give one, which is passed on."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """A request as its transaction id makes it one.

    `exclusive`: the origin may have one such request in process at a time, as `send` wants it. `stable`: it
    came on the draft's own path, where an id always means the same body.
    """

    origin: str
    endpoint: str
    txn_id: str
    body: bytes
    stable: bool
    exclusive: bool = False


def once(request: Transaction, process: Callable[[], HttpResponse]) -> HttpResponse:
    """Process a request, or give the answer that it was given before.

    Raises `ApiError`: M_BAD_STATE while another transaction of the origin is processed (draft, send), 429
    while the same one still is.
    """
    if not 0 < len(request.txn_id) <= MAX_TXN_ID_LENGTH or "\0" in request.txn_id:
        raise ApiError(400, "M_INVALID_PARAM", f"A transaction id has 1 to {MAX_TXN_ID_LENGTH} characters, none NUL.")
    claimed = _claim_or_wait(request)
    if isinstance(claimed, HttpResponse):
        return claimed
    with claims.hold(claimed):
        return _process(claimed, process)


def _process(claimed: int, process: Callable[[], HttpResponse]) -> HttpResponse:
    """Process a request that we have claimed, and keep or forget its answer."""
    kept = True
    try:
        response = process()
    except Exception as error:
        api_error = as_api_error(error)
        if api_error is None:
            InboundTransaction.objects.filter(pk=claimed).delete()
            raise
        response, kept = api_error.response(), api_error.errcode not in UNKEPT_ERRCODES
    _finish(claimed, response, kept=kept)
    return response


def _claim_or_wait(request: Transaction) -> int | HttpResponse:
    """The id of the row that we hold now, or the stored answer."""
    with ExitStack() as place:
        return _claim_in_turn(request, place)


def _claim_in_turn(request: Transaction, place: ExitStack) -> int | HttpResponse:
    """As `_claim_or_wait`; from when it has to wait, `place` holds one in the waiting room."""
    started, limits, waits = time.monotonic(), settings.LIMITS, False
    digest = hashlib.sha256(request.body).digest()
    while True:
        row_id = _claim(request, digest)
        if row_id is not None:
            return row_id
        same, other = _standing(request, digest)
        if same is not None and same.status is not None:
            return HttpResponse(bytes(same.response or b""), status=same.status, content_type=CONTENT_TYPE)
        waited = time.monotonic() - started
        if same is not None and waited > limits.repeated_transaction_seconds:
            raise ApiError(429, "M_LIMIT_EXCEEDED", "The transaction is still processed.", retry_after_ms=5000)
        if same is None and other and waited >= (0 if request.stable else limits.other_transaction_seconds):
            raise ApiError(400, "M_BAD_STATE", "Another transaction of yours is in flight.")
        if not waits:
            place.enter_context(waiting_room.wait(request.origin))
            waits = True
        time.sleep(POLL_INTERVAL)


# Neither statement's commit waits for the disk. What is lost with the database is whose turn it was, or that an
# answer was given; the repetition is then processed again, and its events are known by their own ids.
_CLAIM = """
    WITH unsynced AS (SELECT set_config('synchronous_commit', 'off', true))
    INSERT INTO federation_inboundtransaction (origin, endpoint, txn_id, body_sha256, lease_until, received_at)
    SELECT %s, %s, %s, %s::bytea, %s::timestamptz, %s::timestamptz FROM unsynced
    WHERE NOT (%s::boolean AND EXISTS (
        SELECT FROM federation_inboundtransaction WHERE origin = %s AND endpoint = %s AND txn_id = %s))
    ON CONFLICT DO NOTHING RETURNING id
"""
_FINISH = """
    WITH unsynced AS (SELECT set_config('synchronous_commit', 'off', true))
    UPDATE federation_inboundtransaction SET status = %s, response = %s FROM unsynced WHERE id = %s
"""


def _claim(request: Transaction, digest: bytes) -> int | None:
    """Insert the request's row; None when it stands already or another one is in its way."""
    now = timezone.now()
    key = [request.origin, request.endpoint, request.txn_id]
    rows = prepared.execute(_CLAIM, [*key, digest, now + LEASE, now, request.stable, *key])
    return rows[0][0] if rows else None


def _standing(request: Transaction, digest: bytes) -> tuple[InboundTransaction | None, bool]:
    """The row of the same request, and whether another request of the origin is in process.

    Rows whose lease has run out, since their process crashed, are removed first.
    """
    rows = InboundTransaction.objects.filter(origin=request.origin, endpoint=request.endpoint)
    rows.filter(status__isnull=True, lease_until__lt=timezone.now()).delete()
    same = rows.filter(txn_id=request.txn_id)
    if not request.stable:
        same = same.filter(body_sha256=digest)
    return same.first(), request.exclusive and rows.filter(status__isnull=True).exists()


def _finish(row_id: int, response: HttpResponse, *, kept: bool) -> None:
    """Keep the answer, or forget the request where a repetition may fare better.

    An answer above `kept_answer_bytes` is one to a join: it holds a room's state, and would be written to the disk for
    every join. The same LPDU is answered with the same event and the state before it when it comes again (decision 38).
    """
    large = len(response.content) > settings.LIMITS.kept_answer_bytes
    if not kept or large or response.status_code not in KEPT_STATUSES:
        InboundTransaction.objects.filter(pk=row_id).delete()
        return
    prepared.execute(_FINISH, [response.status_code, response.content, row_id])
