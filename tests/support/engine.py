"""The Docker engine and the project's images, for tests marked `docker`.

Such a test is left out where there is no engine or no images; `.ci/run` sets
SLIMLINE_REQUIRE_DOCKER=1, and then it fails. The first one of a process makes sure that the images
hold today's code: their last layer, which takes seconds, and nothing when nothing changed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slimline.adapters.images import load_lock
from slimline.contract import TryLater
from slimline.deploy.engine import connect

if TYPE_CHECKING:
    from docker import DockerClient

    from slimline.adapters.images import ImageLock

ROOT = Path(__file__).parents[2]
LEFT_OUT = "needs a Docker engine"
REQUIRED = "SLIMLINE_REQUIRE_DOCKER"


def engine() -> DockerClient:
    """A client of the engine; skips the test, or fails it, when there is none."""
    require()
    return connect()


def images() -> ImageLock:
    """The images, with the code of this checkout as it is now."""
    require()
    return load_lock(ROOT / "images" / "lock.json")


def require() -> None:
    """Leave the test out when engine or images are missing; fail where they are required."""
    missing = _missing()
    if missing and os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{LEFT_OUT}: {missing}", pytrace=False)
    if missing:
        pytest.skip(f"{LEFT_OUT}: {missing}")


@cache
def _missing() -> str:
    """What is missing, in words; empty when all is there. Asked once in a process."""
    try:
        connect().close()
    except TryLater as error:
        return str(error)
    command = [sys.executable, "-m", "images.build", "--code-only"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    return done.stderr.strip() if done.returncode else ""
