"""A port belongs to one server at a time, although servers' processes may share it."""

import socket

from linmatrix.stack.ports import PortHold, free_port, is_free

HOST = "127.0.0.1"


def sharing_listener(port: int) -> socket.socket:
    """What a web process of ours opens."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((HOST, port))
    listener.listen()
    return listener


def test_a_held_port_is_free_for_nobody_else() -> None:
    port, hold = free_port(), PortHold()
    assert hold.acquire(port, host=HOST)
    assert not is_free(port)
    assert not PortHold().acquire(port, host=HOST)
    hold.release()
    assert is_free(port)


def test_the_servers_own_processes_can_share_a_held_port_and_get_its_connections() -> None:
    port, hold = free_port(), PortHold()
    assert hold.acquire(port, host=HOST)
    with sharing_listener(port) as listener, socket.create_connection((HOST, port)):
        listener.accept()[0].close()
    hold.release()


def test_a_port_can_be_held_again_while_its_old_connections_linger() -> None:
    port = free_port()
    with sharing_listener(port) as listener, socket.create_connection((HOST, port)):
        listener.accept()[0].close()
    hold = PortHold()
    assert hold.acquire(port, host=HOST)
    hold.release()
