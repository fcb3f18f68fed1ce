"""Servers that several test folders share; each starts once, when the first test asks for it."""

from __future__ import annotations

import os

import pytest
from support import engine as docker_engine
from support.s3 import s3_server
from support.tracking_server import mlflow_server as run_mlflow

# As `slimline.models` does it, but before any test file imports torch: see there.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Where there is a GPU too, tests compute on the CPU, where equal jobs give equal bytes and two
# processes need no second GPU; `CUDA_VISIBLE_DEVICES=0 pytest ...` tries the GPU.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


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


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """A test marked `docker` runs where an engine and the project's images are."""
    if item.get_closest_marker("docker"):
        docker_engine.require()


def pytest_terminal_summary(terminalreporter):
    """Say at the end what was left out for want of an engine."""
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum(docker_engine.LEFT_OUT in str(report.longrepr) for report in skipped)
    if count:
        cure = "infra/engine.sh start, make images"
        line = f"left out: {count} tests need a Docker engine and images: {cure}"
        terminalreporter.write_line(line, yellow=True)
