"""Certificates for development: an authority in a folder, and servers' certificates that it signs.

Federation needs TLS with names that verify, on a laptop too. Whoever trusts the authority's certificate (as our own
HTTP client does by LINMATRIX_CA_FILE) can verify every server that it has signed for; its key never leaves the folder.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFETIME = timedelta(days=3650)
# The longest that every client accepts.
SERVER_LIFETIME = timedelta(days=397)
# One that has less than this left is issued anew.
RENEW_BEFORE = timedelta(days=30)
# Against clocks that run a little behind ours.
_BACKDATE = timedelta(hours=1)


@dataclass(frozen=True)
class ServerCertificate:
    """Files as granian takes them: the certificate, and its key in PKCS#8."""

    certificate: Path
    key: Path


class Authority:
    """A development certificate authority, made in its folder on first use."""

    def __init__(self, folder: Path) -> None:
        self.certificate_file = folder / "ca.pem"
        key_file = folder / "ca.key"
        folder.mkdir(parents=True, exist_ok=True)
        if not self.certificate_file.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            _write_key(key_file, key)
            self.certificate_file.write_bytes(_authority_certificate(key).public_bytes(Encoding.PEM))
        loaded = load_pem_private_key(key_file.read_bytes(), password=None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        self._key = loaded
        self._certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())

    def issue(self, names: Sequence[str], *, folder: Path) -> ServerCertificate:
        """The certificate for these host names or addresses, from the folder where it is still good."""
        files = ServerCertificate(folder / "server.pem", folder / "server.key")
        if files.key.exists() and files.certificate.exists() and self._still_good(files.certificate, names):
            return files
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key, names)
        _write_key(files.key, key)
        files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        return files

    def _still_good(self, file: Path, names: Sequence[str]) -> bool:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return (
            certificate.issuer == self._certificate.subject
            and certificate.not_valid_after_utc - RENEW_BEFORE > datetime.now(UTC)
            and list(alternatives) == _general_names(names)
        )

    def _sign(self, key: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_common_name(names[0]))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATE)
            .not_valid_after(now + SERVER_LIFETIME)
            .add_extension(x509.SubjectAlternativeName(_general_names(names)), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _authority_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    # The serial number in the name keeps two authorities of one machine apart.
    serial = x509.random_serial_number()
    name = _common_name(f"linmatrix development authority {serial:x}"[:64])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    general: list[x509.GeneralName] = []
    for name in names:
        try:
            general.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            general.append(x509.DNSName(name))
    return general


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_key(file: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """PKCS#8, readable by its owner only from its first byte on."""
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
