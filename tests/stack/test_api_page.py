"""The API document as a page: there where the settings say so, and never a request to anybody else."""

import re

import pytest

PATHS = ["/openapi", "/openapi/redoc.js"]


@pytest.fixture
def enabled(settings):
    settings.API_DOCUMENT = True


@pytest.mark.parametrize("path", PATHS)
def test_it_is_not_there_unless_the_settings_say_so(client, settings, path):
    settings.API_DOCUMENT = False
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(("path", "type_"), [(PATHS[0], "text/html"), (PATHS[1], "text/javascript")])
def test_where_they_do_it_is(client, enabled, path, type_):
    response = client.get(path)
    assert (response.status_code, response["Content-Type"]) == (200, f"{type_}; charset=utf-8")


def test_everything_on_the_page_is_ours(client, enabled):
    page = client.get("/openapi").content.decode()
    links = re.findall(r'(?:src|href|spec-url)="([^"]*)"', page)
    assert sorted(set(links)) == ["/openapi.json", "/openapi/redoc.js", "data:,"]
    assert all(client.get(link).status_code == 200 for link in links if link.startswith("/"))


def test_it_may_ask_nobody_else(client, enabled):
    policy = dict(rule.partition(" ")[::2] for rule in client.get("/openapi")["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert (policy["script-src"], policy["connect-src"]) == ("'self'", "'self'")
    assert b"cdn.redoc.ly" not in client.get("/openapi/redoc.js").content


@pytest.mark.parametrize("path", PATHS)
def test_it_takes_no_posts(client, enabled, path):
    assert client.post(path).status_code == 405
