"""The HTTP client of this process, for everything that it asks of other servers."""

from functools import cache

from django.conf import settings

from linmatrix.transport.http import HttpClient
from linmatrix.transport.resolve import Resolver

USER_AGENT = "linmatrix"


@cache
def http_client() -> HttpClient:
    """The client that all threads of this process share. Raises OSError or ValueError if CA_FILE is unusable."""
    resolver = Resolver(allow_private=settings.ALLOW_PRIVATE_ADDRESSES)
    return HttpClient(resolver, user_agent=USER_AGENT, ca_file=settings.CA_FILE)
