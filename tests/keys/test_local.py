"""Our own keys as a process uses them: rotated by any process, taken up by all, published as long as they are right."""

import os
import subprocess
import sys
import threading
from contextlib import nullcontext
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command

from keys import key_file, local
from keys.fetchers import parse_server_keys
from keys.key_file import MAX_OLD_KEYS, TAKE_UP_MS, NotTheSigningKey
from keys.keyring import Keyring
from linmatrix.limits import DEFAULTS
from linmatrix.protocol import canonical_json
from linmatrix.protocol.completion import new_event
from linmatrix.protocol.errors import BadSignature
from linmatrix.protocol.hashes import signed_bytes
from linmatrix.protocol.signing import check_signature
from tests.support.keys import DAY, HOUR, NOW

OWN = "hub.example.org"


@pytest.fixture
def file(tmp_path: Path, settings) -> Path:
    """A key file of the test's own."""
    settings.SIGNING_KEY_FILE = tmp_path / "own" / "signing.key"
    local.signing_key()
    return settings.SIGNING_KEY_FILE


def rotate(now_ms: int = NOW) -> tuple[str, str]:
    """The ids of the key before and the key after."""
    before = local.signing_key().key_id
    return before, local.rotate(replaced=before, now_ms=now_ms).signing.key_id


def in_another_process(*code: str) -> list[str]:
    """What a process prints that uses the same key file."""
    lines = ["import django", "django.setup()", "from keys import key_file, local", *code]
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "linmatrix.settings",
        "LINMATRIX_SIGNING_KEY_FILE": str(settings.SIGNING_KEY_FILE),
    }
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], env=environment, capture_output=True, text=True, check=True
    )
    return run.stdout.split()


def test_after_a_rotation_the_new_key_signs_and_the_old_one_is_published_as_old(file: Path) -> None:
    public_key = local.signing_key().public_key
    old, new = rotate()
    assert local.signing_key().key_id == new != old
    answer = local.server_keys(NOW + 60)
    assert list(answer["verify_keys"]) == list(answer["signatures"][OWN]) == [new]
    assert list(answer["old_verify_keys"]) == [old]
    believed = parse_server_keys(canonical_json.dumps(answer), server=OWN, now_ms=NOW + 60)
    expired = {(key.key_id, key.public_key): key.expired_ts for key in believed.keys}
    assert expired[old, public_key] == NOW + TAKE_UP_MS
    assert expired[new, local.signing_key().public_key] is None


def test_all_old_keys_stay_published_the_latest_first(file: Path) -> None:
    replaced = [rotate(NOW + number * DAY)[0] for number in range(3)]
    answer = local.server_keys(NOW + 3 * DAY)
    assert set(answer["old_verify_keys"]) == set(replaced)
    assert [key.key_id for key in local.own_keys().old] == replaced[::-1]


def test_the_answer_has_no_more_keys_than_others_may_take(file: Path) -> None:
    replaced = [rotate()[0] for _ in range(DEFAULTS.keys_per_answer + 1)]
    answer = local.server_keys(NOW)
    assert set(answer["old_verify_keys"]) == set(replaced[-(DEFAULTS.keys_per_answer - 1) :])
    assert parse_server_keys(canonical_json.dumps(answer), server=OWN, now_ms=NOW)
    assert len(local.own_keys().old) == DEFAULTS.keys_per_answer + 1


def test_the_answer_is_valid_for_twelve_hours_from_when_it_was_asked_for(file: Path) -> None:
    assert local.server_keys(NOW)["valid_until_ts"] == NOW + 12 * HOUR
    assert local.server_keys(NOW + 1)["valid_until_ts"] == NOW + 1 + 12 * HOUR


@pytest.mark.django_db
@pytest.mark.parametrize(("ts", "valid"), [(NOW - DAY, True), (NOW, True), (NOW + TAKE_UP_MS + 1, False)])
def test_an_old_event_of_ours_verifies_with_the_old_key(file: Path, keyring: Keyring, ts: int, valid: bool) -> None:
    key = local.signing_key()
    event = new_event(
        room_id="!room:hub.example.org", sender="@a:hub.example.org", type="m.test", content={}, origin_server_ts=ts
    )
    signatures = {OWN: {key.key_id: key.sign(signed_bytes(event))}}
    rotate()
    keys = keyring.event_keys([(OWN, key.key_id, ts)])
    with nullcontext() if valid else pytest.raises(BadSignature):
        check_signature(signed_bytes(event), signatures, server=OWN, keys=keys, ts=ts)


@pytest.mark.django_db
def test_an_old_key_of_ours_is_not_for_requests(file: Path, keyring: Keyring) -> None:
    old, new = rotate()
    assert keyring.request_keys(OWN, old, NOW) == []
    assert len(keyring.request_keys(OWN, new, NOW)) == 1


def test_another_process_has_the_key_and_this_one_takes_up_its_rotation_at_once(file: Path) -> None:
    before = local.signing_key().key_id
    seen, new = in_another_process(
        "seen = local.signing_key().key_id",
        f"print(seen, local.rotate(replaced=seen, now_ms={NOW}).signing.key_id)",
    )
    assert seen == before
    assert local.signing_key().key_id == new
    assert [key.key_id for key in local.own_keys().old] == [before]


def test_a_process_that_runs_takes_up_a_rotation_while_it_runs(file: Path) -> None:
    code = (
        "from keys import local; import django, sys; django.setup()\n"
        "for line in sys.stdin: print(local.signing_key().key_id, flush=True)"
    )
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "linmatrix.settings",
        "LINMATRIX_SIGNING_KEY_FILE": str(file),
    }
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def ask() -> str:
            assert process.stdin
            assert process.stdout
            process.stdin.write("?\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        before, signing = ask(), rotate()
        assert (before, ask()) == signing


@pytest.mark.parametrize("attempt", range(5))
def test_of_processes_that_rotate_at_once_one_does(file: Path, attempt: int) -> None:
    before = local.signing_key().key_id
    ready = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys; from pathlib import Path; from keys import key_file\n"
                "print('ready', flush=True); sys.stdin.readline()\n"
                "try: key_file.rotate(Path(sys.argv[1]), replaced=sys.argv[2], now_ms=1)\n"
                "except key_file.NotTheSigningKey: print('no')\n"
                "else: print('yes')",
                str(file),
                before,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in ready:
        assert process.stdout
        process.stdout.readline()
    for process in ready:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate()[0].strip() for process in ready]
    assert sorted(results) == ["no", "no", "no", "yes"]
    assert [key.key_id for key in local.own_keys().old] == [before]


def test_threads_that_sign_while_others_rotate_always_have_a_key_of_the_file(file: Path) -> None:
    seen: set[str] = set()
    stop = threading.Event()

    def sign() -> None:
        while not stop.is_set():
            key = local.signing_key()
            key.sign(b"x")
            seen.add(key.key_id)

    threads = [threading.Thread(target=sign) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(30):
        rotate()
    stop.set()
    for thread in threads:
        thread.join()
    keys = local.own_keys()
    assert seen <= {keys.signing.key_id, *(key.key_id for key in keys.old)}
    assert len(keys.old) == 30
    assert os.listdir(file.parent) == ["signing.key"]


@pytest.mark.parametrize("damage", ["gone", "malformed", "readable by others"])
def test_a_running_server_goes_on_with_its_key_when_the_file_is(
    file: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    key, content = local.signing_key(), file.read_text()
    if damage == "gone":
        file.unlink()
    elif damage == "malformed":
        file.write_text("ed25519 oops")
    else:
        file.chmod(0o644)
    assert [local.signing_key() for _ in range(3)] == [key] * 3
    assert len(caplog.records) == 1
    assert f"Signing goes on with {key.key_id}" in caplog.text
    assert content.split()[2] not in caplog.text
    with pytest.raises(ImproperlyConfigured):
        rotate()
    if damage != "gone":
        file.chmod(0o600)
        file.write_text(content)
    else:
        file.write_text(content)
        file.chmod(0o600)
    old, _ = rotate()
    assert old == key.key_id


def test_a_key_that_does_not_sign_is_not_replaced(file: Path) -> None:
    old, new = rotate()
    content = file.read_bytes()
    with pytest.raises(NotTheSigningKey, match=f"{old} does not sign, {new} does"):
        local.rotate(replaced=old, now_ms=NOW)
    assert file.read_bytes() == content


def test_there_is_an_end_to_old_keys(file: Path) -> None:
    old = "".join(f"old ed25519 o{number} {'A' * 43} 1\n" for number in range(MAX_OLD_KEYS - 1))
    file.write_text(file.read_text() + old)
    rotate()
    content = file.read_bytes()
    assert len(content) < key_file.MAX_FILE_BYTES
    with pytest.raises(ImproperlyConfigured, match="has 256 old keys"):
        rotate()
    assert file.read_bytes() == content


def test_a_rotation_keeps_secrets_out_of_logs_and_out_of_the_folder(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    before = file.read_text().split()[2]
    old, new = rotate()
    after = file.read_text().split()[2]
    assert file.stat().st_mode & 0o777 == 0o600
    assert os.listdir(file.parent) == ["signing.key"]
    assert before not in file.read_text()
    assert old in caplog.text
    assert new in caplog.text
    assert before not in caplog.text
    assert after not in caplog.text


# The command.


def run(*words: str) -> str:
    out = StringIO()
    call_command("rotate_signing_key", *words, stdout=out)
    return out.getvalue().strip()


def test_the_command_rotates_and_prints_the_new_key_id(file: Path) -> None:
    before = local.signing_key().key_id
    new = run()
    assert local.signing_key().key_id == new != before


def test_the_command_replaces_a_key_once(file: Path) -> None:
    before = local.signing_key().key_id
    new = run("--replace", before)
    with pytest.raises(CommandError, match=f"Nothing was changed: {before} does not sign, {new} does"):
        run("--replace", before)
    assert local.signing_key().key_id == new


def test_the_command_tells_in_one_line_why_it_cannot(file: Path) -> None:
    file.write_text("?")
    with pytest.raises(CommandError, match="is unusable") as caught:
        run()
    assert "\n" not in str(caught.value)
