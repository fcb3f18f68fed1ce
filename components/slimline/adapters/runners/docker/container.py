"""What a job's container is given: a user, limits, a network, mounts, and nothing else."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docker.types import (  # noqa: TID253 - imported when this runner is asked for
    DeviceRequest,
    HostConfig,
    LogConfig,
    Ulimit,
)

from slimline.adapters.runners.docker.engine import LABEL
from slimline.adapters.runners.docker.files import JOB, VOLUME, GivenFile, User, given_files
from slimline.adapters.runners.docker.mounts import (
    ENGINE_SOCKET,
    container_mounts,
    container_user,
    endpoints,
    must_work_from_afar,
    socket_of,
)
from slimline.adapters.runners.docker.variables import container_variables
from slimline.contract import get_logger
from slimline.contract.artifact import local_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slimline.adapters.images import Image
    from slimline.adapters.runners import Launch
    from slimline.adapters.runners.docker.engine import Engine

log = get_logger(__name__)

GRACE_SECONDS = 8
"""From SIGTERM to SIGKILL; a task that is killed has ten seconds."""
SPARE = timedelta(minutes=5)
"""What a container may take beyond its job's limit, as the task that waits for it."""

_PIDS = 2048
_ULIMITS = {"core": 0, "nofile": 8192}
"""Enough files for data loaders, and not more than an engine itself may have."""
_LOG_OPTIONS = {"max-size": "256m", "max-file": "2"}
_MOST_TMP = 2**30
_CPU_PERIOD = 100_000
"""Microseconds; the quota is the share of it."""


@dataclass(frozen=True)
class Settings:
    """How this worker wants containers to be run.

    Attributes:
        network: for components that need one.
        store_network: for those that only reach the store.
        mounts: `host:container[:ro]`, separated by commas.
        user: who this worker is.
    """

    network: str = "bridge"
    store_network: str = "bridge"
    mounts: str = ""
    user: User = field(default_factory=lambda: User(os.getuid(), os.getgid()))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Read SLIMLINE_DOCKER_NETWORK, _STORE_NETWORK and _MOUNTS."""
        network = environ.get("SLIMLINE_DOCKER_NETWORK") or "bridge"
        store_network = environ.get("SLIMLINE_DOCKER_STORE_NETWORK") or network
        return cls(network, store_network, environ.get("SLIMLINE_DOCKER_MOUNTS", ""))


@dataclass(frozen=True)
class Plan:
    """A container that could be created: what the engine is told, and what is copied into it."""

    name: str
    config: Mapping[str, Any] = field(repr=False)
    copies: tuple[GivenFile, ...]
    user: User


def container_name(identity: str) -> str:
    """The one name that a job's container can have."""
    return f"slimline-{identity[:24]}"


def work_path() -> str:
    """Where a job stages its files in its container."""
    return f"{VOLUME}/{JOB}"


def plan(launch: Launch, image: Image, engine: Engine, settings: Settings) -> Plan:
    """Everything about the container of a job.

    Raises:
        BadParameters: when the job cannot run in a container as things are set.
    """
    store = None if launch.store.startswith("s3://") else local_path(launch.store).absolute()
    if engine.socket is None:
        must_work_from_afar(launch, store, engine, settings)
    user = container_user(settings.user, store)
    files = given_files(launch.environment, user, mountable=engine.sees_our_files)
    mounts = container_mounts(launch, store, files, engine, settings)
    network = _network(launch, store, settings)
    cpu = _cores(launch, engine)
    variables = container_variables(
        launch.environment, cpu=cpu, network=network, image_digest=image.digest
    )
    paths = {file.variable: file.target for file in files}
    host = {**_hardened(launch, cpu), "mounts": mounts, "network_mode": network}
    if launch.needs.engine:
        host["group_add"] = [str(Path(socket_of(engine)).stat().st_gid)]
        paths |= {"DOCKER_HOST": f"unix://{ENGINE_SOCKET}", **endpoints(launch)}
    config = {
        "image": image.reference,
        "entrypoint": ["slimline", "run"],
        "command": list(launch.arguments),
        "environment": {**variables, **paths},
        "labels": _labels(launch, image),
        "user": f"{user.uid}:{user.gid}",
        "working_dir": VOLUME,
        "volumes": [VOLUME],
        "stop_signal": "SIGTERM",
        "stop_timeout": GRACE_SECONDS,
        "host_config": HostConfig(version=engine.api.api_version, **host),
        "use_config_proxy": False,
    }
    copies = tuple(file for file in files if file.copied)
    return Plan(container_name(launch.identity), config, copies, user)


def _hardened(launch: Launch, cpu: float) -> dict[str, Any]:
    memory = launch.needs.memory_bytes
    gpus = [_gpu_request(launch)] if launch.needs.gpu else None
    return {
        "init": True,
        "read_only": True,
        "tmpfs": {"/tmp": f"size={min(memory // 2, _MOST_TMP)}"},  # noqa: S108 - in the container
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "pids_limit": _PIDS,
        "mem_limit": memory,
        "memswap_limit": memory,
        "cpu_period": _CPU_PERIOD,
        "cpu_quota": int(cpu * _CPU_PERIOD),
        "shm_size": memory // 2,
        "ulimits": [Ulimit(name=name, soft=most, hard=most) for name, most in _ULIMITS.items()],
        "log_config": LogConfig(type=LogConfig.types.JSON, config=_LOG_OPTIONS),
        "restart_policy": {"Name": "no"},
        "device_requests": gpus,
    }


def _gpu_request(launch: Launch) -> DeviceRequest:
    """GPUs by number; by name where the worker itself is held to some."""
    count = launch.needs.gpu
    held = [g for g in launch.environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if g]
    if len(held) >= count:
        return DeviceRequest(device_ids=held[:count], capabilities=[["gpu"]])
    return DeviceRequest(count=count, capabilities=[["gpu"]])


def _cores(launch: Launch, engine: Engine) -> float:
    """The CPU quota; what the engine cannot honour is told."""
    info, needs = engine.info, launch.needs
    if needs.cpu > info["NCPU"]:
        log.info(
            "%s asks for %g CPUs, the engine has %d", launch.component, needs.cpu, info["NCPU"]
        )
    if needs.memory_bytes > info["MemTotal"]:
        has = f"{info['MemTotal'] / 2**30:.1f}Gi"
        log.warning("%s may take %s, the engine has %s", launch.component, needs.memory, has)
    limits = {"MemoryLimit": "memory", "CpuCfsQuota": "cpu", "PidsLimit": "processes"}
    for feature, limit in limits.items():
        if info.get(feature) is False:
            log.warning(
                "this engine cannot limit %s: %s is not held to it", limit, launch.component
            )
    return float(min(needs.cpu, info["NCPU"]))


def _labels(launch: Launch, image: Image) -> dict[str, str]:
    limit = timedelta(minutes=launch.needs.timeout_minutes) + SPARE
    said = {
        "identity": launch.identity,
        "claim": launch.claim,
        "component": launch.component,
        "image": image.digest,
        "deadline": (datetime.now(UTC) + limit).isoformat(timespec="seconds"),
    }
    return {LABEL + name: value for name, value in said.items()}


def _network(launch: Launch, store: Path | None, settings: Settings) -> str:
    if launch.needs.network:
        return settings.network
    return "none" if store else settings.store_network
