"""All looks, one after the other."""

from collections.abc import Iterator

from django.conf import settings

from federation.doctor import certificates, inside, names, peer, served
from federation.doctor.finding import Finding


def examine(server_name: str | None = None) -> Iterator[tuple[str, Finding]]:
    """Every finding with what it is about: this server from inside and from outside, and a peer, where one is named."""
    for found in inside.look():
        yield "Inside", found
    for found in outside():
        yield "Outside", found
    if server_name:
        for found in peer.look(server_name):
            yield "Peer", found


def outside() -> Iterator[Finding]:
    """This server by its name, as a peer comes to it."""
    yield from names.look_at_well_known()
    target, found = names.look(settings.SERVER_NAME)
    yield found
    if target is None:
        return
    if not target.plain:
        yield from certificates.look(target)
    yield from served.look(settings.SERVER_NAME)
