"""Acting in rooms from the console: by those who may, once, in the log, through the same rules as everything else."""

import re
from contextlib import ExitStack

import orjson
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.db import connection, transaction
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from federation.acting_in_rooms import block_and_leave, reason_of, unban, user_id_of
from federation.errors import ApiError
from federation.models import OutboundLpdu, PendingLeave
from keys.local import signing_key
from linmatrix.console.rooms import once
from linmatrix.console.rooms.actions import ELSEWHERE, IN_ROOM
from linmatrix.protocol.completion import make_lpdu
from linmatrix.protocol.errors import Malformed, Rejected
from linmatrix.protocol.events import Lpdu
from linmatrix.transport.errors import NotConnected
from rooms.hub import member_event
from rooms.members import local_members, member_of
from rooms.models import Event, LocalUser, PendingInvite, Room
from rooms.participant import append_pdus, begin_stay
from rooms.state import current_state
from tests.support.hosted import CREATOR, membership, snapshot
from tests.support.lines import in_thread, wait_until_blocked
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import Peer

pytestmark = pytest.mark.django_db(transaction=True)

ALICE, BOB, FAR = "@alice:hub.example.org", "@bob:hub.example.org", "@user:part.example.org"


@pytest.fixture
def staffed(hosted):
    """The room with alice, who has no power, and bob, who is banned."""
    membership(hosted, ALICE, "join", sender=ALICE)
    membership(hosted, BOB, "ban")
    return hosted


def form_of(room, name):
    return reverse("room:act", args=[quote(room.room_id), name])


def token(page):
    return re.search(r'name="once" value="([^"]+)"', page.content.decode())[1]


def act(console, address, *, confirmed=True, used=None, **fields):
    """Send a form as a browser would, with a token; the page that it leads to."""
    data = {**fields, "once": used or once.token(), **({"confirmed": "yes"} if confirmed else {})}
    return console.post(address, data, secure=True, follow=True)


def errors(page):
    return " ".join(map(str, page.context["form"].non_field_errors()))


def last_event(room):
    return orjson.loads(Event.objects.filter(room=room).order_by("-position").first().json)


CASES = {
    "notice": ({"text": "Back soon."}, {"msgtype": "m.notice", "body": "Back soon."}),
    "invite": ({"user_id": "carol"}, {"membership": "invite"}),
    "kick": ({"user_id": ALICE}, {"membership": "leave"}),
    "ban": ({"user_id": ALICE, "reason": "spam"}, {"membership": "ban", "reason": "spam"}),
    "unban": ({"user_id": BOB}, {"membership": "leave"}),
    "power": ({"user_id": ALICE, "level": "50"}, {"users": {CREATOR: 100, ALICE: 50}}),
    "leave": ({"user_id": "alice"}, {"membership": "leave"}),
}
"""What is typed into an action's form, and the content of the event that it sends."""


@pytest.mark.parametrize("name", CASES)
def test_an_action_sends_its_event_and_is_in_the_log(console, staffed, name):
    fields, content = CASES[name]
    page = act(console, form_of(staffed, name), sender=CREATOR, **fields)
    assert page.redirect_chain, errors(page)
    assert last_event(staffed)["content"] == content
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.user.username) == (staffed.room_id, "operator")
    assert Event.objects.filter(room=staffed).order_by("-position").first().event_id in entry.change_message


def test_an_action_needs_just_its_own_permissions_and_a_get_does_not_act(client, staffed):
    member = User.objects.create_user("staff", is_staff=True)
    client.force_login(member)
    every = Permission.objects.filter(content_type__app_label__in=("acting", "rooms")).select_related("content_type")
    view_room = Permission.objects.get(codename="view_room")
    before = snapshot(staffed.room_id)
    for name, action in {**IN_ROOM, **ELSEWHERE}.items():
        address = form_of(staffed, name) if name in IN_ROOM else reverse("room:enter", args=[name])
        named = {f"{permission.content_type.app_label}.{permission.codename}": permission for permission in every}
        own = [named.pop(permission) for permission in action.permissions]
        member.user_permissions.set(named.values())
        assert client.get(address, secure=True).status_code == 403, name
        assert client.post(address, {"once": "x", "confirmed": "yes"}, secure=True).status_code == 403, name
        member.user_permissions.set([*own, view_room])
        form = {"user_id": ALICE, "once": "x", "confirmed": "yes"}
        assert client.get(address, form, secure=True).status_code == 200, name
    assert snapshot(staffed.room_id) == before
    assert not LogEntry.objects.exists()
    assert not Room.objects.get().blocked


def test_a_form_without_its_csrf_token_does_nothing(staffed):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.create_superuser("operator"))
    before = snapshot(staffed.room_id)
    data = {"sender": CREATOR, "text": "hello", "once": "x"}
    assert strict.post(form_of(staffed, "notice"), data, secure=True).status_code == 403
    assert snapshot(staffed.room_id) == before


POWERLESS = {
    "kick": ({"user_id": CREATOR}, "rule 5.4.5: the kick level needs 50, has 0"),
    "ban": ({"user_id": CREATOR}, "rule 5.5.3: the ban level needs 50, has 0"),
    "unban": ({"user_id": BOB}, "rule 5.4.3: the ban level needs 50, has 0"),
    "power": ({"user_id": ALICE, "level": "100"}, "rule 7: sending m.room.power_levels needs 50, has 0"),
}


def test_who_lacks_the_power_is_refused_in_the_words_of_the_rule_and_nothing_changes(console, staffed):
    before = snapshot(staffed.room_id)
    for name, (fields, reason) in POWERLESS.items():
        page = act(console, form_of(staffed, name), sender=ALICE, **fields)
        assert errors(page) == f"Not done: {reason}"
        assert snapshot(staffed.room_id) == before, name
    assert not LogEntry.objects.exists()


def choices(page):
    return dict(page.context["form"].fields["sender"].widget.choices)


def test_those_who_have_the_power_come_first_and_it_is_said_when_there_are_none(console, staffed):
    groups = choices(console.get(form_of(staffed, "ban"), secure=True))
    assert [[user for user, _ in rows] for rows in groups.values()] == [[CREATOR], [ALICE]]
    membership(staffed, CREATOR, "leave")
    page = console.get(form_of(staffed, "ban"), secure=True)
    assert [[user for user, _ in rows] for rows in choices(page).values()] == [[ALICE]]
    assert "None of our users in the room has the power for it, which is 50." in page.content.decode()
    membership(staffed, ALICE, "leave", sender=ALICE)
    assert "None of our users is in the room." in console.get(form_of(staffed, "ban"), secure=True).content.decode()


def test_a_form_that_is_sent_twice_acts_once(console, staffed):
    address = form_of(staffed, "notice")
    used = token(console.get(address, secure=True))
    for _ in range(2):
        page = act(console, address, used=used, sender=CREATOR, text="once")
    assert "was sent already" in page.content.decode()
    assert Event.objects.filter(room=staffed, json__contains='"once"').count() == 1
    act(console, address, sender=CREATOR, text="once")
    assert Event.objects.filter(room=staffed, json__contains='"once"').count() == 2


def test_of_two_that_send_a_form_at_the_same_time_the_second_waits_and_finds_it_used(staffed):
    operator = Client()
    operator.force_login(User.objects.create_superuser("operator"))
    address = form_of(staffed, "notice")
    token_used = token(operator.get(address, secure=True))
    answers = []

    def send():
        data = {"sender": CREATOR, "text": "at once", "once": token_used}
        answers.append(operator.post(address, data, secure=True, follow=True))

    request = RequestFactory().post(address)
    request.session = operator.session
    with ExitStack() as stack, transaction.atomic():
        assert once.claim(request, token_used)
        stack.enter_context(in_thread(send))
        wait_until_blocked()
    assert "was sent already" in answers[0].content.decode()
    assert not Event.objects.filter(room=staffed, json__contains="at once").exists()


def test_a_form_without_a_token_does_nothing(console, staffed):
    before = snapshot(staffed.room_id)
    page = console.post(form_of(staffed, "notice"), {"sender": CREATOR, "text": "hello"}, secure=True)
    assert errors(page) == "The form was sent incomplete. Send it again."
    assert snapshot(staffed.room_id) == before


def test_what_cannot_be_taken_back_is_done_after_a_confirmation_only(console, staffed):
    event_id = Event.objects.filter(room=staffed, type="m.room.topic").first() or Event.objects.get(
        room=staffed, type="m.room.name"
    )
    address, fields = form_of(staffed, "redact"), {"sender": CREATOR, "event_id": event_id.pk, "reason": "private"}
    before = snapshot(staffed.room_id)
    question = act(console, address, confirmed=False, **fields)
    assert snapshot(staffed.room_id) == before
    assert IN_ROOM["redact"].final in question.content.decode()
    hidden = question.context["hidden"]
    assert {name: hidden[name] for name in fields} == fields
    console.post(address, hidden, secure=True)
    assert Event.objects.get(pk=event_id.pk).verdict == "redacted"


def test_a_redaction_that_would_have_no_effect_is_refused(console, joined, peer):
    peer.send([peer.lpdu(joined.room_id).event])
    theirs = Event.objects.get(room=joined, type="m.room.message")
    membership(joined, ALICE, "join", sender=ALICE)
    before = snapshot(joined.room_id)
    page = act(console, form_of(joined, "redact"), sender=ALICE, event_id=theirs.pk)
    assert errors(page).endswith("redacting what users of other servers sent needs 50, has 0")
    create = Event.objects.get(room=joined, type="m.room.create")
    assert "never redacted" in errors(act(console, form_of(joined, "redact"), sender=CREATOR, event_id=create.pk))
    assert "no event of this room" in errors(act(console, form_of(joined, "redact"), sender=CREATOR, event_id="$none"))
    assert snapshot(joined.room_id) == before
    assert act(console, form_of(joined, "redact"), sender=CREATOR, event_id=theirs.pk).redirect_chain
    assert Event.objects.get(pk=theirs.pk).verdict == "redacted"


BAD = {
    "user_id": ("invite", {"sender": CREATOR, "user_id": "No One"}, "user_id"),
    "level": ("power", {"sender": CREATOR, "user_id": ALICE, "level": str(2**60)}, "level"),
    "not a number": ("power", {"sender": CREATOR, "user_id": ALICE, "level": "much"}, "level"),
    "event": ("redact", {"sender": CREATOR, "event_id": "no event"}, "event_id"),
    "empty": ("notice", {"sender": CREATOR, "text": ""}, "text"),
    "long": ("notice", {"sender": CREATOR, "text": "x" * 10_001}, "text"),
    "nul": ("notice", {"sender": CREATOR, "text": "a\0b"}, "text"),
}


def test_bad_input_is_named_at_its_field_and_changes_nothing(console, staffed):
    before = snapshot(staffed.room_id)
    for case, (name, fields, field) in BAD.items():
        page = act(console, form_of(staffed, name), **fields)
        assert (page.status_code, list(page.context["form"].errors)) == (200, [field]), case
        assert snapshot(staffed.room_id) == before, case


ODD = {
    "nobody of ours": ("notice", {"sender": FAR, "text": "x"}, "is a user of part.example.org"),
    "no user": ("notice", {"sender": "nonsense", "text": "x"}, "is not a user id"),
    "not banned": ("unban", {"sender": CREATOR, "user_id": ALICE}, "is not banned"),
    "not there": ("kick", {"sender": CREATOR, "user_id": FAR}, "is not in the room"),
    "banned": ("kick", {"sender": CREATOR, "user_id": BOB}, "is not in the room: the membership is ban"),
    "has it": ("power", {"sender": CREATOR, "user_id": CREATOR, "level": "100"}, "has 100 already"),
    "in it": ("invite", {"sender": CREATOR, "user_id": ALICE}, "rule 5.3.2"),
    "away": ("leave", {"user_id": "carol"}, "rule 5.4.1"),
    "unreachable": ("invite", {"sender": CREATOR, "user_id": "@a:nowhere.invalid"}, "nowhere.invalid could not"),
}


def test_what_cannot_be_done_is_told_in_words_and_changes_nothing(console, staffed):
    before = snapshot(staffed.room_id)
    for case, (name, fields, words) in ODD.items():
        assert words in errors(act(console, form_of(staffed, name), **fields))
        assert snapshot(staffed.room_id) == before, case


def test_a_room_is_created(console):
    LocalUser.objects.create(localpart="alice")
    address = reverse("room:enter", args=["create"])
    version = console.get(address, secure=True).context["form"].fields["version"].initial
    fields = {"creator": "alice", "name": "Lobby", "topic": "", "join_rule": "public", "version": version}
    page = act(console, address, history_visibility="shared", **fields)
    room = Room.objects.get()
    assert page.context["title"] == "Lobby"
    assert member_of(room.room_id, ALICE) == "join"
    assert LogEntry.objects.get().object_id == room.room_id
    refused = act(console, address, history_visibility="shared", **{**fields, "creator": "@x:other.example"})
    assert "is a user of other.example" in errors(refused)


def test_a_user_joins_a_public_room_of_ours(console, hosted):
    act(console, reverse("room:enter", args=["join"]), room_id=hosted.room_id, user_id="alice")
    assert member_of(hosted.room_id, ALICE) == "join"


def test_all_our_users_leave_and_others_stay(console, joined):
    membership(joined, ALICE, "join", sender=ALICE)
    membership(joined, BOB, "invite")
    act(console, form_of(joined, "leave-all"), reason="closing")
    assert local_members(joined.room_id, limit=10, memberships=("join", "invite")) == []
    assert member_of(joined.room_id, FAR) == "join"


def test_those_of_ours_who_are_in_the_room_are_found_among_many_who_have_left(hosted):
    for name in ("a", "b", "c", "d"):
        membership(hosted, f"@{name}:hub.example.org", "join", sender=f"@{name}:hub.example.org")
    for name in ("a", "b", "c"):
        membership(hosted, f"@{name}:hub.example.org", "leave", sender=f"@{name}:hub.example.org")
    membership(hosted, CREATOR, "leave")
    assert [member.user_id for member in local_members(hosted.room_id, limit=1)] == ["@d:hub.example.org"]


def test_a_room_is_not_blocked_while_more_of_our_users_are_in_it_than_leave_at_once(staffed):
    left = []
    for blocked in (False, True):
        leaving = block_and_leave(room_id=staffed.room_id, most=1)
        left += [user for user, _ in leaving.left]
        assert (Room.objects.get().blocked, bool(leaving.unfinished)) == (blocked, not blocked)
    assert left == [CREATOR, ALICE]


def test_a_room_is_blocked_and_unblocked(console, staffed):
    act(console, form_of(staffed, "block"))
    assert Room.objects.get().blocked
    act(console, form_of(staffed, "unblock"))
    assert not Room.objects.get().blocked
    assert [entry.change_message for entry in LogEntry.objects.order_by("pk")] == [
        "The room is blocked.", "The room is not blocked any more.",
    ]  # fmt: skip


def test_blocking_a_room_has_our_users_leave_where_that_is_asked_for(console, staffed):
    act(console, form_of(staffed, "block-and-leave"), reason="")
    assert Room.objects.get().blocked
    assert local_members(staffed.room_id, limit=10) == []
    assert LogEntry.objects.get().change_message == "2 of our users left, and the room is blocked."


def test_a_power_level_leaves_the_other_levels_as_they_are(console, staffed):
    act(console, form_of(staffed, "power"), sender=CREATOR, user_id=ALICE, level="-5")
    levels = current_state(staffed.room_id, [("m.room.power_levels", "")])["m.room.power_levels", ""].content
    assert levels == {"users": {CREATOR: 100, ALICE: -5}}


@pytest.fixture
def elsewhere(transactional_db):
    """A room that another server hosts, with alice in it; the hub's copy."""
    hub = Peer("far.example.net").publish()
    room = PeerRoom(hub)
    join = room.add(lpdu=_join_of_alice(hub, room))
    begin_stay(
        room_id=room.room_id, hub=hub.name, version=room.version, state=room.state_before(len(room.line) - 1),
        auth_chain=[], join=join, now=timezone.now(),
    )  # fmt: skip
    return room


def _join_of_alice(hub, room):
    event = member_event(room_id=room.room_id, sender=ALICE, user_id=ALICE, membership="join", now=timezone.now())
    return make_lpdu(event, hub_server=hub.name, key=signing_key())


def send_elsewhere(console, room):
    page = act(console, reverse("room:act", args=[quote(room.room_id), "notice"]), sender=ALICE, text="hello")
    return page, OutboundLpdu.objects.get()


def test_what_is_sent_to_another_hub_waits_and_then_shows_the_echo(console, elsewhere):
    page, lpdu = send_elsewhere(console, elsewhere)
    assert (page.context["settled"], page.context["lpdu_id"]) == (False, lpdu.lpdu_id)
    assert 'http-equiv="refresh"' in page.content.decode()
    assert lpdu.lpdu_id in LogEntry.objects.get().change_message
    echo = elsewhere.add(lpdu=Lpdu(orjson.loads(lpdu.json), lpdu.lpdu_id))
    append_pdus(elsewhere.room_id, [echo], now=timezone.now())
    page = console.get(page.request["PATH_INFO"], secure=True)
    assert page.context["settled"]
    assert echo.event_id in page.context["event_url"].replace("_5F", "_").replace("_24", "$")
    assert 'http-equiv="refresh"' not in page.content.decode()


def test_a_refusal_is_shown_in_the_hubs_words(console, elsewhere):
    page, lpdu = send_elsewhere(console, elsewhere)
    OutboundLpdu.objects.filter(pk=lpdu.pk).update(status="refused", reason="rule 7: <b>needs 50</b>")
    page = console.get(page.request["PATH_INFO"], secure=True)
    assert page.context["refused"] == "rule 7: <b>needs 50</b>"
    assert b"<b>needs" not in page.content


def keep_invite(room_id, membership_="invite"):
    event = {"sender": FAR, "content": {"membership": membership_}}
    return PendingInvite.objects.create(
        room_id=room_id, user_id=ALICE, hub_server="part.example.org", room_version="I.1", event_id="$x",
        json=orjson.dumps(event).decode(), stripped_state="[]",
    )  # fmt: skip


def test_a_pending_invite_is_refused_at_once_and_the_hub_told_later(console):
    keep_invite("!far:part.example.org")
    listed = console.get(reverse("admin:rooms_pendinginvite_changelist"), secure=True).content.decode()
    assert "Accept" in listed
    assert "Refuse" in listed
    page = act(
        console, reverse("room:enter", args=["refuse"]), room_id="!far:part.example.org", user_id=ALICE, reason=""
    )
    assert not PendingInvite.objects.exists()
    assert PendingLeave.objects.get().user_id == ALICE
    assert "the hub is told as soon as it can be reached" in page.content.decode()
    assert LogEntry.objects.get().object_id == "!far:part.example.org"


def test_a_join_that_nobody_answers_is_told_in_words(console):
    page = act(console, reverse("room:enter", args=["join"]), room_id="!far:nowhere.invalid", user_id="alice", via="")
    assert "nowhere.invalid" in errors(page)
    assert not LogEntry.objects.exists()
    bad = act(console, reverse("room:enter", args=["join"]), room_id="far", user_id="alice", via="a b")
    assert set(bad.context["form"].errors) == {"room_id", "via"}


def test_a_join_over_the_wire_brings_the_room(console, tls_peer):
    room = PeerRoom(tls_peer)
    tls_peer.host(room)
    page = act(console, reverse("room:enter", args=["join"]), room_id=room.room_id, user_id="alice", via=tls_peer.name)
    assert page.context["room"].room_id == room.room_id
    assert member_of(room.room_id, ALICE) == "join"


def test_reasons_are_one_harmless_line():
    assert reason_of(ApiError(502, "M_UNKNOWN", "")) == "M_UNKNOWN"
    assert reason_of(NotConnected("no\nanswer")) == "no\N{REPLACEMENT CHARACTER}answer"
    assert reason_of(Rejected("7", "needs 50")) == "rule 7: needs 50"


def test_verbs_complete_what_people_type(hosted):
    assert [user_id_of(text) for text in ("alice", "@alice", "bob:b.example")] == [ALICE, ALICE, "@bob:b.example"]
    with pytest.raises(Malformed, match="is not banned"):
        unban(room_id=hosted.room_id, sender=CREATOR, user_id=ALICE)
    assert not connection.in_atomic_block
