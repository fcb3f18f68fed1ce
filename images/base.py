"""What all images stand on: python:3.11-slim, or a stand-in where no registry is reached."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from images.plan import FOLDER
from slimline.contract import TryLater

if TYPE_CHECKING:
    from collections.abc import Callable

    from images.engine import Engine

DEFAULT = "python:3.11-slim"
STAND_IN = "slimline-python:3.11-bookworm"


def find_base(engine: Engine, named: str, tell: Callable[[str], None]) -> str:
    """Make sure that a base image is in the engine; returns its name.

    Args:
        engine: where it must be.
        named: which; empty for python:3.11-slim, or for the stand-in when that cannot be pulled.
        tell: hears what takes time.

    Raises:
        TryLater: when it can be neither pulled nor made.
    """
    for name in (named,) if named else (DEFAULT, STAND_IN):
        if engine.inspect(name):
            return name
    try:
        tell(f"pulling {named or DEFAULT}")
        engine.run("pull", "--quiet", named or DEFAULT)
    except TryLater:
        if named:
            raise
    else:
        return named or DEFAULT
    tell(f"{DEFAULT} cannot be pulled: making {STAND_IN} from Debian packages")
    done = subprocess.run(
        [str(FOLDER / "base-image.sh"), STAND_IN],
        env={**os.environ, "DOCKER": engine.client},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        msg = f"no base image: {done.stderr.strip()}"
        raise TryLater(msg)
    return STAND_IN
