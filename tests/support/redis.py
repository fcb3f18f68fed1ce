"""A real Redis server for a test module; it asks for a password and keeps nothing."""

from __future__ import annotations

import secrets
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slimline.embedded.ports import free_port
from slimline.embedded.process import Launch, start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = "redis-server"


@dataclass(frozen=True)
class Redis:
    """Where it answers."""

    url: str = field(repr=False)


def missing() -> str:
    """Why there is none here; "" when there is."""
    return "" if shutil.which(PROGRAM) else f"{PROGRAM} is missing: infra/servers.sh install"


@contextmanager
def redis(state_dir: Path, host: str) -> Iterator[Redis]:
    """Run a server on `host`."""
    password, port = secrets.token_urlsafe(16), free_port()
    conf = state_dir / "redis.conf"
    conf.touch(mode=0o600)
    conf.write_text(
        f'bind {host}\nport {port}\nrequirepass {password}\nsave ""\nappendonly no\n'
        f"dir {state_dir}\n"
    )
    launch = Launch("redis", (PROGRAM, str(conf)), _ready)
    with start(launch, state_dir):
        yield Redis(f"redis://:{password}@{host}:{port}/0")


def _ready(log: Path) -> str:
    return "yes" if "Ready to accept connections" in log.read_text() else ""
