"""One soak from start to end: plan, traffic and faults, drain, verdict."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread

import psycopg
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from linmatrix.stack.driver import Driver, Refused
from linmatrix.stack.errors import StackError
from linmatrix.stack.scratch import SCRATCH
from linmatrix.stack.signals import StopRequested, stop_signals
from soak.company import NAMES, Company
from soak.faults import Breaker, plans_of
from soak.lanes import Lane
from soak.ledger import Ledger
from soak.reckoning import lost_joins, promises, reckon
from soak.report import Plan, Report, conclude
from soak.schedule import CREATOR, LANES, Action, Fault, Member, plan_actions, plan_faults, plan_rooms
from tests.scenarios.snapshots import Snapshot, snapshot
from tests.scenarios.verdict import differences

DRAIN_SECONDS = 300.0
"""Longer than the longest lease (a request that a killed web process was answering: two minutes) and the back-off
after it. Nothing waits for longer by design."""

LOOK_SECONDS = 1.0
WIDTH = 60
INTERRUPTED = 130

_OPEN_TRANSACTIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND xact_start < now() - interval '30 seconds'
"""


def main(console: Console, plan: Plan) -> int:
    """Run a soak; 0 when everything held, 1 when something did not or could not be tried."""
    SCRATCH.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir=SCRATCH))
    console.print(
        f"Soaking {plan.servers} servers for {plan.minutes:g} minutes with seed {plan.seed}.",
        style="bold",
        markup=False,
    )
    soak = Soak(console, folder, plan)
    status = 1
    with stop_signals() as signals:
        try:
            report = soak.run()
            report.tell(console)
            status = 1 if report.wrong else 0
        except StopRequested:
            status = INTERRUPTED
        except (StackError, Refused, psycopg.Error) as error:
            console.print(str(error), style="red", markup=False, soft_wrap=True)
        finally:
            signals.ignore()
            soak.stop()
    conclude(console, plan, folder, failed=status == 1)
    return status


class Soak:
    """The servers, what is done to them, and what is found."""

    def __init__(self, console: Console, folder: Path, plan: Plan) -> None:
        self._console = console
        self._seconds = plan.minutes * 60
        self._plan = plan
        self._ended = Event()
        self._ledger = Ledger(folder / "actions.jsonl")
        self._company = Company(folder, servers=plan.servers)
        self._lanes: dict[Member, Lane] = {}
        self._breakers: list[Breaker] = []
        self._begun = 0.0
        self._waiting = ""
        """The first thing that servers which should come to rest still had to do when they were looked at last."""

    def run(self) -> Report:
        """All of it, and what came of it."""
        self._company.start()
        self._company.create_rooms(plan_rooms(self._plan.seed, servers=self._plan.servers))
        self._begun = time.monotonic()
        with self._shown("soaking", self._seconds):
            self._start()
            self._ended.wait(self._seconds)
            self._end()
        began = time.monotonic()
        taken, found = self._drain(excusing_lost_joins=True)
        if lost := lost_joins(self._ledger, taken):
            self._join_again(lost)
            taken, found = self._drain()
        return self._report(taken, found, drained=time.monotonic() - began)

    def stop(self) -> None:
        """Stop everything, in whatever state it is."""
        self._end()
        self._company.stop()
        self._ledger.close()

    def _start(self) -> None:
        actions = plan_actions(self._plan.seed, servers=self._plan.servers, seconds=self._seconds)
        faults = plan_faults(self._plan.seed, servers=self._plan.servers, seconds=self._seconds)
        for number, server in enumerate(self._company.servers):
            for lane in range(LANES):
                self._lanes[number, lane] = Lane(self._company, self._ledger, lane=(number, lane), seed=self._plan.seed)
            breaker = Breaker(
                server,
                kill_console=partial(self._kill_console, number),
                tell=self._tell,
            )
            self._breakers.append(breaker)
        for member, lane_of in self._lanes.items():
            mine = [action for action in actions if action.lane == member]
            lane_of.start(mine, begun=self._begun, ended=self._ended)
        for number, breaker in enumerate(self._breakers):
            breaker.start(plans_of(faults, number), begun=self._begun, ended=self._ended)

    def _end(self) -> None:
        """End the faults first: lanes may be waiting for what is broken."""
        self._ended.set()
        for breaker in self._breakers:
            breaker.join()
        for lane in self._lanes.values():
            lane.join()

    def _kill_console(self, server: int, lane: int) -> None:
        self._lanes[server, lane].kill()

    def _tell(self, fault: Fault, error: str) -> None:
        at = time.monotonic() - self._begun
        lasts = f" for {fault.seconds:g} s" if fault.seconds and not error else ""
        text = f"{at:7.1f}  {self._company.label(fault.server)}: {fault}{lasts}{f': {error}' if error else ''}"
        self._console.print(text, style="red" if error else "yellow", markup=False)

    @contextmanager
    def _shown(self, what: str, seconds: float) -> Iterator[None]:
        """Show how far it is, and what has been done so far, while the block runs."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[done]}"),
        )
        ended, began = Event(), time.monotonic()
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(what, total=seconds, done="")

            def show() -> None:
                while not ended.wait(LOOK_SECONDS / 2):
                    progress.update(task, completed=time.monotonic() - began, done=self._done)

            thread = Thread(target=show, daemon=True)
            thread.start()
            try:
                yield
            finally:
                ended.set()
                thread.join()

    @property
    def _done(self) -> str:
        survived = sum(breaker.survived for breaker in self._breakers)
        waiting = f", waiting: {self._waiting[:WIDTH]}" if self._waiting else ""
        return f"{len(self._ledger)} actions, {survived} faults survived{waiting}"

    def _drain(self, *, excusing_lost_joins: bool = False) -> tuple[list[Snapshot], list[str]]:
        """Wait until the servers agree, or long enough; what they have, and in what they still differ."""
        end = time.monotonic() + DRAIN_SECONDS
        with self._shown("draining", DRAIN_SECONDS):
            while True:
                taken = [snapshot(server.database_url, server=server.server_name) for server in self._company.servers]
                found = differences(taken, promises(self._ledger))
                cut_off = lost_joins(self._ledger, taken) if excusing_lost_joins else ()
                rest = [text for text in found if not any(server in text and room in text for server, room in cut_off)]
                self._waiting = next(iter(rest), self._waiting)
                if not rest or time.monotonic() > end:
                    return taken, found
                time.sleep(LOOK_SECONDS)

    def _join_again(self, lost: set[tuple[str, str]]) -> None:
        """Have each server that missed the answer to a join enter the room again, invited by its creator."""
        for name, room_id in sorted(lost):
            server = next(number for number, one in enumerate(self._company.servers) if one.server_name == name)
            number = next(number for number, room in enumerate(self._company.rooms) if room.room_id == room_id)
            hub = self._company.rooms[number].plan.hub
            self._console.print(f"{self._company.label(server)} joins {room_id} again", style="yellow", markup=False)
            with Driver(self._company.servers[hub]) as driver:
                try:
                    driver.run("invite", room_id, NAMES[CREATOR], self._company.name((server, CREATOR)))
                except Refused as refusal:  # joined already
                    self._console.print(str(refusal), style="dim", markup=False)
            lane = self._lanes[server, CREATOR % LANES]
            action = Action(-1, 0, (server, CREATOR), "join", number)
            lane.do(action, begun=self._begun)
            lane.kill()

    def _report(self, taken: list[Snapshot], found: list[str], *, drained: float) -> Report:
        entries = list(self._ledger)
        return Report(
            survived=sum(breaker.survived for breaker in self._breakers),
            drained=drained,
            last=self._waiting,
            entries=entries,
            reckoning=reckon(entries, taken),
            problems=[text for breaker in self._breakers for text in breaker.problems],
            differences=[*found, *self._open_transactions()],
        )

    def _open_transactions(self) -> list[str]:
        found = []
        for server in self._company.servers:
            with psycopg.connect(server.database_url) as connection:
                ((count,),) = connection.execute(_OPEN_TRANSACTIONS).fetchall()
            if count:
                found.append(f"{server.server_name}: {count} database transactions have been open for half a minute")
        return found
