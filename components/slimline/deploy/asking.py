"""Ask a model server, or the front before it: which package serves there, and does it infer."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING

from slimline.contract import BadData
from slimline.trust.request import CONTENT_TYPE

if TYPE_CHECKING:
    from slimline.trust.request import GoldenAnswer, GoldenRequest

Address = tuple[str, int]
"""Host and port."""
_ASK_SECONDS = 30
_OK = 200


def package_of(address: Address) -> str:
    """The digest of the package that serves at an address; "" when none is ready there."""
    try:
        status, body = _ask(address, "GET", "/readyz")
    except (OSError, http.client.HTTPException):
        return ""
    return str(json.loads(body).get("package_digest", "")) if status == _OK else ""


def ask_golden(address: Address, golden: GoldenRequest, who: str) -> GoldenAnswer:
    """Send the golden request to an address and check the answer.

    Raises:
        BadData: when there is none, or it is not what the package expects.
    """
    try:
        status, body = _ask(address, "POST", "/invocations", golden.body)
    except (OSError, http.client.HTTPException) as error:
        msg = f"{who} did not answer its golden request: {error}"
        raise BadData(msg) from error
    if status != _OK:
        msg = f"{who} answered its golden request with {status}: {body[:200]!r}"
        raise BadData(msg)
    return golden.check(body, who)


def _ask(address: Address, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*address, timeout=_ASK_SECONDS)
    try:
        headers = {"Content-Type": CONTENT_TYPE, "Connection": "close"}
        connection.request(method, path, body=body, headers=headers if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
