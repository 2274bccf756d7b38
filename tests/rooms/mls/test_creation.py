"""Which encryption a room of ours may have, and where it is said."""

import json
from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone

from linmatrix.protocol.devices import MLS_ALGORITHM
from linmatrix.protocol.errors import Malformed
from rooms.creation import create_room
from rooms.models import Event, Room
from tests.support.hosted import CREATOR

pytestmark = pytest.mark.django_db


def create_content():
    return json.loads(Event.objects.values_list("json", flat=True).get(type="m.room.create"))["content"]


@pytest.mark.parametrize("algorithm", [MLS_ALGORITHM, "m.megolm.v1.aes-sha2", "org.example.my-encryption"])
def test_a_room_has_its_algorithm_from_its_create_event_on(algorithm):
    create_room(creator=CREATOR, now=timezone.now(), encryption=algorithm)
    assert create_content() == {"room_version": Room.objects.get().version, "encryption": {"algorithm": algorithm}}


def test_a_room_without_encryption_says_nothing_of_it():
    create_room(creator=CREATOR, now=timezone.now())
    assert "encryption" not in create_content()


@pytest.mark.parametrize(
    "algorithm",
    [
        "m.mls.v1.dhkemp256-aes128gcm-sha256-p256",
        "m.mls.v1.",
        f"{MLS_ALGORITHM}x",
        "m.mls.v2.dhkemx25519-aes128gcm-sha256-ed25519",
        "with a space",
        ".own",
        "a" * 256,
        "line\nbreak",
    ],
)
def test_no_room_is_hosted_with_encryption_that_could_not_be_checked(algorithm):
    with pytest.raises(Malformed):
        create_room(creator=CREATOR, now=timezone.now(), encryption=algorithm)
    assert not Room.objects.exists()


def test_the_command_creates_an_encrypted_room():
    call_command("create_room", "--creator", "creator", "--encryption", MLS_ALGORITHM, stdout=StringIO())
    assert create_content()["encryption"] == {"algorithm": MLS_ALGORITHM}
