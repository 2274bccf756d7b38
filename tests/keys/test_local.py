"""Our own signing key: made once, kept from others, refused when it is not what it should be."""

import os
import threading
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from keys import local
from keys.leaked import LEAKED_KEYS
from linmatrix.protocol.encoding import decode_base64, encode_base64
from linmatrix.protocol.identifiers import is_key_id
from linmatrix.protocol.signing import SigningKey

SEED = encode_base64(bytes(range(32)))
GOOD = f"ed25519 a_Xy3_ {SEED}\n"


def key_file(folder: Path, content: str, mode: int = 0o600) -> Path:
    path = folder / "signing.key"
    path.write_text(content)
    path.chmod(mode)
    return path


def test_a_key_is_made_on_first_use_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "not" / "yet" / "signing.key"
    first = local.load_or_create(path)
    assert is_key_id(first.key_id)
    assert local.load_or_create(path) == first
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_servers_get_different_keys(tmp_path: Path) -> None:
    one, other = local.load_or_create(tmp_path / "one"), local.load_or_create(tmp_path / "other")
    assert one.key_id != other.key_id
    assert one.public_key != other.public_key


def test_racing_processes_agree_on_one_key_and_leave_nothing_behind(tmp_path: Path) -> None:
    path, barrier, keys = tmp_path / "signing.key", threading.Barrier(8), []

    def race() -> None:
        barrier.wait()
        keys.append(local.load_or_create(path).public_key)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert set(keys) == {local.load(path).public_key}
    assert os.listdir(tmp_path) == ["signing.key"]


def test_a_file_in_the_format_of_matrix_servers_is_read(tmp_path: Path) -> None:
    key = local.load_or_create(key_file(tmp_path, GOOD))
    assert key.key_id == "ed25519:a_Xy3_"
    assert key.public_key == SigningKey.from_seed(key.key_id, decode_base64(SEED, length=32)).public_key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622, 0o611], ids=oct)
def test_a_file_that_others_can_access_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"accessible to other users \(mode {mode:04o}\)"):
        local.load_or_create(key_file(tmp_path, GOOD, mode))


@pytest.mark.parametrize("mode", [0o600, 0o400], ids=oct)
def test_a_file_that_only_we_can_access_is_taken(tmp_path: Path, mode: int) -> None:
    assert local.load_or_create(key_file(tmp_path, GOOD, mode)).key_id == "ed25519:a_Xy3_"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "must be one line"),
        (SEED, "must be one line"),
        (f"ed25519 a_1 {SEED} more", "must be one line"),
        (GOOD + GOOD, "must be one line"),
        (f"rsa a_1 {SEED}", "must be one line"),
        (f"ed25519 a-1 {SEED}", "its version must consist"),
        (f"ed25519 ä {SEED}", "its version must consist"),
        (f"ed25519 a_1 {SEED[:-4]}", "29 bytes instead of 32"),
        (f"ed25519 a_1 {SEED[:-1]}!", "invalid base64"),
        (f"ed25519 a_1 {encode_base64(bytes(32))}", "private half is publicly known"),
    ],
)
def test_a_malformed_file_is_refused_without_being_quoted(tmp_path: Path, content: str, problem: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=problem) as caught:
        local.load_or_create(key_file(tmp_path, content))
    assert SEED[:8] not in str(caught.value)


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="cannot be read: Is a directory"):
        local.load_or_create(tmp_path)


def test_the_seed_does_not_show(tmp_path: Path) -> None:
    key = local.load_or_create(key_file(tmp_path, GOOD))
    for shown in (repr(key), str(key), f"{[key]}"):
        assert SEED not in shown
        assert repr(bytes(range(32)))[2:20] not in shown


def test_the_published_seeds_give_the_leaked_keys() -> None:
    published = (decode_base64("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1", length=32), bytes(32))
    assert {SigningKey.from_seed("ed25519:1", seed).public_key for seed in published} < LEAKED_KEYS
