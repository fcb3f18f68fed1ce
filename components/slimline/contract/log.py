"""Logs: text for people, or one JSON object a line when `SLIMLINE_LOG=json`.

Progress is a log record too: a bar on a terminal, a line every few seconds elsewhere.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")
_EVERY_SECONDS = 2.0
_BAR = 30


def get_logger(name: str) -> logging.Logger:
    """The logger of a room: `get_logger(__name__)`."""
    return logging.getLogger(name)


def setup_logging(level: str = "INFO") -> None:
    """Send logs to stderr in the form that `SLIMLINE_LOG` asks for."""
    handler = logging.StreamHandler(sys.stderr)
    as_json = os.environ.get("SLIMLINE_LOG") == "json"
    handler.setFormatter(_Json() if as_json else logging.Formatter("%(levelname)-7s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("slimline").setLevel(level)


def progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Go through `items` and tell how far it is.

    Args:
        items: what to go through.
        total: how many there will be.
        what: a few words, such as "distill: epoch 3".
    """
    meter = Meter(total, what)
    for done, item in enumerate(items, 1):
        yield item
        meter.show(done)


class Meter:
    """Progress of work that is not a loop over items; `show(done)` as often as you like."""

    def __init__(self, total: int, what: str) -> None:
        """Measure `what` up to `total`."""
        self.total, self.what = max(total, 1), what
        self._log = get_logger("slimline.progress")
        self._shown = 0.0

    def show(self, done: int, note: str = "") -> None:
        """Tell that `done` of the total are done; at most every two seconds, and at the end."""
        ended = done >= self.total
        now = time.monotonic()
        if not ended and now - self._shown < _EVERY_SECONDS:
            return
        self._shown = now
        filled = _BAR * done // self.total
        bar = f"[{'#' * filled}{'.' * (_BAR - filled)}]"
        if sys.stderr.isatty():
            end = "\n" if ended else ""
            sys.stderr.write(f"\r{self.what} {bar} {done}/{self.total} {note}{end}")
            sys.stderr.flush()
            return
        self._log.info(
            "%s %s %d/%d %s",
            self.what,
            bar,
            done,
            self.total,
            note,
            extra={"progress": {"what": self.what, "done": done, "total": self.total}},
        )


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if hasattr(record, "progress"):
            line["progress"] = record.progress
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)
