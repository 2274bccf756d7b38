"""The claims of this process on requests that it is answering (decision 75): `linmatrix.renewal` says how they last.

A claim holds up the same request when it comes again, and its origin's other transactions.
"""

from collections.abc import Sequence
from datetime import datetime

from federation.models import InboundTransaction
from linmatrix.renewal import LEASE, Claims

__all__ = ["LEASE", "LONGEST_SECONDS", "claims", "extend"]

LONGEST_SECONDS = 120.0
"""How long one request may be processed; a fetched gap and slow keys included (decision 75)."""


def extend(row_ids: Sequence[int], until: datetime) -> None:
    """Give requests that are not answered yet a lease until then."""
    InboundTransaction.objects.filter(pk__in=row_ids, status__isnull=True).update(lease_until=until)


claims = Claims(extend, longest=LONGEST_SECONDS)
"""The process's own."""
