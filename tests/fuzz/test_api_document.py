"""The API document: every endpoint is in it, it is served where the settings say so, and answers keep to it."""

import json
from io import StringIO

import pytest
from django.core.management import call_command
from django.urls import get_resolver
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from linmatrix.openapi.document import document
from linmatrix.openapi.operations import OPERATIONS
from tests.docs.test_protocol_coverage import routes
from tests.fuzz.documented import documented
from tests.fuzz.doors import InProcess
from tests.fuzz.oracles import Watch

EXAMPLES = 60
"""As many as there is time for in `make test`; `make fuzz` has minutes."""

PATH = "/openapi.json"


@pytest.fixture
def api():
    return json.loads(document())


def test_it_is_valid_openapi_without_a_warning():
    written = StringIO()
    call_command("spectacular", "--validate", "--fail-on-warn", "--format", "openapi-json", stdout=written)
    assert json.loads(written.getvalue()) == json.loads(document())


def test_every_route_to_other_servers_is_in_it(api):
    assert set(api["paths"]) == set(routes(get_resolver().url_patterns))


def test_every_operation_that_is_described_is_in_it(api):
    described = {
        operation["operationId"].removesuffix("_unstable")
        for path in api["paths"].values()
        for operation in path.values()
    }
    assert described == set(OPERATIONS)


def test_only_what_authenticates_servers_and_their_names_is_open_to_all(api):
    unsigned = {
        path
        for path, operations in api["paths"].items()
        for operation in operations.values()
        if operation["security"] != [{"X-Matrix": []}]
    }
    assert all(path.startswith(("/_matrix/key/", "/.well-known/")) for path in unsigned)


def test_it_is_served_where_the_settings_say_so(client, settings):
    settings.API_DOCUMENT = True
    response = client.get(PATH)
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")
    assert response.content == document()


def test_otherwise_it_is_not_there(client, settings):
    settings.API_DOCUMENT = False
    assert client.get(PATH).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_requests_made_from_it_get_answers_that_are_in_it(world):
    watch = Watch(InProcess(), world, max_seconds=60)

    @hypothesis_settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(documented(world.peer))
    def run(attempt):
        watch.attempt(attempt)

    run()
    watch.check_alive()
    assert watch.counts.total() > EXAMPLES / 2
