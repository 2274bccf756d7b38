"""The file with our keys: the one that signs, with its secret, and those that signed before it, without theirs.

    ed25519 <version> <seed in unpadded base64>
    old ed25519 <version> <public key in unpadded base64> <when it expired, in milliseconds since the epoch>

The first line is the format that Matrix servers use, and a file that has no other is complete. Rotation adds the
`old` lines; secrets of keys that sign no more are not kept. The file is the truth for all processes. It is never
written in place: a new one takes its place whole, so that whoever reads sees all of a rotation or nothing of it.

Draft sections "Signing" and "Retrieving Server Keys"; decision 104, threats T20 and T79.
"""

import fcntl
import os
import secrets
import string
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from keys.leaked import is_leaked
from linmatrix.protocol.encoding import decode_base64, encode_base64
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import is_key_id
from linmatrix.protocol.signing import KEY_LENGTH, SigningKey

MAX_OLD_KEYS = 256
"""Old keys in the file: a rotation every week for five years. Who needs more is rotating by mistake."""

MAX_FILE_BYTES = 128 * 1024
"""What is read of the file, with room for MAX_OLD_KEYS of the longest ids; anything larger is another file."""

TAKE_UP_MS = 5_000
"""From a rotation until the old key counts as expired. Other processes look at the file before they sign, but may be
signing at that moment, and the clock of another machine may be ahead of ours: what they sign must stay valid."""

_VERSION_CHARACTERS = string.ascii_letters + string.digits + "_"
_VERSION_LENGTH = 6

Fingerprint = tuple[int, int, int]
"""Tells one state of the file from another, permissions included: inode, size, time of last change (ns)."""


class NotTheSigningKey(Exception):
    """A key was to be replaced that does not sign any more: somebody else has rotated in the meantime."""


@dataclass(frozen=True, slots=True)
class OldKey:
    """A key that signed until `expired_ts` (milliseconds)."""

    key_id: str
    public_key: bytes
    expired_ts: int


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """The key that signs, and those before it, the latest first."""

    signing: SigningKey
    old: tuple[OldKey, ...] = ()


def load_or_create(path: Path) -> OwnKeys:
    """The keys in `path`, one being generated if there is no such file.

    Raises `ImproperlyConfigured`, which never quotes the file, if others may read it or it holds no usable key.
    """
    if not path.exists():
        _create(path)
    return load(path)


def load(path: Path) -> OwnKeys:
    """The keys in the existing file `path`. Raises as `load_or_create` does."""
    return read(path)[0]


def read(path: Path) -> tuple[OwnKeys, Fingerprint]:
    """The keys in the existing file `path`, and the fingerprint of just this content. Raises as `load_or_create`."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ImproperlyConfigured(f"The signing key {path} cannot be read: {error.strerror}.") from None
    if status.st_mode & 0o077:
        raise ImproperlyConfigured(
            f"The signing key {path} is accessible to other users (mode {status.st_mode & 0o777:04o}): "
            f"`chmod 600 {path}`, and if it may have been read, rotate it."
        )
    try:
        return _parse(content), _fingerprint(status)
    except Malformed as error:
        raise ImproperlyConfigured(f"The signing key {path} is unusable: {error.reason}.") from None


def fingerprint(path: Path) -> Fingerprint | None:
    """The fingerprint of what is in `path` now, None if nothing can be seen there."""
    try:
        return _fingerprint(path.stat())
    except OSError:
        return None


def rotate(path: Path, *, replaced: str, now_ms: int) -> OwnKeys:
    """Let a new key sign from `now_ms` (milliseconds) on instead of the key with the id `replaced`.

    Of two who replace the same key at the same time, one does and the other gets `NotTheSigningKey`. Raises
    `ImproperlyConfigured` if the file cannot be read or written, and then has changed nothing.
    """
    path = path.resolve()  # a link is followed, not replaced
    try:
        with _locked(path.parent):
            keys = load(path)
            if keys.signing.key_id != replaced:
                raise NotTheSigningKey(f"{replaced} does not sign, {keys.signing.key_id} does")
            if len(keys.old) >= MAX_OLD_KEYS:
                raise ImproperlyConfigured(
                    f"The signing key {path} has {len(keys.old)} old keys, the most there can be."
                )
            old = (OldKey(replaced, keys.signing.public_key, now_ms + TAKE_UP_MS), *keys.old)
            with _draft(path, [_new_line(taken={key.key_id for key in old}), *map(_old_line, old)], like=path) as draft:
                os.replace(draft, path)
                _sync_folder(path.parent)
            return load(path)
    except OSError as error:
        raise ImproperlyConfigured(f"The signing key {path} cannot be replaced: {error.strerror}.") from None


def _parse(content: bytes) -> OwnKeys:
    if len(content) > MAX_FILE_BYTES:
        raise Malformed(f"it is longer than {MAX_FILE_BYTES} bytes")
    first, *rest = content.splitlines() or [b""]
    signing = _parse_signing(first.split())
    old = tuple(_parse_old(line.split()) for line in rest if line.strip())
    ids = [signing.key_id, *(key.key_id for key in old)]
    if len(set(ids)) < len(ids):
        raise Malformed("it has two keys with the same version")
    return OwnKeys(signing, old)


def _parse_signing(fields: list[bytes]) -> SigningKey:
    if len(fields) != 3 or fields[0] != b"ed25519":
        raise Malformed("its first line must be `ed25519 <version> <seed in base64>`")
    key_id = _parse_version(fields[1])
    key = SigningKey.from_seed(key_id, decode_base64(fields[2].decode("ascii", "replace"), length=KEY_LENGTH))
    if is_leaked(key.public_key):
        raise Malformed("its private half is publicly known, so that anybody could sign as this server")
    return key


def _parse_old(fields: list[bytes]) -> OldKey:
    if len(fields) != 5 or fields[:2] != [b"old", b"ed25519"] or not fields[4].isdigit() or len(fields[4]) > 15:
        raise Malformed("lines after its first must be `old ed25519 <version> <public key in base64> <milliseconds>`")
    public_key = decode_base64(fields[3].decode("ascii", "replace"), length=KEY_LENGTH)
    return OldKey(_parse_version(fields[2]), public_key, int(fields[4]))


def _parse_version(field: bytes) -> str:
    key_id = f"ed25519:{field.decode('ascii', 'replace')}"
    if not is_key_id(key_id):
        raise Malformed("a key's version must consist of letters, digits and underscores")
    return key_id


def _new_line(*, taken: set[str]) -> str:
    """The line of a new key, whose id is none of those `taken`."""
    version = ""
    while not version or f"ed25519:{version}" in taken:
        version = "a_" + "".join(secrets.choice(_VERSION_CHARACTERS) for _ in range(_VERSION_LENGTH))
    return f"ed25519 {version} {encode_base64(secrets.token_bytes(KEY_LENGTH))}"


def _old_line(key: OldKey) -> str:
    return f"old {key.key_id.replace(':', ' ')} {encode_base64(key.public_key)} {key.expired_ts}"


def _create(path: Path) -> None:
    """Put a new key into `path` unless a file is there by then, so that racing processes agree on one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _draft(path, [_new_line(taken=set())]) as draft:
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        _sync_folder(path.parent)


@contextmanager
def _draft(path: Path, lines: list[str], *, like: Path | None = None) -> Iterator[str]:
    """A file beside `path` with these lines, safely on disk and readable by its owner only, removed in the end.

    It belongs to whom the file `like` belongs: an operator who is root must not lock the server out of its key.
    """
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            if like is not None and (owner := like.stat()) and owner.st_uid != os.geteuid():
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write("".join(f"{line}\n" for line in lines))
            file.flush()
            # What we sign is kept by others for ever; the key must not be lost to a power failure.
            os.fsync(file.fileno())
        yield draft
    finally:
        Path(draft).unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps other processes that rotate out, until this one is done or dead."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _fingerprint(status: os.stat_result) -> Fingerprint:
    return status.st_ino, status.st_size, status.st_ctime_ns


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
