"""Servers as containers of this machine's Docker engine; see `slimline.deploy.blue_green`.

A slot is a volume with a copy of the package and of the keys that are trusted. It is filled through
the engine, not mounted from a directory: whoever deploys, root or not, the server's user can read
it and nobody can change it, and nothing is left on the host's disk when it goes.

The front reads the record, so the endpoint's directory is mounted into it, read-only. Its address
is that of the network's gateway: one URL, good for this machine and for containers of the network.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import time
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slimline.contract import BadData, BadParameters, get_logger
from slimline.deploy import blue_green
from slimline.deploy.engine import (
    address_on,
    connect,
    find_network,
    gateway_of,
    hardened,
    tree_as_tar,
)
from slimline.deploy.local import last_message
from slimline.deploy.record import Backend, Container, Front

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container as Engines

    from slimline.contract import Package
    from slimline.deploy.asking import Address
    from slimline.deploy.receipt import DeployReceipt
    from slimline.deploy.record import EndpointRecord, Running
    from slimline.deploy.spec import Deploy, Docker
    from slimline.trust.manifest import PackageManifest
    from slimline.trust.request import GoldenRequest

log = get_logger(__name__)
PORT = 8080
_SLOT, _ENDPOINT = "/opt/slimline", "/run/endpoint"
_LABEL_NAME, _LABEL_ROOT = "dev.slimline.endpoint", "dev.slimline.endpoint.directory"
_PORTS, _PORT_TRIES = range(20_000, 30_000), 20
"""Below those that a kernel gives to whoever connects."""
_RESTART: Any = {"Name": "unless-stopped"}
_FRONT_SECONDS, _STOP_SECONDS, _STEP = 30, 30, 0.05
_ANY = "0.0.0.0"  # noqa: S104 - inside a container, and to tell when a user asks for it
_KNOCK = f"import socket; socket.create_connection(('127.0.0.1', {PORT}), 5).close()"
_SECOND = 10**9
_HEALTH: Any = {
    "test": ["CMD", "python", "-c", _KNOCK],
    "interval": 30 * _SECOND,
    "timeout": 10 * _SECOND,
    "start_period": 30 * _SECOND,
}


def deploy(job: Deploy, manifest: PackageManifest, golden: GoldenRequest) -> DeployReceipt:
    """Serve a verified package by a container; see `blue_green.deploy`."""
    return blue_green.deploy(Containers(job.docker), job, manifest, golden)


class Containers:
    """A platform of containers; see the module."""

    name = "docker"
    kind = Container

    def __init__(self, settings: Docker) -> None:
        self.settings = settings

    @cached_property
    def engine(self) -> DockerClient:
        """The engine's client; raises `TryLater` when none answers."""
        return connect()

    @cached_property
    def network(self) -> str:
        """The network of the endpoint's containers."""
        return self.settings.network or os.environ.get("SLIMLINE_DOCKER_NETWORK", "")

    def start_server(self, root: Path, package: Package, version: str) -> Backend:
        """Fill a volume and start a server on it; it verifies what is in it again."""
        find_network(self.engine, self.network)
        image, name = self._image(), f"{_prefix(root)}-{secrets.token_hex(4)}"
        try:
            self._fill(image, name, _labels(root), package.path)
            made = self._server(image, name, _labels(root), package.digest)
            made.start()
        except BaseException:
            self._drop(name)
            self._drop_volume(name)
            raise
        return Backend(
            process=Container(id=str(made.id), name=name),
            host=name,
            port=PORT,
            slot=name,
            digest=package.digest,
            version=version,
        )

    def address(self, backend: Backend) -> Address | None:
        """Its address on the network: as good from this machine as from a container there."""
        found = self._find(backend.process)
        host = address_on(found.attrs, self.network) if found else ""
        return (host, PORT) if host else None

    def keep(self, backend: Backend) -> None:
        """Let the engine start it again when it dies, or when the engine itself was restarted.

        Not before: a server that refuses its package would be started again and again.
        """
        found = self._find(backend.process)
        if found is not None:
            found.update(restart_policy=_RESTART)

    def start_front(self, root: Path, port: int) -> Front:
        """See `Platform.start_front`; a free port is looked for from one that the name gives."""
        self._drop(f"{_prefix(root)}-front")
        network = find_network(self.engine, self.network)
        gateway = "" if self.settings.publish not in ("", _ANY) else gateway_of(network)
        where = self.settings.publish or gateway
        ports = (port,) if port else _candidates(root)
        for candidate in ports:
            made = self._front(root, where, candidate)
            try:
                made.start()
            except _engine_error() as error:
                made.remove(force=True)
                log.warning("port %d at %s cannot be had: %s", candidate, where, error)
                continue
            self._wait_for_front(made)
            running = Container(id=str(made.id), name=str(made.name))
            return Front(process=running, host=gateway or where, port=candidate)
        msg = f"cannot listen on docker.port {ports[0]} at {where}: give another"
        raise BadParameters(msg)

    def is_alive(self, process: Running) -> bool:
        """Whether it runs, or is just started again."""
        found = self._find(process)
        return found is not None and found.status in ("running", "restarting")

    def exit_code(self, process: Running) -> int | None:
        """How it ended; None while it runs, and when it is gone."""
        found = self._find(process)
        ended = found is not None and found.status in ("exited", "dead")
        return int(found.attrs["State"]["ExitCode"]) if found and ended else None

    def last_words(self, backend: Backend) -> str:
        """The last line of its log; or that it was killed for want of memory."""
        found = self._find(backend.process)
        if found is None:
            return "its container is gone"
        if found.attrs["State"]["OOMKilled"]:
            return f"it needs more memory than docker.memory {self.settings.memory} allows"
        return last_message(found.logs(tail=20).decode(errors="replace"))

    def stop(self, process: Running) -> None:
        """Stop and remove a container: SIGTERM, and SIGKILL after a while."""
        found = self._find(process)
        if found is not None:
            found.stop(timeout=_STOP_SECONDS)
            found.remove(force=True)

    def remove(self, backend: Backend) -> None:
        """Stop it, which answers all it was sent, and remove its volume."""
        self.stop(backend.process)
        self._drop_volume(backend.slot)

    def sweep(self, root: Path, record: EndpointRecord) -> None:
        """Remove containers and volumes with this endpoint's labels that the record lacks."""
        known = {unit.process for unit in (*record.backends, record.front) if unit}
        ids = {unit.id for unit in known if isinstance(unit, Container)}
        wanted: dict[str, Any] = {"label": [f"{k}={v}" for k, v in _labels(root).items()]}
        for found in self.engine.containers.list(all=True, filters=wanted):
            if found.id not in ids:
                log.info("container %s was left by a killed deployment: removed", found.name)
                found.remove(force=True)
        slots = {backend.slot for backend in record.backends}
        for volume in self.engine.volumes.list(filters=wanted):
            if volume.name not in slots:
                volume.remove(force=True)

    def _image(self) -> str:
        """The image, which must be there: nothing is pulled."""
        from docker.errors import ImageNotFound

        try:
            return str(self.engine.images.get(self.settings.image).id)
        except ImageNotFound as error:
            msg = f"docker.image: the engine has no image {self.settings.image}: make images"
            raise BadParameters(msg) from error

    def _fill(self, image: str, volume: str, labels: dict[str, str], package: Path) -> None:
        """Put package and keys into a new volume, by a container that is never started."""
        keys = Path(os.environ.get("SLIMLINE_TRUSTED_KEYS", ""))
        self.engine.volumes.create(volume, labels=labels)
        helper = self.engine.containers.create(
            image,
            network_mode="none",
            labels=labels,
            volumes={volume: {"bind": _SLOT, "mode": "rw"}},
        )
        try:
            helper.put_archive(_SLOT, tree_as_tar({"package": package, "trusted": keys}))
        finally:
            helper.remove(force=True)

    def _server(self, image: str, name: str, labels: dict[str, str], digest: str) -> Engines:
        return self.engine.containers.create(
            image,
            name=name,
            network=self.network,
            labels={**labels, "dev.slimline.package": digest},
            environment=_server_environment(),
            volumes={name: {"bind": _SLOT, "mode": "ro"}},
            **hardened(cpu=self.settings.cpu, memory=self.settings.memory, pids=256),
        )

    def _front(self, root: Path, where: str, port: int) -> Engines:
        from docker.types import Mount

        return self.engine.containers.create(
            self._image(),
            ["-m", "slimline.deploy.front", _ENDPOINT, "--host", _ANY, "--port", str(PORT)],
            entrypoint=["python"],
            name=f"{_prefix(root)}-front",
            network=self.network,
            labels=_labels(root),
            ports={f"{PORT}/tcp": (where, port)},
            mounts=[Mount(_ENDPOINT, str(root), type="bind", read_only=True)],
            healthcheck=_HEALTH,
            **hardened(cpu=1, memory="128Mi", pids=64),
        )

    def _wait_for_front(self, made: Engines) -> None:
        """Until it takes connections itself: the published port does so from the start."""
        deadline = time.monotonic() + _FRONT_SECONDS
        while time.monotonic() < deadline:
            made.reload()
            host = address_on(made.attrs, self.network)
            if made.status != "running":
                break
            with suppress(OSError):
                socket.create_connection((host, PORT), timeout=1).close()
                made.update(restart_policy=_RESTART)
                return
            time.sleep(_STEP)
        words = last_message(made.logs(tail=20).decode(errors="replace"))
        made.remove(force=True)
        msg = f"the front does not listen: {words}"
        raise BadData(msg)

    def _find(self, process: Running) -> Engines | None:
        if not isinstance(process, Container):
            return None
        with suppress(_engine_error(missing=True)):
            return self.engine.containers.get(process.id)
        return None

    def _drop_volume(self, name: str) -> None:
        with suppress(_engine_error(missing=True)):
            self.engine.volumes.get(name).remove(force=True)

    def _drop(self, name: str) -> None:
        with suppress(_engine_error(missing=True)):
            self.engine.containers.get(name).remove(force=True)


def _engine_error(*, missing: bool = False) -> type[Exception]:
    from docker.errors import APIError, NotFound

    return NotFound if missing else APIError


def _server_environment() -> dict[str, str]:
    """Of this environment what a server needs; credentials and secrets are none of it."""
    passed = {k: v for k, v in os.environ.items() if k.startswith("SLIMLINE_SERVING_")}
    return {
        **passed,
        "SLIMLINE_LOG": os.environ.get("SLIMLINE_LOG", "text"),
        "SLIMLINE_SERVING_HOST": _ANY,
        "SLIMLINE_SERVING_PORT": str(PORT),
        "SLIMLINE_SERVING_MODEL_DIR": f"{_SLOT}/package",
        "SLIMLINE_TRUSTED_KEYS": f"{_SLOT}/trusted",
    }


def _labels(root: Path) -> dict[str, str]:
    return {_LABEL_NAME: root.name, _LABEL_ROOT: str(root)}


def _prefix(root: Path) -> str:
    """Begins the names of an endpoint's containers, and of no other's on the same engine."""
    return f"slimline-{root.name}-{_number(root):08x}"


def _candidates(root: Path) -> tuple[int, ...]:
    first = _number(root) % len(_PORTS)
    return tuple(_PORTS[(first + step) % len(_PORTS)] for step in range(_PORT_TRIES))


def _number(root: Path) -> int:
    return int.from_bytes(hashlib.sha256(str(root).encode()).digest()[:4])
