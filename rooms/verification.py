"""Whether a stored event still proves itself: recomputed for people who look at it, by the code that receives events.

An event's id covers what it is and what it follows, so four questions decide: does the content match its hash, has the
sender's server signed it, has the room's hub signed it at this place, and does it follow the event before it. The
answer uses only keys that are given: nobody is asked for one because somebody looks at a page.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from linmatrix.protocol import canonical_json
from linmatrix.protocol.errors import BadSignature, ProtocolError
from linmatrix.protocol.events import CheckedEvent, Pdu, check_schema
from linmatrix.protocol.receipt import keys_needed, receive_pdu, required_signers
from linmatrix.protocol.signing import KnownKeys
from rooms.models import Event, Finding, Gap, Room


class Standing(Enum):
    """What became of checking an event."""

    VERIFIED = "verified"
    NOT_VERIFIABLE = "not verifiable"
    FAILS = "fails"


@dataclass(frozen=True, slots=True)
class Verification:
    """An event's standing; `why` is one line for people, and may be empty for a verified one."""

    standing: Standing
    why: str = ""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A stored event, and the same as the checks want it; None with the reason where it has not even the schema."""

    event: Event
    checked: CheckedEvent | None
    reason: str = ""


def parse(events: Iterable[Event]) -> list[Parsed]:
    """Read stored events, each once: for the keys that they need, and for `verify`."""
    return [_parse(event) for event in events]


def _parse(event: Event) -> Parsed:
    try:
        return Parsed(event, check_schema(canonical_json.loads(event.json.encode())))
    except ProtocolError as error:
        return Parsed(event, None, error.reason)


def signers(parsed: Iterable[Parsed]) -> set[str]:
    """The servers whose keys the checks need."""
    return {server for item in parsed if item.checked is not None for server in required_signers(item.checked)}


def verify(item: Parsed, *, hub: str, keys: KnownKeys) -> Verification:
    """Check one event of a room whose hub is `hub`, without regard to its place (`place`)."""
    if item.checked is None:
        return Verification(Standing.FAILS, item.reason)
    try:
        pdu = receive_pdu(item.checked, hub=hub, keys=keys)
    except BadSignature as error:
        if missing := _missing_keys(item.checked, keys):
            return Verification(Standing.NOT_VERIFIABLE, f"key not known: {', '.join(missing)}")
        return Verification(Standing.FAILS, error.reason)
    except ProtocolError as error:
        return Verification(Standing.FAILS, error.reason)
    return _as_stored(item.event, pdu)


def _as_stored(event: Event, pdu: Pdu) -> Verification:
    """Whether what passed the checks is what the row says that it is."""
    if pdu.event_id != event.event_id:
        return Verification(Standing.FAILS, f"its id is {pdu.event_id}")
    if pdu.altered:
        return Verification(Standing.FAILS, "the content does not match its hash")
    if pdu.encoded != event.json.encode():
        return Verification(Standing.FAILS, "it is not stored as canonical JSON")
    return Verification(Standing.VERIFIED, "its content was removed; what remains is signed" if pdu.redacted else "")


def _missing_keys(event: CheckedEvent, keys: KnownKeys) -> list[str]:
    """Servers that must have signed and of whose keys, among those named, none that is valid for the event is known."""
    ts = event["origin_server_ts"]
    held = {needed[0] for needed in keys_needed(event) if any(key.valid_at(ts) for key in keys.get(needed, ()))}
    return [server for server in required_signers(event) if server not in held]


class Places:
    """What is known of the places around some events of one room: three queries, however many events there are."""

    def __init__(self, room: Room, parsed: Sequence[Parsed]) -> None:
        positions = [item.event.position for item in parsed if item.event.position is not None]
        odd = {event_id for item in parsed for event_id in _named(item)}
        self._gaps = set(
            Gap.objects.filter(room=room, before_position__in=positions).values_list("before_position", flat=True)
        )
        self._passed_over = _passed_over(room, odd)

    def place(self, item: Parsed, before: str | None) -> Verification:
        """Whether an event follows the one before it in our copy; `before` is that one's id, None for none."""
        named = _named(item)
        if named == ([before] if before else []):
            return Verification(Standing.VERIFIED)
        if item.event.position in self._gaps:
            return Verification(Standing.NOT_VERIFIABLE, "the history before it is still to be fetched")
        if any(event_id in self._passed_over for event_id in named):
            return Verification(Standing.VERIFIED, "it follows an event that fails the checks and was passed over")
        if not named:
            return Verification(Standing.FAILS, "it follows nothing, and is not the first event")
        return Verification(Standing.FAILS, f"it follows {named[0]}, not the event before it")


def _named(item: Parsed) -> list[str]:
    return [] if item.checked is None else list(item.checked.get("prev_events", ()))


def _passed_over(room: Room, event_ids: Collection[str]) -> set[str]:
    kinds = (Finding.Kind.INVALID, Finding.Kind.UNVERIFIABLE)
    found = Finding.objects.filter(room=room, kind__in=kinds, event_id__in=event_ids)
    return set(found.values_list("event_id", flat=True))


def both(checks: Verification, place: Verification) -> Verification:
    """The worse of what was found about an event itself and about its place; both reasons where both say something."""
    order = (Standing.FAILS, Standing.NOT_VERIFIABLE, Standing.VERIFIED)
    worse = min((checks, place), key=lambda found: order.index(found.standing))
    same = checks.standing is place.standing
    return Verification(worse.standing, "; ".join(filter(None, (checks.why, place.why))) if same else worse.why)
