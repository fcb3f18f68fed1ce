"""Bring a source's files to memory, each read once and hashed from what was read.

A path is local, or `s3://bucket/key`. boto3 is imported where an S3 path is met and nowhere else.
"""

from __future__ import annotations

import errno
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from slimline.contract import BadData, TryLater, digest_json
from slimline.data.sources.raw import too_large
from slimline.data.sources.remote import Bucket

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class Files:
    """Opens the files of one source and remembers the sha256 of each, for the source digest."""

    max_bytes: int
    _seen: list[tuple[str, str]] = field(default_factory=list)
    _bucket: Bucket | None = None

    @property
    def digest(self) -> str:
        """sha256 over the sorted (name, sha256) pairs of the files read so far.

        Names are relative to the source's own path, so a copy elsewhere has the same digest.
        """
        return digest_json(sorted(self._seen))

    def read(self, base: str, name: str, parameter: str, suffixes: Sequence[str] = ("",)) -> bytes:
        """Read one file.

        Args:
            base: directory or s3:// prefix; or the file itself when `name` is "".
            name: the file's name in it.
            parameter: the parameter that gave the path, for the message.
            suffixes: the first `name + suffix` that exists is taken.

        Raises:
            BadData: when there is none, or it is larger than `max_bytes`.
        """
        stem = f"{base.rstrip('/')}/{name}" if name else base
        for path in (f"{stem}{suffix}" for suffix in suffixes):
            is_remote = path.startswith("s3://")
            data = self._remote(path, parameter) if is_remote else self._local(path, parameter)
            if data is not None:
                known_as = name or path.rsplit("/", 1)[-1]
                self._seen.append((known_as, hashlib.sha256(data).hexdigest()))
                return data
        raise missing(stem, parameter, "no file there")

    def names(self, base: str, parameter: str) -> list[str]:
        """Sorted names of all files under a directory or prefix; hidden ones are passed over.

        Raises:
            BadData: when there is no such directory, or no file in it.
        """
        if base.startswith("s3://"):
            found = self._s3().names(base, parameter)
        else:
            root = Path(base).expanduser()
            if not root.is_dir():
                raise missing(base, parameter, "no directory there")
            found = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
        shown = sorted(n for n in found if not any(p.startswith(".") for p in n.split("/")))
        if not shown:
            raise missing(base, parameter, "no file there")
        return shown

    def _local(self, path: str, parameter: str) -> bytes | None:
        file = Path(path).expanduser()
        try:
            if not file.is_file():
                return None
            self._check_size(file.stat().st_size, path, parameter)
            return file.read_bytes()
        except OSError as error:
            msg = f"source.{parameter}: cannot read {path!r}: {error.strerror}"
            if error.errno in (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG):
                raise BadData(f"{msg}; give a path that this user may read") from error
            raise TryLater(f"{msg}; try again when the disk answers") from error

    def _remote(self, uri: str, parameter: str) -> bytes | None:
        size = self._s3().size(uri, parameter)
        if size is None:
            return None
        self._check_size(size, uri, parameter)
        return self._s3().read(uri, parameter)

    def _check_size(self, size: int, path: str, parameter: str) -> None:
        if size > self.max_bytes:
            what = f"source.{parameter}: size of {path!r} in bytes"
            raise too_large(what, size, self.max_bytes, "max_mib")

    def _s3(self) -> Bucket:
        if self._bucket is None:
            self._bucket = Bucket()
        return self._bucket


def missing(path: str, parameter: str, what: str) -> BadData:
    """A path that leads nowhere."""
    looked_at = path if path.startswith("s3://") else str(Path(path).expanduser().absolute())
    return BadData(
        f"source.{parameter}: {looked_at!r}: {what}; "
        f"give an existing absolute path or s3:// URI in {parameter}"
    )
