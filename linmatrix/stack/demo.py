"""`make demo`: three complete servers on loopback, a conversation across them, and the proof that they agree.

Each server is what `make run` runs, with its own database, web server, worker and beat; they differ in nothing but
name. At the end the ids of the room's whole line are compared, what was fetched as history included.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from linmatrix.stack.certificates import Authority
from linmatrix.stack.driver import Refused
from linmatrix.stack.errors import StackError
from linmatrix.stack.ports import free_port
from linmatrix.stack.run import admin_login
from linmatrix.stack.scratch import SCRATCH
from linmatrix.stack.server import DEFAULT_PORT, PROJECT, Server
from linmatrix.stack.signals import StopRequested, stop_signals
from linmatrix.stack.stage import Stage

NAMES = ("hub", "alpha", "beta")
WORKER_THREADS = 4
WEB_STOP_SECONDS = 1
"""Nothing is being answered any more when the demo stops a server."""
AGREEMENT_SECONDS = 20.0
INTERRUPTED = 130

Result = TypeVar("Result")


def main() -> int:
    """Run the demo; 0 only if all servers have the same line."""
    keep = os.environ.get("KEEP", "") not in ("", "0")
    console = Console(highlight=False, emoji=False, markup=False)
    SCRATCH.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="demo-", dir=SCRATCH))
    status = 1
    with stop_signals() as signals:
        servers = _servers(folder)
        stage = Stage(console, servers)
        try:
            status = _demo(console, stage, keep=keep)
        except StopRequested:
            console.print("\nStopping ...")
            status = INTERRUPTED
        except (StackError, Refused) as error:
            console.print(f"\n{error}", style="red")
        finally:
            signals.ignore()
            stage.disconnect(NAMES)
            _together(Server.stop, servers.values())
    if keep or status == 1:
        console.print(f"Stopped. Data and logs are kept in {folder.relative_to(PROJECT)}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if keep and status == INTERRUPTED and stage.room else status


def _servers(folder: Path) -> dict[str, Server]:
    """The servers, each complete in a folder of its own: `make run` could run it."""
    Authority(folder / "tls")
    servers = {}
    for name in NAMES:
        shutil.copytree(folder / "tls", folder / name / "tls")
        port = free_port(preferred=DEFAULT_PORT if name == NAMES[0] else None)
        servers[name] = Server(
            folder / name,
            server_name=f"{name}.localhost:{port}",
            worker_threads=WORKER_THREADS,
            web_stop_seconds=WEB_STOP_SECONDS,
        )
    return servers


def _demo(console: Console, stage: Stage, *, keep: bool) -> int:
    begun = time.monotonic()
    console.print(f"Starting {', '.join(server.server_name for server in stage.servers.values())} ...")
    _together(Server.start, stage.servers.values())
    stage.connect(NAMES)
    console.print(f"Each has its database, web server, worker and beat; ready after {time.monotonic() - begun:.0f} s.")
    converse(stage)
    agreed = _agree(console, stage, begun)
    if keep:
        _stay(console, stage)
    return 0 if agreed else 1


def converse(stage: Stage) -> None:
    """What happens in the room."""
    hugo, alice, bob, carol = "hugo", "alice", "bob", "carol"
    stage.create(hugo, "--name", "Launch", "--topic", "When do we start?")
    stage.act("hub", "invite", hugo, stage.user(alice, "alpha"))
    stage.act("hub", "invite", hugo, stage.user(bob, "beta"))
    stage.join("alpha", alice)
    stage.join("beta", bob)
    stage.act("hub", "send", hugo, "Welcome, both of you.")
    stage.act("alpha", "send", alice, "Hello from alpha!")
    stage.act("beta", "send", bob, "Hello from beta! Shall we say Thursday?")
    topic = ("--type", "m.room.topic", "--state-key", "", "--content", '{"topic": "We start on Thursday"}')
    stage.refused("beta", "send", bob, *topic, what="tries to change the topic")
    stage.act("hub", "send", hugo, *topic)
    stage.act("beta", "invite", bob, stage.user(carol, "beta"))
    stage.act("beta", "join", carol)
    stage.act("beta", "send", carol, "Buy cheap watches!")
    stage.act("hub", "kick", hugo, stage.user(carol, "beta"), "--reason", "spam")
    stage.act("beta", "leave", bob, "--reason", "my train is here", absent=["beta"])
    stage.act("alpha", "send", alice, "Nobody of beta is here to read this.")
    stage.act("hub", "invite", hugo, stage.user(bob, "beta"))
    stage.join("beta", bob)
    stage.act("beta", "send", bob, "Back again. What did I miss?")
    _while_beta_is_stopped(stage)
    stage.act("beta", "send", bob, "Thursday it is.")


def _while_beta_is_stopped(stage: Stage) -> None:
    beta = stage.servers["beta"]
    stage.console.print("Stopping beta: all of it.", style="yellow")
    stage.disconnect(["beta"])
    beta.stop()
    stage.present.remove("beta")
    stage.act("alpha", "send", "alice", "Is beta asleep?")
    stage.act("hub", "send", "hugo", "It will read this when it wakes up.")
    stage.act("alpha", "send", "alice", "Then let us say Thursday.")
    beta.start()
    stage.connect(["beta"])
    begun = time.monotonic()
    count = stage.await_arrival("beta")
    stage.present.append("beta")
    took = time.monotonic() - begun
    stage.console.print(f"beta is back; {count} events that waited for it arrived after {took:.1f} s.", style="yellow")


def _agree(console: Console, stage: Stage, begun: float) -> bool:
    """Compare the whole line on all servers; histories may still be on their way."""
    end = time.monotonic() + AGREEMENT_SECONDS
    while True:
        lines = {name: stage.line(name) for name in NAMES}
        expected = lines[NAMES[0]]
        differing = [name for name, line in lines.items() if line != expected]
        if not differing:
            took = f"after {time.monotonic() - begun:.0f} s"
            console.print(
                f"{len(expected)} events, {len(lines)} servers: one line, the same everywhere, {took}.",
                style="bold green",
            )
            return True
        if time.monotonic() > end:
            break
        time.sleep(0.1)
    for name in differing:
        console.print(
            f"{name} has {len(lines[name])} events, which are not the {len(expected)} of the hub.", style="red"
        )
    return False


def _stay(console: Console, stage: Stage) -> None:
    """Leave the servers running until somebody presses Ctrl-C."""
    logins = _together(admin_login, stage.servers.values())
    for server, login in zip(stage.servers.values(), logins, strict=True):
        console.print(f"  {server.base_url}/admin/  {login}", soft_wrap=True)
    hub = stage.servers[NAMES[0]]
    console.print(
        "Another terminal can act on each of them; on the hub:\n"
        f"  LINMATRIX_DATA_DIR={hub.folder.relative_to(PROJECT)} LINMATRIX_SERVER_NAME={hub.server_name} "
        ".venv/bin/python -m linmatrix.stack manage console\n"
        "Ctrl-C stops them all.",
        soft_wrap=True,
    )
    while True:
        for server in stage.servers.values():
            server.check()
        time.sleep(0.5)


def _together(work: Callable[[Server], Result], servers: Iterable[Server]) -> list[Result]:
    """Do something with several servers at the same time. The first failure is raised when all have ended."""
    with ThreadPoolExecutor() as pool:
        return [done.result() for done in [pool.submit(work, server) for server in servers]]
