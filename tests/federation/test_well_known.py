"""What we tell others about where we are (draft section "GET /.well-known/matrix/server")."""

import pytest

PATH = "/.well-known/matrix/server"


def test_the_name_that_answers_for_ours_is_told_to_anybody(client, settings):
    settings.WELL_KNOWN_SERVER = "matrix.example.org:443"
    response = client.get(PATH)
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")
    assert response.json() == {"m.server": "matrix.example.org:443"}


def test_without_one_there_is_nothing_to_tell(client, settings):
    settings.WELL_KNOWN_SERVER = ""
    response = client.get(PATH)
    assert (response.status_code, response.json()["errcode"]) == (404, "M_NOT_FOUND")


@pytest.mark.parametrize("method", ["post", "put", "delete", "head", "options"])
def test_other_methods_are_not_for_this_endpoint(client, settings, method: str):
    settings.WELL_KNOWN_SERVER = "matrix.example.org"
    assert getattr(client, method)(PATH).status_code == 405


@pytest.mark.parametrize("path", [f"{PATH}/", "/.well-known/matrix", "/.well-known/matrix/client"])
def test_nothing_else_is_there(client, settings, path: str):
    settings.WELL_KNOWN_SERVER = "matrix.example.org"
    assert client.get(path).status_code == 404
