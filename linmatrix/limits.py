"""What other servers may cost us, in one place: every limit with its unit, its reason and the range that makes sense.

These are the operator's. One setting changes them, LINMATRIX_LIMITS, by name: `join_seconds=90,gap_pages=50`. What
the draft or a decision fixes is no setting and stands with its rule in `linmatrix.protocol`; how often a server may
ask is LINMATRIX_RATE_LIMITS (`federation.rate_limits`). docs/limits.md has all three, with where each one is applied
and the test that shows it.

Code reads a limit when it needs it (`settings.LIMITS`); what knows no Django is given them. A value is never changed
behind the operator's back: one that cannot be is refused when the process starts.
"""

from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from typing import Any

SETTING = "LINMATRIX_LIMITS"

KIB = 1024
MIB = 1024 * KIB


class InvalidLimit(ValueError):
    """The setting names a limit that there is not, or gives one a value that cannot be."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What is known of a limit besides its value; the range includes both ends."""

    unit: str
    lowest: float
    highest: float
    reason: str


def _limit(default: float, unit: str, between: tuple[float, float], reason: str) -> Any:
    return field(default=default, metadata={"bound": Bound(unit, *between, reason)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of one server."""

    # Requests to us.

    send_body_bytes: int = _limit(
        200 * 64 * KIB,
        "bytes",
        (150 * 64 * KIB, 64 * MIB),
        "a transaction's body: 50 events and 100 EDUs of 64 KiB each, and room for the envelope",
    )
    body_bytes: int = _limit(
        1 * MIB, "bytes", (256 * KIB, 16 * MIB), "any other body: one event with stripped state, or a list of names"
    )
    buffered_bytes: int = _limit(
        256 * MIB,
        "bytes",
        (16 * MIB, 16 * 1024 * MIB),
        "all bodies that a web process holds at once, since one peer may open hundreds of streams",
    )
    body_seconds: float = _limit(
        30.0,
        "seconds",
        (1.0, 300.0),
        "until a body has arrived: the largest over 4 Mbit/s; who needs longer is holding memory",
    )
    repeated_transaction_seconds: float = _limit(
        30.0, "seconds", (0.0, 120.0), "a repetition waits so long for the first one's answer, and holds a thread"
    )
    other_transaction_seconds: float = _limit(
        5.0,
        "seconds",
        (0.0, 60.0),
        "another transaction of the same origin waits so long on the unstable path, and holds a thread",
    )
    join_wait_seconds: float = _limit(
        10.0, "seconds", (0.0, 60.0), "events of a room wait so long for our join to it to end, and hold a thread"
    )
    kept_answer_bytes: int = _limit(
        256 * KIB,
        "bytes",
        (160 * KIB, 16 * MIB),
        "an answer stored for repetitions: an event twice; larger ones are to joins and are made again",
    )
    backfill_events: int = _limit(100, "events", (10, 100), "one page of history; a peer takes some 12 MB as an answer")
    whole_line_events: int = _limit(
        10_000, "events", (0, 1_000_000), "a whole line as the state of a join, for peers that need it: some 10 MB"
    )

    # Names and connections to them.

    resolve_seconds: float = _limit(
        30.0, "seconds", (1.0, 120.0), "all steps from a server name to its addresses, whoever made the name up"
    )
    lookup_seconds: float = _limit(5.0, "seconds", (0.5, 30.0), "one answer of DNS: two tries of two seconds each")
    well_known_seconds: float = _limit(
        10.0, "seconds", (1.0, 60.0), "the .well-known file with all redirects: the step is not waited for any longer"
    )
    well_known_bytes: int = _limit(50 * KIB, "bytes", (1 * KIB, 1 * MIB), "a .well-known file; they have 60 bytes")
    well_known_redirects: int = _limit(
        5, "redirects", (0, 20), "to https, to www, for a slash, and two more; each is a request to wherever it leads"
    )
    addresses_per_host: int = _limit(
        3, "addresses", (1, 16), "tried of one host; where three do not answer, a later retry serves better"
    )
    service_targets: int = _limit(
        3, "targets", (1, 16), "used of one SRV answer: each costs a lookup, and its owner says how many there are"
    )
    addresses_per_service_target: int = _limit(
        2, "addresses", (1, 16), "tried of each SRV target, one of each family where it has both"
    )
    cached_names: int = _limit(
        4096, "names", (64, 1_000_000), "in each memory of DNS and .well-known: some 5 MB, for names that peers invent"
    )
    connect_seconds: float = _limit(
        10.0, "seconds", (1.0, 60.0), "TCP and TLS with one address: several round trips and two lost packets"
    )
    kept_connections: int = _limit(
        16,
        "connections",
        (1, 1024),
        "kept open by each handle, of which there are as many as requests at once: each is a file descriptor",
    )
    idle_connection_seconds: int = _limit(
        60, "seconds", (1, 600), "a kept connection may be idle: servers and firewalls drop theirs soon after"
    )
    connection_seconds: int = _limit(
        600, "seconds", (10, 86_400), "a connection is used: changed addresses and withdrawn certificates take effect"
    )

    # Answers of other servers.

    request_seconds: float = _limit(
        30.0, "seconds", (1.0, 300.0), "an answer, where nothing else is said: a third server may have to be asked"
    )
    slow_seconds: int = _limit(
        30, "seconds", (1, 300), "a transfer below 64 bytes a second goes on: who thinks is silent for less"
    )
    answer_header_bytes: int = _limit(64 * KIB, "bytes", (4 * KIB, 1 * MIB), "header lines; most answers have 2 KiB")
    answer_bytes: int = _limit(
        12_500_000, "bytes", (7 * MIB, 256 * MIB), "an answer, where nothing else is said: 100 events of 64 KiB fit"
    )
    handshake_seconds: float = _limit(
        20.0, "seconds", (1.0, 25.0), "one request about a membership: a person waits, and may ask three servers"
    )
    send_answer_bytes: int = _limit(
        1 * MIB,
        "bytes",
        (64 * KIB, 16 * MIB),
        "the answer to a transaction: 20 KB for each refused event, and all threads of a worker may be reading one",
    )
    handshake_answer_bytes: int = _limit(
        12 * MIB, "bytes", (256 * KIB, 256 * MIB), "its answer: an event twice, or stripped state of large events"
    )
    hub_hints: int = _limit(
        2, "hints", (0, 10), "followed of servers that name another one as the hub: they could name each other"
    )
    join_seconds: float = _limit(60.0, "seconds", (10.0, 300.0), "the answer to a join, with the room's state")
    join_answer_bytes: int = _limit(
        100 * MIB, "bytes", (1 * MIB, 1024 * MIB), "its bytes: a room of 100,000 members has so much state"
    )
    invite_seconds: float = _limit(
        15.0, "seconds", (1.0, 30.0), "the invited server's answer while only the inviting user waits for it"
    )
    locked_invite_seconds: float = _limit(
        8.0, "seconds", (1.0, 9.0), "that answer while the room is locked: others wait for the lock for 10 seconds"
    )
    invite_answer_bytes: int = _limit(
        256 * KIB, "bytes", (160 * KIB, 16 * MIB), "an invited server's answer: one event twice"
    )
    backfill_seconds: float = _limit(20.0, "seconds", (1.0, 30.0), "one page of a hub's history")
    backfill_answer_bytes: int = _limit(
        12 * MIB, "bytes", (7 * MIB, 256 * MIB), "its bytes: 100 events of the largest size"
    )
    gap_events: int = _limit(
        2000, "events", (1, 100_000), "fetched while a transaction waits; a longer hole is for an operator to see"
    )
    gap_pages: int = _limit(200, "pages", (1, 10_000), "the same in pages: a hub may give ten events at a time")
    gap_seconds: float = _limit(
        60.0, "seconds", (1.0, 80.0), "the same in time, before one more page: the transaction has a lease of 120 s"
    )

    # What waits and what is remembered.

    queued_lpdus: int = _limit(
        10_000, "events", (100, 10_000_000), "that wait for one hub: one that is away must not fill our disk"
    )
    queued_edus: int = _limit(
        10_000, "EDUs", (100, 10_000_000), "to-device messages that wait for one server, for the reason of queued_lpdus"
    )
    to_device_messages: int = _limit(
        20_000, "messages", (100, 10_000_000), "waiting for one device, a quarter of them of one server: weeks of keys"
    )
    to_device_bytes: int = _limit(
        64 * MIB, "bytes", (1 * MIB, 16 * 1024 * MIB), "their contents: ten times as much as so many room keys have"
    )
    transaction_bytes: int = _limit(
        100_000, "bytes", (66_000, 12 * MIB), "a transaction of several events: an existing hub takes 100 KiB"
    )
    backoff_seconds: float = _limit(
        3600.0, "seconds", (1.0, 86_400.0), "between two tries, however long a server is away or asks us to wait"
    )
    leave_refusals: int = _limit(
        5, "answers", (1, 100), "that forbid a leave until it is given up: an unknown invite stays unknown"
    )
    leave_days: int = _limit(14, "days", (1, 365), "a hub that is away is told that a user refused its invite")
    stripped_state_events: int = _limit(
        100, "events", (10, 1000), "kept of an invite's stripped state, which anybody may make up"
    )
    stripped_state_bytes: int = _limit(
        64 * KIB, "bytes", (4 * KIB, 1 * MIB), "kept of the same: a few names and a topic, and an event's size to spare"
    )
    pending_invites: int = _limit(
        10_000, "invites", (100, 10_000_000), "and knocks that wait because of one hub, which makes them up at will"
    )
    pending_invites_per_user: int = _limit(
        100, "invites", (10, 100_000), "of them for one user: more rooms than anybody looks through"
    )
    findings_per_room: int = _limit(
        100, "findings", (1, 100_000), "of one kind: the first show what a hub is like, and it makes them"
    )
    evidence_bytes: int = _limit(256 * KIB, "bytes", (64 * KIB, 16 * MIB), "events kept with one finding")
    cached_profiles: int = _limit(
        10_000, "servers", (100, 1_000_000), "whose habits a process remembers, some 2 MB; past that all are read anew"
    )
    cached_acl_decisions: int = _limit(
        16_384, "decisions", (100, 10_000_000), "of servers and access lists that a process remembers: some 4 MB"
    )
    cached_state_bytes: int = _limit(
        32 * MIB, "bytes", (1 * MIB, 16 * 1024 * MIB), "state events that a process remembers: some 50,000 memberships"
    )
    cached_group_bytes: int = _limit(
        16 * MIB,
        "bytes",
        (1 * MIB, 16 * 1024 * MIB),
        "MLS groups that a process remembers, as stored: some 40,000 devices; in memory they take thrice as much",
    )
    mls_commits_per_room: int = _limit(
        100, "commits", (1, 100_000), "the last of a room, refused ones too: anybody who is joined makes them at will"
    )

    # Keys.

    key_fetch_seconds: float = _limit(
        10.0, "seconds", (1.0, 60.0), "a server's answer about its keys: senders of events and requests wait for it"
    )
    key_answer_bytes: int = _limit(64 * KIB, "bytes", (8 * KIB, 1 * MIB), "that answer; it is kept beside the keys")
    keys_per_answer: int = _limit(64, "keys", (4, 1024), "in one answer, old ones too; real servers have a few")
    keys_per_server: int = _limit(
        256, "keys", (16, 100_000), "remembered from each source: who changes them daily is filling our disk"
    )
    key_wait_seconds: float = _limit(
        10.0, "seconds", (0.1, 60.0), "within which new requests for the keys of one caller's servers are begun"
    )
    key_requests_waiting: int = _limit(
        4, "threads", (1, 256), "that wait for keys of servers which send requests: the other threads go on"
    )
    key_strangers_waiting: int = _limit(
        2, "threads", (1, 256), "that wait for keys which anybody asks us about as a notary"
    )
    keys_asked_at_once: int = _limit(
        16, "servers", (1, 256), "asked at once for one caller: a silent one must not hold up those after it"
    )
    cached_key_servers: int = _limit(4096, "servers", (64, 1_000_000), "whose keys a process remembers")
    notary_servers: int = _limit(100, "servers", (1, 1000), "in one query to us as a notary")
    notary_key_ids: int = _limit(64, "key ids", (1, 1024), "asked for of one server: as many as one answer may hold")
    notary_responses: int = _limit(
        16, "answers", (1, 256), "of one server that are passed on, the latest; an older key can be named"
    )
    notary_bytes: int = _limit(4 * MIB, "bytes", (64 * KIB, 256 * MIB), "of all answers that are passed on at once")
    notary_unknown_names: int = _limit(
        200,
        "names a minute",
        (1, 100_000),
        "asked by one process although nothing is known of them: more look like a scan through us",
    )
    notary_query_seconds: float = _limit(5.0, "seconds", (1.0, 15.0), "one query of ours to a notary")
    notary_queries_seconds: float = _limit(8.0, "seconds", (1.0, 20.0), "all such queries for one caller")
    notary_answer_bytes: int = _limit(
        1 * MIB, "bytes", (64 * KIB, 64 * MIB), "a notary's answer: a hundred servers with a few kilobytes each"
    )
    notary_objects: int = _limit(
        400, "objects", (1, 10_000), "looked at in a notary's answer, each for the price of two signatures"
    )

    # Devices and their keys.

    one_time_keys: int = _limit(
        1000, "keys", (50, 100_000), "of each algorithm that a device may have waiting; clients keep 50 to 100"
    )
    claimed_keys_per_hour: int = _limit(
        50,
        "keys",
        (1, 100_000),
        "for single use that one server gets of one device: more leave nothing for the others",
    )
    device_query_seconds: float = _limit(
        10.0,
        "seconds",
        (1.0, 60.0),
        "another server's answer about devices and keys, for somebody who is about to send",
    )
    device_answer_bytes: int = _limit(
        8 * MIB, "bytes", (1 * MIB, 64 * MIB), "device objects in one answer of ours, and in one to us: some 10,000"
    )
    device_list_hours: int = _limit(
        24, "hours", (1, 720), "another server's list is used without asking again; who leaves our rooms tells no more"
    )

    # How long rows are kept that nothing needs any more (`federation.housekeeping`).

    inbound_transaction_hours: int = _limit(
        72, "hours", (24, 8760), "answers kept for repetitions: a peer that lost ours comes back within its back-off"
    )
    outbound_transaction_hours: int = _limit(
        72, "hours", (24, 8760), "acknowledged transactions and their LPDUs: their senders and operators have looked"
    )
    set_aside_days: int = _limit(
        90, "days", (7, 3650), "events that a peer does not take, at most one a minute: an operator may send them again"
    )
    key_fetch_hours: int = _limit(
        24, "hours", (2, 720), "that a server was asked for keys: longer than any pause, and anybody makes up names"
    )
    unrelated_key_days: int = _limit(
        30, "days", (8, 3650), "keys of servers that are in no room with us: anybody makes up servers, too"
    )
    claimed_key_days: int = _limit(
        90, "days", (1, 3650), "that a one-time key was given away, so that the same one is not taken again"
    )
    removed_device_days: int = _limit(
        90, "days", (14, 3650), "that a device was removed: a server that was away for longer hears of it when it asks"
    )
    unused_device_days: int = _limit(
        90, "days", (2, 3650), "other servers' devices of which nobody asks or tells anything; they can be asked for"
    )

    def __iter__(self) -> Iterator[tuple[str, float, Bound]]:
        """Name, value and bound of every limit, in the order of this class."""
        return ((item.name, getattr(self, item.name), item.metadata["bound"]) for item in fields(self))


AT_MOST = (("body_bytes", "send_body_bytes"), ("send_body_bytes", "buffered_bytes"))
"""Pairs of limits of which the first must not be above the second."""

DEFAULTS = Limits()


def parse_limits(text: str) -> Limits:
    """The limits with the changes that `text` names: `name=number`, by commas; nothing for none.

    Raises `InvalidLimit`, which names what is wrong and what would be right.
    """
    known = {item.name: item for item in fields(Limits)}
    changes: dict[str, float] = {}
    for entry in filter(None, map(str.strip, text.split(","))):
        name, equals, value = (part.strip() for part in entry.partition("="))
        if not equals:
            raise InvalidLimit(f"{SETTING}: {entry!r} should be a name, '=' and a number")
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "docs/limits.md lists them all"
            raise InvalidLimit(f"{SETTING}: there is no limit {name!r}; {hint}")
        if name in changes:
            raise InvalidLimit(f"{SETTING}: {name} is set twice; remove one of them")
        changes[name] = _number(known[name], value)
    limits = Limits(**changes)  # type: ignore[arg-type]  # an int where the field has one, see _number
    for smaller, larger in AT_MOST:
        if getattr(limits, smaller) > getattr(limits, larger):
            raise InvalidLimit(
                f"{SETTING}: {smaller}={getattr(limits, smaller)} is above {larger}={getattr(limits, larger)}; "
                f"raise {larger} or lower {smaller}"
            )
    return limits


def _number(limit: "Field[Any]", text: str) -> float:
    bound: Bound = limit.metadata["bound"]
    whole = isinstance(limit.default, int)
    kind = "whole number" if whole else "number"
    wanted = f"give a {kind} of {bound.unit} from {bound.lowest:.12g} to {bound.highest:.12g}"
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        raise InvalidLimit(f"{SETTING}: {limit.name}={text} is no {kind}; {wanted}") from None
    if not bound.lowest <= value <= bound.highest:  # NaN, too, is outside
        raise InvalidLimit(f"{SETTING}: {limit.name}={text} is out of range; {wanted}")
    return value
