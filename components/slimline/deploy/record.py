"""What is known of an endpoint on this machine: one small file, replaced at once, so always whole.

The front reads it for each new connection: replacing it is the switch.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from slimline.contract import BadData, BadParameters, TryLater
from slimline.deploy.processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = "endpoint.json"
LOOPBACK = "127.0.0.1"


class Container(BaseModel):
    """A container that was started: its id, and the name by which others find it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    name: str

    def __str__(self) -> str:
        """What a log says of it."""
        return f"container {self.name}"


Running = Process | Container
"""What the record tells a server or a front by."""


class Backend(BaseModel):
    """One server and what it serves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    process: Running
    host: str = LOOPBACK
    """Where the front finds it: loopback, or the container's name."""
    port: int
    """Its own port; 0 until it is known."""
    slot: str
    """Its copy of the package: a directory, or the name of a volume."""
    digest: str
    version: str


class Front(BaseModel):
    """What holds the stable address."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    process: Running
    host: str = LOOPBACK
    port: int

    @property
    def url(self) -> str:
        """The address that clients are given."""
        return f"http://{self.host}:{self.port}"


class EndpointRecord(BaseModel):
    """An endpoint: who holds its address, who answers, who comes and who goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    front: Front | None = None
    current: Backend | None = None
    others: tuple[Backend, ...] = ()
    """Servers that start or drain; a deployment that was killed leaves them to the next one."""

    @property
    def backends(self) -> tuple[Backend, ...]:
        """Every server there is."""
        return (*self.others, *((self.current,) if self.current else ()))


def read_record(root: Path) -> EndpointRecord:
    """Read the record of an endpoint; an empty one when there is none yet.

    Raises:
        BadData: when it cannot be understood.
    """
    try:
        return EndpointRecord.model_validate_json((root / FILE).read_bytes())
    except FileNotFoundError:
        return EndpointRecord()
    except ValidationError as error:
        msg = f"{root / FILE} is damaged: stop its processes by hand and remove the directory"
        raise BadData(msg) from error


def write_record(root: Path, record: EndpointRecord) -> EndpointRecord:
    """Replace the record of an endpoint; returns it.

    Everyone may read it: it holds no secret, and a front may run as another user.
    """
    temporary = root / f"{FILE}.tmp"
    with temporary.open("w") as file:
        file.write(record.model_dump_json(indent=1))
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
    temporary.replace(root / FILE)
    return record


@contextmanager
def alone(root: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the endpoint's lock; it falls with the process that holds it.

    A new endpoint's directory has the rights of the one it lies in: who may keep endpoints there,
    the user of a container among them, may also remove them.

    Raises:
        TryLater: when another one holds it and `wait` is not asked for.
        BadParameters: when this user may not write there.
    """
    with _lock_file(root) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            msg = f"endpoint {root.name} is being changed by another job: wait for it"
            raise TryLater(msg) from error
        yield


def _lock_file(root: Path) -> IO[str]:
    try:
        if not root.is_dir():
            root.mkdir(parents=True, exist_ok=True)
            shutil.copymode(root.parent, root)
        return (root / "lock").open("w")
    except PermissionError as error:
        who = f"user {os.getuid()}"
        msg = (
            f"{who} may not write {root.parent}, where endpoints live: make it that user's (chown)"
        )
        raise BadParameters(msg) from error
