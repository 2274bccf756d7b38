"""Public keys whose private half is public too, so that a signature by them proves nothing (threat T20).

Only keys belong here that servers are known to have used, or that come out of copying a published example.
Points of small order need no entry: libsodium refuses them (`keys.fetchers`).
"""

from linmatrix.protocol.encoding import decode_base64
from linmatrix.protocol.signing import KEY_LENGTH

LEAKED_KEYS = frozenset(
    decode_base64(key, length=KEY_LENGTH)
    for key in (
        "l/O9hxMVKB6Lg+3Hqf0FQQZhVESQcMzbPN1Cz2nM3og",  # every server that ess-helm once set up (CVE-2026-24044)
        "XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI",  # the seed in the Matrix specification's test vectors
        "O2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ik",  # a seed of 32 zero bytes, what an unfilled buffer makes
        "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo",  # the seeds in the test vectors of RFC 8032, section 7.1
        "PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw",
        "/FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU",
    )
)


def is_leaked(public_key: bytes) -> bool:
    """Whether anybody can sign as the owner of this key."""
    return public_key in LEAKED_KEYS
