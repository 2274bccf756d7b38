"""How peers want to be spoken to: learnt once, known to all processes and after a restart, settable in the console."""

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from federation import paths
from federation.client import FederationClient
from federation.delivery import Outcome
from federation.isolation import MIN_LIMIT_BYTES
from federation.models import Destination, OutboundTransaction
from federation.wire_profile import (
    STALE_SECONDS,
    UNKNOWN,
    Profiles,
    StoredProfiles,
    WireProfile,
    profiles,
)
from keys.http import http_client
from keys.local import signing_key
from linmatrix.limits import DEFAULTS
from tests.support.lines import append, make_room
from tests.support.remote import Remote
from tests.support.stepping import PEER, delivered, one_step

EVENT = paths.event("$event")

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _nothing_remembered():
    """Tests use one name for many peers."""
    yield
    profiles.forget(PEER)


class Clock:
    """Seconds that pass when a test says so."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def client_of(known: Profiles) -> FederationClient:
    """The client of a process."""
    return FederationClient(http_client(), signing_key(), "hub.example.org", profiles=known)


def unstable_only(tls_peer) -> None:
    """Serve `event` under the unstable path."""

    def event(request):
        if "/unstable/" not in request.target:
            return 404, {"errcode": "M_UNRECOGNIZED"}
        return 200, {}

    tls_peer.endpoints["GET", "event"] = event


def test_what_one_process_has_learnt_another_knows(tls_peer) -> None:
    unstable_only(tls_peer)
    assert client_of(StoredProfiles()).call(tls_peer.name, "GET", EVENT, stable=True).status == 200
    assert Destination.objects.values_list("stable_paths", "pending").get(server=tls_peer.name) == (False, False)
    tls_peer.requests.clear()
    assert client_of(StoredProfiles()).call(tls_peer.name, "GET", EVENT, stable=True).status == 200
    assert [request.target for request in tls_peer.requests] == [EVENT.unstable]


def test_a_restarted_process_signs_as_the_peer_wants_at_once(tls_peer) -> None:
    answers = [(401, {"errcode": "M_UNAUTHORIZED"}), (200, {}), (200, {})]
    tls_peer.endpoints["GET", "event"] = lambda _request: answers.pop(0)
    client_of(StoredProfiles()).request(tls_peer.name, "GET", EVENT.stable)
    assert Destination.objects.get(server=tls_peer.name).signs_without_content
    assert client_of(StoredProfiles()).request(tls_peer.name, "GET", EVENT.stable).status == 200
    assert len(tls_peer.requests) == 3


def test_a_peer_that_changes_is_learnt_anew(tls_peer) -> None:
    unstable_only(tls_peer)
    Destination.objects.create(server=tls_peer.name, stable_paths=True, single_events=True)
    assert client_of(StoredProfiles()).call(tls_peer.name, "GET", EVENT, stable=True).status == 200
    row = Destination.objects.get(server=tls_peer.name)
    assert (row.stable_paths, row.single_events) == (False, True)


def test_a_known_form_takes_precedence_over_the_rooms(tls_peer) -> None:
    tls_peer.endpoints["GET", "event"] = lambda _request: (200, {})
    Destination.objects.create(server=tls_peer.name, stable_paths=True)
    client_of(StoredProfiles()).call(tls_peer.name, "GET", EVENT, stable=False)
    assert [request.target for request in tls_peer.requests] == [EVENT.stable]


def test_a_request_takes_no_statement_while_what_is_remembered_is_fresh() -> None:
    clock = Clock()
    known = StoredProfiles(clock=clock)
    with CaptureQueriesContext(connection) as captured:
        for _ in range(10):
            assert known.of(PEER) is UNKNOWN
    assert len(captured) == 1
    Destination.objects.create(server=PEER, stable_paths=True)
    clock.seconds = STALE_SECONDS - 1
    assert known.of(PEER).stable_paths is None
    clock.seconds = STALE_SECONDS
    assert known.of(PEER).stable_paths is True


def test_a_delivery_needs_no_statement_for_the_profile() -> None:
    append(make_room("a", PEER), "one")
    Destination.objects.update(stable_paths=True)

    def check() -> None:
        with CaptureQueriesContext(connection) as captured:
            assert profiles.of(PEER).stable_paths is True
        assert len(captured) == 0

    remote = Remote.answering(check)
    assert one_step(remote) is Outcome.DELIVERED
    assert remote.bodies() == ["one"]


def test_a_transaction_is_frozen_with_the_path_that_the_peer_serves() -> None:
    append(make_room("a", PEER), "one")
    Destination.objects.update(stable_paths=True)
    assert delivered() == ["one"]
    assert OutboundTransaction.objects.get().path.startswith("/_matrix/federation/v2/send/")


def test_nothing_is_written_before_the_transaction_under_way_is_committed() -> None:
    known = StoredProfiles()
    with transaction.atomic():
        with CaptureQueriesContext(connection) as captured:
            known.learn(PEER, stable_paths=True)
        assert [query for query in captured if "INSERT" in query["sql"]] == []
        assert known.of(PEER).stable_paths
    assert Destination.objects.get(server=PEER).stable_paths


def test_learning_leaves_the_rest_of_the_row_alone() -> None:
    append(make_room("a", PEER), "one")
    Destination.objects.update(failures=7, max_body_bytes=5000)
    StoredProfiles().learn(PEER, signs_without_content=True)
    row = Destination.objects.get(server=PEER)
    assert (row.pending, row.failures, row.max_body_bytes, row.signs_without_content) == (True, 7, 5000, True)


def test_a_process_does_not_remember_without_end() -> None:
    known = Profiles()
    for number in range(DEFAULTS.cached_profiles + 1):
        known.learn(f"s{number}.example.org", stable_paths=True)
    assert known.of("s0.example.org") is UNKNOWN
    assert known.of(f"s{DEFAULTS.cached_profiles}.example.org") == WireProfile(stable_paths=True)


# The console


@pytest.fixture
def destination() -> Destination:
    """A peer of which something is known."""
    return Destination.objects.create(
        server="peer_x.example.org:8448", stable_paths=True, max_body_bytes=50_000, single_events=True, failures=3
    )


@pytest.fixture
def console(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("operator"))
    return client


def profile_page(destination: Destination) -> str:
    return reverse("admin:federation_destination_profile", args=[destination.pk])


def test_a_peers_page_shows_its_profile_and_leads_to_setting_it(console: Client, destination: Destination) -> None:
    url = reverse("admin:federation_destination_change", args=["peer_5Fx.example.org_3A8448"])
    shown = console.get(url, secure=True).content.decode()
    assert "50000" in shown.replace(",", "")
    link = shown.partition("/wire-profile/")[0].rpartition('"')[2] + "/wire-profile/"
    assert console.get(link, secure=True).status_code == 200


def test_an_operator_sets_and_resets_a_profile_and_nothing_else(console: Client, destination: Destination) -> None:
    profiles.note(destination)
    data = {"stable_paths": "unknown", "signs_without_content": "true", "max_body_bytes": "", "timeline_state": "on"}
    assert console.post(profile_page(destination), data, secure=True).status_code == 302
    destination.refresh_from_db()
    expected = WireProfile(None, True, None, False, True)
    assert profiles.of(destination.server) == expected
    assert (destination.stable_paths, destination.failures) == (None, 3)


@pytest.mark.parametrize(
    ("limit", "status"),
    [
        (MIN_LIMIT_BYTES, 302),
        (MIN_LIMIT_BYTES - 1, 200),
        (DEFAULTS.transaction_bytes, 302),
        (DEFAULTS.transaction_bytes + 1, 200),
        ("x", 200),
    ],
)
def test_a_limit_must_make_sense(limit: object, status: int, console: Client, destination: Destination) -> None:
    data = {"stable_paths": "unknown", "signs_without_content": "unknown", "max_body_bytes": limit}
    assert console.post(profile_page(destination), data, secure=True).status_code == status
    destination.refresh_from_db()
    assert destination.max_body_bytes == (limit if status == 302 else 50_000)


def viewer(client: Client, *codenames: str) -> Client:
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)
    return client


@pytest.mark.parametrize(("codename", "status"), [("view_destination", 403), ("change_destination", 302)])
def test_who_may_only_look_sets_nothing(codename: str, status: int, client: Client, destination: Destination) -> None:
    data = {"stable_paths": "unknown", "signs_without_content": "unknown"}
    assert viewer(client, codename).post(profile_page(destination), data, secure=True).status_code == status
    destination.refresh_from_db()
    assert destination.single_events is (status == 403)


def test_an_unknown_peer_has_no_profile(console: Client) -> None:
    unknown = reverse("admin:federation_destination_profile", args=["unknown.example.org"])
    assert console.get(unknown, secure=True).status_code == 404


def set_aside(destination: Destination) -> OutboundTransaction:
    return OutboundTransaction.objects.create(
        destination=destination,
        txn_id="txn",
        path="/",
        body=b"{}",
        cursors=[],
        lpdus=[],
        events=1,
        set_aside_at="2030-01-01T00:00:00Z",
        last_error="HTTP 500",
    )


def test_what_is_set_aside_is_shown_with_its_peer_and_its_reason(console: Client, destination: Destination) -> None:
    set_aside(destination)
    listed = console.get(reverse("admin:federation_destination_changelist"), secure=True).content.decode()
    assert "1 set aside" in listed
    link = listed.partition(">1 set aside<")[0].rpartition('href="')[2].strip('"').replace("&amp;", "&")
    rows = console.get(link, secure=True).content.decode()
    assert "not delivered" in rows
    assert "HTTP 500" in rows


@pytest.mark.parametrize("codename", ["view_outboundtransaction", "change_outboundtransaction"])
def test_an_operator_who_may_has_it_sent_again(codename: str, client: Client, destination: Destination) -> None:
    row = set_aside(destination)
    data = {"action": "send_again", "_selected_action": [row.pk]}
    url = reverse("admin:federation_outboundtransaction_changelist")
    viewer(client, "view_outboundtransaction", codename).post(url, data, secure=True)
    row.refresh_from_db()
    destination.refresh_from_db()
    may = codename == "change_outboundtransaction"
    assert (row.set_aside_at is None, destination.pending) == (may, may)
