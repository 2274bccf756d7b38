"""`manage.py devices`: devices of local users and their one-time keys, and what other servers have of theirs.

Until there is an interface for clients, their software brings devices and keys here: as files in the form in which a
Matrix client uploads them, or from standard input.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from federation import devices
from federation.management.acting import Acting, Failed, user_id_of
from keys.devices import storing, uploading
from linmatrix.protocol import canonical_json
from linmatrix.protocol.one_time_keys import ALGORITHMS
from rooms.local_users import require_local
from rooms.wording import shown

KEY_LISTS = ("one_time_keys", "fallback_keys")
"""Members of a file of keys; others are ignored, as a client's upload has its device beside them."""


class Command(Acting):
    """Looks after devices."""

    help = "Add, list and remove devices of users, upload their one-time keys, and ask other servers for theirs."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        user = ("user", "a user of this server, as localpart or full id")
        device = ("device", "the device's id")
        file = ("file", "a file with JSON; - for standard input")
        listing = _verb(verbs, "list", "list a user's devices, and how many keys others may claim of them", user)
        listing.add_argument("--json", action="store_true", help="print the devices as they were signed")
        adding = _verb(verbs, "add", "add a device, or change it, by the object that it signed", user, file)
        adding.add_argument("--name", metavar="NAME", help="what people call it; servers that ask are told")
        _verb(verbs, "rename", "change what people call a device", user, device, ("name", "empty for no name"))
        _verb(verbs, "remove", "remove a device and its keys", user, device)
        _verb(verbs, "upload", f"take keys, by name in {' and '.join(KEY_LISTS)}", user, device, file)
        anybody = ("users", "users of any server")
        _verb(verbs, "query", "list users' devices, asking their servers where need be", anybody, many=True)
        algorithm = ("algorithm", f"the keys' algorithm, such as {' or '.join(ALGORITHMS)}")
        _verb(verbs, "claim", "claim a key of a device: nobody else gets it", ("user", "any user"), device, algorithm)

    def act(self, **options: Any) -> None:
        verb: Callable[..., None] = getattr(self, f"_{options['verb']}")
        verb(**options)

    def _list(self, *, user: str, json: bool, **_options: Any) -> None:
        user_id, now = _ours(user), timezone.now()
        rows = list(storing.devices_of([user_id]))
        if json:
            for row in rows:
                self.screen.print(row.json)
            return
        counts = [uploading.key_counts(user_id, row.device_id, now=now) for row in rows]
        self.table(
            ("device", "name", "keys", "in reserve"),
            [
                (row.device_id, row.display_name, _numbers(count.one_time), ", ".join(count.reusable))
                for row, count in zip(rows, counts, strict=True)
            ],
        )

    def _add(self, *, user: str, file: str, name: str | None, **_options: Any) -> None:
        value = _json_of(file)
        device_id = value.get("device_id")
        if not isinstance(device_id, str):
            raise Failed("The file is no device: it has no device_id.")
        storing.upload_device(value, user_id=_ours(user), device_id=device_id, now=timezone.now(), display_name=name)
        self.screen.print(device_id)

    def _rename(self, *, user: str, device: str, name: str, **_options: Any) -> None:
        storing.rename(_ours(user), device, name)

    def _remove(self, *, user: str, device: str, **_options: Any) -> None:
        storing.delete_device(_ours(user), device, now=timezone.now())

    def _upload(self, *, user: str, device: str, file: str, **_options: Any) -> None:
        content = _json_of(file)
        one_time, fallback = (content.get(name, {}) for name in KEY_LISTS)
        if not (isinstance(one_time, dict) and isinstance(fallback, dict)) or not (one_time or fallback):
            raise Failed(f"The file has no keys: it should have {' or '.join(KEY_LISTS)}, objects of keys by name.")
        counts = uploading.upload_keys(
            _ours(user), device, one_time_keys=one_time, reusable_keys=fallback, now=timezone.now()
        )
        self.screen.print(_numbers(counts.one_time) or "none for single use")

    def _query(self, *, users: list[str], **_options: Any) -> None:
        found = devices.query([user_id_of(user) for user in users], now=timezone.now())
        self._complain(found.failures, found.left_out)
        self.table(
            ("user", "device", "algorithms"),
            [
                (user_id, device_id, ", ".join(canonical_json.loads(text.encode())["algorithms"]))
                for user_id, of_user in found.devices.items()
                for device_id, text in sorted(of_user.items())
            ],
        )

    def _claim(self, *, user: str, device: str, algorithm: str, **_options: Any) -> None:
        user_id = user_id_of(user)
        claimed = devices.claim({user_id: {device: algorithm}}, now=timezone.now())
        if not claimed.keys:
            reasons = [*claimed.failures.values(), *claimed.left_out]
            raise Failed("; ".join(reasons) or f"{user_id} {device} has no key of {algorithm}.")
        self.screen.print(canonical_json.dumps(claimed.keys[user_id][device]).decode())

    def _complain(self, failures: dict[str, str], left_out: list[str]) -> None:
        for line in [*(f"{server}: {reason}" for server, reason in failures.items()), *left_out]:
            self.stderr.write(shown(line, limit=500))


def _verb(verbs: Any, name: str, help: str, *arguments: tuple[str, str], many: bool = False) -> ArgumentParser:
    """A verb with these arguments; `many` if the last one may be given more than once."""
    parser: ArgumentParser = verbs.add_parser(name, help=help, description=help)
    for argument, text in arguments:
        parser.add_argument(argument, help=text, nargs="+" if many else None)
    return parser


def _ours(user: str) -> str:
    return require_local(user_id_of(user))


def _numbers(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {algorithm}" for algorithm, number in counts.items())


def _json_of(file: str) -> dict[str, Any]:
    """The JSON object in a file. Raises `Failed`, and `ProtocolError` for what is no such object."""
    try:
        text = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise Failed(f"{file} cannot be read: {error.strerror}") from None
    return canonical_json.loads_object(text)
