"""Wall-clock time that all tries of a search share: a killed try's minutes count."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slimline.contract.job import Checkpoint

_FILE = "clock.json"


class Clock:
    """Counts from what earlier tries have spent; `save()` keeps what was spent so far."""

    def __init__(self, saved: Checkpoint, minutes: float) -> None:
        """Take up the time of earlier tries from the job's checkpoint."""
        self._saved, self._limit, self._started = saved, 60 * minutes, time.monotonic()
        self._before = 0.0
        if saved.restore():
            with suppress(OSError, ValueError, KeyError):  # a damaged count starts anew
                self._before = float(json.loads((saved.path / _FILE).read_text())["seconds"])

    @property
    def seconds(self) -> float:
        """Spent in all tries."""
        return self._before + time.monotonic() - self._started

    def has(self, seconds: float) -> bool:
        """Whether there is that much left, and some besides."""
        return self.seconds + seconds < self._limit

    def save(self) -> None:
        """Keep the count for the next try."""
        (self._saved.path / _FILE).write_text(json.dumps({"seconds": round(self.seconds, 1)}))
        self._saved.save()
