"""Devices as containers: one agent each, with a volume that keeps its key, slots and state.

A device trusts what was put into it when it was made: the fleet's root metadata and the keys of
packages, mounted read-only. It can be restarted at any moment and goes on from its volume.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimline.contract import BadData
from slimline.deploy.engine import connect, hardened
from slimline.fleet.objects import open_objects
from slimline.fleet.reports import enrolled

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from docker import DockerClient
    from docker.models.containers import Container

    from slimline.embedded.network import Network

HOME = "/work"
"""In the image a directory of the agent's user: a new volume there is that user's too."""
_ROOT, _TRUSTED = "/etc/slimline/root.json", "/etc/slimline/trusted"
_PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class Fleet:
    """Devices to be made.

    Attributes:
        image: the image `device`, by id or digest.
        repository: the fleet's, `s3://bucket/prefix`.
        group: whose campaigns they follow.
        root: file of the TUF root metadata they trust.
        trusted: directory of the package keys they trust.
        environment: how they reach the repository.
        interval: seconds between polls.
    """

    image: str
    repository: str
    group: str
    root: Path
    trusted: Path
    environment: Mapping[str, str]
    interval: float = 60


def start_devices(fleet: Fleet, network: Network, count: int) -> tuple[str, ...]:
    """Start `device-01` ... and wait until all are enrolled; returns the containers' names.

    Raises:
        BadData: when some are not in time; tells the end of a log.
    """
    client = connect()
    names = [f"device-{number:02d}" for number in range(1, count + 1)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda name: start_device(client, fleet, network, name), names))
    objects, deadline = open_objects(fleet.repository), time.monotonic() + _PATIENCE_SECONDS
    while missing := set(names) - set(enrolled(objects, fleet.group)):
        if time.monotonic() > deadline:
            log = made[names.index(min(missing))].logs(tail=5).decode(errors="replace")
            msg = f"{', '.join(sorted(missing))} did not enrol in {_PATIENCE_SECONDS} s:\n{log}"
            raise BadData(msg)
        time.sleep(0.2)
    return tuple(str(container.name) for container in made)


def start_device(client: DockerClient, fleet: Fleet, network: Network, name: str) -> Container:
    """Start one device; its container and its volume are called `<network>-<name>`."""
    whole = f"{network.name}-{name}"
    client.volumes.create(whole, labels=network.labels)
    made = client.containers.create(
        fleet.image,
        [str(word) for option in _options(fleet, name).items() for word in option] + ["--enrol"],
        entrypoint=["python", "-m", "slimline.device"],
        name=whole,
        network=network.name,
        labels={**network.labels, "dev.slimline.device": name},
        environment=dict(fleet.environment),
        volumes={
            whole: {"bind": HOME, "mode": "rw"},
            str(fleet.root): {"bind": _ROOT, "mode": "ro"},
            str(fleet.trusted): {"bind": _TRUSTED, "mode": "ro"},
        },
        restart_policy=_RESTART,
        **hardened(cpu=1, memory="512Mi", pids=128),
    )
    made.start()
    return made


def _options(fleet: Fleet, name: str) -> dict[str, Any]:
    return {
        "--device-id": name,
        "--home": HOME,
        "--repository": fleet.repository,
        "--group": fleet.group,
        "--root": _ROOT,
        "--trusted": _TRUSTED,
        "--interval": fleet.interval,
    }


_RESTART: Any = {"Name": "unless-stopped"}
