"""X-Matrix: which server sends a request, proven by its signature.

Draft section "Request Authentication"; decisions 63 to 68. The signature covers the request target byte
for byte as it stands on the request line.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from linmatrix.protocol import canonical_json
from linmatrix.protocol.encoding import decode_base64
from linmatrix.protocol.errors import BadSignature, Malformed
from linmatrix.protocol.identifiers import is_key_id, is_server_name
from linmatrix.protocol.signing import SIGNATURE_LENGTH, SigningKey

MAX_HEADER_LENGTH = 8192
"""Characters of all Authorization headers together; one credential has about 600 at the very most."""

MAX_CREDENTIALS = 4
"""Authorization headers of one request: a server has one key, or two while it rotates them."""

_TCHARS = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rf'({_TCHARS})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))', re.DOTALL)
_SCHEME = re.compile(r"X-Matrix[ \t]+", re.IGNORECASE)
_COMMA = re.compile(r"[ \t]*,[ \t,]*")


@dataclass(frozen=True, slots=True)
class Credentials:
    """One parsed Authorization header."""

    origin: str
    destination: str
    key_id: str
    signature: bytes


def parse_authorization(header: str) -> list[Credentials]:
    """Parse one or more X-Matrix headers, joined by commas as servers join repeated headers.

    Raises `BadSignature` unless all are X-Matrix, well formed, of one origin and for one destination, with
    distinct keys (decision 67). Unknown parameters are ignored, known ones may stand only once.
    """
    if len(header) > MAX_HEADER_LENGTH:
        raise BadSignature("the Authorization header is too long")
    parameter_lists = _split(header.strip())
    if len(parameter_lists) > MAX_CREDENTIALS:
        raise BadSignature(f"more than {MAX_CREDENTIALS} Authorization headers")
    credentials = [_credentials(parameters) for parameters in parameter_lists]
    if len({(item.origin, item.destination) for item in credentials}) != 1:
        raise BadSignature("Authorization headers name different origins or destinations")
    if len({item.key_id for item in credentials}) != len(credentials):
        raise BadSignature("Authorization headers repeat a key")
    return credentials


def _split(header: str) -> list[list[tuple[str, str]]]:
    """The parameters of each credential; a new credential begins where the scheme stands again."""
    lists: list[list[tuple[str, str]]] = []
    position = 0
    while position < len(header):
        if scheme := _SCHEME.match(header, position):
            lists.append([])
            position = scheme.end()
        parameter = _PARAMETER.match(header, position)
        if parameter is None or not lists:
            raise BadSignature("the Authorization header is not X-Matrix")
        name, quoted, token = parameter.groups()
        value = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
        lists[-1].append((name.lower(), value))
        position = parameter.end()
        if position < len(header):
            comma = _COMMA.match(header, position)
            if comma is None:
                raise BadSignature("the Authorization header is not X-Matrix")
            position = comma.end()
    if not lists:
        raise BadSignature("there is no X-Matrix Authorization header")
    return lists


def _credentials(parameters: list[tuple[str, str]]) -> Credentials:
    known: dict[str, str] = {}
    for name, value in parameters:
        if name not in ("origin", "destination", "key", "sig", "signature"):
            continue
        if name in known:
            raise BadSignature(f"the Authorization header has {name} twice")
        known[name] = value
    signature = known.pop("signature", None)
    if known.setdefault("sig", signature or "") != (signature or known["sig"]):
        raise BadSignature("the Authorization header has two different signatures")
    origin, destination, key_id = (known.get(name, "") for name in ("origin", "destination", "key"))
    if not (is_server_name(origin) and is_server_name(destination) and is_key_id(key_id)):
        raise BadSignature("the Authorization header lacks a valid origin, destination or key")
    try:
        return Credentials(origin, destination, key_id, decode_base64(known["sig"], length=SIGNATURE_LENGTH))
    except Malformed as error:
        raise BadSignature(f"the Authorization header's signature: {error.reason}") from None


def request_bytes(
    *, method: str, uri: str, origin: str, destination: str, content: dict[str, Any] | bytes | None
) -> bytes:
    """The bytes that a request's signature covers; `content` None leaves the member out (decision 65).

    `content` may be bytes that are canonical JSON already: a large body is spliced in, not encoded again.
    """
    request = canonical_json.dumps({"method": method, "uri": uri, "origin": origin, "destination": destination})
    if content is None:
        return request
    encoded = content if isinstance(content, bytes) else canonical_json.dumps(content)
    # "content" sorts before all other members.
    return b'{"content":' + encoded + b"," + request[1:]


def covered_forms(
    credentials: Credentials, *, method: str, uri: str, content: dict[str, Any] | None
) -> Sequence[bytes]:
    """The byte strings of which a signature must cover one.

    A request without a body (`content` None) may be signed with an empty object, as the draft wants, or
    without `content`, as Matrix servers do (decision 65).
    """
    forms: list[dict[str, Any] | None] = [content] if content is not None else [{}, None]
    return [
        request_bytes(
            method=method, uri=uri, origin=credentials.origin, destination=credentials.destination, content=form
        )
        for form in forms
    ]


def authorization(
    *, method: str, uri: str, origin: str, destination: str, content: dict[str, Any] | bytes | None, key: SigningKey
) -> str:
    """The Authorization header for a request of ours; `content` as for `request_bytes`.

    No space follows the commas: an existing implementation refuses them.
    """
    covered = request_bytes(method=method, uri=uri, origin=origin, destination=destination, content=content)
    return f'X-Matrix origin="{origin}",destination="{destination}",key="{key.key_id}",sig="{key.sign(covered)}"'
