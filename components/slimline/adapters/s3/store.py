"""The store's promises, kept by an S3 bucket."""

from __future__ import annotations

import base64
import hashlib
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from botocore import exceptions as boto

from slimline.adapters.s3.bucket import open_bucket
from slimline.adapters.s3.download import receive
from slimline.adapters.s3.errors import code_of, told
from slimline.adapters.s3.parts import PART_BYTES, SMALL_BYTES, in_order
from slimline.adapters.s3.upload import send_in_parts
from slimline.contract.errors import BadData, BadParameters
from slimline.contract.store import Missing, Stat, disk_error, safe_join, temporary_beside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from slimline.adapters.s3.bucket import Bucket

_URI = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>.*))?")
_LOST_RACE = {"PreconditionFailed", "ConditionalRequestConflict", "ConcurrentModification", "412"}


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
        self._name = parsed["bucket"]
        self._prefix = f"{parsed['prefix']}/" if parsed["prefix"] else ""

    def get(self, key: str) -> bytes:
        """See `Store.get`."""
        pieces: list[bytes] = []
        with told(self._what(key)):
            got = receive(self._bucket, self._at(key), pieces.append)
        self._must_be(got.sha256, got.kept or got.sha256, key)
        return b"".join(pieces)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """See `Store.put`."""
        with told(self._what(key)):
            try:
                self._put(key, data, hashlib.sha256(data), if_absent=if_absent)
            except boto.ClientError as error:
                if if_absent and code_of(error) in _LOST_RACE:
                    return False
                raise
        return True

    def upload(self, path: Path, key: str, sha256: str) -> None:
        """See `Store.upload`; a large file goes in parts, on from those that are there."""
        with told(self._what(key)):
            size = path.stat().st_size
            if size >= PART_BYTES:
                send_in_parts(self._bucket, self._at(key), path, sha256)
            elif size > SMALL_BYTES:
                list(in_order(lambda file: self._put_file(file, key, sha256), [path]))
            else:
                self._put_file(path, key, sha256)

    def download(self, key: str, path: Path, sha256: str) -> None:
        """See `Store.download`; `path` appears when it is whole and proven, not before."""
        temporary = temporary_beside(path)
        try:
            with temporary.open("xb") as file, told(self._what(key)):
                got = receive(self._bucket, self._at(key), file.write)
            self._must_be(got.sha256, sha256, key)
            temporary.replace(path)
        except OSError as error:
            raise disk_error(path, error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def stat(self, key: str) -> Stat | None:
        """See `Store.stat`; one HEAD request."""
        try:
            with told(self._what(key)):
                headers = self._bucket.send("HEAD", self._at(key)).headers
        except Missing:
            return None
        return Stat(int(headers["content-length"]), headers.get("x-amz-meta-sha256", ""))

    def keys(self, prefix: str) -> Iterator[str]:
        """See `Store.keys`."""
        with told(self._what(prefix)):
            pages = self._bucket.client.get_paginator("list_objects_v2").paginate(
                Bucket=self._name, Prefix=self._prefix + prefix
            )
            for page in pages:
                for found in page.get("Contents", ()):
                    yield found["Key"].removeprefix(self._prefix)

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        with suppress(Missing), told(self._what(key)):
            self._bucket.send("DELETE", self._at(key))

    def leftovers(self, older_than: timedelta, *, remove: bool) -> tuple[str, ...]:
        """See `Store.leftovers`: uploads in parts that were never completed, which cost money."""
        limit, found = datetime.now(UTC) - older_than, []
        with told(self.uri):
            client = self._bucket.client
            pages = client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._name, Prefix=self._prefix
            )
            uploads = [upload for page in pages for upload in page.get("Uploads", ())]
            for upload in (u for u in uploads if u["Initiated"] <= limit):
                found.append(upload["Key"].removeprefix(self._prefix))
                if remove:
                    with suppress(client.exceptions.NoSuchUpload):
                        client.abort_multipart_upload(
                            Bucket=self._name, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
        return tuple(found)

    @property
    def _bucket(self) -> Bucket:
        return open_bucket(self._name)

    def _what(self, key: str) -> str:
        return f"{self.uri}/{key}"

    def _at(self, key: str) -> str:
        safe_join(Path("/"), key)
        return self._prefix + key

    def _put(
        self, key: str, data: bytes, sha256: hashlib._Hash, *, if_absent: bool = False
    ) -> None:
        headers = {
            "x-amz-meta-sha256": sha256.hexdigest(),
            "x-amz-checksum-sha256": base64.b64encode(sha256.digest()).decode(),
            "x-amz-sdk-checksum-algorithm": "SHA256",
        }
        if if_absent:
            headers["if-none-match"] = "*"
        self._bucket.send(
            "PUT", self._at(key), headers=headers, body=data, sha256=sha256.hexdigest()
        )

    def _put_file(self, path: Path, key: str, sha256: str) -> None:
        data = path.read_bytes()
        found = hashlib.sha256(data)
        if found.hexdigest() != sha256:
            msg = f"{path} changed while it was stored; nothing was kept"
            raise BadData(msg)
        self._put(key, data, found)

    def _must_be(self, found: str, sha256: str, key: str) -> None:
        if found != sha256:
            msg = (
                f"{self._what(key)}: sha256 is {found[:12]}, must be {sha256[:12]}: "
                "the bytes are damaged"
            )
            raise BadData(msg)
