"""A participant checks its hub's commits; whatever they are, the room goes on, and the group where it can."""

import json

import pytest
from django.utils import timezone

from linmatrix.protocol.completion import redacted_copy
from linmatrix.protocol.devices import MLS_ALGORITHM
from linmatrix.protocol.encryption import COMMIT
from rooms.importing import import_room
from rooms.models import Event, Finding, MlsCommit, MlsGroup, Room
from rooms.participant import append_pdus, begin_stay
from tests.support.files import exported, forget, problems
from tests.support.mls_rooms import content
from tests.support.mls_writer import MlsDevice, Odd, WrittenGroup
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import US, Peer

pytestmark = pytest.mark.django_db

HUB = Peer("elsewhere.example.org")
OURS = Peer(US)
ALICE, TABLET = MlsDevice(HUB.user("user"), "LAPTOP"), MlsDevice(HUB.user("user"), "TABLET")
DAVE = MlsDevice(HUB.user("dave"), "DAVE")
EVE = MlsDevice(HUB.user("eve"), "EVE")
"""Dave is joined, Eve never is."""

WITHOUT_TREE = Odd(info={"with_tree": False})


class OtherHub:
    """An encrypted room of another server that a user of ours is in, and what its hub sends us of it."""

    def __init__(self, *, encryption=MLS_ALGORITHM, with_us=True):
        self.room = PeerRoom(HUB, encryption=encryption)
        self.room.member(DAVE.user_id, "invite")
        self.room.add(localpart="dave", type="m.room.member", content={"membership": "join"}, state_key=DAVE.user_id)
        if with_us:
            self.room.add(lpdu=OURS.join(self.room.room_id, hub=HUB.name))
        self.group = WrittenGroup.create(self.room.room_id.encode(), ALICE)

    def known_from_its_beginning(self):
        """Have all of its line."""
        row = {"version": self.room.version, "role": Room.Role.PARTICIPANT, "hub_server": HUB.name}
        Room.objects.create(room_id=self.room.room_id, **row)
        return self.take(*self.room.line)

    def take(self, *pdus):
        append_pdus(self.room.room_id, pdus, now=timezone.now())
        return self

    def commit(self, written, *, localpart="user", **fields):
        """An event of the hub's with a commit, appended there."""
        return self.room.add(localpart=localpart, type=COMMIT, content=content(written), **fields)

    def send(self, written, **fields):
        """The same, sent to us; what we think of it."""
        pdu = self.commit(written, **fields)
        self.take(pdu)
        return verdict(pdu)

    @property
    def stored(self):
        return MlsGroup.objects.get(room_id=self.room.room_id)


def verdict(pdu):
    return Event.objects.values_list("verdict", flat=True).get(event_id=pdu.event_id)


def findings():
    return [finding.evidence.partition("\n")[0] for finding in Finding.objects.filter(kind="commit").order_by("id")]


def last_commit():
    return MlsCommit.objects.latest("id")


@pytest.fixture
def hub():
    hub = OtherHub().known_from_its_beginning()
    assert hub.send(hub.group.commit(ALICE, adds=[DAVE])) == "accepted"
    return hub


def test_an_honest_hubs_commits_are_followed(hub):
    assert (hub.stored.standing, hub.stored.epoch, hub.stored.devices) == ("later", 1, 2)
    assert hub.send(hub.group.commit(DAVE, adds=[TABLET]), localpart="dave") == "accepted"
    assert hub.send(hub.group.commit(ALICE, odd=WITHOUT_TREE)) == "accepted"
    assert (hub.stored.standing, hub.stored.epoch, hub.stored.devices) == ("later", 3, 3)
    assert not Finding.objects.exists()


def test_several_commits_in_one_transaction_are_followed(hub):
    pdus = [hub.commit(hub.group.commit(ALICE, odd=WITHOUT_TREE)) for _ in range(3)]
    hub.take(*pdus)
    assert hub.stored.epoch == 4
    assert not Finding.objects.exists()


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"adds": [EVE]}, "mls.add"),
        ({"removes": [DAVE]}, "mls.remove"),
        ({"odd": Odd(signed_by=DAVE.key)}, "mls.signature"),
        ({"odd": Odd(epoch=0)}, "mls.epoch"),
    ],
)
def test_a_commit_that_the_hub_should_have_refused_is_soft_failed_and_a_finding(hub, changes, rule):
    pdu = hub.commit(hub.group.copy().commit(ALICE, **changes))
    hub.take(pdu)
    assert verdict(pdu) == "soft-failed"
    finding = Finding.objects.get()
    reason, _, events = finding.evidence.partition("\n")
    assert (finding.kind, finding.event_id, finding.server) == ("commit", pdu.event_id, HUB.name)
    assert reason.startswith(f"rule {rule}: ")
    assert json.loads(events) == [pdu.event]
    assert (last_commit().verdict, last_commit().event_id, last_commit().reason) == ("refused", pdu.event_id, reason)
    assert hub.stored.standing == "lost"
    # If the hub goes on as if it had refused it, so do we, even from what carries no tree.
    assert hub.send(hub.group.commit(ALICE, odd=WITHOUT_TREE)) == "accepted"
    assert (hub.stored.standing, hub.stored.epoch, hub.stored.devices) == ("later", 2, 2)


def test_where_the_hub_goes_on_from_a_bad_commit_we_begin_again_with_the_next_tree(hub):
    assert hub.send(hub.group.commit(ALICE, adds=[EVE])) == "soft-failed"
    assert hub.send(hub.group.commit(ALICE, removes=[EVE], odd=WITHOUT_TREE)) == "accepted"
    assert (last_commit().verdict, last_commit().epoch) == ("not checked", 2)
    assert hub.stored.standing == "lost"
    assert hub.send(hub.group.commit(ALICE)) == "accepted"
    assert (hub.stored.standing, hub.stored.epoch, hub.stored.devices) == ("later", 4, 2)
    assert hub.send(hub.group.commit(DAVE, odd=WITHOUT_TREE), localpart="dave") == "accepted"
    assert len(findings()) == 1


def test_a_bad_commit_and_what_follows_it_may_come_together(hub):
    bad, good = hub.commit(hub.group.commit(ALICE, adds=[EVE])), hub.commit(hub.group.commit(ALICE, removes=[EVE]))
    hub.take(bad, good)
    assert (verdict(bad), verdict(good)) == ("soft-failed", "accepted")
    assert (hub.stored.standing, hub.stored.epoch) == ("later", 3)


def test_a_hub_need_not_make_commits_remove_who_left_but_it_is_noted(hub):
    """The draft does not ask for it, so that all others have followed the commit: we follow it, too. A finding would
    say of an honest hub that it does what it must not, and leave no room for those that are true."""
    leave = {"type": "m.room.member", "content": {"membership": "leave"}, "state_key": DAVE.user_id}
    hub.take(hub.room.add(localpart="dave", **leave))
    assert hub.send(hub.group.commit(ALICE, adds=[TABLET])) == "accepted"
    reason = f"rule mls.left: the commit must remove devices whose users are not joined: {DAVE.user_id} DAVE"
    assert (last_commit().verdict, last_commit().reason) == ("accepted", reason)
    assert (hub.stored.standing, hub.stored.epoch, hub.stored.devices) == ("later", 2, 3)
    assert not Finding.objects.exists()


def test_a_group_is_taken_from_the_first_commit_with_a_tree_that_we_see():
    hub = OtherHub()
    hub.commit(hub.group.commit(ALICE, adds=[DAVE]))
    hub.known_from_its_beginning()
    MlsGroup.objects.all().delete()
    assert hub.send(hub.group.commit(ALICE, odd=WITHOUT_TREE)) == "accepted"
    assert (hub.stored.standing, hub.stored.epoch, last_commit().verdict) == ("lost", 0, "not checked")
    assert hub.send(hub.group.commit(ALICE, odd=Odd(info={"tree": b"\0"}))) == "accepted"
    assert (hub.stored.standing, last_commit().verdict) == ("lost", "not checked")
    assert hub.send(hub.group.commit(ALICE)) == "accepted"
    assert (hub.stored.standing, hub.stored.epoch) == ("later", 4)
    assert not Finding.objects.exists()


def test_a_group_is_not_taken_from_a_commit_that_another_user_sends():
    hub = OtherHub().known_from_its_beginning()
    assert hub.send(hub.group.commit(ALICE), localpart="dave") == "accepted"
    assert (hub.stored.standing, last_commit().verdict) == ("lost", "not checked")


def test_a_commit_without_content_loses_the_group_and_is_no_fault_of_the_hubs(hub):
    """The hub sends the redacted copy of what was redacted before we got it."""
    pdu = hub.commit(hub.group.commit(ALICE, adds=[TABLET]))
    hub.take(redacted_copy(pdu))
    assert (verdict(pdu), hub.stored.standing) == ("redacted", "lost")
    assert "edit" not in Finding.objects.values_list("kind", flat=True)
    assert hub.send(hub.group.commit(ALICE)) == "accepted"
    assert (hub.stored.standing, hub.stored.devices) == ("later", 3)
    assert findings() == []


def test_after_a_stay_elsewhere_the_group_is_found_again():
    hub = OtherHub().known_from_its_beginning()
    assert hub.send(hub.group.commit(ALICE, adds=[DAVE])) == "accepted"
    leave = {"type": "m.room.member", "content": {"membership": "leave"}, "state_key": OURS.user("user")}
    hub.take(hub.room.add(lpdu=OURS.lpdu(hub.room.room_id, hub=HUB.name, **leave)))
    hub.commit(hub.group.commit(ALICE, adds=[TABLET]))
    join = hub.room.add(lpdu=OURS.join(hub.room.room_id, hub=HUB.name))
    state = hub.room.state_before(len(hub.room.line) - 1)
    begin_stay(
        room_id=hub.room.room_id,
        hub=HUB.name,
        version=hub.room.version,
        state=state,
        auth_chain=state,
        join=join,
        now=timezone.now(),
    )
    assert hub.stored.standing == "lost"
    assert hub.send(hub.group.commit(ALICE)) == "accepted"
    assert (hub.stored.standing, hub.stored.epoch, hub.stored.devices) == ("later", 3, 3)
    assert findings() == []


@pytest.mark.parametrize("encryption", ["", "m.megolm.v1.aes-sha2", "m.mls.v1.dhkemp256-aes128gcm-sha256-p256"])
def test_what_we_cannot_check_is_carried(encryption):
    hub = OtherHub(encryption=encryption).known_from_its_beginning()
    pdu = hub.room.add(type=COMMIT, content={"message": "anything"})
    hub.take(pdu)
    assert verdict(pdu) == "accepted"
    assert [model.objects.count() for model in (MlsGroup, MlsCommit, Finding)] == [0, 0, 0]


@pytest.mark.django_db(transaction=True)
def test_a_room_with_a_soft_failed_commit_leaves_and_comes_back_as_a_file(tmp_path):
    HUB.publish()
    hub = OtherHub(with_us=False).known_from_its_beginning()
    assert hub.send(hub.group.commit(ALICE, adds=[DAVE])) == "accepted"
    bad = hub.commit(hub.group.copy().commit(ALICE, adds=[EVE]))
    hub.take(bad)
    assert hub.send(hub.group.commit(ALICE)) == "accepted"
    before = (hub.stored.standing, hub.stored.epoch, hub.stored.state)
    path = exported(Room.objects.get(), tmp_path)
    assert problems(path) == []
    forget(hub.room.room_id)
    import_room(path, now=timezone.now())
    assert (hub.stored.standing, hub.stored.epoch, hub.stored.state) == before
    assert (verdict(bad), len(findings())) == ("soft-failed", 1)
