"""Key packages: what a device leaves with its server so that others can add it (RFC 9420 section 10)."""

from dataclasses import dataclass

from linmatrix.protocol.mls.ciphersuite import (
    check_signature,
    read_ciphersuite,
    read_encryption_key,
    read_version,
    reference,
)
from linmatrix.protocol.mls.errors import InvalidMls, Rule
from linmatrix.protocol.mls.extensions import LAST_RESORT, Extensions, Required, read_extensions
from linmatrix.protocol.mls.framing import WireFormat, check_size, unwrap
from linmatrix.protocol.mls.leaves import NOTHING_REQUIRED, DeviceName, LeafNode, Source, check_leaf, read_leaf
from linmatrix.protocol.mls.tls import Reader


@dataclass(frozen=True, slots=True)
class KeyPackage:
    """A key package; `encoded` is all of it without what it was wrapped in, `signed` what its signature covers."""

    encoded: bytes
    signed: bytes
    ciphersuite: int
    init_key: bytes
    leaf: LeafNode
    extensions: Extensions
    signature: bytes

    @property
    def device(self) -> DeviceName:
        """Whose it is."""
        return self.leaf.device

    @property
    def signature_key(self) -> bytes:
        """The key of the device's credential, 32 bytes."""
        return self.leaf.signature_key

    @property
    def not_before(self) -> int:
        """When it begins to be valid, in seconds since the epoch. Nothing here compares it with a clock."""
        return self.leaf.not_before

    @property
    def not_after(self) -> int:
        """When it ends to be valid, in seconds since the epoch."""
        return self.leaf.not_after

    @property
    def last_resort(self) -> bool:
        """Whether it may be used more than once."""
        return LAST_RESORT in self.extensions

    @property
    def reference(self) -> bytes:
        """Its name in a Welcome (RFC 9420 section 5.2), 32 bytes."""
        return reference("KeyPackage Reference", self.encoded)


def read_key_package(data: bytes) -> KeyPackage:
    """Read a key package, bare or within an MLSMessage, and check it but for its lifetime. Raises `InvalidMls`."""
    check_size(data)
    reader = unwrap(data, WireFormat.KEY_PACKAGE)
    package = parse_key_package(reader)
    reader.finish()
    check_key_package(package)
    return package


def parse_key_package(reader: Reader) -> KeyPackage:
    """Read a key package without checking its signatures."""
    start = reader.position
    read_version(reader)
    ciphersuite = read_ciphersuite(reader)
    init_key = read_encryption_key(reader, "a key package's init key")
    leaf = read_leaf(reader)
    extensions = read_extensions(reader)
    signed = reader.since(start)
    signature = reader.opaque()
    return KeyPackage(reader.since(start), signed, ciphersuite, init_key, leaf, extensions, signature)


def check_key_package(package: KeyPackage, *, required: Required = NOTHING_REQUIRED) -> None:
    """Check a key package (RFC 9420 section 10.1) for a group that requires what is given. Raises `InvalidMls`."""
    if package.init_key == package.leaf.encryption_key:
        raise InvalidMls(Rule.INIT_KEY, f"the key package of {package.device} has one key for two uses")
    check_leaf(package.leaf, source=Source.KEY_PACKAGE, required=required)
    check_signature(
        package.signature_key,
        "KeyPackageTBS",
        package.signed,
        package.signature,
        rule=Rule.KEY_PACKAGE_SIGNATURE,
        whose=f"the key package of {package.device}",
    )
