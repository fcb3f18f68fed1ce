"""The operator with real containers, whose artifacts lie on a real S3 server."""

from __future__ import annotations

import multiprocessing
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException
from support import probe
from support.docker_bench import bridge_address, development_mounts
from support.s3 import s3_server

from slimline.adapters.airflow.operator import ComponentOperator
from slimline.adapters.airflow.retry import JobFailed
from slimline.adapters.runners.docker import DockerRunner
from slimline.adapters.runners.docker.engine import LABEL, Engine
from slimline.adapters.runners.process import ProcessRunner
from slimline.contract import Resources, load_component

pytestmark = pytest.mark.docker
CLAIM = "dag/run/talk"


@pytest.fixture(scope="module")
def s3_for_containers(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3"), bridge_address()) as server:
        yield server


@pytest.fixture(autouse=True)
def worker(monkeypatch, s3_for_containers):
    """A worker's environment; returns the store."""
    probe.install(monkeypatch)
    monkeypatch.setattr(load_component("talk"), "image", "ship")  # which can read S3
    monkeypatch.setattr(Connection, "get", _no_connection)
    store = s3_for_containers.new_prefix()
    monkeypatch.setenv("SLIMLINE_STORE", store)
    monkeypatch.setenv("SLIMLINE_RUNNER", "docker")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # another test's, on loopback
    monkeypatch.setenv("SLIMLINE_DOCKER_MOUNTS", development_mounts())
    yield store
    for container in containers():
        Engine().remove(container["Id"], force=True)


def _no_connection(name: str) -> Connection:
    raise AirflowNotFoundException(name)


def containers() -> list[dict[str, Any]]:
    """The containers of this test's task."""
    found: list[dict[str, Any]] = Engine().api.containers(
        all=True, filters={"label": f"{LABEL}claim={CLAIM}"}
    )
    return found


def context() -> Any:
    ti = SimpleNamespace(dag_id="dag", run_id="run", task_id="talk", xcom_pull=lambda **_: None)
    return {"ti": ti, "params": {}}


def talk(*, runner: str = "", needs: Resources | None = None, **parameters: Any):
    return ComponentOperator(
        task_id="talk", component="talk", parameters=parameters, runner=runner, needs=needs
    )


def test_a_job_runs_in_a_container_with_its_artifacts_on_s3_and_a_hit_starts_none(
    worker, monkeypatch
):
    first = talk(times=2).execute(context())
    assert first["executed"]
    assert first["numbers"]["said"] == 2
    assert first["outputs"]["said"]["uri"].startswith(f"{worker}/artifacts/")
    assert containers() == []
    with monkeypatch.context() as no_engine:
        no_engine.setenv("DOCKER_HOST", "unix:///no/engine.sock")
        second = talk(times=2).execute(context())
    assert not second["executed"]
    assert second["outputs"] == first["outputs"]


def test_a_tasks_own_runner_wins_over_that_of_the_worker(monkeypatch):
    for kind in (DockerRunner, ProcessRunner):
        monkeypatch.setattr(kind, "start", _told(kind.__name__))
    started = {}
    for runner, expected in (("", "DockerRunner"), ("process", "ProcessRunner")):
        with pytest.raises(RuntimeError) as caught:
            talk(runner=runner).execute(context())
        started[expected] = str(caught.value)
    assert started == {name: name for name in started}


def _told(name: str) -> Any:
    def start(*_: Any) -> None:
        raise RuntimeError(name)

    return start


def _running() -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for container in containers():
            if b'"hello 0"' in Engine().api.logs(container["Id"]):
                return str(container["Id"])
        time.sleep(0.1)
    return pytest.fail("no container was started")


def test_a_killed_task_stops_its_container_within_ten_seconds():
    operator, codes = talk(seconds=100), []

    def work() -> None:
        try:
            operator.execute(context())
        except JobFailed as error:
            codes.append(error.exit_code)

    thread = threading.Thread(target=work)
    thread.start()
    container = _running()
    begin = time.monotonic()
    operator.on_kill()
    assert Engine().inspect(container)["State"]["Status"] == "exited"
    assert time.monotonic() - begin < 10
    thread.join(timeout=20)
    assert codes == [143]


def _work_for_ever() -> None:
    talk(seconds=6.0, times=6).execute(context())


def test_after_kill_9_of_the_tasks_process_the_retry_attaches_and_ends_well():
    task = multiprocessing.get_context("fork").Process(target=_work_for_ever)
    task.start()
    container = _running()
    task.kill()
    task.join()
    thread = threading.Thread(target=lambda: seen.append(_running()))
    seen: list[str] = []
    thread.start()
    result = talk(seconds=6.0, times=6).execute(context())
    thread.join()
    assert seen == [container]
    assert result["executed"]
    assert result["numbers"]["said"] == 6
    assert containers() == []


def test_out_of_memory_fails_the_task_with_the_limit_and_the_parameter_that_raises_it():
    with pytest.raises(JobFailed) as caught:
        talk(needs=Resources(memory="16Mi")).execute(context())
    assert caught.value.exit_code == 137
    assert "limit of 16Mi" in str(caught.value)
    assert "tasks: {talk: {memory: 32Mi}}" in str(caught.value)


def test_a_job_that_fails_in_its_container_tells_its_own_words():
    with pytest.raises(JobFailed, match="told to end with data") as caught:
        talk(ending="data").execute(context())
    assert caught.value.exit_code == 65
