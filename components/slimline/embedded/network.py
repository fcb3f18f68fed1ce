"""A bridge network of a state directory's own: containers and this machine meet there.

    network = make_network(state_dir)     # servers listen on network.gateway
    ...
    remove_network(state_dir)             # with every container and volume on it

The gateway's address belongs to this machine: what listens there is reached by containers of the
network and by processes of this machine, under one URL, and by nobody else.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slimline.deploy.engine import connect, gateway_of

if TYPE_CHECKING:
    from pathlib import Path

    from docker import DockerClient
    from docker.models.containers import Container

LABEL = "dev.slimline.demo"
_NOTE = "docker-network"
"""The file that holds the network's name: without it nobody asks for an engine."""


@dataclass(frozen=True)
class Network:
    """A network that was made: its name, this machine's address on it, its mark."""

    name: str
    gateway: str
    labels: dict[str, str]


def make_network(state_dir: Path) -> Network:
    """Make the network of a state directory.

    Raises:
        TryLater: when no engine answers.
    """
    client = connect()
    name = network_name(state_dir)
    labels = {LABEL: str(state_dir.resolve())}
    (state_dir / _NOTE).write_text(name)
    _clear(client, name, state_dir)  # what a directory of that name left, which is no more
    made = client.networks.create(name, driver="bridge", labels=labels, check_duplicate=True)
    made.reload()
    return Network(name, gateway_of(made), labels)


def network_name(state_dir: Path) -> str:
    """The same for the same directory, and no other's."""
    digest = hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()
    return f"slimline-demo-{digest[:8]}"


def remove_network(state_dir: Path) -> tuple[str, ...]:
    """Remove the network with every container that is on it and every volume that they have.

    Returns:
        The names of the containers that were there; () when the directory has no network.

    Raises:
        TryLater: when there is one and no engine answers.
    """
    note = state_dir / _NOTE
    if not note.is_file():
        return ()
    removed = _clear(connect(), note.read_text(), state_dir)
    note.unlink()
    return removed


def _clear(client: DockerClient, name: str, state_dir: Path) -> tuple[str, ...]:
    from docker.errors import NotFound

    volumes = {v.name for v in client.volumes.list(filters={"label": _label(state_dir)})}
    removed: set[str] = set()
    while containers := _containers(client, name, state_dir):  # a job may have just been started
        removed |= {str(container.name) for container in containers}
        volumes |= {volume for container in containers for volume in _volumes(container)}
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(_remove, containers))
    for volume in volumes:
        with suppress(NotFound):
            client.volumes.get(volume).remove(force=True)
    with suppress(NotFound):
        client.networks.get(name).remove()
    return tuple(sorted(removed))


def _containers(client: DockerClient, network: str, state_dir: Path) -> list[Container]:
    filters: tuple[dict[str, Any], ...] = ({"network": network}, {"label": _label(state_dir)})
    found = [
        container
        for wanted in filters
        for container in client.containers.list(all=True, filters=wanted, ignore_removed=True)
    ]
    return list({container.id: container for container in found}.values())


def _label(state_dir: Path) -> str:
    return f"{LABEL}={state_dir.resolve()}"


def _volumes(container: Container) -> list[str]:
    mounts = container.attrs["Mounts"]
    return [mount["Name"] for mount in mounts if mount["Type"] == "volume"]


def _remove(container: Container) -> None:
    from docker.errors import APIError, NotFound

    try:
        container.remove(v=True, force=True)
    except NotFound:
        return
    except APIError as error:
        if "already in progress" not in str(error):
            raise
