"""How long an answer holds by its headers."""

import pytest

from linmatrix.transport.freshness import lifetime

DATE = "Tue, 01 Jul 2025 12:00:00 GMT"
NOW = 1_751_371_200.0  # the same moment
LATER = "Tue, 01 Jul 2025 12:10:00 GMT"
EARLIER = "Tue, 01 Jul 2025 11:50:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"cache-control": "public"}, None),
        ({"cache-control": "max-age=300"}, 300),
        ({"cache-control": "public, MAX-AGE = 300, must-revalidate"}, 300),
        ({"cache-control": 'max-age="300"'}, 300),
        ({"cache-control": "max-age=300, max-age=60"}, 60),
        ({"cache-control": "max-age=300", "age": "100"}, 200),
        ({"cache-control": "max-age=300", "age": "400"}, 0),
        ({"cache-control": "max-age=300", "age": "soon"}, 300),
        ({"cache-control": "max-age=0"}, 0),
        ({"cache-control": f"max-age={'9' * 5000}"}, 10**12),
        ({"cache-control": f"max-age={'9' * 5000}", "age": "9" * 5000}, 0),
        ({"cache-control": "max-age=-1"}, None),
        ({"cache-control": "max-age=soon"}, None),
        ({"cache-control": "s-maxage=300"}, None),
        ({"cache-control": "no-store, max-age=300"}, 0),
        ({"cache-control": "No-Cache"}, 0),
        ({"cache-control": 'no-cache="set-cookie", max-age=300'}, 0),
        ({"expires": LATER}, 600),
        ({"expires": LATER, "date": EARLIER}, 1200),
        ({"expires": LATER, "date": EARLIER, "age": "500"}, 700),
        ({"expires": LATER, "date": EARLIER, "age": "1300"}, 0),
        ({"expires": LATER, "age": "500"}, 600),
        ({"expires": LATER, "date": "today"}, 600),
        ({"expires": EARLIER}, 0),
        ({"expires": "0"}, 0),
        ({"expires": "never, ever"}, 0),
        ({"expires": "Tue, 01 Jul 99999 12:00:00 GMT"}, 0),
        ({"expires": LATER, "cache-control": "max-age=5"}, 5),
        ({"expires": LATER, "cache-control": "no-store"}, 0),
        ({"expires": LATER, "cache-control": "public"}, 600),
    ],
)
def test_the_headers_say_how_long(headers: dict[str, str], seconds: float | None) -> None:
    assert lifetime(headers, now=NOW) == seconds
