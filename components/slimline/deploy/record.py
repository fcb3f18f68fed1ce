"""What is known of a local endpoint: one small file, replaced at once, so always whole.

The front reads it for each new connection: replacing it is the switch.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from slimline.contract import BadData, TryLater
from slimline.deploy.processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = "endpoint.json"


class Backend(BaseModel):
    """One server process and what it serves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    process: Process
    port: int
    """Its own port on loopback; 0 until it is known."""
    slot: str
    """Directory of its copy of the package."""
    digest: str
    version: str


class Front(BaseModel):
    """The process that holds the stable address."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    process: Process
    port: int


class EndpointRecord(BaseModel):
    """A local endpoint: who holds its address, who answers, who comes and who goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    front: Front | None = None
    current: Backend | None = None
    others: tuple[Backend, ...] = ()
    """Servers that start or drain; a deployment that was killed leaves them to the next one."""


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
    """Replace the record of an endpoint; returns it."""
    temporary = root / f"{FILE}.tmp"
    with temporary.open("w") as file:
        file.write(record.model_dump_json(indent=1))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(root / FILE)
    return record


@contextmanager
def alone(root: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the endpoint's lock; it falls with the process that holds it.

    Raises:
        TryLater: when another one holds it and `wait` is not asked for.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            msg = f"endpoint {root.name} is being changed by another job: wait for it"
            raise TryLater(msg) from error
        yield
