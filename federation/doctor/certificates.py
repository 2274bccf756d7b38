"""The certificate that an address shows, as a peer sees it."""

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

import certifi
from cryptography import x509
from django.conf import settings

from federation.doctor.finding import PATIENCE, Finding
from linmatrix.transport.hosts import is_localhost
from linmatrix.transport.target import Endpoint, Target

SOON_DAYS = 14
"""Automatic certificates are renewed a month before their end."""


def look(target: Target) -> Iterator[Finding]:
    """One finding for each address, since others may come to any of them. A name of this machine's own stands for the
    addresses of both families, of which one will do."""
    findings = [_at(endpoint, target.tls_name) for endpoint in target.endpoints]
    good = [finding for finding in findings if finding.ok]
    yield from good if good and is_localhost(target.tls_name) else findings


def _at(endpoint: Endpoint, name: str) -> Finding:
    subject = f"certificate at {endpoint}"
    try:
        return _seen(subject, _shown(endpoint, name, verify=True))
    except ssl.SSLCertVerificationError as error:
        return Finding(subject, *_wrong(error, endpoint, name))
    except (OSError, ssl.SSLError) as error:
        advice = f"See that the front listens there with TLS 1.3, and that firewalls let {endpoint} through."
        return Finding(subject, f"no TLS connection: {error}", advice)


def _shown(endpoint: Endpoint, name: str, *, verify: bool) -> x509.Certificate:
    context = ssl.create_default_context()
    if not context.get_ca_certs():
        context.load_verify_locations(certifi.where())
    if settings.CA_FILE:
        context.load_verify_locations(settings.CA_FILE)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((endpoint.address, endpoint.port), timeout=PATIENCE) as connection,
        context.wrap_socket(connection, server_hostname=name) as tls,
    ):
        shown = tls.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown)


def _seen(subject: str, certificate: x509.Certificate) -> Finding:
    left = (certificate.not_valid_after_utc - datetime.now(UTC)).days
    says = f"for {_names(certificate)}, {left} days left"
    return Finding(subject, says, "See why it is not renewed." if left < SOON_DAYS else "")


def _wrong(error: ssl.SSLCertVerificationError, endpoint: Endpoint, name: str) -> tuple[str, str]:
    says = error.verify_message
    try:
        certificate = _shown(endpoint, name, verify=False)
    except (OSError, ssl.SSLError):
        return says, "See what the front's log says."
    ended = certificate.not_valid_after_utc
    if ended < datetime.now(UTC):
        return f"it expired on {ended:%Y-%m-%d}", "Renew it, and see why it was not renewed."
    if "mismatch" in says:
        return f"it is for {_names(certificate)}, not for {name}", f"Get a certificate for {name}."
    return f"{says}: issued by {certificate.issuer.rfc4514_string()}", (
        "Get one of an authority that others trust, and have the front send all intermediate certificates."
    )


def _names(certificate: x509.Certificate) -> str:
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return "no name"
    return ", ".join(alternatives.get_values_for_type(x509.DNSName)) or "no host name"
