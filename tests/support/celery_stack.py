"""Airflow on more than one machine: Celery workers on machines of their own, the rest beside them.

What a worker is told is little: the broker, the result backend, the API server and the key that
guards its logs. It holds no password of the metadata database, and no secret of a job: those come
from Airflow's connections, task by task.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from slimline.embedded.airflow_client import AirflowClient
from slimline.embedded.airflow_server import ADMIN, airflow_launch, read_password
from slimline.embedded.mlflow_server import mlflow_launch
from slimline.embedded.ports import free_ports
from slimline.embedded.process import Launch, says, start, stop_all
from slimline.trust.keys import generate_key
from support.namespaces import network
from support.postgres import postgres
from support.redis import redis
from support.s3 import variables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slimline.embedded.process import Server
    from support.namespaces import Machine, Network

BUCKET = "slimline"
_DAGS = Path(__file__).parents[2] / "dags"
_NOT_FOR_WORKERS = frozenset(
    {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
        "AIRFLOW__CORE__FERNET_KEY",
        "AIRFLOW__API_AUTH__JWT_SECRET",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE",
    }
)


@dataclass
class CeleryStack:
    """What runs: the machines by name, Airflow, and where artifacts are."""

    state_dir: Path
    network: Network
    airflow: AirflowClient
    store: str
    s3: Mapping[str, str] = field(repr=False)
    """The S3 credentials, as variables; neither this process nor a worker has them set."""
    workers_know: Mapping[str, str] = field(repr=False)
    hidden: tuple[str, ...] = field(repr=False)
    """What no worker may know: the database's address with its password, keys, the S3 secret."""
    running: dict[str, Server] = field(default_factory=dict)

    def machine_at(self, address: str) -> Machine:
        """The machine with that address, which is how Airflow names a task's host."""
        (found,) = [m for m in self.network.machines if m.address == address]
        return found

    def other_than(self, machine: Machine) -> Machine:
        """The other machine."""
        (found,) = [m for m in self.network.machines if m != machine]
        return found

    def bring_up(self) -> None:
        """Start the Celery worker of each machine that has none running."""
        for machine in self.network.machines:
            if not machine.pids():
                self.running[machine.name] = start(self._worker(machine), self.state_dir)

    def home(self, machine: Machine) -> Path:
        """The directory of a machine; no other one looks there."""
        return self.state_dir / "machines" / machine.name

    def add_connection(self, name: str, **fields: str | int) -> None:
        """Give Airflow a connection; it encrypts the password."""
        wish = {"connection_id": name, "conn_type": "generic", **fields}
        self.airflow._json("POST", "/connections", json=wish)

    def tries(self, dag: str, run: str, task: str) -> list[dict]:
        """Every attempt at a task, the earliest first."""
        path = f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/tries"
        return self.airflow._json("GET", path)["task_instances"]

    def _worker(self, machine: Machine) -> Launch:
        home = self.home(machine)
        home.mkdir(parents=True, exist_ok=True)
        own = {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
            "SLIMLINE_WORK": str(home / "work"),
        }
        command = (sys.executable, "-m", "airflow", "celery", "worker")
        argv = machine.command(*command, "--celery-hostname", machine.name)
        return Launch(
            machine.name,
            argv,
            lambda log: machine.address if f"{machine.name} ready" in log.read_text() else "",
            {**self.workers_know, **own},
            patience_seconds=180,
        )


@contextmanager
def celery_stack(root: Path, recipes: Mapping[str, str], **settings: str) -> Iterator[CeleryStack]:
    """Run everything; afterwards no process, container's neighbour or network of it is left.

    Args:
        root: an empty directory.
        recipes: the text of each recipe by name.
        settings: SLIMLINE_* of the workers.
    """
    state_dir = root / "state"
    state_dir.mkdir()
    with ExitStack() as stack:
        stack.callback(stop_all, state_dir)
        net = stack.enter_context(network("worker-a", "worker-b"))
        database = stack.enter_context(postgres(state_dir, net.address, "airflow", "celery"))
        broker = stack.enter_context(redis(state_dir, net.address))
        s3 = _start_s3(state_dir, net.address)
        mlflow_port, airflow_port = free_ports(2)
        shared = {
            **_slimline(state_dir),
            **settings,
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "airflow.utils.net.get_host_ip_address",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.url("airflow"),
            "AIRFLOW__CELERY__BROKER_URL": broker.url,
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database.url('celery')}",
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": "2",
            "AIRFLOW__CELERY__SYNC_PARALLELISM": "1",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "120",
        }
        launch = airflow_launch(
            state_dir,
            port=airflow_port,
            host=net.address,
            dags_folder=_write_dags(root / "dags", recipes),
            environment=shared,
        )
        known = {k: v for k, v in launch.environment.items() if k not in _NOT_FOR_WORKERS}
        hidden = [v for k, v in launch.environment.items() if k in _NOT_FOR_WORKERS]
        mlflow = start(mlflow_launch(state_dir, mlflow_port, net.address), state_dir)
        airflow = start(launch, state_dir)
        client = AirflowClient(airflow.url, ADMIN, read_password(state_dir))
        hidden += [s3["AWS_SECRET_ACCESS_KEY"]]
        store = f"s3://{BUCKET}/store"
        found = CeleryStack(state_dir, net, client, store, s3, known, tuple(hidden))
        _connect(found, mlflow.url)
        found.bring_up()
        yield found


def _start_s3(state_dir: Path, host: str) -> dict[str, str]:
    environment = {
        "AWS_ACCESS_KEY_ID": "demo:slimline",
        "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(24),
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = (sys.executable, "-m", "slimline.embedded.s3_server", str(state_dir / "s3"), "0")
    server = start(Launch("s3", (*command, host), says("ready "), environment), state_dir)
    environment["AWS_ENDPOINT_URL_S3"] = server.url
    with variables(environment):
        style = Config(s3={"addressing_style": "path"})
        boto3.Session().client("s3", config=style).create_bucket(Bucket=BUCKET)
    return environment


def _slimline(state_dir: Path) -> dict[str, str]:
    return {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
        "SLIMLINE_STORE": f"s3://{BUCKET}/store",
        "SLIMLINE_RELEASES": f"s3://{BUCKET}/releases",
        "SLIMLINE_TRUSTED_KEYS": str(state_dir / "trusted"),
    }


def _write_dags(folder: Path, recipes: Mapping[str, str]) -> Path:
    (folder / "recipes").mkdir(parents=True)
    shutil.copy(_DAGS / "compress.py", folder)
    for name, text in recipes.items():
        (folder / "recipes" / f"{name}.yaml").write_text(text)
    return folder


def _connect(stack: CeleryStack, mlflow_url: str) -> None:
    """Give Airflow the connections that jobs need."""
    private, public = generate_key()
    trusted = stack.state_dir / "trusted"
    trusted.mkdir()
    (trusted / "tests.pem").write_text(public)
    stack.add_connection("slimline_signing", password=private)
    host, _, port = mlflow_url.rpartition(":")
    stack.add_connection("slimline_mlflow", host=host, port=int(port))
    stack.add_connection(
        "slimline_s3",
        login=stack.s3["AWS_ACCESS_KEY_ID"],
        password=stack.s3["AWS_SECRET_ACCESS_KEY"],
        extra=json.dumps(
            {
                "endpoint_url": stack.s3["AWS_ENDPOINT_URL_S3"],
                "region_name": stack.s3["AWS_REGION"],
            }
        ),
    )
