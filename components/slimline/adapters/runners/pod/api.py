"""The few calls to the Kubernetes API that a job's pod needs, with errors that name the cure.

A call is tried again while the API server is away, since it may be for minutes when a cluster is
updated; a job in its pod does not notice.
"""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from kubernetes.client import V1DeleteOptions, V1Preconditions  # type: ignore[import-untyped]
from kubernetes.client.exceptions import ApiException  # type: ignore[import-untyped]
from urllib3.exceptions import HTTPError

from slimline.adapters.runners.pod.spec import CONTAINER
from slimline.contract import BadParameters, SlimlineError, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")
_TRIES = 6
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 8.0
_AWAY = frozenset({429, 500, 502, 503, 504})
_CONNECT_SECONDS, _SILENT_SECONDS = 10, 300
_PIECE = 1 << 16


@dataclass(frozen=True)
class PodApi:
    """Pods of one namespace, through a CoreV1Api."""

    core: Any
    namespace: str
    silent_seconds: float = _SILENT_SECONDS
    """After which a log that says nothing is opened anew: its connection may be dead."""

    def get(self, name: str) -> Any | None:
        """The pod, None when there is none of that name."""

        def read() -> Any | None:
            try:
                return self.core.read_namespaced_pod(name, self.namespace)
            except ApiException as error:
                if error.status == HTTPStatus.NOT_FOUND:
                    return None
                raise

        return self._patiently("read", name, read)

    def create(self, pod: Any) -> Any | None:
        """Create a pod and return it; None when there is one of that name."""

        def create() -> Any | None:
            try:
                return self.core.create_namespaced_pod(self.namespace, pod)
            except ApiException as error:
                if error.status == HTTPStatus.CONFLICT and _reason(error) == "AlreadyExists":
                    return None
                raise

        return self._patiently("create", pod.metadata.name, create)

    def list(self, labels: Mapping[str, str]) -> list[Any]:
        """All pods that have these labels."""
        selector = ",".join(f"{name}={value}" for name, value in labels.items())

        def read() -> list[Any]:
            found = self.core.list_namespaced_pod(self.namespace, label_selector=selector)
            return list(found.items)

        return self._patiently("list", selector, read)

    def delete(self, name: str, uid: str, grace: int) -> None:
        """Delete exactly that pod; nothing happens when it is gone, or another has its name."""
        options = V1DeleteOptions(
            grace_period_seconds=grace, preconditions=V1Preconditions(uid=uid)
        )

        def delete() -> None:
            try:
                self.core.delete_namespaced_pod(name, self.namespace, body=options)
            except ApiException as error:
                if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                    raise

        self._patiently("delete", name, delete)

    def log(self, name: str, *, follow: bool) -> Iterator[bytes]:
        """The container's log from its start, with timestamps, in pieces.

        It ends when the container has ended, or where the connection broke.
        """
        try:
            answer = self.core.read_namespaced_pod_log(
                name,
                self.namespace,
                container=CONTAINER,
                follow=follow,
                timestamps=True,
                _preload_content=False,
                _request_timeout=(_CONNECT_SECONDS, self.silent_seconds),
            )
            with closing(answer):
                yield from answer.stream(_PIECE)
        except (ApiException, HTTPError):
            return

    def _patiently(self, what: str, name: str, call: Callable[[], T]) -> T:
        pause = _FIRST_PAUSE
        for _ in range(_TRIES):
            try:
                return call()
            except (ApiException, HTTPError) as error:
                failed = error
                if isinstance(error, ApiException) and error.status not in _AWAY:
                    break
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise _told(f"cannot {what} pod {self.namespace}/{name}", failed) from failed


def _told(what: str, error: Exception) -> SlimlineError:
    if not isinstance(error, ApiException) or error.status in _AWAY:
        return TryLater(f"{what}: the Kubernetes API is away ({_words(error)}): trying later")
    if "exceeded quota" in _words(error):
        return TryLater(
            f"{what}: {_words(error)}: wait for other jobs, raise the quota, or lower the "
            "task's limits in the recipe (tasks: {<step>: {cpu: 1, memory: 2Gi}})"
        )
    if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return BadParameters(
            f"{what}: Kubernetes refused ({_words(error)}): let the workers' service account get, "
            "create and delete pods and get pods/log there (see infra/helm), or correct the "
            "namespace"
        )
    return BadParameters(
        f"{what}: Kubernetes refused ({_words(error)}): correct SLIMLINE_POD_TEMPLATE, "
        "SLIMLINE_POD_NAMESPACE or the limits of the task"
    )


def _words(error: Exception) -> str:
    if not isinstance(error, ApiException):
        return str(error)
    return str(_status(error).get("message") or error.reason)


def _reason(error: ApiException) -> str:
    return str(_status(error).get("reason", ""))


def _status(error: ApiException) -> dict[str, Any]:
    try:
        found = json.loads(error.body or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
