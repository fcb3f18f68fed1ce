"""uvicorn, taught to leave without losing a request.

uvicorn itself closes its port and its silent connections the moment it is told to stop: whoever is
just then connecting or sending loses a request. So first the port stays open for a while, every
answer asks its client to close, and only when the connections are gone does uvicorn stop.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from slimline.contract import TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slimline.serving.app import App
    from slimline.serving.settings import Settings

_BACKLOG = 1024
_STEP = 0.02
KEEP_ALIVE = 75
"""Seconds; longer than the 60 s that load balancers keep a silent connection for reuse."""


def bind(settings: Settings) -> socket.socket:
    """Bind the port that is asked for, and write its number where that is asked for.

    Raises:
        TryLater: when the address is taken or not ours.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
    except OSError as error:
        bound.close()
        where = f"{settings.host}:{settings.port}"
        msg = f"cannot listen on {where}: {error.strerror}; give another port or wait"
        raise TryLater(msg) from error
    if settings.port_file:
        temporary = settings.port_file.with_suffix(".tmp")
        temporary.write_text(str(bound.getsockname()[1]))
        temporary.replace(settings.port_file)
    return bound


def make_server(app: App) -> Any:
    """A `uvicorn.Server` for the application that leaves signals to us."""
    import uvicorn

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=2,
    )
    return Server(config)


async def drain(server: Any, app: App, settings: Settings) -> None:
    """Be unready, go on answering until nobody is left or the time is up, then stop.

    Under way are at most requests that began before; each ends within `settings.timeout`.
    """
    app.state.draining = True
    began = time.monotonic()

    def somebody_is_left() -> bool:
        passed = time.monotonic() - began
        if app.busy:
            return passed < settings.linger + settings.timeout
        return bool(server.server_state.connections) and passed < settings.idle_grace

    await asyncio.sleep(settings.linger)
    while somebody_is_left():  # noqa: ASYNC110 - uvicorn's connections have no event to wait for
        await asyncio.sleep(_STEP)
    server.should_exit = True
