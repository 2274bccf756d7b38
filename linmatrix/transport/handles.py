"""libcurl handles, with the connections that they keep open, lent to one thread at a time.

As many are made as are in use at once. A request gets a handle that has talked to the same place lately, whichever
thread used it: a worker has more threads than a handle keeps connections, and deliveries to one server come from
another thread each time. Fewer handles than places, because each parses and keeps the certificate authorities once.

Processes that fork (Celery's workers may) must not touch a handle made before the fork: its sockets are shared with
the parent, and merely freeing it says goodbye on the parent's connections. Python frees what other threads held
during a fork and everything at exit, so a child must be made to keep what it inherited for ever.
libcurl itself is initialised by `import pycurl`, once per process.
"""

import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pycurl

_alive: "weakref.WeakSet[pycurl.Curl]" = weakref.WeakSet()
_inherited: list[pycurl.Curl] = []
# The one lock here, held during a fork: a lock that another thread held then would stay locked in the child.
_lock = threading.Lock()


def _before_fork() -> None:
    _lock.acquire()
    _inherited.extend(_alive)


def _after_fork_in_parent() -> None:
    _inherited.clear()
    _lock.release()


def _after_fork_in_child() -> None:
    for handle in _inherited:
        # One reference that nothing ever gives back: the handle outlives even the interpreter's own clean-up.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))
    _inherited.clear()
    _alive.clear()
    _lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)

Place = tuple[object, ...]
"""What a connection is told apart by."""


@dataclass(slots=True, eq=False)
class _Kept:
    """A handle, and the places that it may still have a connection to, the latest last."""

    handle: pycurl.Curl
    places: dict[Place, None] = field(default_factory=dict)


class Handles:
    """Lends handles that `make` makes, on demand and anew after a fork; each keeps `connections` connections."""

    def __init__(self, make: Callable[[], pycurl.Curl], *, connections: int) -> None:
        self._make = make
        self._connections = connections
        self._pid = 0
        self._idle: list[_Kept] = []

    @contextmanager
    def lend(self, place: Place) -> Iterator[pycurl.Curl]:
        """A handle for one request to `place`, no other thread's meanwhile."""
        kept = self._take(place)
        connected = False
        try:
            yield kept.handle
            connected = True
        finally:
            self._give_back(kept, place, connected=connected)

    def _take(self, place: Place) -> _Kept:
        """The handle that knows the place; else the one that knows the fewest; else a new one."""
        with _lock:
            if self._pid != os.getpid():
                self._pid, self._idle = os.getpid(), []
            best = None
            for index in range(len(self._idle) - 1, -1, -1):  # the last used first
                places = self._idle[index].places
                if place in places:
                    return self._idle.pop(index)
                if best is None or len(places) < len(self._idle[best].places):
                    best = index
            if best is not None:
                return self._idle.pop(best)
        handle = self._make()
        with _lock:
            _alive.add(handle)
        return _Kept(handle)

    def _give_back(self, kept: _Kept, place: Place, *, connected: bool) -> None:
        with _lock:
            kept.places.pop(place, None)
            if connected:
                kept.places[place] = None  # at the end
                if len(kept.places) > self._connections:
                    del kept.places[next(iter(kept.places))]
            self._idle.append(kept)
