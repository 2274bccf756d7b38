"""The console's first page says whether federation is healthy, in words and numbers, for the same price at any size."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from federation import blocking, pausing
from federation.models import Destination, OutboundLpdu, OutboundTransaction
from linmatrix.console import figures, plots, standing
from linmatrix.console.headline import headline
from linmatrix.console.models import Minute
from rooms.models import Event, Finding, Room, RoomServer
from tests.support.lines import append, make_room

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 5, 4, 12, 30, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PEER = "peer.example"


def said(now: datetime | None = None, last: datetime | None = None) -> list[str]:
    """The headline's sentences."""
    now = now or timezone.now()
    return [line.text for line in headline(standing.standing(now=now), last_figures=last, now=now)]


def owe(number: int = 1, *servers: str, **columns: Any) -> Room:
    """A room of which these servers have not been sent so many events."""
    room = make_room(f"owed{Room.objects.count()}", *(servers or (PEER,)))
    append(room, *(str(number) for number in range(number)))
    Destination.objects.filter(server__in=servers or (PEER,)).delete()
    for server in servers or (PEER,):
        Destination.objects.create(server=server, pending=True, **columns)
    return room


def transaction(**columns: Any) -> OutboundTransaction:
    destination, _ = Destination.objects.get_or_create(server=PEER)
    defaults: dict[str, Any] = {"txn_id": f"t{OutboundTransaction.objects.count()}", "path": "/", "body": b"{}"}
    row = OutboundTransaction.objects.create(
        destination=destination, cursors=[], lpdus=[], **{**defaults, "events": 3, **columns}
    )
    return row


def finding(at: datetime) -> None:
    row = Finding.objects.create(
        room=make_room("found"), server=PEER, kind=Finding.Kind.FORK, event_id="$x", evidence="it forks\n[]"
    )
    Finding.objects.filter(pk=row.pk).update(created_at=at)


# In words.


def test_with_nothing_on_its_way_everything_has_arrived():
    assert said() == ["Everything that was sent has arrived."]


def test_what_has_just_been_sent_is_on_its_way():
    owe(2)
    (line,) = said()
    assert line.startswith("Something is on its way to 1 server: 2 events wait, the oldest for ")


def test_servers_that_are_not_reached_are_told_with_since_when_and_what_waits():
    now = timezone.now()
    owe(3, "a.example", "b.example", failing_since=now - timedelta(hours=49))
    (line,) = said(now)
    since = f"{now - timedelta(hours=49):%Y-%m-%d %H:%M} UTC"
    assert line.startswith(
        f"2 servers have not been reached, the first of them since {since}; 6 events wait, the oldest"
    )


def test_a_server_that_is_not_reached_is_not_all_well_even_with_nothing_to_send():
    Destination.objects.create(server=PEER, failing_since=NOW - MINUTE)
    assert said(NOW) == ["1 server has not been reached since 12:29 UTC."]


def test_what_was_set_aside_and_findings_of_a_day_are_told():
    now = timezone.now()
    transaction(set_aside_at=now)
    finding(now - timedelta(hours=23))
    assert said(now) == [
        "3 events that could not be delivered were set aside.",
        "1 finding about other servers in the last day.",
    ]
    Finding.objects.update(created_at=now - timedelta(hours=25))
    assert len(said(now)) == 1


@pytest.mark.parametrize(("minutes", "silent"), [(2, False), (4, True)])
def test_workers_that_are_silent_come_first(minutes, silent):
    owe(1, failing_since=NOW)
    first = said(NOW, last=NOW - minutes * MINUTE)[0]
    assert first.startswith("No worker has been at work since 12:26 UTC") is silent


def test_each_sentence_leads_to_the_rows_that_it_is_about(console):
    owe(1, failing_since=timezone.now())
    transaction(set_aside_at=timezone.now())
    finding(timezone.now())
    Destination.objects.create(server="well.example")
    lines = console.get("/admin/", secure=True).context["headline"]
    shown = {line.text.split()[1]: console.get(line.url, secure=True).context["cl"].result_count for line in lines}
    assert shown == {"server": 1, "events": 1, "finding": 1}


# Numbers.


def test_the_oldest_event_that_waits_is_the_first_that_a_server_does_not_have():
    room = owe(3)
    hours = {1: 5, 2: 3, 3: 1}
    for position, ago in hours.items():
        Event.objects.filter(room=room, position=position).update(received_at=NOW - timedelta(hours=ago))
    room.servers.update(sent_position=1)
    stand = standing.standing(now=NOW)
    assert (stand.waiting_events, stand.oldest_waiting) == (standing.Count(2), NOW - timedelta(hours=3))


def test_lpdus_for_hubs_wait_too():
    Destination.objects.create(server=PEER, pending=True)
    OutboundLpdu.objects.create(destination_id=PEER, lpdu_id="$1", room_id="!a:b", sender="@a:b", json="{}")
    OutboundLpdu.objects.create(
        destination_id=PEER, lpdu_id="$2", room_id="!a:b", sender="@a:b", json="{}", status="sent"
    )
    assert standing.standing(now=NOW).waiting_events == standing.Count(1)


def test_rooms_hosted_elsewhere_owe_nobody_anything():
    owe(1)
    Room.objects.update(role=Room.Role.PARTICIPANT)
    stand = standing.standing(now=NOW)
    assert (stand.rooms_hosted, stand.rooms_joined) == (standing.Count(0), standing.Count(1))
    assert not stand.waiting_events


def test_of_a_server_in_many_rooms_it_is_said_that_there_is_more():
    names = [f"!{number}:hub.example.org" for number in range(standing.MOST_STAYS_EACH + 1)]
    head = {"version": "1", "role": Room.Role.HUB, "head_position": 1, "head_event_id": "$one"}
    Room.objects.bulk_create(Room(room_id=name, **head) for name in names)
    stay = {"server": PEER, "joined_position": 1, "sent_position": 0, "joined_users": 1}
    RoomServer.objects.bulk_create(RoomServer(room_id=name, **stay) for name in names)
    Destination.objects.create(server=PEER, pending=True)
    found = standing.standing(now=NOW).waiting_events
    assert str(found) == f"at least {standing.MOST_STAYS_EACH}"


# Figures over time.


def test_a_minute_is_written_once_it_is_over_and_only_once():
    room = make_room("one")
    append(room, "first")
    append(room, "second", verdict=Event.Verdict.REJECTED)
    Event.objects.update(received_at=NOW - MINUTE)
    transaction(created_at=NOW, acked_at=NOW - MINUTE)
    OutboundTransaction.objects.update(created_at=NOW - MINUTE - timedelta(seconds=2))
    assert figures.record(now=NOW) == figures.MADE_UP_FOR
    newest = Minute.objects.order_by("begins").last()
    assert newest.begins == NOW.replace(minute=29, second=0)
    assert (newest.accepted, newest.rejected, newest.delivered, newest.most_within_ms) == (1, 1, 3, 2000)
    assert figures.record(now=NOW + timedelta(seconds=40)) == 0
    assert figures.record(now=NOW + MINUTE) == 1
    assert Minute.objects.filter(accepted__gt=0).count() == 1


def test_two_workers_write_one_row():
    Minute.objects.create(begins=NOW.replace(minute=20, second=0), accepted=7)
    figures.record(now=NOW)
    Minute.objects.filter(begins=NOW.replace(minute=29, second=0)).delete()
    figures.record(now=NOW)
    assert Minute.objects.count() == 10
    assert Minute.objects.get(begins=NOW.replace(minute=20, second=0)).accepted == 7


def test_a_minute_of_which_transactions_may_still_commit_is_not_written_yet():
    figures.record(now=NOW.replace(second=4))
    assert not Minute.objects.filter(begins=NOW.replace(minute=29, second=0)).exists()


def test_old_minutes_go():
    Minute.objects.create(begins=NOW - figures.KEPT - timedelta(days=1))
    figures.record(now=NOW)
    assert not Minute.objects.filter(begins__lt=NOW - figures.KEPT).exists()


@pytest.mark.parametrize("span", plots.SPANS)
def test_a_plot_has_few_points_and_ends_with_the_newest_figures(span):
    figures.record(now=NOW)
    rows = plots.points(span, now=NOW)
    assert len(rows) <= 100
    assert rows[-1][1] is not None
    assert rows[0][1] is None or span == "hour"


def test_what_is_drawn_is_also_said_in_words(console):
    Minute.objects.create(begins=timezone.now().replace(second=0, microsecond=0) - 2 * MINUTE, accepted=41)
    page = console.get("/admin/", secure=True).content.decode()
    assert "accepted: 41 at last, 41 at most" in page
    assert "<td>41</td>" in page


# The page.


def queries(console: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert console.get(address, secure=True).status_code == 200
    return len(captured)


def test_the_dashboard_takes_the_same_number_of_queries_with_more_rows(console):
    addresses = ("/admin/", "/admin/figures/", "/admin/?span=week")
    queries(console, "/admin/")  # what is cached once per process is cached now
    few = [queries(console, address) for address in addresses]
    for number in range(12):
        owe(3, f"peer{number}.example", failing_since=timezone.now())
        transaction(set_aside_at=timezone.now())
    figures.record(now=timezone.now())
    assert [queries(console, address) for address in addresses] == few


def test_the_script_is_given_the_parts_that_change(console):
    answer = console.get("/admin/figures/", secure=True)
    assert "Everything that was sent has arrived." in answer.content.decode()
    assert 'data-live="table"' in answer.content.decode()
    assert "no-store" in answer["Cache-Control"]


def test_strangers_get_no_figures(client):
    for address in ("/admin/", "/admin/figures/"):
        assert client.get(address, secure=True).status_code == 302


def test_staff_see_the_numbers_of_what_they_may_view(client):
    Destination.objects.create(server=PEER, failing_since=timezone.now())
    clerk = User.objects.create_user("clerk", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="view_room"))
    client.force_login(clerk)
    page = client.get("/admin/", secure=True)
    assert [tile.text for tile in page.context["tiles"]] == ["Rooms hosted here", "Rooms hosted elsewhere"]
    assert page.context["plots"] == []
    assert "not been reached" not in page.content.decode()
    assert "Whether federation is healthy is shown to staff who may view destinations." in page.content.decode()
    finding(timezone.now())
    clerk.user_permissions.add(Permission.objects.get(codename="view_finding"))
    lines = [line.text for line in client.get("/admin/", secure=True).context["headline"]]
    assert lines == ["1 finding about other servers in the last day."]


@pytest.mark.parametrize(("events", "note"), [(0, "nothing waits"), (1, "1 event"), (2, "2 events")])
def test_the_tile_counts_what_waits(console, events, note):
    if events:
        owe(events)
    tiles = {tile.text: tile.note for tile in console.get("/admin/", secure=True).context["tiles"]}
    assert tiles["Servers waited for"] == note


@pytest.mark.parametrize("held", ["paused", "blocked"])
def test_a_server_that_staff_hold_back_neither_fails_nor_is_waited_for(held):
    owe(2, "one.example", "two.example")
    Destination.objects.update(failing_since=NOW, failures=3)
    if held == "paused":
        pausing.pause("two.example", reason="", now=NOW)
    else:
        blocking.block("two.example", reason="", by="", now=NOW)
        blocking.block_list.forget()
    stand = standing.standing(now=NOW)
    assert (stand.servers, stand.waiting_servers, stand.failing_servers) == (2, 1, 1)
    assert stand.waiting_events.number == 2
    assert stand.paused_servers == (held == "paused")
    assert ["paused" in text for text in said(NOW)] == [False, True][: 1 + (held == "paused")]
