"""Write a large file in parts, and go on with the parts that an upload which was killed left.

An upload's id is not kept by us: the server lists what was begun for a key. A part that is there is
used again only where its size is the one we would send and the server's checksum of it (SHA-256, or
an ETag that is its MD5) is that of our bytes.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from botocore import exceptions as boto

from slimline.adapters.s3.errors import NOT_THERE, code_of
from slimline.adapters.s3.parts import in_order, part_bytes
from slimline.contract.errors import BadData, TryLater
from slimline.contract.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, PartTypeDef

    from slimline.adapters.s3.bucket import Bucket

log = get_logger(__name__)

_ENDED = {"NoSuchUpload", "InvalidPart"}
"""The upload was completed or swept by somebody else."""
_FORBIDDEN = {"AccessDenied", "NotImplemented"}


@dataclass(frozen=True)
class _Part:
    number: int
    data: bytes
    sha256: bytes

    @property
    def checksum(self) -> str:
        """As S3 writes it."""
        return base64.b64encode(self.sha256).decode()


@dataclass(frozen=True)
class _Begun:
    """An upload that is under way, with what the server has of it."""

    upload_id: str
    parts: dict[int, PartTypeDef]


def send_in_parts(bucket: Bucket, key: str, path: Path, sha256: str) -> None:
    """Store a file in parts; an upload of the same key that never ended is taken up.

    Two writers of the same bytes may take up the same upload: one completes it, the other finds it
    gone and the object there.

    Raises:
        BadData: when the file is not what `sha256` names; nothing is kept.
        TryLater: when others put something else there meanwhile.
        ClientError, HTTPClientError: see `Bucket.send`; what was sent stays for the next try.
    """
    found = _find(bucket, key)
    # Whoever began it may have meant other bytes: then the object tells another sha256.
    if found is not None and _finish(bucket, key, path, sha256, found):
        return
    if not _finish(bucket, key, path, sha256, _begin(bucket, key, sha256)):
        msg = f"{key} is being written by somebody else: try again"
        raise TryLater(msg)


def _finish(bucket: Bucket, key: str, path: Path, sha256: str, begun: _Begun) -> bool:
    """Send what is missing and complete the upload; True when the object is there then."""
    whole = hashlib.sha256()

    def send(part: _Part) -> CompletedPartTypeDef:
        return _there(begun, part) or _send(bucket, key, begun.upload_id, part)

    try:
        done = list(in_order(send, _split(path, whole)))
        if whole.hexdigest() != sha256:
            _abort(bucket, key, begun.upload_id)
            msg = f"{path} changed while it was stored; nothing was kept"
            raise BadData(msg)
        bucket.client.complete_multipart_upload(
            Bucket=bucket.name,
            Key=key,
            UploadId=begun.upload_id,
            MultipartUpload={"Parts": done},
        )
    except boto.ClientError as error:
        if code_of(error) not in _ENDED:
            raise
    return _is_there(bucket, key, sha256)


def _find(bucket: Bucket, key: str) -> _Begun | None:
    """The latest upload of this key that was begun and not ended, None when there is none."""
    try:
        pages = bucket.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=bucket.name, Prefix=key
        )
        uploads = [u for page in pages for u in page.get("Uploads", ()) if u["Key"] == key]
        if not uploads:
            return None
        upload_id = max(uploads, key=lambda u: u["Initiated"])["UploadId"]
        listed = bucket.client.get_paginator("list_parts").paginate(
            Bucket=bucket.name, Key=key, UploadId=upload_id
        )
        parts = {p["PartNumber"]: p for page in listed for p in page.get("Parts", ())}
    except boto.ClientError as error:
        if code_of(error) in _ENDED:
            return None
        if code_of(error) in _FORBIDDEN:
            log.warning(
                "%s is sent from its start: to go on with an upload that was killed, allow "
                "s3:ListBucketMultipartUploads and s3:ListMultipartUploadParts",
                key,
            )
            return None
        raise
    log.info("%s: %d parts of an upload that was killed are there already", key, len(parts))
    return _Begun(upload_id, parts)


def _begin(bucket: Bucket, key: str, sha256: str) -> _Begun:
    made = bucket.client.create_multipart_upload(
        Bucket=bucket.name, Key=key, Metadata={"sha256": sha256}, ChecksumAlgorithm="SHA256"
    )
    return _Begun(made["UploadId"], {})


def _abort(bucket: Bucket, key: str, upload_id: str) -> None:
    bucket.client.abort_multipart_upload(Bucket=bucket.name, Key=key, UploadId=upload_id)


def _is_there(bucket: Bucket, key: str, sha256: str) -> bool:
    try:
        head = bucket.send("HEAD", key)
    except boto.ClientError as error:
        if code_of(error) in NOT_THERE:
            return False
        raise
    kept: str = head.headers.get("x-amz-meta-sha256", "")
    return kept == sha256


def _split(path: Path, whole: Any) -> Iterator[_Part]:
    """The parts of a file, each hashed; `whole` is fed with all of them."""
    size = part_bytes(path.stat().st_size)
    with path.open("rb") as file:
        number = 0
        while data := file.read(size):
            number += 1
            whole.update(data)
            yield _Part(number, data, hashlib.sha256(data).digest())


def _there(begun: _Begun, part: _Part) -> CompletedPartTypeDef | None:
    """The part as the server has it, None when it has none or another."""
    listed = begun.parts.get(part.number)
    if listed is None or listed.get("Size") != len(part.data):
        return None
    etag = listed.get("ETag", "")
    md5 = hashlib.md5(part.data, usedforsecurity=False).hexdigest()
    if listed.get("ChecksumSHA256", "") != part.checksum and etag.strip('"') != md5:
        return None
    return {"PartNumber": part.number, "ETag": etag, "ChecksumSHA256": part.checksum}


def _send(bucket: Bucket, key: str, upload_id: str, part: _Part) -> CompletedPartTypeDef:
    answer = bucket.send(
        "PUT",
        key,
        query=f"partNumber={part.number}&uploadId={quote(upload_id, safe='~')}",
        headers={"x-amz-checksum-sha256": part.checksum, "x-amz-sdk-checksum-algorithm": "SHA256"},
        body=part.data,
        sha256=part.sha256.hex(),
    )
    etag = answer.headers["etag"]
    return {"PartNumber": part.number, "ETag": etag, "ChecksumSHA256": part.checksum}
