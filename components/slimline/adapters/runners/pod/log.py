"""A container's log as lines, each handed on once, however often its stream breaks.

After a break the log is read from its start again, and what was handed on is left out by its
timestamps. So no clock of ours counts, and nothing is lost or told twice. The node keeps the last
10 MB or so, hence that costs little.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d) ?")
_LONGEST = 1 << 20
"""A line that is longer is handed on in pieces."""


@dataclass
class LogReader:
    """Remembers how far a log was handed on: the last timestamp, and how many lines had it."""

    log: Callable[[str], None]
    last: str = ""
    at_last: int = 0

    def read(self, pieces: Iterable[bytes], *, whole: bool) -> bool:
        """Hand on what is new in a log that is read from its start; True when there was some.

        A last line without its end is handed on only if the log is `whole`: the stream may have
        broken there.
        """
        again, new = 0, False
        until, already = self.last, self.at_last
        for stamp, text in _lines(pieces, whole=whole):
            again += stamp == until
            old = stamp < until or (stamp == until and again <= already)
            if until and not new and old:
                continue
            self._note(stamp)
            self.log(text)
            new = True
        return new

    def _note(self, stamp: str) -> None:
        if stamp > self.last:
            self.last, self.at_last = stamp, 0
        self.at_last += stamp == self.last


def _lines(pieces: Iterable[bytes], *, whole: bool) -> Iterable[tuple[str, str]]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) >= _LONGEST:
            lines, rest = [*lines, rest], b""
        yield from map(_parted, lines)
    if rest and whole:
        yield _parted(rest)


def _parted(line: bytes) -> tuple[str, str]:
    """The timestamp, in a form that sorts, and the text; a piece of a long line has none."""
    text = line.decode(errors="replace").rstrip("\r")
    found = _STAMP.match(text)
    if found is None:
        return "", text
    second, fraction, _ = found.groups()
    return f"{second}.{fraction or '':0<9}", text[found.end() :]
