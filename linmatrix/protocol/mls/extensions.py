"""Extensions, and what a group may require of its leaves by them (RFC 9420 sections 7.2, 11.1 and 13)."""

from collections.abc import Mapping
from typing import NamedTuple

from linmatrix.protocol.mls.errors import InvalidMls, Rule
from linmatrix.protocol.mls.tls import Reader

APPLICATION_ID = 1
RATCHET_TREE = 2
REQUIRED_CAPABILITIES = 3
EXTERNAL_PUB = 4
EXTERNAL_SENDERS = 5
LAST_RESORT = 10
"""On a key package: it may be used more than once (registered by the MLS extensions document)."""

DEFAULT_EXTENSIONS = frozenset({APPLICATION_ID, RATCHET_TREE, REQUIRED_CAPABILITIES, EXTERNAL_PUB, EXTERNAL_SENDERS})
"""Types that everybody supports without saying so (RFC 9420 section 7.2)."""

DEFAULT_PROPOSALS = frozenset(range(1, 8))
"""Add, Update, Remove, PreSharedKey, ReInit, ExternalInit and GroupContextExtensions, the same."""

Extensions = Mapping[int, bytes]
"""The data of each extension by its type. It is the clients' own, and carried whatever it is; an observer looks into
two of them only, the tree and the required capabilities. (Real clients differ in the form of `external_pub`.)"""


def read_extensions(reader: Reader) -> Extensions:
    """A list of extensions, each type once (RFC 9420 section 13.4)."""
    extensions: dict[int, bytes] = {}
    elements = reader.vector()
    while elements.more:
        kind = elements.u16()
        if kind in extensions:
            raise InvalidMls(Rule.EXTENSIONS, f"extension {kind} stands there twice")
        extensions[kind] = elements.opaque()
    return extensions


class Required(NamedTuple):
    """What every leaf of a group must support: types of extensions, of proposals, of credentials."""

    extensions: frozenset[int]
    proposals: frozenset[int]
    credentials: frozenset[int]


def required_of(extensions: Extensions) -> Required:
    """What a group's own extensions ask of its leaves: themselves, and what `required_capabilities` lists (11.1)."""
    data = extensions.get(REQUIRED_CAPABILITIES)
    listed = Required(frozenset(), frozenset(), frozenset())
    if data is not None:
        reader = Reader(data)
        listed = Required(reader.u16s(), reader.u16s(), reader.u16s())
        reader.finish()
    return Required(
        (listed.extensions | extensions.keys()) - DEFAULT_EXTENSIONS,
        listed.proposals - DEFAULT_PROPOSALS,
        listed.credentials,
    )
