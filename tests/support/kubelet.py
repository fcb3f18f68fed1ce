"""A node of the simulated cluster: it runs a pod's container as a child process of this Python."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TICK = 0.02


@dataclass
class Faults:
    """What goes wrong; each test sets its own."""

    api_errors: int = 0  # so many requests are answered with 500
    lose_answer: bool = False  # the next pod is created, and the answer is 500
    refuse: tuple[int, str, str] | None = None  # status, reason and message for each new pod
    cut_logs: list[int] = field(default_factory=list)  # each log stream breaks after so many bytes
    unschedulable: str = ""
    image: tuple[str, str] | None = None  # waiting reason and message
    out_of_memory: bool = False  # a container that is killed was killed for memory


class Pod:
    """A pod: what was asked for, its status, its process and its log."""

    def __init__(self, body: dict[str, Any], directory: Path) -> None:
        self.body, self.directory = body, directory
        self.process: subprocess.Popen[bytes] | None = None
        self.lines: list[bytes] = []
        self.changed = threading.Condition()
        self.deleted_after: float | None = None

    @property
    def spec(self) -> dict[str, Any]:
        return self.body["spec"]["containers"][0]

    @property
    def started(self) -> bool:
        return self.process is not None

    @property
    def done(self) -> bool:
        return self.body["status"]["phase"] in ("Succeeded", "Failed")

    def set(self, phase: str, state: dict[str, Any] | None = None, **status: Any) -> None:
        told = {"phase": phase, **status}
        if state is not None:
            name, image = self.spec["name"], self.spec["image"]
            one = {"name": name, "image": image, "imageID": image, "state": state}
            told["containerStatuses"] = [{**one, "ready": False, "restartCount": 0}]
        with self.changed:
            self.body["status"] = told
            self.changed.notify_all()

    def say(self, line: bytes) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z "
        with self.changed:
            self.lines.append(stamp.encode() + line)
            self.changed.notify_all()


def run(pod: Pod, faults: Faults, secrets: dict[str, dict[str, str]]) -> None:
    """Schedule the pod, start its container, and tell how it ended."""
    environment = _until(pod, lambda: _prepared(pod, faults, secrets))
    if environment is None:
        return
    pod.process = subprocess.Popen(
        _command(pod),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    pod.set("Running", {"running": {"startedAt": now()}})
    assert pod.process.stdout is not None
    for line in pod.process.stdout:
        pod.say(line)
    code = pod.process.wait()
    code = 128 - code if code < 0 else code
    reason = "OOMKilled" if faults.out_of_memory else "Completed" if code == 0 else "Error"
    ended = {"exitCode": code, "reason": reason, "finishedAt": now()}
    pod.set("Failed" if code else "Succeeded", {"terminated": ended})


def stop(pod: Pod, grace: float) -> None:
    """What a kubelet does when a pod is deleted: SIGTERM, and SIGKILL after the grace."""
    process = pod.process
    if process is None:
        return
    if grace:
        with suppress(ProcessLookupError):
            process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _prepared(
    pod: Pod, faults: Faults, secrets: dict[str, dict[str, str]]
) -> dict[str, str] | None:
    if faults.unschedulable:
        told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        pod.set("Pending", conditions=[{**told, "message": faults.unschedulable}])
        return None
    scheduled = [{"type": "PodScheduled", "status": "True"}]
    if faults.image:
        reason, message = faults.image
        waiting = {"waiting": {"reason": reason, "message": message}}
        pod.set("Pending", waiting, conditions=scheduled)
        return None
    try:
        return _environment(pod, secrets)
    except KeyError as error:
        message = f'secret "{error.args[0]}" not found'
        waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": message}}
        pod.set("Pending", waiting, conditions=scheduled)
        return None


def _until(pod: Pod, ready: Callable[[], Any | None]) -> Any | None:
    while pod.deleted_after is None:
        found = ready()
        if found is not None:
            return found
        time.sleep(_TICK)
    return None


def _environment(pod: Pod, secrets: dict[str, dict[str, str]]) -> dict[str, str]:
    made = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    for variable in pod.spec.get("env", ()):
        source = variable.get("valueFrom", {}).get("secretKeyRef")
        if source is None:
            made[variable["name"]] = _place(pod, variable.get("value", ""))
        elif source["key"] in secrets.get(source["name"], {}):
            made[variable["name"]] = secrets[source["name"]][source["key"]]
        elif not source.get("optional"):
            raise KeyError(source["name"])
    return made


def _command(pod: Pod) -> list[str]:
    assert pod.spec["command"] == ["slimline"]
    return [sys.executable, "-m", "slimline", *(_place(pod, a) for a in pod.spec["args"])]


def _place(pod: Pod, text: str) -> str:
    """A path in one of the pod's volumes, as a path on this machine."""
    for mount in pod.spec.get("volumeMounts", ()):
        if text == mount["mountPath"] or text.startswith(mount["mountPath"] + "/"):
            if mount["name"].startswith("slimline-"):
                return f"{pod.directory}/{mount['name']}{text.removeprefix(mount['mountPath'])}"
            return text
    return text


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
