"""How an endpoint does: is it ready, with the right package, without errors, inferring rightly."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import urllib3

from slimline.models.info import load_model_info
from slimline.trust.golden import load_golden

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from slimline.trust.manifest import PackageManifest

_REQUESTS = re.compile(r'^slimline_requests_total\{[^}]*code="(\d+)"[^}]*\} (\d+)', re.MULTILINE)
_OK, _SERVER_ERROR = 200, 500


@dataclass(frozen=True)
class Golden:
    """A package's golden inputs as a request, and the logits that must come back."""

    body: bytes
    expected: NDArray[np.float32]
    tolerance: float


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


def golden_request(root: Path, manifest: PackageManifest) -> Golden:
    """The golden request of a verified package."""
    import numpy as np

    x, expected = load_golden(root, manifest, load_model_info(root / "model"))
    body = io.BytesIO()
    np.save(body, x)
    return Golden(body.getvalue(), expected, manifest.golden.tolerance)


class Endpoint:
    """An endpoint by its address."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(10.0))

    def look(self, digest: str, golden: Golden | None) -> str:
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

    def _infers(self, golden: Golden) -> str:
        import numpy as np

        answer = self._http.request(
            "POST",
            f"{self._address}/invocations",
            body=golden.body,
            headers={"content-type": "application/x-npy", "accept": "application/json"},
        )
        if answer.status != _OK:
            return f"it answers its golden request with {answer.status}: {answer.data[:200]!r}"
        rows = _field(answer.data, "predictions")
        try:
            logits = np.array([row["logits"] for row in rows], np.float64)
        except (KeyError, TypeError, ValueError):
            return f"it answers its golden request with no predictions: {answer.data[:200]!r}"
        if logits.shape != golden.expected.shape:
            return f"it gives logits {list(logits.shape)}, not {list(golden.expected.shape)}"
        difference = float(np.abs(logits - golden.expected).max())
        if not difference <= golden.tolerance:
            return f"its golden logits differ by {difference:.4g}"
        return ""


def _field(data: bytes, name: str) -> Any:
    try:
        return json.loads(data).get(name)
    except (ValueError, AttributeError):
        return None
