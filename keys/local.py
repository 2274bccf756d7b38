"""Our own signing key: one line in a file that only we can read, never in the database and never in a log.

The line is `ed25519 <version> <seed in unpadded base64>`, the format that Matrix servers use. The file is made on
first use. Draft sections "Signing" and "Retrieving Server Keys"; decision 104, threats T20 and T79.
"""

import os
import secrets
import string
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from keys.leaked import is_leaked
from linmatrix.protocol.encoding import decode_base64, encode_base64
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.identifiers import is_key_id
from linmatrix.protocol.signing import KEY_LENGTH, SigningKey, sign_object

VALIDITY_MS = 12 * 3600 * 1000
"""How long others may keep our answer before they ask again (draft, "Validity": approximately 12 hours)."""

_VERSION_CHARACTERS = string.ascii_letters + string.digits + "_"
_VERSION_LENGTH = 6
_MAX_FILE_BYTES = 1024


@cache
def signing_key() -> SigningKey:
    """The key that we sign with, read once per process. Raises as `load_or_create` does."""
    return load_or_create(settings.SIGNING_KEY_FILE)


def server_keys(now_ms: int) -> dict[str, Any]:
    """Our signed answer to `GET /_matrix/key/v2/server`, valid for 12 hours from `now_ms` (milliseconds)."""
    key = signing_key()
    answer = {
        "server_name": settings.SERVER_NAME,
        "valid_until_ts": now_ms + VALIDITY_MS,
        "m.linearized": True,
        "verify_keys": {key.key_id: {"key": encode_base64(key.public_key)}},
        "old_verify_keys": {},
    }
    return sign_object(answer, server=settings.SERVER_NAME, key=key)


def load_or_create(path: Path) -> SigningKey:
    """The signing key in `path`, generated if there is no such file.

    Raises `ImproperlyConfigured`, which never quotes the file, if others may read it or it holds no usable key.
    """
    if not path.exists():
        _create(path)
    return load(path)


def load(path: Path) -> SigningKey:
    """The signing key in the existing file `path`. Raises as `load_or_create` does."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            line = file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise ImproperlyConfigured(f"The signing key {path} cannot be read: {error.strerror}.") from None
    if mode & 0o077:
        raise ImproperlyConfigured(
            f"The signing key {path} is accessible to other users (mode {mode & 0o777:04o}): `chmod 600 {path}`,"
            " and if it may have been read, remove it so that a new one is made."
        )
    try:
        return _parse(line)
    except Malformed as error:
        raise ImproperlyConfigured(f"The signing key {path} is unusable: {error.reason}.") from None


def _parse(line: bytes) -> SigningKey:
    fields = line.split()
    if len(fields) != 3 or fields[0] != b"ed25519":
        raise Malformed("it must be one line `ed25519 <version> <seed in base64>`")
    key_id = f"ed25519:{fields[1].decode('ascii', 'replace')}"
    if not is_key_id(key_id):
        raise Malformed("its version must consist of letters, digits and underscores")
    key = SigningKey.from_seed(key_id, decode_base64(fields[2].decode("ascii", "replace"), length=KEY_LENGTH))
    if is_leaked(key.public_key):
        raise Malformed("its private half is publicly known, so that anybody could sign as this server")
    return key


def _create(path: Path) -> None:
    """Put a new key into `path` unless a file is there by then, so that racing processes agree on one.

    The file appears with its content in place: it is written under another name and then linked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    version = "a_" + "".join(secrets.choice(_VERSION_CHARACTERS) for _ in range(_VERSION_LENGTH))
    seed = encode_base64(secrets.token_bytes(KEY_LENGTH))
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"ed25519 {version} {seed}\n")
            file.flush()
            # What we sign is kept by others for ever; the key must not be lost to a power failure.
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        _sync_folder(path.parent)
    finally:
        os.unlink(draft)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
