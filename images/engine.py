"""The Docker engine, by its command-line client; anything with BuildKit from 20.10 on will do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimline.contract import BadParameters, SlimlineError, TryLater

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_LAST_WITH_BUILDKIT_INSIDE = 22
"""Later clients leave BuildKit to their plugin buildx, and without it build the old way."""
_LOG_LINES = 40


class BuildFailed(SlimlineError):
    """The engine refused to build: what it said is in the message."""


@dataclass(frozen=True)
class Target:
    """What is built: one stage of a Dockerfile.

    Attributes:
        dockerfile: the file.
        stage: its stage.
        tag: what the image is called.
        arguments: build arguments.
        labels: set beside those of the Dockerfile.
    """

    dockerfile: Path
    stage: str
    tag: str
    arguments: Mapping[str, str]
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Engine:
    """A client that answers, and builds with BuildKit."""

    client: str

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run one command of the client; returns what it printed.

        Raises:
            TryLater: when the engine refuses; with its own words.
        """
        done = self._call(arguments, stdin=stdin)
        if done.returncode:
            msg = f"{self.client} {arguments[0]} failed: {done.stderr.strip()}"
            raise TryLater(msg)
        return done.stdout

    def inspect(self, reference: str) -> dict[str, Any] | None:
        """What the engine knows of an image; None when it has none of that name."""
        found = json.loads(self._call(("image", "inspect", reference)).stdout or "[]")
        return found[0] if found else None

    def build(self, target: Target, context: Path) -> None:
        """Build one target.

        Raises:
            BuildFailed: with the end of the build's log.
        """
        command = ["build", "--progress=plain", "--pull=false", "--file", str(target.dockerfile)]
        command += ["--target", target.stage, "--tag", target.tag]
        for name, value in target.arguments.items():
            command += ["--build-arg", f"{name}={value}"]
        for name, value in target.labels.items():
            command += ["--label", f"{name}={value}"]
        done = self._call([*command, str(context)])
        if done.returncode:
            end = "\n".join(done.stderr.splitlines()[-_LOG_LINES:])
            msg = f"{target.dockerfile} (target {target.stage}) does not build:\n{end}"
            raise BuildFailed(msg)

    def _call(
        self, arguments: Sequence[str], stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.client, *arguments],
            check=False,
            capture_output=True,
            text=True,
            input=stdin,
            env={**os.environ, "DOCKER_BUILDKIT": "1"},
        )


def find_engine() -> Engine:
    """The client that DOCKER names, else the first of `docker` and /usr/bin/docker that builds.

    Raises:
        BadParameters: when no client is installed, or none that can use BuildKit.
        TryLater: when no engine answers.
    """
    named = os.environ.get("DOCKER")
    clients = [c for c in ([named] if named else ["docker", "/usr/bin/docker"]) if shutil.which(c)]
    if not clients:
        msg = "no Docker client is installed: infra/engine.sh start, or DOCKER=/path/to/docker"
        raise BadParameters(msg)
    for client in clients:
        if _builds(client):
            engine = Engine(client)
            engine.run("version")
            return engine
    msg = f"{' and '.join(clients)} cannot use BuildKit: install the plugin buildx, or set DOCKER"
    raise BadParameters(msg)


def _builds(client: str) -> bool:
    plugin = subprocess.run([client, "buildx", "version"], check=False, capture_output=True)
    if plugin.returncode == 0:
        return True
    told = subprocess.run([client, "--version"], check=False, capture_output=True, text=True)
    major = told.stdout.removeprefix("Docker version ").split(".")[0]
    return major.isdigit() and int(major) <= _LAST_WITH_BUILDKIT_INSIDE
