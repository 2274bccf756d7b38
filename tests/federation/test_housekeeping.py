"""What is deleted, when, and in what bites: each retention from both sides, and tables that stay small for a week."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Event as Flag

import pytest
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from federation import housekeeping
from federation.delivery import deliver
from federation.edus import inbox
from federation.edus.inbox import Incoming
from federation.housekeeping import keep_house
from federation.isolation import send_again
from federation.models import Destination, InboundTransaction, OutboundLpdu, OutboundTransaction
from federation.outbound import freeze, queue_lpdu
from federation.sending import outcome
from keys import history, leases
from keys.fetchers import parse_server_keys
from keys.models import Device, KeyFetch, KeyResponse, OneTimeKey, RemoteDeviceList, ServerKey
from linmatrix.limits import DEFAULTS
from linmatrix.protocol.edus import ToDevice
from linmatrix.protocol.events import Lpdu
from linmatrix.pruning import BATCH, prune
from linmatrix.renewal import LEASE
from rooms.joining import note_join
from rooms.models import PendingJoin, Room
from tests.support import keys as published
from tests.support.edus import make_device
from tests.support.hosted import CREATOR
from tests.support.lines import append, in_thread, make_room, message
from tests.support.remote import Remote

PEER = "peer.example.org"
NOW = datetime.fromisoformat("2030-01-01T00:00:00+00:00")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
INBOUND = timedelta(hours=DEFAULTS.inbound_transaction_hours)
OUTBOUND = timedelta(hours=DEFAULTS.outbound_transaction_hours)
SET_ASIDE = timedelta(days=DEFAULTS.set_aside_days)
KEY_FETCH = timedelta(hours=DEFAULTS.key_fetch_hours)
KEYS = timedelta(days=DEFAULTS.unrelated_key_days)

pytestmark = pytest.mark.django_db(transaction=True)

Make = Callable[[datetime], object]


def ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def answered(at: datetime, *, status: int | None = 200, lease_until: datetime | None = None) -> InboundTransaction:
    number = InboundTransaction.objects.count()
    return InboundTransaction.objects.create(
        origin=PEER,
        endpoint="invite",
        txn_id=f"{at:%d%H%M}-{number}",
        body_sha256=b"x" * 32,
        lease_until=lease_until or at + 2 * MINUTE,
        status=status,
        response=None if status is None else b"{}",
        received_at=at,
    )


def sent(**columns: object) -> OutboundTransaction:
    destination, _ = Destination.objects.get_or_create(server=PEER)
    number = OutboundTransaction.objects.count()
    ends = {name: value for name, value in columns.items() if name not in ("lineage", "branch", "lpdus")}
    row = freeze(
        destination,
        stable=True,
        body=b"{}",
        cursors={},
        lpdus=list(columns.get("lpdus", [])),  # type: ignore[call-overload]
        events=1,
        lineage=columns.get("lineage", ""),
        # Several may be open where their branches differ.
        branch=columns.get("branch", f"{number}"),
    )
    OutboundTransaction.objects.filter(pk=row.pk).update(**ends)
    return row


def queued(name: str, status: str) -> OutboundLpdu:
    mark = Destination.objects.get_or_create(server=PEER)[0]
    return OutboundLpdu.objects.create(
        destination=mark, lpdu_id=name, room_id="!r:x", sender="@a:x", json="{}", status=status, reason="no"
    )


def fetched(at: datetime, server: str = PEER) -> None:
    body = published.answer(published.key(1), server=server, valid_until_ts=ms(at) + published.HOUR)
    history.store(parse_server_keys(body, server=server, now_ms=ms(at)), now_ms=ms(at))


def asked(at: datetime, server: str = PEER) -> None:
    lease = leases.take(server, now_ms=ms(at))
    assert isinstance(lease, leases.Lease)
    leases.finish(lease, now_ms=ms(at))


def logged_in(until: datetime) -> None:
    Session.objects.create(session_key=f"{ms(until)}", session_data="", expire_date=until)


def joining(at: datetime) -> None:
    note_join("!r:hub.example.org", "@alice:hub.example.org", now=at)


def acknowledged(at: datetime) -> None:
    """A message that its device has read."""
    make_device()
    message = ToDevice(f"@user:{PEER}", CREATOR, "PHONE", "m.test", "{}")
    with transaction.atomic():
        inbox.store([Incoming(message, b"x" * 32)], origin=PEER, txn_id="", now=at)
    inbox.acknowledge(CREATOR, "PHONE", 1, now=at)


def given_away(at: datetime) -> None:
    OneTimeKey.objects.create(
        user_id=CREATOR, device_id="PHONE", algorithm="a", key_id="1", identity=b"1", claimed_at=at, claimed_by=PEER
    )


def removed(at: datetime) -> None:
    Device.objects.create(user_id=CREATOR, device_id="PHONE", stream_id=1, deleted=True, changed_at=at)


def told_of(at: datetime) -> None:
    RemoteDeviceList.objects.create(user_id=f"@user:{PEER}", changed_at=at)


CASES: dict[str, tuple[Make, timedelta]] = {
    "inbound transactions": (answered, INBOUND),
    "acknowledged transactions": (lambda at: sent(acked_at=at), OUTBOUND),
    "split transactions": (lambda at: sent(split_at=at), OUTBOUND),
    "transactions set aside": (lambda at: sent(set_aside_at=at), SET_ASIDE),
    "abandoned joins": (joining, LEASE),
    "key fetches": (asked, KEY_FETCH),
    "keys of servers in no room": (fetched, KEYS),
    "to-device messages": (acknowledged, INBOUND),
    "one-time keys": (given_away, DAY * DEFAULTS.claimed_key_days),
    "removed devices": (removed, DAY * DEFAULTS.removed_device_days),
    "devices of others": (told_of, DAY * DEFAULTS.unused_device_days),
    "sessions": (logged_in, timedelta(0)),
}


@pytest.mark.parametrize("kind", housekeeping.CHORES)
def test_a_row_is_kept_for_its_time_and_no_longer(kind: str) -> None:
    make, kept = CASES[kind]
    make(NOW - kept)
    assert keep_house(now=NOW - timedelta(milliseconds=1)) == dict.fromkeys(CASES, 0)
    assert keep_house(now=NOW) == dict.fromkeys(CASES, 0)
    assert keep_house(now=NOW + timedelta(milliseconds=1)) == {**dict.fromkeys(CASES, 0), kind: 1}
    assert keep_house(now=NOW + timedelta(milliseconds=1)) == dict.fromkeys(CASES, 0)


@pytest.mark.parametrize(
    ("limit", "unit", "make"),
    [
        ("inbound_transaction_hours", HOUR, answered),
        ("outbound_transaction_hours", HOUR, lambda at: sent(acked_at=at)),
        ("set_aside_days", DAY, lambda at: sent(set_aside_at=at)),
        ("key_fetch_hours", HOUR, asked),
        ("unrelated_key_days", DAY, fetched),
        ("claimed_key_days", DAY, given_away),
        ("removed_device_days", DAY, removed),
        ("unused_device_days", DAY, told_of),
    ],
)
def test_each_retention_is_the_operators(settings, limit: str, unit: timedelta, make: Make) -> None:
    make(NOW)
    settings.LIMITS = replace(DEFAULTS, **{limit: 50})
    assert sum(keep_house(now=NOW + 50 * unit).values()) == 0
    settings.LIMITS = replace(DEFAULTS, **{limit: 49})
    assert sum(keep_house(now=NOW + 50 * unit).values()) == 1


# What must not go, however old it is.


def test_a_transaction_that_is_to_be_sent_stays() -> None:
    row = sent()
    OutboundTransaction.objects.update(created_at=NOW - 1000 * DAY)
    keep_house(now=NOW)
    assert OutboundTransaction.objects.get() == row


def test_a_request_in_process_stays_while_its_lease_runs() -> None:
    answered(NOW - 2 * INBOUND, status=None, lease_until=NOW + MINUTE)
    assert keep_house(now=NOW)["inbound transactions"] == 0
    assert keep_house(now=NOW + 2 * MINUTE)["inbound transactions"] == 1


@pytest.mark.parametrize("end", ["acked_at", "split_at", "set_aside_at"])
def test_a_lineage_stays_while_one_of_it_is_to_be_sent(end: str) -> None:
    old = sent(**{end: NOW - 1000 * DAY}, lineage="first", branch="0")
    other = sent(lineage="first", branch="1")
    keep_house(now=NOW)
    assert OutboundTransaction.objects.filter(pk=old.pk).exists()
    OutboundTransaction.objects.filter(pk=other.pk).update(acked_at=NOW)
    keep_house(now=NOW)
    assert list(OutboundTransaction.objects.all()) == [other]


def test_what_an_operator_sends_again_stays() -> None:
    row = sent(set_aside_at=NOW - 2 * SET_ASIDE)
    send_again([row])
    keep_house(now=NOW)
    assert OutboundTransaction.objects.filter(pk=row.pk, set_aside_at=None).exists()


@pytest.mark.parametrize(("age", "refused"), [(OUTBOUND, "no"), (OUTBOUND + MINUTE, "")])
def test_a_sender_can_hear_of_a_refusal_from_when_the_hub_answered(age: timedelta, refused: str) -> None:
    """Not from when it was queued: a hub may be away for longer than that."""
    lpdu = queued("$one", OutboundLpdu.Status.REFUSED)
    OutboundLpdu.objects.update(created_at=NOW - 1000 * DAY)
    sent(acked_at=NOW - age, lpdus=[lpdu.pk])
    keep_house(now=NOW)
    assert outcome("!r:x", "$one").refused == refused


@pytest.mark.parametrize(("status", "left"), [("sent", 0), ("refused", 0), ("queued", 1), ("set-aside", 1)])
def test_only_lpdus_that_have_their_end_go_with_their_transaction(status: str, left: int) -> None:
    lpdu = queued("$one", status)
    sent(acked_at=NOW - 2 * OUTBOUND, lpdus=[lpdu.pk])
    keep_house(now=NOW)
    assert (OutboundTransaction.objects.count(), OutboundLpdu.objects.count()) == (0, left)


def test_the_lpdus_of_a_split_transaction_go_with_its_parts() -> None:
    lpdu = queued("$one", OutboundLpdu.Status.REFUSED)
    sent(split_at=NOW - 2 * OUTBOUND, lpdus=[lpdu.pk], lineage="first", branch="")
    part = sent(acked_at=NOW - OUTBOUND, lpdus=[lpdu.pk], lineage="first", branch="0")
    keep_house(now=NOW)
    assert (list(OutboundTransaction.objects.all()), OutboundLpdu.objects.count()) == ([part], 1)
    keep_house(now=NOW + MINUTE)
    assert (OutboundTransaction.objects.count(), OutboundLpdu.objects.count()) == (0, 0)


@pytest.mark.parametrize(("in_room", "left"), [(True, 1), (False, 0)])
def test_the_keys_of_servers_in_our_rooms_stay(in_room: bool, left: int) -> None:
    fetched(NOW - 2 * KEYS)
    make_room("a", PEER if in_room else "other.example.org")
    keep_house(now=NOW)
    assert (ServerKey.objects.count(), KeyResponse.objects.count()) == (left, left)


def test_a_key_that_its_server_still_lists_stays() -> None:
    fetched(NOW - 2 * KEYS)
    fetched(NOW - DAY)
    keep_house(now=NOW)
    assert (ServerKey.objects.count(), KeyResponse.objects.count()) == (1, 1)


def test_rooms_events_and_cursors_are_left_alone() -> None:
    append(make_room("a", PEER), "one")
    deliver(PEER, send=Remote(), clock=lambda: NOW)
    keep_house(now=NOW + 10_000 * DAY)
    room = Room.objects.get()
    assert (room.events.count(), room.servers.get().sent_position) == (1, 1)
    assert Destination.objects.get().last_success_at == NOW


def test_one_kind_that_fails_does_not_keep_the_others(caplog) -> None:
    """Somebody has locked a table, to change it say."""
    logged_in(NOW - DAY)
    locked, let_go = Flag(), Flag()

    def lock() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE federation_inboundtransaction IN ACCESS EXCLUSIVE MODE")
            locked.set()
            assert let_go.wait(timeout=30)

    with in_thread(lock):
        try:
            assert locked.wait(timeout=30)
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '50ms'")
            with caplog.at_level(logging.ERROR):
                done = keep_house(now=NOW)
        finally:
            let_go.set()
            connection.close()  # and the setting with it
    assert "inbound transactions" not in done
    assert done["sessions"] == 1
    assert "inbound transactions could not be deleted" in caplog.text


# How it is deleted.


def many(count: int) -> None:
    """Answered requests of a year ago."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO federation_inboundtransaction (origin, endpoint, txn_id, body_sha256, lease_until, status,"
            " response, received_at) SELECT %s, 'send', n::text, '\\x00', %s, 200, '\\x7b7d', %s + n * interval '1 ms'"
            " FROM generate_series(1, %s) AS n",
            [PEER, NOW, NOW - 365 * DAY, count],
        )


def test_ten_thousand_rows_are_many_short_transactions() -> None:
    many(10_000)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert prune(InboundTransaction.objects.all(), oldest_first="received_at") == 10_000
    statements = [query["sql"] for query in queries]
    # The last finds nothing more, since the number is a multiple of a batch's.
    assert statements.count("COMMIT") == 10_000 // BATCH + 1
    assert max(len(batch) for batch in " ".join(statements).split("COMMIT")) < 60 * BATCH
    assert not InboundTransaction.objects.exists()


def test_no_more_is_deleted_than_the_time_allows() -> None:
    many(2 * BATCH)
    assert prune(InboundTransaction.objects.all(), oldest_first="received_at", seconds=0.0) == BATCH
    assert InboundTransaction.objects.order_by("received_at").first().txn_id == str(BATCH + 1)  # type: ignore[union-attr]


def test_rows_that_somebody_holds_are_passed_over_and_not_waited_for() -> None:
    many(2 * BATCH)
    held, let_go = Flag(), Flag()

    def hold() -> None:
        with transaction.atomic():
            rows = InboundTransaction.objects.select_for_update().order_by("received_at")
            assert len(rows[:3]) == 3
            held.set()
            assert let_go.wait(timeout=30)

    with in_thread(hold):
        try:
            assert held.wait(timeout=30)
            assert keep_house(now=NOW)["inbound transactions"] == 2 * BATCH - 3
            assert list(InboundTransaction.objects.values_list("txn_id", flat=True)) == ["1", "2", "3"]
        finally:
            let_go.set()
    assert keep_house(now=NOW)["inbound transactions"] == 3


def test_two_at_once_delete_each_row_once() -> None:
    many(4 * BATCH)
    counted: list[int] = []

    def clean() -> None:
        counted.append(keep_house(now=NOW)["inbound transactions"])

    with in_thread(clean):
        clean()
    assert sum(counted) == 4 * BATCH


def test_locks_are_not_collected_in_a_transaction_around_it() -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        prune(InboundTransaction.objects.all(), oldest_first="received_at")


# A week.

TABLES = (
    InboundTransaction, OutboundTransaction, OutboundLpdu, KeyFetch, ServerKey, KeyResponse, PendingJoin, Session,
)  # fmt: skip


def counts() -> dict[str, int]:
    return {model.__name__: model.objects.count() for model in TABLES}


STEP = 4 * HOUR
STEPS_A_DAY = DAY // STEP


def traffic(number: int, now: datetime, room: Room) -> None:
    """Requests, deliveries, names that somebody made up, and processes that died."""
    for minutes in (5, 25):
        answered(now + minutes * MINUTE)
    answered(now, status=None)  # its process died
    append(room, str(number))
    queue_lpdu(PEER, Lpdu(message("!q:hub.example.org", str(number)), f"$lpdu{number}"))
    deliver(PEER, send=Remote(), clock=lambda: now, chance=lambda: 0.0)
    asked(now, f"made-up{number}.example.org")
    fetched(now, f"made-up{number}.example.org")
    note_join("!r:hub.example.org", f"@user{number}:hub.example.org", now=now)
    logged_in(now + DAY)


def test_tables_stay_bounded_under_a_week_of_traffic(settings) -> None:
    settings.LIMITS = replace(
        DEFAULTS, inbound_transaction_hours=24, outbound_transaction_hours=24, key_fetch_hours=24, unrelated_key_days=1
    )
    room = make_room("a", PEER)
    by_day = []
    for number in range(7 * STEPS_A_DAY):
        traffic(number, NOW + number * STEP, room)
        keep_house(now=NOW + (number + 1) * STEP)
        if (number + 1) % STEPS_A_DAY == 0:
            by_day.append(counts())
    assert by_day[1:] == [by_day[1]] * 6
    # What came within a day, of which each time brings so much.
    each_time = {"InboundTransaction": 3, "OutboundTransaction": 2, "PendingJoin": 0}
    assert all(number <= (STEPS_A_DAY + 1) * each_time.get(table, 1) for table, number in by_day[-1].items())
    assert room.events.count() == 7 * STEPS_A_DAY


def test_beat_has_the_house_kept_every_hour(settings) -> None:
    entries = [entry for entry in settings.CELERY_BEAT_SCHEDULE.values() if entry["task"].endswith("keep_house")]
    assert [entry["schedule"] for entry in entries] == [3600.0]
