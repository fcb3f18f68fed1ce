"""A full disk, told as such whichever library met it: not all of them raise an `OSError`."""

from __future__ import annotations

import errno
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from slimline.contract.errors import SlimlineError, TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT}
_WORDS = "No space left on device"
_NO_ROOM = 64 * 1024
"""A library that fails to write leaves the disk with less than this, whatever it raises."""


@contextmanager
def full_disk_told(directory: Path) -> Iterator[None]:
    """Tell a failure that a full disk caused with its cure.

    Args:
        directory: where the work is done.

    Raises:
        TryLater: in place of what a library raised when there was no room.
    """
    try:
        yield
    except SlimlineError:
        raise
    except Exception as error:
        if not is_full_disk(error) and _free(directory) >= _NO_ROOM:
            raise
        msg = (
            f"the disk is full ({error}); free some space, or give another --work-dir or TMPDIR "
            f"than {directory}"
        )
        raise TryLater(msg) from error


def is_full_disk(error: Exception) -> bool:
    """Whether an error says that there is no room on a disk."""
    return (isinstance(error, OSError) and error.errno in _FULL) or _WORDS in str(error)


def _free(directory: Path) -> int:
    """Bytes free where a directory is, or will be."""
    there = next(p for p in (directory.absolute(), *directory.absolute().parents) if p.exists())
    return shutil.disk_usage(there).free
