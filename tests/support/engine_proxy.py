"""Stands between a client and the Docker engine: breaks connections, and is away when told so."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENGINE = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")


class EngineProxy:
    """Passes on what is said to a unix socket or TCP port; `address` is its DOCKER_HOST."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener: socket.socket | None = None
        self.address = ""
        self.passed = 0
        self.cut_after: int | None = None
        self.back()

    def back(self) -> None:
        """Answer (again)."""
        if self._path:
            self._path.unlink(missing_ok=True)
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self._path))
            self.address = f"unix://{self._path}"
        else:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._listener.listen()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Break every connection there is."""
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def away(self) -> None:
        """Break every connection and take no new one."""
        if self._listener:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        if self._path:
            self._path.unlink(missing_ok=True)
        self.cut()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(ENGINE)
            self._pairs.append((client, engine))
            threading.Thread(target=self._pump, args=(client, engine), daemon=True).start()

    def _pump(self, client: socket.socket, engine: socket.socket) -> None:
        with selectors.DefaultSelector() as ready, client, engine:
            ready.register(client, selectors.EVENT_READ, engine)
            ready.register(engine, selectors.EVENT_READ, client)
            with contextlib.suppress(OSError):
                while all(self._pass(key.fileobj, key.data) for key, _ in ready.select()):
                    pass

    def _pass(self, source, target: socket.socket) -> bool:
        data = source.recv(65536)
        if not data:
            return False
        if self.cut_after is not None and self.passed + len(data) > self.cut_after:
            target.sendall(data[: max(0, self.cut_after - self.passed)])
            self.cut_after = None
            return False
        self.passed += len(data)
        target.sendall(data)
        return True


@contextlib.contextmanager
def proxied(path: Path | None = None) -> Iterator[EngineProxy]:
    """A proxy that ends with the block."""
    proxy = EngineProxy(path)
    try:
        yield proxy
    finally:
        proxy.away()
