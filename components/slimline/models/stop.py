"""SIGTERM in the middle of a step would leave half a step behind: let it end first."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


@contextmanager
def deferred_sigterm() -> Iterator[Callable[[], bool]]:
    """Hold SIGTERM back inside the block; it is delivered at the end of the block.

    Yields:
        A function that is true once SIGTERM arrived: save, then leave the block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    arrived = threading.Event()

    def note(_signal: int, _frame: FrameType | None) -> None:
        arrived.set()

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield arrived.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
    if arrived.is_set():
        signal.raise_signal(signal.SIGTERM)
