"""Asking servers for their keys because an operator says so."""

from collections.abc import Mapping

from keys import leases
from keys.keyring import keyring
from keys.models import KeyFetch

REFETCH = "keys.refetch_keys"
"""The permission."""


def refetch(servers: set[str]) -> Mapping[str, str]:
    """Ask servers now, without regard to when they were asked last. By server what went wrong, empty for nothing.

    RuntimeError inside of a transaction.
    """
    keyring().refresh(servers, patience=leases.FOR_OPERATOR)
    return dict(KeyFetch.objects.filter(server__in=servers).order_by("server").values_list("server", "last_error"))


def forget_failures(servers: set[str]) -> int:
    """Forget that servers did not answer, so that the next who needs their keys asks them; how many there were.

    One that is being asked right now is left alone.
    """
    failed = KeyFetch.objects.filter(server__in=servers, lease_until__isnull=True)
    return failed.exclude(failures=0).update(failures=0, last_error="", asked_at=None)
