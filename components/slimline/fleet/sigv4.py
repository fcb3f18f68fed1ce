"""AWS Signature Version 4 for S3, by the standard library.

A device must read a bucket without boto3. Source of the method: "Authenticating Requests: Using
the Authorization Header (AWS Signature Version 4)" in the Amazon S3 API reference; the tests check
it against the examples printed there.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True)
class Credentials:
    """Who signs; the secret stays out of `repr`."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    region: str = "us-east-1"


def authorize(
    credentials: Credentials,
    method: str,
    host: str,
    path: str,
    *,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes,
    now: datetime,
) -> dict[str, str]:
    """The headers to send: those given, and the signature's own.

    Args:
        credentials: who signs.
        method: HTTP method.
        host: as it will stand in the Host header, with the port unless it is the default one.
        path: absolute path, not yet percent-encoded.
        query: parameters, not yet percent-encoded.
        headers: further headers to sign; lower-case names.
        body: the bytes of the request.
        now: UTC time.
    """
    payload = hashlib.sha256(body).hexdigest()
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    signed = {**headers, "host": host, "x-amz-content-sha256": payload, "x-amz-date": stamp}
    if credentials.session_token:
        signed["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(signed))
    request = "\n".join(
        [
            method,
            quote(path, safe="/~"),
            encode_query(query),
            *(f"{name}:{signed[name].strip()}" for name in sorted(signed)),
            "",
            names,
            payload,
        ]
    )
    scope = f"{stamp[:8]}/{credentials.region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.new(_signing_key(credentials, stamp[:8]), text.encode(), "sha256").hexdigest()
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope},"
        f"SignedHeaders={names},Signature={signature}"
    )
    return signed


def encode_query(query: Mapping[str, str]) -> str:
    """The canonical query string: sorted, everything percent-encoded."""
    return "&".join(f"{quote(k, safe='~')}={quote(query[k], safe='~')}" for k in sorted(query))


def _signing_key(credentials: Credentials, day: str) -> bytes:
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (day, credentials.region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    return key
