"""Packages as one file: a tar that is the same for the same tree, and an unpacking that is safe.

`pack` makes what SageMaker calls model.tar.gz. `unpack` treats an archive as hostile: it
decompresses to a file within a bound, reads member by member and writes plain files only.
"""

from __future__ import annotations

import gzip
import shutil
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from slimline.contract import BadData, Refused, safe_join
from slimline.contract.store import disk_error
from slimline.trust.package import list_files

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 2**20
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_NAME = 240


@dataclass(frozen=True)
class Limits:
    """The most that an archive may hold; sizes in bytes."""

    files: int = 1000
    file_bytes: int = 2 * 2**30
    total_bytes: int = 4 * 2**30
    ratio: int = 200
    """Bytes unpacked for each byte of a compressed archive, counted after the first MiB."""


def pack(root: Path, target: Path) -> Path:
    """Write a tree into one archive; equal trees give equal bytes.

    Args:
        root: a package.
        target: the file to write; `.tar.gz` and `.tgz` are compressed, `.tar` is not.

    Raises:
        Refused: when the tree holds what a package may not.
    """
    paths = list_files(root)
    with target.open("wb") as raw:
        if target.name.endswith((".tar.gz", ".tgz")):
            with gzip.GzipFile("", "wb", 6, raw, mtime=0) as compressed:
                _write(root, paths, compressed)
        else:
            _write(root, paths, raw)
    return target


def unpack(archive: Path, target: Path, limits: Limits | None = None) -> Path:
    """Unpack a tar, compressed by gzip or not, into a directory that does not exist yet.

    It does not verify the package: call `verify_package` on the result.

    Returns:
        `target`; on a refusal nothing is left there.

    Raises:
        Refused: on a path outside, a link or device, a name given twice, a size or count or
            compression ratio above the limits, or what is no tar.
        TryLater: when the disk is full or cannot be written.
    """
    allowed = limits or Limits()
    if target.exists():
        msg = f"{target} exists: unpack into a new directory"
        raise Refused(msg)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpack-", dir=target.parent) as scratch:
            plain, tree = Path(scratch) / "plain.tar", Path(scratch) / "tree"
            tree.mkdir()
            with archive.open("rb") as raw, _Bounded(_plain(raw, archive, plain, allowed)) as tar:
                _extract(tar, tree, allowed)
            tree.rename(target)
    except OSError as error:
        raise disk_error(target, error) from error
    return target


class _Bounded:
    """A file that hands out little at a time: a header that claims gigabytes is not obeyed."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _PIECE:
            msg = "archive is malformed: a header claims to be larger than 1 MiB"
            raise Refused(msg)
        return self.file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()


def _write(root: Path, paths: tuple[str, ...], file: IO[bytes] | gzip.GzipFile) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in paths:
            member = tarfile.TarInfo(path)
            member.size, member.mode = (root / path).stat().st_size, 0o644
            with (root / path).open("rb") as content:
                tar.addfile(member, content)


def _plain(raw: IO[bytes], archive: Path, plain: Path, limits: Limits) -> IO[bytes]:
    """The archive as an uncompressed file, decompressed to `plain` if it has to be."""
    magic = raw.read(2)
    raw.seek(0)
    packed = archive.stat().st_size
    if magic != _GZIP_MAGIC:
        most = limits.total_bytes
        if packed > most:
            msg = f"archive has {packed} bytes: at most {most} are unpacked"
            raise Refused(msg)
        return archive.open("rb")
    most = min(limits.total_bytes, _PIECE + packed * limits.ratio)
    written = 0
    try:
        with gzip.GzipFile(fileobj=raw) as source, plain.open("wb") as sink:
            while piece := source.read(_PIECE):
                written += len(piece)
                if written > most:
                    msg = (
                        f"archive of {packed} bytes unpacks to more than {most}: refused as a bomb"
                    )
                    raise Refused(msg)
                sink.write(piece)
    except (OSError, EOFError, zlib.error) as error:
        msg = f"archive is malformed: its compression is damaged: {error}"
        raise Refused(msg) from error
    return plain.open("rb")


def _extract(file: _Bounded, tree: Path, limits: Limits) -> None:
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:  # type: ignore[call-overload] # it reads, seeks and tells
            for member in _checked(tar, limits):
                content = tar.extractfile(member)
                if content is None:
                    msg = f"archive is malformed: {member.name!r} has no content"
                    raise Refused(msg)
                with _create(tree, member.name) as sink:
                    shutil.copyfileobj(content, sink, _PIECE)
    except (tarfile.TarError, ValueError, EOFError, RecursionError, OverflowError) as error:
        msg = f"archive is malformed: {error}"
        raise Refused(msg) from error


def _checked(tar: tarfile.TarFile, limits: Limits) -> Iterator[tarfile.TarInfo]:
    """Each file of an archive in turn, after it was found harmless."""
    seen: set[str] = set()
    total = 0
    for member in tar:
        name = member.name.casefold()
        if name in seen:
            msg = f"archive holds {member.name!r} twice"
            raise Refused(msg)
        seen.add(name)
        if len(seen) > limits.files:
            msg = f"archive holds more than {limits.files} members"
            raise Refused(msg)
        _harmless(member, limits)
        total += member.size
        if total > limits.total_bytes:
            msg = f"archive holds more than {limits.total_bytes} bytes"
            raise Refused(msg)
        if member.isdir():
            continue
        yield member
    if not total:
        msg = "archive is malformed: it holds no file"
        raise Refused(msg)


def _harmless(member: tarfile.TarInfo, limits: Limits) -> None:
    plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE)
    if not plain or member.issparse():
        msg = (
            f"archive holds {member.name!r}, a link or special file: only plain files are unpacked"
        )
        raise Refused(msg)
    if len(member.name) > _MAX_NAME:
        msg = f"archive holds a name of {len(member.name)} characters: at most {_MAX_NAME}"
        raise Refused(msg)
    if not 0 <= member.size <= limits.file_bytes:
        msg = f"archive holds {member.name!r} of {member.size} bytes: at most {limits.file_bytes}"
        raise Refused(msg)


def _create(tree: Path, name: str) -> IO[bytes]:
    try:
        path = safe_join(tree, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")
    except (BadData, FileExistsError, NotADirectoryError) as error:
        msg = f"archive holds {name!r:.100}, a path that leaves its directory or crosses a file"
        raise Refused(msg) from error
