"""Devices and their keys, made and signed as clients do: MLS, Olm, or both."""

import hashlib

from nacl.signing import SigningKey

from linmatrix.protocol.devices import MLS_ALGORITHM, MLS_CREDENTIAL
from linmatrix.protocol.encoding import encode_base64
from linmatrix.protocol.mls.credential import Credential
from linmatrix.protocol.one_time_keys import KEY_PACKAGE, SIGNED_CURVE25519
from linmatrix.protocol.signing import object_bytes
from tests.support.mls_writer import KEY_PACKAGE_MESSAGE, LAST_RESORT, MlsDevice, capabilities, wrapped

OLM_ALGORITHMS = ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"]


class DeviceMaker:
    """A device of a user, with keys that follow from its ids and `generation`. `mls` and `olm` say which it speaks."""

    def __init__(self, user_id, device_id="DEVICE", *, mls=True, olm=True, generation=0):
        self.user_id, self.device_id, self.mls, self.olm = user_id, device_id, mls, olm
        self._generation = generation
        self.in_mls = MlsDevice(user_id, device_id, generation)
        self.ed25519 = SigningKey(self.public("ed25519"))

    @property
    def credential(self):
        """The struct of the draft."""
        return Credential(self.user_id, self.device_id, self.in_mls.public_key)

    def public(self, label):
        """32 bytes that nobody knows the private half of."""
        return hashlib.sha256(f"{self._generation} {label} {self.user_id} {self.device_id}".encode()).digest()

    def unsigned_object(self, **changes):
        """The device object without signatures."""
        keys = {}
        if self.mls:
            keys[f"{MLS_CREDENTIAL}:{self.device_id}"] = encode_base64(self.credential.to_bytes())
        if self.olm:
            keys[f"ed25519:{self.device_id}"] = encode_base64(bytes(self.ed25519.verify_key))
            keys[f"curve25519:{self.device_id}"] = encode_base64(self.public("curve25519"))
        algorithms = [*([MLS_ALGORITHM] if self.mls else []), *(OLM_ALGORITHMS if self.olm else [])]
        value = {"user_id": self.user_id, "device_id": self.device_id, "algorithms": algorithms, "keys": keys}
        return {**value, **changes}

    def sign(self, value, *, only=("mls", "olm")):
        """A copy signed by the device's signing keys, or those named."""
        signatures = {}
        message = object_bytes(value)
        if self.mls and "mls" in only:
            signature = encode_base64(self.in_mls.key.sign(message).signature)
            signatures[f"{MLS_CREDENTIAL}:{self.device_id}"] = signature
        if self.olm and "olm" in only:
            signatures[f"ed25519:{self.device_id}"] = encode_base64(self.ed25519.sign(message).signature)
        return {**value, "signatures": {self.user_id: signatures}}

    def object(self, **changes):
        """The device object, signed with whatever `changes` it has."""
        return self.sign(self.unsigned_object(**changes))

    def olm_key(self, number, *, fallback=False, **changes):
        """A signed Curve25519 key as (name, value)."""
        value = {"key": encode_base64(self.public(f"one-time {number}")), **({"fallback": True} if fallback else {})}
        name = f"{SIGNED_CURVE25519}:{number}"
        return name, self.sign({**value, **changes}, only=("olm",))

    def olm_keys(self, numbers, **options):
        """Several of them, by name and in order."""
        return dict(self.olm_key(number, **options) for number in numbers)

    def key_package(self, number, *, last_resort=False, wrap=False, **options):
        """An MLS key package as (name, value); options as `MlsDevice.key_package` has them."""
        if last_resort:
            options = {"extensions": LAST_RESORT, "can": capabilities(extensions=[10]), **options}
        keys = {"init_key": self.public(f"init {number}"), "encryption_key": self.public(f"leaf {number}")}
        package = self.in_mls.key_package(**keys, **options)
        return f"{KEY_PACKAGE}:{number}", encode_base64(wrapped(KEY_PACKAGE_MESSAGE, package) if wrap else package)
