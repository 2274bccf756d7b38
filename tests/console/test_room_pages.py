"""A room's pages: readable, checked anew, by position, and no dearer in a large room."""

import orjson
import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from federation import pausing
from federation.models import Destination, OutboundLpdu
from keys.models import KeyFetch, ServerKey
from linmatrix.protocol import canonical_json
from linmatrix.protocol.completion import new_event
from rooms.hub import append_own, member_event
from rooms.models import Event, Finding, Gap, RoomServer
from tests.support.hosted import CREATOR, membership
from tests.support.lines import make_room

pytestmark = pytest.mark.django_db(transaction=True)

TABS = {
    "timeline": "view_event",
    "members": "view_stateentry",
    "state": "view_stateentry",
    "servers": "view_roomserver",
    "findings": "view_finding",
    "encryption": "view_mlsgroup",
}
"""A room's pages and the permission that each needs beside the one to see rooms."""


def url(name, *parts):
    return reverse(f"room:{name}", args=list(map(quote, parts)))


def get(console, name, room, *more, **query):
    return console.get(url(name, room.room_id, *more), query, secure=True)


def say(room, *texts, sender=CREATOR):
    now = timezone.now()
    events = [
        new_event(
            room_id=room.room_id, sender=sender, type="m.room.message", content={"body": text}, origin_server_ts=1
        )
        for text in texts
    ]
    return [pdu.event_id for pdu in append_own(room.room_id, events, now=now)]


def invite_many(room, start, number):
    now = timezone.now()
    invites = [
        member_event(
            room_id=room.room_id, sender=CREATOR, user_id=f"@user{n:04}:far.example", membership="invite", now=now
        )
        for n in range(start, start + number)
    ]
    append_own(room.room_id, invites, now=now)


def standings(page):
    return {row.event.event_id: (row.verification.standing.value, row.verification.why) for row in page.context["rows"]}


def test_a_room_leads_to_its_timeline_with_name_role_people_and_servers(console, joined):
    page = console.get(url("room", joined.room_id), secure=True, follow=True)
    assert page.redirect_chain == [(url("timeline", joined.room_id), 302)]
    assert page.context["title"] == "Test"
    about = dict(page.context["about"])
    assert about["Room"] == joined.room_id
    assert about["Hosted by"] == "this server"
    assert about["In it now"] == "2 people, 2 servers"


def test_the_list_of_rooms_links_to_the_room(console, hosted):
    page = console.get(reverse("admin:rooms_room_changelist"), secure=True).content.decode()
    assert url("room", hosted.room_id) in page
    assert reverse("admin:rooms_room_create") in page


def test_each_tab_renders_for_a_room_with_something_in_it(console, joined):
    room = joined
    say(room, "<script>alert(1)</script>")
    Gap.objects.create(room=room, before_position=2, missing_event_id="$x", last_error="<b>refused</b>")
    Finding.objects.create(room=room, server="p.example", kind="fork", event_id="$y", evidence="<i>forks</i>\n[]")
    name = new_event(
        room_id=room.room_id, sender=CREATOR, type="m.room.name", content={"name": "<u>Lobby"}, origin_server_ts=1,
        state_key="",
    )  # fmt: skip
    append_own(room.room_id, [name], now=timezone.now())
    for tab in TABS:
        page = get(console, tab, room)
        assert page.status_code == 200
        for markup in (b"<script>alert", b"<b>refused", b"<i>forks", b"<u>Lobby"):
            assert markup not in page.content, tab


def test_each_tab_needs_its_permission(client, hosted):
    member = User.objects.create_user("staff", is_staff=True)
    client.force_login(member)
    for tab, permission in TABS.items():
        for names, status in (([], 403), (["view_room"], 403), ([permission], 403), (["view_room", permission], 200)):
            member.user_permissions.set(Permission.objects.filter(codename__in=names))
            assert get(client, tab, hosted).status_code == status, (tab, names)


def test_nobody_sees_a_room_without_logging_in(client, hosted):
    assert get(client, "timeline", hosted).status_code == 302


def test_what_is_no_room_of_ours_is_not_found(console):
    for key in ("nothing", "_21no:room", "a_00b", "!unknown:hub.example.org"):
        assert console.get(f"/admin/room/{key}/timeline/", secure=True).status_code == 404, key


def test_the_newest_event_comes_first_and_pages_go_by_position(console, hosted):
    say(hosted, *map(str, range(120)))
    last = Event.objects.filter(room=hosted).order_by("-position").first().position
    seen, address = [], url("timeline", hosted.room_id)
    while address:
        page = console.get(address, secure=True)
        seen += [row.event.position for row in page.context["rows"]]
        address = page.context["older"]
    assert seen == list(range(last, 0, -1))
    middle = get(console, "timeline", hosted, before=60)
    assert [row.event.position for row in middle.context["rows"]] == list(range(59, 9, -1))
    newer = console.get(middle.context["newer"], secure=True)
    assert [row.event.position for row in newer.context["rows"]] == list(range(109, 59, -1))


def test_a_position_that_is_none_shows_the_end_of_the_line(console, hosted):
    for before in ("-1", "x", "9" * 30, "\0", "٣"):
        assert get(console, "timeline", hosted, before=before).context["rows"][0].event.position == 6, before


def test_events_of_both_servers_are_verified(console, joined, peer):
    peer.send([peer.lpdu(joined.room_id).event])
    found = standings(get(console, "timeline", joined))
    assert set(found.values()) == {("verified", "")}
    assert len(found) == 8


def altered(event_id, change):
    """Change a stored event behind everybody's back."""
    event = Event.objects.get(event_id=event_id)
    content = orjson.loads(event.json)
    change(content)
    Event.objects.filter(pk=event_id).update(json=canonical_json.dumps(content).decode())


def test_a_changed_content_fails_and_its_neighbours_do_not(console, hosted):
    first, second = say(hosted, "one", "two")
    altered(first, lambda event: event["content"].update(body="something else"))
    found = standings(get(console, "timeline", hosted))
    assert found[first] == ("fails", "the content does not match its hash")
    assert found[second] == ("verified", "")


def test_a_changed_signature_fails(console, hosted):
    (event_id,) = say(hosted, "one")
    altered(event_id, lambda event: event["signatures"]["hub.example.org"].update({"ed25519:x": "AAAA"}))

    def swap(event):
        by_key = event["signatures"]["hub.example.org"]
        by_key.update(dict.fromkeys(by_key, "A" * 86))

    altered(event_id, swap)
    standing, why = standings(get(console, "timeline", hosted))[event_id]
    assert (standing, "does not verify" in why) == ("fails", True)


def test_an_event_that_follows_another_than_the_one_before_it_fails(console, hosted):
    first, second, third = say(hosted, "one", "two", "three")
    Event.objects.filter(pk=second).update(position=None)
    found = standings(get(console, "timeline", hosted))
    assert found[third] == ("fails", f"it follows {second}, not the event before it")
    assert found[first] == ("verified", "")


def test_the_same_where_history_is_still_to_be_fetched_is_not_verifiable(console, hosted):
    _first, second, third = say(hosted, "one", "two", "three")
    position = Event.objects.get(pk=third).position
    Event.objects.filter(pk=second).update(position=None)
    Gap.objects.create(room=hosted, before_position=position, missing_event_id=second)
    assert standings(get(console, "timeline", hosted))[third][0] == "not verifiable"


def test_the_same_after_an_event_that_was_passed_over_is_verified(console, hosted):
    _first, second, third = say(hosted, "one", "two", "three")
    Event.objects.filter(pk=second).update(position=None)
    Finding.objects.create(room=hosted, server="hub.example.org", kind="invalid", event_id=second, evidence="bad")
    assert standings(get(console, "timeline", hosted))[third][0] == "verified"


def test_without_the_senders_key_an_event_is_not_verifiable_and_nobody_is_asked(console, joined, peer):
    peer.send([peer.lpdu(joined.room_id).event])
    ServerKey.objects.all().delete()
    page = get(console, "timeline", joined)
    theirs = [row for row in page.context["rows"] if row.event.sender == peer.user("user")]
    assert {row.verification.why for row in theirs} == {f"key not known: {peer.name}"}
    assert {row.verification.standing.value for row in theirs} == {"not verifiable"}
    assert not KeyFetch.objects.exists()


def test_a_redacted_event_is_verified_without_its_content(console, hosted):
    (event_id,) = say(hosted, "secret")
    redaction = new_event(
        room_id=hosted.room_id,
        sender=CREATOR,
        type="m.room.redaction",
        content={"redacts": event_id},
        origin_server_ts=1,
    )
    append_own(hosted.room_id, [redaction], now=timezone.now())
    page = get(console, "timeline", hosted)
    assert standings(page)[event_id] == ("verified", "its content was removed; what remains is signed")
    assert b"secret" not in page.content


def test_an_events_page_has_its_json_and_its_checks(console, hosted):
    (event_id,) = say(hosted, "hello there")
    page = get(console, "event", hosted, event_id)
    assert "hello there" in page.context["json"]
    assert [check.standing.value for _, check, _ in page.context["checks"]] == ["verified", "verified"]
    assert get(console, "event", hosted, "$none").status_code == 404


def test_a_page_of_more_events_takes_no_more_queries(console, joined, peer):
    peer.send([peer.lpdu(joined.room_id).event])
    get(console, "timeline", joined)
    counts = []
    for texts in (5, 60):
        say(joined, *map(str, range(texts)))
        peer.send([peer.lpdu(joined.room_id).event])
        with CaptureQueriesContext(connection) as captured:
            assert get(console, "timeline", joined).status_code == 200
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 12


def test_members_are_found_by_page_by_part_of_the_id_and_by_membership(console, hosted):
    invite_many(hosted, 0, 130)
    membership(hosted, "@user0003:far.example", "ban")
    membership(hosted, "@user0004:far.example", "leave")
    first = get(console, "members", hosted)
    second = console.get(first.context["following"], secure=True)
    names = [row["user_id"] for page in (first, second) for row in page.context["rows"]]
    assert names == sorted([CREATOR, *(f"@user{n:04}:far.example" for n in range(130) if n != 4)])
    assert second.context["following"] == ""
    found = get(console, "members", hosted, q="R000").context["rows"]
    assert [row["user_id"][:9] for row in found] == [f"@user000{n}" for n in range(10) if n != 4]
    banned = get(console, "members", hosted, membership="ban").context["rows"]
    assert [(row["user_id"], row["membership"]) for row in banned] == [("@user0003:far.example", "banned")]
    assert get(console, "members", hosted, q="creator").context["rows"][0]["level"] == 100


def test_a_membership_that_only_looks_so_in_the_text_is_not_shown(console, hosted):
    content = {"membership": "leave", "x": {"membership": "ban"}}
    event = new_event(
        room_id=hosted.room_id, sender=CREATOR, type="m.room.member", content=content, origin_server_ts=1,
        state_key="@odd:far.example",
    )  # fmt: skip
    membership(hosted, "@odd:far.example", "invite")
    append_own(hosted.room_id, [event], now=timezone.now())
    assert get(console, "members", hosted, membership="ban").context["rows"] == []


def test_a_page_of_more_members_takes_no_more_queries(console, hosted):
    invite_many(hosted, 0, 5)
    get(console, "members", hosted)
    counts = []
    for page_size in (5, 100):
        with CaptureQueriesContext(connection) as captured:
            assert get(console, "members", hosted).status_code == 200
        counts.append(len(captured))
        if page_size == 5:
            invite_many(hosted, 5, 100)
    assert counts[0] == counts[1] <= 12


def test_servers_show_what_they_lack_and_how_they_do(console):
    room = make_room("one", "behind.example", "hub.example.org", "current.example")
    room.head_position, room.head_event_id = 7, "$x"
    room.save()
    RoomServer.objects.filter(server="behind.example").update(sent_position=4)
    RoomServer.objects.filter(server="current.example").update(sent_position=7)
    Destination.objects.create(server="behind.example", failures=2, failing_since=timezone.now())
    rows = {row.server: (row.lag, row.health) for row in get(console, "servers", room).context["rows"]}
    assert rows == {
        "behind.example": (3, "backing off"),
        "current.example": (0, "nothing sent yet"),
        "hub.example.org": (None, "this server"),
    }
    pausing.pause("behind.example", reason="", now=timezone.now())
    assert next(row.health for row in get(console, "servers", room).context["rows"]) == "paused"
    behind = get(console, "servers", room, show="behind").context["rows"]
    assert [row.server for row in behind] == ["behind.example"]


def followed(console, address, rows):
    """What the pages show from an address on, each page's `following` being the next."""
    shown = []
    while address and len(shown) < 1000:
        page = console.get(address, secure=True)
        shown += rows(page)
        address = page.context["following"]
    return shown


def test_stays_of_a_server_that_has_left_often_are_all_shown(console):
    room = make_room("one", "other.example")
    stays = [
        RoomServer(
            room=room, server="often.example", joined_position=n, left_position=n + 1, sent_position=n, joined_users=0
        )
        for n in range(1, 131)
    ]
    RoomServer.objects.bulk_create(stays)
    address = f"{url('servers', room.room_id)}?show=left"
    shown = followed(console, address, lambda page: [row.since for row in page.context["rows"]])
    assert shown == [f"from {n} to {n + 1}" for n in range(1, 131)]


def test_how_a_server_does_is_told_to_who_may_view_destinations(client):
    room = make_room("one", "away.example")
    Destination.objects.create(server="away.example", failing_since=timezone.now())
    clerk = User.objects.create_user("clerk", is_staff=True)
    client.force_login(clerk)
    for names, told in ((["view_room", "view_roomserver"], False), (["view_destination"], True)):
        clerk.user_permissions.add(*Permission.objects.filter(codename__in=names))
        page = get(client, "servers", room).content.decode()
        assert ("backing off" in page, "change/" in page) == (told, told)


def test_all_of_the_state_is_shown_whatever_its_types_and_keys_are(console, hosted):
    events = [
        new_event(
            room_id=hosted.room_id, sender=CREATOR, type="com.example\nodd", content={}, origin_server_ts=1,
            state_key="x" * 150 + " " * n,
        )
        for n in range(60)
    ]  # fmt: skip
    append_own(hosted.room_id, events, now=timezone.now())
    first = get(console, "state", hosted)
    second = get(console, "state", hosted, after=first.context["after"])
    shown = [row["url"] for page in (first, second) for row in page.context["rows"]]
    assert len(shown) == len(set(shown)) == 65
    assert second.context["after"] == ""


def test_the_state_has_all_but_memberships_with_its_json(console, hosted):
    page = get(console, "state", hosted)
    types = [row["type"] for row in page.context["rows"]]
    assert types == sorted(types)
    assert {"m.room.create", "m.room.name", "m.room.power_levels"} <= set(types)
    assert "m.room.member" not in types
    assert "room_version" in page.content.decode()


def test_what_waits_for_the_hub_is_above_the_timeline(console):
    room = make_room("away", role="participant", hub="hub.example.net")
    hub = Destination.objects.create(server="hub.example.net")
    OutboundLpdu.objects.create(destination=hub, lpdu_id="$waits", room_id=room.room_id, sender=CREATOR, json="{}")
    page = get(console, "timeline", room)
    assert [address for address, _, _ in page.context["waiting"]] == [url("sent", room.room_id, "$waits")]
    assert page.context["about"][1] == ("Hosted by", "hub.example.net")


def test_nothing_about_an_event_can_be_posted(console, hosted):
    (event_id,) = say(hosted, "stays")
    before = Event.objects.get(pk=event_id).json
    for address in (url("event", hosted.room_id, event_id), url("timeline", hosted.room_id)):
        console.post(address, {"json": "{}", "verdict": "rejected"}, secure=True)
    change = reverse("admin:rooms_event_change", args=[quote(event_id)])
    assert console.post(change, {"json": "{}"}, secure=True).status_code == 403
    assert Event.objects.get(pk=event_id).json == before
