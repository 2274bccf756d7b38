"""A certificate authority, a server certificate for `hub.example.org`, and clients that find everything on loopback."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from linmatrix.transport.http import HttpClient
from linmatrix.transport.lookup import Answer
from linmatrix.transport.resolve import Resolver

MakeClient = Callable[..., HttpClient]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture(scope="session")
def hub_certificate(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert("hub.example.org")


@pytest.fixture
def make_client(ca_file: str) -> MakeClient:
    """Makes clients whose DNS knows every name at `addresses`."""

    def make(*addresses: str, allow_tls12: bool = False, overrides: dict[str, str] | None = None) -> HttpClient:
        answer = Answer(addresses or ("127.0.0.1",), 60.0)
        resolver = Resolver(allow_private=True, overrides=overrides, lookup=lambda _host, _within: answer)
        return HttpClient(resolver, user_agent="linmatrix-tests", ca_file=ca_file, allow_tls12=allow_tls12)

    return make


@pytest.fixture
def client(make_client: MakeClient) -> HttpClient:
    return make_client()
