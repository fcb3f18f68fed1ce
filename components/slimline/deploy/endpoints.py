"""The endpoints of a directory: which there are, where they answer, and how they are stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slimline.deploy.containers import Containers
from slimline.deploy.local import Processes
from slimline.deploy.record import (
    FILE,
    Container,
    EndpointRecord,
    alone,
    read_record,
    write_record,
)
from slimline.deploy.spec import Docker, Local

if TYPE_CHECKING:
    from pathlib import Path

    from slimline.deploy.blue_green import Platform


def list_endpoints(state_dir: Path) -> tuple[str, ...]:
    """The names of the endpoints that a directory holds."""
    return tuple(sorted(file.parent.name for file in state_dir.glob(f"*/{FILE}")))


def address_of(state_dir: Path, name: str) -> str:
    """The URL of an endpoint that runs; "" when it does not."""
    record = read_record(state_dir / name)
    if record.front is None or not _platform(record).is_alive(record.front.process):
        return ""
    return record.front.url


def stop_endpoint(state_dir: Path, name: str) -> bool:
    """Stop an endpoint: its address first, then its servers; False when there is none.

    Its record stays, so that the next deployment finds its port again.
    """
    root = state_dir / name
    if not (root / FILE).is_file():
        return False
    with alone(root, wait=True):
        record = read_record(root)
        platform = _platform(record)
        if record.front:
            platform.stop(record.front.process)
        for backend in record.backends:
            platform.remove(backend)
        left = write_record(root, EndpointRecord(front=record.front))
        platform.sweep(root, left)
    return True


def _platform(record: EndpointRecord) -> Platform:
    units = [unit.process for unit in (record.front, *record.backends) if unit]
    in_containers = any(isinstance(unit, Container) for unit in units)
    return Containers(Docker()) if in_containers else Processes(Local())
