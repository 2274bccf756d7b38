"""A name server on loopback that answers from a table, for everything that asks DNS."""

import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from linmatrix.transport.lookup import DnsLookup

Record = tuple[str, int, str, list[str]]
"""Owner, TTL in seconds, type and values, as a zone file has them."""

Zone = Mapping[tuple[str, str], Sequence[Record]]
"""Records by question: name with its final dot, type. An empty list is an empty answer; no entry for any type of a
name says that the name does not exist."""


class NameServer:
    """Answers over UDP while it is entered, and remembers what it was asked. `silent` and `broken` hold questions that
    it does not answer and that it fails at; all three may be changed at any time."""

    def __init__(self, zone: Zone) -> None:
        self.zone = dict(zone)
        self.silent: set[tuple[str, str]] = set()
        self.broken: set[tuple[str, str]] = set()
        self.asked: list[tuple[str, str]] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self.port: int = self._socket.getsockname()[1]
        self.lookup = DnsLookup(nameservers=["127.0.0.1"], port=self.port)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.sendto(b"stop", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def asked_for(self, record: str) -> list[str]:
        """The names that were asked for records of this type."""
        return [name for name, kind in self.asked if kind == record]

    def _serve(self) -> None:
        while True:
            wire, client = self._socket.recvfrom(4096)
            if wire == b"stop":
                return
            query = dns.message.from_wire(wire)
            question = (query.question[0].name.to_text(), dns.rdatatype.to_text(query.question[0].rdtype))
            self.asked.append(question)
            if question not in self.silent:
                self._socket.sendto(self._respond(query, question).to_wire(), client)

    def _respond(self, query: dns.message.Message, question: tuple[str, str]) -> dns.message.Message:
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if question in self.broken:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif not any(name == question[0] for name, _ in self.zone):
            response.set_rcode(dns.rcode.NXDOMAIN)
        else:
            for owner, ttl, kind, values in self.zone.get(question, []):
                response.answer.append(dns.rrset.from_text(owner, ttl, "IN", kind, *values))
        return response


def addresses(host: str, *values: str, ttl: int = 60) -> dict[tuple[str, str], list[Record]]:
    """The entry of a zone for a host with these IPv4 addresses."""
    return {(f"{host}.", "A"): [(f"{host}.", ttl, "A", list(values))]}


def services(name: str, *values: str, ttl: int = 60) -> dict[tuple[str, str], list[Record]]:
    """The entry of a zone for SRV records, each `priority weight port target.`."""
    return {(f"{name}.", "SRV"): [(f"{name}.", ttl, "SRV", list(values))]}
