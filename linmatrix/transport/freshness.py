"""How long an answer to a .well-known request holds, by its headers (RFC 9111, sections 4.2 and 5)."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_MAX_AGE = re.compile(r'max-age\s*=\s*"?([0-9]+)"?', re.IGNORECASE)
_UNKEPT = frozenset({"no-store", "no-cache"})

_MANY_DIGITS = 12
_FOR_EVER = 10.0**_MANY_DIGITS
"""A number of seconds with more digits counts as this one: converting it would only cost time. It is not infinite: the
difference of two infinities is no number."""


def lifetime(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds that the response may be kept from now on, zero for not at all; None when its headers do not say.

    `headers` have names in lower case; `now` is the time of day in seconds since 1970, for `Expires` where the
    response has no `Date`. `Cache-Control` goes before `Expires`; of several values the shortest holds.
    """
    directives = [part.strip() for part in headers.get("cache-control", "").split(",")]
    if any(part.partition("=")[0].rstrip().lower() in _UNKEPT for part in directives):
        return 0.0
    age = _seconds(headers.get("age", "0"))
    most = [match[1] for part in directives if (match := _MAX_AGE.fullmatch(part))]
    if most:
        return max(min(map(_seconds, most)) - age, 0.0)
    if "expires" in headers:
        expires = _moment(headers["expires"])
        sent = _moment(headers.get("date", ""))
        # One that cannot be read means that the response has expired already (RFC 9111, section 5.3).
        return 0.0 if expires is None else max(expires - (now if sent is None else sent + age), 0.0)
    return None


def _seconds(digits: str) -> float:
    if not (digits.isascii() and digits.isdigit()):
        return 0.0
    return float(digits) if len(digits) <= _MANY_DIGITS else _FOR_EVER


def _moment(text: str) -> float | None:
    """An HTTP date as seconds since 1970, or None when it is none."""
    try:
        moment: datetime = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
