"""The stable address of an endpoint: a TCP forwarder that outlives the servers behind it.

Each new connection goes to the server that `endpoint.json` names at that moment; a connection that
is open stays where it is. So a switch is one replaced file, and no request is lost: the port is
never closed, a server that is being left answers all it was sent and asks its clients to close
(`slimline.serving.server`), and a connection that the old server no longer takes goes to the new
one before a byte of it was passed on.

It needs the standard library only: `python -m slimline.deploy.front DIRECTORY --port PORT`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
from pathlib import Path

_LOOPBACK = "127.0.0.1"
_PIECE = 65536
_TRIES = 40
_PAUSE = 0.05
_SORRY = b'{"error": "no server is behind this address"}'
_NOBODY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(_SORRY), _SORRY)
)


class _Front:
    def __init__(self, record: Path) -> None:
        self._record = record

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one client's connection to the current server and back."""
        try:
            server = await self._connect()
            if server is None:
                writer.write(_NOBODY)
                await writer.drain()
                return
            await _carry((reader, writer), server)
        except ConnectionError:
            return  # the client went away
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in range(_TRIES):
            try:
                return await asyncio.open_connection(*self._server())
            except (OSError, LookupError, TypeError, ValueError):
                await asyncio.sleep(_PAUSE)  # between two servers, or before the first
        return None

    def _server(self) -> tuple[str, int]:
        current = json.loads(self._record.read_bytes())["current"]
        return str(current["host"]), int(current["port"])


async def _carry(
    client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    upwards = asyncio.create_task(_pump(client[0], server[1]))
    try:
        await _pump(server[0], client[1])
    finally:
        upwards.cancel()
        server[1].close()
        await asyncio.gather(upwards, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what arrives until its end; an end or a break on one side ends the other."""
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


async def _main(options: argparse.Namespace) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    front = _Front(options.directory / "endpoint.json")
    server = await asyncio.start_server(front.forward, options.host, options.port, backlog=1024)
    if options.port_file:
        temporary = options.port_file.with_suffix(".tmp")
        temporary.write_text(str(server.sockets[0].getsockname()[1]))
        temporary.replace(options.port_file)
    await stopping.wait()
    server.close()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m slimline.deploy.front")
    parser.add_argument("directory", type=Path, help="the endpoint's directory")
    parser.add_argument("--host", default=_LOOPBACK, help="address to listen on")
    parser.add_argument("--port", type=int, required=True, help="port; 0 takes a free one")
    parser.add_argument("--port-file", type=Path, help="file that is told the port")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(_main(_options()))
