"""Start a job's container, or attach to the one that is there; wait for it, stop it, remove it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from slimline.adapters.images import load_lock
from slimline.adapters.runners.docker.container import (
    GRACE_SECONDS,
    Settings,
    container_name,
    plan,
    work_path,
)
from slimline.adapters.runners.docker.engine import LABEL, Engine, EngineAway, Gone
from slimline.adapters.runners.docker.files import IMAGE_USER, VOLUME, archive
from slimline.adapters.runners.docker.logs import LogReader
from slimline.contract import TryLater, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from slimline.adapters.images import ImageLock
    from slimline.adapters.runners import Launch
    from slimline.adapters.runners.docker.container import Plan

log = get_logger(__name__)

LOST = 137
"""The exit code of a job whose container was removed while it was waited for."""

_POLL_SECONDS = 0.1
_ENDING_SECONDS = 0.02
"""From the end of a log to that of its container."""
_CREATED_SECONDS = 5
"""A container that was created and not started for so long lost its worker in between."""
_START_SECONDS = 60
_NAME_TAKEN = "is already in use by container"
_ALIVE = ("running", "paused", "restarting")
_ENDED = ("exited", "dead")


class DockerRunner:
    """Starts containers; see the package."""

    def __init__(
        self,
        engine: Engine | None = None,
        settings: Settings | None = None,
        lock: ImageLock | None = None,
        *,
        patience: float = 30.0,
    ) -> None:
        """Nothing is asked of the engine yet.

        Args:
            engine: that of DOCKER_HOST if not given.
            settings: those of this process's environment if not given.
            lock: says which image is run; `images/lock.json` if not given.
            patience: seconds to wait for an engine that went away, before the task is tried later.
        """
        self.engine = engine or Engine()
        self.settings = settings or Settings.from_environment(os.environ)
        self.patience = patience
        self._lock = lock

    @cached_property
    def lock(self) -> ImageLock:
        """Which images are run."""
        return self._lock or load_lock()

    def image_digest(self, image: str) -> str:
        """The digest of what is installed in an image: one that is built anew keeps it."""
        return self.lock.image(image).environment

    def work_path(self, identity: str) -> str:  # noqa: ARG002 - each container has its own
        """Where the job stages its inputs and outputs: in its container's volume."""
        return work_path()

    def start(self, launch: Launch) -> DockerHandle:
        """Start the job, or attach to the equal one.

        Raises:
            TryLater: when the engine cannot run it now; says what to do.
            BadParameters: when it cannot run in a container as things are set.
        """
        name, made = container_name(launch.identity), None
        image = self.lock.image(launch.image)
        seen: dict[str, float] = {}
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            found = self._find(name)
            if found is None:
                made = made or plan(launch, image, self.engine, self.settings)
                container = self._start(made)
                if container:
                    return self._handle(container, launch, attached=False)
            elif self._attachable(found, launch):
                return self._handle(found["Id"], launch, attached=True)
            elif found["State"]["Status"] != "created" or _left(found, seen):
                self.engine.remove(found["Id"])
            else:
                time.sleep(_POLL_SECONDS)
        msg = f"container {name} can neither be used nor removed: `docker rm -f {name}`"
        raise TryLater(msg)

    def _handle(self, container: str, launch: Launch, *, attached: bool) -> DockerHandle:
        return DockerHandle(self.engine, container, launch, attached, self.patience)

    def _find(self, name: str) -> dict[str, Any] | None:
        try:
            return self.engine.inspect(name)
        except Gone:
            return None

    def _attachable(self, found: dict[str, Any], launch: Launch) -> bool:
        labels, state = found["Config"]["Labels"] or {}, found["State"]
        if labels.get(f"{LABEL}identity") != launch.identity:
            msg = f"container {found['Name'][1:]} is not this job's: rename or remove it"
            raise TryLater(msg)
        mine = labels.get(f"{LABEL}claim") == launch.claim
        fetchable = state["Status"] == "exited" and state["ExitCode"] == 0 and mine
        return fetchable or state["Status"] in _ALIVE

    def _start(self, made: Plan) -> str | None:
        """Create and start a container; None when another worker was faster."""
        try:
            with self.engine.told(f"image {made.config['image']}"):
                created = self.engine.api.create_container(name=made.name, **made.config)
        except TryLater as error:
            if _NAME_TAKEN in str(error):
                return None
            raise
        container: str = created["Id"]
        for warning in created.get("Warnings") or ():
            log.warning("Docker engine: %s", warning)
        try:
            with self.engine.told(made.name):
                if made.copies or made.user != IMAGE_USER:
                    data = archive(made.copies, made.user)
                    self.engine.api.put_archive(container, VOLUME, data)
                self.engine.api.start(container)
        except Gone:
            return None
        except BaseException:
            self.engine.again().remove(container, force=True)
            raise
        return container


@dataclass(frozen=True)
class DockerHandle:
    """A container that was started or attached to."""

    engine: Engine
    container: str
    launch: Launch = field(repr=False)
    attached: bool
    patience: float

    def wait(self, log: Callable[[str], None]) -> int:
        """Hand on each line of the log until the container ends; returns its exit code.

        A lost connection is taken up again without a line lost or doubled.

        Raises:
            EngineAway: when the engine stays away; the container may go on, a retry attaches.
        """
        reader, away = LogReader(self.engine, self.container), 0.0
        while True:
            try:
                state = self.engine.inspect(self.container)["State"]
                away, ended = 0.0, state["Status"] in _ENDED
                for line in reader.read(follow=not ended):
                    log(line)
                if ended:
                    for line in reader.rest():
                        log(line)
                    return self._result(state, log)
                time.sleep(_ENDING_SECONDS)
            except Gone:
                log(f"container {self.container[:12]} was removed while it was waited for")
                return LOST
            except EngineAway:
                away = away or time.monotonic()
                if time.monotonic() - away > self.patience:
                    raise
                time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End the container: SIGTERM, and SIGKILL after the grace; returns when it has ended.

        It may be called by a signal handler in the middle of `wait`.
        """
        engine = self.engine.again()
        try:
            with engine.told():
                engine.api.stop(self.container, timeout=GRACE_SECONDS)
        except Gone:
            return

    def discard(self) -> None:
        """Remove the container and its volume."""
        self.engine.remove(self.container)

    def _result(self, state: dict[str, Any], log: Callable[[str], None]) -> int:
        code = int(state["ExitCode"])
        if code and state["OOMKilled"]:
            step, memory = self.launch.claim.rpartition("/")[2], self.launch.needs.memory
            log(
                f"slimline: out of memory: a process of {self.launch.component} was killed at the "
                f"limit of {memory}; give it more in the recipe, as "
                f"`tasks: {{{step or 'STEP'}: {{memory: {_more(memory)}}}}}`"
            )
        if code and state["Error"]:
            log(f"Docker engine: {state['Error']}")
        return code


def _left(found: dict[str, Any], seen: dict[str, float]) -> bool:
    """Whether a container was seen waiting for its start for too long."""
    first = seen.setdefault(found["Id"], time.monotonic())
    return time.monotonic() - first > _CREATED_SECONDS


def _more(memory: str) -> str:
    number = memory.rstrip("KMGTi")
    return f"{2 * int(number)}{memory[len(number) :]}"
