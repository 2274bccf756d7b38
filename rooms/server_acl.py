"""Server access control of the rooms that we know: who is refused, and which lists a hub takes.

Decision 109. The hub enforces the lists on requests about a room (`federation.views.base`) and on every event
(`check_event`, under the room's lock): transport policy that is answered as a refusal and changes nothing else
(decision 119). Participants take what the hub let in.
"""

import threading
from collections.abc import Mapping
from typing import Any

from cachetools import LRUCache
from django.conf import settings

from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.identifiers import domain_of
from linmatrix.protocol.server_acl import MAX_ENTRIES, SERVER_ACL, ServerAcl, entries
from linmatrix.protocol.state import State, StateEvent
from rooms.state import current_state


class Decisions:
    """What lists say of servers, of which at most `most` are remembered. A list is named by its event's id, so a
    decision is never out of date."""

    def __init__(self, most: int) -> None:
        self._lock = threading.Lock()
        self._allowed: LRUCache[tuple[str, str], bool] = LRUCache(most)

    def __len__(self) -> int:
        return len(self._allowed)

    def allows(self, acl: StateEvent, server: str) -> bool:
        """Whether the list lets `server` take part."""
        with self._lock:
            allowed = self._allowed.get((acl.event_id, server))
        if allowed is None:
            allowed = ServerAcl.parse(acl.content).allows(server)
            with self._lock:
                self._allowed[acl.event_id, server] = allowed
        return allowed


_decisions = Decisions(settings.LIMITS.cached_acl_decisions)


def allows(room_id: str, server: str) -> bool:
    """Whether the room lets `server` take part now; read without the room's lock."""
    return _allows(current_state(room_id, [SERVER_ACL]), server)


def _allows(state: State, server: str) -> bool:
    acl = state.get(SERVER_ACL)
    return acl is None or _decisions.allows(acl, server)


def check_event(event: Mapping[str, Any], *, state: State) -> None:
    """As hub: refuse the event of a server that the room keeps out, and lists that nobody could live with.

    `state` is the room's state before the event, its `m.room.server_acl` loaded. Raises `Rejected`.
    """
    server = domain_of(event["sender"])
    if not _allows(state, server):
        raise Rejected("server_acl", f"the room's server ACL keeps {server} out")
    if (event["type"], event.get("state_key")) == SERVER_ACL:
        _check_lists(event["content"])


def _check_lists(content: Mapping[str, Any]) -> None:
    """A list that keeps the hub out would end the room for everybody, and nobody could take it back."""
    if (number := entries(content)) > MAX_ENTRIES:
        raise Rejected("server_acl", f"{number} entries, at most {MAX_ENTRIES} are taken")
    if not ServerAcl.parse(content).allows(settings.SERVER_NAME):
        raise Rejected("server_acl", f"the list would keep the room's hub out, {settings.SERVER_NAME}")
