"""Requests to one bucket: signed, sent over lasting connections, tried again.

What moves objects is sent from here rather than by boto3's client: for an object of a few KiB that
takes a quarter of the processor's time. Credentials, signature, endpoint, proxies and certificates
are still botocore's. What is asked once for a large file or a listing goes by the client itself.
"""

from __future__ import annotations

import os
import random
import re
import time
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import boto3
import botocore.session
import urllib3
from botocore import exceptions as boto
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import get_current_datetime
from botocore.config import Config
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from slimline.adapters.s3.errors import may_pass
from slimline.contract.errors import BadParameters

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials
    from mypy_boto3_s3 import S3Client
    from urllib3.response import BaseHTTPResponse

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
TRIES = 5
TIMEOUT_SECONDS = (5, 60)
"""To connect, and between two pieces of an answer."""
PAUSE_SECONDS = 0.5
_CONNECTIONS = 32
_SKEW = timedelta(minutes=15)
"""What S3 allows a client's clock to be wrong."""
_FRAMED = ("content-length", "transfer-encoding")
_VARIABLES = (
    "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE",
)  # fmt: skip


def open_bucket(name: str) -> Bucket:
    """One bucket for each process and setting of the environment; it is safe among threads."""
    return _open(name, os.getpid(), tuple(os.environ.get(v, "") for v in _VARIABLES))


@lru_cache(maxsize=8)
def _open(name: str, _pid: int, _variables: tuple[str, ...]) -> Bucket:
    return Bucket(name)


class Bucket:
    """A bucket by name; settings and credentials are those of the environment."""

    def __init__(self, name: str) -> None:
        """Prepare it; nothing is asked of the server yet.

        Raises:
            BadParameters: when `AWS_ENDPOINT_URL_S3` is no address.
            NoCredentialsError: when the environment has none.
        """
        self.name = name
        session = botocore.session.get_session()
        self._client = _client(session)
        self._credentials = session.get_credentials()
        # The client knows where a bucket is: by host name on AWS, by path elsewhere.
        link = self.client.generate_presigned_url("get_object", Params={"Bucket": name, "Key": "x"})
        self._base = link.partition("?")[0].removesuffix("x")
        self._http = _connections(self._base, session.get_config_variable("ca_bundle"))

    @property
    def client(self) -> S3Client:
        """Boto3's client, for the requests that are rare."""
        self._frozen()
        return self._client

    def send(
        self,
        method: str,
        key: str,
        *,
        query: str = "",
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        sha256: str = EMPTY_SHA256,
        stream: bool = False,
    ) -> BaseHTTPResponse:
        """Send a request; what may pass is tried again, after a pause.

        Args:
            method: of HTTP.
            key: the whole key in the bucket.
            query: already encoded.
            headers: further ones, in lower case.
            body: what to send.
            sha256: of the body, in hex; the server checks it, as a part of the signature.
            stream: leave the answer's body to be read.

        Raises:
            ClientError: what the server refused.
            HTTPClientError: when it did not answer.
        """
        url = f"{self._base}{quote(key, safe='/~')}{query and '?'}{query}"
        once = partial(self._once, method, url, headers or {}, body, sha256)
        for failed in range(1, TRIES):
            try:
                return once(stream=stream)
            except (boto.ClientError, boto.BotoCoreError) as error:
                if not may_pass(error):
                    raise
            pause(failed)
        return once(stream=stream)

    def _once(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes,
        sha256: str,
        *,
        stream: bool,
    ) -> BaseHTTPResponse:
        request = AWSRequest(method, url, headers)
        request.context["sha256"] = sha256
        _Signer(self._frozen(), "s3", self._client.meta.region_name).add_auth(request)
        try:
            answer = self._http.urlopen(
                method,
                url,
                body=body,
                headers=dict(request.headers),
                retries=False,
                preload_content=False,
                decode_content=False,
            )
            if not stream or answer.status >= HTTPStatus.MULTIPLE_CHOICES:
                answer.data  # noqa: B018 - read it: the connection is free then
        except urllib3.exceptions.HTTPError as error:
            raise boto.HTTPClientError(error=error) from error
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise _refused(answer, method)
        if answer.status != HTTPStatus.NO_CONTENT and not any(n in answer.headers for n in _FRAMED):
            # The connection broke amid the headers.
            raise boto.ConnectionClosedError(endpoint_url=url)
        return answer

    def _frozen(self) -> ReadOnlyCredentials:
        if self._credentials is None:
            raise boto.NoCredentialsError
        try:
            return self._credentials.get_frozen_credentials()
        except RuntimeError as error:  # botocore's way to say that what it got anew is old
            msg = f"the S3 credentials have expired, and no new ones came ({error}): log in again"
            raise BadParameters(msg) from error


class _Signer(S3SigV4Auth):
    """Signs with the sha256 that is known already instead of computing it again."""

    def payload(self, request: AWSRequest) -> str:
        sha256: str = request.context["sha256"]
        return sha256


def pause(failed: int) -> None:
    """Wait before the next try: a random while, up to twice as long each time."""
    time.sleep(random.uniform(0, PAUSE_SECONDS * 2.0 ** (failed - 1)))  # noqa: S311 - no secret


def _client(session: botocore.session.Session) -> S3Client:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path" if endpoint else "auto"},
        retries={"mode": "standard", "total_max_attempts": TRIES},
        connect_timeout=TIMEOUT_SECONDS[0],
        read_timeout=TIMEOUT_SECONDS[1],
        max_pool_connections=_CONNECTIONS,
    )
    try:
        boto3_session = boto3.session.Session(botocore_session=session)
        region = os.environ.get("AWS_REGION") or boto3_session.region_name or "us-east-1"
        return boto3_session.client("s3", region_name=region, config=config)
    except ValueError as error:
        msg = f"AWS_ENDPOINT_URL_S3 is {endpoint!r}: give http://host:port or https://host"
        raise BadParameters(msg) from error


def _connections(url: str, ca_bundle: str | None) -> urllib3.PoolManager:
    connect, read = TIMEOUT_SECONDS
    options: dict[str, Any] = {
        "maxsize": _CONNECTIONS,
        "timeout": urllib3.Timeout(connect=connect, read=read),
        "ca_certs": ca_bundle or get_cert_path(True),  # noqa: FBT003 - its own
    }
    proxy = get_environ_proxies(url).get(url.partition(":")[0])
    return urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)


def _refused(answer: BaseHTTPResponse, operation: str) -> boto.ClientError:
    said = answer.data.decode(errors="replace")
    found = dict(re.findall(r"<(Code|Message)>([^<]*)</\1>", said))
    code = found.get("Code") or _code_without_body(answer)
    whole: Any = {
        "Error": {"Code": code, "Message": found.get("Message", "no reason was given")},
        "ResponseMetadata": {"HTTPStatusCode": answer.status},
    }
    return boto.ClientError(whole, operation)


def _code_without_body(answer: BaseHTTPResponse) -> str:
    """The answer to a HEAD has no body; its date tells whether our clock is the cause."""
    date = answer.headers.get("date")
    if answer.status == HTTPStatus.FORBIDDEN and date:
        wrong = abs(get_current_datetime(remove_tzinfo=False) - parsedate_to_datetime(date))
        if wrong > _SKEW:
            return "RequestTimeTooSkewed"
    return str(answer.status)
