"""S3 as a store: AWS, or any server that speaks its protocol (`AWS_ENDPOINT_URL_S3`).

Credentials come by boto3's own chain. The sha256 of every object is kept in its metadata and
checked by us on every read: a server's ETag is no content hash, and not every server checks sums.

It does not decide races: whether two `put(if_absent=True)` at the same moment can both succeed is
up to the server (on AWS they cannot). `contract.cache.commit` is harmless either way.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import boto3
from boto3.s3.transfer import TransferConfig
from botocore import exceptions as boto
from botocore.config import Config

from slimline.contract.artifact import sha256_file
from slimline.contract.errors import BadData, BadParameters, SlimlineError, TryLater
from slimline.contract.store import Missing, Stat, disk_error, safe_join, temporary_beside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from mypy_boto3_s3 import S3Client

PART_BYTES = 8 * 2**20
"""Files of this size and more go up in parts."""
_PIECE = 2**20
_STREAM_TRIES = 3
_TRANSFER = TransferConfig(
    multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=4
)
_URI = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?")

_CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_VARIABLES = (
    "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE",
)  # fmt: skip
_BROKEN = (boto.ResponseStreamingError, boto.IncompleteReadError, boto.ReadTimeoutError)
_NO_ANSWER = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError)
_NOT_THERE = {"NoSuchKey", "404"}
_LATER = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded"}
_LOST_RACE = {"PreconditionFailed", "ConditionalRequestConflict", "ConcurrentModification", "412"}
_CURES = {
    "InvalidAccessKeyId": "the server does not know AWS_ACCESS_KEY_ID: correct it",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID",
    "ExpiredToken": "AWS_SESSION_TOKEN has expired: get new credentials",
    "InvalidToken": "AWS_SESSION_TOKEN is wrong: get new credentials",
    "AccessDenied": f"{_CREDENTIALS} do not allow this: correct them or the bucket's policy",
    "403": f"{_CREDENTIALS} are wrong or do not allow this: correct them or the bucket's policy",
    "NoSuchBucket": "there is no such bucket: create it or correct the URI",
    "PermanentRedirect": "the bucket is in another region: set AWS_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set AWS_REGION",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
}


class S3Store:
    """See `slimline.contract.store.Store`; keys lie under the URI's prefix."""

    def __init__(self, uri: str) -> None:
        """Open `s3://bucket/prefix`; nothing is asked of the server yet.

        Raises:
            BadParameters: on another form of URI, or wrong AWS settings in the environment.
        """
        parsed = _URI.fullmatch(uri.rstrip("/"))
        if parsed is None:
            msg = f"store {uri!r}: give s3://bucket/prefix with a valid bucket name"
            raise BadParameters(msg)
        self.uri = uri.rstrip("/")
        self._bucket = parsed["bucket"]
        self._prefix = f"{parsed['prefix']}/" if parsed["prefix"] else ""

    def get(self, key: str) -> bytes:
        """See `Store.get`."""
        data = BytesIO()
        with self._told(key):
            found, kept = self._stream(key, data)
        self._must_be(found, kept or found, key)
        return data.getvalue()

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """See `Store.put`."""
        with self._told(key):
            try:
                self._put(key, data, **({"IfNoneMatch": "*"} if if_absent else {}))
            except boto.ClientError as error:
                if if_absent and _code(error) in _LOST_RACE:
                    return False
                raise
        return True

    def upload(self, path: Path, key: str, sha256: str) -> None:
        """See `Store.upload`; large files go up in parts."""
        with self._told(key):
            if path.stat().st_size < PART_BYTES:
                data = path.read_bytes()
                _unchanged(path, hashlib.sha256(data).hexdigest(), sha256)
                self._put(key, data)
            else:
                self._put_in_parts(path, key, sha256)

    def download(self, key: str, path: Path, sha256: str) -> None:
        """See `Store.download`; `path` appears when it is whole and proven, not before."""
        temporary = temporary_beside(path)
        try:
            with temporary.open("xb") as file, self._told(key):
                found, _ = self._stream(key, file)
            self._must_be(found, sha256, key)
            temporary.replace(path)
        except OSError as error:
            raise disk_error(path, error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def stat(self, key: str) -> Stat | None:
        """See `Store.stat`; one HEAD request."""
        try:
            with self._told(key):
                head = self._client.head_object(**self._at(key))
        except Missing:
            return None
        return Stat(head["ContentLength"], head["Metadata"].get("sha256", ""))

    def keys(self, prefix: str) -> Iterator[str]:
        """See `Store.keys`."""
        with self._told(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for found in page.get("Contents", ()):
                    yield found["Key"].removeprefix(self._prefix)

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        with suppress(Missing), self._told(key):
            self._client.delete_object(**self._at(key))

    def leftovers(self, older_than: timedelta, *, remove: bool) -> tuple[str, ...]:
        """See `Store.leftovers`: uploads in parts that were never completed, which cost money."""
        limit, found = datetime.now(UTC) - older_than, []
        with self._told(""):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            uploads = [upload for page in pages for upload in page.get("Uploads", ())]
            for upload in (u for u in uploads if u["Initiated"] <= limit):
                found.append(upload["Key"].removeprefix(self._prefix))
                if remove:
                    with suppress(self._client.exceptions.NoSuchUpload):
                        self._client.abort_multipart_upload(
                            Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
        return tuple(found)

    @property
    def _client(self) -> S3Client:
        return _client(os.getpid(), tuple(os.environ.get(name, "") for name in _VARIABLES))

    def _at(self, key: str) -> dict[str, Any]:
        safe_join(Path("/"), key)
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _put(self, key: str, data: bytes, **conditions: Any) -> None:
        self._client.put_object(
            **self._at(key),
            Body=data,
            Metadata={"sha256": hashlib.sha256(data).hexdigest()},
            ChecksumAlgorithm="SHA256",
            **conditions,
        )

    def _put_in_parts(self, path: Path, key: str, sha256: str) -> None:
        extra = {"Metadata": {"sha256": sha256}, "ChecksumAlgorithm": "SHA256"}
        with path.open("rb") as file:
            self._client.upload_fileobj(
                file, self._bucket, self._at(key)["Key"], ExtraArgs=extra, Config=_TRANSFER
            )
        found = sha256_file(path)
        if found != sha256:
            self.delete(key)
        _unchanged(path, found, sha256)

    def _stream(self, key: str, out: IO[bytes]) -> tuple[str, str]:
        """Read an object into `out`, from the start again when the connection breaks.

        Returns:
            The sha256 of what came, and the one that was kept beside it.
        """
        for tries_left in reversed(range(_STREAM_TRIES)):
            out.seek(0)
            out.truncate()
            answer, hasher = self._client.get_object(**self._at(key)), hashlib.sha256()
            try:
                for piece in answer["Body"].iter_chunks(_PIECE):
                    hasher.update(piece)
                    out.write(piece)
            except _BROKEN:
                if not tries_left:
                    raise
                continue
            break
        return hasher.hexdigest(), answer["Metadata"].get("sha256", "")

    def _must_be(self, found: str, sha256: str, key: str) -> None:
        if found != sha256:
            msg = (
                f"{self.uri}/{key}: sha256 is {found[:12]}, must be {sha256[:12]}: "
                "the bytes are damaged"
            )
            raise BadData(msg)

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """Tell what S3 or boto3 says in our errors, each with its cure."""
        what = f"{self.uri}/{key}"
        try:
            yield
        except boto.ClientError as error:
            raise _refusal(what, error) from error
        except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
            msg = f"{what}: there are no whole S3 credentials: set {_CREDENTIALS}"
            raise BadParameters(msg) from error
        except boto.FlexibleChecksumError as error:
            msg = f"{what}: the bytes are damaged ({error})"
            raise BadData(msg) from error
        except _NO_ANSWER as error:
            msg = f"{what}: S3 does not answer ({error}): try later, or set AWS_ENDPOINT_URL_S3"
            raise TryLater(msg) from error
        except boto.BotoCoreError as error:
            msg = f"{what}: the AWS settings are wrong: {error}"
            raise BadParameters(msg) from error


@lru_cache(maxsize=4)
def _client(_pid: int, _variables: tuple[str, ...]) -> S3Client:
    """One client for each process and setting of the environment; it is safe among threads."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path" if endpoint else "auto"},
        retries={"mode": "standard", "total_max_attempts": 5},
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=32,
    )
    try:
        session = boto3.session.Session()
        region = os.environ.get("AWS_REGION") or session.region_name or "us-east-1"
        return session.client("s3", region_name=region, config=config)
    except ValueError as error:
        msg = f"AWS_ENDPOINT_URL_S3 is {endpoint!r}: give http://host:port or https://host"
        raise BadParameters(msg) from error


def _refusal(what: str, error: boto.ClientError) -> SlimlineError:
    code, status = _code(error), error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
    if code in _NOT_THERE:
        return Missing(f"nothing under {what}")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or code in _LATER:
        return TryLater(f"{what}: S3 cannot serve this now ({code}): try later")
    cure = _CURES.get(code, error.response["Error"].get("Message", "no reason was given"))
    return BadParameters(f"{what}: S3 refused ({code}): {cure}")


def _code(error: boto.ClientError) -> str:
    return error.response["Error"].get("Code", "")


def _unchanged(path: Path, found: str, sha256: str) -> None:
    if found != sha256:
        msg = f"{path} changed while it was stored; nothing was kept"
        raise BadData(msg)
