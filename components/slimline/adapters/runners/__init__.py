"""Ways to run a job outside the process that waits for it.

A runner starts a job, or attaches to the equal one that runs already; it hands on the job's log
line by line, and its exit code is all the result it gives. What a job made is told by its manifest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Launch:
    """One job to run.

    Attributes:
        identity: the job's identity; two launches with the same one are the same job.
        image: the folder of `images/` that runs it.
        arguments: what follows `slimline run`.
        environment: the whole environment of the job; it may hold secrets, so it is never shown.
        claim: who asks (`dag/run/task`); a result that nobody fetched is given to this one only.
    """

    identity: str
    image: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
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

    def start(self, launch: Launch) -> Handle:
        """Start the job, or attach to the equal one that runs."""
