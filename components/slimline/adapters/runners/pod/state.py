"""What a pod's status says: whether its job runs, how it ended, and what keeps it from starting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slimline.adapters.runners.pod.spec import CLAIM, CONTAINER

OUT_OF_MEMORY = 137
STOPPED = 143
AWAY = 75

_NOT_STARTING = {
    "CreateContainerConfigError": "create that Secret or ConfigMap in the pod's namespace",
    "CreateContainerError": "correct SLIMLINE_POD_TEMPLATE or the image",
}
_IMAGE_CURE = (
    "push it (`make images PUSH=<registry>`), or give pull secrets in SLIMLINE_POD_TEMPLATE"
)
_EVICTION_CURE = (
    "if it wrote more than it may, raise SLIMLINE_POD_WORK_SIZE; if its node was short of "
    "something, the next try may find another"
)


@dataclass(frozen=True)
class Ended:
    """How a job's container ended: our exit code, and what a person has to know, "" if nothing."""

    code: int
    words: str = ""


def is_running(pod: Any) -> bool:
    """True while the job's container runs."""
    state = _state(pod)
    return state is not None and state.running is not None


def is_doomed(pod: Any) -> bool:
    """True once somebody has told the pod to end."""
    return pod.metadata.deletion_timestamp is not None


def is_result_for(pod: Any, claim: str) -> bool:
    """True for a job that ended well and waits to be read by the one who asked for it."""
    told = (pod.metadata.annotations or {}).get(CLAIM)
    end = ended(pod)
    return end is not None and end.code == 0 and told == claim


def ended(pod: Any, step: str = "<step>") -> Ended | None:
    """How the job ended; None while it has not.

    Args:
        pod: its pod.
        step: the task's name, for the cure.
    """
    state = _state(pod)
    done = state.terminated if state is not None else None
    if pod.status.phase not in ("Succeeded", "Failed") and done is None:
        return None
    if pod.status.reason:
        return _ended_by_cluster(pod, done, step)
    if done is None:
        return Ended(AWAY, f"the pod ended before its container ran: {_message(pod.status)}")
    if done.reason == "OOMKilled":
        limit = pod.spec.containers[0].resources.limits["memory"]
        words = (
            f"out of memory: the container was killed at its limit of {limit}; give it more in "
            f"the recipe: tasks: {{{step}: {{memory: ...}}}}"
        )
        return Ended(OUT_OF_MEMORY, words)
    told = done.reason in ("StartError", "ContainerCannotRun")
    return Ended(done.exit_code, f"it could not start: {done.message}" if told else "")


def obstacle(pod: Any) -> str:
    """Why the pod does not start, if waiting longer does not help; with the cure. "" if it may."""
    from airflow.providers.cncf.kubernetes.utils.pod_manager import (
        detect_pod_terminate_early_issues,
    )

    image = detect_pod_terminate_early_issues(pod)
    if image:
        return f"{' '.join(image.split())}: {_IMAGE_CURE}"
    state = _state(pod)
    waiting = state.waiting if state is not None else None
    if waiting is not None and waiting.reason in _NOT_STARTING:
        return f"{waiting.reason}: {waiting.message}: {_NOT_STARTING[waiting.reason]}"
    return ""


def waits_for(pod: Any) -> str:
    """What a pod that has not started waits for, in Kubernetes' own words."""
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status != "True":
            return f"{condition.reason}: {condition.message}"
    state = _state(pod)
    if state is not None and state.waiting is not None:
        return f"{state.waiting.reason}: {state.waiting.message or 'no more is told'}"
    return "to be scheduled"


def _ended_by_cluster(pod: Any, done: Any | None, step: str) -> Ended:
    if pod.status.reason == "DeadlineExceeded":
        words = (
            f"it took longer than its time limit; give it more in the recipe: "
            f"tasks: {{{step}: {{timeout_minutes: ...}}}}"
        )
        return Ended(done.exit_code if done is not None else STOPPED, words)
    cure = (
        _EVICTION_CURE if pod.status.reason == "Evicted" else "the next try may find another node"
    )
    return Ended(AWAY, f"the cluster ended its pod: {_message(pod.status)}: {cure}")


def _message(status: Any) -> str:
    return f"{status.reason or 'no reason'}: {status.message or 'no more is told'}"


def _state(pod: Any) -> Any | None:
    statuses = pod.status.container_statuses or ()
    return next((s.state for s in statuses if s.name == CONTAINER), None)
