"""A long run against a real server: rounds of generated requests until the time is up, then the account of it."""

import time
import traceback
from pathlib import Path

import psutil
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, seed, settings

from linmatrix.protocol.identifiers import domain_of
from linmatrix.stack.certificates import Authority
from linmatrix.stack.server import Server
from rooms.creation import create_room
from rooms.models import Event
from tests.fuzz.attempts import Attempt, World, attempts
from tests.fuzz.documented import documented
from tests.fuzz.doors import OverTls
from tests.fuzz.oracles import Found, Watch
from tests.support.hosted import CREATOR, keys_of
from tests.support.peer_rooms import PeerRoom
from tests.support.peers import US
from tests.support.tls_peer import TlsPeer
from tests.support.verification import verify_line

MIB = 1024 * 1024
ROUND = 150
"""Requests of one round; after each, a valid one has to work."""

LOG_LINES = 60
MAX_GROWTH = 64 * MIB
"""By which the web process may be larger at the end than after the first third: caches fill, up to their limits."""


class Campaign:
    """One run. `seed` decides which requests are made."""

    def __init__(self, server: Server, authority: Authority, folder: Path, *, seed: int) -> None:
        self._server = server
        self._authority = authority
        self._folder = folder
        self._seed = seed
        self._memory: list[tuple[float, int]] = []

    def run(self, *, minutes: float) -> int:
        """Run it and print the account; 0 when nothing was found."""
        found = ""
        with TlsPeer(self._authority, self._folder / "peer") as peer:
            watch = Watch(OverTls(self._server.port, self._authority), self._world(peer))
            begun = time.monotonic()
            try:
                while time.monotonic() - begun < minutes * 60:
                    self._round(watch, len(self._memory))
                    self._memory.append((time.monotonic() - begun, self._web_memory()))
                self._check_lines(watch.world)
                self._check_memory()
            except Exception:  # noqa: BLE001  whatever it is, the account is printed
                found = traceback.format_exc()
        self._account(watch)
        if found:
            log = self._server.log("web").read_text(errors="replace").splitlines()
            print(
                f"Found with seed {self._seed}:\n{found}", "The end of the server's log:", *log[-LOG_LINES:], sep="\n"
            )
        else:
            print("Nothing found.")
        return 1 if found else 0

    def _world(self, peer: TlsPeer) -> World:
        """A room that we host and the peer is in, one at which it may knock, and one of the peer's with alice in it."""
        peer.publish()
        now = timezone.now()
        hosted = create_room(creator=CREATOR, now=now, join_rule="public", name="Fuzzed")
        knocking = create_room(creator=CREATOR, now=now, join_rule="knock", name="Knock")
        foreign = PeerRoom(peer)
        peer.host(foreign)
        peer.endpoints["GET", "backfill"] = lambda _request: (404, {"errcode": "M_NOT_FOUND", "error": "Unknown."})
        peer.endpoints["PUT", "send"] = lambda _request: (200, {"failed_pdus": {}})
        self._server.manage("join", foreign.room_id, "alice", "--via", domain_of(foreign.room_id))
        known = Event.objects.values_list("event_id", flat=True)
        return World(peer, [hosted.room_id, knocking.room_id], foreign, sorted(known))

    def _round(self, watch: Watch, number: int) -> None:
        """Three quarters of the requests are made from what we know of the protocol, the others from the document."""
        sources = {attempts(watch.world): ROUND, documented(watch.world.peer): ROUND // 3}
        for strategy, examples in sources.items():

            @seed(self._seed + number)
            @settings(
                max_examples=examples,
                database=None,
                deadline=None,
                phases=[Phase.generate],  # what is found is shown as it is: made smaller it may not be found again
                suppress_health_check=list(HealthCheck),
            )
            @given(strategy)
            def run(attempt: Attempt) -> None:
                watch.attempt(attempt)

            run()
            watch.check_alive()
        self._server.check()

    def _web_memory(self) -> int:
        """Bytes that the web processes hold."""
        processes = [process for process in psutil.process_iter(["cmdline"]) if self._is_web(process)]
        return sum(process.memory_info().rss for process in processes)

    def _is_web(self, process: psutil.Process) -> bool:
        words = process.info["cmdline"] or []
        return "granian" in words and str(self._server.port) in words

    def _check_lines(self, world: World) -> None:
        for room_id in world.rooms:
            texts = Event.objects.filter(room_id=room_id).order_by("position").values_list("json", flat=True)
            verify_line(texts, hub=US, keys=keys_of(world.peer))

    def _check_memory(self) -> None:
        warm, last = self._memory[len(self._memory) // 3][1], self._memory[-1][1]
        if last - warm > MAX_GROWTH:
            raise Found(f"the web process grew from {warm // MIB} to {last // MIB} MiB")

    def _account(self, watch: Watch) -> None:
        statuses = sorted({status for _, status in watch.counts})
        print(f"{'':12}" + "".join(f"{status:>8}" for status in statuses))
        for endpoint in sorted({endpoint for endpoint, _ in watch.counts}):
            row = "".join(f"{watch.counts[endpoint, status] or '':>8}" for status in statuses)
            print(f"{endpoint:12}{row}")
        faults = sum(count for (_, status), count in watch.counts.items() if status >= 500 and status not in (502, 503))
        print(f"{watch.counts.total()} requests, {faults} faults (5xx), slowest answer {watch.slowest:.2f} s.")
        memory = ", ".join(f"{bytes_ // MIB} MiB at {seconds:.0f} s" for seconds, bytes_ in _some(self._memory))
        print(f"The web process held {memory}.", flush=True)


def _some(items: list[tuple[float, int]], count: int = 8) -> list[tuple[float, int]]:
    """The first, the last, and a few evenly between."""
    if len(items) <= count:
        return items
    return [items[round(index * (len(items) - 1) / (count - 1))] for index in range(count)]
