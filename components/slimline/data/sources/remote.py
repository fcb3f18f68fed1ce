"""Read objects from S3, with errors that say what to do.

Credentials, region and endpoint come from boto3's own chain. Writing is the store's business.
"""

from __future__ import annotations

import io
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from slimline.contract import BadData, BadParameters, TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.exceptions import ClientError

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_SCHEME = "s3://"
_NOT_THERE = frozenset({"404", "NoSuchKey", "NotFound"})
_LATER = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "RequestTimeTooSkewed"}
_SERVER_ERROR = 500
_TOO_MANY = 429


class Bucket:
    """A reader of `s3://` URIs."""

    def __init__(self) -> None:
        """Make the client; the server is asked nothing yet."""
        import boto3
        from botocore.config import Config

        own_server = any(os.environ.get(name) for name in _ENDPOINTS)
        settings = Config(
            retries={"total_max_attempts": 4, "mode": "standard"},
            connect_timeout=10,
            s3={"addressing_style": "path" if own_server else "auto"},
        )
        with _told("S3", "path"):
            self._client = boto3.Session().client("s3", config=settings)

    def size(self, uri: str, parameter: str) -> int | None:
        """Size of an object in bytes, None when it is not there."""
        from botocore.exceptions import ClientError

        bucket, key = split_uri(uri, parameter)
        try:
            with _told(uri, parameter, passing=_NOT_THERE):
                return self._client.head_object(Bucket=bucket, Key=key)["ContentLength"]
        except ClientError:
            return None

    def read(self, uri: str, parameter: str) -> bytes:
        """The bytes of an object, in parallel pieces where it is large."""
        bucket, key = split_uri(uri, parameter)
        into = io.BytesIO()
        with _told(uri, parameter):
            self._client.download_fileobj(bucket, key, into)
        return into.getvalue()

    def names(self, uri: str, parameter: str) -> list[str]:
        """Names of the objects under a prefix, relative to it."""
        bucket, key = split_uri(f"{uri.rstrip('/')}/", parameter)
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        with _told(uri, parameter):
            keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return [k.removeprefix(key) for k in keys if not k.endswith("/")]

    def versions(self, uri: str, parameter: str) -> list[tuple[str, int, str]]:
        """(key, size in bytes, ETag) of every object whose key begins as the URI does."""
        bucket, key = split_uri(uri, parameter)
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        with _told(uri, parameter):
            listed = [item for page in pages for item in page.get("Contents", [])]
        return [(item["Key"], item["Size"], item["ETag"]) for item in listed]


def split_uri(uri: str, parameter: str) -> tuple[str, str]:
    """Bucket and key of an `s3://bucket/key` URI.

    Raises:
        BadParameters: when there is no bucket in it.
    """
    bucket, _, key = uri.removeprefix(_SCHEME).partition("/")
    if not bucket:
        msg = f"source.{parameter}: {uri!r} names no bucket: write s3://bucket/key"
        raise BadParameters(msg)
    return bucket, key


@contextmanager
def _told(uri: str, parameter: str, passing: frozenset[str] = frozenset()) -> Iterator[None]:
    """Turn botocore's errors into ours; a ClientError whose code is in `passing` goes through."""
    from boto3.exceptions import Boto3Error
    from botocore import exceptions as boto

    where = f"source.{parameter}: {uri}"
    try:
        yield
    except boto.ClientError as error:
        if error.response.get("Error", {}).get("Code") in passing:
            raise
        raise _answered(where, parameter, error) from error
    except (
        boto.ConnectionError,
        boto.HTTPClientError,
        boto.IncompleteReadError,
        Boto3Error,
    ) as error:
        msg = f"{where}: S3 does not answer ({error}): look at AWS_ENDPOINT_URL_S3, or try later"
        raise TryLater(msg) from error
    except (boto.BotoCoreError, ValueError) as error:
        msg = f"{where}: {error}: set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION right"
        raise BadParameters(msg) from error


def _answered(where: str, parameter: str, error: ClientError) -> BadData | BadParameters | TryLater:
    """What an error that the server answered means for the job."""
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _NOT_THERE or code == "NoSuchBucket":
        return BadData(f"{where}: not there ({code}); give an existing s3:// URI in {parameter}")
    if status >= _SERVER_ERROR or status == _TOO_MANY or code in _LATER:
        return TryLater(f"{where}: S3 answered {status} {code}: try later")
    return BadParameters(
        f"{where}: S3 answered {status} {code}: check the credentials and their right to read it"
    )
