"""A whole Airflow on loopback: LocalExecutor and SQLite, one admin with a generated password.

server = start(airflow_launch(state_dir, port=free_port(), dags_folder=dags), state_dir)
client = AirflowClient(server.url, "admin", read_password(state_dir))
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
from typing import TYPE_CHECKING

import httpx

from slimline.embedded.process import Launch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

ADMIN = "admin"
LOCAL = "127.0.0.1,localhost"
_HEALTHY = ("metadatabase", "scheduler", "dag_processor", "triggerer")


def airflow_launch(
    state_dir: Path,
    *,
    port: int,
    dags_folder: Path,
    parallelism: int = 4,
    environment: Mapping[str, str] | None = None,
    host: str = "127.0.0.1",
) -> Launch:
    """Airflow on `port`, with its home, logs and database under `state_dir`.

    Args:
        state_dir: kept between starts: the database, the admin's password and the keys stay.
        port: of the API server, which serves the UI too.
        dags_folder: where DAG files are read.
        parallelism: tasks at once; each has a process of about 150 MB waiting for it.
        environment: what tasks may see besides, such as connections and secrets; it may hold
            settings of Airflow's own too, which win.
        host: the address that the API server listens on.
    """
    home = state_dir.resolve() / "airflow"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    url = f"http://{host}:{port}"
    _private(home / "passwords.json", lambda: {ADMIN: secrets.token_urlsafe(12)})
    settings = {
        "CORE__DAGS_FOLDER": str(dags_folder.resolve()),
        "CORE__PARALLELISM": str(parallelism),
        **_settings(home, host, port, url),
        **_keys(home),
    }
    return Launch(
        name="airflow",
        argv=(sys.executable, "-m", "slimline.embedded.airflow_parts"),
        ready=lambda _log: url if healthy(url) else "",
        environment={
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
            "AIRFLOW_HOME": str(home),
            "NO_PROXY": ",".join(filter(None, (LOCAL, host, os.environ.get("NO_PROXY")))),
            **(environment or {}),
        },
        patience_seconds=300,
    )


def healthy(url: str) -> bool:
    """Whether the API answers and the database and all parts are well."""
    try:
        answer = httpx.get(f"{url}/api/v2/monitor/health", timeout=10, trust_env=False)
    except httpx.TransportError:
        return False
    if answer.is_error:
        return False
    parts = answer.json()
    return all((parts.get(name) or {}).get("status") == "healthy" for name in _HEALTHY)


def read_password(state_dir: Path) -> str:
    """The admin's password, made at the first start."""
    passwords: dict[str, str] = json.loads((state_dir / "airflow" / "passwords.json").read_text())
    return passwords[ADMIN]


def _settings(home: Path, host: str, port: int, url: str) -> dict[str, str]:
    """Airflow's configuration for one small machine."""
    return {
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "LOGGING__LOGGING_LEVEL": "INFO",
        "LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "API__HOST": host,
        "API__PORT": str(port),
        "API__BASE_URL": url,
        "API__WORKERS": "1",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        # A worker notices the end of its task at its next heartbeat, and is busy until then.
        "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        # A task whose worker was killed is tried again half a minute later, not five.
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
    }


def _keys(home: Path) -> dict[str, str]:
    """What Airflow signs tokens and encrypts stored values with; the same at each start."""
    return _private(
        home / "keys.json",
        lambda: {
            "CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "API__SECRET_KEY": secrets.token_urlsafe(32),
            "API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        },
    )


def _private(path: Path, make: Callable[[], dict[str, str]]) -> dict[str, str]:
    """What the file holds; made first, readable by its owner alone, when it is not there."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(json.dumps(make()))
    found: dict[str, str] = json.loads(path.read_text())
    return found
