"""Keeping a web process to one core of the machine.

Python runs one thread of a process at a time. Threads on several cores wake each other across them for every
signature and every statement, and find their caches cold: that costs a fifth of the processor time of an event. More
cores are put to use by more processes.
"""

import logging
import os
import socket

logger = logging.getLogger(__name__)


WEB = "linmatrix web process"


def keep_to_one_core(group: str = WEB) -> int | None:
    """Bind the calling thread, and those that it starts, to a core that no other process of the group has.

    A group is of one machine, or of one container. Returns the core's number; None, and nothing is changed, when each
    core is taken or the system does not offer it.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    for core in sorted(os.sched_getaffinity(0)):
        if _take(group, core):
            os.sched_setaffinity(0, {core})
            return core
    logger.info("every core has a %s already: this process is bound to none", group)
    return None


_taken: list[socket.socket] = []


def _take(group: str, core: int) -> bool:
    """Hold a name in Linux's abstract namespace: without a file, and free again when the process ends."""
    mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        mark.bind(f"\0{group} on core {core}")
    except OSError:
        mark.close()
        return False
    _taken.append(mark)
    return True
