"""Where a server name leads, step by step, as whoever wants to talk to that server finds out."""

from collections.abc import Iterator

from django.conf import settings

from federation.doctor.finding import PATIENCE, Finding, deadline
from keys.http import resolver, web_exchange
from linmatrix.protocol.errors import ProtocolError
from linmatrix.protocol.identifiers import parse_server_name
from linmatrix.transport import well_known
from linmatrix.transport.errors import TransportError
from linmatrix.transport.hosts import Hosts
from linmatrix.transport.lookup import DnsLookup
from linmatrix.transport.target import Target


def look(server_name: str) -> tuple[Target | None, Finding]:
    """Where requests to the server go, None when they cannot; nothing is remembered from before."""
    subject = f"where {server_name} leads"
    if server_name in settings.SERVER_OVERRIDES:
        says = f"to {settings.SERVER_OVERRIDES[server_name]}, as LINMATRIX_SERVER_OVERRIDES has it"
        return resolver().resolve(server_name), Finding(subject, says)
    try:
        target = resolver().resolve(server_name, within=PATIENCE)
    except TransportError as error:
        return None, Finding(subject, error.reason, "See the name's DNS records, and its .well-known on port 443.")
    addresses = ", ".join(map(str, target.endpoints))
    return target, Finding(subject, f"to {addresses}, certificate for {target.tls_name}")


def look_at_well_known(*, web: well_known.Sender | None = None) -> Iterator[Finding]:
    """Whether our name's .well-known says what our settings say. It is asked, by `web`, where the name has no port."""
    name, ours = parse_server_name(settings.SERVER_NAME), settings.WELL_KNOWN_SERVER
    subject = f"https://{name.host}{well_known.PATH}"
    if name.port is not None:
        if ours:
            advice = "Unset LINMATRIX_WELL_KNOWN_SERVER, or use a name without a port for a new server."
            yield Finding(subject, f"nobody asks for it, since {settings.SERVER_NAME} has a port", advice)
        return
    found, problem = _delegated(name.host, web or web_exchange())
    if ours and found != ours:
        advice = f'Have the web server at {name.host} answer {{"m.server": "{ours}"}}, or change the setting.'
        said = f"it says {found}" if found else problem
        yield Finding(subject, f"{said}, where LINMATRIX_WELL_KNOWN_SERVER is {ours}", advice)
    elif found:
        yield Finding(subject, f"it says {found}")
    else:
        yield Finding(subject, f"it says nothing ({problem}), and need not")


def _delegated(host: str, web: well_known.Sender) -> tuple[str, str]:
    """The name that it says, or why it says none."""
    hosts = Hosts(
        DnsLookup(), allow_private=settings.ALLOW_PRIVATE_ADDRESSES, clock=lambda: 0.0, limits=settings.LIMITS
    )
    asking = well_known.WellKnown(hosts, web, clock=lambda: 0.0, limits=settings.LIMITS)
    try:
        return asking.ask(host, deadline())[0], ""
    except (TransportError, ProtocolError) as error:
        return "", error.reason
