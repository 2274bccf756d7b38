"""Blocked servers: what they ask is refused, nothing goes to them, and nothing is lost or rewritten."""

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import resolve
from django.utils import timezone

from federation import handshakes, withdrawals
from federation.blocking import (
    MAX_BLOCKED,
    STALE_SECONDS,
    BlockList,
    block,
    block_list,
    checked_entry,
    pattern_of,
    unblock,
)
from federation.client import Blocked, federation_client
from federation.delivery import Outcome
from federation.errors import ApiError
from federation.gaps import due_gaps
from federation.invite_policy import invite_allowed
from federation.make_and_send import HandshakeFailed
from federation.models import BlockedServer, Destination, PendingLeave
from federation.sending import send_event
from federation.sweeping import due_destinations
from federation.urls import urlpatterns
from federation.views.base import FederationView
from linmatrix.protocol.errors import Malformed
from rooms.audience import takes_part
from rooms.models import Event, Gap, Room
from tests.support.broker import published
from tests.support.hosted import CREATOR, is_error, snapshot
from tests.support.lines import append, make_room
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import Peer
from tests.support.remote import Remote
from tests.support.stepping import PEER, one_step, run

pytestmark = pytest.mark.django_db(transaction=True)

ALICE = "@alice:hub.example.org"
ROOM = "%21room%3Ahub.example.org"
USER = "%40user%3Apart.example.org"


def blocked(servers, reason=""):
    return block(servers, reason=reason, by="operator", now=timezone.now())


# What they ask.

ENDPOINTS: list[tuple[str, str, dict | None]] = [
    ("PUT", "v2/send/x", {"pdus": []}),
    ("GET", "v2/event/$x", None),
    ("GET", f"v2/backfill/{ROOM}?v=$x&limit=1", None),
    ("GET", f"v1/state/{ROOM}?event_id=$x", None),
    ("GET", f"v1/state_ids/{ROOM}?event_id=$x", None),
    ("GET", f"v1/make_join/{ROOM}/{USER}", None),
    ("GET", f"v1/make_knock/{ROOM}/{USER}", None),
    ("GET", f"v1/make_leave/{ROOM}/{USER}", None),
    ("POST", "v3/send_join/x", {}),
    ("POST", "v3/send_knock/x", {}),
    ("POST", "v3/send_leave/x", {}),
    ("POST", "v3/invite/x", {}),
    ("GET", f"v1/user/{USER}/device/PHONE", None),
    ("GET", f"v1/user/devices/{USER}", None),
    ("POST", "v1/user/keys/query", {"device_keys": {}}),
    ("POST", "v1/user/keys/claim", {"one_time_keys": {}}),
]


def test_the_endpoints_below_are_all_there_are():
    routes = {resolve(f"/_matrix/federation/{path.partition('?')[0]}").url_name for _, path, _ in ENDPOINTS}
    assert routes == {pattern.name for pattern in urlpatterns}
    assert all(issubclass(pattern.callback.view_class, FederationView) for pattern in urlpatterns)


@pytest.mark.parametrize(("method", "path", "content"), ENDPOINTS)
def test_a_blocked_server_is_refused_at_every_endpoint_and_another_is_heard(method, path, content, peer):
    blocked("other.example.org")
    heard = peer.request(method, f"/_matrix/federation/{path}", content)
    assert "refuses all requests" not in heard.content.decode()
    blocked(peer.name)
    assert is_error(peer.request(method, f"/_matrix/federation/{path}", content), 403, "M_FORBIDDEN")


def test_an_event_of_a_blocked_server_does_not_get_into_a_room(joined, peer):
    blocked(peer.name)
    before = snapshot(joined.room_id)
    assert is_error(peer.send([peer.lpdu(joined.room_id).event]), 403, "M_FORBIDDEN")
    assert snapshot(joined.room_id) == before
    unblock(peer.name)
    assert peer.send([peer.lpdu(joined.room_id).event]).json() == {"failed_pdus": {}}


def test_who_only_writes_a_blocked_servers_name_on_a_request_does_not_learn_that_it_is_blocked(peer):
    blocked(peer.name)
    stranger = Peer("stranger.example.org")
    target = "/_matrix/federation/v2/event/$x"
    header = stranger.headers("GET", target, b"", origin=peer.name)
    assert is_error(peer.request("GET", target, header=header), 401, "M_FORBIDDEN")


@pytest.mark.parametrize(("is_blocked", "asked"), [(True, 0), (False, 1)])
def test_a_blocked_server_is_not_asked_for_the_key_of_its_request(is_blocked, asked, tls_peer):
    if is_blocked:
        blocked(tls_peer.name)
    answer = tls_peer.get("event", "$x")
    assert answer.status_code == (401 if is_blocked else 404)
    assert len(tls_peer.requests) == asked


@pytest.mark.parametrize(("name", "failures"), [("refused.example.net", 3), ("heard.example.com", 0)])
def test_a_refused_request_does_not_end_the_back_off(name, failures, transactional_db):
    Destination.objects.create(server=name, failures=3, next_attempt=timezone.now())
    blocked("refused.example.net")
    Peer(name).publish().send([])
    assert Destination.objects.get().failures == failures


def test_keys_stay_open_to_all(peer):
    blocked(peer.name)
    assert peer.client.get("/_matrix/key/v2/server", secure=True).status_code == 200
    query = {"server_keys": {"hub.example.org": {}}}
    answer = peer.client.post("/_matrix/key/v2/query", query, content_type="application/json", secure=True)
    assert len(answer.json()["server_keys"]) == 1


# What we ask of them.


def test_no_request_goes_to_a_blocked_server_and_its_name_is_not_looked_up(tls_peer):
    target = "/_matrix/federation/v2/event/$x"
    assert federation_client().request(tls_peer.name, "GET", target).status == 404
    assert len(tls_peer.requests) == 1
    blocked(tls_peer.name)
    with pytest.raises(Blocked, match="blocked on this server"):
        federation_client().request(tls_peer.name, "GET", target)
    # A name that leads nowhere is refused for the same reason: nobody has looked.
    blocked("nowhere.invalid")
    with pytest.raises(Blocked):
        federation_client().request("nowhere.invalid", "GET", target)
    assert len(tls_peer.requests) == 1


def test_nothing_is_delivered_to_a_blocked_server_and_all_of_it_when_it_is_unblocked():
    room = make_room("a", PEER)
    append(room, "one")
    remote = Remote()
    blocked("*.example.org.invalid")
    run(remote)
    append(room, "two")
    blocked(PEER)
    append(room, "three")
    assert one_step(remote) is Outcome.NOT_OURS
    assert due_destinations() == []
    with published() as messages:
        unblock(PEER)
        assert ("deliver", PEER) in messages()
    assert due_destinations() == [PEER]
    assert one_step(remote) is Outcome.DELIVERED
    assert remote.bodies() == ["one", "two", "three"]


def test_others_are_delivered_to_while_one_is_blocked():
    append(make_room("a", PEER, "well.example.net"), "one")
    blocked("p*.example.org")
    assert due_destinations() == ["well.example.net"]


def test_nobody_is_invited_from_a_blocked_server_and_the_caller_is_told_why(tls_peer, private):
    blocked(tls_peer.name)
    before = snapshot(private.room_id)
    for invite in (
        lambda: handshakes.invite(room_id=private.room_id, sender=CREATOR, user_id=tls_peer.user("user")),
        lambda: send_event(
            room_id=private.room_id,
            sender=CREATOR,
            type="m.room.member",
            content={"membership": "invite"},
            state_key=tls_peer.user("user"),
        ),
    ):
        with pytest.raises(ApiError, match=f"{tls_peer.name} is blocked on this server") as refusal:
            invite()
        assert (refusal.value.status, refusal.value.errcode) == (403, "M_FORBIDDEN")
    assert snapshot(private.room_id) == before
    assert tls_peer.requests == []


def test_a_server_that_is_in_the_room_already_gets_no_more_users_by_invites_of_ours(joined, peer):
    blocked(peer.name)
    with pytest.raises(ApiError, match=f"{peer.name} is blocked on this server"):
        handshakes.invite(room_id=joined.room_id, sender=CREATOR, user_id=peer.user("second"))


def test_a_participant_cannot_have_us_invite_from_a_blocked_server(joined, peer, tls_peer):
    blocked(tls_peer.name)
    content = {"membership": "invite"}
    lpdu = peer.lpdu(joined.room_id, type="m.room.member", content=content, state_key=tls_peer.user("user"))
    (refusal,) = peer.send([lpdu.event]).json()["failed_pdus"].values()
    assert refusal["error"] == f"{tls_peer.name} is blocked on this server."
    assert tls_peer.requests == []


def test_a_participant_invites_nobody_of_a_blocked_server_through_its_hub(tls_peer):
    room = PeerRoom(tls_peer)
    tls_peer.host(room)
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    asked = len(tls_peer.requests)
    blocked("evil.example.net")
    with pytest.raises(ApiError, match=r"evil\.example\.net is blocked"):
        handshakes.invite(room_id=room.room_id, sender=ALICE, user_id="@eve:evil.example.net")
    assert len(tls_peer.requests) == asked


def test_users_of_a_blocked_server_invite_nobody_here_whatever_room_it_is():
    blocked("evil.example.net")
    assert not invite_allowed("hub.example.com", ALICE, sender="@eve:evil.example.net")
    assert not invite_allowed("evil.example.net:8449", ALICE, sender="@bob:hub.example.com")
    assert invite_allowed("hub.example.com", ALICE, sender="@bob:hub.example.com")


def test_a_room_of_a_blocked_server_cannot_be_joined_and_the_user_is_told_why(tls_peer):
    room = PeerRoom(tls_peer)
    tls_peer.host(room)
    blocked(tls_peer.name)
    with pytest.raises(HandshakeFailed, match=f"{tls_peer.name}: blocked on this server"):
        handshakes.join(room_id=room.room_id, user_id=ALICE)
    assert tls_peer.requests == []


# What stays.


def test_its_users_stay_in_a_room_that_we_host_and_nothing_is_written(joined, peer):
    before = snapshot(joined.room_id)
    blocked(peer.name)
    assert snapshot(joined.room_id) == before
    assert takes_part(joined.room_id, peer.name)


def test_events_of_its_users_are_taken_as_another_hub_places_them(tls_peer):
    room = PeerRoom(tls_peer)
    tls_peer.host(room)
    handshakes.join(room_id=room.room_id, user_id=ALICE)
    evil = Peer("evil.example.net").publish()
    blocked(evil.name)
    pdus = [room.add(lpdu=evil.join(room.room_id, hub=tls_peer.name))]
    pdus.append(room.add(lpdu=evil.lpdu(room.room_id, hub=tls_peer.name)))
    tls_peer.send([pdu.event for pdu in pdus])
    assert Event.objects.filter(event_id__in=[pdu.event_id for pdu in pdus], verdict="accepted").count() == 2


def test_a_leave_waits_for_a_blocked_hub_however_long_and_is_tried_as_any_other_then():
    long_ago = timezone.now() - timedelta(days=300)
    leave = PendingLeave.objects.create(
        room_id="!r:gone.localhost", user_id=ALICE, hub_server="gone.localhost:1", room_version="I.1",
        created_at=long_ago, next_attempt=long_ago,
    )  # fmt: skip
    blocked("gone.localhost")
    assert withdrawals.due_leaves() == []
    withdrawals.attempt(leave.pk)
    assert PendingLeave.objects.get().failures == 0
    unblock("gone.localhost")
    assert withdrawals.due_leaves() == [leave.pk]
    withdrawals.attempt(leave.pk)
    assert PendingLeave.objects.get().failures == 1


def test_history_of_a_blocked_hub_is_not_asked_for_until_it_is_unblocked():
    room = Room.objects.create(room_id="!r:gone.localhost", version="I.1", role="participant", hub_server=PEER)
    gap = Gap.objects.create(room=room, before_position=9, missing_event_id="$a")
    blocked(PEER)
    assert due_gaps() == []
    unblock(PEER)
    assert due_gaps() == [gap.pk]


def test_a_list_that_is_full_takes_the_sweep_no_time():
    names = [f"*.{'long' * 50}{number}.example.net" for number in range(MAX_BLOCKED - 1)]
    BlockedServer.objects.bulk_create(BlockedServer(servers=name, blocked_at=timezone.now()) for name in [*names, PEER])
    Destination.objects.bulk_create(Destination(server=name, pending=True) for name in (PEER, "well.example.net"))
    block_list.forget()
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '2s'")
    try:
        assert due_destinations() == ["well.example.net"]
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET statement_timeout")


def test_what_was_tried_in_vain_is_tried_again_when_its_server_is_unblocked():
    Destination.objects.create(
        server=PEER, pending=True, failures=9, next_attempt=timezone.now() + timedelta(minutes=9)
    )
    blocked("peer.example.*")
    unblock("peer.example.*")
    assert due_destinations() == [PEER]


# The list.


@pytest.mark.parametrize(
    ("entry", "server", "meant"),
    [
        ("evil.example", "evil.example", True),
        ("evil.example", "EVIL.example", True),
        ("EVIL.example", "evil.example", True),
        ("evil.example", "evil.example:8448", True),
        ("evil.example:8448", "evil.example:8448", True),
        ("evil.example:8448", "evil.example:8449", False),
        ("evil.example:8448", "evil.example", False),
        ("evil.example", "not-evil.example", False),
        ("evil.example", "evil.example.org", False),
        ("evil.example", "evilxexample", False),
        ("*.evil.example", "a.b.evil.example:1", True),
        ("*.evil.example", "evil.example", False),
        ("*evil.example", "not-evil.example", True),
        ("ev?l.example", "evil.example", True),
        ("ev?l.example", "evl.example", False),
        ("*.example:8448", "evil.example:8448", True),
        ("*.example:8448", "evil.example", False),
        ("evil.*44", "evil.example:8444", False),
    ],
)
def test_an_entry_means_the_same_servers_here_and_in_the_database(entry, server, meant):
    blocked(entry)
    assert BlockList().blocks(server) is meant
    Destination.objects.create(server=server, pending=True)
    assert (due_destinations() == []) is meant
    assert Destination.objects.filter(server__iregex=pattern_of(entry.lower())).exists() is meant


@pytest.mark.parametrize(
    ("servers", "reason"),
    [
        ("", "neither a server name nor a glob"),
        ("https://evil.example", "neither"),
        ("@eve:evil.example", "neither"),
        ("evil example", "neither"),
        ("10.0.0.1", "neither"),
        ("*.ex(ample|.*)", "neither"),
        ("evil.example:99999", "neither"),
        ("a" * 300, "neither"),
        ("*", "would block this server itself"),
        ("HUB.example.org", "would block this server itself"),
        ("*.example.org", "would block this server itself"),
    ],
)
def test_what_would_make_no_sense_is_refused_by_name(servers, reason, settings):
    with pytest.raises(Malformed, match=reason):
        blocked(servers)
    assert not BlockedServer.objects.exists()


def test_what_is_blocked_already_is_said_and_stays_as_it_is():
    blocked("evil.example", reason="first")
    with pytest.raises(Malformed, match=r"evil\.example is blocked already"):
        blocked("evil.EXAMPLE", reason="second")
    assert BlockedServer.objects.get().reason == "first"
    with pytest.raises(Malformed, match="not on the list"):
        unblock("good.example")


def test_a_server_stays_blocked_while_another_entry_means_it():
    blocked("evil.example")
    blocked("*.example")
    unblock("evil.example")
    assert block_list.blocks("evil.example")
    unblock("*.example")
    assert not block_list.blocks("evil.example")


def test_another_process_knows_after_the_list_has_become_stale_and_asks_no_oftener():
    class Clock:
        seconds = 0.0

        def __call__(self):
            return self.seconds

    clock = Clock()
    elsewhere = BlockList(clock=clock)
    assert not elsewhere.blocks(PEER)
    blocked(PEER)
    assert block_list.blocks(PEER)
    clock.seconds = STALE_SECONDS - 0.1
    with CaptureQueriesContext(connection) as captured:
        assert not any(elsewhere.blocks(PEER) for _ in range(10))
    assert len(captured) == 0
    clock.seconds = STALE_SECONDS
    with CaptureQueriesContext(connection) as captured:
        assert all(elsewhere.blocks(PEER) for _ in range(10))
    assert len(captured) == 1


def test_a_process_does_not_remember_names_without_end():
    known = BlockList()
    blocked("evil.example")
    for number in range(10_001):
        known.blocks(f"s{number}.example")
    assert len(known._known) <= 10_000
    assert known.blocks("evil.example")


def test_the_commands_block_and_unblock(capsys):
    call_command("block_server", "Evil.example", reason="spam")
    row = BlockedServer.objects.get()
    assert (row.servers, row.reason, row.blocked_by) == ("evil.example", "spam", "")
    with pytest.raises(CommandError, match="blocked already"):
        call_command("block_server", "evil.example")
    call_command("unblock_server", "evil.example")
    assert not BlockedServer.objects.exists()
    with pytest.raises(CommandError, match="not on the list"):
        call_command("unblock_server", "evil.example")
    assert "Unblocked evil.example." in capsys.readouterr().out


def test_an_entry_is_stored_in_lower_case():
    assert checked_entry(" Evil.Example:8448 ") == "evil.example:8448"
