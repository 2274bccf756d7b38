"""The HTTP client of this process, for everything that it asks of other servers."""

from functools import cache

from django.conf import settings

from linmatrix.transport.exchange import Exchange
from linmatrix.transport.http import HttpClient
from linmatrix.transport.lookup import DnsLookup
from linmatrix.transport.resolve import Resolver
from linmatrix.transport.trust import TrustStore

USER_AGENT = "linmatrix"


@cache
def http_client() -> HttpClient:
    """The client that all threads of this process share. Raises OSError or ValueError if CA_FILE is unusable."""
    return HttpClient(resolver(), user_agent=USER_AGENT, ca_file=settings.CA_FILE, limits=settings.LIMITS)


def resolver() -> Resolver:
    """One that remembers nothing yet. Raises as `http_client`."""
    dns = DnsLookup()
    return Resolver(
        allow_private=settings.ALLOW_PRIVATE_ADDRESSES,
        overrides=settings.SERVER_OVERRIDES,
        lookup=dns,
        services=dns.services,
        web=web_exchange(),
        limits=settings.LIMITS,
    )


def web_exchange() -> Exchange:
    """What asks web servers for .well-known. They are no federation servers: the draft asks no TLS 1.3 of them. Raises
    as `http_client`."""
    trust = TrustStore(settings.CA_FILE)
    return Exchange(user_agent=USER_AGENT, trust=trust, allow_tls12=True, limits=settings.LIMITS)
