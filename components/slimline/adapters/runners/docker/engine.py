"""The Docker engine that DOCKER_HOST names, and its failures in words that say what to do."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
import urllib3
from docker import APIClient  # noqa: TID253 - imported when this runner is asked for
from docker.errors import APIError, DockerException, NotFound  # noqa: TID253 - the same
from docker.utils import kwargs_from_env  # noqa: TID253 - the same

from slimline.contract import TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LABEL = "dev.slimline."
DEFAULT_ADDRESS = "unix:///var/run/docker.sock"
_CURES = {
    "no such image": "build it with `make images`, or pull it by this digest: a run never pulls",
    "no space left on device": "the engine's disk is full: see `docker system df`, free some space",
    "bind source path does not exist": (
        "create it on the engine's machine, or correct SLIMLINE_DOCKER_MOUNTS; a worker that runs "
        "in a container itself needs it at the same path outside"
    ),
    r"network \S+ not found|no such network|could not find network": (
        "create it with `docker network create`, or correct SLIMLINE_DOCKER_NETWORK and "
        "SLIMLINE_DOCKER_STORE_NETWORK"
    ),
    "could not select device driver": (
        "the engine offers no GPU: install the NVIDIA Container Toolkit beside it, or set "
        "`gpu: 0` for this step under `tasks` of the recipe"
    ),
}


class EngineAway(TryLater):
    """The engine does not answer; what it runs may go on."""


class Gone(TryLater):
    """The engine answers that there is no such container."""


class Engine:
    """One engine; it is asked nothing before it is needed."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        """Use the engine that DOCKER_HOST of `environ` (this process's if not given) names."""
        self._environ = dict(os.environ if environ is None else environ)
        self.address = self._environ.get("DOCKER_HOST") or DEFAULT_ADDRESS

    @property
    def socket(self) -> Path | None:
        """Its socket on this machine; None for a remote engine."""
        given = self.address.removeprefix("unix://")
        return None if given == self.address else Path(given)

    @cached_property
    def api(self) -> APIClient:
        """The SDK's client, connected."""
        settings = {"DOCKER_HOST": self.address, **self._environ}
        with self.told():
            return APIClient(
                version="auto",
                use_ssh_client=self.address.startswith("ssh://"),
                **kwargs_from_env(settings),
            )

    @cached_property
    def info(self) -> dict[str, Any]:
        """What `docker info` tells."""
        with self.told():
            found: dict[str, Any] = self.api.info()
        return found

    @property
    def sees_our_files(self) -> bool:
        """False for a remote engine, and for a worker that runs in a container itself."""
        return self.socket is not None and self.info["Name"] == os.uname().nodename

    def again(self) -> Engine:
        """The same engine by a connection of its own, for a signal handler or after a break."""
        return Engine(self._environ)

    def inspect(self, container: str) -> dict[str, Any]:
        """All about a container, by id or name.

        Raises:
            Gone: when there is none.
        """
        with self.told():
            found: dict[str, Any] = self.api.inspect_container(container)
        return found

    def remove(self, container: str, *, force: bool = False) -> None:
        """Remove a container and its volumes; nothing happens when it is not there."""
        try:
            with self.told():
                self.api.remove_container(container, v=True, force=force)
        except Gone:
            return

    @contextmanager
    def told(self, what: str = "") -> Iterator[None]:
        """Tell what the engine says with its cure.

        Args:
            what: of which an error is told, such as the image.

        Raises:
            EngineAway: when there was no answer.
            Gone: when there is no such container.
            TryLater: when it refused.
        """
        try:
            yield
        except APIError as error:
            said = str(error.explanation or error)
            if isinstance(error, NotFound) and "no such container" in said.lower():
                raise Gone(said) from error
            raise TryLater(self._refusal(said, what)) from error
        except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError) as error:
            msg = (
                f"Docker engine {self.address} does not answer ({error}): start it "
                "(infra/engine.sh start), let this user reach it (group docker), or correct "
                "DOCKER_HOST; a container that runs may go on, and the next try attaches to it"
            )
            raise EngineAway(msg) from error

    def _refusal(self, said: str, what: str) -> str:
        found = (cure for words, cure in _CURES.items() if re.search(words, said, re.IGNORECASE))
        cure = next(found, "see the engine's own log")
        about = f" {what}" if what else ""
        return f"Docker engine {self.address} refused{about}: {said}; {cure}"
