"""Reading JSON strictly and writing it canonically (RFC 8785).

Draft section "Canonical JSON"; decisions 32 to 35. This module alone decides how JSON becomes values
and how values become bytes: hashes, signatures and event ids all rest on it.

Values are those of I-JSON: dict, list, str, bool, None, int within +-(2^53-1), and `JsonFloat` for
numbers that are not integers. Numbers that are integers but written otherwise (1.0, 1e3, -0) become
int, as they do in every peer that reads them as doubles.
"""

import json
import math
import re
from typing import Any, NoReturn

import orjson
import rfc8785

from linmatrix.protocol.errors import Malformed, NotJson

MAX_SAFE_INTEGER = 2**53 - 1
"""The largest integer that every peer reads alike (RFC 7493); beyond it signatures could be confused."""

MAX_INTEGER_DIGITS = 17
"""A longer literal is out of range without converting it, which for 5,000 digits would be slow."""

MAX_BODY_DEPTH = 200
"""Containers within containers in a request body (decision 35); far below any parser's stack."""

MAX_CONTENT_DEPTH = 100
"""Containers within containers in one event (decision 35), so that an event fits into any body."""

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_ASTRAL = re.compile(rb"[\xf0-\xf4]")


class JsonFloat(float):
    """A number that is not an integer.

    Its own type, because the fast encoder refuses subclasses of float: what holds one is written by the
    encoder that formats numbers as RFC 8785 wants them.
    """

    __slots__ = ()


def _integer(literal: str) -> int:
    if len(literal) > MAX_INTEGER_DIGITS or not -MAX_SAFE_INTEGER <= (value := int(literal)) <= MAX_SAFE_INTEGER:
        raise Malformed("an integer is outside of +-(2^53-1)")
    return value


def _number(literal: str) -> int | JsonFloat:
    value = float(literal)
    if not math.isfinite(value):
        raise Malformed("a number is too large")
    if not value.is_integer():
        return JsonFloat(value)
    if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        raise Malformed("an integer is outside of +-(2^53-1)")
    return int(value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Malformed("an object has a member twice")
    return members


def _constant(literal: str) -> NoReturn:
    raise Malformed(f"{literal} is not a JSON number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant
)


def nesting(value: Any, limit: int) -> int:
    """How many containers lie within one another in `value`; counting ends one above `limit`."""
    depth, level = 0, [value] if isinstance(value, dict | list) else []
    while level and depth <= limit:
        depth += 1
        level = [
            child
            for container in level
            for child in (container.values() if type(container) is dict else container)
            if type(child) is dict or type(child) is list
        ]
    return depth


def loads(body: bytes, *, max_depth: int = MAX_BODY_DEPTH) -> Any:
    """Read one JSON text.

    Raises `NotJson` for bytes that are no JSON in UTF-8, `Malformed` for JSON that is not I-JSON:
    a member twice, a lone surrogate, NaN or Infinity, an integer beyond 2^53-1, deeper than `max_depth`.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise NotJson("the body is not UTF-8") from None
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise Malformed(f"nested deeper than {max_depth}") from None
    except json.JSONDecodeError as error:
        raise NotJson(f"the body is not JSON: {error.msg} at character {error.pos}") from None
    if nesting(value, max_depth) > max_depth:
        raise Malformed(f"nested deeper than {max_depth}")
    if _SURROGATE_ESCAPE.search(body):
        _refuse_lone_surrogates(value)
    return value


def loads_object(body: bytes) -> dict[str, Any]:
    """Read one JSON text that must be an object, as every request body is. Raises as `loads` does."""
    value = loads(body)
    if not isinstance(value, dict):
        raise Malformed("the body is not a JSON object")
    return value


def _refuse_lone_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise Malformed("a string has a lone surrogate") from None


def _has_astral_key(value: Any) -> bool:
    """Whether any member name has a character above U+FFFF, where byte order and RFC 8785 order part."""
    if isinstance(value, dict):
        return any(max(key, default="") > "\uffff" or _has_astral_key(child) for key, child in value.items())
    return isinstance(value, list) and any(_has_astral_key(child) for child in value)


def dumps(value: Any) -> bytes:
    """The canonical bytes of `value` (RFC 8785), which must consist of the values that `loads` makes.

    orjson writes the same bytes as an RFC 8785 encoder, forty times faster, but for two cases that are
    found first: numbers that are not integers, and member names above U+FFFF beside ones in
    U+E000..U+FFFF.
    """
    try:
        encoded = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        return rfc8785.dumps(value)
    if not encoded.isascii() and _ASTRAL.search(encoded) and _has_astral_key(value):
        return rfc8785.dumps(value)
    return encoded
