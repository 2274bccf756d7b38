"""Certificates verify for the names they were issued for, and for no other."""

import ipaddress
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from linmatrix.stack.certificates import Authority, ServerCertificate


def handshake(files: ServerCertificate, *, name: str, trusted: Path) -> None:
    """A TLS 1.3 handshake in memory; raises as the client does."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(files.certificate, files.key)
    client_context = ssl.create_default_context(cafile=str(trusted))
    client_context.minimum_version = ssl.TLSVersion.TLSv1_3
    # As Python does by default from 3.13 on.
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


def test_a_certificate_verifies_for_its_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.issue(["hub.localhost", "127.0.0.1"], folder=tmp_path / "hub")
    handshake(files, name="hub.localhost", trusted=authority.certificate_file)
    handshake(files, name="127.0.0.1", trusted=authority.certificate_file)


def test_it_does_not_verify_for_another_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.issue(["hub.localhost"], folder=tmp_path / "hub")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(files, name="part.localhost", trusted=authority.certificate_file)


def test_it_does_not_verify_with_another_authority(tmp_path: Path) -> None:
    files = Authority(tmp_path / "one").issue(["hub.localhost"], folder=tmp_path / "hub")
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        handshake(files, name="hub.localhost", trusted=Authority(tmp_path / "other").certificate_file)


def test_keys_are_pkcs8_and_their_owners_alone(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue(["hub.localhost"], folder=tmp_path / "hub")
    for key in (files.key, tmp_path / "ca.key"):
        assert key.read_text().startswith("-----BEGIN PRIVATE KEY-----")
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_good_certificate_is_kept_and_one_for_other_names_replaced(tmp_path: Path) -> None:
    first = Authority(tmp_path).issue(["hub.localhost"], folder=tmp_path / "hub").certificate.read_bytes()
    again = Authority(tmp_path).issue(["hub.localhost"], folder=tmp_path / "hub").certificate.read_bytes()
    assert again == first
    changed = Authority(tmp_path).issue(["127.0.0.1"], folder=tmp_path / "hub").certificate.read_bytes()
    names = x509.load_pem_x509_certificate(changed).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(names.value) == [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]


def test_a_certificate_of_a_lost_authority_is_replaced(tmp_path: Path) -> None:
    Authority(tmp_path / "lost").issue(["hub.localhost"], folder=tmp_path / "hub")
    authority = Authority(tmp_path / "new")
    files = authority.issue(["hub.localhost"], folder=tmp_path / "hub")
    handshake(files, name="hub.localhost", trusted=authority.certificate_file)
