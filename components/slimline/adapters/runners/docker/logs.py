"""A container's log, line by line while it grows; nothing is lost or doubled when a stream breaks.

The engine keeps each line with the moment it came. After a break the log is asked for again from a
moment some seconds back, and as many messages are passed over as were read since that moment:
the engine answers from the same file, so they are the same ones.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from slimline.adapters.runners.docker.engine import EngineAway

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from slimline.adapters.runners.docker.engine import Engine

_HEADER = struct.Struct(">BxxxL")
"""Before each message: 1 for stdout or 2 for stderr, and its length in bytes."""
_LONGEST_LINE = 1 << 20
_SECOND = 10**9
_CONNECT_SECONDS, _SILENT_SECONDS = 10, 60
_BAD_REQUEST = 400


@dataclass
class Position:
    """How far a log was read: so many messages that came at or after a moment.

    The moment moves on every second of the log and stays at least one behind, since stdout and
    stderr are written by two threads of the engine and may differ a little in order.
    Moments are nanoseconds since 1970.
    """

    since: int = 0
    count: int = 0
    _next: int = 0
    _next_count: int = 0
    _newest: int = 0

    def passed(self, moment: int) -> None:
        """One more message was read."""
        self._newest = max(self._newest, moment)
        self.count += moment >= self.since
        self._next_count += moment >= self._next
        if self._newest - self._next > _SECOND:
            self.since, self.count = self._next, self._next_count
            self._next, self._next_count = self._newest + 1, 0


@dataclass
class LogReader:
    """Reads one container's log; `read` may be called again after an `EngineAway`."""

    engine: Engine
    container: str
    _position: Position = field(default_factory=Position)
    _parts: dict[int, bytearray] = field(default_factory=lambda: {1: bytearray(), 2: bytearray()})

    def read(self, *, follow: bool) -> Iterator[str]:
        """The lines that were not read yet.

        Args:
            follow: wait for more until the container ends.

        Raises:
            EngineAway: when the stream breaks, or is silent for a minute.
            Gone: when there is no such container any more.
        """
        known = self._position.count
        for number, (stream, message) in enumerate(_messages(self._pieces(follow=follow))):
            if number < known:
                continue
            moment, _, text = message.partition(b" ")
            self._position.passed(_nanoseconds(moment.decode()))
            yield from self._lines(stream, text)

    def rest(self) -> Iterator[str]:
        """What a job that has ended wrote last, without a line break."""
        for part in self._parts.values():
            if part:
                yield _decoded(part)
            part.clear()

    def _lines(self, stream: int, text: bytes) -> Iterator[str]:
        """The engine cuts long lines into messages; only the last ends with a line break."""
        part = self._parts.setdefault(stream, bytearray())
        part += text
        if part.endswith(b"\n") or len(part) >= _LONGEST_LINE:
            line = _decoded(part)
            part.clear()
            yield line

    def _pieces(self, *, follow: bool) -> Iterator[bytes]:
        api, since = self.engine.api, self._position.since
        options = {
            "stdout": "1",
            "stderr": "1",
            "timestamps": "1",
            "follow": str(int(follow)),
            "since": f"{since // _SECOND}.{since % _SECOND:09d}",
        }
        url = f"{api.base_url}/v{api.api_version}/containers/{self.container}/logs"
        with self.engine.told():
            timeout = (_CONNECT_SECONDS, _SILENT_SECONDS)
            with api.get(url, params=options, stream=True, timeout=timeout) as answer:
                if answer.status_code >= _BAD_REQUEST:
                    self.engine.inspect(self.container)  # tells `Gone`
                    raise EngineAway(f"the log of {self.container[:12]}: {answer.text}")
                yield from answer.iter_content(chunk_size=None)


def _messages(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Cut what came at random places into messages with the number of their stream."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        begin = 0
        while len(waiting) - begin >= _HEADER.size:
            stream, length = _HEADER.unpack_from(waiting, begin)
            end = begin + _HEADER.size + length
            if end > len(waiting):
                break
            yield stream, bytes(waiting[begin + _HEADER.size : end])
            begin = end
        del waiting[:begin]


def _nanoseconds(moment: str) -> int:
    """`2026-11-22T19:10:14.123456789Z` as nanoseconds since 1970."""
    whole = int(datetime.fromisoformat(f"{moment[:19]}+00:00").timestamp())
    return whole * _SECOND + int(moment[20:].rstrip("Z").ljust(9, "0") or 0)


def _decoded(line: bytearray) -> str:
    return line.decode(errors="replace").rstrip("\r\n")
