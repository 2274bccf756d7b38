"""Every endpoint on anything a known peer may send: the draft's refusals, no fault of ours, nothing changed."""

import pytest
from hypothesis import HealthCheck, given, settings

from rooms.models import Event
from tests.fuzz.attempts import attempts
from tests.fuzz.doors import InProcess
from tests.fuzz.oracles import Watch
from tests.support.hosted import keys_of
from tests.support.verification import verify_line

pytestmark = pytest.mark.django_db(transaction=True)

EXAMPLES = 300
"""As many as there is time for in `make test`; `make fuzz` has minutes."""


def test_no_request_of_a_known_peer_fails_changes_what_it_is_refused_or_stops_the_next(world):
    watch = Watch(InProcess(), world, max_seconds=60)
    watch.check_alive()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(attempts(world))
    def run(attempt):
        watch.attempt(attempt)
        if watch.counts.total() % 25 == 0:
            watch.check_alive()

    run()
    assert {status for _, status in watch.counts} >= {200, 400, 401, 403, 404, 405}
    for room_id in world.rooms:
        texts = Event.objects.filter(room_id=room_id).order_by("position").values_list("json", flat=True)
        verify_line(texts, hub="hub.example.org", keys=keys_of(world.peer))
