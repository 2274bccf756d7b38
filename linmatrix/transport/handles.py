"""One libcurl handle per thread, with the connections it keeps open.

A handle may be used by one thread at a time, so each thread has its own and keeps its own connections.

Processes that fork (Celery's workers do) must not touch a handle made before the fork: its sockets are shared with
the parent, and merely freeing it says goodbye on the parent's connections. Python frees the handles of all other
threads during a fork and of everything at exit, so a child must be made to keep what it inherited for ever.
libcurl itself is initialised by `import pycurl`, once per process.
"""

import ctypes
import os
import threading
import weakref
from collections.abc import Callable

import pycurl

_alive: "weakref.WeakSet[pycurl.Curl]" = weakref.WeakSet()
_inherited: list[pycurl.Curl] = []
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


class ThreadHandles:
    """Gives each thread its handle, made by `make` on first use and again after a fork."""

    def __init__(self, make: Callable[[], pycurl.Curl]) -> None:
        self._make = make
        self._local = threading.local()

    def get(self) -> pycurl.Curl:
        """The calling thread's handle."""
        if getattr(self._local, "pid", None) != os.getpid():
            handle = self._make()
            with _lock:
                _alive.add(handle)
            self._local.handle, self._local.pid = handle, os.getpid()
        return self._local.handle
