"""What is no endpoint: JSON errors with the draft's code, whoever asks (decision 70)."""

import pytest
from django.test import Client

from tests.support.hosted import is_error
from tests.support.peers import FEDERATION, UNSTABLE

UNKNOWN = [
    "/_matrix/federation/v1/nothing",
    "/_matrix/federation/v2/event",
    "/_matrix/federation/v2/event/",
    "/_matrix/federation/v2/event/$a/more",
    "/_matrix/federation/v1/event/$a",
    "/_matrix/federation/v9/send/1",
    "/_matrix/federation/v2/send/1/",
    "/_matrix/federation//v2/send/1",
    "/_matrix/federation/unstable/org.example/send/1",
    "/_matrix/federation",
    "/_matrix/key/v1/server",
    "/_matrix/key/nothing",
    "/_matrix/nothing",
    "/_matrix",
]


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
@pytest.mark.parametrize("path", UNKNOWN)
def test_row80_an_unknown_endpoint_is_a_404_that_says_so(path, method):
    assert is_error(Client().generic(method, path), 404, "M_UNRECOGNIZED")


KNOWN = [
    ("PUT", f"{FEDERATION}/v2/send/1"),
    ("PUT", f"{UNSTABLE}/send/1"),
    ("GET", f"{FEDERATION}/v2/event/$a"),
    ("GET", f"{UNSTABLE}/backfill/!a:b.c"),
    ("GET", f"{FEDERATION}/v1/state/!a:b.c"),
    ("GET", f"{FEDERATION}/v1/state_ids/!a:b.c"),
    ("GET", f"{FEDERATION}/v1/make_join/!a:b.c/@a:b.c"),
    ("POST", f"{FEDERATION}/v3/send_join/1"),
    ("POST", f"{FEDERATION}/v3/invite/1"),
    ("GET", "/_matrix/key/v2/server"),
]


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize(("allowed", "path"), KNOWN)
def test_row80_another_method_is_a_405_that_says_so(allowed, path, method):
    if method != allowed:
        assert is_error(Client().generic(method, path), 405, "M_UNRECOGNIZED")


def test_row80_head_is_no_method_of_the_api():
    assert Client().head(f"{FEDERATION}/v2/event/$a").status_code == 405
