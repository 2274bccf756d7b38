"""The file with our own keys: made once, kept from others, refused when it is not what it should be."""

import os
import threading
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from keys import key_file
from keys.leaked import LEAKED_KEYS
from linmatrix.protocol.encoding import decode_base64, encode_base64
from linmatrix.protocol.identifiers import is_key_id
from linmatrix.protocol.signing import SigningKey

SEED = encode_base64(bytes(range(32)))
GOOD = f"ed25519 a_Xy3_ {SEED}\n"


def written(folder: Path, content: str, mode: int = 0o600) -> Path:
    path = folder / "signing.key"
    path.write_text(content)
    path.chmod(mode)
    return path


def test_a_key_is_made_on_first_use_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "not" / "yet" / "signing.key"
    first = key_file.load_or_create(path)
    assert is_key_id(first.signing.key_id)
    assert key_file.load_or_create(path) == first
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_servers_get_different_keys(tmp_path: Path) -> None:
    one, other = key_file.load_or_create(tmp_path / "one"), key_file.load_or_create(tmp_path / "other")
    assert one.signing.key_id != other.signing.key_id
    assert one.signing.public_key != other.signing.public_key


def test_racing_processes_agree_on_one_key_and_leave_nothing_behind(tmp_path: Path) -> None:
    path, barrier, keys = tmp_path / "signing.key", threading.Barrier(8), []

    def race() -> None:
        barrier.wait()
        keys.append(key_file.load_or_create(path).signing.public_key)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert set(keys) == {key_file.load(path).signing.public_key}
    assert os.listdir(tmp_path) == ["signing.key"]


def test_a_file_in_the_format_of_matrix_servers_is_read(tmp_path: Path) -> None:
    key = key_file.load_or_create(written(tmp_path, GOOD)).signing
    assert key.key_id == "ed25519:a_Xy3_"
    assert key.public_key == SigningKey.from_seed(key.key_id, decode_base64(SEED, length=32)).public_key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622, 0o611], ids=oct)
def test_a_file_that_others_can_access_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"accessible to other users \(mode {mode:04o}\)"):
        key_file.load_or_create(written(tmp_path, GOOD, mode))


@pytest.mark.parametrize("mode", [0o600, 0o400], ids=oct)
def test_a_file_that_only_we_can_access_is_taken(tmp_path: Path, mode: int) -> None:
    assert key_file.load_or_create(written(tmp_path, GOOD, mode)).signing.key_id == "ed25519:a_Xy3_"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "first line must be"),
        (SEED, "first line must be"),
        (f"ed25519 a_1 {SEED} more", "first line must be"),
        (GOOD + GOOD, "lines after its first must be"),
        (f"rsa a_1 {SEED}", "first line must be"),
        (f"ed25519 a-1 {SEED}", "a key's version must consist"),
        (f"ed25519 ä {SEED}", "a key's version must consist"),
        (f"ed25519 a_1 {SEED[:-4]}", "29 bytes instead of 32"),
        (f"ed25519 a_1 {SEED[:-1]}!", "invalid base64"),
        (f"ed25519 a_1 {encode_base64(bytes(32))}", "private half is publicly known"),
        (f"old ed25519 a_1 {SEED} 1", "first line must be"),
        (f"{GOOD}old ed25519 a_1 {SEED}", "lines after its first must be"),
        (f"{GOOD}old rsa a_1 {SEED} 1", "lines after its first must be"),
        (f"{GOOD}old ed25519 a_1 {SEED} -1", "lines after its first must be"),
        (f"{GOOD}old ed25519 a_1 {SEED} 1.5", "lines after its first must be"),
        (f"{GOOD}old ed25519 a_1 {SEED} 1000000000000000", "lines after its first must be"),
        (f"{GOOD}old ed25519 a-1 {SEED} 1", "a key's version must consist"),
        (f"{GOOD}old ed25519 a_1 {SEED[:-4]} 1", "29 bytes instead of 32"),
        (f"{GOOD}old ed25519 a_Xy3_ {SEED} 1", "two keys with the same version"),
        (GOOD + "\n" * key_file.MAX_FILE_BYTES, "longer than"),
    ],
)
def test_a_malformed_file_is_refused_without_being_quoted(tmp_path: Path, content: str, problem: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=problem) as caught:
        key_file.load_or_create(written(tmp_path, content))
    assert SEED[:8] not in str(caught.value)


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="cannot be read: Is a directory"):
        key_file.load_or_create(tmp_path)


def test_the_seed_does_not_show(tmp_path: Path) -> None:
    key = key_file.load_or_create(written(tmp_path, GOOD)).signing
    for shown in (repr(key), str(key), f"{[key]}"):
        assert SEED not in shown
        assert repr(bytes(range(32)))[2:20] not in shown


def test_the_published_seeds_give_the_leaked_keys() -> None:
    published = (
        decode_base64("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1", length=32),
        bytes(32),
        bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"),
        bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"),
        bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"),
    )
    assert {SigningKey.from_seed("ed25519:1", seed).public_key for seed in published} < LEAKED_KEYS


def test_old_keys_follow_the_one_that_signs(tmp_path: Path) -> None:
    keys = key_file.load(written(tmp_path, f"{GOOD}\nold ed25519 b {SEED} 123\nold ed25519 a {SEED} 45\n"))
    assert keys.signing.key_id == "ed25519:a_Xy3_"
    assert [(key.key_id, key.expired_ts) for key in keys.old] == [("ed25519:b", 123), ("ed25519:a", 45)]
    assert keys.old[0].public_key == bytes(range(32))


def test_what_rotation_writes_is_read_again(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    rotated = key_file.rotate(path, replaced="ed25519:a_Xy3_", now_ms=1000)
    assert key_file.load(path) == rotated
    assert [(key.key_id, key.expired_ts) for key in rotated.old] == [("ed25519:a_Xy3_", 1000 + key_file.TAKE_UP_MS)]


def test_rotation_follows_a_link_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = written(tmp_path / "elsewhere", GOOD)
    link = tmp_path / "signing.key"
    link.symlink_to(path)
    rotated = key_file.rotate(link, replaced="ed25519:a_Xy3_", now_ms=1000)
    assert link.is_symlink()
    assert key_file.load(path) == rotated


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_rotation_by_root_leaves_the_file_to_its_owner(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    os.chown(path, 12345, 12346)
    key_file.rotate(path, replaced="ed25519:a_Xy3_", now_ms=1000)
    assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o777) == (12345, 12346, 0o600)


def test_a_file_that_cannot_be_replaced_is_told_without_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="cannot be replaced: No such file or directory"):
        key_file.rotate(tmp_path / "nowhere" / "signing.key", replaced="ed25519:a_Xy3_", now_ms=1000)
