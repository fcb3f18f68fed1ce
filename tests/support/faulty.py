"""A TCP proxy in front of a real server that damages what passes.

    with faulty(server.endpoint, Fault("cut", after=300_000), times=2) as proxy:
        ...

`cut` ends the connection as if the server had closed it, `reset` breaks it, `stall` sends nothing
more and keeps it open, `flip` changes one byte and goes on.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Fault:
    """What happens to a connection, once `after` bytes went through it in one direction."""

    kind: Literal["cut", "reset", "stall", "flip"]
    after: int
    direction: Literal["answers", "requests"] = "answers"


@dataclass
class Proxy:
    """The proxy: its address, and what went through it."""

    fault: Fault
    times: int
    struck: int = 0
    endpoint: str = ""
    answered: int = 0
    """Bytes of answers that reached the client."""
    open: list[socket.socket] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def strikes(self) -> bool:
        """True when this connection gets the fault now; takes one of those that are left."""
        with self.lock:
            if self.struck == self.times:
                return False
            self.struck += 1
            return True


@contextmanager
def faulty(endpoint: str, fault: Fault, times: int = 1):
    """A proxy for `endpoint` whose fault happens `times` times, at most once a connection."""
    target = urlsplit(endpoint)
    proxy = Proxy(fault, times)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy.endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        where = (listener, (target.hostname, target.port), proxy)
        threading.Thread(target=_accept, args=where, daemon=True).start()
        yield proxy
    for end in proxy.open:
        end.close()


def _accept(listener, target, proxy):
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(target)
            proxy.open += (client, server)
            for ends in ((client, server, "requests"), (server, client, "answers")):
                threading.Thread(target=_forward, args=(*ends, proxy), daemon=True).start()


def _forward(source, sink, direction, proxy):
    passed, watch = 0, proxy.fault.direction == direction
    with suppress(OSError):
        while data := source.recv(65536):
            if watch and passed + len(data) > proxy.fault.after and proxy.strikes():
                watch = False
                data = _strike(proxy.fault, sink, data, proxy.fault.after - passed)
            sink.sendall(data)
            passed += len(data)
            if direction == "answers":
                proxy.answered += len(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _strike(fault, sink, data, at):
    """Do the fault amid `data`; what is returned still goes through."""
    if fault.kind == "flip":
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    sink.sendall(data[:at])
    if fault.kind == "stall":
        threading.Event().wait()
    if fault.kind == "reset":
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sink.shutdown(socket.SHUT_RD)  # wakes the other direction: who reads keeps it open
        sink.close()
    raise OSError(fault.kind)
