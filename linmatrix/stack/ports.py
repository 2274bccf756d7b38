"""Ports on loopback for the parts of the stack that nobody else should connect to."""

import random
import socket

# Below Linux's and every other common range for outgoing connections (32768 and up): a port from here is not taken by
# some connection while the server that owns it restarts.
FIRST, LAST = 20000, 32000
_ATTEMPTS = 200


def is_free(port: int, *, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port that only has closed connections lingering counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


class PortHold:
    """A port kept for a server that is starting, and for as long as it runs.

    granian's processes share their port (SO_REUSEPORT), so a second server on it would not fail: the two would take
    each other's connections. A socket that is bound, but does not listen, lets ours in and shows others a port in use.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def acquire(self, port: int, *, host: str) -> bool:
        """Take the port; False when somebody has it."""
        if not is_free(port, host=host):
            return False
        held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            held.bind((host, port))
        except OSError:
            held.close()
            return False
        self._socket = held
        return True

    def release(self) -> None:
        """Give it back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def free_port(*, preferred: int | None = None) -> int:
    """A free port on 127.0.0.1: the preferred one where it is free, else a random one, so that racers rarely meet."""
    if preferred is not None and is_free(preferred):
        return preferred
    for _ in range(_ATTEMPTS):
        port = random.randint(FIRST, LAST)  # noqa: S311  any number will do
        if is_free(port):
            return port
    raise RuntimeError(f"no free port found between {FIRST} and {LAST}")
