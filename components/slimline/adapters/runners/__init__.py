"""Ways to run a job outside the process that waits for it.

A runner starts a job, or attaches to the equal one that runs already; it hands on the job's log
line by line, and its exit code is all the result it gives. What a job made is told by its manifest.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from slimline.contract import BadParameters, Resources

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RUNNERS = ("process", "docker", "pod")


@dataclass(frozen=True)
class Launch:
    """One job to run.

    Attributes:
        identity: the job's identity; two launches with the same one are the same job.
        component: its name.
        image: the folder of `images/` that runs it.
        arguments: what follows `slimline run`.
        environment: the whole environment of the job; it may hold secrets, so it is never shown.
        needs: the limits it is held to, where the runner can.
        store: URI of the store it reads and writes.
        claim: who asks (`dag/run/task`); a result that nobody fetched is given to this one only.
    """

    identity: str
    component: str
    image: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    needs: Resources = field(default_factory=Resources)
    store: str = ""
    claim: str = ""


class Handle(Protocol):
    """A job that runs, or has ended and waits to be read."""

    @property
    def attached(self) -> bool:
        """True when the job was running or done before; nothing was started."""

    def wait(self, log: Callable[[str], None]) -> int:
        """Hand on each line of the job's log until it ends; returns its exit code."""

    def stop(self) -> None:
        """Tell the job to stop, and end it by force after a grace; returns when it has ended."""

    def discard(self) -> None:
        """Remove what the runner kept of a job that is done."""


class Runner(Protocol):
    """Starts jobs; see the module."""

    def image_digest(self, image: str) -> str:
        """What stands for the image in a job's identity."""

    def work_path(self, identity: str) -> str:
        """Where the job stages its inputs and outputs, as the job sees it."""

    def start(self, launch: Launch) -> Handle:
        """Start the job, or attach to the equal one that runs."""


def open_runner(name: str = "") -> Runner:
    """The runner of that name, or the one that SLIMLINE_RUNNER names, else child processes.

    Args:
        name: one of RUNNERS.

    Raises:
        BadParameters: when there is none of that name.
    """
    wanted = name or os.environ.get("SLIMLINE_RUNNER") or RUNNERS[0]
    if wanted == "process":
        from slimline.adapters.runners.process import ProcessRunner  # noqa: PLC0415 - if asked for

        return ProcessRunner()
    if wanted == "docker":
        from slimline.adapters.runners.docker import DockerRunner  # noqa: PLC0415 - if asked for

        return DockerRunner()
    if wanted == "pod":
        from slimline.adapters.runners.pod import PodRunner  # noqa: PLC0415 - if asked for

        return PodRunner()
    msg = f"runner {wanted!r} is not one of {', '.join(RUNNERS)}: correct SLIMLINE_RUNNER"
    raise BadParameters(msg)
