"""A worker's threads are shared out: slow servers get half of them, no server more than a few, the others the rest."""

from contextlib import ExitStack

import pytest

from federation.places import MAX_REMEMBERED, MOST_PER_SERVER, SLOW_MEMORY_SECONDS, SLOW_SECONDS, Place, Places

THREADS = 8


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Worker:
    """Places, and what is under way in them."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.places = Places(1, clock=self.clock)
        self.places.share_out(THREADS)
        self.under_way = ExitStack()

    def ask(self, server: str, *, seconds: float) -> bool:
        """Whether a request to a server was allowed; if so, it took that long."""
        with self.places.take(server) as place:
            if place is not None:
                place.timed(self._pass)(seconds)
        return place is not None

    def _pass(self, seconds: float) -> None:
        self.clock.now += seconds

    def begin(self, server: str) -> Place | None:
        """Ask a server for something and wait, until `under_way` is closed."""
        place = self.under_way.enter_context(self.places.take(server))
        if place is not None:
            self.places.begin(place)
            self.under_way.callback(self.places.end, place)
        return place


@pytest.fixture
def worker() -> Worker:
    return Worker()


def names(word: str, count: int) -> list[str]:
    return [f"{word}{number}.example.org" for number in range(count)]


def make_slow(worker: Worker, servers: list[str], seconds: float = SLOW_SECONDS) -> None:
    for server in servers:
        assert worker.ask(server, seconds=seconds)


@pytest.mark.parametrize(("seconds", "granted"), [(SLOW_SECONDS, THREADS // 2), (SLOW_SECONDS - 0.1, THREADS)])
def test_servers_that_were_slow_get_half_of_the_threads(worker: Worker, seconds: float, granted: int) -> None:
    servers = names("server", THREADS)
    make_slow(worker, servers, seconds)
    assert sum(worker.begin(server) is not None for server in servers) == granted


@pytest.mark.parametrize("under_way", [0, 1, THREADS // 2])
def test_of_slow_servers_no_more_are_admitted_than_there_are_places_and_of_others_all(
    worker: Worker, under_way: int
) -> None:
    slow, quick = names("slow", THREADS), names("quick", THREADS)
    make_slow(worker, slow)
    for server in slow[:under_way]:
        assert worker.begin(server)
    wanted = [name for pair in zip(slow[under_way:], quick, strict=False) for name in pair]
    admitted = worker.places.admit(wanted)
    assert [name for name in admitted if name in quick] == [name for name in wanted if name in quick]
    assert [name for name in admitted if name in slow] == slow[under_way : THREADS // 2]


def test_a_quick_server_gets_a_thread_whatever_slow_ones_wait(worker: Worker) -> None:
    slow = names("slow", THREADS)
    make_slow(worker, slow)
    for server in slow:
        worker.begin(server)
    assert worker.begin("quick.example.org")


def test_a_request_that_keeps_waiting_counts_before_it_has_ended(worker: Worker) -> None:
    make_slow(worker, ["slow.example.org"])
    for server in names("silent", THREADS // 2):
        assert worker.begin(server)
    assert worker.ask("slow.example.org", seconds=0), "nobody has waited for long yet"
    worker.clock.now += SLOW_SECONDS
    assert not worker.ask("slow.example.org", seconds=0)
    assert worker.ask("quick.example.org", seconds=0)


def test_a_request_that_failed_late_is_a_slow_one(worker: Worker) -> None:
    def fail() -> None:
        worker.clock.now += SLOW_SECONDS
        raise ConnectionError

    servers = names("server", THREADS)
    for server in servers:
        with worker.places.take(server) as place:
            assert place is not None
            with pytest.raises(ConnectionError):
                place.timed(fail)()
    assert sum(worker.begin(server) is not None for server in servers) == THREADS // 2


@pytest.mark.parametrize(
    ("later", "granted"), [(SLOW_MEMORY_SECONDS - 1, THREADS // 2), (SLOW_MEMORY_SECONDS, THREADS)]
)
def test_one_quick_answer_does_not_make_up_for_a_slow_one_but_time_does(
    worker: Worker, later: float, granted: int
) -> None:
    servers = names("server", THREADS)
    for server in servers:
        with worker.places.take(server) as place:
            assert place is not None
            place.timed(worker._pass)(SLOW_SECONDS)
            worker.clock.now -= SLOW_SECONDS
    assert all(worker.ask(server, seconds=0) for server in servers)
    worker.clock.now += SLOW_SECONDS + later
    assert sum(worker.begin(server) is not None for server in servers) == granted


def test_no_server_gets_more_than_a_few_threads_and_they_are_given_back(worker: Worker) -> None:
    assert [worker.begin("one.example.org") is not None for _ in range(THREADS)] == (
        [True] * MOST_PER_SERVER + [False] * (THREADS - MOST_PER_SERVER)
    )
    assert worker.begin("other.example.org")
    worker.under_way.close()
    assert worker.begin("one.example.org")


def test_even_one_thread_is_enough_for_a_slow_server(worker: Worker) -> None:
    worker.places.share_out(1)
    make_slow(worker, ["slow.example.org"])
    assert worker.begin("slow.example.org")


def test_a_flood_of_slow_servers_is_not_remembered_whole(worker: Worker) -> None:
    make_slow(worker, names("server", MAX_REMEMBERED + 1), SLOW_SECONDS)
    assert len(worker.places._slow_at) == MAX_REMEMBERED
