"""Parts of large files, several at once, with a bound on how much of them is in memory.

The bound holds for the whole process, however many files are moved at once.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from threading import Semaphore
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

S = TypeVar("S")
T = TypeVar("T")

PART_BYTES = 8 * 2**20
"""Files of this size and more go in parts."""
_MOST_PARTS = 10_000
"""What S3 allows for one object."""
SMALL_BYTES = 2**18
"""What files of this size take of memory is not worth counting."""
_AT_ONCE = 6
_IN_MEMORY = 8


def part_bytes(size: int) -> int:
    """How large the parts of a file of `size` bytes are; the same on every try.

    8 MiB up to 80 GB; beyond, parts grow, and the memory they take.
    """
    return max(PART_BYTES, -(-size // _MOST_PARTS))


def in_order(work: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """Work on several items at once; yield the results in the order of the items.

    An item is taken from `items` when there is memory for it, and counts until its result was
    used: the caller's next step.
    """
    source = iter(items)
    waiting: deque[Future[T]] = deque()
    slots, pool = _slots(os.getpid()), _pool(os.getpid())
    try:
        while True:
            # Who has something under way never waits for memory, so whoever waits gets it.
            while slots.acquire(blocking=not waiting):
                try:
                    waiting.append(pool.submit(work, next(source)))
                except StopIteration:
                    slots.release()
                    break
                except BaseException:
                    slots.release()
                    raise
            if not waiting:
                return
            yield waiting[0].result()
            waiting.popleft()
            slots.release()
    finally:
        for future in waiting:
            future.cancel()
        wait(waiting)
        slots.release(len(waiting)) if waiting else None


@lru_cache(maxsize=1)
def _pool(_pid: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="s3-part")


@lru_cache(maxsize=1)
def _slots(_pid: int) -> Semaphore:
    return Semaphore(_IN_MEMORY)
