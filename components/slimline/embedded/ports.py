"""Free ports."""

from __future__ import annotations

import socket
from contextlib import ExitStack


def free_ports(count: int, host: str = "127.0.0.1") -> tuple[int, ...]:
    """Different ports that nothing listens on now at an address of this machine.

    Another process may take one before it is used: a server that can bind port 0 and tell what it
    got is better off doing so.
    """
    with ExitStack() as open_sockets:
        found = []
        for _ in range(count):
            listener = open_sockets.enter_context(socket.socket())
            listener.bind((host, 0))
            found.append(int(listener.getsockname()[1]))
    return tuple(found)


def free_port(host: str = "127.0.0.1") -> int:
    """One free port; see `free_ports`."""
    return free_ports(1, host)[0]
