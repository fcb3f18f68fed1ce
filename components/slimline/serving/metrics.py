"""Counters in Prometheus' text format, kept by the event loop's thread alone."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Requests by route and code, their time, how many are under way, and the model served."""

    def __init__(self) -> None:
        """Start at nothing."""
        self.in_flight = 0
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: Counter[str] = Counter()

    def count(self, route: str, code: int, seconds: float) -> None:
        """Note one answered request."""
        self._requests[route, code] += 1
        buckets = self._buckets.setdefault(route, [0] * (len(BUCKETS) + 1))
        buckets[bisect_left(BUCKETS, seconds)] += 1
        self._seconds[route] += seconds  # type: ignore[assignment]  # a Counter adds floats too

    def text(self, *, ready: bool, model: dict[str, str] | None) -> str:
        """All metrics as Prometheus reads them.

        Args:
            ready: whether the server takes requests.
            model: labels of `slimline_model_info`; None before a package is loaded.
        """
        lines = _head("slimline_requests_total", "counter", "Requests answered.")
        for (route, code), count in sorted(self._requests.items()):
            lines.append(_line("slimline_requests_total", {"route": route, "code": code}, count))
        lines += _head("slimline_request_seconds", "histogram", "From first byte to answer.")
        for route in sorted(self._buckets):
            lines += self._histogram(route)
        lines += _head("slimline_in_flight", "gauge", "Requests under way.")
        lines.append(_line("slimline_in_flight", {}, self.in_flight))
        lines += _head("slimline_ready", "gauge", "1 when requests are taken.")
        lines.append(_line("slimline_ready", {}, int(ready)))
        if model is not None:
            lines += _head("slimline_model_info", "gauge", "The package that is served.")
            lines.append(_line("slimline_model_info", dict(model), 1))
        return "\n".join(lines) + "\n"

    def _histogram(self, route: str) -> list[str]:
        lines, below = [], 0
        for limit, count in zip((*BUCKETS, "+Inf"), self._buckets[route], strict=True):
            below += count
            labels = {"route": route, "le": limit}
            lines.append(_line("slimline_request_seconds_bucket", labels, below))
        total = self._seconds[route]
        lines.append(_line("slimline_request_seconds_sum", {"route": route}, total))
        lines.append(_line("slimline_request_seconds_count", {"route": route}, below))
        return lines


def _head(name: str, kind: str, what: str) -> list[str]:
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]


def _line(name: str, labels: dict[str, object], value: float) -> str:
    inside = ",".join(f'{k}="{_escape(str(v))}"' for k, v in labels.items())
    return f"{name}{{{inside}}} {value}" if inside else f"{name} {value}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
