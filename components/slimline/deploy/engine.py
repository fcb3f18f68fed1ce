"""The Docker engine of this machine: reach it, and what every container of ours has in common.

Whoever reaches the engine is as good as root on its machine: only `deploy` does so from inside a
container, and only with target docker (`Deploy.resources`).
"""

from __future__ import annotations

import tarfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from slimline.contract import BadParameters, TryLater, memory_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from docker import DockerClient
    from docker.models.networks import Network

USER = "65532:65532"
_PIECE = 1 << 20
_SECONDS = 120


def connect() -> DockerClient:
    """A client of the engine that DOCKER_HOST names, else that of the usual socket.

    Raises:
        TryLater: when none answers.
    """
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=_SECONDS)
        client.ping()
    except DockerException as error:
        msg = (
            f"no Docker engine answers ({error}): start one (infra/engine.sh start), let this user "
            "reach its socket, or set DOCKER_HOST"
        )
        raise TryLater(msg) from error
    return client


def find_network(client: DockerClient, name: str) -> Network:
    """A network on which containers find one another by name.

    Raises:
        BadParameters: when there is none of that name, or it is one of Docker's own three.
    """
    from docker.errors import NotFound

    cure = "make one (docker network create NAME) and set SLIMLINE_DOCKER_NETWORK to it"
    if name in ("", "bridge", "host", "none"):
        msg = f"docker.network is {name or 'not given'!r}: containers have no names there; {cure}"
        raise BadParameters(msg)
    try:
        return client.networks.get(name)
    except NotFound as error:
        msg = f"docker.network: the engine has no network {name!r}: {cure}"
        raise BadParameters(msg) from error


def gateway_of(network: Network) -> str:
    """The address that the engine's machine has on a bridge network.

    Raises:
        BadParameters: when it has none there.
    """
    for config in network.attrs["IPAM"]["Config"] or ():
        if config.get("Gateway"):
            return str(config["Gateway"]).split("/", maxsplit=1)[0]
    msg = f"network {network.name} has no gateway: give docker.publish an address of this machine"
    raise BadParameters(msg)


def address_on(attributes: Mapping[str, Any], network: str) -> str:
    """The IP address of a container on a network; "" while it has none."""
    joined = attributes["NetworkSettings"]["Networks"].get(network) or {}
    return str(joined.get("IPAddress", ""))


def hardened(*, cpu: float, memory: str, pids: int) -> dict[str, Any]:
    """What `containers.create` is told so that a container can do its work and little else.

    Args:
        cpu: cores at most.
        memory: as Kubernetes writes it, `512Mi` or `2Gi`; there is no swap beyond it.
        pids: processes and threads at most.
    """
    size = memory_bytes(memory)
    return {
        "user": USER,
        "read_only": True,
        "tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=64m"},  # noqa: S108 - the container's own
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "pids_limit": pids,
        "nano_cpus": int(cpu * 10**9),
        "mem_limit": size,
        "memswap_limit": size,
        "init": True,
        "log_config": {"type": "json-file", "config": {"max-size": "10m", "max-file": "2"}},
    }


def tree_as_tar(folders: Mapping[str, Path]) -> Iterator[bytes]:
    """Folders as one tar stream, piece by piece; everyone may read what is in it.

    Args:
        folders: by their name in the archive.
    """
    for name, folder in folders.items():
        for path in (folder, *sorted(folder.rglob("*"))):
            info = tarfile.TarInfo(str(PurePosixPath(name) / path.relative_to(folder).as_posix()))
            if path.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                yield info.tobuf()
                continue
            info.size, info.mode = path.stat().st_size, 0o644
            yield info.tobuf()
            with path.open("rb") as file:
                while piece := file.read(_PIECE):
                    yield piece
            yield bytes(-info.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)
