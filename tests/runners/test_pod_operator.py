"""A task of Airflow whose job is a pod: from its parameters to its result, and its end by force."""

from __future__ import annotations

import multiprocessing
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from support.kubernetes import cluster as simulated
from support.pods import settle

from slimline.adapters.airflow.operator import ComponentOperator
from slimline.adapters.airflow.retry import JobFailed
from slimline.adapters.airflow.upkeep import SweepPodsOperator
from slimline.contract import BadParameters, Resources


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    (tmp_path / "cluster").mkdir()
    with simulated(tmp_path / "cluster") as found:
        settle(monkeypatch, tmp_path, found)
        yield found


def context(run: str = "run") -> Any:
    ti = SimpleNamespace(dag_id="dag", run_id=run, task_id="talk", xcom_pull=lambda **_: None)
    return {"ti": ti, "params": {}}


def talk(**parameters: Any) -> ComponentOperator:
    return ComponentOperator(
        task_id="talk",
        component="talk",
        parameters=parameters,
        runner="pod",
        needs=Resources(cpu=2, memory="512Mi"),
    )


def wait_for_pod(cluster, words: bytes) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if any(words in line for pod in list(cluster.pods.values()) for line in pod.lines):
            return
        time.sleep(0.02)
    pytest.fail(f"{words!r} was not said")


def test_a_task_runs_its_job_as_a_pod_and_a_hit_starts_none(cluster):
    result = talk(times=2).execute(context())
    assert result["executed"]
    assert result["numbers"]["said"] == 2
    assert not cluster.pods
    (pod,) = cluster.created
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "2", "memory": "512Mi"}
    again = talk(times=2).execute(context("another"))
    assert not again["executed"]
    assert len(cluster.created) == 1


@pytest.mark.usefixtures("cluster")
def test_a_failed_job_fails_the_task_with_its_exit_code_and_its_own_words():
    with pytest.raises(JobFailed, match="told to end with data") as caught:
        talk(ending="data").execute(context())
    assert caught.value.exit_code == 65


def test_a_job_that_had_too_little_memory_fails_the_task_with_the_cure(cluster):
    cluster.faults.out_of_memory = True
    with pytest.raises(JobFailed, match=r"512Mi.*tasks: \{talk: \{memory: ...\}\}") as caught:
        talk(ending="kill").execute(context())
    assert caught.value.exit_code == 137


def _work(results: Any) -> None:
    results.put(talk(seconds=3.0).execute(context()))


def test_after_kill_9_of_the_tasks_process_the_retry_ends_well_with_one_pod(cluster):
    method = multiprocessing.get_context("fork")
    worker = method.Process(target=_work, args=(method.Queue(),))
    worker.start()
    wait_for_pod(cluster, b"hello 0")
    worker.kill()
    worker.join()
    result = talk(seconds=3.0).execute(context())
    assert result["executed"]
    assert result["numbers"]["said"] == 3
    assert len(cluster.created) == 1


def test_a_killed_task_removes_its_pod_within_ten_seconds(cluster):
    operator = talk(seconds=60)
    caught: list[JobFailed] = []

    def work() -> None:
        try:
            operator.execute(context())
        except JobFailed as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_for_pod(cluster, b"hello 0")
    operator.on_kill()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert not cluster.pods
    assert [error.exit_code for error in caught] == [143]


def test_the_janitor_removes_a_pod_that_nobody_came_back_for(cluster, monkeypatch):
    with pytest.raises(JobFailed):
        talk(ending="bug").execute(context())
    (pod,) = cluster.pods
    sweep = SweepPodsOperator(task_id="pods")
    assert sweep.execute({"params": {"dry_run": False, "work_days": 1}})["count"] == 0
    told = sweep.execute({"params": {"dry_run": False, "work_days": 0}})
    assert told["found"][0].startswith(f"pod {pod}: ended with exit code 1")
    assert not cluster.pods
    monkeypatch.delenv("SLIMLINE_POD_NAMESPACE")
    with pytest.raises(BadParameters, match="SLIMLINE_POD_NAMESPACE is not set"):
        sweep.execute({"params": {"dry_run": False, "work_days": 0}})
