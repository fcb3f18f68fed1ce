"""Free ports on loopback."""

from __future__ import annotations

import socket
from contextlib import ExitStack


def free_ports(count: int) -> tuple[int, ...]:
    """Different ports that nothing listens on now.

    Another process may take one before it is used: a server that can bind port 0 and tell what it
    got is better off doing so.
    """
    with ExitStack() as open_sockets:
        found = []
        for _ in range(count):
            listener = open_sockets.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            found.append(int(listener.getsockname()[1]))
    return tuple(found)


def free_port() -> int:
    """One free port; see `free_ports`."""
    return free_ports(1)[0]
