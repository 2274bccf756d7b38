"""What a destination is sent: which events, in which order, how many at once, and rooms taking turns."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from federation.gathering import share_out
from federation.models import Destination, OutboundLpdu, OutboundTransaction
from federation.outbound import QueueFull, queue_lpdu
from linmatrix.limits import DEFAULTS
from linmatrix.protocol.events import Lpdu
from linmatrix.protocol.room_versions import UNSTABLE_PREFIX
from rooms.models import Event, Room, RoomServer
from tests.support.lines import append, begin_stay, end_stay, make_room, message
from tests.support.remote import Remote
from tests.support.stepping import PEER, delivered, drain, one_step, run

OTHER = "other.example.org"

pytestmark = pytest.mark.django_db(transaction=True)


def queued(lpdu_id: str, room_id: str = "!theirs:peer.example.org", padding: int = 0) -> Lpdu:
    return Lpdu(event=message(room_id, lpdu_id, padding), lpdu_id=lpdu_id)


def test_a_kicked_server_gets_the_kick_and_nothing_after() -> None:
    room = make_room("a", PEER, OTHER)
    append(room, "before")
    stay = RoomServer.objects.get(server=PEER)
    append(room, "kick")
    end_stay(stay)
    append(room, "after")
    assert delivered() == ["before", "kick"]
    assert delivered(OTHER) == ["before", "kick", "after"]
    append(room, "later")
    assert not Destination.objects.get(server=PEER).pending


def test_a_server_that_joins_again_gets_the_end_of_its_first_stay_first_and_nothing_between() -> None:
    room = make_room("a", PEER, OTHER)
    append(room, "one", "kick")
    end_stay(RoomServer.objects.get(server=PEER))
    append(room, "between")
    begin_stay(room, PEER)
    append(room, "join", "two")
    assert delivered() == ["one", "kick", "join", "two"]


def test_events_of_one_room_are_not_overtaken_across_stays() -> None:
    room = make_room("a", PEER)
    append(room, *(str(number) for number in range(49)))
    append(room, "49", "kick")
    end_stay(RoomServer.objects.get(server=PEER))
    append(room, "between")
    begin_stay(room, PEER)
    append(room, "join")
    remote = Remote()
    run(remote)
    assert [len(request.pdus) for request in remote.received] == [50, 2]
    assert remote.bodies() == [*map(str, range(50)), "kick", "join"]


def test_events_that_did_not_take_effect_are_not_sent_and_hold_nothing_up() -> None:
    room = make_room("a", PEER)
    append(room, "one")
    append(room, "rejected", verdict=Event.Verdict.REJECTED)
    append(room, "redacted", verdict=Event.Verdict.REDACTED)
    append(room, "soft", verdict=Event.Verdict.SOFT_FAILED)
    assert delivered() == ["one", "redacted"]
    assert RoomServer.objects.get(server=PEER).sent_position == 4


def test_a_busy_room_does_not_keep_others_waiting() -> None:
    append(make_room("busy", PEER), *(f"busy {number}" for number in range(200)))
    for name in ("a", "z"):
        append(make_room(name, PEER), name)
    remote = Remote()
    one_step(remote)
    assert {"a", "z"} <= set(remote.bodies())
    assert len(remote.bodies()) == 50


def test_more_rooms_than_places_take_turns() -> None:
    rooms = [make_room(f"r{number:03}", PEER) for number in range(120)]
    for room in rooms:
        append(room, *(f"{room.room_id} {number}" for number in range(2)))
    remote = Remote()
    for _ in range(3):
        one_step(remote)
    served = {text.split()[0] for text in remote.bodies()}
    assert served == {room.room_id for room in rooms}
    drain(remote)
    assert len(remote.bodies()) == len(set(remote.bodies())) == 240


def test_large_events_make_small_transactions() -> None:
    room = make_room("a", PEER)
    append(room, *(str(number) for number in range(10)), padding=40_000)
    remote = Remote()
    run(remote)
    assert [len(request.pdus) for request in remote.received] == [2] * 5
    assert all(len(request.body) <= DEFAULTS.transaction_bytes for request in remote.received)
    assert remote.bodies() == [str(number) for number in range(10)]


def test_rooms_of_large_events_take_turns_too() -> None:
    for name in ("a", "b", "c"):
        append(make_room(name, PEER), f"{name}1", f"{name}2", padding=60_000)
    remote = Remote()
    run(remote)
    assert remote.bodies() == ["a1", "b1", "c1", "a2", "b2", "c2"]


def test_a_transaction_holds_rooms_of_one_path_form() -> None:
    append(make_room("a", PEER, version="I.1"), *(f"a{number}" for number in range(60)))
    append(make_room("b", PEER), *(f"b{number}" for number in range(60)))
    remote = Remote()
    run(remote)
    forms = [request.path.startswith("/_matrix/federation/v2/send/") for request in remote.received]
    assert forms == [True, False, True, False]
    for request, stable in zip(remote.received, forms, strict=True):
        assert {event["content"]["body"][0] for event in request.pdus} == {"a" if stable else "b"}
        assert request.path.endswith(f"/send/{request.txn_id}")
        assert stable or f"/unstable/{UNSTABLE_PREFIX}/" in request.path


def test_lpdus_and_events_share_the_places() -> None:
    append(make_room("a", PEER), *(f"pdu {number}" for number in range(60)))
    for number in range(60):
        queue_lpdu(PEER, queued(f"${number}"))
    remote = Remote()
    one_step(remote)
    assert [sum(text.startswith(kind) for text in remote.bodies()) for kind in ("pdu", "$")] == [25, 25]
    drain(remote)
    assert [text for text in remote.bodies() if text[0] == "$"] == [f"${number}" for number in range(60)]


def test_lpdus_for_stable_and_unstable_rooms_keep_their_order() -> None:
    stable = make_room("s", version="I.1", role=Room.Role.PARTICIPANT, hub=PEER)
    unstable = make_room("u", role=Room.Role.PARTICIPANT, hub=PEER)
    for number, room in enumerate([stable, stable, unstable, stable]):
        queue_lpdu(PEER, queued(f"${number}", room.room_id))
    remote = Remote()
    run(remote)
    assert [[event["content"]["body"] for event in request.pdus] for request in remote.received] == [
        ["$0", "$1"],
        ["$2"],
        ["$3"],
    ]


def test_an_lpdu_is_queued_once() -> None:
    queue_lpdu(PEER, queued("$one"))
    queue_lpdu(PEER, queued("$one"))
    assert delivered() == ["$one"]


def test_the_queue_for_a_hub_has_an_end(settings) -> None:
    settings.LIMITS = replace(DEFAULTS, queued_lpdus=2)
    queue_lpdu(PEER, queued("$one"))
    queue_lpdu(PEER, queued("$two"))
    with pytest.raises(QueueFull, match="2 events wait for"):
        queue_lpdu(PEER, queued("$three"))
    assert OutboundLpdu.objects.count() == 2


def test_a_server_that_was_away_catches_up_from_its_cursor() -> None:
    room = make_room("a", PEER)
    append(room, *(str(number) for number in range(130)))
    Destination.objects.update(next_attempt=timezone.now() - timedelta(days=7), failures=100)
    assert delivered() == [str(number) for number in range(130)]
    assert OutboundTransaction.objects.filter(acked_at__isnull=False).count() == 3


@pytest.mark.parametrize(
    ("places", "demands", "shares"),
    [
        (50, [], []),
        (50, [3], [3]),
        (5, [9, 9], [3, 2]),
        (50, [200, 1, 1], [48, 1, 1]),
        (2, [1, 1, 1], [1, 1, 0]),
        (4, [1, 9, 2], [1, 2, 1]),
    ],
)
def test_places_are_shared_out_in_turns(places: int, demands: list[int], shares: list[int]) -> None:
    assert share_out(places, demands) == shares
