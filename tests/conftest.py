"""Servers that several test folders share; each starts once, when the first test asks for it."""

from __future__ import annotations

import os

import pytest
from support.s3 import s3_server
from support.tracking_server import mlflow_server as run_mlflow

# As `slimline.models` does it, but before any test file imports torch: see there.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """A real S3 server with a bucket; AWS_* of this process and its children point to it."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory):
    """A real MLflow server; MLFLOW_TRACKING_URI of this process points to it."""
    with run_mlflow(tmp_path_factory.mktemp("mlflow")) as server:
        yield server
