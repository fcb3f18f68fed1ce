"""The embedded parts of a demo, each on loopback, all under one directory."""

from __future__ import annotations

import json
import os
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slimline.embedded.airflow_client import AirflowClient
from slimline.embedded.airflow_server import ADMIN, airflow_launch, read_password
from slimline.embedded.mlflow_server import mlflow_launch
from slimline.embedded.ports import free_ports
from slimline.embedded.process import Launch, says, start, stop_all
from slimline.fleet.keys import generate_fleet_keys
from slimline.fleet.objects import open_objects
from slimline.fleet.repository import Repository
from slimline.trust.keys import generate_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from slimline.embedded.process import Server

BUCKET = "slimline"
GROUP = "lab"
DEVICES = 10
_PARALLELISM = 2


@dataclass(frozen=True)
class Stack:
    """What runs, and how to talk to it."""

    state_dir: Path
    airflow: AirflowClient
    airflow_url: str
    password: str
    mlflow_url: str
    environment: dict[str, str] = field(repr=False)
    keys: dict[str, str] = field(repr=False)
    """What signs: the passwords of Airflow's connections, by name."""

    @property
    def store(self) -> str:
        """Where artifacts and manifests are."""
        return self.environment["SLIMLINE_STORE"]


def start_stack(
    state_dir: Path, dags: Path, say: Callable[[str], None], *, devices: int = DEVICES
) -> Stack:
    """Start every part, the later ones with the addresses of the earlier ones.

    Args:
        state_dir: an empty directory; everything is written below it.
        dags: the folder of DAG files.
        say: is told what happens, a short sentence each time.
        devices: how many devices the fleet has.
    """
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    say("starting the S3 server")
    environment = _start_s3(state_dir)
    os.environ.update(environment)
    _make_bucket()
    mlflow_port, airflow_port = free_ports(2)
    environment |= _settings(state_dir, f"http://127.0.0.1:{mlflow_port}")
    os.environ.update(environment)
    say("making keys: one signs packages, six sign for the fleet")
    keys = _make_keys(state_dir)
    say(f"starting the MLflow registry, Airflow and {devices} devices (about a minute)")
    launches = (
        airflow_launch(
            state_dir,
            port=airflow_port,
            dags_folder=dags,
            parallelism=_PARALLELISM,
            environment={**environment, **_connections(keys)},
        ),
        mlflow_launch(state_dir, mlflow_port),
        _fleet_launch(state_dir, keys["slimline_tuf"], devices),
    )
    airflow, mlflow, _ = _start_together(launches, state_dir)
    password = read_password(state_dir)
    return Stack(
        state_dir=state_dir,
        airflow=AirflowClient(airflow.url, ADMIN, password),
        airflow_url=airflow.url,
        password=password,
        mlflow_url=mlflow.url,
        environment=environment,
        keys=keys,
    )


def _start_together(launches: Sequence[Launch], state_dir: Path) -> list[Server]:
    with ThreadPoolExecutor(len(launches)) as pool:
        try:
            return list(pool.map(lambda launch: start(launch, state_dir), launches))
        except BaseException:
            stop_all(state_dir)  # else the pool would wait until each of the others answers
            raise


def _start_s3(state_dir: Path) -> dict[str, str]:
    environment = {
        "AWS_ACCESS_KEY_ID": "demo:slimline",
        "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(24),
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = (sys.executable, "-m", "slimline.embedded.s3_server", str(state_dir / "s3"), "0")
    server = start(Launch("s3", command, says("ready "), environment), state_dir)
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
        "SLIMLINE_FLEET": f"s3://{BUCKET}/fleet",
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


def _fleet_launch(state_dir: Path, tuf_keys: str, devices: int) -> Launch:
    repository = f"s3://{BUCKET}/fleet"
    root = Repository(open_objects(repository), json.loads(tuf_keys)).create((GROUP,))
    root_file = state_dir / "root.json"
    root_file.write_bytes(root)
    command = [sys.executable, "-m", "slimline.device.fleet", "--enrol"]
    options = {
        "--home": state_dir / "fleet",
        "--repository": repository,
        "--group": GROUP,
        "--root": root_file,
        "--devices": devices,
        "--interval": 2,
    }
    words = [str(word) for option in options.items() for word in option]
    return Launch("fleet", (*command, *words), says("ready "))
