"""How an endpoint does: is it ready, with the right package, without errors, inferring rightly."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import urllib3

from slimline.contract import BadData
from slimline.trust.request import CONTENT_TYPE

if TYPE_CHECKING:
    from slimline.trust.request import GoldenRequest

_REQUESTS = re.compile(r'^slimline_requests_total\{[^}]*code="(\d+)"[^}]*\} (\d+)', re.MULTILINE)
_OK, _SERVER_ERROR = 200, 500


@dataclass(frozen=True)
class Traffic:
    """Answers since the server's start, and those of them with a 5xx code."""

    answers: int
    errors: int

    def since(self, before: Traffic) -> Traffic:
        """What came after `before`; a server that started anew counts from zero."""
        if self.answers < before.answers:
            return self
        return Traffic(self.answers - before.answers, self.errors - before.errors)


class Endpoint:
    """An endpoint by its address."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(10.0))

    def look(self, digest: str, golden: GoldenRequest | None) -> str:
        """What is wrong now, as half a sentence; "" when all is well."""
        try:
            ready = self._http.request("GET", f"{self._address}/readyz")
            if ready.status != _OK:
                return f"it is not ready ({ready.status}: {ready.data[:200]!r})"
            served = _field(ready.data, "package_digest")
            if digest and served != digest:
                return f"it serves package {str(served)[:12]}, not {digest[:12]}"
            return self._infers(golden) if golden else ""
        except urllib3.exceptions.HTTPError as error:
            return f"it does not answer: {error}"

    def traffic(self) -> Traffic | None:
        """Its counters; None when it does not give them."""
        try:
            answer = self._http.request("GET", f"{self._address}/metrics")
        except urllib3.exceptions.HTTPError:
            return None
        if answer.status != _OK:
            return None
        counts = [(int(c), int(n)) for c, n in _REQUESTS.findall(answer.data.decode())]
        errors = sum(n for code, n in counts if code >= _SERVER_ERROR)
        return Traffic(sum(n for _, n in counts), errors)

    def _infers(self, golden: GoldenRequest) -> str:
        answer = self._http.request(
            "POST",
            f"{self._address}/invocations",
            body=golden.body,
            headers={"content-type": CONTENT_TYPE, "accept": "application/json"},
        )
        if answer.status != _OK:
            return f"it answered its golden request with {answer.status}: {answer.data[:200]!r}"
        try:
            golden.check(answer.data, "it")
        except BadData as error:
            return str(error)
        return ""


def _field(data: bytes, name: str) -> Any:
    try:
        return json.loads(data).get(name)
    except (ValueError, AttributeError, RecursionError):
        return None
