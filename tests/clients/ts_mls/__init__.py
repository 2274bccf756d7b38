"""MLS clients on ts-mls: a Node process (client.mjs) that holds any number of them, spoken to in lines of JSON."""

import base64
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.clients.mls import Device, Lifetime, Proposed, Refused, credential, read_credential
from tests.clients.ts_mls.program import installed


class Clients:
    """The process. Its clients share nothing but it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._names = 0

    def ask(self, client: str, verb: str, **given: Any) -> dict[str, Any]:
        """One request and its answer. Raises `Refused` with what ts-mls says."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"client": client, "do": verb, **given}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the Node process has ended"
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["ok"]

    def new(self, user_id: str, device_id: str) -> "Client":
        """A client with a new key."""
        self._names += 1
        return Client(self, str(self._names), Device(user_id, device_id))


class Client:
    """See `tests.clients.mls.Client`."""

    def __init__(self, clients: Clients, name: str, device: Device) -> None:
        self._clients = clients
        self._name = name
        self._about: dict[str, Any] = {}
        self.device = device
        self.signature_key = _bytes(self._ask("new")["signature_key"])
        self._ask("credential", identity=_text(credential(device, self.signature_key)))

    def _ask(self, verb: str, **given: Any) -> dict[str, Any]:
        return self._clients.ask(self._name, verb, **given)

    def sign(self, message: bytes) -> bytes:
        """An Ed25519 signature by the device's key."""
        return _bytes(self._ask("sign", data=_text(message))["signature"])

    def key_package(self, lifetime: Lifetime | None = None, *, last_resort: bool = False) -> bytes:
        """A new one, for 30 days if nothing else is said."""
        lifetime = lifetime or Lifetime.of_days()
        return _bytes(self._ask("key_package", last_resort=last_resort, **lifetime._asdict())["key_package"])

    def create(self, group_id: bytes, lifetime: Lifetime | None = None) -> None:
        """Begin a group with nobody else in it, at epoch 0."""
        lifetime = lifetime or Lifetime.of_days()
        self._about = self._ask("create", group_id=_text(group_id), **lifetime._asdict())

    def commit(self, *, add: Sequence[bytes] = (), remove: Sequence[Device] = (), tree: bool = True) -> Proposed:
        """Key packages to add and members to remove; `tree` says whether the GroupInfo carries the ratchet tree."""
        leaves = {device: leaf for leaf, device in self.members().items()}
        made = self._ask("commit", add=[_text(one) for one in add], remove=[leaves[one] for one in remove], tree=tree)
        return _proposed(made)

    def join_external(self, group_info: bytes, *, resync: bool = False, lifetime: Lifetime | None = None) -> Proposed:
        """Join by a commit of one's own (RFC 9420 section 12.4.3.2); `resync` replaces this device's leaf."""
        lifetime = lifetime or Lifetime.of_days()
        made = self._ask("join_external", group_info=_text(group_info), resync=resync, **lifetime._asdict())
        return _proposed(made)

    def accept(self) -> None:
        """The hub has taken the commit."""
        self._about = self._ask("accept")

    def discard(self) -> None:
        """The hub has refused it."""
        self._ask("discard")

    def process(self, commit: bytes) -> None:
        """Somebody else's commit."""
        self._about = self._ask("process", commit=_text(commit))

    def join(self, welcome: bytes) -> None:
        """Take part in a group, from the epoch of the welcome on."""
        self._about = self._ask("join", welcome=_text(welcome))

    def encrypt(self, plaintext: bytes) -> bytes:
        """A PrivateMessage."""
        return _bytes(self._ask("encrypt", plaintext=_text(plaintext))["ciphertext"])

    def decrypt(self, ciphertext: bytes) -> bytes:
        """Raises `Refused` for what this device has no keys for."""
        return _bytes(self._ask("decrypt", ciphertext=_text(ciphertext))["plaintext"])

    def epoch(self) -> int:
        """Of the group."""
        return self._about["epoch"]

    def members(self) -> Mapping[int, Device]:
        """By leaf index."""
        return {int(leaf): read_credential(_bytes(identity)) for leaf, identity in self._about["members"].items()}


@contextmanager
def running() -> Iterator[Clients]:
    """The process, ended with the block. Raises `program.NotInstalled` where it cannot be had."""
    node, program = installed()
    process = subprocess.Popen([node, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Clients(process)
    finally:
        process.kill()
        process.communicate()


def _proposed(made: Mapping[str, Any]) -> Proposed:
    welcome = made.get("welcome")
    return Proposed(_bytes(made["commit"]), _bytes(made["group_info"]), _bytes(welcome) if welcome else None)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
