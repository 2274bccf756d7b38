"""What a peer may send, as hypothesis strategies: values, bodies, events, request targets and headers, from right to
nearly right to absurd.

They know the forms and nothing of any server: ids, keys and rooms are arguments. Names of servers that a strategy
makes up lead nowhere but to this machine (`.localhost`), so that nothing that is fuzzed asks anybody else.
"""

import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

SAFE = 2**53 - 1
NOWHERE = "nobody.localhost:9"
"""A server that nobody can reach."""


def mostly(usual: st.SearchStrategy[Any], *others: st.SearchStrategy[Any], of: int = 10) -> st.SearchStrategy[Any]:
    """The usual, and each of the others once in `of` times. (`one_of` looks at a strategy that stands twice once.)"""
    choices = [*others] + [usual] * (of - len(others))
    return st.integers(0, of - 1).flatmap(lambda number: choices[number])


# Values

NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, SAFE, -SAFE, SAFE + 1, -SAFE - 1, 2**63, 2**64, 10**400, 100, 50]),
    st.sampled_from([0.5, -0.0, 1.0, 1e308, 5e-324, math.nan, math.inf, -math.inf, 9007199254740992.0]),
    st.integers(),
    st.floats(),
)
"""Integers around the limits, fractions, and what JSON has no word for."""

ODD_TEXTS = [
    "", " ", "\0", "a\0b", "\n", "\x7f", "\x85", "\u2028", "\ufeff", "\uffff", "\U0010ffff", "\ud800", "\udc00\ud83d",
    "e\u0301", "\u00e9", "\u202egnp", "\u0130", "\u212a", "\U0001f600", "\ufb01", "..", "/", "%2F", "%", "'", '"',
    "\\", "{}", "[]", "null", "true", "0", "-1", "x" * 255, "x" * 256, "x" * 70_000, "\u00e9" * 255,
]  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(ODD_TEXTS),
    st.text(max_size=8),
)
"""Odd Unicode (lone surrogates and NUL among it), lengths at the limits, and words that mean something elsewhere."""

ODD_IDS = [
    f"@user:{NOWHERE}", f"!room:{NOWHERE}", NOWHERE, "@user:", "@:localhost", "user:localhost", "@user", "!room",
    "!:localhost", "@User:localhost", "@user:local host", "@user:localhost:0", "@user:localhost:99999",
    "@user:127.0.0.1", "@user:[::1]", "!a!b:localhost", "@\u00fcser:localhost", "@u%2Fser:localhost",
    "@user:localhost:9:9", "$", "$event", "$" + "a" * 43, "$" + "a" * 300, "$a+b/c=", "@" + "a" * 260 + ":localhost",
    "#alias:localhost", "127.0.0.1", "0x7f.1", "[::1]:9", "localhost:", ".localhost", "-a.localhost", "ed25519:1",
    "ed25519:" + "a" * 300, "ed25519:", "curve25519:1",
]  # fmt: skip
IDS = st.sampled_from(ODD_IDS)
"""Identifiers of every kind in another's place, cut short, too long, and with addresses in them."""

SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS | IDS
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | IDS, inner, max_size=3),
    max_leaves=6,
)


def nested(depth: int, *, objects: bool = False) -> Any:
    """So many containers within one another."""
    value: Any = {} if objects else []
    for _ in range(depth - 1):
        value = {"a": value} if objects else [value]
    return value


LARGE = st.one_of(
    st.builds(nested, st.sampled_from([97, 98, 99, 100, 101, 199, 200, 201, 400]), objects=st.booleans()),
    st.sampled_from([1000, 5000]).map(lambda size: [0] * size),
    st.sampled_from([101, 2000]).map(lambda size: {f"k{number}": number for number in range(size)}),
    st.sampled_from(["x" * 60_000, "\U0001f600" * 20_000, "\u0000" * 12_000]),
)
"""Deep, long, wide."""

ODD = SCALARS | JSON | LARGE


# What is nearly right


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """A copy of a JSON value with one to three changes, each anywhere in it: a part removed, replaced by a value of
    any type, renamed, wrapped, repeated, or another one added."""
    root = [copy.deepcopy(value)]
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(root))
        container, key = places[draw(st.integers(0, len(places) - 1))]
        _change(draw, container, key)
    return root[0]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a value with each of its keys."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(min(len(value), 20)):
            yield value, key
            yield from _places(value[key])


def _change(draw: st.DrawFn, container: Any, key: Any) -> None:
    how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "wrap", "rename", "repeat", "empty", "add"]))
    match how:
        case "replace":
            container[key] = draw(ODD)
        case "remove" if isinstance(container, dict):
            del container[key]
        case "wrap":
            container[key] = draw(st.sampled_from([[container[key]], {"a": container[key]}]))
        case "rename" if isinstance(container, dict):
            container[draw(TEXTS | IDS)] = container.pop(key)
        case "repeat" if isinstance(container, list):
            container += [copy.deepcopy(container[key])] * draw(st.sampled_from([1, 20, 60]))
        case "add" if isinstance(container, dict):
            container[draw(TEXTS | IDS | st.sampled_from(KNOWN_MEMBERS))] = draw(ODD)
        case _:
            container[key] = type(container[key])() if container[key] is not None else {}


KNOWN_MEMBERS = [
    "auth_events", "prev_events", "hub_server", "state_key", "unsigned", "event_id", "redacts", "depth", "membership",
    "join_rule", "users", "lpdu", "sha256", "room_version", "m.federate", "origin",
]  # fmt: skip
"""Names that mean something in one place or another."""


# Events


def contents() -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """Types of events with contents as they should be."""
    return st.sampled_from(
        [
            ("m.room.message", {"body": "hello", "msgtype": "m.text"}),
            ("m.room.message", {}),
            ("m.room.\0", {"body": "\0"}),
            ("", {"body": "\u00e9"}),
            ("m.room.name", {"name": "Room"}),
            ("m.room.topic", {"topic": "Topic"}),
            ("m.room.member", {"membership": "join"}),
            ("m.room.member", {"membership": "leave"}),
            ("m.room.member", {"membership": "invite"}),
            ("m.room.member", {"membership": "knock", "reason": "please"}),
            ("m.room.member", {"membership": "ban"}),
            ("m.room.join_rules", {"join_rule": "public"}),
            ("m.room.power_levels", {"users": {}, "events": {}, "ban": 50, "users_default": 0}),
            ("m.room.history_visibility", {"history_visibility": "shared"}),
            ("m.room.redaction", {"redacts": "$event"}),
            ("m.room.server_acl", {"allow": ["*"], "deny": [], "allow_ip_literals": False}),
            ("m.room.create", {"room_version": "I.1"}),
            ("m.room.encrypted", {"algorithm": "m.mls.v1", "ciphertext": "AAAA"}),
        ]
    )


@st.composite
def events(draw: st.DrawFn, *, rooms: Sequence[str], users: Sequence[str]) -> dict[str, Any]:
    """The fields of an event that its author decides: usually right, sometimes with something odd in them."""
    type_, content = draw(contents())
    event: dict[str, Any] = {
        "room_id": draw(st.sampled_from(rooms)),
        "type": type_,
        "sender": draw(st.sampled_from(users)),
        "origin_server_ts": draw(st.sampled_from([1_700_000_000_000, 0, -1, SAFE]) | st.integers(0, SAFE)),
        "content": draw(st.just(content) | mutated(content) if content else st.just(content)),
    }
    if draw(st.booleans()) or type_ == "m.room.member":
        event["state_key"] = event["sender"] if draw(st.booleans()) else draw(st.sampled_from(["", *users]))
    return draw(st.just(event) | mutated(event))


# Bodies


def _with(member: str) -> Callable[[str], bytes]:
    """Puts a member at the beginning of the object."""

    def put(text: str) -> bytes:
        rest = text[1:] if text.startswith("{") and text != "{}" else '"z":1}'
        return f"{{{member},{rest}".encode()

    return put


WRITINGS: Sequence[Callable[[str], bytes]] = (
    *[str.encode] * 40,  # as it should be, most of the time
    lambda text: json.dumps(json.loads(text), indent=2).encode(),
    lambda text: text.replace("a", "\\u0061").encode(),
    lambda text: text.encode()[: len(text) // 2],
    lambda text: text.encode()[:-1],
    lambda text: text.encode() + b"{}",
    lambda text: text.encode() + b"\0",
    lambda text: b"\xef\xbb\xbf" + text.encode(),
    lambda text: text.encode("utf-16"),
    lambda text: text.encode().replace(b'"', b'"\xff', 1),
    lambda text: b"[" + text.encode() + b"]",
    lambda text: b"/* */" + text.encode(),
    lambda _: b"",
    lambda _: b'{"a":' * 3000 + b"1" + b"}" * 3000,
    _with('"pdus":[],"pdus":[]'),
    _with('"a":1,"\\u0061":1'),
    _with('"a":NaN'),
    _with('"a":"\\ud800"'),
    _with('"a":1e400'),
    _with('"a":9007199254740993'),
    _with('"a":' + "9" * 5000),
)
"""What becomes of a JSON text in ASCII: other writings of it, members that stand twice or mean nothing, and no JSON."""


def bodies(value: Any) -> st.SearchStrategy[bytes]:
    """A value as a request body, in one of `WRITINGS`."""
    # All in ASCII, so that what is no Unicode can be said, too.
    text = json.dumps(value, separators=(",", ":"))
    return st.sampled_from(WRITINGS).map(lambda writing: writing(text))


# Request targets

_VISIBLE = "".join(map(chr, range(0x21, 0x7F)))


def encoded(text: str) -> st.SearchStrategy[str]:
    """A path or query part in one of the ways in which senders write it, right or not."""
    raw = text.encode("utf-8", "surrogatepass")
    every = "".join(f"%{byte:02x}" for byte in raw[:300])
    right = [quote(raw, safe="")] * 24 + [quote(raw, safe="!$'()*+,:;=@~")] * 8
    return st.sampled_from(
        [
            *right,
            every,
            quote(quote(raw, safe=""), safe=""),
            quote(raw, safe="") + "%",
            quote(raw, safe="") + "%zz%FF%00",
        ]
    )


@st.composite
def targets(
    draw: st.DrawFn, route: str, parameters: Mapping[str, st.SearchStrategy[str]], query: Mapping[str, Any]
) -> str:
    """A request target for a route like `/v1/state/{room_id}`; `query` has a strategy by name."""
    path = route
    for name, values in parameters.items():
        if f"{{{name}}}" in path:
            path = path.replace(f"{{{name}}}", draw(encoded(draw(values))))
    if draw(st.integers(0, 9)) == 0:
        path = draw(st.sampled_from(_PATH_FAULTS))(path)
    pairs = [(name, draw(values)) for name, values in query.items() if draw(st.integers(0, 9))]
    if draw(st.integers(0, 9)) == 0:
        pairs.append((draw(st.sampled_from([*query, "ver", "v", "access_token", "a[]"])), draw(TEXTS | IDS)))
    written = "&".join(f"{name}={draw(encoded(value))}" for name, value in pairs)
    if draw(st.integers(0, 19)) == 0:
        written += draw(st.sampled_from(["&", "&&=", "&=", "?", "&a", ";b=1", "&%", "&" + "a=1&" * 500, "+"]))
    return f"{path}?{written}" if written else path


_PATH_FAULTS: Sequence[Callable[[str], str]] = (
    lambda path: path + "/",
    lambda path: path.replace("/", "//", 1),
    lambda path: path + "/more",
    lambda path: path.rpartition("/")[0],
    lambda path: path.replace("/v", "/V", 1),
    lambda path: path.replace("/v", "/v9", 1),
    lambda path: path.replace("_matrix", "_matrix/../_matrix", 1),
    lambda path: path.replace("_matrix", "%5Fmatrix", 1),
    lambda path: path + ";a=b",
    lambda path: path + "%0A",
    lambda path: path + "%2F",
    lambda path: path[:8],
    lambda path: "/" + path,
    lambda path: path + "/" + "a" * 5000,
)


# Headers

HEADER_TEXTS = st.text(alphabet=_VISIBLE + " \t\u00e9\u00ff", max_size=12)
"""What a header can carry: no line ends, which no HTTP library would send."""


@st.composite
def x_matrix(draw: st.DrawFn, parts: Mapping[str, str]) -> str:
    """An X-Matrix header of `origin`, `destination`, `key` and `sig`, written in another way or deformed."""
    pairs = list(parts.items())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(pairs) - 1))
        name, value = pairs[at]
        match draw(st.sampled_from(["drop", "twice", "value", "name", "order", "unknown", "cut", "pad", "case"])):
            case "drop" if len(pairs) > 1:
                del pairs[at]
            case "twice":
                pairs.append((name, draw(st.just(value) | HEADER_TEXTS)))
            case "value":
                pairs[at] = (name, draw(HEADER_TEXTS | IDS.filter(str.isascii)))
            case "name":
                pairs[at] = (draw(st.sampled_from(["signature", "Origin", "sig", "or igin", "", "dest"])), value)
            case "order":
                pairs = draw(st.permutations(pairs))
            case "unknown":
                pairs.insert(at, (draw(st.sampled_from(["realm", "x", "=", "origin*"])), draw(HEADER_TEXTS)))
            case "cut":
                pairs[at] = (name, value[: draw(st.integers(0, len(value)))])
            case "pad":
                pairs[at] = (name, value + draw(st.sampled_from(["=", "==", "A", " ", "\\", '"', "\u00ff"])))
            case _:
                pairs[at] = (name, value.swapcase())
    opening, closing = draw(st.sampled_from([('"', '"'), ('"', '"'), ("", ""), ('"', ""), ("'", "'")]))
    comma = draw(st.sampled_from([",", ",", ", ", " , ", ",,", " ", ";"]))
    equals = draw(st.sampled_from(["=", "=", " = ", "", ":"]))
    scheme = draw(
        st.sampled_from(["X-Matrix ", "X-Matrix ", "x-matrix\t", "X-Matrix", "Bearer ", "", "X-Matrix X-Matrix "])
    )
    header = scheme + comma.join(f"{name}{equals}{opening}{value}{closing}" for name, value in pairs)
    header = draw(
        st.sampled_from([header, header, f"{header},{header}", f"{header}, X-Matrix ", header * 30, "," + header])
    )
    return header.strip(" \t")


ODD_HEADERS = [
    "Content-Type", "Accept", "Content-Encoding", "Accept-Encoding", "Cookie", "X-Forwarded-For", "X-Forwarded-Host",
    "X-HTTP-Method-Override", "If-Modified-Since", "If-None-Match", "Range", "Origin", "Referer", "User-Agent",
    "Host", "Accept-Language", "X_Origin", "Forwarded",
]  # fmt: skip
ODD_HEADER_VALUES = [
    "", "application/json", "text/html", "*/*", "application/json; charset=utf-16", "multipart/form-data", "gzip",
    "application/x-www-form-urlencoded", "identity", "a b", "localhost:99999", "[::1", "bytes=0-5", "DELETE",
    "sessionid=x; csrftoken=y", "%", "\u00e9", "../..", "0", "xx-yy-zz" * 100, "https://localhost/",
]  # fmt: skip
OTHER_HEADERS = st.dictionaries(
    st.sampled_from(ODD_HEADERS),
    st.sampled_from(ODD_HEADER_VALUES),
    max_size=2,
)
"""Headers that no endpoint needs, with values that they should or should not have."""
