"""Start a job's pod or attach to it, wait for it, stop it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slimline.adapters.images import load_lock
from slimline.adapters.runners.pod import state as pod_state
from slimline.adapters.runners.pod.api import PodApi
from slimline.adapters.runners.pod.log import LogReader
from slimline.adapters.runners.pod.settings import PodSettings
from slimline.adapters.runners.pod.spec import (
    GRACE_SECONDS,
    IDENTITY,
    WORK,
    build_pod,
)
from slimline.contract import BadParameters, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable

    from slimline.adapters.runners import Launch

_POLL_SECONDS = 1.0
_LONGEST_PAUSE = 30.0
_LOST = 137
_FORCE_SECONDS = 1.0
_GONE_SECONDS = 60.0
CONNECTION = "kubernetes_default"


class PodRunner:
    """Starts pods; see the package."""

    def __init__(self, settings: PodSettings | None = None, *, poll: float = _POLL_SECONDS) -> None:
        """Use the cluster that the connection `kubernetes_default` names, or the worker's own.

        Args:
            settings: what SLIMLINE_POD_* say if not given.
            poll: seconds between looks at a pod's status.
        """
        self.settings = settings or PodSettings.from_environment()
        self.poll = poll

    def image_digest(self, image: str) -> str:
        """The digest of what is installed in the image."""
        return load_lock().image(image).environment

    def work_path(self, identity: str) -> str:  # noqa: ARG002 - each pod has a volume of its own
        """Where the job stages its inputs and outputs: a volume of its pod."""
        return f"{WORK}/job"

    def start(self, launch: Launch) -> PodHandle:
        """Create the job's pod, or attach to the one that runs.

        Raises:
            BadParameters: when the job cannot be a pod, or Kubernetes refuses it for good.
            TryLater: when the Kubernetes API is away.
        """
        pod = build_pod(launch, load_lock().image(launch.image), self.settings)
        api = PodApi(core_api(), pod.metadata.namespace)
        deadline = time.monotonic() + _GONE_SECONDS
        while time.monotonic() < deadline:
            made = api.create(pod)
            found = made or api.get(pod.metadata.name)
            if made or (found is not None and self._is_job(api, found, launch)):
                return self._handle(api, found, launch, attached=made is None)
            time.sleep(self.poll)
        msg = f"pod {pod.metadata.name} of an earlier try does not go away: look at its node"
        raise TryLater(msg)

    def _is_job(self, api: PodApi, found: Any, launch: Launch) -> bool:
        """True if the pod is the job's; one that failed, or that another fetched, is removed."""
        if (found.metadata.annotations or {}).get(IDENTITY) != launch.identity:
            msg = f"pod {found.metadata.name} is not of this job: delete it, or move it elsewhere"
            raise BadParameters(msg)
        if pod_state.is_doomed(found):
            return False
        if pod_state.ended(found) is None or pod_state.is_result_for(found, launch.claim):
            return True
        api.delete(found.metadata.name, found.metadata.uid, 0)
        return False

    def _handle(self, api: PodApi, pod: Any, launch: Launch, *, attached: bool) -> PodHandle:
        step = launch.claim.rpartition("/")[2] or "<step>"
        name, uid = pod.metadata.name, pod.metadata.uid
        return PodHandle(api, name, uid, step, self.settings, self.poll, attached=attached)


@dataclass
class PodHandle:
    """A pod that was created or attached to."""

    api: PodApi
    name: str
    uid: str
    step: str
    settings: PodSettings
    poll: float
    attached: bool
    _stopped: bool = field(default=False, init=False)

    def wait(self, log: Callable[[str], None]) -> int:
        """Hand on the log, from its start, until the job ends; returns its exit code.

        Raises:
            TryLater: when the pod cannot start, or the cluster ended it.
        """
        reader, pause = LogReader(log), self.poll
        start = _Start(self, log)
        while (pod := self._pod()) is not None:
            end = pod_state.ended(pod, self.step)
            if end is not None:
                reader.read(self.api.log(self.name, follow=False), whole=True)
                return self._told(end, log)
            new = False
            if pod_state.is_running(pod):
                new = reader.read(self.api.log(self.name, follow=True), whole=False)
            else:
                start.look(pod)
            self._stopped = self._stopped or pod_state.is_doomed(pod)
            pause = self.poll if new or not reader.last else min(2 * pause, _LONGEST_PAUSE)
            time.sleep(pause)
        return pod_state.STOPPED if self._stopped else _LOST

    def stop(self) -> None:
        """Delete the pod: SIGTERM, and SIGKILL after the grace."""
        self._stopped = True
        self.api.delete(self.name, self.uid, GRACE_SECONDS)
        deadline = time.monotonic() + GRACE_SECONDS + _FORCE_SECONDS
        while time.monotonic() < deadline:
            pod = self._pod()
            if pod is None or pod_state.ended(pod) is not None:
                return
            time.sleep(min(self.poll, 0.2))
        self.api.delete(self.name, self.uid, 0)

    def discard(self) -> None:
        """Remove the pod of a job that is done."""
        self.api.delete(self.name, self.uid, 0)

    def _pod(self) -> Any | None:
        pod = self.api.get(self.name)
        return pod if pod is not None and pod.metadata.uid == self.uid else None

    def _told(self, end: pod_state.Ended, log: Callable[[str], None]) -> int:
        if end.words and end.code == pod_state.AWAY:
            raise TryLater(f"{self.name}: {end.words}")
        if end.words:
            log(f"slimline: {end.words}")
        return end.code


class _Start:
    """Looks after a pod that has not started: says what it waits for, and when to give up."""

    def __init__(self, handle: PodHandle, log: Callable[[str], None]) -> None:
        self._handle, self._log = handle, log
        self._until = time.monotonic() + handle.settings.start_minutes * 60
        self._told = ""

    def look(self, pod: Any) -> None:
        """Say what the pod waits for, when that has changed.

        Raises:
            TryLater: when it cannot start, or has waited too long; the pod is deleted.
        """
        words = pod_state.waits_for(pod)
        if words != self._told:
            self._log(f"pod {self._handle.name} waits: {words}")
            self._told = words
        hopeless = pod_state.obstacle(pod)
        if hopeless:
            self._give_up(hopeless)
        if time.monotonic() > self._until:
            limits = pod.spec.containers[0].resources.limits
            self._give_up(
                f"it waited {self._handle.settings.start_minutes:g} minutes ({words}) with limits "
                f"{limits}: add nodes, tolerations or a node selector (SLIMLINE_POD_TEMPLATE), ask "
                f"for less (tasks: {{{self._handle.step}: {{cpu: ..., memory: ..., gpu: ...}}}}), "
                "or let it wait longer (SLIMLINE_POD_START_MINUTES)"
            )

    def _give_up(self, why: str) -> None:
        self._handle.discard()
        raise TryLater(f"pod {self._handle.name} did not start: {why}")


def job_pods() -> PodApi:
    """The pods of the namespace that SLIMLINE_POD_NAMESPACE names.

    Raises:
        BadParameters: when it is not set: pods of another namespace are not ours to remove.
    """
    namespace = PodSettings.from_environment().namespace
    if not namespace:
        msg = "SLIMLINE_POD_NAMESPACE is not set: name the namespace whose ended pods may go"
        raise BadParameters(msg)
    return PodApi(core_api(), namespace)


def core_api() -> Any:
    """A CoreV1Api of the cluster of the connection `kubernetes_default`, else of the worker's own.

    Raises:
        BadParameters: when no cluster is known.
    """
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import (
        KubernetesHook,
    )
    from kubernetes.config import ConfigException  # type: ignore[import-untyped]  # noqa: PLC0415

    try:
        return KubernetesHook(conn_id=CONNECTION).core_v1_client
    except ConfigException as error:
        msg = (
            f"no Kubernetes cluster is known ({error}): run the workers in one, give the Airflow "
            f"connection {CONNECTION}, or set KUBECONFIG"
        )
        raise BadParameters(msg) from error
