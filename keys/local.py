"""Our own keys as this process uses them: what to sign with, what to publish, what our old events verify with.

The keys are in a file (`keys.key_file`), never in the database and never in a log. Every use looks whether the file
is still the one that was read: a rotation by any process counts in all of them at once, without a restart. The look
takes a few microseconds, a small part of what a signature takes.

Draft sections "Signing" and "Retrieving Server Keys"; decision 104.
"""

import logging
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from keys import key_file
from keys.key_file import Fingerprint, OwnKeys
from linmatrix.limits import DEFAULTS
from linmatrix.protocol.encoding import encode_base64
from linmatrix.protocol.signing import SigningKey, sign_object

logger = logging.getLogger(__name__)

VALIDITY_MS = 12 * 3600 * 1000
"""How long others may keep our answer before they ask again (draft, "Validity": approximately 12 hours)."""

MAX_PUBLISHED_OLD_KEYS = DEFAULTS.keys_per_answer - 1
"""The latest old keys are published, with the current one as many as a server like ours takes in one answer."""


class WatchedKeys:
    """The keys in a file, read again when the file has changed. Safe for any number of threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._known: tuple[OwnKeys, Fingerprint] | None = None
        self._seen: Fingerprint | None = None

    def keys(self) -> OwnKeys:
        """What is in the file now.

        A file that has become unusable, or is gone, is reported in the log, and the keys that were read before it stay
        in use: a slip of an operator's must not stop a running server. Raises `ImproperlyConfigured` if there are none.
        """
        known = self._known
        if known and known[1] == key_file.fingerprint(self._path):
            return known[0]
        with self._lock:
            return self._read()

    def _read(self) -> OwnKeys:
        if self._known is None:
            key_file.load_or_create(self._path)
            self._known = key_file.read(self._path)
            self._seen = self._known[1]
        elif (seen := key_file.fingerprint(self._path)) != self._seen:
            self._seen = seen  # usable or not, it is read and reported once
            try:
                self._known = key_file.read(self._path)
            except ImproperlyConfigured as error:
                logger.error("%s Signing goes on with %s.", error, self._known[0].signing.key_id)
        return self._known[0]


@cache
def _watched(path: Path) -> WatchedKeys:
    return WatchedKeys(path)


def own_keys() -> OwnKeys:
    """The key that we sign with and our old ones. Raises as `key_file.load_or_create` does."""
    return _watched(settings.SIGNING_KEY_FILE).keys()


def signing_key() -> SigningKey:
    """The key to sign with now. Ask for it anew for every signature: it may be rotated at any time."""
    return own_keys().signing


def rotate(*, replaced: str, now_ms: int) -> OwnKeys:
    """Let a new key sign instead of the one with the id `replaced`. Raises as `key_file.rotate` does."""
    own_keys()  # made, if this is the first use of all
    keys = key_file.rotate(settings.SIGNING_KEY_FILE, replaced=replaced, now_ms=now_ms)
    logger.warning("this server signs with %s from now on, no longer with %s", keys.signing.key_id, replaced)
    return keys


def server_keys(now_ms: int) -> dict[str, Any]:
    """Our signed answer to `GET /_matrix/key/v2/server`, valid for 12 hours from `now_ms` (milliseconds).

    Made anew each time: a copy kept for later could list a key that has been rotated meanwhile.
    """
    keys = own_keys()
    answer = {
        "server_name": settings.SERVER_NAME,
        "valid_until_ts": now_ms + VALIDITY_MS,
        "m.linearized": True,
        "verify_keys": {keys.signing.key_id: {"key": encode_base64(keys.signing.public_key)}},
        "old_verify_keys": {
            old.key_id: {"key": encode_base64(old.public_key), "expired_ts": old.expired_ts}
            for old in keys.old[:MAX_PUBLISHED_OLD_KEYS]
        },
    }
    return sign_object(answer, server=settings.SERVER_NAME, key=keys.signing)
