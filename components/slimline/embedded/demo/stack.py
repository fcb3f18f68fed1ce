"""The embedded parts of a demo, all under one directory.

With the runner `process` everything listens on loopback. With `docker` jobs, endpoint and devices
are containers of a network of the demo's own: S3 and MLflow listen on this machine's address there,
so that one URL is good for all; Airflow stays on loopback.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from slimline.adapters.images import DEFAULT_PATH, LOCK_VARIABLE, load_lock, signature_path
from slimline.embedded.airflow_client import AirflowClient
from slimline.embedded.airflow_server import ADMIN, LOCAL, airflow_launch, read_password
from slimline.embedded.devices import Fleet, start_devices
from slimline.embedded.mlflow_server import mlflow_launch
from slimline.embedded.network import make_network, remove_network
from slimline.embedded.ports import free_port
from slimline.embedded.process import Launch, says, start, stop_all
from slimline.fleet.keys import generate_fleet_keys
from slimline.fleet.objects import open_objects
from slimline.fleet.repository import Repository
from slimline.trust.keys import generate_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from slimline.embedded.network import Network

Runner = Literal["process", "docker"]
BUCKET = "slimline"
REPOSITORY = f"s3://{BUCKET}/fleet"
GROUP = "lab"
DEVICES = 10
_PARALLELISM = 2
_LOOPBACK = "127.0.0.1"
_POLL_SECONDS = 2
"""How often a device asks what it shall run."""


@dataclass(frozen=True)
class Stack:
    """What runs, and how to talk to it."""

    state_dir: Path
    airflow: AirflowClient
    airflow_url: str
    password: str
    mlflow_url: str
    runner: Runner
    environment: dict[str, str] = field(repr=False)
    keys: dict[str, str] = field(repr=False)
    """What signs: the passwords of Airflow's connections, by name."""

    @property
    def store(self) -> str:
        """Where artifacts and manifests are."""
        return self.environment["SLIMLINE_STORE"]


def start_stack(
    state_dir: Path,
    dags: Path,
    say: Callable[[str], None],
    *,
    devices: int = DEVICES,
    runner: Runner = "process",
) -> Stack:
    """Start every part, the later ones with the addresses of the earlier ones.

    Args:
        state_dir: an empty directory; everything is written below it.
        dags: the folder of DAG files.
        say: is told what happens, a short sentence each time.
        devices: how many devices the fleet has.
        runner: what jobs, endpoint and devices are: child processes, or containers.

    Raises:
        BadParameters: for docker, when no images are built.
        TryLater: for docker, when no engine answers.
    """
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    network, settings = _ground(state_dir, runner)
    host = network.gateway if network else _LOOPBACK
    mlflow_port, airflow_port = free_port(host), free_port()
    mlflow_url, airflow_url = f"http://{host}:{mlflow_port}", f"http://{_LOOPBACK}:{airflow_port}"
    say(f"starting the S3 server on {host}")
    settings |= _settings(state_dir, mlflow_url)
    environment = {**settings, **_start_s3(state_dir, host)}
    os.environ.update(environment)
    _make_bucket()
    say("making keys: one signs packages, six sign for the fleet")
    keys = _make_keys(state_dir)
    airflow = airflow_launch(
        state_dir,
        port=airflow_port,
        dags_folder=dags,
        parallelism=_PARALLELISM,
        environment={**environment, **_connections(keys)},
    )
    say(f"starting the MLflow registry, Airflow and {devices} devices (about a minute)")
    parts = (
        partial(start, airflow, state_dir),
        partial(start, mlflow_launch(state_dir, mlflow_port, host), state_dir),
        _fleet(state_dir, environment, keys["slimline_tuf"], devices, network),
    )
    _start_together(parts, state_dir)
    password = read_password(state_dir)
    return Stack(
        state_dir=state_dir,
        airflow=AirflowClient(airflow_url, ADMIN, password),
        airflow_url=airflow_url,
        password=password,
        mlflow_url=mlflow_url,
        runner=runner,
        environment=environment,
        keys=keys,
    )


def stop_stack(state_dir: Path) -> tuple[str, ...]:
    """Stop every process and remove every container of a stack; returns their names.

    Raises:
        TryLater: when there are containers and no engine answers; the processes are stopped.
    """
    return (*stop_all(state_dir), *remove_network(state_dir))


def _ground(state_dir: Path, runner: Runner) -> tuple[Network | None, dict[str, str]]:
    """Where servers listen, and what tells the DAGs which runner it is."""
    if runner == "process":
        return None, {"SLIMLINE_RUNNER": runner}
    lock = _pinned(state_dir)
    network = make_network(state_dir)
    endpoints = state_dir / "endpoints"
    endpoints.mkdir()
    endpoints.chmod(0o777)  # jobs keep records there as the images' user; nobody else gets past
    apart = (LOCAL, network.gateway, os.environ.get("NO_PROXY", ""))  # the state directory
    return network, {
        "SLIMLINE_RUNNER": runner,
        "SLIMLINE_IMAGES": str(lock),
        "SLIMLINE_DOCKER_NETWORK": network.name,
        "SLIMLINE_DOCKER_STORE_NETWORK": network.name,
        "NO_PROXY": ",".join(filter(None, apart)),
    }


def _pinned(state_dir: Path) -> Path:
    """A copy of the lock with its signature: images that are built meanwhile change nothing."""
    lock, kept = Path(os.environ.get(LOCK_VARIABLE) or DEFAULT_PATH), state_dir / "images.json"
    load_lock(lock)
    shutil.copy(lock, kept)
    if signature_path(lock).is_file():
        shutil.copy(signature_path(lock), signature_path(kept))
    return kept


def _start_together(parts: Sequence[Callable[[], object]], state_dir: Path) -> None:
    with ThreadPoolExecutor(len(parts)) as pool:
        try:
            list(pool.map(lambda part: part(), parts))
        except BaseException:
            stop_stack(state_dir)  # else the pool would wait until each of the others answers
            raise


def _start_s3(state_dir: Path, host: str) -> dict[str, str]:
    environment = {
        "AWS_ACCESS_KEY_ID": "demo:slimline",
        "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(24),
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = (sys.executable, "-m", "slimline.embedded.s3_server", str(state_dir / "s3"), "0")
    server = start(Launch("s3", (*command, host), says("ready "), environment), state_dir)
    return {**environment, "AWS_ENDPOINT_URL_S3": server.url}


def _make_bucket() -> None:
    import boto3
    from botocore.config import Config

    client = boto3.Session().client("s3", config=Config(s3={"addressing_style": "path"}))
    client.create_bucket(Bucket=BUCKET)


def _settings(state_dir: Path, mlflow_url: str) -> dict[str, str]:
    return {
        "MLFLOW_TRACKING_URI": mlflow_url,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "SLIMLINE_STORE": f"s3://{BUCKET}/store",
        "SLIMLINE_RELEASES": f"s3://{BUCKET}/releases",
        "SLIMLINE_FLEET": REPOSITORY,
        "SLIMLINE_WORK": str(state_dir / "work"),
        "SLIMLINE_ENDPOINTS": str(state_dir / "endpoints"),
        "SLIMLINE_TRUSTED_KEYS": str(state_dir / "trusted"),
        "SLIMLINE_POLL_SECONDS": "1",
    }


def _make_keys(state_dir: Path) -> dict[str, str]:
    """Secrets by connection; the public half of the signing key goes to `trusted/`."""
    private, public = generate_key()
    trusted = state_dir / "trusted"
    trusted.mkdir()
    (trusted / "demo.pem").write_text(public)
    return {"slimline_signing": private, "slimline_tuf": json.dumps(generate_fleet_keys())}


def _connections(keys: dict[str, str]) -> dict[str, str]:
    return {
        f"AIRFLOW_CONN_{name.upper()}": json.dumps({"conn_type": "generic", "password": value})
        for name, value in keys.items()
    }


def _fleet(
    state_dir: Path,
    environment: dict[str, str],
    tuf_keys: str,
    devices: int,
    network: Network | None,
) -> Callable[[], object]:
    """Sign a fleet's first metadata; returns what starts its devices, which trust it."""
    root = state_dir / "root.json"
    root.write_bytes(Repository(open_objects(REPOSITORY), json.loads(tuf_keys)).create((GROUP,)))
    if network is None:
        return partial(start, _fleet_launch(state_dir, root, devices), state_dir)
    fleet = Fleet(
        image=load_lock().image("device").reference,
        repository=REPOSITORY,
        group=GROUP,
        root=root,
        trusted=state_dir / "trusted",
        environment={k: v for k, v in environment.items() if k.startswith("AWS_")},
        interval=_POLL_SECONDS,
    )
    return partial(start_devices, fleet, network, devices)


def _fleet_launch(state_dir: Path, root: Path, devices: int) -> Launch:
    command = [sys.executable, "-m", "slimline.device.fleet", "--enrol"]
    options = {
        "--home": state_dir / "fleet",
        "--repository": REPOSITORY,
        "--group": GROUP,
        "--root": root,
        "--devices": devices,
        "--interval": _POLL_SECONDS,
    }
    words = [str(word) for option in options.items() for word in option]
    return Launch("fleet", (*command, *words), says("ready "))
