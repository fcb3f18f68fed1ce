"""Servers as containers of this machine's Docker engine; see `slimline.deploy.blue_green`.

A slot is a volume with a copy of the package and of the keys that are trusted. It is filled through
the engine, not mounted from a directory: whoever deploys, root or not, the server's user can read
it and nobody can change it, and nothing is left on the host's disk when it goes.

The front reads the record, so the endpoint's directory is mounted into it, read-only. Its address
is that of the network's gateway: one URL, good for this machine and for containers of the network.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from requests import RequestException

from slimline.contract import BadData, BadParameters, TryLater, get_logger
from slimline.deploy import blue_green
from slimline.deploy.container_parts import (
    ANY,
    PORT,
    candidate_ports,
    create_front,
    create_server,
    fill_slot,
    labels_of,
    prefix_of,
)
from slimline.deploy.engine import address_on, connect, find_network, gateway_of
from slimline.deploy.local import last_message
from slimline.deploy.record import Backend, Container, Front

if TYPE_CHECKING:
    from pathlib import Path

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
_RESTART: Any = {"Name": "unless-stopped"}
_PORT_TAKEN = re.compile("port is already allocated|address already in use", re.IGNORECASE)
_FRONT_SECONDS, _STOP_SECONDS, _STEP = 30, 30, 0.05


def deploy(job: Deploy, manifest: PackageManifest, golden: GoldenRequest) -> DeployReceipt:
    """Serve a verified package by a container; see `blue_green.deploy`.

    Raises:
        TryLater: when the engine fails; what it says is told.
    """
    from docker.errors import DockerException

    try:
        return blue_green.deploy(Containers(job.docker), job, manifest, golden)
    except (DockerException, RequestException) as error:
        msg = f"the Docker engine failed, what served before serves on: {error}"
        raise TryLater(msg) from error


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
        image, name = self._image(), f"{prefix_of(root)}-{secrets.token_hex(4)}"
        try:
            fill_slot(self.engine, image, name, root, package)
            made = create_server(
                self.engine, image, name, root, settings=self.settings, network=self.network
            )
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
        self._drop(f"{prefix_of(root)}-front")
        network = find_network(self.engine, self.network)
        gateway = "" if self.settings.publish not in ("", ANY) else gateway_of(network)
        where = self.settings.publish or gateway
        ports = (port,) if port else candidate_ports(root)
        for candidate in ports:
            image = self._image()
            made = create_front(self.engine, image, root, self.network, (where, candidate))
            if self._started(made):
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
        wanted: dict[str, Any] = {"label": [f"{k}={v}" for k, v in labels_of(root).items()]}
        for found in self.engine.containers.list(all=True, filters=wanted, ignore_removed=True):
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

    def _started(self, made: Engines) -> bool:
        """Start a front; False, and it is removed, when its port is taken."""
        try:
            made.start()
            self._wait_for_front(made)
        except BaseException as error:
            made.remove(force=True)
            if _PORT_TAKEN.search(str(error)):
                return False
            raise
        made.update(restart_policy=_RESTART)
        return True

    def _wait_for_front(self, made: Engines) -> None:
        """Until it takes connections itself: the published port does so from the start."""
        deadline = time.monotonic() + _FRONT_SECONDS
        while made.status != "exited" and time.monotonic() < deadline:
            with suppress(OSError):
                host = address_on(made.attrs, self.network)
                socket.create_connection((host, PORT), timeout=1).close()
                return
            time.sleep(_STEP)
            made.reload()
        words = last_message(made.logs(tail=20).decode(errors="replace"))
        msg = f"the front does not listen: {words}"
        raise BadData(msg)

    def _find(self, process: Running) -> Engines | None:
        if not isinstance(process, Container):
            return None
        with suppress(_missing()):
            return self.engine.containers.get(process.id)
        return None

    def _drop_volume(self, name: str) -> None:
        with suppress(_missing()):
            self.engine.volumes.get(name).remove(force=True)

    def _drop(self, name: str) -> None:
        with suppress(_missing()):
            self.engine.containers.get(name).remove(force=True)


def _missing() -> type[Exception]:
    from docker.errors import NotFound

    return NotFound
