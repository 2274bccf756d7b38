"""Requests as a peer may make them: every route, method, body, query and header, signed by a server that we know, so
that most of them get behind the authentication."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from hypothesis import strategies as st

from linmatrix.protocol import canonical_json
from linmatrix.protocol.errors import Malformed, ProtocolError
from linmatrix.protocol.identifiers import domain_of, parse_server_name
from linmatrix.protocol.request_auth import authorization, parse_authorization
from tests.fuzz.signing import completed, signed
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import FEDERATION, UNSTABLE, US, Peer
from tests.support.strategies import (
    IDS,
    KNOWN_MEMBERS,
    NOWHERE,
    ODD,
    OTHER_HEADERS,
    TEXTS,
    bodies,
    events,
    mostly,
    mutated,
    targets,
    x_matrix,
)

METHODS = ("GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND")
KEYS = "/_matrix/key/v2"


@dataclass(frozen=True)
class Answer:
    """What came back, and after how long."""

    status: int
    content_type: str
    body: bytes
    seconds: float


@dataclass(frozen=True)
class Attempt:
    """One request, as it goes on the wire. `endpoint` is what it is meant for, in the counts."""

    endpoint: str
    method: str
    target: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"{self.method} {self.target[:200]} with {len(self.body)} bytes"

    @property
    def leads_outside(self) -> bool:
        """Whether a server could be asked for because of it that is neither ours nor on this machine."""
        names = [unquote(self.target.partition("?")[0].rpartition("/query/")[2])] if "/query/" in self.target else []
        with suppress(ProtocolError):
            names += [item.origin for item in parse_authorization(self.headers.get("Authorization", ""))]
        with suppress(ProtocolError):
            names += _names_within(canonical_json.loads(self.body))
        return any(map(_is_elsewhere, names))

    def check(self, answer: Answer) -> None:
        """Whether the answer is one to this request; any is that may be given to all. Raises AssertionError."""


def _names_within(value: Any) -> Iterator[str]:
    """Texts in a JSON value that a server may be looked for by: ids anywhere, and where names stand by themselves."""
    if isinstance(value, str) and value[:1] in tuple("@!"):
        yield domain_of(value)
    elif isinstance(value, list):
        for item in value:
            yield from _names_within(item)
    elif isinstance(value, dict):
        keys_of = value.get("server_keys")
        yield from keys_of if isinstance(keys_of, dict) else ()
        if isinstance(value.get("hub_server"), str):
            yield value["hub_server"]
        for item in value.values():
            yield from _names_within(item)


def _is_elsewhere(name: str) -> bool:
    try:
        host = parse_server_name(name).host.lower()
    except Malformed:
        return False
    return not (host == "localhost" or host.endswith(".localhost") or name == US)


@dataclass(frozen=True)
class World:
    """What attempts are about: a server that we know, rooms of ours, and a room of that server's that we are in."""

    peer: Peer
    rooms: Sequence[str]
    foreign: PeerRoom
    event_ids: Sequence[str]


def attempts(world: World) -> st.SearchStrategy[Attempt]:
    """Any of them."""
    *most, keys, names, none = (_endpoint(world, *row) for row in _endpoints(world))
    return st.one_of(*most, keys | names | none)  # there is little to vary about these


def _endpoints(world: World) -> list[tuple[str, str, Sequence[str], st.SearchStrategy[Any] | None, dict[str, Any]]]:
    """Name, method, routes, contents, query of each endpoint."""
    both = [FEDERATION + "/v2", UNSTABLE], [FEDERATION + "/v3", UNSTABLE]
    lpdus, pdus = _lpdus(world), _pdus(world)
    lists = st.fixed_dictionaries(
        {"pdus": st.lists(lpdus | pdus, max_size=4)}, optional={"edus": st.lists(ODD, max_size=2)}
    )
    versions = mostly(st.just(world.foreign.version), TEXTS, of=5)
    room_state = st.lists(st.fixed_dictionaries({"type": TEXTS, "state_key": TEXTS, "content": ODD}), max_size=2)
    invites = st.fixed_dictionaries(
        {"event": _lpdus(world, "invite", f"@bob:{US}") | lpdus | _pdus(world, f"@alice:{US}")},
        optional={"room_version": versions, "invite_room_state": room_state},
    )
    queries = st.dictionaries(
        st.sampled_from([US, world.peer.name, NOWHERE]) | IDS | TEXTS,
        st.dictionaries(
            st.sampled_from([world.peer.key.key_id, "ed25519:none"]) | TEXTS,
            st.fixed_dictionaries({}, optional={"minimum_valid_until_ts": st.integers(0, 2**53) | ODD}),
            max_size=2,
        ),
        max_size=3,
    )
    ids = _mostly(*world.event_ids)
    limits = st.sampled_from(["1", "100"]) | st.sampled_from(
        ["1", "100", "0", "-1", "99999999999999999", "1e3", "\u0663", "+5", "", "x"]
    )
    v1 = [FEDERATION + "/v1"]
    joins, knocks, leaves = (_lpdus(world, membership) for membership in ("join", "knock", "leave"))

    def under(prefixes: Sequence[str], path: str) -> list[str]:
        return [prefix + path for prefix in prefixes]

    make = "/{room_id}/{user_id}"
    return [
        ("send", "PUT", under(both[0], "/send/{txn_id}"), lists, {}),
        ("send", "PUT", under(both[0], "/send/{txn_id}"), lists.flatmap(mutated), {}),
        ("invite", "POST", under(both[1], "/invite/{txn_id}"), invites | invites.flatmap(mutated), {}),
        ("send_join", "POST", under(both[1], "/send_join/{txn_id}"), joins, {}),
        ("send_knock", "POST", under(both[1], "/send_knock/{txn_id}"), knocks, {}),
        ("send_leave", "POST", under(both[1], "/send_leave/{txn_id}"), leaves, {}),
        ("event", "GET", under(both[0], "/event/{event_id}"), None, {}),
        ("backfill", "GET", under(both[0], "/backfill/{room_id}"), None, {"v": ids, "limit": limits}),
        ("state", "GET", under(v1, "/state/{room_id}"), None, {"event_id": ids}),
        ("state_ids", "GET", under(v1, "/state_ids/{room_id}"), None, {"event_id": ids}),
        ("make_join", "GET", under(v1, "/make_join" + make), None, {"ver": versions}),
        ("make_knock", "GET", under(v1, "/make_knock" + make), None, {"ver": versions}),
        ("make_leave", "GET", under(v1, "/make_leave" + make), None, {}),
        ("key/query", "GET", [KEYS + "/query/{server_name}"], None, {"minimum_valid_until_ts": limits}),
        ("key/query", "POST", [KEYS + "/query"], st.fixed_dictionaries({"server_keys": queries | ODD}) | ODD, {}),
        ("key/server", "GET", [KEYS + "/server"], None, {}),
        (".well-known", "GET", ["/.well-known/matrix/server"], None, {}),
        ("none", "GET", ["/", "/_matrix", "/_matrix/client/v3/sync", "/admin/", "/openapi.json", "*"], None, {}),
    ]


@st.composite
def _endpoint(
    draw: st.DrawFn,
    world: World,
    name: str,
    method: str,
    routes: Sequence[str],
    contents: st.SearchStrategy[Any] | None,
    query: dict[str, Any],
) -> Attempt:
    if draw(st.integers(0, 14)) == 0:
        method = draw(st.sampled_from(METHODS))
    parameters = {
        "room_id": _mostly(*world.rooms, world.foreign.room_id, f"!none:{US}"),
        "user_id": _mostly(world.peer.user("user"), world.peer.user("new"), f"@a:{US}"),
        "event_id": _mostly(*world.event_ids),
        "server_name": _mostly(US, world.peer.name, NOWHERE),
        "txn_id": st.uuids().map(str) | TEXTS.filter(bool),
    }
    target = draw(targets(draw(st.sampled_from(routes)), parameters, query))
    body = b""
    if contents is not None or draw(st.integers(0, 19)) == 0:
        body = draw(bodies(draw(contents if contents is not None else ODD)))
    headers = dict(draw(OTHER_HEADERS)) if draw(st.integers(0, 9)) == 0 else {}
    headers = {"Content-Type": "application/json", **headers, "Authorization": sign(world.peer, method, target, body)}
    if draw(st.integers(0, 7)) == 0:
        headers["Authorization"] = draw(_deformed(world.peer, headers["Authorization"]))
    return Attempt(name, method, target, body, {name: value for name, value in headers.items() if value})


def sign(peer: Peer, method: str, target: str, body: bytes) -> str:
    """The Authorization header that a peer sends with a request; a body that is no object cannot be covered."""
    try:
        content = canonical_json.loads_object(body) if body else None
    except ProtocolError:
        content = None
    return authorization(method=method, uri=target, origin=peer.name, destination=US, content=content, key=peer.key)


def _deformed(peer: Peer, header: str) -> st.SearchStrategy[str]:
    signature = header.rpartition('sig="')[2].rstrip('"')
    origins = st.sampled_from([peer.name, peer.name, NOWHERE, US, peer.name.upper()])
    return origins.flatmap(
        lambda origin: x_matrix({"origin": origin, "destination": US, "key": peer.key.key_id, "sig": signature})
    )


def _mostly(*right: str) -> st.SearchStrategy[str]:
    """One of these ids, or now and then one that is wrong."""
    return mostly(st.sampled_from(right), IDS)


def _lpdus(world: World, membership: str = "", invitee: str = "") -> st.SearchStrategy[Any]:
    """Events of the peer's users, of this membership if there is one: as they should be, odd and signed, changed after
    they were signed, not events."""
    peer = world.peer
    users = [peer.user("user")] * 6 + [peer.user("new"), f"@creator:{US}", f"@user:{NOWHERE}"]
    rooms = [world.rooms[0]] * 4 + [*world.rooms[1:], world.foreign.room_id, f"!none:{US}"]
    fields = events(rooms=rooms, users=users)
    if membership:
        fields = mostly(_memberships(world.rooms, users[:7], membership, invitee), fields, of=4)
    made = fields.map(lambda event: signed(event, hub=US, key=peer.key))
    return mostly(made, made.flatmap(mutated), made.flatmap(mutated), ODD)


def _memberships(
    rooms: Sequence[str], users: Sequence[str], membership: str, invitee: str
) -> st.SearchStrategy[dict[str, Any]]:
    """Memberships that the users give themselves, or invites, with contents that may hold anything else."""

    def made(room_id: str, user_id: str, ts: int, more: dict[str, Any]) -> dict[str, Any]:
        return {
            "room_id": room_id,
            "type": "m.room.member",
            "sender": user_id,
            "state_key": invitee or user_id,
            "origin_server_ts": ts,
            "content": {**more, "membership": membership},
        }

    more = st.dictionaries(TEXTS | st.sampled_from(KNOWN_MEMBERS), ODD, max_size=2)
    return st.builds(made, st.sampled_from(rooms), st.sampled_from(users), st.integers(0, 2**53 - 1), more)


def _pdus(world: World, invitee: str = "") -> st.SearchStrategy[Any]:
    """Events of the room that the peer hosts: the next one in the line with anything in it, and others."""
    peer, room = world.peer, world.foreign
    fields = events(rooms=[room.room_id, room.room_id, *world.rooms], users=[peer.user("user"), f"@a:{US}"])
    if invitee:
        fields = mostly(
            _memberships([room.room_id, f"!other:{peer.name}"], [peer.user("user")], "invite", invitee), fields, of=4
        )
    cited = st.lists(st.sampled_from([pdu.event_id for pdu in room.line]) | IDS, max_size=4, unique=True)
    last = room.line[-1].event_id

    def complete(event: Any, auth_events: list[str], prev_event: str | None) -> Any:
        return completed(event, hub=peer.name, key=peer.key, auth_events=auth_events, prev_event=prev_event)

    made = st.builds(complete, fields, cited, st.sampled_from([last, last, last, "$unknown", None]))
    return mostly(made, made.flatmap(mutated), of=4)
