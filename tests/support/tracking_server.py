"""A real MLflow tracking and registry server for a test session."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from slimline.embedded.mlflow_server import mlflow_launch
from slimline.embedded.ports import free_port
from slimline.embedded.process import start
from support.s3 import variables

if TYPE_CHECKING:
    from pathlib import Path


@contextmanager
def mlflow_server(root: Path):
    """Run the server under `root`, with MLFLOW_TRACKING_URI of this process set to it."""
    with start(mlflow_launch(root, free_port()), root) as server:
        settings = {"MLFLOW_TRACKING_URI": server.url, "MLFLOW_DISABLE_TELEMETRY": "true"}
        with variables(settings):
            yield server
