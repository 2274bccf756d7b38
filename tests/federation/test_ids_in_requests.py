"""Ids that name no possible server are refused wherever a request carries them (decision 5)."""

import pytest

from tests.support.hosted import is_error, snapshot

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = ["host:port", "host:80a", "host:", "host:0", "host:65536", "127.0.0.1", "a..b", "[::1]", "under_score"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("endpoint", ["make_join", "make_leave", "make_knock"])
def test_row7_a_user_id_whose_server_name_is_invalid_is_refused(endpoint, name, peer, joined):
    before = snapshot(joined.room_id)
    response = peer.get(endpoint, joined.room_id, f"@user:{name}", version="v1", query="ver=I.1")
    assert is_error(response, 400, "M_INVALID_PARAM")
    assert snapshot(joined.room_id) == before


@pytest.mark.parametrize("name", NAMES)
def test_row7_a_room_id_whose_server_name_is_invalid_is_refused(name, peer, joined):
    response = peer.get("make_join", f"!room:{name}", peer.user("user"), version="v1", query="ver=I.1")
    assert is_error(response, 400, "M_INVALID_PARAM")
