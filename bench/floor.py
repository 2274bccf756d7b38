"""The crypto floor: what a hub cannot do without for one LPDU, on one core, whatever is around it.

For each LPDU the protocol has a hub
  - verify one signature (the sender's server's) and make one (its own);
  - take four hashes: the LPDU's content hash and reference hash (its id), the PDU's content hash and reference hash
    (its event id);
  - write canonical JSON five times: the LPDU as signed (redacted) and as its content hash covers it, the PDU as its
    content hash covers it, as signed (redacted), and in full, as it is stored and sent.

`primitives` is those operations alone, on values that lie ready: the floor that ingest is judged by. `protocol` is
the product's own functions for the same (`receive_lpdu`, `complete`), with all checks of schema and size and with the
base64 and copying in between, keys at hand.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeVar

from nacl.signing import SigningKey as Ed25519Key
from nacl.signing import VerifyKey as Ed25519VerifyKey

from bench.participants import Participant
from linmatrix.protocol import canonical_json
from linmatrix.protocol.completion import complete
from linmatrix.protocol.encoding import decode_base64
from linmatrix.protocol.events import Lpdu, Pdu, check_schema
from linmatrix.protocol.receipt import receive_lpdu
from linmatrix.protocol.redaction import redact
from linmatrix.protocol.signing import KnownKeys, SigningKey, VerifyKey

HUB = "hub.localhost:8448"
ROOM = f"!{'r' * 18}:{HUB}"
AUTH_EVENTS = tuple(f"${letter * 43}" for letter in "CPM")
"""As a message has them: create, power levels, membership."""

BATCH = 200
Item = TypeVar("Item")
_HASHES = ("hashes", "signatures", "auth_events", "prev_events")


@dataclass(frozen=True, slots=True)
class Floor:
    """LPDUs a second on one core."""

    primitives: float
    protocol: float

    def mean(self, other: "Floor") -> "Floor":
        """The floor of a time between two measurements."""
        return Floor((self.primitives + other.primitives) / 2, (self.protocol + other.protocol) / 2)


def measure(seconds: float) -> Floor:
    """Both figures, half the time each, their batches taking turns so that they share what noise there is."""
    participant, hub_key = Participant("p1.localhost:8448"), SigningKey.from_seed("ed25519:hub", b"h" * 32)
    lpdus = [participant.message(ROOM, hub=HUB, number=number) for number in range(BATCH)]
    key = VerifyKey.from_bytes(participant.key.public_key, valid_until_ts=2**53)
    known: KnownKeys = {(participant.name, participant.key.key_id): [key]}
    work = [_Prepared.of(lpdu, participant, hub_key) for lpdu in lpdus]
    end = time.perf_counter() + seconds
    primitives, protocol = [], []
    while time.perf_counter() < end:
        primitives.append(_rate(_Prepared.run, work))
        protocol.append(_rate(lambda lpdu: _receive_and_complete(lpdu.event, known, hub_key), lpdus))
    return Floor(statistics.median(primitives), statistics.median(protocol))


def _rate(work: Callable[[Item], object], items: Sequence[Item]) -> float:
    begun = time.perf_counter()
    for item in items:
        work(item)
    return len(items) / (time.perf_counter() - begun)


def _receive_and_complete(event: dict[str, Any], keys: KnownKeys, hub_key: SigningKey) -> Pdu:
    lpdu = receive_lpdu(check_schema(event), keys=keys)
    return complete(lpdu.event, auth_events=AUTH_EVENTS, prev_event=AUTH_EVENTS[0], server=HUB, key=hub_key, lpdu=lpdu)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One LPDU and the PDU of it, taken apart into what the primitives work on."""

    verify_key: Ed25519VerifyKey
    signing_key: Ed25519Key
    signature: bytes
    lpdu_signed: dict[str, Any]
    lpdu_hashed: dict[str, Any]
    pdu_hashed: dict[str, Any]
    pdu_signed: dict[str, Any]
    pdu: dict[str, Any]

    @classmethod
    def of(cls, lpdu: Lpdu, participant: Participant, hub_key: SigningKey) -> "_Prepared":
        event = lpdu.event
        pdu = complete(
            event, auth_events=AUTH_EVENTS, prev_event=AUTH_EVENTS[0], server=HUB, key=hub_key, lpdu=lpdu
        ).event
        return cls(
            verify_key=participant.key.key.verify_key,
            signing_key=hub_key.key,
            signature=decode_base64(event["signatures"][participant.name][participant.key.key_id], length=64),
            lpdu_signed=_without(redact(event), "signatures"),
            lpdu_hashed=_without(event, *_HASHES),
            pdu_hashed={**_without(pdu, "signatures"), "hashes": event["hashes"]},
            pdu_signed=_without(redact(pdu), "signatures"),
            pdu=pdu,
        )

    def run(self) -> None:
        lpdu_signed = canonical_json.dumps(self.lpdu_signed)
        self.verify_key.verify(lpdu_signed, self.signature)
        sha256(lpdu_signed).digest()
        sha256(canonical_json.dumps(self.lpdu_hashed)).digest()
        sha256(canonical_json.dumps(self.pdu_hashed)).digest()
        pdu_signed = canonical_json.dumps(self.pdu_signed)
        self.signing_key.sign(pdu_signed)
        sha256(pdu_signed).digest()
        canonical_json.dumps(self.pdu)


def _without(event: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in fields}
