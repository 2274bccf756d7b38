"""Identifiers and their grammars: server names, user, room, event and device ids, key ids, room versions.

Draft sections "Server Names", "Rooms", "Users", "Devices", "Events", "Signing"; decisions 2 and 5 to 10.
Every `parse_*` raises `Malformed`; every `is_*` answers without raising and accepts any value.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from linmatrix.protocol.errors import Malformed

MAX_ID_LENGTH = 255
"""Characters in a user or room id (draft, "Rooms" and "Users"); they are ASCII, so also bytes."""

MAX_HOSTNAME_LENGTH = 253
"""A DNS name in text form cannot be longer (RFC 1123 section 2.1, RFC 1035)."""

MAX_EVENT_ID_LENGTH = 255
"""Event ids are 44 characters; the bound keeps a foreign reference from filling an index page."""

_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_NUMERIC_LABEL = re.compile(r"(?:[0-9]+|0[xX][0-9A-Fa-f]*)")
_PORT = re.compile(r"[0-9]{1,5}")
_USER_LOCALPART = re.compile(r"[0-9a-z\-.=_/+]+")
_ROOM_LOCALPART = re.compile(r"[0-9A-Za-z\-.~_]+")
_EVENT_ID = re.compile(r"\$[A-Za-z0-9_-]+")
_KEY_ID = re.compile(r"ed25519:[A-Za-z0-9_]+")
_DEVICE_ID = re.compile(r"[A-Za-z0-9_]+")
_ROOM_VERSION = re.compile(r"[0-9A-Za-z.\-]{1,128}")


@dataclass(frozen=True, slots=True)
class ServerName:
    """A server name taken apart: `host` as written, `port` where the name carries one."""

    host: str
    port: int | None


@lru_cache(maxsize=8192)
def parse_server_name(name: str) -> ServerName:
    """Take a server name apart, or raise `Malformed` when nobody could be contacted by it.

    IP literals are refused, and so are names that resolvers read as addresses (`127.1`, `0x7f.1`,
    `2130706433`): decision 5. Case is kept; names that differ in case are different servers.
    """
    host, separator, port_text = name.partition(":")
    port = None
    if separator:
        if not _PORT.fullmatch(port_text) or not 1 <= int(port_text) <= 65535:
            raise Malformed("server name has an invalid port")
        port = int(port_text)
    if not 1 <= len(host) <= MAX_HOSTNAME_LENGTH:
        raise Malformed("server name has an empty or too long host")
    labels = host.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise Malformed("server name is not a DNS host name")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        raise Malformed("server name must not be an IP address")
    return ServerName(host, port)


def is_server_name(value: object) -> bool:
    """Whether `value` is a string with the grammar of a server name."""
    if not isinstance(value, str):
        return False
    try:
        parse_server_name(value)
    except Malformed:
        return False
    return True


@lru_cache(maxsize=65536)
def _is_id(value: str, sigil: str) -> bool:
    localpart, separator, domain = value[1:].partition(":")
    grammar = _USER_LOCALPART if sigil == "@" else _ROOM_LOCALPART
    return bool(separator and grammar.fullmatch(localpart) and is_server_name(domain))


def is_user_id(value: object) -> bool:
    """Whether `value` is a user id: `@localpart:server`, at most 255 characters (decision 9)."""
    return isinstance(value, str) and len(value) <= MAX_ID_LENGTH and value[:1] == "@" and _is_id(value, "@")


def is_room_id(value: object) -> bool:
    """Whether `value` is a room id: `!opaque:server`, at most 255 characters (decision 10)."""
    return isinstance(value, str) and len(value) <= MAX_ID_LENGTH and value[:1] == "!" and _is_id(value, "!")


def is_event_id(value: object) -> bool:
    """Whether `value` looks like an event id: `$` and URL-safe unpadded base64."""
    return isinstance(value, str) and len(value) <= MAX_EVENT_ID_LENGTH and bool(_EVENT_ID.fullmatch(value))


def is_key_id(value: object) -> bool:
    """Whether `value` is the id of a server's signing key (`ed25519:version`, decision 8)."""
    return isinstance(value, str) and len(value) <= MAX_ID_LENGTH and bool(_KEY_ID.fullmatch(value))


def is_device_id(value: object) -> bool:
    """Whether `value` is a device id, with the grammar of a key's version (draft "Devices", decision 8)."""
    return isinstance(value, str) and len(value) <= MAX_ID_LENGTH and bool(_DEVICE_ID.fullmatch(value))


def is_room_version(value: object) -> bool:
    """Whether `value` has the grammar of a room version; upper case is allowed (decision 2)."""
    return isinstance(value, str) and bool(_ROOM_VERSION.fullmatch(value))


def domain_of(identifier: str) -> str:
    """The server name in a user or room id: all after the first colon, port included (decision 6)."""
    return identifier.partition(":")[2]
