"""Whose invites reach our users (draft sections "User Privacy" and "Spam Prevention", decision 117).

Two lists of globs of server names are the operator's (`LINMATRIX_INVITE_ALLOW`, `LINMATRIX_INVITE_DENY`), with the
grammar and the order of a room's server ACL: whom no entry denies and one allows may invite. A user may refuse invites
from other servers altogether. Both are answered alike, so that an invite does not tell what a user has chosen.
"""

from functools import lru_cache

from django.conf import settings

from federation.blocking import block_list
from federation.errors import ApiError
from linmatrix.protocol.identifiers import domain_of
from linmatrix.protocol.server_acl import ServerAcl
from rooms.models import LocalUser

MAX_POLICIES = 4
"""Parsed policies kept: a process has one."""


def invite_allowed(origin: str, user_id: str, *, sender: str = "") -> bool:
    """Whether `user_id`, one of ours, takes invites that `origin` brings.

    `origin` is the room's hub; `sender` is the user who invites, whose server must be allowed too.
    """
    policy = _policy(tuple(settings.INVITE_ALLOW), tuple(settings.INVITE_DENY))
    servers = {origin, domain_of(sender)} if sender else {origin}
    if not all(map(policy.allows, servers)) or any(map(block_list.blocks, servers)):
        return False
    localpart = user_id[1:].partition(":")[0]
    return not LocalUser.objects.filter(localpart=localpart, refuses_invites=True).exists()


def check_invite(origin: str, user_id: str, *, sender: str = "") -> None:
    """Raise `ApiError` 403 for an invite that is not allowed."""
    if not invite_allowed(origin, user_id, sender=sender):
        raise ApiError(403, "M_FORBIDDEN", "The user does not take this invite.")


@lru_cache(MAX_POLICIES)
def _policy(allow: tuple[str, ...], deny: tuple[str, ...]) -> ServerAcl:
    return ServerAcl.parse({"allow": list(allow), "deny": list(deny)})
