"""Opening a Welcome, as the official vectors need it to get at a GroupInfo: what only a member can do.

HPKE's base mode (RFC 9180), the key schedule as far as a Welcome's key (RFC 9420 sections 5.1.3, 8 and 12.4.3.1) and
pre-shared keys (8.4). For tests only: the server has no secret to open anything with.
"""

import hashlib
import hmac
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from linmatrix.protocol.mls.tls import Reader, opaque, u16

HASH_BYTES, KEY_BYTES, NONCE_BYTES = 32, 16, 12
_KEM = b"KEM" + u16(0x20)
_HPKE = b"HPKE" + u16(0x20) + u16(1) + u16(1)


def open_welcome(
    welcome: bytes, *, reference: bytes, init_private: bytes, external_psks: Mapping[bytes, bytes]
) -> bytes:
    """The GroupInfo in a Welcome (bare), for the one whose key package has this reference."""
    reader = Reader(welcome)
    reader.u16()
    secrets, sealed_info = reader.vector(), reader.opaque()
    reader.finish()
    plain = b""
    while secrets.more:
        name, kem_output, ciphertext = secrets.opaque(), secrets.opaque(), secrets.opaque()
        if name == reference:
            info = opaque(b"MLS 1.0 Welcome") + opaque(sealed_info)
            plain = hpke_open(init_private, kem_output, ciphertext, info=info)
    group_secrets = Reader(plain)
    joiner_secret = group_secrets.opaque()
    if group_secrets.optional():
        group_secrets.opaque()
    member_secret = _extract(joiner_secret, psk_secret(group_secrets.vector(), external_psks))
    welcome_secret = _expand_label(member_secret, "welcome", b"", HASH_BYTES)
    key = _expand_label(welcome_secret, "key", b"", KEY_BYTES)
    nonce = _expand_label(welcome_secret, "nonce", b"", NONCE_BYTES)
    return AESGCM(key).decrypt(nonce, sealed_info, b"")


def psk_secret(ids: Reader, known: Mapping[bytes, bytes]) -> bytes:
    """The secret of external pre-shared keys, in order (RFC 9420 section 8.4)."""
    wanted = []
    while ids.more:
        start = ids.position
        assert ids.u8() == 1, "only external keys are in the vectors' welcomes"
        secret = known[ids.opaque()]
        ids.opaque()
        wanted.append((ids.since(start), secret))
    result = bytes(HASH_BYTES)
    for index, (encoded, secret) in enumerate(wanted):
        label = encoded + u16(index) + u16(len(wanted))
        extracted = _extract(bytes(HASH_BYTES), secret)
        result = _extract(_expand_label(extracted, "derived psk", label, HASH_BYTES), result)
    return result


def hpke_open(private: bytes, kem_output: bytes, ciphertext: bytes, *, info: bytes) -> bytes:
    """What was sealed to our key with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-128-GCM, in base mode."""
    ours = X25519PrivateKey.from_private_bytes(private)
    shared = ours.exchange(X25519PublicKey.from_public_bytes(kem_output))
    prk = _labeled_extract(_KEM, b"", "eae_prk", shared)
    context = kem_output + ours.public_key().public_bytes_raw()
    secret = _labeled_expand(_KEM, prk, "shared_secret", context, HASH_BYTES)
    schedule = (
        b"\0" + _labeled_extract(_HPKE, b"", "psk_id_hash", b"") + _labeled_extract(_HPKE, b"", "info_hash", info)
    )
    prk = _labeled_extract(_HPKE, secret, "secret", b"")
    key = _labeled_expand(_HPKE, prk, "key", schedule, KEY_BYTES)
    nonce = _labeled_expand(_HPKE, prk, "base_nonce", schedule, NONCE_BYTES)
    return AESGCM(key).decrypt(nonce, ciphertext, b"")


def _extract(salt: bytes, material: bytes) -> bytes:
    return hmac.new(salt, material, hashlib.sha256).digest()


def _expand(key: bytes, info: bytes, length: int) -> bytes:
    return hmac.new(key, info + b"\1", hashlib.sha256).digest()[:length]


def _expand_label(secret: bytes, label: str, context: bytes, length: int) -> bytes:
    return _expand(secret, u16(length) + opaque(b"MLS 1.0 " + label.encode()) + opaque(context), length)


def _labeled_extract(suite: bytes, salt: bytes, label: str, material: bytes) -> bytes:
    return _extract(salt or bytes(HASH_BYTES), b"HPKE-v1" + suite + label.encode() + material)


def _labeled_expand(suite: bytes, key: bytes, label: str, info: bytes, length: int) -> bytes:
    return _expand(key, u16(length) + b"HPKE-v1" + suite + label.encode() + info, length)
