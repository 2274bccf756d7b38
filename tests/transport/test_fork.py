"""Handles across threads and forks: a child must leave its parent's connections alone."""

import subprocess
import sys

import trustme

from tests.transport.peers import ScriptedPeer, answer, server_context

FORKING = """
import os, sys, threading
from linmatrix.transport.http import HttpClient
from linmatrix.transport.lookup import Answer
from linmatrix.transport.resolve import Resolver

name, ca_file = sys.argv[1:]
resolver = Resolver(allow_private=True, lookup=lambda host, within: Answer(("127.0.0.1",), 60.0))
client = HttpClient(resolver, user_agent="tests", ca_file=ca_file)

def ask(path):
    assert client.request(name, "GET", path, headers={}, timeout=20, max_response_bytes=100).status == 200

connected, forked = threading.Event(), threading.Event()

def other_thread():
    ask("/thread-before")
    connected.set()
    forked.wait()
    ask("/thread-after")

thread = threading.Thread(target=other_thread)
thread.start()
connected.wait()
ask("/before")
if os.fork() == 0:
    ask("/child")
    sys.exit(0)  # with all of the interpreter's clean-up
_, status = os.wait()
forked.set()
thread.join()
ask("/after")
sys.exit(status)
"""


def test_a_forked_child_uses_its_own_connection_and_leaves_those_of_its_parent(
    hub_certificate: trustme.LeafCert, ca_file: str
) -> None:
    with ScriptedPeer(server_context(hub_certificate), answer()) as peer:
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING]
        result = subprocess.run(
            [*command, f"hub.example.org:{peer.port}", ca_file], capture_output=True, text=True, timeout=60, check=False
        )
    assert (result.returncode, result.stderr) == (0, "")
    assert len(peer.requests) == 5
    assert peer.connections == 2, "one for all threads of the parent, which ask in turn, and one for the child"
