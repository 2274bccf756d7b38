"""The servers of a soak, their users and their rooms."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from linmatrix.stack.certificates import Authority
from linmatrix.stack.driver import Driver
from linmatrix.stack.ports import free_port
from linmatrix.stack.server import Server
from soak.schedule import CREATOR, MODERATOR_LEVEL, Member, PlannedRoom

LABELS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
NAMES = ("ann", "ben", "cleo", "dan")

STATE_TYPE = "org.example.soak"
"""State that every member may set, with keys of their own choosing."""

SEND_TIMEOUT = "8"
"""Seconds for an acknowledgement, instead of a minute: what a killed worker had leased is waited for half as long
again."""

WORKER_THREADS = 8
WEB_WORKERS = 2
WEB_STOP_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Room:
    """A room as it was made."""

    room_id: str
    plan: PlannedRoom


class Company:
    """Servers by their number in the plan. They have one authority, so that they trust each other."""

    def __init__(self, folder: Path, *, servers: int) -> None:
        Authority(folder / "tls")
        self.servers = []
        for label in LABELS[:servers]:
            shutil.copytree(folder / "tls", folder / label / "tls")
            self.servers.append(
                Server(
                    folder / label,
                    server_name=f"{label}.localhost:{free_port()}",
                    web_workers=WEB_WORKERS,
                    web_stop_seconds=WEB_STOP_SECONDS,
                    worker_threads=WORKER_THREADS,
                    extra_environment={"LINMATRIX_SEND_TIMEOUT": SEND_TIMEOUT},
                )
            )
        self.rooms: list[Room] = []

    def start(self) -> None:
        """Start all of them at the same time; the first failure is raised when all have started or failed."""
        with ThreadPoolExecutor() as pool:
            for started in [pool.submit(server.start) for server in self.servers]:
                started.result()

    def stop(self) -> None:
        """Stop all of them at the same time."""
        with ThreadPoolExecutor() as pool:
            for stopped in [pool.submit(server.stop) for server in self.servers]:
                stopped.result()

    def name(self, member: Member) -> str:
        """The id of a user."""
        server, user = member
        return f"@{NAMES[user]}:{self.servers[server].server_name}"

    def label(self, server: int) -> str:
        """What a server is called in what people read."""
        return LABELS[server]

    def create_rooms(self, plans: list[PlannedRoom]) -> None:
        """Have each room made by its hub's creator. One user of every other server may remove people there."""
        for plan in plans:
            with Driver(self.servers[plan.hub]) as driver:
                creator = NAMES[CREATOR]
                options = ("--join-rule", plan.join_rule, "--history-visibility", plan.history_visibility)
                (room_id,) = driver.run("create_room", "--creator", creator, *options)
                levels = {self.name((server, CREATOR)): MODERATOR_LEVEL for server in range(len(self.servers))}
                levels[self.name((plan.hub, CREATOR))] = 2 * MODERATOR_LEVEL
                content = json.dumps({"users": levels, "events": {STATE_TYPE: 0}})
                state = ("--type", "m.room.power_levels", "--state-key", "", "--content", content)
                driver.run("send", room_id, creator, *state)
            self.rooms.append(Room(room_id, plan))
