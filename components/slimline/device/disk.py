"""Every write of a device goes through here, so that each can be made durable, and can be cut.

The rules, for any POSIX file system: data is on the disk after `fsync` of the file, a name after
`fsync` of its directory. A file that must be old or new, never half, is written beside and renamed.
Tests put a saw into `before` and cut the power at every single step.
"""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

from slimline.contract import TryLater

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class DiskFull(TryLater):
    """There is not enough room; nothing was changed."""


class Disk:
    """Durable writes below a directory. `before(step, path)` is called before each step."""

    def __init__(self, before: Callable[[str, Path], None] | None = None) -> None:
        self._before = before or _nothing

    def replace(self, path: Path, data: bytes, mode: int = 0o644) -> None:
        """Give a file new content, at once and for good."""
        beside = path.with_name(f".{path.name}.new")
        self._step("write", beside)
        with beside.open("wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            self._step("fsync", beside)
            os.fsync(file.fileno())
        self._step("rename", path)
        beside.replace(path)
        self.sync_directory(path.parent)

    def append(self, path: Path, data: bytes, at: int) -> None:
        """Write `data` at offset `at`, the file's end from now on, for good."""
        self._step("append", path)
        with path.open("r+b" if path.exists() else "wb") as file:
            file.truncate(at)
            file.seek(at)
            file.write(data)
            self._step("fsync", path)
            os.fsync(file.fileno())

    def make_directory(self, path: Path) -> None:
        """Make a directory and those above it, for good."""
        if path.is_dir():
            return
        self.make_directory(path.parent)
        self._step("mkdir", path)
        path.mkdir(exist_ok=True)
        self.sync_directory(path.parent)

    def move(self, source: Path, target: Path) -> None:
        """Rename a directory; `target` must not exist."""
        self._step("rename", target)
        source.rename(target)
        self.sync_directory(target.parent)
        self.sync_directory(source.parent)

    def point(self, link: Path, target: str) -> None:
        """Make a symbolic link, or let it point elsewhere, at once and for good."""
        if link.is_symlink() and str(link.readlink()) == target:
            return
        beside = link.with_name(f".{link.name}.new")
        self._step("symlink", link)
        beside.unlink(missing_ok=True)
        beside.symlink_to(target)
        self._step("rename", link)
        beside.replace(link)
        self.sync_directory(link.parent)

    def remove(self, path: Path) -> None:
        """Remove a file, or a directory and all in it; nothing happens when it is not there."""
        if path.is_symlink() or path.is_file():
            self._step("remove", path)
            path.unlink()
        if not path.exists():
            return
        for inner in sorted(path.rglob("*"), reverse=True):
            self._step("remove", inner)
            if inner.is_dir() and not inner.is_symlink():
                inner.rmdir()
            else:
                inner.unlink()
        self._step("remove", path)
        path.rmdir()
        self.sync_directory(path.parent)

    def sync_tree(self, root: Path) -> None:
        """Make every file and directory below `root` durable."""
        for path in sorted(root.rglob("*")):
            if path.is_file():
                self._step("fsync", path)
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            else:
                self.sync_directory(path)
        self.sync_directory(root)

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory durable."""
        self._step("fsync", path)
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def need(self, path: Path, size: int) -> None:
        """Check that `size` bytes have room where `path` is.

        Raises:
            DiskFull: when they have not.
        """
        free = shutil.disk_usage(path).free
        if free < size:
            msg = f"{path} has {free} bytes free, {size} are needed: free some space"
            raise DiskFull(msg)

    def _step(self, what: str, path: Path) -> None:
        self._before(what, path)


def told(error: OSError) -> str:
    """A disk's error in words."""
    if error.errno == errno.ENOSPC:
        return "the disk is full: free some space"
    return f"the disk fails: {error.strerror or error}"


def _nothing(_step: str, _path: Path) -> None:
    """No saw."""
