"""Where one server's requests go, ready to connect: what resolution ends with and a connection begins with."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An IP address, checked by `addresses.refusal`, and a port. As text: `8.8.8.8:443`, `[2a00::1]:443`."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send a server's requests.

    `tls_name` is the DNS name, lower case, for SNI and certificate verification; `host_header` the value of `Host`;
    `endpoints` are in the order to try them, never empty. `plain` is HTTP without TLS, which only an override can ask
    for.
    """

    tls_name: str
    host_header: str
    endpoints: tuple[Endpoint, ...]
    plain: bool = False
