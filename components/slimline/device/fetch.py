"""FETCH: bring a package's files, chunk by chunk, each checked against its signed hash at once.

A file that has a coded form is fetched in that form and restored, chunk by chunk against the same
signed hashes; where that fails, it is fetched as it is.

What is on the disk is its own memory: a file grows chunk by chunk, and after an interruption the
chunks that are there are hashed again. So a verified chunk is never asked for twice, a torn one is
found, and there is no map beside the data that could disagree with it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from slimline.coding import decode_model
from slimline.contract import BadData, Refused, get_logger, safe_join
from slimline.contract.store import Missing
from slimline.trust.manifest import CHUNK_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from slimline.device.disk import Disk
    from slimline.fleet.documents import Coded, Descriptor
    from slimline.fleet.objects import Objects
    from slimline.trust.manifest import PackageFile

log = get_logger(__name__)

MOST_FILES = 1_000
_SPARE = 1 << 20


def fetch_package(disk: Disk, objects: Objects, descriptor: Descriptor, target: Path) -> None:
    """Fill `target` with the files of a release.

    Args:
        disk: what writes.
        objects: where the files lie, by their paths in the package.
        descriptor: what they must be; signed.
        target: a directory; may hold a part of them already.

    Raises:
        Refused: at the first chunk that is not what was signed; earlier chunks stay.
        TryLater: when the network or the disk does not allow it now.
    """
    if len(descriptor.files) > MOST_FILES:
        msg = f"release {descriptor.version} has {len(descriptor.files)} files; refused"
        raise Refused(msg)
    disk.make_directory(target)
    _remove_strangers(disk, descriptor, target)
    there = {f.path: _verified_chunks(f, safe_join(target, f.path)) for f in descriptor.files}
    missing = descriptor.size - sum(
        min(there[f.path] * CHUNK_BYTES, f.size) for f in descriptor.files
    )
    missing += sum(form.file.size for form in descriptor.coded)
    disk.need(target, missing + _SPARE)
    coded = {form.path: form for form in descriptor.coded}
    for file in descriptor.files:
        if file.path in coded and there[file.path] < len(file.chunks):
            there[file.path] = _restore(disk, objects, file, coded[file.path], target)
        _fetch_file(disk, objects, file, safe_join(target, file.path), there[file.path])
    for form in descriptor.coded:
        disk.remove(safe_join(target, form.file.path))


def _restore(disk: Disk, objects: Objects, file: PackageFile, form: Coded, target: Path) -> int:
    """Make a file from its coded form; returns how many of its chunks are there."""
    path, source = safe_join(target, file.path), safe_join(target, form.file.path)
    try:
        _fetch_file(disk, objects, form.file, source, _verified_chunks(form.file, source))
        data = decode_model(source.read_bytes(), file.size)
    except BadData as error:
        log.warning("%s is fetched as it is: its coded form is of no use: %s", file.path, error)
        return _verified_chunks(file, path)
    disk.make_directory(path.parent)
    for number, sha256 in enumerate(file.chunks):
        start = number * CHUNK_BYTES
        chunk = data[start : start + CHUNK_BYTES]
        if hashlib.sha256(chunk).hexdigest() != sha256:
            log.warning("%s is fetched as it is: its coded form makes another file", file.path)
            return number
        disk.append(path, chunk, start)
    return len(file.chunks)


def _fetch_file(disk: Disk, objects: Objects, file: PackageFile, path: Path, verified: int) -> None:
    disk.make_directory(path.parent)
    if file.size == 0 or verified == len(file.chunks):
        disk.append(path, b"", file.size)
    for number in range(verified, len(file.chunks)):
        start = number * CHUNK_BYTES
        data = _chunk(objects, file, start)
        if hashlib.sha256(data).hexdigest() != file.chunks[number]:
            msg = f"chunk {number} of {file.path} is not what was signed; refused"
            raise Refused(msg)
        disk.append(path, data, start)
    disk.sync_directory(path.parent)


def _chunk(objects: Objects, file: PackageFile, start: int) -> bytes:
    try:
        return objects.get(file.path, start, min(CHUNK_BYTES, file.size - start))
    except Missing as error:
        msg = f"the release's file {file.path} is not there: {error}"
        raise Refused(msg) from error


def _verified_chunks(file: PackageFile, path: Path) -> int:
    """How many chunks from the start are on the disk as they were signed."""
    if not path.is_file():
        return 0
    with path.open("rb") as source:
        for number, sha256 in enumerate(file.chunks):
            if hashlib.sha256(source.read(CHUNK_BYTES)).hexdigest() != sha256:
                return number
    return len(file.chunks)


def _remove_strangers(disk: Disk, descriptor: Descriptor, target: Path) -> None:
    """What lies there and is not of this release would be refused later; take it away."""
    named = {file.path for file in descriptor.files}
    named |= {form.file.path for form in descriptor.coded}
    for path in sorted(target.rglob("*")):
        relative = path.relative_to(target).as_posix()
        if path.is_symlink() or (path.is_file() and relative not in named):
            disk.remove(path)
    disk.sync_directory(target)
