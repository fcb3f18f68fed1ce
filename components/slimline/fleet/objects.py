"""Objects under keys, for devices: a directory (a disk, a USB stick) or S3 without boto3.

The contract's `Store` is for pipelines: it trusts the listing it wrote. Here nothing is trusted;
whoever reads checks signatures and hashes, so this only moves bytes and bounds how many.
"""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET

import urllib3

from slimline.contract import BadParameters, TryLater, safe_join
from slimline.contract.store import Missing
from slimline.fleet.sigv4 import Credentials, authorize, encode_query

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 8 << 20
"""Bytes that one `get` reads at most: nothing in a fleet's repository is larger."""
_PAGE = 1000
_OK, _PARTIAL, _DENIED, _ABSENT, _EXISTS, _EMPTY = 200, 206, 403, 404, 412, 416


class Objects(Protocol):
    """Bytes under keys; keys are POSIX paths below `uri`."""

    uri: str

    def get(self, key: str, start: int = 0, size: int = LARGEST) -> bytes:
        """At most `size` bytes from `start`. Raises `Missing`, `TryLater`."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Write an object at once; False when `if_absent` and something is there."""

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys under a prefix, sorted."""


def open_objects(uri: str) -> Objects:
    """Open `s3://bucket/prefix`, `file:///path` or a path.

    Raises:
        BadParameters: on another scheme, or when S3 credentials are not in the environment.
    """
    if uri.startswith("s3://"):
        return S3Objects(uri)
    path = uri.removeprefix("file://")
    if "://" in path:
        msg = f"repository {uri!r}: give s3://bucket/prefix, file:///path or a path"
        raise BadParameters(msg)
    return DirectoryObjects(Path(path))


class DirectoryObjects:
    """A directory; writes are atomic by rename and by link."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.uri = self.root.as_uri()

    def get(self, key: str, start: int = 0, size: int = LARGEST) -> bytes:
        """See `Objects.get`."""
        try:
            with safe_join(self.root, key).open("rb") as file:
                file.seek(start)
                return file.read(size)
        except FileNotFoundError as error:
            msg = f"nothing under {key} in {self.uri}"
            raise Missing(msg) from error
        except OSError as error:
            msg = f"cannot read {key} in {self.uri}: {error.strerror}; is the disk mounted?"
            raise TryLater(msg) from error

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """See `Objects.put`."""
        path = safe_join(self.root, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".tmp-{secrets.token_hex(8)}")
            with temporary.open("xb") as file:  # devices and pipeline may be different users
                file.write(data)
                os.fsync(file.fileno())
            return _place(temporary, path, if_absent=if_absent)
        except OSError as error:
            msg = f"cannot write {path}: {error.strerror}; free some space or check the rights"
            raise TryLater(msg) from error

    def keys(self, prefix: str) -> Iterator[str]:
        """See `Objects.keys`."""
        found = (p for p in self.root.rglob("*") if p.is_file() and not p.name.startswith(".tmp-"))
        names = sorted(path.relative_to(self.root).as_posix() for path in found)
        return (name for name in names if name.startswith(prefix))


class S3Objects:
    """A bucket's prefix over HTTP, path style; credentials and endpoint from AWS_* variables."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        parts = urlsplit(self.uri)
        self._prefix = f"/{parts.netloc}{parts.path}/"
        self._bucket = f"/{parts.netloc}"
        self._credentials = _credentials()
        region = self._credentials.region
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        self._endpoint = (endpoint or f"https://s3.{region}.amazonaws.com").rstrip("/")
        self._host = urlsplit(self._endpoint).netloc

    def get(self, key: str, start: int = 0, size: int = LARGEST) -> bytes:
        """See `Objects.get`."""
        span = {"range": f"bytes={start}-{start + size - 1}"}
        answer = self._send("GET", self._prefix + key, headers=span, limit=size)
        if answer.status == _ABSENT:
            msg = f"nothing under {key} in {self.uri}"
            raise Missing(msg)
        if answer.status == _EMPTY:
            return b""
        self._expect(answer, (_OK, _PARTIAL), key)
        data = answer.data
        return data[start : start + size] if answer.status == _OK else data[:size]

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """See `Objects.put`."""
        headers = {"if-none-match": "*"} if if_absent else {}
        answer = self._send("PUT", self._prefix + key, headers=headers, body=data)
        if if_absent and answer.status == _EXISTS:
            return False
        self._expect(answer, (_OK,), key)
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        """See `Objects.keys`."""
        below = self._prefix.removeprefix(f"{self._bucket}/")
        query = {"list-type": "2", "max-keys": str(_PAGE), "prefix": below + prefix}
        while True:
            answer = self._send("GET", self._bucket, query=query)
            self._expect(answer, (_OK,), prefix)
            tree = ET.fromstring(answer.data)  # noqa: S314 - our own bucket's listing
            space = tree.tag.partition("}")[0] + "}" if tree.tag.startswith("{") else ""
            for item in tree.iter(f"{space}Key"):
                yield (item.text or "").removeprefix(below)
            token = tree.findtext(f"{space}NextContinuationToken")
            if not token:
                return
            query["continuation-token"] = token

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        limit: int = LARGEST,
    ) -> urllib3.BaseHTTPResponse:
        signed = authorize(
            self._credentials,
            method,
            self._host,
            path,
            query=query or {},
            headers=headers or {},
            body=body,
            now=datetime.now(UTC),
        )
        url = f"{self._endpoint}{quote(path, safe='/~')}"
        if query:
            url += f"?{encode_query(query)}"
        try:
            answer = _pool().request(
                method, url, headers=signed, body=body or None, preload_content=False
            )
            return _read(answer, limit)
        except urllib3.exceptions.HTTPError as error:
            msg = f"{self._endpoint} does not answer: {error}"
            raise TryLater(msg) from error

    def _expect(
        self, answer: urllib3.BaseHTTPResponse, statuses: tuple[int, ...], key: str
    ) -> None:
        if answer.status in statuses:
            return
        if answer.status == _DENIED:
            msg = f"{self.uri}/{key}: access denied; check AWS_ACCESS_KEY_ID and the bucket policy"
            raise BadParameters(msg)
        msg = f"{self.uri}/{key}: the S3 server answers {answer.status}: {answer.data[:200]!r}"
        raise TryLater(msg)


@cache
def _pool() -> urllib3.PoolManager:
    retry = urllib3.Retry(
        total=3, backoff_factor=0.2, status_forcelist=(500, 502, 503), allowed_methods=None
    )
    return urllib3.PoolManager(
        maxsize=8,
        retries=retry.new(raise_on_status=False),
        timeout=urllib3.Timeout(connect=5, read=30),
        ca_certs=os.environ.get("AWS_CA_BUNDLE"),
    )


def _read(answer: urllib3.BaseHTTPResponse, limit: int) -> urllib3.BaseHTTPResponse:
    """Read the body, refused beyond `limit`: a server that ignores Range sends no end of data."""
    parts: list[bytes] = []
    have = 0
    for part in answer.stream(1 << 16):
        have += len(part)
        if (have > limit and answer.status == _PARTIAL) or have > 2 * LARGEST:
            answer.close()
            msg = f"the server sent more than the {limit} bytes that were asked for"
            raise urllib3.exceptions.HTTPError(msg)
        parts.append(part)
    answer.release_conn()
    return urllib3.HTTPResponse(
        b"".join(parts), headers=answer.headers, status=answer.status, preload_content=True
    )


def _credentials() -> Credentials:
    access, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not access or not secret:
        msg = "no S3 credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise BadParameters(msg)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return Credentials(access, secret, os.environ.get("AWS_SESSION_TOKEN", ""), region)


def _place(temporary: Path, path: Path, *, if_absent: bool) -> bool:
    try:
        if not if_absent:
            temporary.replace(path)
            return True
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True
