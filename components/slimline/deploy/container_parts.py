"""What the engine is told of an endpoint's containers: names, labels, mounts, limits."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimline.deploy.engine import hardened, tree_as_tar

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

    from slimline.contract import Package
    from slimline.deploy.spec import Docker

PORT = 8080
"""Of servers and fronts, each in a container of its own."""
ANY = "0.0.0.0"  # noqa: S104 - inside a container, and to tell when a user asks for it
_SLOT, _ENDPOINT = "/opt/slimline", "/run/endpoint"
_LABEL_NAME, _LABEL_ROOT = "dev.slimline.endpoint", "dev.slimline.endpoint.directory"
_PORTS, _PORT_TRIES = range(20_000, 30_000), 20
"""Below those that a kernel gives to whoever connects."""
_KNOCK = f"import socket; socket.create_connection(('127.0.0.1', {PORT}), 5).close()"
_SECOND = 10**9
_HEALTH: Any = {
    "test": ["CMD", "python", "-c", _KNOCK],
    "interval": 30 * _SECOND,
    "timeout": 10 * _SECOND,
    "start_period": 30 * _SECOND,
}


def labels_of(root: Path) -> dict[str, str]:
    """By which an endpoint's containers and volumes are found, whoever made them."""
    return {_LABEL_NAME: root.name, _LABEL_ROOT: str(root)}


def prefix_of(root: Path) -> str:
    """Begins the names of an endpoint's containers, and of no other's on the same engine."""
    return f"slimline-{root.name}-{_number(root):08x}"


def candidate_ports(root: Path) -> tuple[int, ...]:
    """Ports to try for an endpoint's address; the same for the same endpoint."""
    first = _number(root) % len(_PORTS)
    return tuple(_PORTS[(first + step) % len(_PORTS)] for step in range(_PORT_TRIES))


def fill_slot(engine: DockerClient, image: str, slot: str, root: Path, package: Package) -> None:
    """Put package and trusted keys into a new volume, by a container that is never started."""
    keys = Path(os.environ["SLIMLINE_TRUSTED_KEYS"])
    engine.volumes.create(slot, labels=labels_of(root))
    helper = engine.containers.create(
        image,
        network_mode="none",
        labels=labels_of(root),
        volumes={slot: {"bind": _SLOT, "mode": "rw"}},
    )
    try:
        helper.put_archive(_SLOT, tree_as_tar({"package": package.path, "trusted": keys}))
    finally:
        helper.remove(force=True)


def create_server(
    engine: DockerClient, image: str, slot: str, root: Path, *, settings: Docker, network: str
) -> Container:
    """A server of what is in a slot, which gives it its name; the image says how it is probed."""
    return engine.containers.create(
        image,
        name=slot,
        network=network,
        labels=labels_of(root),
        environment=_server_environment(),
        volumes={slot: {"bind": _SLOT, "mode": "ro"}},
        **hardened(cpu=settings.cpu, memory=settings.memory, pids=256),
    )


def create_front(
    engine: DockerClient, image: str, root: Path, network: str, published: tuple[str, int]
) -> Container:
    """What holds an endpoint's address; it reads the record, and writes nothing."""
    from docker.types import Mount

    return engine.containers.create(
        image,
        ["-m", "slimline.deploy.front", _ENDPOINT, "--host", ANY, "--port", str(PORT)],
        entrypoint=["python"],
        name=f"{prefix_of(root)}-front",
        network=network,
        labels=labels_of(root),
        ports={f"{PORT}/tcp": published},
        mounts=[Mount(_ENDPOINT, str(root), type="bind", read_only=True)],
        healthcheck=_HEALTH,
        **hardened(cpu=1, memory="128Mi", pids=64),
    )


def _server_environment() -> dict[str, str]:
    """Of this environment what a server needs; credentials and secrets are none of it."""
    passed = {k: v for k, v in os.environ.items() if k.startswith("SLIMLINE_SERVING_")}
    return {
        **passed,
        "SLIMLINE_LOG": os.environ.get("SLIMLINE_LOG", "text"),
        "SLIMLINE_SERVING_HOST": ANY,
        "SLIMLINE_SERVING_PORT": str(PORT),
        "SLIMLINE_SERVING_MODEL_DIR": f"{_SLOT}/package",
        "SLIMLINE_TRUSTED_KEYS": f"{_SLOT}/trusted",
    }


def _number(root: Path) -> int:
    return int.from_bytes(hashlib.sha256(str(root).encode()).digest()[:4])
