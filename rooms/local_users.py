"""Our own users: who exists (draft section "Users").

The messaging provider has its own directory. With the setting OPEN_LOCALPARTS every valid user id of ours
exists, and rows here only name or deactivate users; without it, only those with a row exist.
"""

from collections.abc import Iterable

from django.conf import settings

from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import domain_of, is_user_id
from rooms.models import LocalUser


def exists(user_id: str) -> bool:
    """Whether a user of ours exists and is active."""
    return bool(existing([user_id]))


def existing(user_ids: Iterable[str]) -> set[str]:
    """Those of some users of ours who exist and are active."""
    by_name = {user_id[1:].partition(":")[0]: user_id for user_id in user_ids}
    rows = dict(LocalUser.objects.filter(localpart__in=by_name).values_list("localpart", "deactivated"))
    return {user_id for name, user_id in by_name.items() if not rows.get(name, not settings.OPEN_LOCALPARTS)}


def require_local(user_id: str) -> str:
    """Return `user_id` when it is that of an existing user of ours, else raise `Malformed` for people."""
    if not is_user_id(user_id):
        raise Malformed(f"{user_id!r} is not a user id; it should look like @name:{settings.SERVER_NAME}")
    if domain_of(user_id) != settings.SERVER_NAME:
        raise Malformed(f"{user_id} is a user of {domain_of(user_id)}, not of {settings.SERVER_NAME}")
    if not exists(user_id):
        raise Malformed(f"{user_id} does not exist on this server")
    return user_id
