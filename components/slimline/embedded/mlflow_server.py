"""MLflow's tracking and registry server on SQLite, on loopback, for demos and tests.

Webhooks may call loopback addresses over plain HTTP, so that a promotion can wake Airflow on the
same machine; a new one is heard of within a second, not a minute. It asks nobody for a password.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from slimline.embedded.process import Launch, answers

if TYPE_CHECKING:
    from pathlib import Path


def mlflow_launch(state_dir: Path, port: int, host: str = "127.0.0.1") -> Launch:
    """The server on `port` of `host`; database and the artifacts that it serves: `state_dir`."""
    home = state_dir.resolve() / "mlflow"
    home.mkdir(parents=True, exist_ok=True)
    options = {
        "--host": host,
        "--port": str(port),
        "--workers": "1",
        "--backend-store-uri": f"sqlite:///{home}/mlflow.db",
        "--artifacts-destination": str(home / "artifacts"),
    }
    command = [sys.executable, "-m", "mlflow", "server"]
    return Launch(
        name="mlflow",
        argv=(*command, *(word for option in options.items() for word in option)),
        ready=answers(f"http://{host}:{port}", "/health"),
        environment={
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_WEBHOOK_CACHE_TTL": "1",
            "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
            "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        },
        patience_seconds=120,
    )
