"""Read an object by ranges: in parallel where it is large, on from where a connection broke."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import urllib3
from botocore import exceptions as boto

from slimline.adapters.s3.bucket import EMPTY_SHA256, TRIES, pause
from slimline.adapters.s3.errors import code_of
from slimline.adapters.s3.parts import PART_BYTES, in_order
from slimline.contract.errors import TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from urllib3.response import BaseHTTPResponse

    from slimline.adapters.s3.bucket import Bucket

_PIECE = 2**18
_BREAKS = (urllib3.exceptions.HTTPError, OSError)
_EMPTY = {"InvalidRange", str(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE.value)}
_CHANGED = {"PreconditionFailed", str(HTTPStatus.PRECONDITION_FAILED.value)}


@dataclass(frozen=True)
class Received:
    """The sha256 of what came, and the one that was kept beside it ("" where none was)."""

    sha256: str
    kept: str


@dataclass(frozen=True)
class _Object:
    """One version of an object: what a later request must still find."""

    bucket: Bucket
    key: str
    etag: str

    def get(self, start: int, end: int) -> BaseHTTPResponse:
        headers = {"range": f"bytes={start}-{end - 1}"}
        if self.etag:
            headers["if-match"] = self.etag
        answer = self.bucket.send("GET", self.key, headers=headers, stream=True)
        if answer.status != HTTPStatus.PARTIAL_CONTENT:
            answer.close()
            msg = f"{self.key}: the server ignores ranges, which S3 has: use another server"
            raise TryLater(msg)
        return answer


def receive(bucket: Bucket, key: str, write: Callable[[bytes], object]) -> Received:
    """Give an object's bytes to `write`, in order.

    Raises:
        ClientError, HTTPClientError: see `Bucket.send`.
        TryLater: when the object was replaced meanwhile.
    """
    try:
        first, beginning = _first(bucket, key)
    except boto.ClientError as error:
        if code_of(error) in _EMPTY:  # an empty object has no range
            head = bucket.send("HEAD", key)
            return Received(EMPTY_SHA256, head.headers.get("x-amz-meta-sha256", ""))
        raise
    size = int(first.headers["content-range"].rpartition("/")[2])
    version = _Object(bucket, key, first.headers["etag"])
    hasher = hashlib.sha256()

    def take(pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            hasher.update(piece)
            write(piece)

    take([beginning])
    take(_read(version, len(beginning), min(size, PART_BYTES), first))
    starts = range(PART_BYTES, size, PART_BYTES)

    def part(start: int) -> list[bytes]:
        return list(_read(version, start, min(start + PART_BYTES, size)))

    for pieces in in_order(part, starts):
        take(pieces)
    return Received(hasher.hexdigest(), first.headers.get("x-amz-meta-sha256", ""))


def _first(bucket: Bucket, key: str) -> tuple[BaseHTTPResponse, bytes]:
    """The answer that has an object's beginning, and its first piece.

    Where a connection breaks amid the headers, those that came look whole. Bytes of the body prove
    that they are.
    """
    why: Exception = boto.IncompleteReadError(actual_bytes=0, expected_bytes=1)
    for failed in range(1, TRIES + 1):
        answer = _Object(bucket, key, "").get(0, PART_BYTES)
        try:
            if piece := answer.read(_PIECE):
                return answer, piece
        except _BREAKS as error:
            why = error
        pause(failed)
    raise boto.HTTPClientError(error=why)


def _read(
    version: _Object, start: int, end: int, answer: BaseHTTPResponse | None = None
) -> Iterator[bytes]:
    """The bytes from `start` to `end`, in pieces; on from where a connection breaks.

    Each try that brings something is a success; only tries in a row that bring nothing are counted.
    """
    at, failed = start, 0
    while at < end:
        why: Exception = boto.IncompleteReadError(actual_bytes=at - start, expected_bytes=end - at)
        try:
            answer = answer or _again(version, at, end)
            while at < end and (piece := answer.read(min(_PIECE, end - at))):
                at += len(piece)
                failed = 0
                yield piece
        except _BREAKS as error:
            why = error
        if at < end:
            failed, answer = failed + 1, None
            if failed == TRIES:
                raise boto.HTTPClientError(error=why)
            pause(failed)


def _again(version: _Object, start: int, end: int) -> BaseHTTPResponse:
    try:
        return version.get(start, end)
    except boto.ClientError as error:
        if code_of(error) in _CHANGED:
            msg = f"{version.key} was replaced while it was read: try again"
            raise TryLater(msg) from error
        raise
