"""A store keeps artifacts and manifests under keys: a local directory, or S3.

Layout, the same in both::

    artifacts/<digest>/<file...>     the files
    artifacts/<digest>.json          their listing, written after them: no listing, no artifact
    jobs/<identity>/manifest.json    what a job made, written last
    jobs/<identity>/checkpoint       digest of what a job that is not done had reached
    latest/<lineage>.json            which job answered last for a step of a recipe

The sha256 of every file is kept by us and checked on every read, whatever the server promises.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from slimline.contract.artifact import (
    Artifact,
    FileEntry,
    digest_entries,
    list_tree,
    local_path,
    sha256_file,
)
from slimline.contract.errors import BadData, BadParameters, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import timedelta
    from pathlib import Path

T = TypeVar("T")
A = TypeVar("A", bound=Artifact)
_LISTING = TypeAdapter(tuple[FileEntry, ...])
_REQUESTS_AT_ONCE = 16


class Missing(BadData):
    """There is nothing under that key."""


@dataclass(frozen=True)
class Stat:
    """Size in bytes and our own sha256 of a stored object; sha256 is "" where none was kept."""

    size: int
    sha256: str


class Store(Protocol):
    """Bytes under keys. Keys are POSIX paths relative to the store's URI."""

    uri: str

    def get(self, key: str) -> bytes:
        """Read a small object. Raises `Missing`."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Write a small object at once; False when `if_absent` and something is there."""

    def upload(self, path: Path, key: str, sha256: str) -> None:
        """Write a file of any size; the sha256 is kept beside it."""

    def download(self, key: str, path: Path, sha256: str) -> None:
        """Read a file of any size to `path`; raises `BadData` when its sha256 differs."""

    def stat(self, key: str) -> Stat | None:
        """Size and sha256 of an object, None when it is not there."""

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys under a prefix."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when it is not there."""

    def leftovers(self, older_than: timedelta, *, remove: bool) -> tuple[str, ...]:
        """Where writers that were killed left something unfinished, begun that long ago."""


def open_store(uri: str) -> Store:
    """Open a store by URI: `s3://bucket/prefix`, `file:///path` or a path.

    Raises:
        BadParameters: on another scheme.
    """
    if uri.startswith("s3://"):
        from slimline.adapters.s3 import S3Store  # noqa: PLC0415 - boto3 only where S3 is used

        return S3Store(uri)
    if "://" in uri.removeprefix("file://"):
        msg = f"store {uri!r}: give s3://bucket/prefix, file:///path or a path"
        raise BadParameters(msg)
    return LocalStore(local_path(uri))


def save_artifact(store: Store, artifact: A) -> A:
    """Store a located artifact under its digest; one that is there already and whole is kept.

    Returns:
        The artifact with the URI it has in the store, located as before.
    """
    entries = list_tree(artifact.path)
    digest = digest_entries(entries)

    def send(entry: FileEntry) -> None:
        key = f"artifacts/{digest}/{entry.path}"
        store.upload(artifact.path / entry.path, key, entry.sha256)

    if artifact_is_whole(store, digest):
        _at_once(send, entries)
        store.put(f"artifacts/{digest}.json", _LISTING.dump_json(entries))
    kept = type(artifact)(uri=f"{store.uri}/artifacts/{digest}", digest=digest)
    return kept.located(artifact.path)


def fetch_artifact(artifact: A, target: Path) -> A:
    """Bring an artifact to a local directory, every file checked against the digest.

    Raises:
        BadData: when a file is missing or its bytes are not those that the digest names.
    """
    root, stored, _ = artifact.uri.rpartition(f"/artifacts/{artifact.digest}")
    if not stored:
        return _fetch_directory(artifact, target)
    store = open_store(root)

    def bring(entry: FileEntry) -> None:
        path = safe_join(target, entry.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        store.download(f"artifacts/{artifact.digest}/{entry.path}", path, entry.sha256)

    _at_once(bring, artifact_files(store, artifact.digest))
    return artifact.located(target)


def artifact_files(store: Store, digest: str) -> tuple[FileEntry, ...]:
    """The listing of a stored artifact, proven to be the one that the digest names."""
    msg = f"artifact {digest[:12]}: its listing in {store.uri} was changed; delete it"
    try:
        entries = _LISTING.validate_json(store.get(f"artifacts/{digest}.json"))
    except ValidationError as error:
        raise BadData(msg) from error
    if digest_entries(entries) != digest:
        raise BadData(msg)
    return entries


def artifact_is_whole(store: Store, digest: str) -> str:
    """Look at every file of an artifact without reading it on S3.

    Returns:
        "" when all is there, else what is wrong, as half a sentence.
    """
    try:
        entries = artifact_files(store, digest)
    except Missing:
        return f"artifact {digest[:12]} is not in the store"
    except BadData:
        return f"artifact {digest[:12]} has another listing"
    stats = _at_once(lambda entry: store.stat(f"artifacts/{digest}/{entry.path}"), entries)
    for entry, stat in zip(entries, stats, strict=True):
        if stat is None:
            return f"artifact {digest[:12]} lost {entry.path}"
        if (stat.size, stat.sha256) != (entry.size, entry.sha256):
            return f"artifact {digest[:12]} has other bytes in {entry.path}"
    return ""


def _at_once(work: Callable[[FileEntry], T], entries: Iterable[FileEntry]) -> list[T]:
    """Do the same for several files at once; after the first error no more are begun."""
    pool = ThreadPoolExecutor(_REQUESTS_AT_ONCE)
    try:
        return list(pool.map(work, entries))
    finally:
        pool.shutdown(cancel_futures=True)


def safe_join(root: Path, relative: str) -> Path:
    """`root / relative`, refused when it would leave `root`.

    Raises:
        BadData: on an absolute path, a `..`, a backslash or a control character.
    """
    parts = relative.split("/")
    hostile = any(p in ("", ".", "..") for p in parts) or "\\" in relative
    if hostile or any(ord(c) < 32 for c in relative):  # noqa: PLR2004 - ASCII control characters
        msg = f"path {relative!r} leaves its directory or is not plain: refused"
        raise BadData(msg)
    return root.joinpath(*parts)


class LocalStore:
    """A directory as a store; writes are atomic by rename and by link."""

    def __init__(self, root: Path) -> None:
        """Use `root`, which is made at the first write."""
        self.root = root.resolve()
        self.uri = self.root.as_uri()

    def get(self, key: str) -> bytes:
        """See `Store.get`."""
        try:
            return safe_join(self.root, key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            msg = f"nothing under {key} in {self.uri}"
            raise Missing(msg) from error

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """See `Store.put`; `if_absent` is decided by a hard link: one writer can make it."""
        path = safe_join(self.root, key)
        temporary = self._temporary(path)
        try:
            temporary.write_bytes(data)
            if not if_absent:
                temporary.replace(path)
                return True
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            raise disk_error(path, error) from error
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def upload(self, path: Path, key: str, sha256: str) -> None:
        """See `Store.upload`."""
        target = safe_join(self.root, key)
        temporary = self._temporary(target)
        try:
            shutil.copyfile(path, temporary)
            if sha256_file(temporary) != sha256:
                msg = f"{path} changed while it was stored; nothing was kept"
                raise BadData(msg)
            temporary.replace(target)
        except OSError as error:
            raise disk_error(target, error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def download(self, key: str, path: Path, sha256: str) -> None:
        """See `Store.download`."""
        source = safe_join(self.root, key)
        if not source.is_file():
            msg = f"nothing under {key} in {self.uri}"
            raise Missing(msg)
        try:
            shutil.copyfile(source, path)
        except OSError as error:
            raise disk_error(path, error) from error
        check_sha256(path, sha256, f"{self.uri}/{key}")

    def stat(self, key: str) -> Stat | None:
        """See `Store.stat`; hashes the file."""
        path = safe_join(self.root, key)
        return Stat(path.stat().st_size, sha256_file(path)) if path.is_file() else None

    def keys(self, prefix: str) -> Iterator[str]:
        """See `Store.keys`."""
        for path in sorted(self.root.rglob("*")):
            key = path.relative_to(self.root).as_posix()
            if path.is_file() and key.startswith(prefix) and not path.name.startswith(".tmp-"):
                yield key

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        safe_join(self.root, key).unlink(missing_ok=True)

    def leftovers(self, older_than: timedelta, *, remove: bool) -> tuple[str, ...]:
        """See `Store.leftovers`: files that were never renamed."""
        limit = time.time() - older_than.total_seconds()
        found = [p for p in sorted(self.root.rglob(".tmp-*")) if p.stat().st_mtime < limit]
        for path in found if remove else ():
            path.unlink(missing_ok=True)
        return tuple(path.relative_to(self.root).as_posix() for path in found)

    def _temporary(self, path: Path) -> Path:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(path, error) from error
        return temporary_beside(path)


def temporary_beside(path: Path) -> Path:
    """A name in the same directory that nobody else uses: to write first, then rename."""
    return path.with_name(f".tmp-{secrets.token_hex(8)}")


def check_sha256(path: Path, sha256: str, source: str) -> None:
    """Hash a file that was just read, and remove it when it is not what it must be."""
    found = sha256_file(path)
    if found != sha256:
        path.unlink()
        msg = f"{source}: sha256 is {found[:12]}, must be {sha256[:12]}: the bytes are damaged"
        raise BadData(msg)


def disk_error(path: Path, error: OSError) -> TryLater:
    """A full or read-only disk, told with the cure."""
    msg = f"cannot write {path}: {error.strerror}; free some space or give another directory"
    return TryLater(msg)


def _fetch_directory(artifact: A, target: Path) -> A:
    source = local_path(artifact.uri)
    shutil.copytree(source, target, dirs_exist_ok=True)
    found = digest_entries(list_tree(target))
    if found != artifact.digest:
        msg = (
            f"{source} changed since it was named: digest {found[:12]}, was {artifact.digest[:12]}"
        )
        raise BadData(msg)
    return artifact.located(target)
